"""The clocks of a node, and when a turn reads them.

A turn has one time, by which everything in it is judged: may this read be answered under the lease, when did that
heartbeat arrive? It is read after the sockets were drained, and before anything drained is looked at. Read sooner, it
would be too early by however long the process hung in between: a read that a client sent long after another node had
taken over would be answered under a lease that had not ended *then*, and a heartbeat would count as heard before it was
sent.

`seconds` must go on while the machine is suspended, or a node that wakes up would believe in a lease of long ago.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from gimmal.types import Instant

CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_Frames = TypeVar("_Frames")


def read_clocks() -> Instant:
    """Return the two clocks of this machine; `seconds` goes on while the machine is suspended."""
    return Instant(time.clock_gettime(CLOCK), time.time_ns() // 1_000_000)


def drained(
    receive: Callable[[], tuple[_Frames, bool]], clocks: Callable[[], Instant]
) -> tuple[_Frames, bool, Instant]:
    """Return what a socket had, whether it has more, and the time of the turn that looks at it."""
    received, has_more = receive()
    return received, has_more, clocks()
