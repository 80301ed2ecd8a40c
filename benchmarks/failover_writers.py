"""Writers that go on whatever happens, and the book of what they were told.

Each writer is a thread that sets one key after another, all with its own tag, so that all its keys have one leader.
Every key is written once in a try, and its value names the try: a write that was acknowledged and lost is found
afterwards, whatever was written later. A failed attempt is unknown: it may have been applied, so its key may have its
new value or not; it is counted, never tried again, and the writer goes on with its next key. So nothing depends on
whether a client tries again by itself.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

WRITERS = 12
PACE_S = 0.005
AFTER_FAILURE_S = 0.01

Put = Callable[[str, str], object]


class Acknowledged(NamedTuple):
    """One write that was answered: its number, and when."""

    number: int
    at: float


def tag_of(writer: int) -> str:
    """Return the tag of a writer."""
    return f"writer-{writer}"


def key_of(tag: str, number: int) -> str:
    """Return the key of the write with this number."""
    return f"{{{tag}}}:{number}"


def value_of(try_index: int, number: int) -> str:
    """Return what the write with this number writes in a try."""
    return f"{try_index}:{number}"


class Writer(threading.Thread):
    """Writes until it is stopped. `put` stores and returns, or raises one of `failures`; any other error is a bug."""

    def __init__(self, tag: str, try_index: int, put: Put, failures: tuple[type[Exception], ...]) -> None:
        super().__init__(name=tag, daemon=True)
        self.tag = tag
        self.acknowledged: list[Acknowledged] = []
        self.unknown: Counter[str] = Counter()
        self.crash: BaseException | None = None
        self._try_index = try_index
        self._put = put
        self._failures = failures
        self._is_to_stop = threading.Event()

    def run(self) -> None:
        """Write one key after another."""
        number = 0
        try:
            while not self._is_to_stop.is_set():
                try:
                    self._put(key_of(self.tag, number), value_of(self._try_index, number))
                except self._failures as failure:
                    self.unknown[type(failure).__name__] += 1
                    time.sleep(AFTER_FAILURE_S)
                else:
                    self.acknowledged.append(Acknowledged(number, time.monotonic()))
                    time.sleep(PACE_S)
                number += 1
        except BaseException as crash:  # noqa: BLE001 - it belongs to whoever joins this thread
            self.crash = crash

    def stop(self) -> None:
        """Ask it to end after the write that is under way."""
        self._is_to_stop.set()

    def times(self) -> list[float]:
        """Return when its writes were acknowledged, so far."""
        return [each.at for each in list(self.acknowledged)]


def longest_gap(times: Sequence[float], start: float, end: float) -> float:
    """Return the longest time without an acknowledged write, of those that have a part between `start` and `end`.

    Such a gap may begin before `start`, and if nothing comes any more it lasts until `end`. Times ascend.
    """
    before = [at for at in times if at <= start]
    within = [at for at in times if start < at < end]
    after = [at for at in times if at >= end]
    points = [before[-1] if before else start, *within, after[0] if after else end]
    return max(later - earlier for earlier, later in pairwise(points))


def is_calm(times: Sequence[float], now: float, window_s: float, gap_max_s: float) -> bool:
    """Tell whether writes have been acknowledged without long gaps for a while."""
    recent = [at for at in times[-int(window_s / PACE_S) :] if at > now - window_s]
    points = [now - window_s, *recent, now]
    return max(later - earlier for earlier, later in pairwise(points)) < gap_max_s
