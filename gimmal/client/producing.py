"""How messages get into a queue: which shard each goes to, and what travels together.

A message with a group key goes to the shard of that key, so that its group stays in order; else one with a dedup id to
the shard of that, which remembers it; all others take turns. What goes to one shard is cut into commands of at most
1,000 messages and 4 MiB, and a shard gets the next one when it has taken the one before: its messages keep their order.
"""

from binascii import crc_hqx
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from gimmal.client.attendance import Attendance
from gimmal.client.queue_arguments import delay_to_ms, key_bytes
from gimmal.client.shards import Known, Shards
from gimmal.client.steps import Plan
from gimmal.client.values import Values
from gimmal.errors import GimmalError
from gimmal.types import Command
from gimmal.wire import limits
from gimmal.wire import queue_commands as wire

_BYTES_AT_ONCE: Final = 4 * 1024 * 1024

Sent: TypeAlias = tuple[bytes, bytes, bytes]
"""A message as it travels: payload, group key, dedup id; the keys are empty when there are none."""


def one(values: Values, payload: Any, delay: float, group_key: Any, dedup_id: Any) -> tuple[int, Sent]:
    """Return (delay in ms, message) of what is to be produced, checked."""
    message = values.encode(payload), key_bytes("group_key", group_key), key_bytes("dedup_id", dedup_id)
    return delay_to_ms(delay), message


def many(values: Values, payloads: Iterable[Any], delay: float, group_key: Any) -> tuple[int, list[Sent]]:
    """Return the same for several."""
    if isinstance(payloads, str | bytes | dict):
        raise TypeError(f"expected several payloads, not the one payload {payloads!r}")
    key = key_bytes("group_key", group_key)
    return delay_to_ms(delay), [(values.encode(payload), key, b"") for payload in payloads]


def produce(shards: Shards, at: Attendance, delay_ms: int, message: Sent) -> Plan[str]:
    """Put one message in; return its id."""
    known = yield from shards.declared(at)
    shard = _shard_of(known, message)
    (numbers,) = yield from shards.ask(at, known, [(shard, (wire.PRODUCE, delay_ms, (message,)))])
    return f"{shard}-{numbers[0]}"


def produce_many(shards: Shards, at: Attendance, delay_ms: int, messages: list[Sent]) -> Plan[list[str]]:
    """Put messages in; return their ids in the order given.

    An error carries `done` and `failed`: the ids, and the errors, by the index of the message.
    """
    known = yield from shards.declared(at)
    indexes_by_shard: dict[int, list[int]] = {}
    for index, message in enumerate(messages):
        indexes_by_shard.setdefault(_shard_of(known, message), []).append(index)
    batches = {shard: list(_batches(messages, indexes)) for shard, indexes in indexes_by_shard.items()}
    ids: dict[int, str] = {}
    failed: dict[int, GimmalError] = {}
    while batches:
        now = {shard: left.pop(0) for shard, left in batches.items()}
        wanted: list[tuple[int, Command]] = [
            (shard, (wire.PRODUCE, delay_ms, tuple(messages[index] for index in batch))) for shard, batch in now.items()
        ]
        answers = yield from shards.survey(at, known, wanted)
        for (shard, batch), answer in zip(now.items(), answers, strict=True):
            if isinstance(answer, GimmalError):
                failed |= dict.fromkeys([*batch, *(index for later in batches[shard] for index in later)], answer)
                batches[shard] = []
            else:
                ids |= {index: f"{shard}-{number}" for index, number in zip(batch, answer, strict=True)}
        batches = {shard: left for shard, left in batches.items() if left}
    if failed:
        error = failed[min(failed)]
        error.done, error.failed = dict(sorted(ids.items())), dict(sorted(failed.items()))
        raise error
    return [ids[index] for index in range(len(messages))]


def _shard_of(known: Known, message: Sent) -> int:
    _, group_key, dedup_id = message
    key = group_key or dedup_id
    return (crc_hqx(key, 0) if key else known.next_turn()) % known.count


def _batches(messages: list[Sent], indexes: list[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    size_bytes = 0
    for index in indexes:
        message_bytes = sum(map(len, messages[index])) + wire.MESSAGE_BYTES
        if batch and (len(batch) >= limits.PRODUCE_MAX or size_bytes + message_bytes > _BYTES_AT_ONCE):
            yield batch
            batch, size_bytes = [], 0
        batch.append(index)
        size_bytes += message_bytes
    if batch:
        yield batch
