"""Looks for the first schedule that notices a missing rule."""

import time
from typing import NamedTuple

from tests.small import runner
from tests.small.ablations import BY_TITLE

RECOVERY = "recovery"


class Search(NamedTuple):
    """A rule to be taken away, and where and for how long (CPU seconds) to look for a schedule that notices."""

    title: str
    first: int
    within_s: float


def look_for(search: Search) -> str:
    """Return a line for people about the first schedule that notices a missing rule.

    One after which something is wrong counts for more than one after which something only does not go on.
    """
    changes = BY_TITLE[search.title].changes
    started_s = time.process_time()
    seed, stuck = search.first, ""
    while time.process_time() - started_s < search.within_s:
        outcome = runner.run_one(seed, changes)
        found = f"by schedule {seed - search.first + 1:6}, seed {seed}: {outcome.text}"
        seed += 1
        if outcome.check and outcome.check != RECOVERY:
            return f"{search.title:48} caught {found}"
        if outcome.check and not stuck:
            stuck = f"; liveness lost {found}"
    return f"{search.title:48} not caught by {seed - search.first} schedules{stuck}"
