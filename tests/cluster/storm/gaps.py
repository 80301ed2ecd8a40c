"""For how long nothing could be written: by partition, and by what was wrong with the cluster meanwhile.

It is information and asserts nothing: how long a gap may be depends on what else the machine does.
"""

from threading import Lock
from typing import Final, NamedTuple

from tests.cluster.storm.plan import Kind

_WORTH_TELLING_S: Final = 0.5
_AFTERMATH_S: Final = 2.0


class Spell(NamedTuple):
    """A fault as it happened, in seconds of `time.monotonic`. `name` says what, and to whom."""

    kind: Kind
    name: str
    began_at: float
    ended_at: float


class Gap(NamedTuple):
    """From one acknowledged write of a partition to the next."""

    partition: int
    began_at: float
    ended_at: float

    @property
    def lasted_s(self) -> float:
        return self.ended_at - self.began_at


class Gaps:
    """The gaps of all partitions, from one writer each. Times are of `time.monotonic`."""

    def __init__(self) -> None:
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

    def text(self, spells: list[Spell], started_at: float) -> str:
        """Tell the longest gap of each kind of fault, and the longest of all with what went on."""
        with self._lock:
            gaps = sorted(self._found, key=lambda gap: -gap.lasted_s)
        lines = ["longest time without an acknowledged write of a partition (alone: no other fault was near)"]
        for kind in Kind:
            near = [gap for gap in gaps if any(spell.kind is kind for spell in _near(gap, spells))]
            alone = [gap for gap in near if len(_near(gap, spells)) == 1]
            told = [f"{found[0].lasted_s:5.2f} s" if found else "   none" for found in (alone, near)]
            lines.append(f"  {kind:<28} {told[0]} alone, {told[1]} with others")
        lines.append("longest of all")
        told_of: set[str] = set()
        for gap in gaps:
            names = ", ".join(
                f"{spell.name} ({spell.began_at - gap.began_at:+.1f} to {spell.ended_at - gap.began_at:+.1f} s)"
                for spell in _near(gap, spells)
            )
            if names not in told_of and len(told_of) < 8:
                told_of.add(names)
                at_s = gap.began_at - started_at
                lines.append(f"  {gap.lasted_s:5.2f} s from {at_s:.1f} s on, partition {gap.partition}: {names}")
        return "\n".join(lines)


def _near(gap: Gap, spells: list[Spell]) -> list[Spell]:
    return [
        spell for spell in spells if spell.began_at <= gap.ended_at and spell.ended_at + _AFTERMATH_S >= gap.began_at
    ]
