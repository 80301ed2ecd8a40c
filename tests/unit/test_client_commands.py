"""What can be asked for: every rule about arguments, checked before anything is sent."""

import enum
import math
from collections.abc import Callable
from typing import Any

import pytest

from gimmal.client.commands import Commands, encode_key, prefix_bytes, ttl_to_ms
from gimmal.client.pump import check_timeout, parse_seeds
from gimmal.client.values import Values
from gimmal.errors import InvalidArgument, TooLarge
from gimmal.hashing import key_slot
from gimmal.wire import commands as wire
from gimmal.wire.limits import OPERATIONS_MAX, SET_MANY_BYTES_MAX, VALUE_BYTES_MAX

PARTITIONS = 1_024
COMMANDS = Commands(PARTITIONS, Values())
NO_FLAGS = (False, False, False)


def partition(key: bytes) -> int:
    return key_slot(key) // (16_384 // PARTITIONS)


# -- keys


class Color(str, enum.Enum):  # noqa: UP042 - the older kind, whose str() is not its value
    RED = "red"


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("a", b"a"),
        (b"a", b"a"),
        (b"\xff\x00", b"\xff\x00"),
        ("x" * 1_024, b"x" * 1_024),
        ("ä" * 512, "ä".encode() * 512),
        (b"x" * 1_024, b"x" * 1_024),
        (Color.RED, b"red"),
        ("\0", b"\0"),
    ],
    ids=repr,
)
def test_a_key_is_text_or_bytes(key: str | bytes, data: bytes) -> None:
    assert encode_key(key) == data
    assert type(encode_key(key)) is bytes


@pytest.mark.parametrize("key", ["", b"", "x" * 1_025, b"x" * 1_025, "ä" * 513])
def test_a_key_has_1_to_1024_bytes(key: str | bytes) -> None:
    with pytest.raises(InvalidArgument, match="1 to 1024 bytes"):
        encode_key(key)


def test_a_key_is_valid_unicode() -> None:
    with pytest.raises(InvalidArgument, match="not valid Unicode"):
        encode_key("\ud800")


@pytest.mark.parametrize("key", [1, 1.5, None, True, ("a",), ["a"], bytearray(b"a"), memoryview(b"a"), object()])
def test_anything_else_is_no_key(key: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: COMMANDS.get(key, None, "linearizable"),
        lambda: COMMANDS.set(key, 1, None, NO_FLAGS, None),
        lambda: COMMANDS.get_many([key], "linearizable"),
        lambda: COMMANDS.set_many({"good": 1, key: 1}, None) if key.__hash__ else encode_key(key),
        lambda: COMMANDS.delete_many(["good", key]),
        lambda: prefix_bytes(key),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_a_prefix_may_be_empty_but_is_text_or_bytes() -> None:
    assert prefix_bytes("") == prefix_bytes(b"") == b""
    assert prefix_bytes("a") == b"a"
    nothings: list[Any] = [None, 0, False, (), []]
    for nothing in nothings:
        with pytest.raises(TypeError):
            prefix_bytes(nothing)
    with pytest.raises(InvalidArgument):
        prefix_bytes("x" * 1_025)


def test_a_tag_decides_on_the_partition() -> None:
    for key in (b"foo{tag}", b"bar{tag}", b"tag"):
        ((found, _),) = COMMANDS.delete(key).parts
        assert found == partition(b"tag")


# -- numbers


@pytest.mark.parametrize(
    ("ttl", "ms"),
    [(1, 1_000), (0.5, 500), (0.0001, 1), (1e-9, 1), (1.0001, 1_001), (3_153_600_000, 3_153_600_000_000)],
)
def test_a_ttl_is_rounded_up_to_milliseconds(ttl: float, ms: int) -> None:
    assert ttl_to_ms(ttl) == ms
    assert COMMANDS.set("k", 1, ttl, NO_FLAGS, None).parts[0][1][3] == ms
    assert COMMANDS.expire("k", ttl).parts[0][1][2] == ms
    assert COMMANDS.set_many({"{t}a": 1, "{t}b": 2}, ttl).parts[0][1][2] == ms
    assert COMMANDS.set_many({"a": 1}, ttl).parts[0][1][3] == ms


@pytest.mark.parametrize("ttl", [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf, 3_153_600_001, 10**400])
def test_a_ttl_is_above_0_and_below_100_years(ttl: float) -> None:
    for call in (
        lambda: COMMANDS.set("k", 1, ttl, NO_FLAGS, None),
        lambda: COMMANDS.expire("k", ttl),
        lambda: COMMANDS.set_many({"k": 1}, ttl),
    ):
        with pytest.raises(InvalidArgument, match="ttl"):
            call()


@pytest.mark.parametrize("ttl", [True, False, "5", b"5", [1], 1j])
def test_a_ttl_is_a_number(ttl: Any) -> None:
    with pytest.raises(TypeError, match="ttl"):
        COMMANDS.set("k", 1, ttl, NO_FLAGS, None)
    with pytest.raises(TypeError, match="ttl"):
        COMMANDS.expire("k", ttl)


def test_expire_needs_a_ttl() -> None:
    with pytest.raises(TypeError, match="ttl"):
        COMMANDS.expire("k", None)  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_an_amount_is_within_64_bits(number: int) -> None:
    assert COMMANDS.incr("k", number).parts[0][1] == (wire.INCR, b"k", number)


def test_an_amount_beyond_64_bits_is_an_invalid_argument() -> None:
    for method, number in (("incr", 2**63), ("incr", -(2**63) - 1), ("decr", -(2**63)), ("decr", 2**63)):
        with pytest.raises(InvalidArgument, match="amount is within signed 64 bits"):
            getattr(COMMANDS, method)("k", number)
    assert COMMANDS.decr("k", 2**63 - 1).parts[0][1][2] == 1 - 2**63


@pytest.mark.parametrize("number", [1.0, "1", None, True, b"1"])
def test_an_amount_and_a_version_are_ints(number: Any) -> None:
    with pytest.raises(TypeError, match="amount is an int"):
        COMMANDS.incr("k", number)
    with pytest.raises(TypeError, match="amount is an int"):
        COMMANDS.decr("k", number)
    if number is not None:
        with pytest.raises(TypeError, match="if_version is an int"):
            COMMANDS.set("k", 1, None, NO_FLAGS, number)


# -- conditions


def test_flags_travel_as_bits() -> None:
    for flags, bits in (
        (NO_FLAGS, 0),
        ((True, False, False), wire.NX),
        ((False, True, False), wire.XX),
        ((False, False, True), wire.KEEP_TTL),
        ((False, True, True), wire.XX | wire.KEEP_TTL),
    ):
        assert COMMANDS.set("k", 1, None, flags, 0).parts[0][1] == (wire.SET, b"k", b"\x01", 0, bits, 0)


@pytest.mark.parametrize(
    ("flags", "ttl", "if_version", "text"),
    [
        ((True, True, False), None, None, "nx .* and xx"),
        ((False, False, True), 5, None, "keep_ttl and ttl"),
        (NO_FLAGS, None, -1, "if_version"),
        (NO_FLAGS, None, 2**63, "if_version"),
    ],
)
def test_conditions_that_contradict_each_other(
    flags: tuple[bool, bool, bool], ttl: float | None, if_version: int | None, text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text):
        COMMANDS.set("k", 1, ttl, flags, if_version)


@pytest.mark.parametrize("consistency", ["", "ANY", "eventual", None, 1])
def test_consistency_is_linearizable_or_any(consistency: Any) -> None:
    for call in (
        lambda: COMMANDS.get("k", None, consistency),
        lambda: COMMANDS.get_many(["k"], consistency),
        lambda: COMMANDS.exists("k", consistency),
        lambda: COMMANDS.ttl("k", consistency),
    ):
        with pytest.raises(InvalidArgument, match="consistency"):
            call()


# -- many keys


def test_many_keys_are_grouped_by_partition() -> None:
    keys = [f"key{i}" for i in range(5_000)]
    call = COMMANDS.get_many(keys, "any")
    assert len(call.parts) == len({partition(key.encode()) for key in keys})
    for number, command in call.parts:
        assert {partition(key) for key in wire.keys_of(command)} == {number}
    assert sorted(key.decode() for _, command in call.parts for key in wire.keys_of(command)) == sorted(keys)
    assert all(wire.IS_WELL_FORMED[command[0]](command) for _, command in call.parts)


def test_the_same_key_twice_is_one_key() -> None:
    for call in (COMMANDS.get_many(["a", "a", b"a"], "any"), COMMANDS.delete_many(["a", b"a"])):
        assert [wire.keys_of(command) for _, command in call.parts] == [(b"a",)]
    (command,) = [command for _, command in COMMANDS.set_many({"a": 1, b"a": 2}, None).parts]
    assert command[1:3] == (b"a", b"\x02")


def test_nothing_is_nothing() -> None:
    assert COMMANDS.get_many([], "any").outcome() == {}
    assert COMMANDS.set_many({}, None).outcome() == 0
    assert COMMANDS.delete_many(iter(())).outcome() == 0


@pytest.mark.parametrize("keys", ["abc", b"abc", "", 5, None])
def test_several_keys_are_not_one(keys: Any) -> None:
    for call in (
        lambda: COMMANDS.get_many(keys, "any"),
        lambda: COMMANDS.delete_many(keys),
        lambda: COMMANDS.set_many(keys, None),
    ):
        with pytest.raises(TypeError):
            call()


def test_set_many_takes_a_mapping() -> None:
    for pairs in ([("a", 1)], ["a"], {"a"}):
        with pytest.raises(TypeError):
            COMMANDS.set_many(pairs, None)  # type: ignore[arg-type] # that is the point


def test_one_partition_takes_8192_keys_of_one_call() -> None:
    keys = [f"{{tag}}{i}" for i in range(OPERATIONS_MAX)]
    assert len(COMMANDS.get_many(keys, "any").parts) == 1
    for call in (
        lambda: COMMANDS.get_many([*keys, "{tag}more"], "any"),
        lambda: COMMANDS.delete_many([*keys, "{tag}more"]),
        lambda: COMMANDS.set_many(dict.fromkeys([*keys, "{tag}more"], 1), None),
    ):
        with pytest.raises(InvalidArgument, match="8193 keys of one call share a partition"):
            call()


def test_what_one_partition_takes_of_a_set_many_is_bounded() -> None:
    large = bytes(VALUE_BYTES_MAX - 5)
    assert COMMANDS.set_many({"{t}a": large}, None).parts
    assert COMMANDS.set_many({"{t}a": large, "{u}b": large}, None).parts
    with pytest.raises(TooLarge, match=rf"2 keys, such as b'{{t}}a'.*{SET_MANY_BYTES_MAX}"):
        COMMANDS.set_many({"{t}a": large, "{t}b": large}, None)


def test_an_unstorable_value_among_many_sends_nothing() -> None:
    with pytest.raises(TypeError):
        COMMANDS.set_many({"a": 1, "b": object()}, None)


# -- timeouts and seeds


@pytest.mark.parametrize("timeout", [0.001, 1, 5.0, 60, 60.0])
def test_a_timeout_is_up_to_60_seconds(timeout: float) -> None:
    assert check_timeout(timeout) == timeout


@pytest.mark.parametrize("timeout", [0, -1, 60.1, 61, math.nan, math.inf, True, False])
def test_other_timeouts_are_refused(timeout: float) -> None:
    with pytest.raises(InvalidArgument, match="timeout"):
        check_timeout(timeout)


@pytest.mark.parametrize("timeout", ["5", None, [1]])
def test_a_timeout_is_a_number(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout"):
        check_timeout(timeout)


@pytest.mark.parametrize(
    ("seeds", "addresses"),
    [
        ("127.0.0.1:7700", ("127.0.0.1:7700",)),
        (" a:1 , b:2,a:1", ("a:1", "b:2")),
        (["a:1", "b:65535"], ("a:1", "b:65535")),
        (iter(["node-1.example:7700"]), ("node-1.example:7700",)),
    ],
)
def test_seeds_are_addresses(seeds: Any, addresses: tuple[str, ...]) -> None:
    assert parse_seeds(seeds) == addresses


@pytest.mark.parametrize(
    "seeds",
    [
        *("", ",", "a", "a:", ":1", "a:b", "a:0", "a:65536", "a:-1", "a:1,", "a:1,,b:2", "a:1.5", "a:²", "a b:1"),
        *("a:1 b:2", "a\n:1", [], ["a"], "tcp:// a:1"),
    ],
)
def test_other_seeds_are_refused(seeds: Any) -> None:
    with pytest.raises(InvalidArgument, match="seed"):
        parse_seeds(seeds)


@pytest.mark.parametrize("seeds", [5, None, [5], [b"a:1"], [None]])
def test_seeds_are_text(seeds: Any) -> None:
    with pytest.raises(TypeError):
        parse_seeds(seeds)
