"""What the clients of a storm did, all of it: the evidence, and what is counted for people."""

import time
import traceback
from collections import Counter, defaultdict
from threading import Lock
from typing import Any, Final

from gimmal.errors import GimmalError, OperationTimeout, Unavailable
from gimmal.hashing import key_slot, partition_of
from gimmal.testing import CounterLedger, History, Operation, SetLedger
from tests.cluster.storm.gaps import Gaps

KEYS_PER_GENERATION: Final = 300
OPERATIONS_PER_GENERATION: Final = 6_000
SURELY_NOT_DONE: Final = Unavailable


class Record:
    """Shared by all clients, threads or tasks.

    Registers come in generations: after a few thousand operations the next keys are used, so that no key's history
    gets so long, or collects so many unanswered writes, that it cannot be checked. All are read at the end.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.history = History()
        self.counters: defaultdict[str, CounterLedger] = defaultdict(CounterLedger)
        self.elements = SetLedger()
        self.gaps = Gaps()
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.wrong: list[str] = []
        self.acknowledged = 0
        self.is_over = False
        self._lock = Lock()

    def register_key(self, number: int) -> str:
        """Return a key of the generation that is in use."""
        return f"r{len(self.history) // OPERATIONS_PER_GENERATION}.{number % KEYS_PER_GENERATION}"

    def acknowledge(self, count: int = 1) -> None:
        """Count operations that were answered and are checked."""
        with self._lock:
            self.acknowledged += count

    def end(self, token: int, result: Any, now: float) -> None:
        """Record the answer to an operation of the history."""
        self.history.end(token, result, now)
        self.acknowledge()

    def fail(self, token: int, error: GimmalError, now: float) -> None:
        """Record the error of an operation of the history."""
        self.note_error(self.history.row(token).operation, error, now - self.history.row(token).begun_at)
        self.history.end_with_error(token, error, now)

    def note_error(self, what: Operation | str, error: GimmalError, after_s: float) -> None:
        """Count an error, and keep the first of each kind."""
        kind = type(error).__name__
        if isinstance(error, OperationTimeout):
            kind += f"(maybe_applied={error.maybe_applied})"
        with self._lock:
            self.errors[kind] += 1
            self.examples.setdefault(kind, f"{what} after {after_s:.1f} s: {error}")

    def complain(self, what: str) -> None:
        """Note something that must not be."""
        with self._lock:
            self.wrong.append(what)

    def crashed(self, who: str) -> None:
        """Note the exception at hand, which no client must see."""
        self.complain(f"{who}: {traceback.format_exc()}")

    def is_unknown(self, error: GimmalError) -> bool:
        """Say whether a write that ended so may have happened."""
        surely_not = isinstance(error, SURELY_NOT_DONE) or getattr(error, "maybe_applied", True) is False
        return not surely_not

    def text(self, seconds: float) -> str:
        """Tell how much was done, and which errors came."""
        pace = self.acknowledged / seconds
        errors = ", ".join(f"{kind} {count}" for kind, count in self.errors.most_common()) or "none"
        return f"{self.acknowledged:,} operations acknowledged, {pace:,.0f} a second; errors: {errors}"


def key_of_partition(prefix: str, partition: int, partitions: int) -> str:
    """Return a key with a prefix that belongs to a partition."""
    number = 0
    while partition_of(key_slot(f"{prefix}{number}".encode()), partitions) != partition:
        number += 1
    return f"{prefix}{number}"


def now() -> float:
    """Return the time of the record, in seconds."""
    return time.monotonic()
