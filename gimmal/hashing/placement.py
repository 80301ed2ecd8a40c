"""The plan: for every partition its leader and its followers, given the members.

A plan is a pure function of the members and of the assignment before it. Without one it starts from the
ring (`ring`): everyone who plans a new cluster of the same members gets the same answer. With one it starts
from there, and changes what must be changed.

Promises, of every plan:

- no member holds two copies of a partition; a partition has `copies` of them, or one per member if those
  are fewer;
- zones first: the copies of a partition lie in different zones when there are enough zones, and else are
  spread as evenly as the zones' sizes allow;
- each member holds its quota of copies (`quotas`), rounded down or up: with equal weights and zones, no two
  members differ by more than one;
- each member leads its share of the partitions by weight, rounded down or up; where rounding of the copies
  leaves no such choice, the fewest partitions are led outside the shares (`leaders`);
- from one assignment to the next, the fewest copies move that reach all this (`copies`); then leaders
  change as little as they can, by roles changing among those who hold the partition;
- planning again changes nothing.

What it deliberately does not do: look at sizes, traffic or health (a partition counts one; who is a member
is decided elsewhere), decide when or in which order copies move, or keep a history. After some joins and
leaves the assignment differs from a new cluster's of the same members, and is as good.

Ring, quotas, copies, leaders and flow each say their part and their source.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from gimmal.hashing.copies import place_copies
from gimmal.hashing.leaders import choose_leaders
from gimmal.hashing.ring import Member, Ring
from gimmal.hashing.slots import check_partitions


@dataclass(frozen=True, slots=True)
class Change:
    """What is different for one partition between two assignments."""

    partition: int
    added: tuple[str, ...]
    """Who receives a copy."""
    dropped: tuple[str, ...]
    """Who gives up, or has lost, a copy."""
    leader_before: str
    leader: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who holds what: an immutable value."""

    replicas: tuple[tuple[str, ...], ...]
    """For each partition the names of its holders, leader first; never empty, no name twice."""

    def __post_init__(self) -> None:
        for partition, names in enumerate(self.replicas):
            if not names or len(dict.fromkeys(names)) != len(names):
                raise ValueError(f"partition {partition} needs one or more different holders, not {names!r}")

    @property
    def partitions(self) -> int:
        """The number of partitions."""
        return len(self.replicas)

    def leader(self, partition: int) -> str:
        """Return the name of the member that leads a partition."""
        return self.replicas[partition][0]

    def copies_held(self) -> dict[str, int]:
        """Return how many partition copies each member holds, by name, rising; who holds none is left out."""
        return _count(chain.from_iterable(self.replicas))

    def partitions_led(self) -> dict[str, int]:
        """Return how many partitions each member leads, by name, rising; who leads none is left out."""
        return _count(names[0] for names in self.replicas)

    def changes_from(self, before: "Assignment") -> tuple[Change, ...]:
        """Return what is different from another assignment of as many partitions, by partition.

        A partition whose followers are the same in another order has not changed.

        Raises:
            ValueError: the numbers of partitions differ.
        """
        if before.partitions != self.partitions:
            raise ValueError(f"cannot compare {self.partitions} partitions with {before.partitions}")
        changes = []
        for partition, (old, new) in enumerate(zip(before.replicas, self.replicas, strict=True)):
            added = tuple(name for name in new if name not in old)
            dropped = tuple(name for name in old if name not in new)
            if added or dropped or old[0] != new[0]:
                changes.append(Change(partition, added, dropped, old[0], new[0]))
        return tuple(changes)

    def copies_moved_from(self, before: "Assignment") -> int:
        """Return how many copies members receive that they did not hold in another: the data to send."""
        return sum(len(change.added) for change in self.changes_from(before))


def plan(members: Iterable[Member], partitions: int, copies: int, previous: Assignment | None = None) -> Assignment:
    """Assign the partitions to the members.

    Args:
        members: who may hold partitions, in any order.
        partitions: how many partitions there are, a power of two from 1 to 16384.
        copies: how many holders each partition shall have, at least 1; capped at the number of members.
        previous: the assignment to change as little as possible; its names need not be members any more.

    Raises:
        ValueError: an argument is out of range, two members share a name, or `previous` does not fit.
    """
    check_partitions(partitions)
    if copies < 1:
        raise ValueError(f"a partition needs at least one copy, not {copies}")
    if previous is not None and previous.partitions != partitions:
        raise ValueError(f"cannot plan {partitions} partitions from an assignment of {previous.partitions}")
    ring = Ring(members)
    copies = min(copies, len(ring.members))
    preferences = [ring.preference(partition) for partition in range(partitions)]
    before = previous.replicas if previous is not None else tuple(names[:copies] for names in preferences)
    holders = place_copies(ring.members, preferences, before, copies)
    weights = {member.name: member.weight for member in ring.members}
    leaders = choose_leaders(weights, holders, before)
    return Assignment(
        tuple(
            (leader, *(name for name in names if name != leader))
            for leader, names in zip(leaders, holders, strict=True)
        )
    )


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))
