"""Runs schedules, one process per core, and tells of the first that fails everything it takes to replay it."""

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.sim.node_subject import start_node
from tests.sim.simulation import run
from tests.sim.trace import Trace
from tests.sim.violation import Violation

PROCESSES: Final = multiprocessing.cpu_count()
FOUND_SEEDS: Final = Path(__file__).with_name("found_seeds.txt")
_CHUNK: Final = 4


@dataclass
class Outcome:
    """What became of one schedule."""

    seed: int
    counts: Counter[str]
    cpu_s: float
    violation: str = ""


@dataclass
class Account:
    """What became of many schedules."""

    counts: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    seeds: int = 0
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.cpu_s += outcome.cpu_s
        self.counts += outcome.counts
        if outcome.violation:
            self.failures.append(outcome)

    def text(self) -> str:
        """The counters, and what the schedules cost."""
        width = max(map(len, self.counts), default=0)
        lines = [f"  {name:{width}}  {self.counts[name]:>12,}" for name in sorted(self.counts)]
        mean_s = self.cpu_s / max(1, self.seeds)
        return "\n".join([*lines, f"{self.seeds} schedules, {mean_s:.3f} CPU s each"])


def run_one(seed: int) -> Outcome:
    """Run one schedule."""
    started_s = time.process_time()
    try:
        counts, violation = run(seed, start_node), ""
    except Violation as found:
        counts, violation = Counter[str](), str(found)
    return Outcome(seed, counts, time.process_time() - started_s, violation)


def run_many(seeds: Iterable[int], processes: int = PROCESSES) -> Iterator[Outcome]:
    """Run schedules on all cores; outcomes come as they are done."""
    if processes == 1:
        yield from map(run_one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(run_one, seeds, _CHUNK)


def found_seeds() -> list[int]:
    """The seeds that have found something once; they always run."""
    lines = FOUND_SEEDS.read_text(encoding="utf-8").splitlines()
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


def replay(seed: int, show: Callable[[str], None] | None = None) -> tuple[str, Trace]:
    """Run a schedule again with a trace; return what it violates (empty: nothing) and the trace."""
    trace = Trace(show)
    try:
        run(seed, start_node, trace)
    except Violation as found:
        cause = "".join(traceback.format_exception(found.__cause__)) if found.__cause__ else ""
        return f"{found}\n{cause}".strip(), trace
    return "", trace


def report(outcome: Outcome) -> str:
    """Say of a failed schedule what was violated, what led to it, and how to see it again."""
    violation, trace = replay(outcome.seed)
    if not violation.startswith(outcome.violation):
        violation += f"\nNOT DETERMINISTIC: the first run of this seed said: {outcome.violation}"
    return (
        f"{trace.tail()}\n\nseed {outcome.seed} violates {violation}\n"
        f"trace {trace.digest}\nreplay it with: make sim SEED={outcome.seed}"
    )
