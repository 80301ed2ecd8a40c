"""The queue shards of a partition on their way to another copy: taken at once, told as items, put together again.

    SHARD     key, settings, number of the last message      then, until its end:
    DEDUP     dedup id, number, Unix ms until when
    MESSAGE   number, payload, group key, created_ms, due_ms
    GROUP     name, completed, redelivered                   then, until the next group:
    READY     numbers, rising
    DELAYED   (due_ms, number, due_ms, number, ...), rising
    LANE      group key, numbers of those that wait in it    (may come again, to go on)
    DELIVERY  number, place, (token, attempts, retries, lease_ms), (client, consumer, request), failures
    FINISHED  (number, token, number, token, ...)
    END       how many items the shard has, this one among them

What is derived is not told: in how many groups a message is open, what a consume has got. What was taken back is told
as gone, and whether a ready message was given away before is seen from its delivery, so equal states tell equal items.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from gimmal.store.footprint import Footprint
from gimmal.store.queues.group import FINISHED_MAX, Group
from gimmal.store.queues.message import CAUSES, Delivery, Failure, Message
from gimmal.store.queues.shard import Queues, Settings, Shard
from gimmal.wire import limits, queue_commands
from gimmal.wire.messages import Wire

SHARD: Final = 16
DEDUP: Final = 17
MESSAGE: Final = 18
GROUP: Final = 19
READY: Final = 20
DELAYED: Final = 21
LANE: Final = 22
DELIVERY: Final = 23
FINISHED: Final = 24
END: Final = 25

_WAITS, _IS_HELD, _IS_DEAD = 0, 1, 2
_NUMBERS_PER_ITEM: Final = 512
_ITEM_BYTES: Final = 64
_NUMBER_BYTES: Final = 9


class FrozenGroup(NamedTuple):
    """A group as it was; nobody changes it any more."""

    name: bytes
    completed: int
    redelivered: int
    ready: list[int]
    delayed: list[tuple[int, int]]
    lanes: dict[bytes, tuple[int, ...]]
    deliveries: list[tuple[Any, ...]]
    finished: list[tuple[int, int]]


class FrozenShard(NamedTuple):
    """A shard as it was. Its messages are the shard's own: what is told of them never changes."""

    key: bytes
    settings: Settings
    last: int
    dedup: list[tuple[bytes, tuple[int, int]]]
    messages: list[Message]
    groups: list[FrozenGroup]


def freeze(queues: Queues) -> list[FrozenShard]:
    """Return a copy of all shards as they are now, in the order in which they were declared."""
    return [
        FrozenShard(
            key,
            shard.settings,
            shard.last,
            list(shard.dedup.items()),
            list(shard.messages.values()),
            [_freeze_group(name, group) for name, group in shard.groups.items()],
        )
        for key, shard in queues.shards.items()
    ]


def _freeze_group(name: bytes, group: Group) -> FrozenGroup:
    gone = group.taken_back
    waiting = sorted(number for number, delivery in group.deliveries.items() if not delivery.is_held)
    deliveries = [
        *(_delivery_tree(number, _WAITS, group.deliveries[number]) for number in waiting),
        *(_delivery_tree(number, _IS_HELD, delivery) for number, delivery in group.held.items()),
        *(_delivery_tree(number, _IS_DEAD, delivery) for number, delivery in group.dead.items()),
    ]
    returned = sorted(number for number in group.returned if number not in gone)
    return FrozenGroup(
        name,
        group.completed,
        group.redelivered,
        list(heapq.merge(group.fresh, returned)),
        sorted(at for at in group.delayed if at[1] not in gone),
        {key: tuple(lane or ()) for key, lane in group.lanes.items()},
        deliveries,
        list(group.finished.items()),
    )


def _delivery_tree(number: int, place: int, delivery: Delivery) -> tuple[Any, ...]:
    counts = delivery.token, delivery.attempts, delivery.retries, delivery.lease_ms
    who = delivery.client, delivery.consumer, delivery.request
    failures = tuple(
        (failure.consumer, CAUSES.index(failure.cause), failure.text, failure.at_ms) for failure in delivery.failures
    )
    return number, place, counts, who, failures


# -- taking apart -------------------------------------------------------------------------------------------------


def items(shards: Iterable[FrozenShard]) -> Iterator[tuple[Wire, int]]:
    """Yield each item and about how many bytes it takes."""
    for shard in shards:
        count = 1
        for item in _shard_items(shard):
            count += 1
            yield item
        yield (END, count), _ITEM_BYTES


def _shard_items(shard: FrozenShard) -> Iterator[tuple[Wire, int]]:
    yield (SHARD, shard.key, tuple(shard.settings), shard.last), _ITEM_BYTES + len(shard.key)
    for dedup_id, (number, until_ms) in shard.dedup:
        yield (DEDUP, dedup_id, number, until_ms), _ITEM_BYTES + len(dedup_id)
    for message in shard.messages:
        tree = MESSAGE, message.number, message.payload, message.group_key, message.created_ms, message.due_ms
        yield tree, _ITEM_BYTES + len(message.payload) + len(message.group_key)
    for group in shard.groups:
        yield from _group_items(group)


def _group_items(group: FrozenGroup) -> Iterator[tuple[Wire, int]]:
    yield (GROUP, group.name, group.completed, group.redelivered), _ITEM_BYTES + len(group.name)
    for numbers in _portions(group.ready):
        yield (READY, numbers), _ITEM_BYTES + _NUMBER_BYTES * len(numbers)
    for numbers in _portions(number for at in group.delayed for number in at):
        yield (DELAYED, numbers), _ITEM_BYTES + _NUMBER_BYTES * len(numbers)
    for key, lane in group.lanes.items():
        for numbers in _portions(lane) if lane else ((),):
            yield (LANE, key, numbers), _ITEM_BYTES + len(key) + _NUMBER_BYTES * len(numbers)
    for number, place, counts, who, failures in group.deliveries:
        size_bytes = 2 * _ITEM_BYTES + len(who[1]) + sum(_ITEM_BYTES + len(text) for _, _, text, _ in failures)
        yield (DELIVERY, number, place, counts, who, failures), size_bytes
    for numbers in _portions(number for pair in group.finished for number in pair):
        yield (FINISHED, numbers), _ITEM_BYTES + _NUMBER_BYTES * len(numbers)


def _portions(numbers: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Yield the numbers, an even count at a time."""
    left = iter(numbers)
    while portion := tuple(islice(left, _NUMBERS_PER_ITEM)):
        yield portion


# -- putting together ---------------------------------------------------------------------------------------------


class Assembly:
    """Puts the shards of one snapshot together, item by item. Raises ValueError or TypeError for what does not fit."""

    def __init__(self) -> None:
        self.queues = Queues(Footprint())  # its own, so that what is given up in the midst was counted nowhere
        self._shard: Shard | None = None
        self._count = 0  # of the items of the shard
        self._group: Group | None = None
        self._open: set[int] = set()  # the numbers that have their place in the group
        self._placed: set[int] = set()  # and those of which the delivery is known
        self._take_item: Final[dict[int, Callable[[Wire], None]]] = {
            SHARD: self._take_shard,
            DEDUP: self._take_dedup,
            MESSAGE: self._take_message,
            GROUP: self._take_group,
            READY: self._take_ready,
            DELAYED: self._take_delayed,
            LANE: self._take_lane,
            DELIVERY: self._take_delivery,
            FINISHED: self._take_finished,
            END: self._take_end,
        }
        self.takers: Final = dict.fromkeys(self._take_item, self._take)

    def finish(self, footprint: Footprint) -> Queues:
        """Return the queues, which are the caller's from now on, counted in `footprint`."""
        _check(self._shard is None, "a shard without an end")
        footprint.pin(self.queues.footprint.pinned_bytes)
        self.queues.footprint = footprint
        for shard in self.queues.shards.values():
            shard.footprint = footprint
        return self.queues

    def _take(self, item: Wire) -> None:
        self._count += 1
        self._take_item[item[0]](item)

    # -- shards

    def _take_shard(self, item: Wire) -> None:
        _check(self._shard is None, "a shard within a shard")
        _, key, settings, last = item
        shape = (queue_commands.DECLARE, key, settings)
        _check(queue_commands.IS_WELL_FORMED[queue_commands.DECLARE](shape) and None not in settings, "a bad shard")
        _check(_is_number(last) and key not in self.queues.shards, "a bad shard")
        self._shard = self.queues.shards[key] = Shard(Settings(*settings), last, self.queues.footprint)
        self._count = 1

    def _take_dedup(self, item: Wire) -> None:
        _, dedup_id, number, until_ms = item
        shard = self._whole_shard()
        _check(type(dedup_id) is bytes and 0 < len(dedup_id) <= limits.KEY_BYTES_MAX, "a bad dedup id")
        _check(_is_number(number) and number <= shard.last and _is_natural(until_ms), "a bad dedup id")
        _check(dedup_id not in shard.dedup, "a dedup id twice")
        shard.remember(dedup_id, number, until_ms)

    def _take_message(self, item: Wire) -> None:
        _, number, payload, group_key, created_ms, due_ms = item
        shard = self._whole_shard()
        _check(_is_number(number) and number <= shard.last and number not in shard.messages, "a bad message")
        _check(type(payload) is bytes and 0 < len(payload) <= limits.VALUE_BYTES_MAX, "a bad message")
        _check(type(group_key) is bytes and len(group_key) <= limits.KEY_BYTES_MAX, "a bad message")
        _check(_is_natural(created_ms) and _is_natural(due_ms), "a bad message")
        shard.keep(Message(number, payload, group_key, created_ms, due_ms))

    def _whole_shard(self) -> Shard:
        shard = self._shard
        if shard is None or self._group is not None:
            raise ValueError("not a snapshot: what belongs to a shard comes before its groups")
        return shard

    def _take_end(self, item: Wire) -> None:
        _, count = item
        shard = self._shard
        if shard is None:
            raise ValueError("not a snapshot: the end of no shard")
        _check(type(count) is int and count == self._count, "items of a shard are missing")
        self._end_group()
        self._shard = None
        for message in shard.messages.values():
            _check(message.open_groups > 0 or message.dead_in > 0, "a message that is in no group")
            shard.unsettled += message.open_groups > 0

    # -- groups

    def _take_group(self, item: Wire) -> None:
        self._end_group()
        _, name, completed, redelivered = item
        shard = self._shard
        if shard is None:
            raise ValueError("not a snapshot: a group without a shard")
        _check(type(name) is bytes and 0 < len(name) <= limits.QUEUE_NAME_BYTES_MAX, "a bad group")
        _check(name not in shard.groups and len(shard.groups) < limits.GROUPS_MAX, "a bad group")
        _check(_is_natural(completed) and _is_natural(redelivered), "a bad group")
        self._group = shard.groups[name] = Group(shard.messages)
        self._group.completed, self._group.redelivered = completed, redelivered

    def _in_group(self) -> Group:
        if self._group is None:
            raise ValueError("not a snapshot: a place without a group")
        return self._group

    def _place(self, number: Any) -> Message:
        """Let a message have its one place in the group."""
        message = self._message(number)
        _check(number not in self._open and number not in self._in_group().dead, "a message in two places")
        self._open.add(number)
        message.open_groups += 1
        return message

    def _message(self, number: Any) -> Message:
        assert self._shard is not None
        message = self._shard.messages.get(number) if type(number) is int else None
        if message is None:
            raise ValueError("not a snapshot: a message that is not there")
        return message

    def _take_ready(self, item: Wire) -> None:
        _, numbers = item
        group = self._in_group()
        for number in numbers:
            self._place(number)
            _check(not group.fresh or group.fresh[-1] < number, "not in order")
            group.fresh.append(number)  # for now: what was given away before is sorted out in the end

    def _take_delayed(self, item: Wire) -> None:
        _, numbers = item
        group = self._in_group()
        for due_ms, number in zip(numbers[::2], numbers[1::2], strict=True):
            self._place(number)
            _check(_is_natural(due_ms) and due_ms > 0, "a bad time")
            group.delayed.append((due_ms, number))  # in order, and so a heap
            _check(group.delayed[-2:] == sorted(group.delayed[-2:]), "not in order")

    def _take_lane(self, item: Wire) -> None:
        _, key, numbers = item
        group = self._in_group()
        _check(type(key) is bytes and 0 < len(key) <= limits.KEY_BYTES_MAX, "a bad group key")
        lane = group.lanes.setdefault(key, None)
        for number in numbers:
            _check(self._place(number).group_key == key, "a message in a lane that is not its own")
            if lane is None:
                lane = group.lanes[key] = deque()
            lane.append(number)
            group.waiting_in_lanes += 1

    def _take_delivery(self, item: Wire) -> None:
        _, number, place, counts, who, failures = item
        group = self._in_group()
        message = self._message(number)
        _check(number not in self._placed and place in (_WAITS, _IS_HELD, _IS_DEAD), "a bad delivery")
        self._placed.add(number)
        delivery = _read_delivery(counts, who, failures)
        if place == _WAITS:
            group.deliveries[number] = delivery
        elif place == _IS_HELD:
            _check(delivery.token > 0 and delivery.request > 0 and len(delivery.client) > 0, "held by nobody")
            self._place(number)
            delivery.is_held = True
            group.deliveries[number] = group.held[number] = delivery
            group.by_request.setdefault((delivery.client, delivery.request), []).append(number)
        else:
            _check(number not in self._open, "a dead message that is alive")
            message.dead_in += 1
            group.dead[number] = delivery

    def _take_finished(self, item: Wire) -> None:
        _, numbers = item
        group = self._in_group()
        for number, token in zip(numbers[::2], numbers[1::2], strict=True):
            _check(_is_number(number) and _is_natural(token) and number not in group.finished, "a bad token")
            group.finished[number] = token
        _check(len(group.finished) <= FINISHED_MAX, "too many tokens")

    def _end_group(self) -> None:
        group = self._group
        if group is None:
            return
        waiting = [number for number, delivery in group.deliveries.items() if not delivery.is_held]
        _check(self._open.issuperset(waiting), "a delivery of a message that waits nowhere")
        for _, number in group.delayed:
            delivery = group.deliveries.get(number)
            if delivery is not None:
                delivery.is_delayed = True
        fresh, group.fresh = group.fresh, deque()
        for number in fresh:
            (group.returned if number in group.deliveries else group.fresh).append(number)
        in_front = (*fresh, *(number for _, number in group.delayed), *group.held)
        heads = [key for key in (self._message(number).group_key for number in in_front) if key]
        _check(len(heads) == len(group.lanes) and group.lanes.keys() == {*heads}, "a lane has one first message")
        behind = {number for lane in group.lanes.values() for number in lane or () if number in group.deliveries}
        _check(not any(group.deliveries[number].token for number in behind), "what waits in a lane was given away")
        self._group = None
        self._open, self._placed = set(), set()


def _read_delivery(counts: Wire, who: Wire, failures: Wire) -> Delivery:
    delivery = Delivery()
    delivery.token, delivery.attempts, delivery.retries, delivery.lease_ms = counts
    delivery.client, delivery.consumer, delivery.request = who
    numbers = (*counts, delivery.request)
    _check(all(map(_is_natural, numbers)), "a bad delivery")
    _check(type(delivery.client) is bytes and len(delivery.client) in (0, queue_commands.CLIENT_BYTES), "a bad client")
    _check(type(delivery.consumer) is bytes and len(delivery.consumer) <= limits.QUEUE_NAME_BYTES_MAX, "a bad consumer")
    _check(len(failures) <= limits.FAILURES_MAX, "too many failures")
    for consumer, cause, text, at_ms in failures:
        _check(type(consumer) is bytes and len(consumer) <= limits.QUEUE_NAME_BYTES_MAX, "a bad failure")
        _check(type(cause) is int and 0 <= cause < len(CAUSES) and _is_natural(at_ms), "a bad failure")
        _check(type(text) is bytes and len(text) <= limits.REASON_BYTES_MAX, "a bad failure")
    delivery.failures = tuple(
        Failure(consumer, CAUSES[cause], text, at_ms) for consumer, cause, text, at_ms in failures
    )
    return delivery


def _is_natural(value: Wire) -> bool:
    return type(value) is int and 0 <= value <= limits.INTEGER_MAX + limits.TTL_MS_MAX


def _is_number(value: Wire) -> bool:
    return type(value) is int and 0 < value <= limits.INTEGER_MAX


def _check(is_right: bool, otherwise: str) -> None:  # noqa: FBT001
    if not is_right:
        raise ValueError(f"not a snapshot: {otherwise}")
