"""What a demonstration says and what it checks: a claim is only printed as kept when it was compared.

`check` compares what a claim expects with what came. The first that differs ends the demonstration with
`CheckFailed`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

_LOOK_EVERY_S: Final = 0.02
_BAR_WIDTH: Final = 40
_SHOWN_CHARACTERS_MAX: Final = 300


class CheckFailed(Exception):
    """A claim that did not hold: what it was, what was expected, and what came."""

    def __init__(self, claim: str, expected: object, actual: object) -> None:
        super().__init__(f"{claim}: expected {_shown(expected)}, got {_shown(actual)}")
        self.claim = claim
        self.expected = expected
        self.actual = actual


class Narrator:
    """Tells a story on a console and counts what was checked: `chapters` is (title, checks, seconds)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.checks_count = 0
        self.chapters: list[tuple[str, int, float]] = []

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """Tell a part of the story under a title."""
        self._console.print(f"\n[bold cyan]{len(self.chapters) + 1}. {escape(title)}[/]", soft_wrap=True)
        checks_before, started_at_s = self.checks_count, time.monotonic()
        yield
        seconds = time.monotonic() - started_at_s
        self.chapters.append((title, self.checks_count - checks_before, seconds))

    def say(self, text: str) -> None:
        """Print a line of the story."""
        self._console.print(f"   {escape(text)}", soft_wrap=True)

    def check(self, claim: str, expected: object, actual: object) -> None:
        """Print a claim with a tick if both are equal; raise CheckFailed if they are not."""
        self.checks_count += 1
        if actual != expected:
            raise CheckFailed(claim, expected, actual)
        self._console.print(f" [green]✓[/] {escape(claim)}", soft_wrap=True)

    def check_becomes(self, claim: str, expected: object, look: Callable[[], object], *, timeout: float) -> None:
        """Look again and again, for at most `timeout` seconds, until the claim holds; then as `check`."""
        give_up_at_s = time.monotonic() + timeout
        actual = look()
        while actual != expected and time.monotonic() < give_up_at_s:
            time.sleep(_LOOK_EVERY_S)
            actual = look()
        self.check(claim, expected, actual)

    def bars(self, counts: Mapping[str, int]) -> None:
        """Print a bar for each count."""
        most = max(counts.values(), default=0) or 1
        for name, count in counts.items():
            bar = "█" * round(_BAR_WIDTH * count / most)
            self._console.print(f"   {escape(name)}  [blue]{bar}[/] {count:,}", soft_wrap=True)

    def failed(self, failure: CheckFailed) -> None:
        """Print a claim that did not hold."""
        self._console.print(f" [bold red]✗ {escape(failure.claim)}[/]", soft_wrap=True)
        self._console.print(f"     expected: {escape(_shown(failure.expected))}", soft_wrap=True)
        self._console.print(f"     got:      {escape(_shown(failure.actual))}", soft_wrap=True)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}..."
