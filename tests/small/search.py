"""Looks for the first schedule that notices a missing rule."""

import time
from typing import NamedTuple

from tests.small import runner
from tests.small.ablations import BY_TITLE


class Search(NamedTuple):
    """A rule to be taken away, and where and for how long to look for a schedule that notices."""

    title: str
    first: int
    within_s: float


def look_for(search: Search) -> str:
    """Look for the first schedule that notices a missing rule; return a line for people."""
    changes = BY_TITLE[search.title].changes
    started_s = time.process_time()
    seed = search.first
    while time.process_time() - started_s < search.within_s:
        outcome = runner.run_one(seed, changes)
        if outcome.check:
            return f"{search.title:48} caught by schedule {seed - search.first + 1:6}, seed {seed}: {outcome.text}"
        seed += 1
    return f"{search.title:48} not caught by {seed - search.first} schedules"
