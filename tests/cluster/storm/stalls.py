"""Which gaps nothing explains: nobody could write although most nodes reached each other, and nothing changed.

A cluster needs a moment to find out what has happened. So a gap is cut where faults begin and end, and of each piece is
asked who reaches whom: are three of five nodes well and connected, and two of the partition's three copies among them?
The longest piece of which that holds is how long the cluster has been waiting for nothing. It may still have its
reasons, such as two voters of three that are not there; whoever reads it has the logs.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Final, NamedTuple

from tests.cluster.storm.plan import Kind

_MAJORITY: Final = 3
_COPIES: Final = 2


class Spell(NamedTuple):
    """A fault as it happened, in seconds of `time.monotonic`."""

    kind: Kind
    nodes: tuple[str, ...]
    began_at: float
    ended_at: float

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(self.nodes)}"


def waited_for_nothing_s(
    began_at: float, ended_at: float, spells: Sequence[Spell], names: Sequence[str], replicas: Sequence[str]
) -> float:
    """Return for how long at most a gap went on without a change while writes of a partition were possible."""
    moments = {began_at, ended_at}
    for spell in spells:
        moments |= {at for at in (spell.began_at, spell.ended_at) if began_at < at < ended_at}
    longest = 0.0
    for start, end in pairwise(sorted(moments)):
        active = [spell for spell in spells if spell.began_at <= start and spell.ended_at >= end]
        if any(
            len(group) >= _MAJORITY and len(group & set(replicas)) >= _COPIES for group in _connected(active, names)
        ):
            longest = max(longest, end - start)
    return longest


def _connected(active: Sequence[Spell], names: Sequence[str]) -> Iterator[set[str]]:
    """Yield groups of nodes that run and reach each other at full speed."""
    well = set(names)
    sides: list[tuple[set[str], set[str]]] = []
    for spell in active:
        if spell.kind in (Kind.CUT, Kind.CUT_ONE_WAY):
            sides.append((set(spell.nodes), set(names) - set(spell.nodes)))
        else:
            well -= set(spell.nodes)
    for choice in product(*sides):
        yield well.intersection(*choice)
