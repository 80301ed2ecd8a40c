"""Python values to stored bytes and back.

A stored value is always one msgpack object. The default serializer is msgpack itself. With a serializer of the
user's own, what it returns is stored as msgpack binary; integers stay integers under every serializer, so that
`incr` and clients with different serializers agree on them.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from gimmal.errors import IntegerOverflow, InvalidArgument, TooLarge
from gimmal.wire import limits
from gimmal.wire.codec import pack_value, unpack_value

_PLAIN_TYPES: Final = frozenset([str, bytes, int, float, bool, type(None)])
_KEY_TYPES: Final = (str, bytes, int)
_DEPTH_MAX: Final = 100
_ACCEPTED: Final = "None, bool, int, float, str, bytes, list, tuple, and dict with str, bytes or int keys"


class Serializer(Protocol):
    """What `connect(serializer=...)` takes: `dumps` to bytes and `loads` back, such as the `pickle` module."""

    def dumps(self, value: Any, /) -> bytes:
        """Return the value as bytes."""
        ...

    def loads(self, data: bytes, /) -> Any:
        """Return the value of bytes."""
        ...


class Values:
    """Encodes and decodes values; `serializer` None means msgpack."""

    def __init__(self, serializer: Serializer | None = None) -> None:
        self._serializer = serializer
        self.decode: Callable[[bytes], Any] = unpack_value if serializer is None else self._load
        """Returns the value of stored bytes."""

    def encode(self, value: Any) -> bytes:
        """Return the stored bytes of a value.

        Raises:
            TypeError: the value's type is not one the serializer takes.
            IntegerOverflow: an integer is outside signed 64 bits.
            InvalidArgument: a text has a lone surrogate, which UTF-8 cannot hold.
            TooLarge: more than 8 MiB.
        """
        if self._serializer is not None and type(value) is not int:
            value = self._serializer.dumps(value)
            if not isinstance(value, bytes):
                raise TypeError(f"the serializer's dumps returned {type(value).__name__}, not bytes")
        elif type(value) not in _PLAIN_TYPES:
            _check(value, 0)
        try:
            data = pack_value(value)
        except OverflowError:
            raise IntegerOverflow("an integer in the value is outside signed 64 bits") from None
        except UnicodeEncodeError as reason:
            raise InvalidArgument(f"a text in the value is not valid Unicode: {reason.reason}") from None
        if data[0] == 0xCF and data[1] & 0x80:  # msgpack would go on to unsigned 64 bits
            raise IntegerOverflow(f"{value} is outside signed 64 bits")
        if len(data) > limits.VALUE_BYTES_MAX:
            raise TooLarge(f"the value takes {len(data)} bytes; the limit is {limits.VALUE_BYTES_MAX}")
        return data

    def _load(self, data: bytes) -> Any:
        value = unpack_value(data)
        if self._serializer is not None and type(value) is bytes:
            return self._serializer.loads(value)
        return value


def _check(value: Any, depth: int) -> None:
    """Raise TypeError unless a value and all inside it would come back equal (a tuple as a list)."""
    if depth > _DEPTH_MAX:
        raise TypeError(f"the value is nested more than {_DEPTH_MAX} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, _KEY_TYPES) or isinstance(key, bool):
                raise TypeError(f"a dict key of type {type(key).__name__}: str, bytes and int are possible")
            _check(key, depth + 1)
            _check(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, int):
        if not limits.INTEGER_MIN <= value <= limits.INTEGER_MAX:
            raise IntegerOverflow(f"{value} is outside signed 64 bits")
    elif not isinstance(value, str | bytes | float | None):
        raise TypeError(f"a value of type {type(value).__name__} cannot be stored; possible are {_ACCEPTED}")
