"""Who should lead what, so that no node leads more than one partition more than another: a pure function.

After failures a few nodes lead much and those that came back nothing. Copies stay where they are; only leaderships
move, and only to members of the isr that are there, because nobody else may lead at once.

It is a flow. Nodes that lead too much are sources, those that lead too little sinks, and an edge is a partition that
one leads and the other has in sync. Each path moves one leadership from its beginning to its end, perhaps by way of
others: a gives one to b, and b another to c. Shortest paths first give the fewest moves in total (Ford and Fulkerson's
successive shortest paths), if a move that was chosen may be undone: a partition costs one move when it is led by
another node than now, however often it was reconsidered.

Of a very large table only the first paths are looked for at once (`_LOOKS_MAX`); what is left shows the next time.

Zones and weights do not matter here: who *holds* what respects them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, TypeAlias

from gimmal.cluster.table import ALIVE, Table

_LOOKS_MAX: Final = 100_000
"""Partitions looked at for paths by way of others: about a tenth of a second, in which nothing else is done."""

Move: TypeAlias = tuple[int, str]
"""(partition, who should lead it)"""

_Step: TypeAlias = tuple[int, str]
"""(partition, who leads it before): how a path came to a node."""


def balance(table: Table) -> tuple[Move, ...]:
    """Return the fewest changes of leaders that make max - min <= 1 over all nodes that could lead, in their order.

    Where that cannot be reached, because too few copies are in sync, it returns what brings the nodes nearest.
    """
    alive = {row.name: row.incarnation for row in table.nodes if row.status == ALIVE}
    may_lead = {
        number: [member.name for member in row.in_sync if alive.get(member.name) == member.number]
        for number, row in enumerate(table.partitions)
        if row.leader in alive
    }
    flow = _Flow({number: table.partitions[number].leader or "" for number in may_lead}, may_lead)
    flow.move_directly()
    while flow.looks < _LOOKS_MAX and flow.move_by_others():
        pass
    return tuple((number, leader) for number, leader in flow.leader_by_partition.items() if leader != flow.now[number])


class _Flow:
    """Leaders as they are now, and as they would be after the moves so far."""

    def __init__(self, now: dict[int, str], may_lead: dict[int, list[str]]) -> None:
        self.now = now
        self.leader_by_partition = dict(now)
        self._may_lead = may_lead
        nodes = sorted({name for names in may_lead.values() for name in names} | set(now.values()))
        self._led: dict[str, dict[int, None]] = {name: {} for name in nodes}
        for number, leader in now.items():
            self._led[leader][number] = None
        self.looks = 0
        self._least = len(now) // len(nodes) if nodes else 0

    def move_directly(self) -> None:
        """Move from who leads too much to who leads too little: no path is shorter."""
        for number, names in self._may_lead.items():
            leader = self.leader_by_partition[number]
            if self._leads(leader) > self._least + 1:
                target = min(names, key=lambda name: (self._leads(name), name))
                if self._leads(target) < self._least:
                    self._move(number, target)

    def move_by_others(self) -> bool:
        """Move along one more path, the shortest of those that help most; say whether there was one."""
        least = self._least
        too_much = [name for name in self._led if self._leads(name) > least + 1]
        much = [name for name in self._led if self._leads(name) > least]
        return (
            self._follow(too_much, lambda name: self._leads(name) < least)
            or self._follow(too_much, lambda name: self._leads(name) == least)
            or self._follow(much, lambda name: self._leads(name) < least)
        )

    def _follow(self, sources: Sequence[str], is_sink: Callable[[str], bool]) -> bool:
        """Find a shortest path from a source to a sink (Bellman and Ford, by a queue), and move along it."""
        distance = dict.fromkeys(sources, 0)
        came_by: dict[str, _Step] = {}
        queue = deque(sources)
        while queue:
            node = queue.popleft()
            self.looks += len(self._led[node])
            for number in self._led[node]:
                for other in self._may_lead[number]:
                    length = distance[node] + self._cost(number, other)
                    if other != node and length < distance.get(other, inf):
                        distance[other], came_by[other] = length, (number, node)
                        queue.append(other)
        ends = [name for name in self._led if name in distance and is_sink(name)]
        if not ends:
            return False
        node = min(ends, key=lambda name: (distance[name], name))
        path = []
        while node in came_by:
            number, before = came_by[node]
            path.append((number, node))
            node = before
        for number, target in path:
            self._move(number, target)
        return True

    def _leads(self, name: str) -> int:
        return len(self._led[name])

    def _cost(self, number: int, target: str) -> int:
        now = self.now[number]
        return (target != now) - (self.leader_by_partition[number] != now)

    def _move(self, number: int, target: str) -> None:
        del self._led[self.leader_by_partition[number]][number]
        self._led[target][number] = None
        self.leader_by_partition[number] = target
