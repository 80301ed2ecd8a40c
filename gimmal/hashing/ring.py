"""The consistent-hash ring: in which order nodes are asked to hold a partition.

Positions are 64-bit integers on a circle. A member owns 128 virtual nodes per unit of weight, a partition
owns one point, both by BLAKE2b. Walking clockwise from the point of a partition, one meets every member
sooner or later; the order of first meetings is the partition's walk. The preference order is the walk told
in rounds: first the first member met in each zone, then the second of each zone, and so on, so that copies
fall into different zones for as long as there are zones.

Rules:

- A position depends on the name and the number of the virtual node, on nothing else: not on the other
  members, on their order, or on the process.
- A member more or less changes a preference order only from the place of that member on.
- The ring knows nothing of load. Chance makes one member lead 1.1 times the mean at 10 members and 1.9
  times at 100; `placement` corrects that and uses the ring as the place to start from.

The walk is not walked: the distance from the point to the next virtual node of each member is one binary
search, and sorting the distances gives the order. That costs the same whatever the weights are.

Source: Karger et al., "Consistent Hashing and Random Trees" (STOC 1997).
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

VIRTUAL_NODES_PER_WEIGHT = 128
WEIGHT_MAX = 1000
"""Largest weight of a member: weights are relative, and each unit costs 128 virtual nodes."""

_CIRCLE = 1 << 64


@dataclass(frozen=True, slots=True)
class Member:
    """A node that can hold partitions.

    `weight` is relative: a member of weight 2 is to hold twice what a member of weight 1 holds. `zone` names
    what fails together (a rack, a site); members with no zone are one zone, called "".
    """

    name: str
    weight: int = 1
    zone: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a member needs a name")
        if not 1 <= self.weight <= WEIGHT_MAX:
            raise ValueError(f"the weight of {self.name!r} must be 1 to {WEIGHT_MAX}, not {self.weight}")


def check_members(members: Iterable[Member]) -> tuple[Member, ...]:
    """Return the members in the order of their names.

    Raises:
        ValueError: there is none, or two have the same name.
    """
    ordered = tuple(sorted(members, key=lambda member: member.name))
    if not ordered:
        raise ValueError("there must be at least one member")
    for one, other in pairwise(ordered):
        if one.name == other.name:
            raise ValueError(f"two members share the name {one.name!r}")
    return ordered


@dataclass(frozen=True, slots=True, init=False)
class Ring:
    """The virtual nodes of some members: an immutable value, equal for equal members in any order."""

    members: tuple[Member, ...]
    """In the order of their names."""

    _positions: tuple[tuple[int, ...], ...] = field(repr=False, compare=False)
    """For each member the positions of its virtual nodes, rising; never empty."""

    def __init__(self, members: Iterable[Member]) -> None:
        """Place the virtual nodes of the members.

        Raises:
            ValueError: there is no member, or two have the same name.
        """
        ordered = check_members(members)
        object.__setattr__(self, "members", ordered)
        object.__setattr__(self, "_positions", tuple(_virtual_nodes(member) for member in ordered))

    def positions(self, name: str) -> tuple[int, ...]:
        """Return the positions, 0 to 2**64 - 1 and rising, of one member's virtual nodes.

        Raises:
            KeyError: no member has this name.
        """
        for member, positions in zip(self.members, self._positions, strict=True):
            if member.name == name:
                return positions
        raise KeyError(name)

    def walk(self, partition: int) -> tuple[Member, ...]:
        """Return all members in the order in which they are met clockwise from the point of a partition."""
        point = _position(b"gimmal partition", partition.to_bytes(4, "big"))
        met = []
        for index, positions in enumerate(self._positions):
            after = bisect_left(positions, point)
            distance = positions[after] - point if after < len(positions) else positions[0] + _CIRCLE - point
            met.append((distance, index))
        met.sort()
        return tuple(self.members[index] for _, index in met)

    def preference(self, partition: int) -> tuple[str, ...]:
        """Return the names of all members, the preferred first: one of each zone, then one more of each."""
        seen: dict[str, int] = {}
        rounds: list[list[str]] = []
        for member in self.walk(partition):
            turn = seen.get(member.zone, 0)
            seen[member.zone] = turn + 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(member.name)
        return tuple(name for names in rounds for name in names)


def _virtual_nodes(member: Member) -> tuple[int, ...]:
    name = member.name.encode()
    numbers = range(VIRTUAL_NODES_PER_WEIGHT * member.weight)
    return tuple(sorted(_position(b"gimmal member", number.to_bytes(4, "big") + name) for number in numbers))


def _position(kind: bytes, data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8, person=kind).digest(), "big")
