"""Runs schedules, one process per core, and tells of one that fails what it takes to see it again."""

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tests.leases.plan import draw_plan
from tests.leases.world import HASTY, World
from tests.sim.museum import Change, changed
from tests.sim.violation import Violation
from tests.small.runner import Account, Outcome
from tests.small.trace import Trace

__all__ = ["Account", "Outcome", "play", "replay", "report", "run_many", "run_one"]

PROCESSES: Final = multiprocessing.cpu_count()
_CHUNK: Final = 20


def play(seed: int, trace: Trace | None = None, without: tuple[Change, ...] = ()) -> Counter[str]:
    """Play the schedule of a seed, without some rules if so asked.

    Raises:
        Violation: something did not hold. An error in the product is one too.
    """
    with changed((HASTY, *without)):
        try:
            world = World(draw_plan(seed), trace)
            world.run()
        except Violation:
            raise
        except Exception as error:
            raise Violation("no error in a node", f"{type(error).__name__}: {error}") from error
    return world.witness.counts


def run_one(seed: int, without: tuple[Change, ...] = ()) -> Outcome:
    """Run one schedule."""
    started_s = time.process_time()
    try:
        outcome = Outcome(seed, play(seed, None, without), 0.0)
    except Violation as violation:
        outcome = Outcome(seed, Counter(), 0.0, violation.check, str(violation))
    outcome.cpu_s = time.process_time() - started_s
    return outcome


def run_many(seeds: Iterable[int], processes: int = PROCESSES) -> Iterator[Outcome]:
    """Run schedules on all cores; outcomes come in the order of the seeds."""
    if processes == 1:
        yield from map(run_one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run_one, seeds, _CHUNK)


def replay(seed: int, without: tuple[Change, ...] = (), show: Callable[[str], None] | None = None) -> tuple[str, Trace]:
    """Run a schedule again with a trace; return what it violates (empty: nothing) and the trace."""
    trace = Trace(show)
    try:
        play(seed, trace, without)
    except Violation as found:
        cause = "".join(traceback.format_exception(found.__cause__)) if found.__cause__ else ""
        return f"{found}\n{cause}".strip(), trace
    return "", trace


def report(seed: int, without: tuple[Change, ...] = (), rule: str = "") -> str:
    """Say of a schedule what it violates, what led to it, and how to see it again."""
    violation, trace = replay(seed, without)
    command = f"python -m tests.leases --seed {seed} --without {rule!r}" if rule else f"make leases SEED={seed}"
    return (
        f"{trace.tail()}\n\nseed {seed} {f'violates {violation}' if violation else 'holds'}\n"
        f"trace {trace.digest}\nreplay it with: {command}"
    )
