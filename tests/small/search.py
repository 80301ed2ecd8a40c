"""Looks for the first schedule that notices a missing rule."""

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.small.ablation import RECOVERY
from tests.small.registries import REGISTRY_BY_TITLE, RULES


class Search(NamedTuple):
    """A rule to be taken away, and where and for how long (CPU seconds) to look for a schedule that notices."""

    registry: str
    title: str
    first: int
    within_s: float


@dataclass
class Found:
    """What came of it: which schedule, counted from 1, was the first to notice, its seed, and what it saw.

    One after which something is wrong counts for more than one after which something only does not go on (`is_stuck`):
    that counts if there is no other. `schedules` have been played in all, in so many CPU seconds.
    """

    title: str
    schedules: int = 0
    cpu_s: float = 0.0
    place: int = 0
    seed: int = 0
    text: str = ""
    is_stuck: bool = False

    def line(self) -> str:
        """Return it for people."""
        where = f"by schedule {self.place:6,}, seed {self.seed}: {self.text}"
        if not self.place:
            return f"{self.title:52} not caught by {self.schedules:,} schedules"
        if self.is_stuck:
            return f"{self.title:52} not caught by {self.schedules:,} schedules; liveness lost {where}"
        return f"{self.title:52} caught {where}"


def look_for(search: Search) -> Found:
    """Play schedules without a rule until one notices, or time is over."""
    run_one, changes = REGISTRY_BY_TITLE[search.registry].run_one, RULES[search.title].changes
    started_s = time.process_time()
    found, seed = Found(search.title), search.first
    while found.cpu_s < search.within_s:
        outcome = run_one(seed, changes)
        found.schedules += 1
        found.cpu_s = time.process_time() - started_s
        is_stuck = outcome.check == RECOVERY
        if outcome.check and not (is_stuck and found.place):
            found.place, found.seed, found.text, found.is_stuck = found.schedules, seed, outcome.text, is_stuck
            if not is_stuck:
                break
        seed += 1
    return found


def look_for_all(registries: Iterable[str], first: int, within_s: float) -> Iterator[Found]:
    """Do so for all rules of some registries, on all cores; they come in their order."""
    searches = [
        Search(title, ablation.title, first, within_s)
        for title in registries
        for ablation in REGISTRY_BY_TITLE[title].ablations
    ]
    with multiprocessing.get_context("spawn").Pool() as pool:
        yield from pool.imap(look_for, searches)
