"""Which members hold a partition: every rule kept, the load bounded, and as little data moved as can be.

Rules for the copies of one partition: never two on one member, and over the zones as evenly as their sizes
allow (with as many zones as copies, never two in one zone). Rule for the load: each member holds its quota
of partition copies (`quotas`), rounded down or up.

All of it is one minimum-cost flow. Each partition sends out its copies, through one vertex per zone whose
bounds are the zone rule, to members, each with the floor and the ceiling of its quota as bounds. The flow
put down at first is what the members hold; keeping a copy is free and a new one costs. So the answer moves
exactly the least number of copies that any balanced answer moves. Which of several such answers is taken:

- the one that takes away the fewest copies from leaders, whose loss is a hand-over;
- then members in the partition's order of preference, which also spreads what a member lost over many
  others.

This is "consistent hashing with bounded loads" solved as a whole, instead of member by member along the
walk.

Source: Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018).
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

from gimmal.hashing.flow import Network
from gimmal.hashing.quotas import ZoneBounds, copy_quotas, zone_bounds
from gimmal.hashing.ring import Member


def place_copies(
    members: Sequence[Member],
    preferences: Sequence[Sequence[str]],
    held: Sequence[Sequence[str]],
    copies: int,
) -> list[list[str]]:
    """Return for each partition the names of its holders: first those who stay, then the new ones.

    Args:
        members: who may hold copies.
        preferences: for each partition all members' names, the preferred first.
        held: for each partition who holds it now, leader first; who is no member any more is passed over.
        copies: how many each partition shall have, at most one per member.
    """
    flow = _CopyFlow(members, len(preferences), copies)
    arcs = [flow.add_partition(index, preferences[index], holders) for index, holders in enumerate(held)]
    flow.close()
    flow.network.settle()  # possible, as rounded quotas within the zones' bounds can always be dealt out
    placed = []
    for holders, arc_of in zip(held, arcs, strict=True):
        chosen = [name for name, arc in arc_of.items() if flow.network.carried(arc)]
        stay = [name for name in holders if name in chosen]
        placed.append(stay + [name for name in chosen if name not in stay])
    return placed


class _CopyFlow:
    """The network: members, partitions, zones, one vertex for all copies, then each partition's zones."""

    __slots__ = ("_binding", "_copies", "_load", "_members", "_number", "_partitions", "_zones", "network")

    def __init__(self, members: Sequence[Member], partitions: int, copies: int) -> None:
        self._members = members
        self._partitions = partitions
        self._copies = copies
        self._number = {member.name: number for number, member in enumerate(members)}
        self._load = [0] * len(members)
        # Bounds that forbid nothing need no vertex: of the only zone, or of a zone with one member.
        self._binding: dict[str, ZoneBounds] = {}
        self._zones = zone_bounds(members, copies)
        for zone, bounds in self._zones.items():
            size = sum(member.zone == zone for member in members)
            if len(self._zones) > 1 and bounds != ZoneBounds(0, size):
                self._binding[zone] = bounds
        self.network = Network(len(members) + partitions + len(self._zones) + 1 + partitions * len(self._binding))

    def add_partition(self, partition: int, preference: Sequence[str], holders: Sequence[str]) -> dict[str, int]:
        """Add the partition's arcs in the order of preference; return the arc to each member."""
        vertex = len(self._members) + partition
        self.network.excess[vertex] += self._copies
        cell = len(self._members) + self._partitions + len(self._zones) + 1 + partition * len(self._binding)
        tails: dict[str, int] = {}
        present = [self._members[self._number[name]] for name in holders if name in self._number]
        for zone, bounds in self._binding.items():
            here = sum(member.zone == zone for member in present)
            self.network.add(vertex, cell, (bounds.least, bounds.most), here, 0)
            tails[zone] = cell
            cell += 1
        moved_cost = self._partitions + 1  # a move weighs more than all the hand-overs there can be
        arcs = {}
        for name in preference:
            number = self._number[name]
            holds = name in holders
            cost = moved_cost if not holds else -1 if name == holders[0] else 0
            tail = tails.get(self._members[number].zone, vertex)
            arcs[name] = self.network.add(tail, number, (0, 1), int(holds), cost)
            self._load[number] += holds
        return arcs

    def close(self) -> None:
        """Add the arcs that bound the load of each member and, lest rounding adds up, of each zone."""
        first_zone = len(self._members) + self._partitions
        placed = first_zone + len(self._zones)
        self.network.excess[placed] -= self._partitions * self._copies
        quotas = copy_quotas(self._members, self._partitions, self._copies)
        for vertex, zone in enumerate(self._zones, start=first_zone):
            numbers = [number for number, member in enumerate(self._members) if member.zone == zone]
            for number in numbers:
                quota = quotas[self._members[number].name]
                self.network.add(number, vertex, (floor(quota), ceil(quota)), self._load[number], 0)
            quota = sum((quotas[self._members[number].name] for number in numbers), Fraction(0))
            load = sum(self._load[number] for number in numbers)
            self.network.add(vertex, placed, (floor(quota), ceil(quota)), load, 0)
