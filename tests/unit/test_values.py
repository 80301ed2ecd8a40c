"""What can be stored, and how it comes back."""

import datetime
import enum
import json
import math
import pickle
from collections import OrderedDict
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimmal.client.values import Values
from gimmal.errors import IntegerOverflow, InvalidArgument, RemoteProtocolError, TooLarge
from gimmal.wire.codec import integer_of
from gimmal.wire.limits import VALUE_BYTES_MAX

INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text() | st.binary()
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary() | INTEGERS, inner),
    max_leaves=30,
)


class Json:
    @staticmethod
    def dumps(value: Any) -> bytes:
        return json.dumps(value).encode()

    @staticmethod
    def loads(data: bytes) -> Any:
        return json.loads(data)


class Point(NamedTuple):
    x: int
    y: int


def back(value: Any, values: Values | None = None) -> Any:
    values = values or Values()
    return values.decode(values.encode(value))


@given(TREES)
def test_what_is_listed_comes_back_equal_and_of_its_type(value: Any) -> None:
    assert repr(back(value)) == repr(value)


def test_nan_and_infinities_come_back() -> None:
    assert math.isnan(back(math.nan))
    assert back([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert math.copysign(1, back(-0.0)) == -1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((), []),
        ((1, (2, 3)), [1, [2, 3]]),
        ({"a": (1,)}, {"a": [1]}),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (enum.IntEnum("Color", "RED").RED, 1),  # type: ignore[attr-defined]
        (enum.StrEnum("Name", "ONE").ONE, "one"),  # type: ignore[attr-defined]
        ({1: "int", "1": "str", b"1": "bytes"}, {1: "int", "1": "str", b"1": "bytes"}),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_what_comes_back_as_something_like_it(value: Any, expected: Any) -> None:
    assert back(value) == expected
    assert type(back(value)) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        object(),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        datetime.date(2024, 1, 1),
        Decimal(1),
        1j,
        bytearray(b"x"),
        memoryview(b"x"),
        range(3),
        iter([]),
        ...,
        int,
        {1.5: "float key"},
        {None: "no key"},
        {True: "bool key"},
        {(1, 2): "tuple key"},
        [1, {"deep": [object()]}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_come_back_equal_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        Values().encode(value)


class BigInt(int):
    """An int by another name."""


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**100])
def test_integers_beyond_64_bits_overflow_wherever_they_are(number: int) -> None:
    for value in (number, [number], {"a": {"b": number}}, {number: 1}, (number,), BigInt(number), [BigInt(number)]):
        with pytest.raises(IntegerOverflow, match="64 bits"):
            Values().encode(value)


def test_a_value_is_nested_100_deep_at_most() -> None:
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return value

    assert back(nested(100)) == nested(100)
    with pytest.raises(TypeError, match="100 deep"):
        Values().encode(nested(101))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="100 deep"):
        Values().encode(endless)


def test_text_that_is_not_unicode_is_an_invalid_argument() -> None:
    for value in ("\ud800", ["\ud800"], {"\ud800": 1}):
        with pytest.raises(InvalidArgument, match="Unicode"):
            Values().encode(value)


def test_a_value_takes_8_mib_at_most() -> None:
    header = 5  # of msgpack, for binary of this length
    largest = bytes(VALUE_BYTES_MAX - header)
    assert len(Values().encode(largest)) == VALUE_BYTES_MAX
    for value in (largest + b"x", [largest], "x" * VALUE_BYTES_MAX):
        with pytest.raises(TooLarge, match=f"the limit is {VALUE_BYTES_MAX}"):
            Values().encode(value)
    with pytest.raises(TooLarge):
        Values(pickle).encode(largest)


# -- a serializer of the user's own


@pytest.mark.parametrize("serializer", [pickle, Json], ids=["pickle", "json"])
def test_a_serializer_is_used_for_all_but_integers(serializer: Any) -> None:
    values = Values(serializer)
    for value in (None, True, 1.5, "text", ["list", 1], {"a": [2]}, 2**70 * 1.0, "", [], [2**70]):
        data = values.encode(value)
        assert integer_of(data) is None
        assert values.decode(data) == value
        assert type(values.decode(data)) is type(value)
    for number in (0, -1, 5, 127, 128, -(2**63), 2**63 - 1):
        assert values.encode(number) == Values().encode(number)
        assert integer_of(values.encode(number)) == number
        assert back(number, values) == number
    for beyond in (2**63, -(2**63) - 1):
        with pytest.raises(IntegerOverflow):
            values.encode(beyond)


def test_pickle_keeps_what_msgpack_cannot() -> None:
    for value in ({1, 2}, (1, 2), datetime.date(2024, 1, 1), b"bytes"):
        assert back(value, Values(pickle)) == value
        assert type(back(value, Values(pickle))) is type(value)


def test_clients_with_and_without_serializers_can_read_plain_values() -> None:
    assert Values(pickle).decode(Values().encode("text")) == "text"
    assert Values(pickle).decode(Values().encode([1, "two"])) == [1, "two"]
    assert Values().decode(Values(Json).encode({"a": 1})) == b'{"a": 1}'


def test_what_a_serializer_raises_is_raised() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        Values(Json).encode({1, 2})
    with pytest.raises(json.JSONDecodeError):
        Values(Json).decode(Values().encode(b"not json"))


def test_a_serializer_returns_bytes() -> None:
    class Wrong:
        dumps = staticmethod(json.dumps)
        loads = staticmethod(json.loads)

    with pytest.raises(TypeError, match="dumps returned str, not bytes"):
        Values(Wrong).encode("text")  # type: ignore[arg-type] # that is what is wrong with it


def test_stored_bytes_that_are_no_value_are_the_other_sides_fault() -> None:
    for values in (Values(), Values(pickle)):
        for data in (b"\xc1", b"\x92\x01", b"\x01\x02", b"\xa5abc"):
            with pytest.raises(RemoteProtocolError, match="not msgpack"):
                values.decode(data)
