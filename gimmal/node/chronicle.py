"""What a node tells people of what happens to it: lines for its log, none of them too often.

A node does not print: its shell takes the lines with `take`. Whatever somebody else can bring about is told at most
once a minute for each subject, of which there are not too many either; and whatever happens, no turn of a node fills
its log: beyond `_LINES_MAX` they are only counted.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from gimmal.cluster.table import Table

Level: TypeAlias = Literal["info", "warning", "error"]

_AGAIN_AFTER_S: Final = 60.0
_SUBJECTS_MAX: Final = 256
_LINES_MAX: Final = 100
_NUMBERS_MAX: Final = 8


class Chronicle:
    """Lines for the log, and counters."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._lines: list[tuple[Level, str]] = []
        self._left_out = 0
        self._told_at: dict[str, float] = {}

    def tell(self, level: Level, text: str) -> None:
        """Tell something that happens rarely by itself."""
        if len(self._lines) < _LINES_MAX:
            self._lines.append((level, text))
        else:
            self._left_out += 1

    def tell_rarely(self, level: Level, subject: str, text: str, now: float) -> None:
        """Tell something unless this subject was told of in the last minute."""
        if subject not in self._told_at and len(self._told_at) >= _SUBJECTS_MAX:
            self._told_at = {known: at for known, at in self._told_at.items() if now - at < _AGAIN_AFTER_S}
        told_at = self._told_at.get(subject)
        if told_at is not None and now - told_at < _AGAIN_AFTER_S:
            return
        if told_at is None and len(self._told_at) >= _SUBJECTS_MAX:
            self.counters["untold"] += 1
            return
        self._told_at[subject] = now
        self.tell(level, text)

    def take(self) -> list[tuple[Level, str]]:
        """Return the lines told since the last time."""
        lines, self._lines = self._lines, []
        if self._left_out:
            lines.append(("warning", f"and {self._left_out} more lines, which are left out"))
            self._left_out = 0
        return lines


def losses(before: Table, after: Table) -> list[str]:
    """Return what a newer table says of data that is lost, or may be: a line for each kind of loss and leader."""
    lost: list[int] = []
    again: dict[str, list[int]] = {}
    for number, (old, new) in enumerate(zip(before.partitions, after.partitions, strict=True)):
        if new is old:
            continue
        if new.reset_epoch > old.reset_epoch:
            again.setdefault(new.leader or "nobody", []).append(number)
        elif new.is_lost and not old.is_lost:
            lost.append(number)
    told = [
        f"{_partitions(numbers)} began again in a new epoch, led by {leader}: what {leader} does not have is lost"
        for leader, numbers in again.items()
    ]
    if lost:
        told.append(
            f"{_partitions(lost)} lost: whoever had everything came back without it. `gimmal recover --accept-loss` "
            "lets them begin again, empty"
        )
    return told


def _partitions(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:_NUMBERS_MAX]))
    more = f" and {len(numbers) - _NUMBERS_MAX} more" if len(numbers) > _NUMBERS_MAX else ""
    return f"partition{'s' if len(numbers) > 1 else ''} {named}{more}"
