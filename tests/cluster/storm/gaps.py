"""For how long nothing could be written: by partition, and by what was wrong with the cluster meanwhile.

It is information and asserts nothing: how long a gap may be depends on what else the machine does.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Final, NamedTuple

from tests.cluster.storm.plan import ALL_KINDS, Kind
from tests.cluster.storm.stalls import Spell, waited_for_nothing_s

_WORTH_TELLING_S: Final = 0.5
_AFTERMATH_S: Final = 2.0
STALL_S: Final = 3.5
_TOLD_MAX: Final = 8


class Gap(NamedTuple):
    """From one acknowledged write of a partition to the next."""

    partition: int
    began_at: float
    ended_at: float

    @property
    def lasted_s(self) -> float:
        return self.ended_at - self.began_at


class Gaps:
    """The gaps of all partitions, from one writer each, or of whatever else has numbers: times without `what`.

    Times are of `time.monotonic`.
    """

    def __init__(self, what: str = "an acknowledged write of a partition", kinds: tuple[Kind, ...] = ALL_KINDS) -> None:
        self._what = what
        self._kinds = kinds
        self._lock = Lock()
        self._acknowledged_at: dict[int, float] = {}
        self._found: list[Gap] = []

    def acknowledge(self, partition: int, now: float) -> None:
        """Note an acknowledged write."""
        with self._lock:
            before = self._acknowledged_at.get(partition)
            self._acknowledged_at[partition] = now
            if before is not None and now - before >= _WORTH_TELLING_S:
                self._found.append(Gap(partition, before, now))

    def silent_since(self, at: float, partitions: int) -> list[int]:
        """Return the partitions of which no write was acknowledged after a time."""
        with self._lock:
            return [number for number in range(partitions) if self._acknowledged_at.get(number, at) <= at]

    def text(self, spells: list[Spell], started_at: float) -> str:
        """Tell the longest gap of each kind of fault, and the longest of all with what went on."""
        with self._lock:
            gaps = sorted(self._found, key=lambda gap: -gap.lasted_s)
        lines = [f"longest time without {self._what} (alone: no other fault was near)"]
        for kind in self._kinds:
            times_s = [self.longest_s(kind, spells, is_alone=is_alone) for is_alone in (True, False)]
            told = [f"{longest_s:5.2f} s" if longest_s else "   none" for longest_s in times_s]
            lines.append(f"  {kind:<28} {told[0]} alone, {told[1]} with others")
        lines.append("longest of all")
        told_of: set[str] = set()
        for gap in gaps:
            line = _told(gap, spells, started_at)
            names = line.partition(": ")[2]
            if names not in told_of and len(told_of) < _TOLD_MAX:
                told_of.add(names)
                lines.append(line)
        return "\n".join(lines)

    def longest_s(self, kind: Kind, spells: list[Spell], *, is_alone: bool) -> float:
        """Return the longest gap near a fault of a kind, with no other fault near or also with others; 0 without."""
        longest = 0.0
        with self._lock:
            for gap in self._found:
                near = _near(gap, spells)
                if any(spell.kind is kind for spell in near) and (len(near) == 1 or not is_alone):
                    longest = max(longest, gap.lasted_s)
        return longest

    def stalls(self, spells: list[Spell], replicas: Sequence[Sequence[str]], started_at: float) -> str:
        """Tell of gaps in which most nodes were well and nothing changed for longer than a failover may take."""
        names = sorted({name for holders in replicas for name in holders})
        with self._lock:
            found = [
                (waited_for_nothing_s(gap.began_at, gap.ended_at, spells, names, replicas[gap.partition]), gap)
                for gap in self._found
                if gap.lasted_s > STALL_S and gap.partition < len(replicas)
            ]
        found = sorted((waited_s, gap) for waited_s, gap in found if waited_s > STALL_S)
        lines = [f"{len(found)} gaps of more than {STALL_S:g} s while most nodes were well and nothing changed"]
        lines += [
            f"  {waited_s:.2f} s of {_told(gap, spells, started_at).strip()}"
            for waited_s, gap in reversed(found[-_TOLD_MAX:])
        ]
        return "\n".join(lines)


def _told(gap: Gap, spells: list[Spell], started_at: float) -> str:
    names = ", ".join(
        f"{spell} ({spell.began_at - gap.began_at:+.1f} to {spell.ended_at - gap.began_at:+.1f} s)"
        for spell in _near(gap, spells)
    )
    return f"  {gap.lasted_s:5.2f} s from {gap.began_at - started_at:.1f} s on, partition {gap.partition}: {names}"


def _near(gap: Gap, spells: list[Spell]) -> list[Spell]:
    return [
        spell for spell in spells if spell.began_at <= gap.ended_at and spell.ended_at + _AFTERMATH_S >= gap.began_at
    ]
