"""What a node tells people of what happens to it: lines for its log, none of them too often.

A node does not print: its shell takes the lines with `take`. Whatever somebody else can bring about is told at most
once a minute for each subject.
"""

from collections import Counter
from typing import Final, Literal, TypeAlias

from gimmal.wire import limits

Level: TypeAlias = Literal["info", "warning", "error"]

_AGAIN_AFTER_S: Final = 60.0


class Chronicle:
    """Lines for the log, and counters."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._lines: list[tuple[Level, str]] = []
        self._told_at: dict[str, float] = {}

    def tell(self, level: Level, text: str) -> None:
        """Tell something that happens rarely by itself."""
        self._lines.append((level, text))

    def tell_rarely(self, level: Level, subject: str, text: str, now: float) -> None:
        """Tell something unless this subject was told of in the last minute."""
        told_at = self._told_at.get(subject)
        if told_at is not None and now - told_at < _AGAIN_AFTER_S:
            return
        if len(self._told_at) >= limits.NODES_MAX:
            self._told_at.clear()
        self._told_at[subject] = now
        self._lines.append((level, text))

    def take(self) -> list[tuple[Level, str]]:
        """Return the lines told since the last time."""
        lines, self._lines = self._lines, []
        return lines
