"""When the leases of messages in flight are over: one heap for all partitions a node leads, one entry for each grant.

Deadlines are no part of the replicated state: a new leader gives everybody the full length again. The truth about who
holds what is in the state; a deadline that surfaces for a delivery that has ended is dropped.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Final

from gimmal.leader.waiting import Line
from gimmal.store.queues import Queues
from gimmal.store.queues.group import Group
from gimmal.store.queues.shard import Shard
from gimmal.types import Command
from gimmal.wire import limits, queue_commands

_NEVER: Final = float("inf")


class Leases:
    """Proposes LEASE_END. `led` maps each partition led to its queues. Times are seconds of the node's clock."""

    def __init__(self, led: Mapping[int, Queues]) -> None:
        self._led = led
        self._heap: list[tuple[float, int, Line, int, tuple[int, ...]]] = []
        self._extended: dict[tuple[Line, int], tuple[int, float]] = {}  # (where, number) -> (token, until when)
        self._order = count().__next__

    def __len__(self) -> int:
        return len(self._heap)

    def start(self, line: Line, deliveries: Iterable[tuple[int, int]], now_s: float) -> None:
        """Begin the leases of deliveries, (number, token), at their full length."""
        found = self._find(line)
        if found is None:
            return
        shard, group = found
        alike: dict[tuple[int, int], list[int]] = {}
        for number, token in deliveries:
            if group.holds(number, token):
                length_ms = group.held[number].lease_ms or shard.settings.lease_ms
                alike.setdefault((token, length_ms), []).append(number)
        for (token, length_ms), numbers in alike.items():
            self._push(now_s + length_ms / 1000, line, token, tuple(numbers))

    def extend(self, line: Line, number: int, token: int, until_s: float) -> None:
        """Let one delivery last longer, or shorter."""
        self._extended[line, number] = token, until_s
        self._push(until_s, line, token, (number,))

    def on_led(self, partition: int, now_s: float) -> None:
        """Begin the leases of everything that is in flight in a partition: it is led here from now on."""
        for key, shard in self._led[partition].shards.items():
            for name, group in shard.groups.items():
                held = [(number, delivery.token) for number, delivery in group.held.items()]
                self.start(Line(partition, key, name), held, now_s)

    def next_end_s(self) -> float:
        """Return when to look next; infinity if nothing is in flight."""
        return self._heap[0][0] if self._heap else _NEVER

    def due(self, now_s: float) -> Iterator[tuple[int, Command]]:
        """Yield (partition, LEASE_END command) for leases that are over."""
        ended: dict[Line, list[tuple[int, int]]] = {}
        while self._heap and self._heap[0][0] <= now_s:
            at_s, _, line, token, numbers = heapq.heappop(self._heap)
            found = self._find(line)
            for number in numbers:
                if self._is_over(line, number, token, at_s) and found is not None and found[1].holds(number, token):
                    ended.setdefault(line, []).append((number, token))
        for line, deliveries in ended.items():
            for first in range(0, len(deliveries), limits.DELIVERIES_MAX):
                portion = tuple(deliveries[first : first + limits.DELIVERIES_MAX])
                yield line.partition, (queue_commands.LEASE_END, line.shard, line.group, portion)

    def put_off(self, command: Command, partition: int, until_s: float) -> None:
        """Look at leases that are over again later: it is not the time to write."""
        _, shard, group, deliveries = command
        for number, token in deliveries:
            self._push(until_s, Line(partition, shard, group), token, (number,))

    def _is_over(self, line: Line, number: int, token: int, at_s: float) -> bool:
        """Say whether a deadline that has come is the last one of its delivery."""
        extended = self._extended.get((line, number))
        if extended is None or extended[0] != token:
            return True
        if extended[1] != at_s:
            return False
        del self._extended[line, number]
        return True

    def _push(self, at_s: float, line: Line, token: int, numbers: tuple[int, ...]) -> None:
        heapq.heappush(self._heap, (at_s, self._order(), line, token, numbers))

    def _find(self, line: Line) -> tuple[Shard, Group] | None:
        queues = self._led.get(line.partition)
        shard = queues.shards.get(line.shard) if queues is not None else None
        group = shard.groups.get(line.group) if shard is not None else None
        return (shard, group) if shard is not None and group is not None else None
