"""The producers and consumers of a storm over queues, and what befalls the consumers: kill -9, SIGSTOP, SIGTERM."""

import heapq
import random
import signal
import subprocess
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from gimmal.testing.processes import ProcessGroup
from tests.cluster.storm.queue_worker import CONSUMERS, PRODUCERS

KILL, STOP, END = "kill -9", "SIGSTOP", "SIGTERM and start"
_DECK: Final = (KILL, KILL, STOP, STOP, END)
_EVERY_S: Final = (0.3, 1.5)
_AWAY_MAX: Final = 5
_DOWN_S: Final = (0.2, 2.0)
_STOPPED_S: Final = (0.2, 10.0)
_END_WITHIN_S: Final = 45.0
_LOOK_AGAIN_S: Final = 0.2
_LOG_CHARACTERS: Final = 2_000


@dataclass
class Life:
    """One process: a producer, or a consumer until it ends and another one takes its place."""

    name: str
    kind: str
    journal: Path
    process: "subprocess.Popen[bytes]"
    is_ending: bool = False
    killed_at: float | None = None
    ends_by: float = float("inf")
    stops: list[tuple[float, float]] = field(default_factory=list)

    def stopped_s(self, since: float, until: float) -> float:
        """Return for how long at most it hung without a break in a stretch of time."""
        return max((min(end, until) - max(begin, since) for begin, end in self.stops), default=0.0)


class Herd:
    """All of them. Consumers come to harm between `start` and `calm`. `pace` is how much is produced, 1 for a lot."""

    def __init__(self, seeds: str, seed: int, pace: float) -> None:
        self.lives: list[Life] = []
        self.wrong: list[str] = []
        self.happened: Counter[str] = Counter()
        self._group = ProcessGroup(Path(tempfile.mkdtemp(prefix="gimmal-storm-")))
        self._seeds = seeds
        self._seed = seed
        self._pace = pace
        self._dice = random.Random(f"{seed} herd")
        self._deck: list[str] = []
        self._numbers = count(1)
        self._producers: list[Life] = []
        self._consumers: list[Life] = []
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._away: set[int] = set()
        self._is_calm = threading.Event()
        self._thread = threading.Thread(target=self._guard, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._producers = [self._launch(kind, f"p{place}", place) for place, kind in enumerate(PRODUCERS)]
        self._consumers = [self._launch(kind, f"c{place}.1", place) for place, kind in enumerate(CONSUMERS)]
        self._thread.start()

    def calm(self) -> None:
        """Leave the consumers in peace: all of them run when this returns."""
        self._is_calm.set()
        self._thread.join()
        while self._plans:
            heapq.heappop(self._plans)[2]()

    def stop_producers(self) -> None:
        """Let them end what they have begun, and wait for that."""
        self._stop(self._producers)

    def stop_consumers(self) -> None:
        """The same for consumers."""
        self._stop(self._consumers)

    def close(self) -> None:
        """End everything, journals included."""
        self._is_calm.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._group.close()

    def text(self) -> str:
        """Tell what happened."""
        return "consumers: " + ", ".join(f"{what} {self.happened[what]}" for what in (KILL, STOP, END))

    # -- processes ------------------------------------------------------------------------------------------

    def _launch(self, kind: str, name: str, number: int) -> Life:
        journal = self._group.directory / f"{name}.journal"
        arguments = [kind, name, str(number), str(self._seed), str(self._pace), self._seeds, str(journal)]
        log = self._group.directory / f"{name}.log"
        process = self._group.start_module(["tests.cluster.storm.queue_worker", *arguments], log)
        life = Life(name, kind, journal, process)
        self.lives.append(life)
        return life

    def _stop(self, some: list[Life]) -> None:
        for life in some:
            self._end(life)
        for life in some:
            try:
                status = life.process.wait(max(0.1, life.ends_by - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.wrong.append(f"{life.name} ({life.kind}) did not end within {_END_WITHIN_S:g} s of SIGTERM")
                life.killed_at = time.monotonic()
                life.process.kill()
            else:
                self._check_status(life, status)

    def _end(self, life: Life) -> None:
        life.is_ending = True
        life.ends_by = min(life.ends_by, time.monotonic() + _END_WITHIN_S)
        life.process.terminate()

    def _check_status(self, life: Life, status: int) -> None:
        if status not in (0, -signal.SIGTERM):  # the latter is one that had hardly begun
            log = (self._group.directory / f"{life.name}.log").read_text(errors="backslashreplace")
            self.wrong.append(f"{life.name} ({life.kind}) ended with {status}: {log[-_LOG_CHARACTERS:]}")

    # -- harm -----------------------------------------------------------------------------------------------

    def _guard(self) -> None:
        try:
            self._harm()
        except BaseException:  # noqa: BLE001 - whatever it is, the storm fails by it
            self.wrong.append(f"the herd: {traceback.format_exc()}")

    def _harm(self) -> None:
        next_at = time.monotonic() + self._dice.uniform(*_EVERY_S)
        while True:
            due_at = min(next_at, self._plans[0][0]) if self._plans else next_at
            if self._is_calm.wait(max(0.0, due_at - time.monotonic())):
                return
            self._check_lives()
            while self._plans and self._plans[0][0] <= time.monotonic():
                heapq.heappop(self._plans)[2]()
            if next_at <= time.monotonic():
                self._strike()
                next_at = time.monotonic() + self._dice.uniform(*_EVERY_S)

    def _check_lives(self) -> None:
        for life in (*self._producers, *self._consumers):
            if not life.is_ending and life.killed_at is None and (status := life.process.poll()) is not None:
                life.is_ending = True
                self._check_status(life, status or -1)

    def _strike(self) -> None:
        if not self._deck:
            self._deck = self._dice.sample(_DECK, len(_DECK))
        place = self._dice.choice([place for place in range(len(CONSUMERS)) if place not in self._away])
        if len(self._away) >= _AWAY_MAX:
            return
        what, life = self._deck.pop(), self._consumers[place]
        shortest, longest = _STOPPED_S if what == STOP else _DOWN_S
        lasts_s = shortest * (longest / shortest) ** self._dice.random()
        self.happened[what] += 1
        self._away.add(place)
        if what == STOP:
            life.stops.append((time.monotonic(), float("inf")))
            life.process.send_signal(signal.SIGSTOP)
            self._plan(lasts_s, lambda: self._go_on(place))
        elif what == KILL:
            life.killed_at = time.monotonic()
            life.process.kill()
            self._plan(lasts_s, lambda: self._replace(place))
        else:
            self._end(life)
            self._plan(lasts_s, lambda: self._replace(place))

    def _plan(self, after_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._plans, (time.monotonic() + after_s, next(self._numbers), act))

    def _go_on(self, place: int) -> None:
        life = self._consumers[place]
        life.process.send_signal(signal.SIGCONT)
        life.stops[-1] = life.stops[-1][0], time.monotonic()
        self._away.discard(place)

    def _replace(self, place: int) -> None:
        """Start another process in the place of one that was killed, or ends."""
        life = self._consumers[place]
        if not self._is_calm.is_set() and life.process.poll() is None and time.monotonic() < life.ends_by:
            self._plan(_LOOK_AGAIN_S, lambda: self._replace(place))  # it finishes what it has
            return
        if life.killed_at is None:
            self._stop([life])
        else:
            life.process.wait()
        number = int(life.name.partition(".")[2]) + 1
        self._consumers[place] = self._launch(life.kind, f"c{place}.{number}", place)
        self._away.discard(place)
