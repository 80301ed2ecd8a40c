"""What each queue command does: `write(queues, seq, now_ms, command)` and `read(queues, now_ms, command)`.

A result is a plain value, or a `Refused`, which leaves the state untouched.
"""

from collections.abc import Callable
from typing import Any, Final

from gimmal.store.kv import Refused
from gimmal.store.queues.group import Group, Wish
from gimmal.store.queues.message import LEASE_OVER, NACKED, REJECTED, VANISHED, Failure
from gimmal.store.queues.shard import DEFAULT_GROUP, Queues, Settings, Shard
from gimmal.types import Command
from gimmal.wire import limits, queue_commands
from gimmal.wire.messages import Refusal
from gimmal.wire.queue_commands import Outcome

_NO_QUEUE: Final = Refused(Refusal.NO_QUEUE, "there is no such queue here: declare it first")
_NO_GROUP: Final = Refused(Refusal.NO_GROUP, "there is no such consumer group: create it first")
_FULL: Final = "the queue holds as many unsettled messages as it may"
_LEASE_OVER: Final = b"the lease ran out"
_VANISHED: Final = b"nothing was heard of the consumer's client any more"


def _group_of(queues: Queues, command: Command) -> tuple[Shard, Group] | Refused:
    shard = queues.shards.get(command[1])
    if shard is None:
        return _NO_QUEUE
    group = shard.groups.get(command[2])
    return _NO_GROUP if group is None else (shard, group)


# -- writes -------------------------------------------------------------------------------------------------------


def _declare(queues: Queues, seq: int, now_ms: int, command: Command) -> tuple[int, ...] | Refused:
    _, key, given = command
    shard = queues.shards.get(key)
    if shard is None:
        settings = Settings(
            *(value if value is not None else default for value, default in zip(given, Settings(), strict=True))
        )
        shard = queues.shards[key] = Shard(settings, seq, queues.footprint)
        shard.groups[DEFAULT_GROUP] = Group(shard.messages)
    for name, value, stored in zip(Settings._fields, given, shard.settings, strict=True):
        if value is not None and value != stored:
            return Refused(Refusal.SETTINGS_MISMATCH, f"{name} is {stored}, and {value} was given")
    return tuple(shard.settings)


def _produce(queues: Queues, seq: int, now_ms: int, command: Command) -> tuple[int, ...] | Refused:
    _, key, delay_ms, messages = command
    shard = queues.shards.get(key)
    if shard is None:
        return _NO_QUEUE
    shard.forget_old(now_ms)
    if shard.is_full_for(messages):
        return Refused(Refusal.QUEUE_FULL, f"{_FULL}: {shard.settings.shard_length_max} in this shard")
    return shard.produce(messages, delay_ms, now_ms)


def _grant(queues: Queues, seq: int, now_ms: int, command: Command) -> tuple[tuple[int, int], ...]:
    found = _group_of(queues, command)
    if isinstance(found, Refused):
        return ()
    _, group = found
    _, _, _, (client, consumer), request, (count, lease_ms) = command
    numbers = group.grant(Wish(client, consumer, request, count, lease_ms), seq, now_ms)
    return tuple((number, group.held[number].token) for number in numbers)


def _ack(queues: Queues, seq: int, now_ms: int, command: Command) -> tuple[int, ...] | Refused:
    found = _group_of(queues, command)
    if isinstance(found, Refused):
        return found
    shard, group = found
    outcomes = []
    for number, token in command[3]:
        counts, is_settled = group.ack(number, token, now_ms)
        if is_settled:
            shard.settled(number)
        outcomes.append(int(Outcome.DONE if counts else Outcome.STALE))
    return tuple(outcomes)


def _for_each_held(
    queues: Queues, command: Command, settle: Callable[[Shard, Group, int], None]
) -> tuple[int, ...] | Refused:
    found = _group_of(queues, command)
    if isinstance(found, Refused):
        return found
    shard, group = found
    outcomes = []
    for number, token in command[3]:
        is_held = group.holds(number, token)
        if is_held:
            settle(shard, group, number)
        outcomes.append(int(Outcome.DONE if is_held else Outcome.STALE))
    return tuple(outcomes)


def _nack(queues: Queues, seq: int, now_ms: int, command: Command) -> tuple[int, ...] | Refused:
    (requeue, delay_ms), reason = command[4:]

    def settle(shard: Shard, group: Group, number: int) -> None:
        cause = NACKED if requeue else REJECTED
        shard.fail(group, number, Failure(group.held[number].consumer, cause, reason, now_ms), delay_ms)

    return _for_each_held(queues, command, settle)


def _release(queues: Queues, seq: int, now_ms: int, command: Command) -> tuple[int, ...] | Refused:
    return _for_each_held(queues, command, lambda shard, group, number: group.release(number))


def _extend(queues: Queues, seq: int, now_ms: int, command: Command) -> tuple[int, ...] | Refused:
    lease_ms = command[4]

    def settle(shard: Shard, group: Group, number: int) -> None:
        group.held[number].lease_ms = lease_ms

    return _for_each_held(queues, command[:4], settle)


def _lease_end(queues: Queues, seq: int, now_ms: int, command: Command) -> int:
    def settle(shard: Shard, group: Group, number: int) -> None:
        shard.fail(group, number, Failure(group.held[number].consumer, LEASE_OVER, _LEASE_OVER, now_ms), None)

    outcomes = _for_each_held(queues, command, settle)
    return 0 if isinstance(outcomes, Refused) else sum(outcome == Outcome.DONE for outcome in outcomes)


def _give_back(queues: Queues, seq: int, now_ms: int, command: Command) -> int:
    found = _group_of(queues, command)
    if isinstance(found, Refused):
        return 0
    _, group = found
    numbers = tuple(group.by_request.get((command[3], command[4]), ()))
    for number in numbers:
        group.release(number)
    return len(numbers)


def _vanish(queues: Queues, seq: int, now_ms: int, command: Command) -> int:
    _, key, client, is_counted = command
    shard = queues.shards.get(key)
    ended = 0
    for group in shard.groups.values() if shard is not None else ():
        for number in group.held_by(client):
            ended += 1
            if is_counted:
                assert shard is not None
                failure = Failure(group.held[number].consumer, VANISHED, _VANISHED, now_ms)
                shard.fail(group, number, failure, None)
            else:
                group.release(number)
    return ended


def _redrive(queues: Queues, seq: int, now_ms: int, command: Command) -> int | Refused:
    found = _group_of(queues, command)
    return found if isinstance(found, Refused) else found[0].redrive(found[1], command[3])


def _purge(queues: Queues, seq: int, now_ms: int, command: Command) -> int | Refused:
    found = _group_of(queues, command)
    return found if isinstance(found, Refused) else found[0].purge(found[1], command[3])


def _create_group(queues: Queues, seq: int, now_ms: int, command: Command) -> bool | Refused:
    shard = queues.shards.get(command[1])
    if shard is None:
        return _NO_QUEUE
    if command[2] in shard.groups:
        return False
    if len(shard.groups) >= limits.GROUPS_MAX:
        return Refused(Refusal.INVALID, f"the queue has {limits.GROUPS_MAX} consumer groups, as many as it may")
    shard.groups[command[2]] = Group(shard.messages)
    return True


def _delete_group(queues: Queues, seq: int, now_ms: int, command: Command) -> bool | Refused:
    shard = queues.shards.get(command[1])
    return _NO_QUEUE if shard is None else shard.delete_group(command[2])


WRITES: Final[dict[int, Callable[[Queues, int, int, Command], Any]]] = {
    queue_commands.DECLARE: _declare,
    queue_commands.PRODUCE: _produce,
    queue_commands.ACK: _ack,
    queue_commands.NACK: _nack,
    queue_commands.RELEASE: _release,
    queue_commands.EXTEND: _extend,
    queue_commands.REDRIVE: _redrive,
    queue_commands.PURGE: _purge,
    queue_commands.CREATE_GROUP: _create_group,
    queue_commands.DELETE_GROUP: _delete_group,
    queue_commands.GRANT: _grant,
    queue_commands.GIVE_BACK: _give_back,
    queue_commands.LEASE_END: _lease_end,
    queue_commands.VANISH: _vanish,
}

# -- reads --------------------------------------------------------------------------------------------------------


def _stats(queues: Queues, now_ms: int, command: Command) -> tuple[int, ...] | Refused:
    found = _group_of(queues, command)
    return found if isinstance(found, Refused) else found[1].counts(now_ms)


def _dead_letters(queues: Queues, now_ms: int, command: Command) -> tuple[Any, ...] | Refused:
    """Return (number, payload, created_ms, attempts, retries, failures) of dead letters, the oldest first."""
    found = _group_of(queues, command)
    if isinstance(found, Refused):
        return found
    shard, group = found
    letters: list[Any] = []
    size_bytes = 0
    for number, delivery in group.dead.items():
        if len(letters) >= command[3] or size_bytes >= limits.GRANT_BYTES_MAX:
            break
        message = shard.messages[number]
        failures = tuple(
            (failure.consumer, failure.cause, failure.text, failure.at_ms) for failure in delivery.failures
        )
        letters.append((number, message.payload, message.created_ms, delivery.attempts, delivery.retries, failures))
        size_bytes += len(message.payload) + sum(len(failure[2]) for failure in failures)
    return tuple(letters)


def _groups(queues: Queues, now_ms: int, command: Command) -> tuple[bytes, ...] | Refused:
    shard = queues.shards.get(command[1])
    return _NO_QUEUE if shard is None else tuple(shard.groups)


READS: Final[dict[int, Callable[[Queues, int, Command], Any]]] = {
    queue_commands.QUEUE_STATS: _stats,
    queue_commands.DEAD_LETTERS: _dead_letters,
    queue_commands.QUEUE_GROUPS: _groups,
}
