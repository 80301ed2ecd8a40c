"""Messages to frames and back: the only module that knows msgpack.

A frame is one version byte, one kind byte, and a msgpack array of the message's fields in their order. Values
inside operations are msgpack too, nested as opaque bytes: a node stores and returns them and looks inside only
to count (`integer_of`).

Decoding trusts nothing. Containers become tuples, maps and extension types do not occur in messages, every
field has a check, and a frame above `PLAIN_FRAME_BYTES_MAX` has its items counted before anything is built: a
few megabytes of empty containers would otherwise become a gigabyte of objects. Whatever is wrong is raised as
`RemoteProtocolError` and nothing else.
"""

from collections.abc import Callable, Container, Iterator
from operator import attrgetter
from typing import Any, Final

import msgpack

from gimmal.errors import LocalProtocolError, RemoteProtocolError
from gimmal.wire import limits
from gimmal.wire.kinds import KINDS, WITH_TREES
from gimmal.wire.messages import Message, Wire, halves

VERSION: Final = 2
_VERSION_BYTE: Final = bytes([VERSION])

_DECODERS: Final = {kind: (message_class, tuple(fields.values())) for kind, (message_class, fields) in KINDS.items()}
_ENCODERS: Final = {
    message_class: (_VERSION_BYTE + bytes([kind]), attrgetter(*fields))
    for kind, (message_class, fields) in KINDS.items()
}

_pack: Final[Callable[[Any], bytes]] = msgpack.Packer(use_bin_type=True).pack


def encode(message: Message) -> bytes:
    """Return the frame of one message, however long it is."""
    prefix, fields = _ENCODERS[type(message)]
    return prefix + _pack(fields(message))


def frames(message: Message) -> Iterator[tuple[Message, bytes]]:
    """Yield the message with its frame, or parts of it with theirs, cut so that each frame stays plain if it can.

    Raises:
        LocalProtocolError: a part that cannot be cut exceeds `MESSAGE_BYTES_MAX`.
    """
    frame = encode(message)
    if len(frame) <= limits.PLAIN_FRAME_BYTES_MAX:
        yield message, frame
        return
    parts = halves(message)
    if parts is not None:
        for part in parts:
            yield from frames(part)
    elif len(frame) <= limits.MESSAGE_BYTES_MAX:
        yield message, frame
    else:
        raise LocalProtocolError(
            f"a {type(message).__name__} of {len(frame)} bytes cannot be sent: the limit is "
            f"{limits.MESSAGE_BYTES_MAX} bytes and it cannot be cut"
        )


def decode(frame: bytes, expected: Container[int] = _DECODERS) -> Message:
    """Return the message of a frame; `expected` are the kinds that the receiver takes (`gimmal.wire.kinds`).

    Raises:
        RemoteProtocolError: the frame is not a well-formed message of this protocol version.
    """
    if len(frame) < 2:
        raise RemoteProtocolError(f"a frame of {len(frame)} bytes: a message has at least 2")
    if frame[0] != VERSION:
        raise RemoteProtocolError(f"protocol version {frame[0]}: this side speaks version {VERSION}")
    decoder = _DECODERS.get(frame[1])
    if decoder is None or frame[1] not in expected:
        name = decoder[0].__name__ if decoder else "unknown"
        raise RemoteProtocolError(f"unexpected kind of message: {frame[1]} ({name})")
    message_class, checks = decoder
    try:
        if len(frame) > limits.PLAIN_FRAME_BYTES_MAX:
            has_tree = frame[1] in WITH_TREES
            _count_items(frame, limits.TABLE_ITEMS_MAX if has_tree else limits.LARGE_FRAME_ITEMS_MAX)
        elif _may_promise_much(frame):
            _count_items(frame, len(frame))
        fields = msgpack.unpackb(
            memoryview(frame)[2:],
            use_list=False,
            max_map_len=0,
            max_ext_len=0,
            object_hook=_refuse,  # the limits of 0 let the empty ones pass
            ext_hook=_refuse,
        )
        if type(fields) is tuple and len(fields) == len(checks):
            for check, field in zip(checks, fields, strict=True):
                if not check(field):
                    break
            else:
                return message_class(*fields)
    except (ValueError, TypeError, LookupError, msgpack.UnpackException) as reason:
        raise RemoteProtocolError(f"malformed {message_class.__name__}: {reason or type(reason).__name__}") from None
    raise RemoteProtocolError(f"malformed {message_class.__name__}: a field has the wrong type, size or range")


def _refuse(*_: object) -> None:
    raise ValueError("maps and extensions do not occur in messages")


def _may_promise_much(frame: bytes) -> bool:
    """Say whether a frame may hold many long arrays: the parser reserves room for what each one promises."""
    return frame.count(_ARRAY_16) + frame.count(_ARRAY_32) > _LONG_ARRAYS_MAX


def _count_items(frame: bytes, items_max: int) -> None:
    """Walk a frame's msgpack without building anything; raise ValueError when it holds or promises too many items.

    Lengths of strings are only followed, never checked against the frame: what they get wrong, the decoder finds.
    """
    if len(frame) > limits.MESSAGE_BYTES_MAX:
        raise ValueError(f"{len(frame)} bytes: the limit is {limits.MESSAGE_BYTES_MAX}")
    position, items, promised, end = 2, 0, 0, len(frame)
    while position < end:
        items += 1
        if items > items_max:
            raise ValueError(f"more than {items_max} items in a frame of {end} bytes")
        marker = frame[position]
        position += 1
        if 0xA0 <= marker <= 0xBF:  # a short string carries its length in the marker
            position += marker & 0x1F
        elif marker in _COUNT_BYTES:
            width = _COUNT_BYTES[marker]
            promised += int.from_bytes(frame[position : position + width], "big")
            if promised > end:
                raise ValueError(f"arrays of more items than the {end} bytes can hold")
            position += width
        elif marker in _LENGTH_BYTES:
            width = _LENGTH_BYTES[marker]
            position += width + int.from_bytes(frame[position : position + width], "big")
        else:
            position += _NUMBER_BYTES.get(marker, 0)  # others stand alone, or are refused by the decoder


_LENGTH_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bin and str 8, 16, 32
_NUMBER_BYTES: Final = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_COUNT_BYTES: Final = {0xDC: 2, 0xDD: 4}  # arrays 16 and 32: their items are walked
_ARRAY_16: Final = b"\xdc"
_ARRAY_32: Final = b"\xdd"
_LONG_ARRAYS_MAX: Final = 64


def pack_tree(tree: Wire) -> bytes:
    """Return the msgpack bytes of a tree of tuples, as a journal keeps it."""
    return _pack(tree)


def unpack_tree(data: bytes) -> Wire:
    """Return the tree that `pack_tree` packed. Raises `RemoteProtocolError` if the bytes are none."""
    try:
        return msgpack.unpackb(
            data, use_list=False, max_map_len=0, max_ext_len=0, object_hook=_refuse, ext_hook=_refuse
        )
    except (ValueError, TypeError, msgpack.UnpackException) as reason:
        raise RemoteProtocolError(f"not a tree: {reason or type(reason).__name__}") from None


def pack_value(value: Any) -> bytes:
    """Return the msgpack bytes of a value. Raises TypeError or OverflowError as msgpack does."""
    return _pack(value)


def unpack_value(data: bytes | memoryview) -> Any:
    """Return the value of msgpack bytes. Raises `RemoteProtocolError` if they are not one value."""
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as reason:
        raise RemoteProtocolError(f"a stored value is not msgpack: {reason or type(reason).__name__}") from None


def pack_integer(number: int) -> bytes:
    """Return the bytes under which an integer within signed 64 bits is stored."""
    return _pack(number)


_INTEGER_MARKERS: Final = frozenset([*range(0x80), *range(0xCC, 0xD4), *range(0xE0, 0x100)])


def integer_of(data: bytes) -> int | None:
    """Return the integer that stored bytes hold, or None when they hold something else."""
    if data[0] not in _INTEGER_MARKERS or len(data) > 9:
        return None
    try:
        number: int = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException):
        return None
    return number
