"""From a user's arguments to a `Call`: checks, keys to bytes and partitions, values to bytes, results back.

Both clients build every call here, so a rule about arguments stands once. Everything wrong with an argument is
raised from here, before anything is sent.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

from gimmal.client.calls import Call
from gimmal.client.values import Values
from gimmal.errors import InvalidArgument, TooLarge
from gimmal.hashing import SLOTS, key_slot
from gimmal.types import Command
from gimmal.wire import commands as wire
from gimmal.wire import limits

_T = TypeVar("_T")

Key: TypeAlias = str | bytes
Consistency: TypeAlias = Literal["linearizable", "any"]

_VERSION_BYTES = 8


def encode_key(key: Key) -> bytes:
    """Return a key's bytes; raises InvalidArgument for a wrong length, TypeError for a wrong type."""
    if isinstance(key, str):
        try:
            data = str.encode(key)
        except UnicodeEncodeError as reason:
            raise InvalidArgument(f"key {key!r} is not valid Unicode: {reason.reason}") from None
    elif isinstance(key, bytes):
        data = bytes(key)
    else:
        raise TypeError(f"a key is str or bytes, not {type(key).__name__}")
    if not 0 < len(data) <= limits.KEY_BYTES_MAX:
        raise InvalidArgument(f"a key has 1 to {limits.KEY_BYTES_MAX} bytes, this one {len(data)}")
    return data


def prefix_bytes(prefix: Key) -> bytes:
    """Return the bytes of a key's beginning, which may be empty."""
    return b"" if not prefix and isinstance(prefix, str | bytes) else encode_key(prefix)


def ttl_to_ms(ttl: float) -> int:
    """Return a time to live in whole milliseconds, rounded up; raises InvalidArgument."""
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"ttl is a number of seconds, not {type(ttl).__name__}")
    if not 0 < ttl <= limits.TTL_MS_MAX / 1000:  # also refuses NaN
        raise InvalidArgument(f"ttl is a number of seconds above 0 and below 100 years, not {ttl}")
    return math.ceil(ttl * 1000)


def _keys_command(code: int, keys: Collection[bytes]) -> Command:
    """Return GET or DELETE for one key, and GET_MANY or DELETE_MANY for several: with many partitions most have one."""
    if len(keys) == 1:
        return (code, *keys)
    return (wire.GET_MANY if code == wire.GET else wire.DELETE_MANY, tuple(keys))


def _check_set_many_size(pairs: list[bytes]) -> None:
    size_bytes = sum(map(len, pairs))
    if size_bytes > limits.SET_MANY_BYTES_MAX:
        raise TooLarge(
            f"set_many of {size_bytes} bytes to one partition ({len(pairs) // 2} keys, such as {pairs[0]!r}): "
            f"at most {limits.SET_MANY_BYTES_MAX} can be set at once; use several calls"
        )


def _as_wanted(call: Call[_T], consistency: Consistency) -> Call[_T]:
    """Let any copy answer a call, if that is the consistency that is wanted."""
    if consistency == "any":
        call.is_any = True
    elif consistency != "linearizable":
        raise InvalidArgument(f"consistency is 'linearizable' or 'any', not {consistency!r}")
    return call


def _check_integer(name: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} is an int, not {type(number).__name__}")
    if not limits.INTEGER_MIN <= number <= limits.INTEGER_MAX:
        raise InvalidArgument(f"{name} is within signed 64 bits, not {number}")
    return int(number)


def _first(results: list[Any]) -> Any:
    return results[0]


def _seconds(results: list[Any]) -> float:
    ms: int = results[0]
    return ms / 1000 if ms >= 0 else float(ms)


class Commands:
    """Builds calls for a cluster of `partitions` partitions."""

    def __init__(self, partitions: int, values: Values) -> None:
        self._slots_per_partition = SLOTS // partitions
        self._encode = values.encode
        self._decode = values.decode

    # -- one key ----------------------------------------------------------------------------------------------

    def get(self, key: Key, default: Any, consistency: Consistency) -> Call[Any]:
        """Return the call for the value of a key, or the default."""
        if default is None:
            call = self._one(wire.GET, key, decode=self._value)
        else:
            call = self._one(wire.GET, key, decode=lambda results: self._value(results, default))
        return call if consistency == "linearizable" else _as_wanted(call, consistency)

    def get_versioned(self, key: Key) -> Call[tuple[Any, int] | None]:
        """Return the call for a key's value and version."""
        return self._one(wire.GET, key, decode=self._versioned)

    def set(
        self,
        key: Key,
        value: Any,
        ttl: float | None,
        flags: tuple[bool, bool, bool],
        if_version: int | None,
    ) -> Call[bool]:
        """Return the call that sets a key. `flags` are (nx, xx, keep_ttl)."""
        bits = 0
        if any(flags):
            bits = self._flags(flags, ttl)
        if if_version is not None and _check_integer("if_version", if_version) < 0:
            raise InvalidArgument(f"if_version is 0 (absent) or a version, not {if_version}")
        ttl_ms = 0 if ttl is None else ttl_to_ms(ttl)
        return self._one(wire.SET, key, self._encode(value), ttl_ms, bits, if_version)

    def delete(self, key: Key) -> Call[bool]:
        """Return the call that deletes a key."""
        return self._one(wire.DELETE, key)

    def exists(self, key: Key, consistency: Consistency) -> Call[bool]:
        """Return the call that asks whether a key exists."""
        return _as_wanted(self._one(wire.EXISTS, key), consistency)

    def ttl(self, key: Key, consistency: Consistency) -> Call[float]:
        """Return the call for the seconds a key has left; -1 for ever, -2 no such key."""
        return _as_wanted(self._one(wire.TTL, key, decode=_seconds), consistency)

    def expire(self, key: Key, ttl: float) -> Call[bool]:
        """Return the call that lets a key expire."""
        return self._one(wire.SET_TTL, key, ttl_to_ms(ttl))

    def persist(self, key: Key) -> Call[bool]:
        """Return the call that lets a key live for ever."""
        return self._one(wire.PERSIST, key)

    def incr(self, key: Key, amount: int) -> Call[int]:
        """Return the call that adds to a counter."""
        return self._one(wire.INCR, key, _check_integer("amount", amount))

    def decr(self, key: Key, amount: int) -> Call[int]:
        """Return the call that subtracts from a counter."""
        return self._one(wire.INCR, key, _check_integer("-amount", -_check_integer("amount", amount)))

    # -- many keys --------------------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[Key], consistency: Consistency) -> Call[dict[Any, Any]]:
        """Return the call for the values of many keys."""
        groups = self._by_partition(keys)
        parts = [(partition, _keys_command(wire.GET, group)) for partition, group in groups.items()]
        decode_value = self._decode

        def decode(results: list[Any]) -> dict[Any, Any]:
            found = {}
            for group, result in zip(groups.values(), results, strict=True):
                if result is not None:  # None: no such key, or this part failed
                    records = result if type(result) is tuple else (result,)
                    for key, record in zip(group.values(), records, strict=True):
                        if record is not None:
                            found[key] = decode_value(record[_VERSION_BYTES:])
            return found

        return _as_wanted(Call(parts, decode, groups.values()), consistency)

    def set_many(self, mapping: Mapping[Key, Any], ttl: float | None) -> Call[int]:
        """Return the call that sets many keys."""
        ttl_ms = 0 if ttl is None else ttl_to_ms(ttl)
        groups = self._by_partition(mapping)
        encode = self._encode
        parts: list[tuple[int, Command]] = []
        for partition, group in groups.items():
            pairs: list[bytes] = []
            for data, key in group.items():
                pairs += (data, encode(mapping[key]))
            if len(pairs) == 2:
                parts.append((partition, (wire.SET, *pairs, ttl_ms, 0, None)))
            else:
                _check_set_many_size(pairs)
                parts.append((partition, (wire.SET_MANY, tuple(pairs), ttl_ms)))
        return Call(parts, sum, groups.values())

    def delete_many(self, keys: Iterable[Key]) -> Call[int]:
        """Return the call that deletes many keys."""
        groups = self._by_partition(keys)
        parts = [(partition, _keys_command(wire.DELETE, group)) for partition, group in groups.items()]
        return Call(parts, sum, groups.values())

    def scan_pages(self, pages: Mapping[int, tuple[int, int]], prefix: bytes) -> Call[list[Any]]:
        """Return the call for one page of several partitions: partition -> (position, removals)."""
        parts = [(partition, (wire.SCAN, prefix, *cursor)) for partition, cursor in pages.items()]
        return Call(parts, list)

    # -- the common part --------------------------------------------------------------------------------------

    def _one(self, code: int, key: Key, *rest: Any, decode: Callable[[list[Any]], Any] = _first) -> Call[Any]:
        data = encode_key(key)
        return Call(((key_slot(data) // self._slots_per_partition, (code, data, *rest)),), decode)

    def _by_partition(self, keys: Iterable[Key]) -> dict[int, dict[bytes, Key]]:
        """Return partition -> key's bytes -> key as given."""
        if isinstance(keys, str | bytes):
            raise TypeError(f"expected several keys, not the one key {keys!r}")
        slots_per_partition = self._slots_per_partition
        groups: dict[int, dict[bytes, Key]] = {}
        for key in keys:
            data = encode_key(key)
            partition = key_slot(data) // slots_per_partition
            group = groups.get(partition)
            if group is None:
                groups[partition] = {data: key}
            else:
                group[data] = key
        for group in groups.values():
            if len(group) > limits.OPERATIONS_MAX:
                raise InvalidArgument(
                    f"{len(group)} keys of one call share a partition (such as {next(iter(group))!r}); "
                    f"at most {limits.OPERATIONS_MAX} can: use several calls"
                )
        return groups

    def _value(self, results: list[Any], default: Any = None) -> Any:
        record = results[0]
        return default if record is None else self._decode(record[_VERSION_BYTES:])

    def _versioned(self, results: list[Any]) -> tuple[Any, int] | None:
        record = results[0]
        if record is None:
            return None
        return self._decode(record[_VERSION_BYTES:]), int.from_bytes(record[:_VERSION_BYTES], "big")

    def _flags(self, flags: tuple[bool, bool, bool], ttl: float | None) -> int:
        nx, xx, keep_ttl = flags
        if nx and xx:
            raise InvalidArgument("nx (only if absent) and xx (only if present) exclude each other")
        if keep_ttl and ttl is not None:
            raise InvalidArgument("keep_ttl and ttl exclude each other")
        return (wire.NX if nx else 0) | (wire.XX if xx else 0) | (wire.KEEP_TTL if keep_ttl else 0)
