"""What a consumer says of messages it was given: ack, nack, release, extend. `gimmal.client.consuming` got them.

A delivery that has ended, because its message was given to another consumer or is a dead letter, is a `StaleLease`. So
is one whose consumer group is no more.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from gimmal.client.attendance import Attendance
from gimmal.client.queue_arguments import name_text
from gimmal.client.queue_types import Message, Receipt
from gimmal.client.shards import Shards
from gimmal.client.steps import Plan
from gimmal.client.verdicts import NoGroup
from gimmal.errors import GimmalError, InvalidArgument, StaleLease
from gimmal.types import Command
from gimmal.wire import limits
from gimmal.wire import queue_commands as wire
from gimmal.wire.queue_commands import Outcome

_DOING: Final = {wire.ACK: "ack", wire.NACK: "nack", wire.RELEASE: "release", wire.EXTEND: "extend"}


def receipt_of(shards: Shards, at: Attendance, message: Message | str) -> Receipt:
    """Return the delivery of a message, or of an id that this client holds.

    Raises:
        InvalidArgument: the client does not hold it, or it is of another queue.
    """
    if isinstance(message, Message):
        receipt = message._receipt
        if receipt is None:
            raise InvalidArgument(f"message {message.id!r} was not consumed: only what was can be settled")
        if receipt.queue != shards.place.name:
            raise InvalidArgument(
                f"message {message.id!r} is of queue {name_text(receipt.queue)!r}, not of {shards.name!r}"
            )
        return receipt
    if not isinstance(message, str):
        raise TypeError(f"expected a Message or the id of one, not {type(message).__name__}")
    found = at.find(shards.place.name, message)
    if not found:
        raise InvalidArgument(f"this client holds no message {message!r} of queue {shards.name!r}")
    if len(found) > 1:
        groups = ", ".join(repr(name_text(receipt.group)) for receipt in found)
        raise InvalidArgument(f"this client holds {message!r} in groups {groups}: name it by its Message")
    return found[0]


def receipts_of(shards: Shards, at: Attendance, messages: Iterable[Message | str]) -> list[Receipt]:
    """Return the deliveries of several messages or ids."""
    if isinstance(messages, str | Message):
        raise TypeError(f"expected several messages, not the one message {messages!r}")
    return [receipt_of(shards, at, message) for message in messages]


def settle(
    shards: Shards, at: Attendance, code: int, receipts: Sequence[Receipt], *details: object
) -> Plan[dict[str, GimmalError]]:
    """Say ACK, NACK, RELEASE or EXTEND of deliveries; return what failed, by message id."""
    known = yield from shards.declared(at)
    batches: dict[tuple[int, bytes], list[Receipt]] = {}
    for receipt in dict.fromkeys(receipts):
        batches.setdefault((receipt.shard, receipt.group), []).append(receipt)
    wanted: list[tuple[int, Command]] = []
    asked: list[list[Receipt]] = []
    for (shard, group), alike in batches.items():
        for start in range(0, len(alike), limits.DELIVERIES_MAX):
            batch = alike[start : start + limits.DELIVERIES_MAX]
            deliveries = tuple((receipt.number, receipt.token) for receipt in batch)
            wanted.append((shard, (code, group, deliveries, *details)))
            asked.append(batch)
    failed: dict[str, GimmalError] = {}
    answers = (yield from shards.survey(at, known, wanted)) if wanted else []
    for batch, answer in zip(asked, answers, strict=True):
        for index, receipt in enumerate(batch):
            if isinstance(answer, GimmalError) and type(answer) is not NoGroup:
                failed[receipt.message_id] = answer
                continue
            if type(answer) is NoGroup or answer[index] == Outcome.STALE:
                failed[receipt.message_id] = _stale(shards, code, receipt)
                at.let_go(receipt)
            elif code != wire.EXTEND:
                at.let_go(receipt)
    return failed


def settle_one(shards: Shards, at: Attendance, code: int, receipt: Receipt, *details: object) -> Plan[None]:
    """Say it of one delivery; raises what fails."""
    failed = yield from settle(shards, at, code, [receipt], *details)
    for error in failed.values():
        raise error


def ack_many(shards: Shards, at: Attendance, receipts: Sequence[Receipt]) -> Plan[None]:
    """Acknowledge deliveries. An error carries `done`, the ids acknowledged, and `failed` (id -> error)."""
    failed = yield from settle(shards, at, wire.ACK, receipts)
    if failed:
        error = next(iter(failed.values()))
        error.done = [receipt.message_id for receipt in receipts if receipt.message_id not in failed]
        error.failed = failed
        raise error


def extend(shards: Shards, at: Attendance, receipt: Receipt, lease_ms: int) -> Plan[None]:
    """Let a delivery last for `lease_ms` from now on."""
    yield from settle_one(shards, at, wire.EXTEND, receipt, lease_ms)
    at.hold(receipt, shards.place.key(receipt.shard), lease_ms / 1000)


def _stale(shards: Shards, code: int, receipt: Receipt) -> StaleLease:
    return StaleLease(
        f"{_DOING[code]} of message {receipt.message_id!r} of queue {shards.name!r}: it is not yours any more; it was "
        "given to another consumer, or is a dead letter"
    )
