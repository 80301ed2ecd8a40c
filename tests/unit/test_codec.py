"""The bytes of the protocol, its bounds, and what a hostile peer may try.

`GOLDEN` is the protocol: a change of these bytes is a change of protocol, and needs another version byte.
"""

import struct
from typing import Any

import pytest

from gimmal.errors import LocalProtocolError, RemoteProtocolError
from gimmal.types import Command
from gimmal.wire import commands, limits
from gimmal.wire.codec import decode, encode, frames, integer_of, pack_integer, pack_value, unpack_value
from gimmal.wire.kinds import FROM_CLIENTS, FROM_NODES, KINDS, TO_CLIENTS
from gimmal.wire.messages import (
    Digests,
    FetchDigests,
    FetchStatus,
    FetchTable,
    KeepAlive,
    Message,
    Operate,
    Operated,
    Problem,
    Reply,
    Request,
    Status,
    TableRows,
)
from tests.unit.hostile import JUNK, check_flips, check_truncations, peak_bytes_of_refusing, refusal_of

CLUSTER = bytes(range(16))
K, V = b"key", pack_value("v")
COMMANDS: tuple[Command, ...] = (
    (commands.GET, K),
    (commands.GET_MANY, (K, b"l")),
    (commands.EXISTS, K),
    (commands.TTL, K),
    (commands.SCAN, b"", 7, 9),
    (commands.SET, K, V, 1_500, commands.NX, None),
    (commands.SET, K, V, 0, 0, 300),
    (commands.SET_MANY, (K, V, b"l", V), 0),
    (commands.DELETE, K),
    (commands.DELETE_MANY, (K, b"l")),
    (commands.SET_TTL, K, 60_000),
    (commands.PERSIST, K),
    (commands.INCR, K, -(2**63)),
)
OPERATIONS = tuple((number, 5, 1, 0, 0, command) for number, command in enumerate(COMMANDS, start=1))
GOLDEN: dict[str, tuple[Message, str]] = {
    "request": (
        Request(CLUSTER, 0, 2, 1, 77, 5_000, OPERATIONS),
        "020197c410000102030405060708090a0b0c0d0e0f0002014dcd13889d9601050100009201c4036b65799602"
        "05010000920292c4036b6579c4016c9603050100009203c4036b65799604050100009204c4036b6579960505"
        "0100009405c40007099606050100009610c4036b6579c402a176cd05dc01c09607050100009610c4036b6579"
        "c402a1760000cd012c960805010000931194c4036b6579c402a176c4016cc402a176009609050100009212c4"
        "036b6579960a05010000921392c4036b6579c4016c960b050100009314c4036b6579cdea60960c0501000092"
        "15c4036b6579960d050100009316c4036b6579d38000000000000000",
    ),
    "reply": (
        Reply(CLUSTER, 2, 0, 1, 2**47, (1, 2, 3), (b"\0" * 8 + V, (None, V), True), ((4, 1, "moved"),)),
        "020298c410000102030405060708090a0b0c0d0e0f020001cf00008000000000009301020393c40a00000000"
        "00000000a17692c0c402a176c391930401a56d6f766564",
    ),
    "fetch table": (FetchTable(b"", 0, 0, 0), "020394c400000000"),
    "table": (
        TableRows(CLUSTER, 2, 0, 9, (CLUSTER, 9, 4, ("n1/a",), (), ((3, None, 1, 1, (), (), (), (), (), 7, 0),))),
        "020495c410000102030405060708090a0b0c0d0e0f02000996c410000102030405060708090a0b0c0d0e0f09"
        "0491a46e312f6190919b03c0010190909090900700",
    ),
    "no newer table": (
        TableRows(CLUSTER, 2, 0, 1, None),
        "020495c410000102030405060708090a0b0c0d0e0f020001c0",
    ),
    "fetch status": (FetchStatus(CLUSTER, 0, 2, 1), "020594c410000102030405060708090a0b0c0d0e0f000201"),
    "status": (
        Status(CLUSTER, 2, 0, 1, (("name", "n1"), ("entries", 3))),
        "020695c410000102030405060708090a0b0c0d0e0f0200019292a46e616d65a26e3192a7656e747269657303",
    ),
    "problem": (
        Problem(b"", 2, 0, 1, 1, "a frame of 0 bytes"),
        "020796c40002000101b261206672616d65206f662030206279746573",
    ),
    "fetch digests": (
        FetchDigests(CLUSTER, 2, 0, 9, 512),
        "020a95c410000102030405060708090a0b0c0d0e0f020009cd0200",
    ),
    "digests": (
        Digests(CLUSTER, 2, 0, 9, -1, ((3, 2, 40, b"12345678"),)),
        "020b96c410000102030405060708090a0b0c0d0e0f020009ff9194030228c4083132333435363738",
    ),
    "keep alive": (
        KeepAlive(CLUSTER, 0, 2, 1, CLUSTER),
        "020c95c410000102030405060708090a0b0c0d0e0f000201c410000102030405060708090a0b0c0d0e0f",
    ),
    "operate": (Operate(b"", 0, 0, 0, (8, 3, "n2")), "020895c400000000930803a26e32"),
    "operated": (
        Operated(CLUSTER, 2, 0, 9, 1, 4, "n2 is not there"),
        "020997c410000102030405060708090a0b0c0d0e0f0200090104af6e32206973206e6f74207468657265",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    message, expected = GOLDEN[name]
    assert encode(message).hex() == "".join(expected.split())
    assert decode(encode(message)) == message


def test_every_kind_has_golden_bytes() -> None:
    """Those between nodes have theirs in `test_peer_codec.py`."""
    assert sorted(encode(message)[1] for message, _ in GOLDEN.values()) == [1, 2, 3, 4, 4, *range(5, 13)]
    assert {encode(message)[1] for message, _ in GOLDEN.values()} == KINDS.keys() - FROM_NODES


def test_clients_and_nodes_take_what_is_for_them() -> None:
    assert sorted(FROM_CLIENTS) == [1, 3, 5, 8, 10, 12]
    assert sorted(TO_CLIENTS) == [2, 4, 6, 7, 9, 11]
    for message, _ in GOLDEN.values():
        frame = encode(message)
        for expected in (FROM_CLIENTS, TO_CLIENTS, FROM_NODES):
            if frame[1] in expected:
                assert decode(frame, expected) == message
            else:
                with pytest.raises(RemoteProtocolError, match="unexpected kind"):
                    decode(frame, expected)


def test_refusals_and_faults_keep_their_numbers() -> None:
    """They travel as numbers: a new one is appended, an old one never changes."""
    from gimmal.wire.messages import Fault, Refusal

    assert [refusal.name for refusal in sorted(Refusal)] == [
        *(
            "MOVED",
            "OVERLOADED",
            "INVALID",
            "NOT_AN_INTEGER",
            "INTEGER_OVERFLOW",
            "TOO_LARGE",
            "OUT_OF_MEMORY",
            "WRONG_CLUSTER",
            "NOT_ENOUGH_REPLICAS",
            "UNDECIDED",
            "SESSION_EXPIRED",
            "TOO_OLD",
            "DATA_LOST",
            "NO_QUEUE",
            "NO_GROUP",
            "SETTINGS_MISMATCH",
            "QUEUE_FULL",
        )
    ]
    assert list(map(int, Refusal)) == list(range(1, 18))
    assert [(fault.name, int(fault)) for fault in Fault] == [
        *(("MALFORMED", 1), ("WRONG_CLUSTER", 2), ("UNEXPECTED", 3), ("NOT_READY", 4))
    ]


# -- hostile input ---------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_every_truncation_is_refused(name: str) -> None:
    check_truncations(GOLDEN[name][0])


@pytest.mark.parametrize("name", GOLDEN)
def test_every_flip_of_a_byte_is_refused_or_another_message(name: str) -> None:
    check_flips(GOLDEN[name][0])


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "0 bytes"),
        (b"\x01", "1 bytes"),
        (b"\x01\x03", "version 1: this side speaks version 2"),
        (b"\x00\x03", "version 0"),
        (b"\x02\x00", "unexpected kind of message: 0"),
        (b"\x02\xff", "unexpected kind of message: 255"),
        (b"\x02\x03", "malformed FetchTable"),
        (b"\x02\x03\xc1", "malformed FetchTable"),
        (b"\x02\x03\x94\xc4\x00\x00\x00\x00\x00", "malformed FetchTable"),  # something behind it
    ],
)
def test_what_is_no_message_says_so(frame: bytes, said: str) -> None:
    assert said in refusal_of(frame)


def request_with(operations: Any) -> bytes:
    return b"\x02\x01" + pack_value((b"", 0, 0, 0, 0, 0, operations))


def request_of(command: Any) -> bytes:
    return request_with(((1, 0, 0, 0, 0, command),))


SET, GET = commands.SET, commands.GET
LONG_KEY = b"k" * (limits.KEY_BYTES_MAX + 1)


@pytest.mark.parametrize(
    "command",
    [
        None, (), 7, b"", b"\x01\x02", "get", {}, (None,), (GET,), (GET, K, K), (0, K), (99, K), (-1, K),
        ("1", K),
        ((), K), ({}, K), (1.5, K), (float("nan"), K), (GET, "key"), (GET, 5), (GET, None), (GET, (K,)),
        (GET, b""), (GET, LONG_KEY), (commands.DELETE, LONG_KEY), (commands.TTL, b""),
        (commands.PERSIST, b""),
        (commands.EXPIRE, K, 1), (commands.EVICT, K, 1),
        (commands.GET_MANY, ()), (commands.GET_MANY, K), (commands.GET_MANY, (K, "l")),
        (commands.GET_MANY, {}),
        (commands.DELETE_MANY, (K, b"")), (commands.DELETE_MANY, (LONG_KEY,)),
        (commands.GET_MANY, (K,) * (limits.OPERATIONS_MAX + 1)),
        (commands.SCAN, LONG_KEY, 0, 0), (commands.SCAN, "", 0, 0), (commands.SCAN, b"", -1, 0),
        (commands.SCAN, b"", 0, 2**63), (commands.SCAN, b"", 0.0, 0), (commands.SCAN, b"", 0, False),
        (SET, b"", V, 0, 0, None), (SET, LONG_KEY, V, 0, 0, None), (SET, K, b"", 0, 0, None),
        (SET, K, "v", 0, 0, None), (SET, K, 5, 0, 0, None), (SET, K, None, 0, 0, None),
        (SET, K, V, -1, 0, None), (SET, K, V, limits.TTL_MS_MAX + 1, 0, None), (SET, K, V, 1.5, 0, None),
        (SET, K, V, True, 0, None), (SET, K, V, float("nan"), 0, None), (SET, K, V, None, 0, None),
        (SET, K, V, 0, 8, None), (SET, K, V, 0, -1, None), (SET, K, V, 0, True, None), (SET, K, V, 0, 0, -1),
        (SET, K, V, 0, 0, 1.0), (SET, K, V, 0, 0, False), (SET, K, V, 0, 0, 2**63), (SET, K, V, 0, 0),
        (commands.SET_MANY, (), 0), (commands.SET_MANY, (K,), 0), (commands.SET_MANY, (K, V, K), 0),
        (commands.SET_MANY, (K, V), -1), (commands.SET_MANY, (K, V), None), (commands.SET_MANY, (K, b""), 0),
        (commands.SET_MANY, (b"", V), 0), (commands.SET_MANY, ("k", V), 0), (commands.SET_MANY, (K, "v"), 0),
        (commands.SET_MANY, (K, V) * (limits.OPERATIONS_MAX + 1), 0),
        (commands.SET_TTL, K, 0), (commands.SET_TTL, K, -1), (commands.SET_TTL, K, True),
        (commands.SET_TTL, K, limits.TTL_MS_MAX + 1), (commands.SET_TTL, b"", 1),
        (commands.INCR, K, 2**63), (commands.INCR, K, 1.0),
        (commands.INCR, K, True), (commands.INCR, K, None), (commands.INCR, K, "1"), (commands.INCR, b"", 1),
    ],
    ids=lambda command: repr(command)[:40],
)  # fmt: skip
def test_a_bad_command_is_refused(command: Any) -> None:
    assert "malformed Request" in refusal_of(request_of(command))


@pytest.mark.parametrize("code", [True, 1.0, 16.0])
def test_a_code_is_an_integer(code: object) -> None:
    refusal_of(request_of((code, K, V, 0, 0, None) if code == SET else (code, K)))


@pytest.mark.parametrize("value", [{}, b"\xc7\x00\x05"], ids=["map", "extension"])
def test_empty_maps_and_extensions_do_not_occur(value: Any) -> None:
    packed = value if type(value) is bytes else pack_value(value)
    frame = encode(Reply(b"", 0, 0, 0, 1, (1,), (0,), ()))
    refusal_of(frame[:-2] + packed + frame[-1:])


@pytest.mark.parametrize(
    "packed",
    [
        b"\x81\xc0\xc0",
        b"\x81\xa1a\xc0",
        b"\xde\x00\x01\xc0\xc0",
        b"\xd4\x05\x00",
        b"\xd6\xff\0\0\0\0",
        b"\xc7\x01\x05\x00",
    ],
)
def test_maps_and_extensions_do_not_occur(packed: bytes) -> None:
    frame = encode(Reply(b"", 0, 0, 0, 1, (1,), (0,), ()))
    assert frame.endswith(b"\x91\x00\x90")
    refusal_of(frame[:-2] + packed + frame[-1:])


@pytest.mark.parametrize(
    "operation",
    [
        None, (), 5, "text12", b"bytes!", (1, 0, 0, 0, 0), (1, 0, 0, 0, 0, (GET, K), 0),
        (0, 0, 0, 0, 0, (GET, K)),
        (-1, 0, 0, 0, 0, (GET, K)), (2**63, 0, 0, 0, 0, (GET, K)), (1.0, 0, 0, 0, 0, (GET, K)),
        (True, 0, 0, 0, 0, (GET, K)), (None, 0, 0, 0, 0, (GET, K)), (1, -1, 0, 0, 0, (GET, K)),
        (1, 2**63, 0, 0, 0, (GET, K)), (1, 0.0, 0, 0, 0, (GET, K)), (1, 0, False, 0, 0, (GET, K)),
        (1, 0, -1, 0, 0, (GET, K)), (1, 0, 0, -1, 0, (GET, K)), (1, 0, 0, 0, -1, (GET, K)),
        (1, 0, 0, "s", 0, (GET, K)), (1, 0, 0, 0, float("inf"), (GET, K)), {},
    ],
    ids=lambda operation: repr(operation)[:40],
)  # fmt: skip
def test_a_bad_operation_is_refused(operation: Any) -> None:
    refusal_of(request_with((operation,)))


@pytest.mark.parametrize(
    "tree",
    [
        (), None, 5, (b"", 0, 0), (b"", 0, 0, 0, 0), (b"x", 0, 0, 0), (b"x" * 17, 0, 0, 0), ("", 0, 0, 0),
        ("x" * 16, 0, 0, 0), (None, 0, 0, 0), (b"", -1, 0, 0), (b"", 0, 1.0, 0), (b"", 0, 0, True),
        (b"", 0, 0, None), (b"", 2**63, 0, 0),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("kind", [3, 5])
def test_a_bad_header_is_refused(kind: int, tree: Any) -> None:
    refusal_of(bytes([2, kind]) + pack_value(tree))


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        (1, (0, 0, None)), (1, (0, 0, {})), (1, (0, 0, b"")), (1, (-1, 0, ())), (1, (0, 1.5, ())),
        (2, (0, (-1,), (), ())), (2, (0, (True,), (), ())), (2, (0, b"ab", (), ())), (2, (0, (), b"", ())),
        (2, (0, (), (), None)), (2, (0, (), (), ((1, 2),))), (2, (0, (), (), ((1, 2, 3),))),
        (2, (0, (), (), ((1, 2, b"x"),))), (2, (0, (), (), ("abc",))), (2, (0, (), (), (5,))),
        (2, (0, (), (), ((1, 2, "x" * (limits.TEXT_BYTES_MAX + 1)),))),
        (4, (5,)), (4, (b"",)), (4, (False,)), (4, ({},)),
        (6, (None,)), (6, ((("a",),),)), (6, ((("a", None),),)), (6, (((5, 5),),)), (6, ((("a", True),),)),
        (6, ((("a", 1.5),),)), (6, (("ab",), 0)),
        (7, (-1, "")), (7, (1, b"text")), (7, (1, None)), (7, (1, "x" * (limits.TEXT_BYTES_MAX + 1))),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_a_bad_field_is_refused(kind: int, rest: tuple[Any, ...]) -> None:
    refusal_of(bytes([2, kind]) + pack_value((b"", 0, 0, 0, *rest)))


def test_text_is_utf_8() -> None:
    frame = encode(Problem(b"", 0, 0, 0, 1, "abc"))
    refusal_of(frame.replace(b"abc", b"a\xffc"))
    refusal_of(frame.replace(b"abc", b"\xed\xa0\x80"))  # half of a surrogate pair


@pytest.mark.parametrize("levels", [500, 600, 1_000, 1_100, 50_000])
@pytest.mark.parametrize("kind", range(1, 8))
def test_deep_nesting_is_refused(kind: int, levels: int) -> None:
    refusal_of(bytes([2, kind]) + b"\x91" * levels + b"\x90")
    refusal_of(bytes([2, kind]) + b"\x97\xc4\x00\x00\x00\x00\x00\x00" + b"\x91" * levels + b"\x90")


@pytest.mark.parametrize("marker", [b"\xdd", b"\xc6", b"\xdb", b"\xdf", b"\xc9"])
@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2**20])
def test_a_huge_declared_length_is_refused(marker: bytes, length: int) -> None:
    declared = marker + struct.pack(">I", length)
    assert peak_bytes_of_refusing(b"\x02\x04" + declared + b"x" * 100) < 1_000_000
    refusal_of(b"\x02\x03\x94" + declared)
    refusal_of(b"\x02\x01" + pack_value((b"", 0, 0, 0, 0, 0, ()))[:-1] + declared)
    refusal_of(b"\x02\x04\x95" + declared + bytes(limits.PLAIN_FRAME_BYTES_MAX))


# -- memory ---------------------------------------------------------


@pytest.mark.parametrize("unit", JUNK[:4], ids=bytes.hex)
def test_a_long_frame_of_junk_costs_nothing(unit: bytes) -> None:
    count = (limits.MESSAGE_BYTES_MAX - 16) // len(unit)
    frame = b"\x02\x02\x98" + b"\xdd" + struct.pack(">I", count) + unit * count
    assert limits.PLAIN_FRAME_BYTES_MAX < len(frame) <= limits.MESSAGE_BYTES_MAX
    assert peak_bytes_of_refusing(frame) < 1_000_000


@pytest.mark.parametrize("unit", JUNK, ids=bytes.hex)
def test_a_plain_frame_of_junk_costs_little(unit: bytes) -> None:
    count = (limits.PLAIN_FRAME_BYTES_MAX - 16) // len(unit)
    frame = b"\x02\x02\x98" + b"\xdd" + struct.pack(">I", count) + unit * count
    assert len(frame) <= limits.PLAIN_FRAME_BYTES_MAX
    assert peak_bytes_of_refusing(frame) < 30_000_000


def test_nested_arrays_that_promise_much_cost_little() -> None:
    declared = b"\xdd" + struct.pack(">I", limits.PLAIN_FRAME_BYTES_MAX - 10_000)
    frame = (b"\x02\x02" + declared * 1_000).ljust(limits.PLAIN_FRAME_BYTES_MAX, b"\x80")
    assert peak_bytes_of_refusing(frame) < 30_000_000


def test_a_frame_above_the_limit_is_refused() -> None:
    assert "the limit is" in refusal_of(b"\x02\x02".ljust(limits.MESSAGE_BYTES_MAX + 1, b"\xc0"))


# -- bounds that are met exactly ---------------------------------------------------------


def test_the_largest_key_and_value_pass() -> None:
    value = b"\xc6" + struct.pack(">I", limits.VALUE_BYTES_MAX - 5) + bytes(limits.VALUE_BYTES_MAX - 5)
    command = (SET, b"k" * limits.KEY_BYTES_MAX, value, limits.TTL_MS_MAX, 7, limits.INTEGER_MAX)
    frame = request_of(command)
    message = decode(frame)
    assert isinstance(message, Request)
    assert message.operations[0][5] == command
    assert list(frames(message)) == [(message, frame)]  # one large value is one frame
    refusal_of(request_of((SET, K, value + b"\0", 0, 0, None)))
    refusal_of(request_of((commands.SET_MANY, (K, value + b"\0"), 0)))


def test_most_operations_pass_and_one_more_does_not() -> None:
    operation = (1, 0, 0, 0, 0, (GET, b"k"))
    assert isinstance(decode(request_with((operation,) * limits.OPERATIONS_MAX)), Request)
    refusal_of(request_with((operation,) * (limits.OPERATIONS_MAX + 1)))
    many = (commands.SET_MANY, (b"k", b"v") * limits.OPERATIONS_MAX, 0)
    assert isinstance(decode(request_of(many)), Request)


def test_what_cannot_be_cut_and_is_too_long_is_not_sent() -> None:
    half = bytes(limits.VALUE_BYTES_MAX)
    request = Request(b"", 0, 0, 0, 0, 0, ((1, 0, 0, 0, 0, (commands.SET_MANY, (K, half, b"l", half), 0)),))
    with pytest.raises(LocalProtocolError, match="cannot be cut"):
        list(frames(request))


# -- integers in values ---------------------------------------------------------


@pytest.mark.parametrize(
    ("packed", "number"),
    [
        (b"\x00", 0), (b"\x7f", 127), (b"\xff", -1), (b"\xe0", -32), (b"\xcc\xff", 255), (b"\xd0\x80", -128),
        (b"\xd3" + bytes(7) + b"\x05", 5),  # longer than it need be, and still 5
        (b"\xcf" + b"\xff" * 8, 2**64 - 1), (b"\xd3\x80" + bytes(7), -(2**63)),
        (b"\xc0", None), (b"\xc2", None), (b"\xc3", None), (b"\xcb" + bytes(8), None), (b"\xa11", None),
        (b"\x90", None), (b"\x80", None), (b"\xcc", None), (b"\x05\x05", None), (b"\xd3" + bytes(9), None),
    ],
)  # fmt: skip
def test_integer_of(packed: bytes, number: int | None) -> None:
    assert integer_of(packed) == number


def test_integers_are_stored_as_short_as_they_can_be() -> None:
    assert pack_integer(5) == b"\x05"
    assert len(pack_integer(2**63 - 1)) == len(pack_integer(-(2**63))) == 9


def test_a_damaged_value_says_so() -> None:
    for data in (b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xa2\xff\xff", b"\x91" * 2_000):
        with pytest.raises(RemoteProtocolError, match="not msgpack"):
            unpack_value(data)
