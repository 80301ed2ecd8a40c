"""What users of queues hold in their hands: messages, dead letters, and whose each message is."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class MessageStatus(StrEnum):
    """Where a message stands for one consumer group."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class Receipt(NamedTuple):
    """One delivery of a message: what has to be said to settle it. `token` is newer with each delivery."""

    queue: bytes
    group: bytes
    shard: int
    number: int
    token: int

    @property
    def message_id(self) -> str:
        """The id of the message, as users know it."""
        return f"{self.shard}-{self.number}"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a consumer got it; two are equal if their ids are, which are unique within a queue.

    `created_at` is when it was produced, in Unix seconds. `attempts` counts how often it was given to a consumer, this
    time included; `retry_count` how many of these failed: by a nack, a lease that ran out or a consumer that vanished.
    """

    id: str
    payload: Any = field(compare=False)
    created_at: float = field(compare=False)
    attempts: int = field(compare=False)
    retry_count: int = field(compare=False)
    status: MessageStatus = field(default=MessageStatus.IN_PROGRESS, compare=False)
    _receipt: Receipt | None = field(default=None, compare=False, repr=False)

    @property
    def token(self) -> int:
        """The fencing token of this delivery: each one in a shard has a higher one than those before; 0 without one.

        A store that a handler writes to may refuse what comes with a lower token than it has seen for this message.
        """
        return 0 if self._receipt is None else self._receipt.token


class Failure(NamedTuple):
    """One failure of a message: whose it was, why (`DeadLetter.reason`), with which words, and when (Unix seconds)."""

    consumer: str
    reason: str
    error: str
    at: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that failed too often, or was rejected; two are equal if their ids are.

    `reason` says how it failed the last time: "nack", "rejected" (a nack that asked for no other try), "lease" (it ran
    out) or "vanished" (nothing was heard of the consumer's client any more). `error` is the text that came with it and
    `consumer` who had it. Times are Unix seconds. `history` has the first failure and the newest ones.
    """

    id: str
    payload: Any = field(compare=False)
    created_at: float = field(compare=False)
    attempts: int = field(compare=False)
    retry_count: int = field(compare=False)
    reason: str = field(compare=False)
    error: str = field(compare=False)
    first_failure: float = field(compare=False)
    last_failure: float = field(compare=False)
    consumer: str = field(compare=False)
    history: tuple[Failure, ...] = field(compare=False)
    status: MessageStatus = field(default=MessageStatus.FAILED, compare=False)
