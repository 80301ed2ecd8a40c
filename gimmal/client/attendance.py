"""What one client has of queues at the moment: which messages it holds, and where it waits for some.

Nodes know a client by 16 random bytes. As long as it holds a message of a partition, or waits for one there, it tells
the nodes that hold copies of the partition every second that it lives (`gimmal.client.keepalive`): the one that leads,
and those that may lead next, which then know it without delay.

Held messages are found by their id here. What is never settled is forgotten some time after its lease is over.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final, NamedTuple

from gimmal.client.queue_types import Receipt
from gimmal.hashing import SLOTS, key_slot

_KEPT_AFTER_LEASE_S: Final = 60.0
_SWEEP_EVERY_S: Final = 10.0


class _Held(NamedTuple):
    receipt: Receipt
    partition: int
    forget_at: float


class Attendance:
    """The messages that one client holds, and where it waits. Threads share it.

    `wake` is called whenever there is something to hold or to wait for: keepalives are due from then on.
    """

    def __init__(
        self,
        partitions: int,
        client: bytes,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.clock = clock
        self.next_request = count(1).__next__
        self._wake = wake
        self._slots_per_partition = SLOTS // partitions
        self._lock = threading.Lock()
        self._waiting: Counter[int] = Counter()
        self._held: dict[tuple[bytes, str], dict[bytes, _Held]] = {}  # (queue, id) -> by group
        self._sweep_at = clock() + _SWEEP_EVERY_S

    @property
    def consumer(self) -> str:
        """The name of a consumer that was given none."""
        return f"client-{self.client[:4].hex()}"

    def partition_of(self, key: bytes) -> int:
        """Return the partition of a shard's key."""
        return key_slot(key) // self._slots_per_partition

    def partitions(self) -> frozenset[int]:
        """Return where the client holds or waits for something."""
        with self._lock:
            held = {held.partition for groups in self._held.values() for held in groups.values()}
            return frozenset(held | {partition for partition, waiting in self._waiting.items() if waiting})

    # -- waiting --------------------------------------------------------------------------------------------------

    def on_waiting(self, partitions: Iterable[int]) -> None:
        """Learn that a consume begins."""
        with self._lock:
            self._waiting.update(partitions)
        self._wake()

    def on_waited(self, partitions: Iterable[int]) -> None:
        """Learn that a consume has ended; there is a call for each that began."""
        with self._lock:
            self._waiting.subtract(partitions)

    # -- holding --------------------------------------------------------------------------------------------------

    def hold(self, receipt: Receipt, key: bytes, lease_s: float) -> None:
        """Learn that the client has a message, or has it for longer."""
        now = self.clock()
        held = _Held(receipt, self.partition_of(key), now + lease_s + _KEPT_AFTER_LEASE_S)
        with self._lock:
            self._held.setdefault((receipt.queue, receipt.message_id), {})[receipt.group] = held
            if self._sweep_at <= now:
                self._sweep_at = now + _SWEEP_EVERY_S
                for name, groups in list(self._held.items()):
                    for group in [group for group, held in groups.items() if held.forget_at <= now]:
                        del groups[group]
                    if not groups:
                        del self._held[name]
        self._wake()

    def let_go(self, receipt: Receipt) -> None:
        """Learn that a delivery has ended."""
        name = receipt.queue, receipt.message_id
        with self._lock:
            groups = self._held.get(name, {})
            held = groups.get(receipt.group)
            if held is not None and held.receipt == receipt:
                del groups[receipt.group]
                if not groups:
                    del self._held[name]

    def find(self, queue: bytes, message_id: str) -> list[Receipt]:
        """Return what the client holds under an id: one delivery for each group."""
        with self._lock:
            return [held.receipt for held in self._held.get((queue, message_id), {}).values()]
