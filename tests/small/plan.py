"""What is drawn for a schedule before it begins: how often what happens, and how bad the network is.

Schedules differ in kind, not only in order (swarm testing): one has no crashes and many retries, the next a tiny log,
so that every follower that falls behind needs a snapshot. Sizes are far below those of the product, so that a few
entries already make several messages, several chunks and forgotten logs.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

NAMES: Final = "abcd"
FIVE: Final = "abcde"
HOLDERS: Final = ("abc", "bcd", "cda", "dab")
STEPS: Final = 450

WRITE: Final = "write"
DELIVER: Final = "deliver"
TURN: Final = "turn"
LEARN: Final = "learn"
READ: Final = "read"
FENCE: Final = "fence"
CRASH: Final = "crash"
CUT: Final = "cut"
CLOSE: Final = "close"
AUDIT: Final = "audit"


@dataclass(frozen=True)
class Plan:
    """The choices of one seed. Sizes are in bytes; `turn_after` is how likely a node has a turn after a message."""

    seed: int
    names: str
    holders: tuple[str, ...]
    weights: dict[str, float]
    loss: float
    duplicates: float
    is_fifo: bool
    pace_s: float
    turn_after: float
    log_bytes: int
    chunk_bytes: int
    portion_bytes: int
    credit_bytes: int
    steps: int = STEPS


def draw_plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    dice = Random(seed)
    pick = dice.choice
    weights = {
        WRITE: pick((4, 10, 20)),
        DELIVER: pick((40, 70)),
        TURN: pick((10, 25)),
        LEARN: pick((2, 8, 20)),
        READ: pick((1, 4)),
        FENCE: pick((0, 0.7, 3)),
        CRASH: pick((0, 0.5, 1.5)),
        CUT: pick((0, 0.5, 2)),
        CLOSE: pick((0, 1, 4)),
        AUDIT: 1.0,
    }
    first = dice.randrange(len(HOLDERS))
    count = pick((1, 1, 2))
    holders = tuple(HOLDERS[(first + number) % len(HOLDERS)] for number in range(count))
    is_wide = dice.random() < 0.15  # one partition with five copies, of which three are enough
    return Plan(
        seed,
        FIVE if is_wide else NAMES,
        (FIVE,) if is_wide else holders,
        weights,
        loss=pick((0.0, 0.03, 0.15)),
        duplicates=pick((0.0, 0.1, 0.3)),
        is_fifo=dice.random() < 0.4,
        pace_s=pick((0.002, 0.01, 0.03)),
        turn_after=pick((0.3, 0.8, 1.0)),
        log_bytes=pick((400, 1_500, 5_000, 1 << 20)),
        chunk_bytes=pick((60, 150, 128 * 1024)),
        portion_bytes=pick((200, 800, 128 * 1024)),
        credit_bytes=pick((1_000, 4 * 1024 * 1024)),
    )
