"""The commands of a partition: their codes, their shapes, and the check of what a client sent.

A command is a tuple `(code, *arguments)`: the smallest thing that a log can hold and `apply` can dispatch on.
Keys and values are bytes; times are integer milliseconds; an absent `if_version` is None.

    GET          key                                     -> record | None          (record: see `gimmal.store.kv`)
    GET_MANY     keys                                    -> (record | None, ...)
    EXISTS       key                                     -> bool
    TTL          key                                     -> ms left | -1 no expiry | -2 no such key
    SCAN         prefix, position, removals              -> (next position | -1, removals, keys)
    SET          key, value, ttl_ms, flags, if_version   -> bool                   (ttl_ms 0: no expiry)
    SET_MANY     (key, value, key, value, ...), ttl_ms   -> number set
    DELETE       key                                     -> bool
    DELETE_MANY  keys                                    -> number deleted
    SET_TTL      key, ttl_ms                             -> bool
    PERSIST      key                                     -> bool
    INCR         key, amount                             -> int
    OPEN_SESSION                                         -> the session's id: the sequence number of this entry

Some commands are the leader's own and are never accepted from a client: NOOP, with which an epoch begins, and those
born of timers. These name what they saw and do nothing if it has changed: EXPIRE (key, version), EVICT (key, version),
CLOSE_SESSION (session, the number it used last) -> bool.

Those about queues are in `gimmal.wire.queue_commands`; their first argument is the key by which a queue is placed.
"""

from collections.abc import Callable
from typing import Final

from gimmal.types import Command
from gimmal.wire import limits, queue_commands

GET: Final = 1
GET_MANY: Final = 2
EXISTS: Final = 3
TTL: Final = 4
SCAN: Final = 5
SET: Final = 16
SET_MANY: Final = 17
DELETE: Final = 18
DELETE_MANY: Final = 19
SET_TTL: Final = 20
PERSIST: Final = 21
INCR: Final = 22
OPEN_SESSION: Final = 32
EXPIRE: Final = 64
EVICT: Final = 65
NOOP: Final = 66
CLOSE_SESSION: Final = 67

FIRST_WRITE: Final = SET
"""Codes below only read; this one and those above change state and pass the log."""

FIRST_OWN: Final = EXPIRE
"""From this one on they are the leader's own."""

ONE_KEY: Final = (
    frozenset([GET, EXISTS, TTL, SET, DELETE, SET_TTL, PERSIST, INCR, EXPIRE, EVICT]) | queue_commands.CODES
)
"""Commands whose first argument is their only key."""

NX: Final = 1
XX: Final = 2
KEEP_TTL: Final = 4

NAMES: Final = {
    GET: "get",
    GET_MANY: "get_many",
    EXISTS: "exists",
    TTL: "ttl",
    SCAN: "scan",
    SET: "set",
    SET_MANY: "set_many",
    DELETE: "delete",
    DELETE_MANY: "delete_many",
    SET_TTL: "expire",
    PERSIST: "persist",
    INCR: "incr",
    OPEN_SESSION: "open session",
    EXPIRE: "expire (timer)",
    EVICT: "evict (timer)",
    NOOP: "no-op",
    CLOSE_SESSION: "close session (timer)",
    **queue_commands.NAMES,
}


def keys_of(command: Command) -> tuple[bytes, ...]:
    """Return the keys a command names; empty for SCAN, and for those that are about no key."""
    code = command[0]
    if code in (GET_MANY, DELETE_MANY):
        keys: tuple[bytes, ...] = command[1]
        return keys
    if code == SET_MANY:
        pairs: tuple[bytes, ...] = command[1]
        return pairs[::2]
    return () if code in _KEYLESS else (command[1],)


_KEYLESS: Final = frozenset([SCAN, OPEN_SESSION, NOOP, CLOSE_SESSION])


ENTRY_BYTES: Final = 320
"""About what an entry of a log takes in memory besides its keys and values."""


def size_of(command: Command) -> int:
    """Return about how many bytes a command takes in a log."""
    code = command[0]
    if code == SET:
        return ENTRY_BYTES + len(command[1]) + len(command[2])
    if code in (SET_MANY, DELETE_MANY):
        return ENTRY_BYTES + sum(map(len, command[1])) + 64 * len(command[1])
    return ENTRY_BYTES + queue_commands.extra_bytes(command) if code in queue_commands.CODES else ENTRY_BYTES


_KEY_BYTES_MAX: Final = limits.KEY_BYTES_MAX  # checked for every operation: a name of this module is cheaper
_VALUE_BYTES_MAX: Final = limits.VALUE_BYTES_MAX
_TTL_MS_MAX: Final = limits.TTL_MS_MAX
_FLAGS: Final = NX | XX | KEEP_TTL


def _key(key: object) -> bool:
    return type(key) is bytes and 0 < len(key) <= limits.KEY_BYTES_MAX


def _value(value: object) -> bool:
    return type(value) is bytes and 0 < len(value) <= limits.VALUE_BYTES_MAX


def _between(number: object, low: int, high: int) -> bool:
    return type(number) is int and low <= number <= high


def _one_key(command: Command) -> bool:
    _, key = command
    return type(key) is bytes and 0 < len(key) <= _KEY_BYTES_MAX


def _many_keys(command: Command) -> bool:
    _, keys = command
    return type(keys) is tuple and 0 < len(keys) <= limits.OPERATIONS_MAX and all(map(_key, keys))


def _scan(command: Command) -> bool:
    _, prefix, position, removals = command
    return (
        type(prefix) is bytes
        and len(prefix) <= limits.KEY_BYTES_MAX
        and _between(position, 0, limits.INTEGER_MAX)
        and _between(removals, 0, limits.INTEGER_MAX)
    )


def _set(command: Command) -> bool:
    _, key, value, ttl_ms, flags, if_version = command
    return (
        type(key) is type(value) is bytes
        and 0 < len(key) <= _KEY_BYTES_MAX
        and 0 < len(value) <= _VALUE_BYTES_MAX
        and type(ttl_ms) is type(flags) is int
        and 0 <= ttl_ms <= _TTL_MS_MAX
        and 0 <= flags <= _FLAGS
        and (if_version is None or _between(if_version, 0, limits.INTEGER_MAX))
    )


def _set_many(command: Command) -> bool:
    _, pairs, ttl_ms = command
    return (
        type(pairs) is tuple
        and 0 < len(pairs) <= 2 * limits.OPERATIONS_MAX
        and len(pairs) % 2 == 0
        and all(map(_key, pairs[::2]))
        and all(map(_value, pairs[1::2]))
        and sum(map(len, pairs)) <= limits.SET_MANY_BYTES_MAX
        and _between(ttl_ms, 0, limits.TTL_MS_MAX)
    )


def _set_ttl(command: Command) -> bool:
    _, key, ttl_ms = command
    return _key(key) and _between(ttl_ms, 1, limits.TTL_MS_MAX)


def _incr(command: Command) -> bool:
    _, key, amount = command
    return _key(key) and _between(amount, limits.INTEGER_MIN, limits.INTEGER_MAX)


def _alone(command: Command) -> bool:
    return type(command) is tuple and len(command) == 1  # bytes have a first item, too


def _about_a_version(command: Command) -> bool:
    _, key, version = command
    return _key(key) and _between(version, 0, limits.INTEGER_MAX)


def _about_a_session(command: Command) -> bool:
    _, session, number = command
    return (
        type(command) is tuple and _between(session, 1, limits.INTEGER_MAX) and _between(number, 0, limits.INTEGER_MAX)
    )


IS_WELL_FORMED: Final[dict[int, Callable[[Command], bool]]] = {
    GET: _one_key,
    GET_MANY: _many_keys,
    EXISTS: _one_key,
    TTL: _one_key,
    SCAN: _scan,
    SET: _set,
    SET_MANY: _set_many,
    DELETE: _one_key,
    DELETE_MANY: _many_keys,
    SET_TTL: _set_ttl,
    PERSIST: _one_key,
    INCR: _incr,
    OPEN_SESSION: _alone,
    **queue_commands.IS_WELL_FORMED,
}
"""For each code that a client may send: does the tuple have its shape? May raise TypeError or ValueError."""

MAY_BE_LOGGED: Final = {
    **{code: check for code, check in IS_WELL_FORMED.items() if code >= FIRST_WRITE},
    EXPIRE: _about_a_version,
    EVICT: _about_a_version,
    NOOP: _alone,
    CLOSE_SESSION: _about_a_session,
    **queue_commands.OWN_ARE_WELL_FORMED,
}
"""The same for each code that a log may hold."""
