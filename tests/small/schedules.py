"""The schedules of a small world: run on all cores, counted, and what it takes to see one that fails again."""

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.sim.museum import Change
from tests.sim.violation import Violation
from tests.small.trace import Trace

_CHUNK: Final = 20
_TELLS_EVERY_S: Final = 10.0

Play: TypeAlias = Callable[[int, Trace | None, tuple[Change, ...]], Counter[str]]
"""Plays the schedule of a seed, without some rules if so asked; raises `Violation` if something does not hold."""


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


@dataclass(frozen=True)
class Schedules:
    """Those of the world with the command line `python -m package`. `play` is a module's function, for processes."""

    package: str
    play: Play

    def run_one(self, seed: int, without: tuple[Change, ...] = ()) -> Outcome:
        """Run one schedule. An error in the product is a violation, too."""
        started_s = time.process_time()
        try:
            outcome = Outcome(seed, self._play(seed, None, without), 0.0)
        except Violation as violation:
            outcome = Outcome(seed, Counter(), 0.0, violation.check, str(violation))
        outcome.cpu_s = time.process_time() - started_s
        return outcome

    def _play(self, seed: int, trace: Trace | None, without: tuple[Change, ...]) -> Counter[str]:
        try:
            return self.play(seed, trace, without)
        except Violation:
            raise
        except Exception as error:
            raise Violation("no error in a node", f"{type(error).__name__}: {error}") from error

    def run_many(self, seeds: Iterable[int]) -> Iterator[Outcome]:
        """Run schedules on all cores; outcomes come in the order of the seeds."""
        with multiprocessing.get_context("spawn").Pool() as pool:
            yield from pool.imap(self.run_one, seeds, _CHUNK)

    def replay(
        self, seed: int, without: tuple[Change, ...] = (), show: Callable[[str], None] | None = None
    ) -> tuple[str, Trace]:
        """Run a schedule again with a trace; return what it violates (empty: nothing) and the trace."""
        trace = Trace(show)
        try:
            self._play(seed, trace, without)
        except Violation as found:
            cause = "".join(traceback.format_exception(found.__cause__)) if found.__cause__ else ""
            return f"{found}\n{cause}".strip(), trace
        return "", trace

    def report(self, seed: int, without: tuple[Change, ...] = (), rule: str = "") -> str:
        """Say of a schedule what it violates, what led to it, and how to see it again."""
        violation, trace = self.replay(seed, without)
        flag = f" --without {rule!r}" if rule else ""
        return (
            f"{trace.tail()}\n\nseed {seed} {f'violates {violation}' if violation else 'holds'}\n"
            f"trace {trace.digest}\nreplay it with: python -m {self.package} --seed {seed}{flag}"
        )

    # -- for command lines ----------------------------------------------------------------------------------------

    def tell_one(self, seed: int, without: tuple[Change, ...], rule: str, *, with_trace: bool) -> int:
        """Print what becomes of a schedule; return 1 if something is violated."""
        if with_trace:
            self.replay(seed, without, print)
        print(self.report(seed, without, rule))
        return 1 if self.run_one(seed, without).check else 0

    def tell_many(self, first: int, count: int) -> int:
        """Print what becomes of so many schedules, and how they get on; return 1 if something is violated."""
        account, failures = Account(), []
        told_s = time.monotonic()
        for outcome in self.run_many(range(first, first + count)):
            account.add(outcome)
            if outcome.check:
                failures.append(outcome)
                print(f"seed {outcome.seed} violates {outcome.text}", flush=True)
            if time.monotonic() - told_s >= _TELLS_EVERY_S:
                told_s = time.monotonic()
                print(f"{account.seeds}/{count} schedules, {len(failures)} violated", flush=True)
        print(account.text())
        if failures:
            print(self.report(failures[0].seed))
        return 1 if failures else 0
