"""A rule that can be taken away, and a registry of such rules with the world whose schedules are to notice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tests.sim.museum import Change

RECOVERY: Final = "recovery"
"""The check that everything comes right in the end: losing that is less than losing what was acknowledged."""


@dataclass(frozen=True)
class Ablation:
    """A rule that can be taken away; a transcript, in `tests/transcripts`, reads otherwise without it."""

    title: str
    changes: tuple[Change, ...]
    transcript: str = ""


class Outcome(Protocol):
    """What became of a schedule: which check it violates (empty: none), and how."""

    @property
    def check(self) -> str: ...
    @property
    def text(self) -> str: ...


class Registry(NamedTuple):
    """Rules that the schedules of one world need. `run_one` plays that of a seed, without some rules."""

    title: str
    ablations: tuple[Ablation, ...]
    run_one: Callable[[int, tuple[Change, ...]], Outcome]
