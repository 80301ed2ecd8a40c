"""The queue rows: what is measured, and the target of each.

Targets are ratios to JetStream within one run, of the figures as they are printed: messages per second at least so
many times, microseconds per message at most so many times. A row of several lines (`parts`) is measured once.
"""

from dataclasses import dataclass
from enum import StrEnum

SYSTEMS = ("gimmal", "jetstream", "jetstream-sent", "rabbitmq", "redis")
PEERS = ("jetstream", "rabbitmq", "redis")
"""Whose servers are started; `jetstream-sent` is another client of JetStream's."""

WINDOW = 200
BATCH = 100
RATE_PER_S = 1000
IDLE_CONSUMERS = 10_000


class Unit(StrEnum):
    """What a figure counts; more is better only for messages per second."""

    MESSAGES_PER_S = "messages/s"
    US_PER_MESSAGE = "us/message"
    MS = "ms"
    PERCENT = "% of a core"


class Load(StrEnum):
    """How queue and client are driven."""

    PRODUCE = "produce"
    PRODUCE_WINDOW = "produce, many under way"
    PRODUCE_MANY = "produce_many"
    CONSUME = "consume and ack"
    CONSUME_MANY = "consume_many and ack_many"
    LATENCY = "latency"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One row; `figure_max` limits gimmal's own figure."""

    name: str
    title: str
    load: Load
    unit: Unit = Unit.MESSAGES_PER_S
    to_jetstream: float | None = None
    figure_max: float | None = None
    parts: tuple[str, ...] = ("",)

    @property
    def more_is_better(self) -> bool:
        """Tell whether a larger figure is the better one."""
        return self.unit is Unit.MESSAGES_PER_S

    @property
    def is_serial(self) -> bool:
        """Tell whether one caller waits for each answer."""
        return self.load not in (Load.PRODUCE_WINDOW, Load.LATENCY)

    @property
    def consumes(self) -> bool:
        """Tell whether consuming and acknowledging is what is timed."""
        return self.load in (Load.CONSUME, Load.CONSUME_MANY)

    @property
    def batch(self) -> int:
        """Return how many messages are consumed at a time; a round that only produces is drained in batches."""
        return 1 if self.load is Load.CONSUME else BATCH

    def title_of(self, part: int) -> str:
        """Return the title of one of its lines."""
        return f"{self.title}{self.parts[part]}"


QUEUE_ROWS = (
    QueueRow("produce", "produce, serial", Load.PRODUCE, Unit.US_PER_MESSAGE, to_jetstream=1.0),
    QueueRow("produce-200", "produce, 200 under way", Load.PRODUCE_WINDOW, to_jetstream=4.0),
    QueueRow("produce-many", "produce_many of 100", Load.PRODUCE_MANY, to_jetstream=4.0),
    QueueRow("consume", "consume + ack, serial", Load.CONSUME, Unit.US_PER_MESSAGE, to_jetstream=1.3),
    QueueRow("consume-many", "consume_many + ack_many of 100", Load.CONSUME_MANY, to_jetstream=4.0),
    QueueRow(
        "queue-latency",
        f"produce to consume at {RATE_PER_S:,} messages/s",
        Load.LATENCY,
        Unit.MS,
        parts=(", p50", ", p99"),
    ),
    QueueRow(
        "queue-idle",
        f"{IDLE_CONSUMERS:,} consumers that wait: CPU of the owner",
        Load.IDLE,
        Unit.PERCENT,
        figure_max=5.0,
    ),
)
QUEUE_ROW_BY_NAME = {row.name: row for row in QUEUE_ROWS}
