"""One try: writers write, a node meets a fault, writes come back, the node comes back, everything is read.

    whole cluster -> writers start -> fault -> writes are calm again -> repair -> whole again -> writers stop -> read

A gap is the time between two acknowledged writes of one writer. What a try is told by is the longest gap of those
writers whose keys the node led when it met the fault; beside it the longest of the others, and the longest of anybody
from the repair on. The gap counts from the last write before the fault, so it contains the pace of the writers (5 ms).

A write is lost if it was acknowledged and its key does not have its value afterwards.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.failover_subjects import Fault, NotWholeError, Subject
from benchmarks.failover_writers import WRITERS, Writer, is_calm, key_of, longest_gap, tag_of, value_of

TAGS = tuple(map(tag_of, range(WRITERS)))
RUN_IN_S = 0.7
CALM_S = 1.5
CALM_GAP_MAX_S = 0.5
WATCH_MIN_S = 2.5
WATCH_MAX_S = 20.0
AFTERWARDS_S = 0.5
STOP_TIMEOUT_S = 30.0
READ_BATCH = 500
LOST_SHOWN_MAX = 20
PREPARATIONS_MAX = 4


@dataclass(frozen=True, slots=True)
class Try:
    """The raw figures of one fault. Times are in seconds; `lost_shown` tells of some lost writes."""

    scenario: str
    index: int
    victim: str = ""
    is_decider: bool = False
    gap_s: float = 0.0
    others_gap_s: float = 0.0
    back_gap_s: float = 0.0
    whole_again_s: float = 0.0
    acknowledged: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    lost_shown: Sequence[str] = ()
    problem: str = ""

    @property
    def unknown_count(self) -> int:
        """Return how many attempts failed."""
        return sum(self.unknown.values())


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done to which node of which cluster, and how long writes may take to come back."""

    name: str
    title: str
    system: str
    fault: Fault
    hits_decider: bool | None = None
    """Whether the victim leads the meta group; None: as it happens."""

    median_max_s: float | None = None
    worst_max_s: float | None = None


def pick_victim(subject: Subject, scenario: Scenario, dice: random.Random) -> str:
    """Return a node that leads keys of writers, and the meta group as the scenario wants it.

    Where there is none, a node is restarted: it leads nothing afterwards, and the others lead what it led.

    Raises:
        NotWholeError: there is none even so.
    """
    for _ in range(PREPARATIONS_MAX):
        led = Counter(subject.owners([key_of(tag, 0) for tag in TAGS]))
        deciders = subject.deciders()
        fitting = sorted(
            node for node in led if scenario.hits_decider is None or (node in deciders) is scenario.hits_decider
        )
        if fitting:
            return dice.choice(fitting)
        ((busiest, _),) = led.most_common(1)
        subject.harm(Fault.KILL, busiest)
        subject.repair(Fault.KILL, busiest)
        subject.wait_whole()
    raise NotWholeError(f"leaderships did not move so that there is a node to hit; led now: {dict(led)}")


def run_try(subject: Subject, scenario: Scenario, index: int, dice: random.Random) -> Try:
    """Let one node meet a fault, and return what that cost.

    Raises:
        NotWholeError: the cluster was not whole before, or writers did not end.
    """
    subject.wait_whole()
    victim = pick_victim(subject, scenario, dice)
    writers = [Writer(tag, index, subject.put, subject.failures) for tag in TAGS]
    problem = ""
    for writer in writers:
        writer.start()
    try:
        time.sleep(RUN_IN_S)
        if victim not in subject.owners([key_of(tag, 0) for tag in TAGS]):  # leaders have spread meanwhile
            victim = pick_victim(subject, scenario, dice)
        owners = dict(zip(TAGS, subject.owners([key_of(tag, 0) for tag in TAGS]), strict=True))
        is_decider = victim in subject.deciders()
        fault_at = time.monotonic()
        subject.harm(scenario.fault, victim)
        if not wait_until_calm(writers, fault_at):
            problem = f"no steady writes within {WATCH_MAX_S:.0f} s of the fault"
        repair_at = time.monotonic()
        subject.repair(scenario.fault, victim)
        try:
            subject.wait_whole()
        except NotWholeError as error:
            problem = problem or str(error)
        whole_at = time.monotonic()
        time.sleep(AFTERWARDS_S)
    finally:
        stop_all(writers)
    ended_at = time.monotonic()

    def worst(chosen: Callable[[str], bool], start: float, end: float) -> float:
        gaps = [longest_gap(writer.times(), start, end) for writer in writers if chosen(writer.tag)]
        return max(gaps, default=0.0)

    lost = [] if problem else find_lost(subject, writers, index, fault_at)
    return Try(
        scenario=scenario.name,
        index=index,
        victim=victim,
        is_decider=is_decider,
        gap_s=worst(lambda tag: owners[tag] == victim, fault_at, repair_at),
        others_gap_s=worst(lambda tag: owners[tag] != victim, fault_at, repair_at),
        back_gap_s=worst(lambda _: True, repair_at, ended_at),
        whole_again_s=whole_at - repair_at,
        acknowledged=sum(len(writer.acknowledged) for writer in writers),
        unknown=dict(sum((writer.unknown for writer in writers), Counter())),
        lost=len(lost),
        lost_shown=lost[:LOST_SHOWN_MAX],
        problem=problem,
    )


def wait_until_calm(writers: Sequence[Writer], fault_at: float) -> bool:
    """Return when all writers have been writing steadily for a while; False when they have not in time."""
    while (now := time.monotonic()) < fault_at + WATCH_MAX_S:
        if now > fault_at + WATCH_MIN_S and all(
            is_calm(writer.times(), now, CALM_S, CALM_GAP_MAX_S) for writer in writers
        ):
            return True
        time.sleep(0.1)
    return False


def stop_all(writers: Sequence[Writer]) -> None:
    """Stop all writers.

    Raises:
        NotWholeError: a call of one has not ended long after its time.
        BaseException: whatever a writer met that no client should raise.
    """
    for writer in writers:
        writer.stop()
    for writer in writers:
        writer.join(STOP_TIMEOUT_S)
        if writer.is_alive():
            raise NotWholeError(
                f"a call of {writer.tag} has not ended in {STOP_TIMEOUT_S:.0f} s: a call without an end"
            )
        if writer.crash is not None:
            raise writer.crash


def find_lost(subject: Subject, writers: Sequence[Writer], index: int, fault_at: float) -> list[str]:
    """Read all acknowledged writes back; return a line about each that is not there, by its time from the fault."""
    found = []
    for writer in writers:
        for start in range(0, len(writer.acknowledged), READ_BATCH):
            batch = writer.acknowledged[start : start + READ_BATCH]
            values = subject.read([key_of(writer.tag, each.number) for each in batch])
            found += [
                f"{key_of(writer.tag, each.number)}: acknowledged at {each.at - fault_at:+.3f} s, reads {got!r}"
                for each, got in zip(batch, values, strict=True)
                if got != value_of(index, each.number)
            ]
    return found
