"""Consumers that wait for messages: first come, first served, for each group of each queue shard a node leads.

A consume that finds nothing waits here, unlogged, until there is something to give or its time is up. A waiting
consumer costs nothing but its place. When there is something, a GRANT is proposed for as many as there are messages,
and no more: `promised` counts what proposals under way will take, so that one new message does not wake a crowd.

A consume is known by its client and the number that the client gave it. One that is sent twice is the same.
"""

import heapq
from collections import Counter, OrderedDict
from itertools import count
from typing import Final, NamedTuple

WAITERS_MAX: Final = 100_000
"""Consumers that may wait at one node."""

_NEVER: Final = float("inf")


class Line(NamedTuple):
    """Where consumers wait: one group of one shard of a partition."""

    partition: int
    shard: bytes
    group: bytes


class Waiter:
    """One consume: whom to answer, and what it asked for. It is the ticket of its GRANT.

    It gets nothing once `until_s` has passed, and nobody takes the answer any more from `gives_up_at_s` on. `share` is
    how many messages a GRANT under way was proposed for; 0 while it waits.
    """

    __slots__ = (
        "client",
        "consumer",
        "gives_up_at_s",
        "is_cancelled",
        "lease_ms",
        "line",
        "most",
        "number",
        "peer",
        "request",
        "share",
        "until_s",
    )

    def __init__(self, line: Line, client: bytes, consumer: bytes, request: int) -> None:
        self.line = line
        self.client = client
        self.consumer = consumer
        self.request = request
        self.peer = b""
        self.number = 0
        self.most = 1
        self.lease_ms = 0
        self.until_s = self.gives_up_at_s = _NEVER
        self.share = 0
        self.is_cancelled = False


class Waiting:
    """All who wait, and those for whom a GRANT is under way."""

    def __init__(self) -> None:
        self.promised: Counter[Line] = Counter()
        self._lines: dict[Line, OrderedDict[Waiter, None]] = {}
        self._by_request: dict[tuple[Line, bytes, int], Waiter] = {}
        self._ends: list[tuple[float, int, Waiter]] = []
        self._order = count().__next__

    def __len__(self) -> int:
        return len(self._by_request)

    def find(self, line: Line, client: bytes, request: int) -> Waiter | None:
        """Return a consume that waits, or for which a GRANT is under way."""
        return self._by_request.get((line, client, request))

    def add(self, waiter: Waiter) -> None:
        """Let a new consume wait, behind all others."""
        self._by_request[waiter.line, waiter.client, waiter.request] = waiter
        self._lines.setdefault(waiter.line, OrderedDict())[waiter] = None

    def watch(self, waiter: Waiter) -> None:
        """Let the time of a consume that has to wait be up some day; one that is served at once needs no watch."""
        heapq.heappush(self._ends, (waiter.until_s, self._order(), waiter))

    def remove(self, waiter: Waiter) -> None:
        """Forget a consume: it has its answer, or nobody wants one."""
        self.withdraw(waiter)
        self._by_request.pop((waiter.line, waiter.client, waiter.request), None)
        line = self._lines.get(waiter.line)
        if line is not None:
            line.pop(waiter, None)
            if not line:
                del self._lines[waiter.line]

    def has_line(self, line: Line) -> bool:
        """Say whether anybody waits there."""
        return line in self._lines

    def lines_of(self, partition: int) -> list[Line]:
        """Return where anybody waits, or has a GRANT under way, in a partition."""
        return list(dict.fromkeys(line for line, _, _ in self._by_request if line.partition == partition))

    def all_in(self, line: Line) -> list[Waiter]:
        """Return all of a line, also those for whom a GRANT is under way."""
        return [waiter for waiter in self._by_request.values() if waiter.line == line]

    def of_client(self, client: bytes) -> list[Waiter]:
        """Return all consumes of a client."""
        return [waiter for waiter in self._by_request.values() if waiter.client == client]

    # -- giving -------------------------------------------------------------------------------------------------------

    def promise(self, line: Line, available: int) -> Waiter | None:
        """Return for whom a GRANT is to be proposed next, if so many messages are ready; it leaves its line."""
        waiters = self._lines.get(line)
        left = available - self.promised[line]
        if not waiters or left <= 0:
            return None
        waiter, _ = waiters.popitem(last=False)
        if not waiters:
            del self._lines[line]
        waiter.share = min(waiter.most, left)
        self.promised[line] += waiter.share
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """Take back what was promised: the GRANT is applied, or will never be."""
        if waiter.share:
            self.promised[waiter.line] -= waiter.share
            if not self.promised[waiter.line]:
                del self.promised[waiter.line]
            waiter.share = 0

    def wait_again(self, waiter: Waiter) -> None:
        """Put a consume that got nothing in front of its line."""
        self.withdraw(waiter)
        waiters = self._lines.setdefault(waiter.line, OrderedDict())
        waiters[waiter] = None
        waiters.move_to_end(waiter, last=False)

    # -- time ---------------------------------------------------------------------------------------------------------

    def next_end_s(self) -> float:
        """Return when the time of the next one is up, in seconds; infinity if nobody waits."""
        return self._ends[0][0] if self._ends else _NEVER

    def take_ended(self, now_s: float) -> list[Waiter]:
        """Return those whose time is up, and forget them; not those for whom a GRANT is under way."""
        ended: list[Waiter] = []
        while self._ends and self._ends[0][0] <= now_s:
            _, _, waiter = heapq.heappop(self._ends)
            is_known = self._by_request.get((waiter.line, waiter.client, waiter.request)) is waiter
            if is_known and not waiter.share and waiter.until_s <= now_s:
                self.remove(waiter)
                ended.append(waiter)
        return ended
