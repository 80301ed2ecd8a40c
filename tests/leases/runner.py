"""How a schedule of the leases' world is played."""

from collections import Counter
from typing import Final

from tests.leases.plan import draw_plan
from tests.leases.world import HASTY, World
from tests.sim.museum import Change, changed
from tests.small.schedules import Schedules
from tests.small.trace import Trace


def play(seed: int, trace: Trace | None = None, without: tuple[Change, ...] = ()) -> Counter[str]:
    """Play the schedule of a seed, without some rules if so asked.

    Raises:
        Violation: something did not hold.
    """
    with changed((HASTY, *without)):
        world = World(draw_plan(seed), trace)
        world.run()
    return world.witness.counts


SCHEDULES: Final = Schedules("tests.leases", play)
