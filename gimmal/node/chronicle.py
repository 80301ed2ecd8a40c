"""What a node tells people of what happens to it: lines for its log, none of them too often.

A node does not print: its shell takes the lines with `take`. Whatever somebody else can bring about is told at most
once a minute for each subject, of which there are not too many either; and whatever happens, no turn of a node fills
its log: beyond `_LINES_MAX` they are only counted.
"""

from collections import Counter
from typing import Final, Literal, TypeAlias

Level: TypeAlias = Literal["info", "warning", "error"]

_AGAIN_AFTER_S: Final = 60.0
_SUBJECTS_MAX: Final = 256
_LINES_MAX: Final = 100


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
