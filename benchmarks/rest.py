"""What a cluster costs while nobody uses it: the CPU time of its nodes at rest.

The nodes of a fresh cluster are left alone for a moment, so that founding and elections are over; then their CPU time
is read before and after a quiet while. No client is connected. The figure is the mean share of one core per node, in
percent: gossip, heartbeats and the meta group's log are all that they do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.processes import TICKS_PER_S, cpu_seconds
from benchmarks.stores import System

SETTLE_S = 5.0
STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Rest:
    """The raw figures of one system: CPU seconds of all its nodes together in so many seconds."""

    system: str
    nodes: int
    elapsed_s: float
    cpu_s: float

    @property
    def percent_per_node(self) -> float:
        """Return the share of a core, not below what the kernel's clock tick can tell from nothing."""
        cpu_s = max(self.cpu_s, 1 / TICKS_PER_S)
        return 100 * cpu_s / self.elapsed_s / self.nodes


def measure_rest(system: System, seconds: int, advance: Callable[[int], None]) -> Rest:
    """Watch a cluster do nothing for some seconds; `advance` is told of each."""
    time.sleep(SETTLE_S)
    before_s = cpu_seconds(system.node_pids)
    started = time.perf_counter()
    for _ in range(seconds):
        time.sleep(STEP_S)
        advance(1)
    elapsed_s = time.perf_counter() - started
    return Rest(system.name, len(system.node_pids), elapsed_s, cpu_seconds(system.node_pids) - before_s)
