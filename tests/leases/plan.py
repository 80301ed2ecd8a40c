"""What is drawn for a schedule before it begins: clocks, network, and how often what goes wrong.

Schedules differ in kind, not only in order (swarm testing). Delays are short in most of them: what is left of a rule
that is half kept is often a window of a few milliseconds.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from gimmal.cluster.lease import DRIFT_MAX

NAMES: Final = "abcd"

REFUSE: Final = "refuse"
ELECT: Final = "elect"
PAUSE: Final = "pause"
CUT: Final = "cut"
CUT_TABLES: Final = "cut tables"
DEPOSE: Final = "depose"
HAND_OVER: Final = "hand over"
DRIFT: Final = "drift"
STALL: Final = "stall"

_TYPICAL: Final = {
    REFUSE: (1.0, 2.0),
    ELECT: (0.0, 0.3, 0.8),
    PAUSE: (0.0, 0.4, 1.0),
    CUT: (0.0, 0.5),
    CUT_TABLES: (0.0, 0.3, 0.6),
    DEPOSE: (0.0, 0.5, 1.5),
    HAND_OVER: (0.0, 0.4, 1.0),
    DRIFT: (0.0, 0.3),
    STALL: (0.0, 0.5, 1.5),
}


@dataclass(frozen=True)
class Plan:
    """The choices of one seed. Times are seconds; `weights` say what goes wrong, every `fault_every_s` on average."""

    seed: int
    rates: tuple[float, ...]
    origins_s: tuple[float, ...]
    delay_least_s: float
    delay_mean_s: float
    loss: float
    weights: dict[str, float]
    fault_every_s: float
    lasts_s: float = 9.0


def draw_plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    dice = Random(f"leases {seed}")
    extremes = dice.choice(((1.0,), (1 - DRIFT_MAX, 1 + DRIFT_MAX), (1 - DRIFT_MAX, 1 + DRIFT_MAX)))
    least, mean = dice.choice(((0.0002, 0.0001), (0.0002, 0.0001), (0.001, 0.002), (0.005, 0.02)))
    return Plan(
        seed,
        rates=tuple(dice.choice(extremes) for _ in NAMES),
        origins_s=tuple(dice.uniform(0, 1e5) for _ in NAMES),
        delay_least_s=least,
        delay_mean_s=mean,
        loss=dice.choice((0.0, 0.0, 0.05)),
        weights={kind: dice.choice(choices) for kind, choices in _TYPICAL.items()},
        fault_every_s=dice.choice((0.15, 0.3, 0.6)),
    )
