"""The commands of a queue shard: their codes, their shapes, and the check of what a client sent.

A queue is one or more shards; each is placed like a key, and that key is the first argument of every command here.
Messages are numbers within their shard, and a delivery is a pair `(number, token)`: the token is the sequence number
of the log entry that gave the message away, so a later delivery has a higher one. Times are integer milliseconds.

    QUEUE_STATS   shard, group                               -> counts (`Group.counts` of `gimmal.store`)
    DEAD_LETTERS  shard, group, limit                        -> letters (its `queues.handlers`)
    QUEUE_GROUPS  shard                                      -> names of groups
    CONSUME       shard, group, who, request, (count, wait_ms, lease_ms)
                                                             -> deliveries, none when `wait_ms` are over
    CANCEL        shard, group, client, request              -> number of messages that consume had got

    DECLARE       shard, settings                            -> the settings, those that were None filled in
    PRODUCE       shard, delay_ms, messages                  -> numbers            message: payload, group key, dedup id
    ACK           shard, group, deliveries                   -> an `Outcome` each
    NACK          shard, group, deliveries, (requeue, delay_ms | None), reason     -> an `Outcome` each
    RELEASE       shard, group, deliveries                   -> an `Outcome` each
    EXTEND        shard, group, deliveries, lease_ms         -> an `Outcome` each
    REDRIVE       shard, group, limit                        -> number of messages
    PURGE         shard, group, limit                        -> number of messages
    CREATE_GROUP  shard, group                               -> whether it is new
    DELETE_GROUP  shard, group                               -> whether it was there

`who` is `(client, consumer)`: 16 bytes that a client has drawn for itself, and the name a user gave to a consumer.
CONSUME and CANCEL are not logged as they are: the leader lets a consume wait until there is something to give, and then
logs a command of its own. These it never takes from a client:

    GRANT         shard, group, who, request, (count, lease_ms)   -> deliveries
    GIVE_BACK     shard, group, client, request              -> number of messages that this consume had got
    LEASE_END     shard, group, deliveries                   -> number of deliveries ended
    VANISH        shard, client, is_counted                  -> number of deliveries ended
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from gimmal.types import Command
from gimmal.wire import limits

QUEUE_STATS: Final = 6
DEAD_LETTERS: Final = 7
QUEUE_GROUPS: Final = 8
CONSUME: Final = 9
CANCEL: Final = 10
DECLARE: Final = 40
PRODUCE: Final = 41
ACK: Final = 42
NACK: Final = 43
RELEASE: Final = 44
EXTEND: Final = 45
REDRIVE: Final = 46
PURGE: Final = 47
CREATE_GROUP: Final = 48
DELETE_GROUP: Final = 49
GRANT: Final = 68
GIVE_BACK: Final = 69
LEASE_END: Final = 70
VANISH: Final = 71

FOR_READING: Final = frozenset([QUEUE_STATS, DEAD_LETTERS, QUEUE_GROUPS])
FOR_CONSUMERS: Final = frozenset([CONSUME, CANCEL])
SETTLING: Final = frozenset([ACK, NACK, RELEASE, EXTEND])
OWN: Final = frozenset([GRANT, GIVE_BACK, LEASE_END, VANISH])
CODES: Final = (
    FOR_READING | FOR_CONSUMERS | SETTLING | OWN | {DECLARE, PRODUCE, REDRIVE, PURGE, CREATE_GROUP, DELETE_GROUP}
)

CLIENT_BYTES: Final = 16


class Outcome(IntEnum):
    """What became of one delivery that was to be settled."""

    DONE = 0
    STALE = 1  # it has ended: its message was given to somebody else, or is a dead letter


NAMES: Final = {
    QUEUE_STATS: "queue stats",
    DEAD_LETTERS: "dead letters",
    QUEUE_GROUPS: "queue groups",
    CONSUME: "consume",
    CANCEL: "end of consume",
    DECLARE: "declare",
    PRODUCE: "produce",
    ACK: "ack",
    NACK: "nack",
    RELEASE: "release",
    EXTEND: "extend",
    REDRIVE: "redrive",
    PURGE: "purge",
    CREATE_GROUP: "create group",
    DELETE_GROUP: "delete group",
    GRANT: "grant (leader)",
    GIVE_BACK: "give back (leader)",
    LEASE_END: "lease end (timer)",
    VANISH: "vanish (timer)",
}

MESSAGE_BYTES: Final = 240
"""About what a message takes in a log besides its payload, group key and dedup id; a delivery takes less."""


def extra_bytes(command: Command) -> int:
    """Return about how many bytes the contents of a command take in a log, besides those of any entry."""
    code = command[0]
    if code == PRODUCE:
        return sum(len(payload) + len(key) + len(dedup) + MESSAGE_BYTES for payload, key, dedup in command[3])
    if code in (ACK, NACK, RELEASE, EXTEND, LEASE_END):
        return MESSAGE_BYTES // 2 * len(command[3]) + (len(command[5]) if code == NACK else 0)
    return 0


# -- checks -------------------------------------------------------------------------------------------------------


def _between(number: object, low: int, high: int) -> bool:
    return type(number) is int and low <= number <= high


def _name(name: object) -> bool:
    return type(name) is bytes and 0 < len(name) <= limits.QUEUE_NAME_BYTES_MAX


def _shard(key: object) -> bool:
    return type(key) is bytes and 0 < len(key) <= limits.SHARD_KEY_BYTES_MAX


def _of_a_shard(command: Command) -> bool:
    _, shard = command
    return _shard(shard)


def _of_a_group(command: Command) -> bool:
    _, shard, group = command
    return _shard(shard) and _name(group)


def _with_a_limit(command: Command) -> bool:
    _, shard, group, limit = command
    return _shard(shard) and _name(group) and _between(limit, 1, limits.INTEGER_MAX)


def _who(who: object) -> bool:
    if type(who) is not tuple or len(who) != 2:
        return False
    client, consumer = who
    return _client(client) and type(consumer) is bytes and len(consumer) <= limits.QUEUE_NAME_BYTES_MAX


def _client(client: object) -> bool:
    return type(client) is bytes and len(client) == CLIENT_BYTES


def _consume(command: Command) -> bool:
    _, shard, group, who, request, wanted = command
    count, wait_ms, lease_ms = wanted
    return (
        type(wanted) is tuple
        and _shard(shard)
        and _name(group)
        and _who(who)
        and _between(request, 1, limits.INTEGER_MAX)
        and _between(count, 1, limits.CONSUME_MAX)
        and _between(wait_ms, 0, limits.WAIT_MS_MAX)
        and _between(lease_ms, 0, limits.LEASE_MS_MAX)
    )


def _request(command: Command) -> bool:
    _, shard, group, client, request = command
    return _shard(shard) and _name(group) and _client(client) and _between(request, 1, limits.INTEGER_MAX)


def _settings(settings: object) -> bool:
    if type(settings) is not tuple or len(settings) != len(_SETTINGS_MAX):
        return False
    return all(
        value is None or _between(value, least, most)
        for value, (least, most) in zip(settings, _SETTINGS_MAX, strict=True)
    )


_SETTINGS_MAX: Final = (
    (0, limits.RETRIES_MAX),
    (1, limits.LEASE_MS_MAX),
    (0, limits.BACKOFF_MS_MAX),
    (0, limits.BACKOFF_MS_MAX),
    (1, limits.SHARDS_MAX),
    (0, limits.INTEGER_MAX),
)


def _declare(command: Command) -> bool:
    _, shard, settings = command
    return _shard(shard) and _settings(settings)


def _message(message: object) -> bool:
    if type(message) is not tuple or len(message) != 3:
        return False
    payload, group_key, dedup_id = message
    return (
        type(payload) is type(group_key) is type(dedup_id) is bytes
        and 0 < len(payload) <= limits.VALUE_BYTES_MAX
        and len(group_key) <= limits.KEY_BYTES_MAX
        and len(dedup_id) <= limits.KEY_BYTES_MAX
    )


def _produce(command: Command) -> bool:
    _, shard, delay_ms, messages = command
    return (
        _shard(shard)
        and _between(delay_ms, 0, limits.TTL_MS_MAX)
        and type(messages) is tuple
        and 0 < len(messages) <= limits.PRODUCE_MAX
        and all(map(_message, messages))
        and sum(len(message[0]) for message in messages) <= limits.SET_MANY_BYTES_MAX
    )


def _deliveries(deliveries: object) -> bool:
    return (
        type(deliveries) is tuple
        and 0 < len(deliveries) <= limits.DELIVERIES_MAX
        and all(
            type(delivery) is tuple
            and len(delivery) == 2
            and _between(delivery[0], 1, limits.INTEGER_MAX)
            and _between(delivery[1], 1, limits.INTEGER_MAX)
            for delivery in deliveries
        )
    )


def _settle(command: Command) -> bool:
    _, shard, group, deliveries = command
    return _shard(shard) and _name(group) and _deliveries(deliveries)


def _extend(command: Command) -> bool:
    *settle, lease_ms = command
    return _settle(tuple(settle)) and _between(lease_ms, 1, limits.LEASE_MS_MAX)


def _nack(command: Command) -> bool:
    _, shard, group, deliveries, (requeue, delay_ms), reason = command
    return (
        _shard(shard)
        and _name(group)
        and _deliveries(deliveries)
        and type(requeue) is bool
        and (delay_ms is None or _between(delay_ms, 0, limits.TTL_MS_MAX))
        and type(reason) is bytes
        and len(reason) <= limits.REASON_BYTES_MAX
    )


def _grant(command: Command) -> bool:
    _, shard, group, who, request, wanted = command
    count, lease_ms = wanted
    return (
        type(wanted) is tuple
        and _shard(shard)
        and _name(group)
        and _who(who)
        and _between(request, 1, limits.INTEGER_MAX)
        and _between(count, 1, limits.CONSUME_MAX)
        and _between(lease_ms, 0, limits.LEASE_MS_MAX)
    )


def _vanish(command: Command) -> bool:
    _, shard, client, is_counted = command
    return _shard(shard) and _client(client) and type(is_counted) is bool


IS_WELL_FORMED: Final[dict[int, Callable[[Command], bool]]] = {
    QUEUE_STATS: _of_a_group,
    DEAD_LETTERS: _with_a_limit,
    QUEUE_GROUPS: _of_a_shard,
    CONSUME: _consume,
    CANCEL: _request,
    DECLARE: _declare,
    PRODUCE: _produce,
    ACK: _settle,
    NACK: _nack,
    RELEASE: _settle,
    EXTEND: _extend,
    REDRIVE: _with_a_limit,
    PURGE: _with_a_limit,
    CREATE_GROUP: _of_a_group,
    DELETE_GROUP: _of_a_group,
}
"""For each code that a client may send: does the tuple have its shape? May raise TypeError or ValueError."""

OWN_ARE_WELL_FORMED: Final[dict[int, Callable[[Command], bool]]] = {
    GRANT: _grant,
    GIVE_BACK: _request,
    LEASE_END: _settle,
    VANISH: _vanish,
}
"""The same for each code of the leader's own."""
