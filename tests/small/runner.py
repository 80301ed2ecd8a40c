"""How a schedule of the small world is played, and those that have found something."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gimmal.replication import stream, transfer
from gimmal.replication.log import Log
from tests.sim.museum import Change, changed
from tests.small.ablation import RECOVERY
from tests.small.ledger import Forgotten
from tests.small.plan import Plan, draw_plan
from tests.small.recovery import recover
from tests.small.schedules import Outcome, Schedules
from tests.small.trace import Trace
from tests.small.world import World

FOUND_SEEDS: Final = Path(__file__).with_name("found_seeds.txt")


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
        Violation: something did not hold.
    """
    plan, forgotten = draw_plan(seed), Forgotten()
    with changed(((Log, "forget", forgotten.watch), *_sizes(plan), *without)):
        world = World(plan, forgotten, trace)
        world.run()
        recover(world)
    return world.counts


SCHEDULES: Final = Schedules("tests.small", play)


def first_catch(changes: tuple[Change, ...], seeds: Iterable[int]) -> Outcome | None:
    """Take a rule away; return the first schedule after which something is wrong, not only stuck."""
    outcomes = (SCHEDULES.run_one(seed, changes) for seed in seeds)
    return next((outcome for outcome in outcomes if outcome.check not in ("", RECOVERY)), None)


def found_seeds() -> list[int]:
    """The seeds that have found something once; they always run."""
    lines = FOUND_SEEDS.read_text(encoding="utf-8").splitlines()
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]
