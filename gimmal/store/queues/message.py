"""A message, and what became of it in one consumer group: values that the rooms of a queue share."""

from typing import Final, NamedTuple

from gimmal.wire import limits

NACKED: Final = "nack"
REJECTED: Final = "rejected"
LEASE_OVER: Final = "lease"
VANISHED: Final = "vanished"
CAUSES: Final = (NACKED, REJECTED, LEASE_OVER, VANISHED)
"""Why a delivery failed: its handler said no, or never again; its lease ran out; its consumer's client was gone."""


class Message:
    """One message of a shard.

    `open_groups` is in how many consumer groups it is not settled, `dead_in` in how many it is a dead letter. A message
    stays as long as either is above 0.
    """

    __slots__ = ("created_ms", "dead_in", "due_ms", "group_key", "number", "open_groups", "payload")

    def __init__(self, number: int, payload: bytes, group_key: bytes, created_ms: int, due_ms: int) -> None:
        self.number = number
        self.payload = payload
        self.group_key = group_key
        self.created_ms = created_ms
        self.due_ms = due_ms  # before that it is given to nobody; 0: at once
        self.open_groups = 0
        self.dead_in = 0


class Failure(NamedTuple):
    """One counted failure of a message: who had it, which of `CAUSES`, what the handler said, and when."""

    consumer: bytes
    cause: str
    text: bytes
    at_ms: int


class Delivery:
    """A message that was given away at least once, in one group.

    While it is in flight (`is_held`), `token`, `client`, `consumer`, `request` and `lease_ms` say to whom, by which
    consume, and for how long; afterwards they are those of the last time. `lease_ms` 0 is the queue's.
    """

    __slots__ = (
        "attempts",
        "client",
        "consumer",
        "failures",
        "is_delayed",
        "is_held",
        "lease_ms",
        "request",
        "retries",
        "token",
    )

    def __init__(self) -> None:
        self.attempts = 0
        self.retries = 0
        self.token = 0
        self.client = b""
        self.consumer = b""
        self.request = 0
        self.lease_ms = 0
        self.is_held = False
        self.is_delayed = False
        self.failures: tuple[Failure, ...] = ()

    def failed(self, failure: Failure) -> None:
        """Keep a failure: the first and the newest ones."""
        self.retries += 1
        kept = (*self.failures, failure)
        if len(kept) > limits.FAILURES_MAX:
            kept = (kept[0], *kept[-limits.FAILURES_MAX + 1 :])
        self.failures = kept
