"""The keys of one partition: what each key command does to them.

A **record** is 8 bytes of version, big-endian, followed by the value's bytes as the client sent them. One bytes
object instead of a tuple of three saves 130 bytes a key, and a read returns it as it is. The version is the
sequence number of the log entry that wrote the value: it is never used twice.

Expiry times are Unix milliseconds in a second dict that has only the keys that expire. A key whose time has
come counts as absent for every write, by the time stamped on the log entry, so all replicas agree. Reads compare
with the leader's clock; the leader removes what is due (EXPIRE) before it lets a read see it.

Handlers have two shapes, found by code in `WRITES` and `READS`:
`write(keys, seq, now_ms, command) -> result` and `read(keys, now_ms, command) -> result`. A result is a plain
value, or a `Refused`, which leaves the state untouched. Dicts keep insertion order, and every replica inserts in
log order: that is what makes SCAN's positions mean the same everywhere.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

from gimmal.store.footprint import EXPIRY_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Footprint
from gimmal.types import Command
from gimmal.wire import commands, limits
from gimmal.wire.codec import integer_of, pack_integer
from gimmal.wire.messages import Refusal

VERSION_BYTES: Final = 8
_NEVER: Final = 1 << 62


class Refused(NamedTuple):
    """The result of a command that could not be carried out."""

    refusal: Refusal
    text: str


class Keys:
    """The keys of one partition.

    `removals` counts the keys ever removed. It lets a scan that comes back know how far the keys it has not
    seen may have moved towards the front.
    """

    __slots__ = ("expires_at_ms", "footprint", "records", "removals")

    def __init__(self, footprint: Footprint) -> None:
        self.records: dict[bytes, bytes] = {}
        self.expires_at_ms: dict[bytes, int] = {}
        self.removals = 0
        self.footprint = footprint

    def live(self, key: bytes, now_ms: int) -> bytes | None:
        """Return the record of a key, or None; a key whose time has come is removed."""
        record = self.records.get(key)
        if record is not None and self.expires_at_ms.get(key, _NEVER) <= now_ms:
            self.remove(key)
            return None
        return record

    def put(self, key: bytes, old: bytes | None, record: bytes) -> None:
        """Store a record in the place of `old`, keeping the key's expiry as it is."""
        footprint = self.footprint
        self.records[key] = record
        if old is None:
            footprint.entries += 1
            footprint.size_bytes += record_bytes(key, record)
        else:
            footprint.size_bytes += len(record) - len(old)

    def remove(self, key: bytes) -> None:
        """Remove a key that exists, with its expiry."""
        record = self.records.pop(key)
        self.removals += 1
        self.footprint.entries -= 1
        self.footprint.size_bytes -= record_bytes(key, record)
        self.clear_expiry(key)

    def set_expiry(self, key: bytes, at_ms: int) -> None:
        """Let a key expire at a time, in Unix milliseconds."""
        if key not in self.expires_at_ms:
            self.footprint.size_bytes += EXPIRY_OVERHEAD_BYTES
        self.expires_at_ms[key] = at_ms

    def clear_expiry(self, key: bytes) -> bool:
        """Let a key live for ever; False if it already did."""
        if self.expires_at_ms.pop(key, None) is None:
            return False
        self.footprint.size_bytes -= EXPIRY_OVERHEAD_BYTES
        return True

    def load(self, records: dict[bytes, bytes], expires_at_ms: dict[bytes, int], removals: int) -> None:
        """Take over a whole state, in the place of what is held."""
        self.discard()
        self.records, self.expires_at_ms, self.removals = records, expires_at_ms, removals
        self.footprint.entries += len(records)
        self.footprint.size_bytes += self._size_bytes()

    def discard(self) -> None:
        """Drop everything: as if nothing had ever been written."""
        self.footprint.entries -= len(self.records)
        self.footprint.size_bytes -= self._size_bytes()
        self.records, self.expires_at_ms, self.removals = {}, {}, 0

    def _size_bytes(self) -> int:
        sizes = map(record_bytes, self.records.keys(), self.records.values())
        return sum(sizes) + EXPIRY_OVERHEAD_BYTES * len(self.expires_at_ms)


def record_bytes(key: bytes, record: bytes) -> int:
    """Return what a key costs in memory, without an expiry."""
    return len(key) + len(record) + RECORD_OVERHEAD_BYTES


def version_of(record: bytes) -> int:
    """Return the version of a record."""
    return int.from_bytes(record[:VERSION_BYTES], "big")


# -- writes -----------------------------------------------------------------------------------------------------


def _set(keys: Keys, seq: int, now_ms: int, command: Command) -> bool:
    _, key, value, ttl_ms, flags, if_version = command
    old = keys.live(key, now_ms) if keys.expires_at_ms else keys.records.get(key)
    if flags or if_version is not None:
        if flags & (commands.XX if old is None else commands.NX):
            return False
        if if_version is not None and if_version != (0 if old is None else version_of(old)):
            return False
    keys.put(key, old, seq.to_bytes(VERSION_BYTES, "big") + value)
    if ttl_ms:
        keys.set_expiry(key, now_ms + ttl_ms)
    elif keys.expires_at_ms and not flags & commands.KEEP_TTL:
        keys.clear_expiry(key)
    return True


def _set_many(keys: Keys, seq: int, now_ms: int, command: Command) -> int:
    _, pairs, ttl_ms = command
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        _set(keys, seq, now_ms, (commands.SET, key, value, ttl_ms, 0, None))
    return len(pairs) // 2


def _delete(keys: Keys, seq: int, now_ms: int, command: Command) -> bool:
    key = command[1]
    if keys.live(key, now_ms) is None:
        return False
    keys.remove(key)
    return True


def _delete_many(keys: Keys, seq: int, now_ms: int, command: Command) -> int:
    return sum(_delete(keys, seq, now_ms, (commands.DELETE, key)) for key in command[1])


def _set_ttl(keys: Keys, seq: int, now_ms: int, command: Command) -> bool:
    _, key, ttl_ms = command
    if keys.live(key, now_ms) is None:
        return False
    keys.set_expiry(key, now_ms + ttl_ms)
    return True


def _persist(keys: Keys, seq: int, now_ms: int, command: Command) -> bool:
    return keys.live(command[1], now_ms) is not None and keys.clear_expiry(command[1])


def _incr(keys: Keys, seq: int, now_ms: int, command: Command) -> int | Refused:
    _, key, amount = command
    old = keys.live(key, now_ms)
    before = 0 if old is None else integer_of(old[VERSION_BYTES:])
    if before is None:
        return Refused(Refusal.NOT_AN_INTEGER, "the value stored there is not an integer")
    count: int = before + amount
    if not limits.INTEGER_MIN <= count <= limits.INTEGER_MAX:
        return Refused(Refusal.INTEGER_OVERFLOW, f"{before} + {amount} leaves the range of signed 64 bits")
    keys.put(key, old, seq.to_bytes(VERSION_BYTES, "big") + pack_integer(count))
    return count


def _expire(keys: Keys, seq: int, now_ms: int, command: Command) -> bool:
    _, key, version = command
    record = keys.records.get(key)
    if record is None or version_of(record) != version or keys.expires_at_ms.get(key, _NEVER) > now_ms:
        return False
    keys.remove(key)
    return True


def _evict(keys: Keys, seq: int, now_ms: int, command: Command) -> bool:
    _, key, version = command
    record = keys.records.get(key)
    if record is None or version_of(record) != version:
        return False
    keys.remove(key)
    return True


WRITES: Final[dict[int, Callable[[Keys, int, int, Command], Any]]] = {
    commands.SET: _set,
    commands.SET_MANY: _set_many,
    commands.DELETE: _delete,
    commands.DELETE_MANY: _delete_many,
    commands.SET_TTL: _set_ttl,
    commands.PERSIST: _persist,
    commands.INCR: _incr,
    commands.EXPIRE: _expire,
    commands.EVICT: _evict,
}

# -- reads ------------------------------------------------------------------------------------------------------


def _get(keys: Keys, now_ms: int, command: Command) -> bytes | None:
    return keys.records.get(command[1])


def _get_many(keys: Keys, now_ms: int, command: Command) -> tuple[bytes | None, ...]:
    return tuple(map(keys.records.get, command[1]))


def _exists(keys: Keys, now_ms: int, command: Command) -> bool:
    return command[1] in keys.records


def _ttl(keys: Keys, now_ms: int, command: Command) -> int:
    key = command[1]
    if key not in keys.records:
        return -2
    at_ms = keys.expires_at_ms.get(key)
    return -1 if at_ms is None else max(0, at_ms - now_ms)


def _scan(keys: Keys, now_ms: int, command: Command) -> tuple[int, int, tuple[bytes, ...]]:
    """One page, from a position in insertion order.

    A removal moves later keys towards the front by one, never further, and nothing else moves them. So stepping
    back by the removals since the last page misses no key that was there throughout; some may come twice.
    """
    _, prefix, position, removals = command
    start = min(max(0, position - max(0, keys.removals - removals)), len(keys.records))
    page = list(islice(keys.records, start, start + limits.SCAN_EXAMINED_MAX))
    end = start + len(page)
    expiry = keys.expires_at_ms
    found = tuple(key for key in page if key.startswith(prefix) and expiry.get(key, _NEVER) > now_ms)
    return (end if end < len(keys.records) else -1), keys.removals, found


READS: Final[dict[int, Callable[[Keys, int, Command], Any]]] = {
    commands.GET: _get,
    commands.GET_MANY: _get_many,
    commands.EXISTS: _exists,
    commands.TTL: _ttl,
    commands.SCAN: _scan,
}
