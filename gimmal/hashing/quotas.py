"""How many copies each member should hold: exact fractions, before anything is rounded.

A partition may not have two copies on one member, and its copies are spread over the zones as evenly as the
sizes of the zones allow. So shares in proportion to weight are not always possible: a heavy member cannot
hold more than one copy of everything, and a small zone among three must hold as much as a large one. The
quota is what is nearest to proportional within those limits: weighted max-min fairness, found by pouring
water. Raise one level for all; a member holds level x weight until it is full; a zone stops rising when it
is full, and a zone that must hold something is lifted to that at the start.

Invariants: quotas sum to partitions x copies; each is 0 to partitions; each zone's sum lies within its
bounds. Any rounding of quotas to a neighbouring whole number that keeps the zones' bounds can be dealt out:
lay the copies in a row, zone by zone and member by member, and give the k-th to partition k mod P. No two
of a member, and no more of a zone than its bound, fall on one partition. `copies` relies on that: its flow
always has a solution.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gimmal.hashing.ring import Member


@dataclass(frozen=True, slots=True)
class ZoneBounds:
    """How many copies of one partition a zone may hold; least and most differ by one at most."""

    least: int
    most: int


def zone_bounds(members: Sequence[Member], copies: int) -> dict[str, ZoneBounds]:
    """Return each zone's bounds when `copies`, at most one per member, are spread as evenly as can be."""
    assert 1 <= copies <= len(members)
    sizes: dict[str, int] = {}
    for member in members:
        sizes[member.zone] = sizes.get(member.zone, 0) + 1
    most = 1
    while sum(min(size, most) for size in sizes.values()) < copies:
        most += 1
    return {zone: ZoneBounds(min(size, most - 1), min(size, most)) for zone, size in sizes.items()}


def copy_quotas(members: Sequence[Member], partitions: int, copies: int) -> dict[str, Fraction]:
    """Return how many partition copies each member should hold; `copies` is at most one per member."""
    bounds = zone_bounds(members, copies)
    zones = {
        zone: _Zone(
            [member.weight for member in members if member.zone == zone],
            partitions,
            bound.least * partitions,
            bound.most * partitions,
        )
        for zone, bound in bounds.items()
    }
    level = _common_level(list(zones.values()), partitions * copies)
    quotas = {}
    for member in members:
        zone_level = zones[member.zone].level_at(level)
        quotas[member.name] = min(Fraction(partitions), zone_level * member.weight)
    return quotas


@dataclass(slots=True)
class _Zone:
    weights: list[int]
    member_most: int
    least: int
    most: int

    def level_at(self, level: Fraction) -> Fraction:
        """Return the level inside the zone for a common one: the same, but within the zone's bounds."""
        return max(self._level_holding(self.least), min(self._level_holding(self.most), level))

    def held_at(self, level: Fraction) -> Fraction:
        inside = self.level_at(level)
        return sum((min(Fraction(self.member_most), inside * weight) for weight in self.weights), Fraction(0))

    def bends(self) -> list[Fraction]:
        """Return the levels at which the zone's content stops being one straight line."""
        full = [Fraction(self.member_most, weight) for weight in self.weights]
        return [*full, self._level_holding(self.least), self._level_holding(self.most)]

    def _level_holding(self, total: int) -> Fraction:
        """Return the lowest level at which members, each full at `member_most`, hold `total` between them."""
        free_weight = sum(self.weights)
        rest = total
        level = Fraction(0)
        for weight in sorted(self.weights, reverse=True):
            level = Fraction(rest, free_weight)
            if level * weight <= self.member_most:
                return level
            rest -= self.member_most
            free_weight -= weight
        return level


def _common_level(zones: Sequence[_Zone], total: int) -> Fraction:
    """Return the level at which the zones hold `total` between them; content is linear between bends."""
    bends = sorted([Fraction(0), *(bend for zone in zones for bend in zone.bends())])

    def held(level: Fraction) -> Fraction:
        return sum((zone.held_at(level) for zone in zones), Fraction(0))

    index = bisect_left(bends, Fraction(total), key=held)
    high = bends[index]
    if index == 0 or held(high) == total:
        return high
    low = bends[index - 1]
    return low + (total - held(low)) * (high - low) / (held(high) - held(low))
