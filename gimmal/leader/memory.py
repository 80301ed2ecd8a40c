"""How full a node may get, and what goes when it is full.

Limits are per node and count all copies it holds, as its `Footprint` does. Policy `refuse` turns a write away
before it is appended when it would not fit. Policy `lru` lets it in and then evicts the least recently used keys
of all partitions the node leads, in the exact order of use; reads count as use. A record that would not fit into
an empty node is refused under both. The order of use is kept only where it can matter: policy `lru` with a limit.

Messages of queues are bytes and no entries, and are never evicted: under `lru` too, a message or a record is refused
when it would not fit beside those that are there (`Footprint.pinned_bytes`).
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gimmal.store.footprint import EXPIRY_OVERHEAD_BYTES, Footprint
from gimmal.store.kv import VERSION_BYTES, Keys, record_bytes, version_of
from gimmal.store.queues.shard import dedup_bytes, message_bytes
from gimmal.types import Command
from gimmal.wire import commands, limits, queue_commands
from gimmal.wire.codec import integer_of, pack_integer

Policy: TypeAlias = Literal["refuse", "lru"]


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What a node may hold: entries, bytes (overheads included), and what to do when that is reached."""

    max_entries: int | None = None
    max_memory_bytes: int | None = None
    policy: Policy = "refuse"


class Memory:
    """Admits writes and chooses victims. `led` maps each partition led to its keys."""

    def __init__(self, limits: MemoryLimits, footprint: Footprint, led: Mapping[int, Keys]) -> None:
        self._limits = limits
        self._footprint = footprint
        self._led = led
        self.is_limited = limits.max_entries is not None or limits.max_memory_bytes is not None
        self.tracks_use = self.is_limited and limits.policy == "lru"
        self._partition_by_use: OrderedDict[bytes, int] = OrderedDict()  # least recently used key first
        self._leaving: dict[tuple[int, bytes], int] = {}  # (partition, key) of victims not gone yet -> bytes
        self._leaving_bytes = 0

    def why_refused(self, keys: Keys, command: Command) -> str | None:
        """Return why a write may not be appended, or None when it may."""
        evicts, footprint = self._limits.policy == "lru", self._footprint
        new_entries, new_bytes = growth(_NO_KEYS if evicts else keys, command)
        if new_entries <= 0 and new_bytes <= 0:
            return None
        entries, size_bytes = (0, footprint.pinned_bytes) if evicts else (footprint.entries, footprint.size_bytes)
        max_entries, max_bytes = self._limits.max_entries, self._limits.max_memory_bytes
        if max_entries is not None and new_entries > 0 and entries + new_entries > max_entries:
            return f"the node holds {footprint.entries} of at most {max_entries} entries"
        if max_bytes is not None and new_bytes > 0 and size_bytes + new_bytes > max_bytes:
            by_whom = " by messages of queues" if evicts and size_bytes else ""
            used_bytes = size_bytes if by_whom else footprint.size_bytes
            return f"{new_bytes} more bytes do not fit: {used_bytes} of {max_bytes} are in use{by_whom}"
        return None

    def on_read(self, command: Command) -> None:
        """Note that the keys of a read were used."""
        order = self._partition_by_use
        for key in _keys_of(command):
            if key in order:
                order.move_to_end(key)

    def on_not_led(self, partition: int) -> None:
        """Forget what was to leave a partition: another leader decides now."""
        for victim in [victim for victim in self._leaving if victim[0] == partition]:
            self._leaving_bytes -= self._leaving.pop(victim)

    def on_led(self, partition: int) -> None:
        """Take up a partition whose state is there already, in the order of its writes: who read what is not known."""
        if self.tracks_use:
            records = self._led[partition].records
            for key in sorted(records, key=lambda key: version_of(records[key])):
                self._partition_by_use[key] = partition

    def on_committed(self, partition: int, command: Command) -> None:
        """Note what a committed write used, made or removed."""
        order, records = self._partition_by_use, self._led[partition].records
        if command[0] == commands.EVICT:
            self._leaving_bytes -= self._leaving.pop((partition, command[1]), 0)
        for key in _keys_of(command):
            if key in records:
                order[key] = partition
                order.move_to_end(key)
            else:
                order.pop(key, None)

    def victims(self) -> Iterator[tuple[int, Command]]:
        """Yield (partition, EVICT command) for the least recently used keys while the node is over its limits.

        The caller proposes each before it asks for the next. What is proposed counts as gone before it has committed.
        """
        while self._is_over() and self._partition_by_use:
            key, partition = self._partition_by_use.popitem(last=False)
            keys = self._led.get(partition)  # it may not be led any more
            record = keys.records.get(key) if keys is not None else None
            if record is not None:
                size_bytes = self._leaving[partition, key] = record_bytes(key, record)
                self._leaving_bytes += size_bytes
                yield partition, (commands.EVICT, key, version_of(record))

    def _is_over(self) -> bool:
        max_entries, max_bytes = self._limits.max_entries, self._limits.max_memory_bytes
        return (max_entries is not None and self._footprint.entries - len(self._leaving) > max_entries) or (
            max_bytes is not None and self._footprint.size_bytes - self._leaving_bytes > max_bytes
        )


_NO_KEYS = Keys(Footprint())  # an empty node's; never written to
_COUNTER_BYTES = VERSION_BYTES + 9  # the longest integer


def growth(keys: Keys, command: Command) -> tuple[int, int]:
    """Return how many entries and bytes a write may add; what would fail a condition counts as if it did not."""
    code = command[0]
    if code == commands.SET:
        return _growth_of_set(keys, command[1], len(command[2]) + VERSION_BYTES, has_ttl=command[3] > 0)
    if code == commands.INCR:
        return _growth_of_incr(keys, command[1], command[2])
    if code == commands.SET_MANY:
        pairs, has_ttl = command[1], command[2] > 0
        record_size_by_key = {
            key: len(value) + VERSION_BYTES for key, value in zip(pairs[::2], pairs[1::2], strict=True)
        }
        parts = [_growth_of_set(keys, key, size, has_ttl=has_ttl) for key, size in record_size_by_key.items()]
        return sum(entries for entries, _ in parts), sum(size for _, size in parts)
    if code == commands.SET_TTL:
        is_new = command[1] in keys.records and command[1] not in keys.expires_at_ms
        return 0, EXPIRY_OVERHEAD_BYTES if is_new else 0
    if code == queue_commands.PRODUCE:
        return 0, sum(
            message_bytes(payload, group_key) + (dedup_bytes(dedup_id) if dedup_id else 0)
            for payload, group_key, dedup_id in command[3]
        )
    return 0, 0


def _keys_of(command: Command) -> tuple[bytes, ...]:
    """Return the keys a command uses: a queue is placed by a key, but it is none."""
    return () if command[0] in queue_commands.CODES else commands.keys_of(command)


def _growth_of_set(keys: Keys, key: bytes, record_size: int, *, has_ttl: bool) -> tuple[int, int]:
    old = keys.records.get(key)
    expiry_bytes = EXPIRY_OVERHEAD_BYTES if has_ttl and key not in keys.expires_at_ms else 0
    if old is not None:
        return 0, record_size - len(old) + expiry_bytes
    return 1, record_bytes(key, b"") + record_size + expiry_bytes


def _growth_of_incr(keys: Keys, key: bytes, amount: int) -> tuple[int, int]:
    old = keys.records.get(key)
    if old is None:
        return 1, record_bytes(key, bytes(_COUNTER_BYTES))
    count = integer_of(old[VERSION_BYTES:])
    if count is None or not limits.INTEGER_MIN <= count + amount <= limits.INTEGER_MAX:
        return 0, 0  # it will be refused
    return 0, VERSION_BYTES + len(pack_integer(count + amount)) - len(old)
