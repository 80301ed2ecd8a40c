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
from typing import Any, Final, TypeAlias

import msgpack

from gimmal.errors import LocalProtocolError, RemoteProtocolError
from gimmal.wire import limits, messages
from gimmal.wire.commands import IS_WELL_FORMED
from gimmal.wire.messages import Message, halves

VERSION: Final = 1
_VERSION_BYTE: Final = bytes([VERSION])

Check: TypeAlias = Callable[[Any], bool]


def _is_natural(value: object) -> bool:
    return type(value) is int and 0 <= value <= limits.INTEGER_MAX


def _is_cluster(value: object) -> bool:
    return type(value) is bytes and len(value) in (0, 16)


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= limits.TEXT_BYTES_MAX


def _are_operations(operations: Any) -> bool:
    if type(operations) is not tuple or len(operations) > limits.OPERATIONS_MAX:
        return False
    highest = limits.INTEGER_MAX
    for number, partition, epoch, session, floor, command in operations:
        if not (
            type(number) is type(partition) is type(epoch) is type(session) is type(floor) is type(command[0]) is int
            and 0 < number <= highest
            and 0 <= partition < highest
            and 0 <= epoch <= highest
            and 0 <= session <= highest
            and 0 <= floor <= highest
            and IS_WELL_FORMED[command[0]](command)
        ):
            return False
    return True


_INTEGERS: Final = {int}


def _are_numbers(numbers: Any) -> bool:
    """Check a long list of natural numbers at the speed of C."""
    return (
        type(numbers) is tuple
        and {*map(type, numbers)} <= _INTEGERS
        and min(numbers, default=0) >= 0
        and max(numbers, default=0) <= limits.INTEGER_MAX
    )


def _are_refusals(refusals: Any) -> bool:
    return type(refusals) is tuple and all(
        _is_natural(number) and _is_natural(code) and _is_text(text) for number, code, text in refusals
    )


def _are_facts(facts: Any) -> bool:
    return type(facts) is tuple and all(
        _is_text(name) and (_is_text(value) or type(value) is int) for name, value in facts
    )


def _is_tuple(value: object) -> bool:
    return type(value) is tuple


def _is_tuple_or_none(value: object) -> bool:
    return value is None or type(value) is tuple


_HEADER: Final[dict[str, Check]] = {
    "cluster": _is_cluster,
    "source": _is_natural,
    "destination": _is_natural,
    "table_version": _is_natural,
}

_KINDS: Final[dict[int, tuple[type[Message], dict[str, Check]]]] = {
    1: (
        messages.Request,
        {"receipt": _is_natural, "milliseconds_left": _is_natural, "operations": _are_operations},
    ),
    2: (
        messages.Reply,
        {"receipt": _is_natural, "numbers": _are_numbers, "results": _is_tuple, "refusals": _are_refusals},
    ),
    3: (messages.FetchTable, {}),
    4: (messages.TableRows, {"table": _is_tuple_or_none}),
    5: (messages.FetchStatus, {}),
    6: (messages.Status, {"facts": _are_facts}),
    7: (messages.Problem, {"fault": _is_natural, "text": _is_text}),
}

FOR_NODES: Final = frozenset([1, 3, 5])
"""The kinds that a client sends: the others are refused before they are looked into."""

_DECODERS: Final = {
    kind: (message_class, tuple((_HEADER | fields).values())) for kind, (message_class, fields) in _KINDS.items()
}
_ENCODERS: Final = {
    message_class: (_VERSION_BYTE + bytes([kind]), attrgetter(*(_HEADER | fields)))
    for kind, (message_class, fields) in _KINDS.items()
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
    """Return the message of a frame; `expected` are the kinds that the receiver takes, such as `FOR_NODES`.

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
            is_table = message_class is messages.TableRows
            _count_items(frame, limits.TABLE_ITEMS_MAX if is_table else limits.LARGE_FRAME_ITEMS_MAX)
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
