"""The queue shards of one partition: settings, messages, dedup ids, and the groups that share them."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gimmal.store.footprint import Footprint
from gimmal.store.queues.group import Group, backoff_ms
from gimmal.store.queues.message import REJECTED, Failure, Message
from gimmal.wire import limits

DEFAULT_GROUP: Final = b"default"
MESSAGE_OVERHEAD_BYTES: Final = 320
"""What a message costs besides its payload and group key, about: one number for all that may become of it.

Measured on 100,000 messages of 100 bytes in one group: 215 bytes while it is ready (250 when each came in an entry of
its own), 90 more with a group key that no other message has; 430 in flight, given away by hundreds, and 660 one by one.
What waits is mostly ready, and of what is in flight there is seldom more than consumers can work on.
"""


class Settings(NamedTuple):
    """How a queue treats its messages, as its first user declared it. Times are milliseconds.

    `max_length` is of the whole queue, 0 for no bound; a shard takes its part of it.
    """

    max_retries: int = 3
    lease_ms: int = 30_000
    backoff_ms: int = 500
    backoff_max_ms: int = 300_000
    shards: int = 1
    max_length: int = 0

    @property
    def shard_length_max(self) -> int:
        """How many unsettled messages one shard takes, 0 for no bound."""
        return -(-self.max_length // self.shards)


class Shard:
    """One shard of a queue.

    Messages are numbered in the order in which they came, from the sequence number of the entry that declared the
    shard: a partition that lost everything numbers its entries from higher up, so a number is never used twice.
    `unsettled` is how many of the messages are not settled in some group; the others are dead letters.
    """

    __slots__ = ("dedup", "footprint", "groups", "last", "messages", "settings", "unsettled")

    def __init__(self, settings: Settings, base: int, footprint: Footprint) -> None:
        self.settings = settings
        self.last = base
        self.messages: dict[int, Message] = {}
        self.groups: dict[bytes, Group] = {}
        self.dedup: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # id -> (number, Unix ms until when)
        self.unsettled = 0
        self.footprint = footprint

    # -- messages -------------------------------------------------------------------------------------------------

    def is_full_for(self, messages: Sequence[tuple[bytes, bytes, bytes]]) -> bool:
        """Say whether these messages would be too many; those that came before take no room. Old ids are forgotten."""
        most = self.settings.shard_length_max
        if not most or self.unsettled + len(messages) <= most:
            return False
        ids = {dedup_id for _, _, dedup_id in messages if dedup_id}
        count = sum(not dedup_id for _, _, dedup_id in messages) + len(ids - self.dedup.keys())
        return count > 0 and self.unsettled + count > most

    def produce(self, messages: Iterable[tuple[bytes, bytes, bytes]], delay_ms: int, now_ms: int) -> tuple[int, ...]:
        """Take (payload, group key, dedup id) messages; return their numbers, for what came before its first one."""
        dedup, numbers = self.dedup, []
        due_ms = now_ms + delay_ms if delay_ms else 0
        for payload, group_key, dedup_id in messages:
            known = dedup.get(dedup_id) if dedup_id else None
            if known is not None and known[1] > now_ms:
                numbers.append(known[0])
                continue
            self.last += 1
            numbers.append(self.last)
            self.add(Message(self.last, payload, group_key, now_ms, due_ms))
            if dedup_id:
                self.remember(dedup_id, self.last, now_ms + limits.DEDUP_MS)
        return tuple(numbers)

    def add(self, message: Message) -> None:
        """Take a message in, for all groups there are; with none it is gone at once."""
        if not self.groups:
            return
        self.keep(message)
        message.open_groups = len(self.groups)
        for group in self.groups.values():
            group.add(message)
        self.unsettled += 1

    def keep(self, message: Message) -> None:
        """Hold a message, whoever it is for."""
        self.messages[message.number] = message
        self.footprint.pin(size_of(message))

    def remember(self, dedup_id: bytes, number: int, until_ms: int) -> None:
        """Keep a dedup id for a while."""
        if self.dedup.pop(dedup_id, None) is None:
            self.footprint.pin(dedup_bytes(dedup_id))
        self.dedup[dedup_id] = number, until_ms

    def forget_old(self, now_ms: int) -> None:
        """Drop dedup ids whose time is over."""
        while self.dedup:
            dedup_id, (_, until_ms) = next(iter(self.dedup.items()))
            if until_ms > now_ms:
                return
            del self.dedup[dedup_id]
            self.footprint.pin(-dedup_bytes(dedup_id))

    def settled(self, number: int) -> None:
        """Learn that one more group has settled a message."""
        message = self.messages[number]
        message.open_groups -= 1
        if not message.open_groups:
            self.unsettled -= 1
        self._drop_if_done(message)

    def _drop_if_done(self, message: Message) -> None:
        if not message.open_groups and not message.dead_in:
            del self.messages[message.number]
            self.footprint.pin(-size_of(message))

    # -- failures -------------------------------------------------------------------------------------------------

    def fail(self, group: Group, number: int, failure: Failure, delay_ms: int | None) -> None:
        """Count a failure of a delivery: the message comes back after `delay_ms`, or after a backoff, or is dead."""
        settings = self.settings
        retries = group.held[number].retries + 1
        if failure.cause == REJECTED or retries >= settings.max_retries:
            self.messages[number].dead_in += 1
            group.fail(number, failure, None)
            self.settled(number)
            return
        if delay_ms is None:
            delay_ms = backoff_ms(settings.backoff_ms, settings.backoff_max_ms, retries, number)
        group.fail(number, failure, failure.at_ms + delay_ms if delay_ms else 0)

    # -- dead letters, groups -------------------------------------------------------------------------------------

    def redrive(self, group: Group, count: int) -> int:
        """Let dead letters be ready again; return how many."""
        numbers = group.redrive(count)
        for number in numbers:
            message = self.messages[number]
            message.dead_in -= 1
            if not message.open_groups:
                self.unsettled += 1
            message.open_groups += 1
        return len(numbers)

    def purge(self, group: Group, count: int) -> int:
        """Drop dead letters; return how many."""
        numbers = group.purge(count)
        for number in numbers:
            message = self.messages[number]
            message.dead_in -= 1
            self._drop_if_done(message)
        return len(numbers)

    def delete_group(self, name: bytes) -> bool:
        """Settle everything in a group and drop it; False if there is none."""
        group = self.groups.pop(name, None)
        if group is None:
            return False
        self.purge(group, len(group.dead))
        for number in list(group.unsettled()):
            self.settled(number)
        return True

    def discard(self) -> None:
        """Take everything off the footprint."""
        self.footprint.pin(-sum(map(size_of, self.messages.values())) - sum(map(dedup_bytes, self.dedup)))


class Queues:
    """The queue shards of one partition, by the key that places them."""

    __slots__ = ("footprint", "shards")

    def __init__(self, footprint: Footprint) -> None:
        self.shards: dict[bytes, Shard] = {}
        self.footprint = footprint

    def discard(self) -> None:
        """Drop everything: as if nothing had ever been declared."""
        for shard in self.shards.values():
            shard.discard()
        self.shards = {}


def size_of(message: Message) -> int:
    """Return about what a message costs in memory."""
    return message_bytes(message.payload, message.group_key)


def message_bytes(payload: bytes, group_key: bytes) -> int:
    """Return about what a message of that payload and group key costs in memory."""
    return len(payload) + len(group_key) + MESSAGE_OVERHEAD_BYTES


def dedup_bytes(dedup_id: bytes) -> int:
    """Return about what a dedup id costs in memory."""
    return len(dedup_id) + MESSAGE_OVERHEAD_BYTES // 2
