"""What clients did and were told, and whether one store could have answered so: key by key, while it happens.

Every operation of a client on one key is an `Operation`, from `began` to `ended`. The judges here are simple and in
real time; they find what they look for at the moment it shows, and overlook what needs a search for an order. A check
of whole histories may be given all of them afterwards: `History.operations`.

- A counter's results are all different, and higher than every one that was known before the addition began; its value
  in the end is what was added, and nothing that was refused or done twice.
- A key that is only claimed is won by one claim at most, and belongs to it for ever.
- A register is read as it was written, by a write that was not refused, and never as it was before a write that had
  been acknowledged when the read began; its versions only rise.
- A key that expires is read as somebody wrote it, or as absent.

An operation that was refused has not happened. One whose outcome is unknown may have happened, at any time from its
beginning on. Keys of a partition that was lost, as the table said, owe nobody anything any more but what was written.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.sim.violation import Violation

SET, DELETE, ADD, CLAIM, READ = "set", "delete", "add", "claim", "read"

PENDING, DONE, REFUSED, UNKNOWN = "pending", "done", "refused", "unknown"
_NEVER: Final = float("inf")


@dataclass(slots=True, eq=False)
class Operation:
    """One operation on one key. `version` is that of the record that was read, if it was asked for."""

    client: str
    kind: str
    key: str
    argument: Any
    began: float
    ended: float = _NEVER
    outcome: str = PENDING
    result: Any = None
    version: int | None = None

    @property
    def may_count(self) -> bool:
        """Whether it may have happened."""
        return self.outcome != REFUSED

    def __str__(self) -> str:
        ended = f"{self.ended:.4f}" if self.ended < _NEVER else "..."
        what = f"{self.client} {self.kind} {self.key} {self.argument!r} [{self.began:.4f}, {ended}]"
        return f"{what} -> {self.outcome} {self.result!r}"


class _Highest:
    """Numbers that became known as time went on: which was the highest before a moment?"""

    __slots__ = ("_highest", "_times")

    def __init__(self) -> None:
        self._times: list[float] = []
        self._highest: list[float] = []

    def note(self, time: float, number: float) -> None:
        if not self._highest or number > self._highest[-1]:
            self._times.append(time)
            self._highest.append(number)

    def before(self, time: float) -> float:
        place = bisect_left(self._times, time)
        return self._highest[place - 1] if place else -_NEVER


class KeyHistory:
    """All operations on one key. `is_forgiven`: what was acknowledged may be lost."""

    may_expire = False

    def __init__(self, key: str) -> None:
        self.key = key
        self.is_forgiven = False

    def on_begin(self, operation: Operation) -> None: ...

    def on_end(self, operation: Operation) -> None: ...

    def at_end(self, value: Any) -> None:
        """Check the value that the key has when all is over."""

    def violated(self, check: str, operation: Operation, why: str) -> None:
        if not self.is_forgiven:
            raise Violation(check, f"{operation}: {why}")

    def is_stale(self, operation: Operation, why: str) -> None:
        """Say that a read has seen what was no longer so."""
        self.violated("no stale reads", operation, why)


class CounterHistory(KeyHistory):
    """A key that is only ever added to, by positive amounts."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self._results: dict[int, Operation] = {}
        self._known = _Highest()
        self._seen = _Highest()
        self._begun = 0
        self._refused = 0
        self._unknown = 0

    def on_begin(self, operation: Operation) -> None:
        if operation.kind == ADD:
            self._begun += operation.argument

    def on_end(self, operation: Operation) -> None:
        if operation.outcome == REFUSED:
            self._refused += operation.argument if operation.kind == ADD else 0
        elif operation.outcome == UNKNOWN:
            self._unknown += operation.argument if operation.kind == ADD else 0
        elif operation.kind == READ:
            value = operation.result or 0
            if value > self._begun - self._refused:
                self.violated("counters count once", operation, f"only {self._begun - self._refused} was added by now")
            if value < self._seen.before(operation.began):
                self.is_stale(operation, f"it was {self._seen.before(operation.began)} before")
            self._seen.note(operation.ended, value)
        else:
            twin = self._results.setdefault(operation.result, operation)
            if twin is not operation:
                self.violated("results of a counter differ", operation, f"{twin} had the same")
            least = self._known.before(operation.began) + operation.argument
            if operation.result < least:
                self.violated("counters rise", operation, f"it was {least - operation.argument} before it began")
            self._known.note(operation.ended, operation.result)
            self._seen.note(operation.ended, operation.result)

    def at_end(self, value: Any) -> None:
        most = self._begun - self._refused
        least = most - self._unknown
        if not self.is_forgiven and not least <= (value or 0) <= most:
            raise Violation("acknowledged additions count", f"{self.key} is {value}, and must be {least} to {most}")


class ClaimHistory(KeyHistory):
    """A key that is only set if it is absent, and never deleted."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self._claims: dict[Any, Operation] = {}
        self._winner: Operation | None = None
        self._seen: Any = None

    def on_begin(self, operation: Operation) -> None:
        if operation.kind == CLAIM:
            self._claims[operation.argument] = operation

    def on_end(self, operation: Operation) -> None:
        if operation.outcome != DONE:
            return
        if operation.kind == READ:
            if operation.result is not None:
                self._belongs_to(operation.result, operation)
            elif self._winner is not None and self._winner.ended < operation.began:
                self.is_stale(operation, f"{self._winner} was acknowledged")
        elif operation.result:
            self._belongs_to(operation.argument, operation)
            self._winner = operation
        elif not any(claim.may_count and claim is not operation for claim in self._claims.values()):
            self.violated("claims are lost to claims", operation, "nobody else has claimed it")

    def _belongs_to(self, value: Any, operation: Operation) -> None:
        claim = self._claims.get(value)
        if claim is None or not claim.may_count or (claim.outcome == DONE and not claim.result):
            self.violated("what is read was written", operation, f"it comes from {claim}")
        if self._seen is not None and value != self._seen:
            self.violated("a claim is for ever", operation, f"it belongs to {self._claims[self._seen]}")
        self._seen = value

    def at_end(self, value: Any) -> None:
        if not self.is_forgiven and self._seen is not None and value != self._seen:
            raise Violation("a claim is for ever", f"{self.key} is {value!r} in the end; {self._claims[self._seen]}")


class RegisterHistory(KeyHistory):
    """A key that is set, each time to another value, and perhaps deleted."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self._writes: dict[Any, Operation] = {}
        self._deletes: list[Operation] = []
        self._begun = _Highest()  # of writes, by when they were acknowledged: when they had begun
        self._value_by_version: dict[int, Any] = {}
        self._versions = _Highest()
        self._seen: dict[Any, Operation] = {}

    def on_begin(self, operation: Operation) -> None:
        if operation.kind == SET:
            self._writes[operation.argument] = operation
        elif operation.kind == DELETE:
            self._deletes.append(operation)

    def on_end(self, operation: Operation) -> None:
        if operation.kind != READ:
            if operation.outcome == DONE:
                self._begun.note(operation.ended, operation.began)
            elif operation.outcome == REFUSED and operation.argument in self._seen:
                self.violated("what is refused is not done", operation, f"{self._seen[operation.argument]} has read it")
        elif operation.outcome == DONE:
            if operation.result is None:
                self._on_absent(operation)
            else:
                self._on_value(operation)

    def _on_value(self, read: Operation) -> None:
        write = self._writes.get(read.result)
        if write is None or not write.may_count:
            raise Violation("what is read was written", f"{read}: it comes from {write}")
        self._seen.setdefault(read.result, read)
        begun = self._begun.before(read.began)
        if write.ended < begun and not self.may_expire:
            self.is_stale(read, f"{write} was replaced by what began at {begun:.4f} and was acknowledged")
        if read.version is None:
            return
        value = self._value_by_version.setdefault(read.version, read.result)
        if value != read.result:
            self.violated("one version, one value", read, f"version {read.version} was {value!r}")
        if read.version < self._versions.before(read.began):
            self.is_stale(read, f"version {self._versions.before(read.began):.0f} was read before")
        self._versions.note(read.ended, read.version)

    def _on_absent(self, read: Operation) -> None:
        begun = self._begun.before(read.began)
        if begun == -_NEVER or self.may_expire:
            return
        if not any(delete.may_count and delete.ended >= begun for delete in self._deletes):
            self.is_stale(read, f"it was written by what began at {begun:.4f}, and not deleted since")

    def at_end(self, value: Any) -> None:
        """Check the last value as a read by everybody after all was mended: what was acknowledged has to be in it."""
        if self.is_forgiven or self.may_expire:
            return
        self.on_end(Operation("everybody", READ, self.key, None, _NEVER, _NEVER, DONE, value))


class FleetingHistory(RegisterHistory):
    """A register whose values expire, by clocks that are wrong."""

    may_expire = True


HISTORIES: Final[dict[str, type[KeyHistory]]] = {
    "counter": CounterHistory,
    "claim": ClaimHistory,
    "register": RegisterHistory,
    "deleted": RegisterHistory,
    "fleeting": FleetingHistory,
}
"""By the beginning of a key, up to its colon: how it is used, and so what must be true of it."""


class History:
    """All operations of all clients, and a judge for each key."""

    def __init__(self, counts: "Counter[str]") -> None:
        self.operations: list[Operation] = []
        self.keys: dict[str, KeyHistory] = {}
        self._counts = counts
        self._are_forgiven: list[Callable[[str], bool]] = []

    def forgive(self, is_meant: Callable[[str], bool]) -> None:
        """Demand nothing any more of some keys, but that what is read was written once."""
        self._are_forgiven.append(is_meant)
        for key, history in self.keys.items():
            history.is_forgiven |= is_meant(key)

    def key(self, key: str) -> KeyHistory:
        found = self.keys.get(key)
        if found is None:
            found = self.keys[key] = HISTORIES[key.partition(":")[0]](key)
            found.is_forgiven = any(is_meant(key) for is_meant in self._are_forgiven)
        return found

    def begin(self, client: str, kind: str, key: str, argument: Any, now: float) -> Operation:
        operation = Operation(client, kind, key, argument, now)
        self.operations.append(operation)
        self.key(key).on_begin(operation)
        return operation

    def end(self, operation: Operation, outcome: str, result: Any, now: float) -> None:
        if operation.outcome != PENDING:
            raise Violation("a call ends once", f"{operation} ends again: {outcome} {result!r}")
        operation.ended = _NEVER if outcome == UNKNOWN else now
        operation.outcome, operation.result = outcome, result
        self._counts[f"operations_{outcome}"] += 1
        self.key(operation.key).on_end(operation)
