"""Runs schedules, one process per core, and tells of one that fails what it takes to see it again."""

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gimmal.replication import stream, transfer
from gimmal.replication.log import Log
from tests.sim.museum import Change, changed
from tests.sim.violation import Violation
from tests.small.ablation import RECOVERY
from tests.small.ledger import Forgotten
from tests.small.plan import Plan, draw_plan
from tests.small.recovery import recover
from tests.small.trace import Trace
from tests.small.world import World

PROCESSES: Final = multiprocessing.cpu_count()
FOUND_SEEDS: Final = Path(__file__).with_name("found_seeds.txt")
_CHUNK: Final = 50


@dataclass
class Outcome:
    """What became of one schedule."""

    seed: int
    counts: Counter[str]
    cpu_s: float
    check: str = ""
    text: str = ""


@dataclass
class Account:
    """What became of many."""

    counts: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    seeds: int = 0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.cpu_s += outcome.cpu_s
        self.counts += outcome.counts

    def text(self) -> str:
        counted = ", ".join(f"{name} {count:,}" for name, count in sorted(self.counts.items()))
        return f"{counted}\n{self.seeds} schedules, {1000 * self.cpu_s / max(1, self.seeds):.2f} CPU ms each"


def _sizes(plan: Plan) -> tuple[Change, ...]:
    """The sizes of messages in a plan, in the place of the product's."""
    sizes = (
        (transfer, "CHUNK_BYTES", plan.chunk_bytes),
        (stream, "PORTION_BYTES", plan.portion_bytes),
        (stream, "CREDIT_BYTES", plan.credit_bytes),
    )
    return tuple((module, name, lambda _, size=size: size) for module, name, size in sizes)


def play(seed: int, trace: Trace | None = None, without: tuple[Change, ...] = ()) -> Counter[str]:
    """Play the schedule of a seed, without some rules if so asked.

    Raises:
        Violation: something did not hold. An error in the product is one too.
    """
    plan, forgotten = draw_plan(seed), Forgotten()
    with changed(((Log, "forget", forgotten.watch), *_sizes(plan), *without)):
        try:
            world = World(plan, forgotten, trace)
            world.run()
            recover(world)
        except Violation:
            raise
        except Exception as error:
            raise Violation("no error in a node", f"{type(error).__name__}: {error}") from error
    return world.counts


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


def first_catch(changes: tuple[Change, ...], seeds: Iterable[int]) -> Outcome | None:
    """Take a rule away; return the first schedule after which something is wrong, not only stuck."""
    outcomes = (run_one(seed, changes) for seed in seeds)
    return next((outcome for outcome in outcomes if outcome.check not in ("", RECOVERY)), None)


def found_seeds() -> list[int]:
    """The seeds that have found something once; they always run."""
    lines = FOUND_SEEDS.read_text(encoding="utf-8").splitlines()
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


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
    flag = f" --without {rule!r}" if rule else ""
    return (
        f"{trace.tail()}\n\nseed {seed} {f'violates {violation}' if violation else 'holds'}\n"
        f"trace {trace.digest}\nreplay it with: python -m tests.small --seed {seed}{flag}"
    )
