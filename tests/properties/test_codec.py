"""Every message survives the wire; whatever arrives is decoded to a well-formed message or refused."""

from contextlib import suppress
from dataclasses import fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gimmal.errors import RemoteProtocolError
from gimmal.types import Command
from gimmal.wire import commands, limits
from gimmal.wire import queue_commands as queue
from gimmal.wire.codec import (
    VERSION,
    decode,
    encode,
    frames,
    integer_of,
    pack_integer,
    pack_value,
    unpack_value,
)
from gimmal.wire.kinds import FROM_CLIENTS, TO_CLIENTS
from gimmal.wire.messages import (
    FetchStatus,
    FetchTable,
    Message,
    Problem,
    Reply,
    Request,
    Status,
    TableRows,
)
from tests.properties.broken_frames import check_cut_and_flipped

NATURALS = st.one_of(st.sampled_from([0, 1, 127, 128, 2**32, limits.INTEGER_MAX]), st.integers(0, limits.INTEGER_MAX))
KEYS = st.binary(min_size=1, max_size=40)
VALUES = st.binary(min_size=1, max_size=40)
TTLS = st.integers(0, limits.TTL_MS_MAX)
MANY_KEYS = st.lists(KEYS, min_size=1, max_size=5).map(tuple)
MANY_PAIRS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=5).map(
    lambda pairs: tuple(part for pair in pairs for part in pair)
)

SHAPES: dict[int, SearchStrategy[Command]] = {
    commands.GET: st.tuples(st.just(commands.GET), KEYS),
    commands.GET_MANY: st.tuples(st.just(commands.GET_MANY), MANY_KEYS),
    commands.EXISTS: st.tuples(st.just(commands.EXISTS), KEYS),
    commands.TTL: st.tuples(st.just(commands.TTL), KEYS),
    commands.SCAN: st.tuples(st.just(commands.SCAN), st.binary(max_size=20), NATURALS, NATURALS),
    commands.SET: st.tuples(
        st.just(commands.SET), KEYS, VALUES, TTLS, st.integers(0, 7), st.one_of(st.none(), NATURALS)
    ),
    commands.SET_MANY: st.tuples(st.just(commands.SET_MANY), MANY_PAIRS, TTLS),
    commands.DELETE: st.tuples(st.just(commands.DELETE), KEYS),
    commands.DELETE_MANY: st.tuples(st.just(commands.DELETE_MANY), MANY_KEYS),
    commands.SET_TTL: st.tuples(st.just(commands.SET_TTL), KEYS, st.integers(1, limits.TTL_MS_MAX)),
    commands.PERSIST: st.tuples(st.just(commands.PERSIST), KEYS),
    commands.OPEN_SESSION: st.tuples(st.just(commands.OPEN_SESSION)),
    commands.INCR: st.tuples(st.just(commands.INCR), KEYS, st.integers(limits.INTEGER_MIN, limits.INTEGER_MAX)),
}

POSITIVE = st.integers(1, limits.INTEGER_MAX)
DELIVERIES = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=4).map(tuple)
CLIENTS = st.binary(min_size=16, max_size=16)
SHAPES |= {
    queue.QUEUE_STATS: st.tuples(st.just(queue.QUEUE_STATS), KEYS, KEYS),
    queue.DEAD_LETTERS: st.tuples(st.just(queue.DEAD_LETTERS), KEYS, KEYS, POSITIVE),
    queue.QUEUE_GROUPS: st.tuples(st.just(queue.QUEUE_GROUPS), KEYS),
    queue.CONSUME: st.tuples(
        st.just(queue.CONSUME),
        KEYS,
        KEYS,
        st.tuples(CLIENTS, st.binary(max_size=9)),
        POSITIVE,
        st.tuples(st.integers(1, limits.CONSUME_MAX), st.integers(0, limits.WAIT_MS_MAX), st.integers(0, 99_000)),
    ),
    queue.CANCEL: st.tuples(st.just(queue.CANCEL), KEYS, KEYS, CLIENTS, POSITIVE),
    queue.DECLARE: st.tuples(
        st.just(queue.DECLARE), KEYS, st.tuples(*[st.none() | st.integers(1, limits.SHARDS_MAX)] * 6)
    ),
    queue.PRODUCE: st.tuples(
        st.just(queue.PRODUCE),
        KEYS,
        TTLS,
        st.lists(st.tuples(VALUES, st.binary(max_size=9), st.binary(max_size=9)), min_size=1, max_size=4).map(tuple),
    ),
    queue.ACK: st.tuples(st.just(queue.ACK), KEYS, KEYS, DELIVERIES),
    queue.NACK: st.tuples(
        st.just(queue.NACK),
        KEYS,
        KEYS,
        DELIVERIES,
        st.tuples(st.booleans(), st.none() | TTLS),
        st.binary(max_size=20),
    ),
    queue.RELEASE: st.tuples(st.just(queue.RELEASE), KEYS, KEYS, DELIVERIES),
    queue.EXTEND: st.tuples(st.just(queue.EXTEND), KEYS, KEYS, DELIVERIES, st.integers(1, limits.LEASE_MS_MAX)),
    **{code: st.tuples(st.just(code), KEYS, KEYS, POSITIVE) for code in (queue.REDRIVE, queue.PURGE)},
    **{code: st.tuples(st.just(code), KEYS, KEYS) for code in (queue.CREATE_GROUP, queue.DELETE_GROUP)},
}

COMMANDS = st.one_of(*SHAPES.values())
NUMBERS = st.integers(1, limits.INTEGER_MAX)
OPERATIONS = st.lists(
    st.tuples(NUMBERS, st.integers(0, 16_383), NATURALS, NATURALS, NATURALS, COMMANDS), max_size=5
).map(tuple)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
RESULTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    VALUES,
    st.lists(st.one_of(st.none(), VALUES), max_size=4).map(tuple),
    st.tuples(st.integers(-1, 2**62), NATURALS, MANY_KEYS),
)
TREES: SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.integers(-5, 2**62), st.binary(max_size=5), TEXTS),
    lambda children: st.lists(children, max_size=4).map(tuple),
    max_leaves=10,
)
HEADER = (st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)), NATURALS, NATURALS, NATURALS)
REPLIES = st.lists(st.tuples(NATURALS, RESULTS), max_size=5).flatmap(
    lambda answers: st.builds(
        Reply,
        *HEADER,
        NATURALS,
        st.just(tuple(number for number, _ in answers)),
        st.just(tuple(result for _, result in answers)),
        st.lists(st.tuples(NATURALS, NATURALS, TEXTS), max_size=4).map(tuple),
    )
)
MESSAGES: dict[type[Message], SearchStrategy[Message]] = {
    Request: st.builds(Request, *HEADER, NATURALS, NATURALS, OPERATIONS),
    Reply: REPLIES,
    FetchTable: st.builds(FetchTable, *HEADER),
    TableRows: st.builds(TableRows, *HEADER, st.one_of(st.none(), st.lists(TREES, max_size=3).map(tuple))),
    FetchStatus: st.builds(FetchStatus, *HEADER),
    Status: st.builds(
        Status,
        *HEADER,
        st.lists(st.tuples(TEXTS, st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1))), max_size=4).map(tuple),
    ),
    Problem: st.builds(Problem, *HEADER, NATURALS, TEXTS),
}
ANY_MESSAGE = st.one_of(*MESSAGES.values())


def check_well_formed(message: Message) -> None:
    """What every receiver may rely on, said a second time and differently."""

    def natural(number: object) -> bool:
        return type(number) is int and number in range(2**63)

    assert type(message) in MESSAGES
    assert type(message.cluster) is bytes
    assert len(message.cluster) in (0, 16)
    assert all(map(natural, (message.source, message.destination, message.table_version)))
    if isinstance(message, Request):
        assert natural(message.receipt)
        assert natural(message.milliseconds_left)
        for number, partition, epoch, session, floor, command in message.operations:
            assert all(map(natural, (number, partition, epoch, session, floor)))
            assert number > 0
            check_command(command)
    elif isinstance(message, Reply):
        assert natural(message.receipt)
        assert all(map(natural, message.numbers))
        assert type(message.results) is tuple
        for number, refusal, text in message.refusals:
            assert natural(number)
            assert natural(refusal)
            assert type(text) is str
    elif isinstance(message, TableRows):
        assert message.table is None or type(message.table) is tuple
    elif isinstance(message, Status):
        assert all(type(name) is str and type(value) in (str, int) for name, value in message.facts)
    elif isinstance(message, Problem):
        assert natural(message.fault)
        assert type(message.text) is str


def check_command(command: Command) -> None:
    assert type(command) is tuple
    code, *arguments = command
    assert code in SHAPES, "not for clients"
    assert all(0 < len(key) <= limits.KEY_BYTES_MAX for key in commands.keys_of(command))
    if code == commands.SET:
        _, value, ttl_ms, flags, if_version = arguments
        assert 0 < len(value) <= limits.VALUE_BYTES_MAX
        assert type(ttl_ms) is type(flags) is int
        assert ttl_ms >= 0
        assert flags in range(8)
        assert if_version is None or (type(if_version) is int and if_version >= 0)
    elif code == commands.SET_MANY:
        assert len(arguments[0]) % 2 == 0
        assert type(arguments[1]) is int
        assert arguments[1] >= 0
    elif code == commands.SET_TTL:
        assert type(arguments[1]) is int
        assert arguments[1] > 0
    elif code == commands.INCR:
        assert type(arguments[1]) is int
        assert -(2**63) <= arguments[1] < 2**63
    elif code == commands.SCAN:
        assert all(type(number) is int and number >= 0 for number in arguments[1:])
    elif code in queue.SETTLING:
        assert all(0 < part < 2**63 for delivery in arguments[2] for part in delivery)
    elif code == queue.PRODUCE:
        assert all(payload for payload, _, _ in arguments[2])
    elif code == queue.CONSUME:
        assert len(arguments[2][0]) == 16
        assert all(type(number) is int and number >= 0 for number in arguments[4])


def decode_or_refuse(frame: bytes) -> None:
    """Whatever the bytes: a well-formed message or the one error; any other error fails the test."""
    try:
        message = decode(frame, FROM_CLIENTS | TO_CLIENTS)
    except RemoteProtocolError:
        return
    check_well_formed(message)


def test_every_code_of_a_client_has_a_shape_here() -> None:
    assert set(SHAPES) == set(commands.IS_WELL_FORMED)
    assert set(commands.NAMES) == {*SHAPES, *(code for code in commands.NAMES if code >= commands.FIRST_OWN)}


@given(ANY_MESSAGE)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    received = decode(encode(message))
    assert received == message
    assert type(received) is type(message)
    for field in fields(message):
        assert type(getattr(received, field.name)) is type(getattr(message, field.name))
    check_well_formed(received)


@given(st.data())
def test_every_command_survives(data: st.DataObject) -> None:
    for shape in SHAPES.values():
        command = data.draw(shape)
        assert commands.IS_WELL_FORMED[command[0]](command)
        request = Request(b"", 0, 0, 0, 0, 0, ((1, 0, 0, 0, 0, command),))
        assert decode(encode(request)) == request


@given(st.binary(max_size=64))
def test_junk_is_refused(junk: bytes) -> None:
    decode_or_refuse(junk)


@given(st.integers(1, 7), st.binary(max_size=200))
def test_junk_behind_a_good_start_is_refused(kind: int, junk: bytes) -> None:
    decode_or_refuse(bytes([VERSION, kind]) + junk)


@given(st.integers(1, 7), st.lists(TREES, min_size=4, max_size=8))
def test_trees_of_the_wrong_shape_are_refused(kind: int, tree: list[Any]) -> None:
    """Good msgpack, wrong message: the checks see it, not the parser."""
    decode_or_refuse(bytes([VERSION, kind]) + pack_value(tree))


@given(ANY_MESSAGE, st.data())
def test_a_field_of_another_type_is_refused(message: Message, data: st.DataObject) -> None:
    kind = encode(message)[:2]
    tree = [getattr(message, field.name) for field in fields(message)]
    place = data.draw(st.integers(0, len(tree) - 1))
    tree[place] = data.draw(st.one_of(st.floats(), st.booleans(), st.integers(-(2**63), 2**64 - 1), TEXTS, TREES))
    decode_or_refuse(kind + pack_value(tree))


@given(ANY_MESSAGE, st.data())
def test_a_cut_or_flipped_frame_is_refused_or_well_formed(message: Message, data: st.DataObject) -> None:
    check_cut_and_flipped(encode(message), decode_or_refuse, data)


def plain_length(length: int) -> st.SearchStrategy[bytes]:
    """Values around a length, made of one byte: quick to draw and to shrink."""
    return st.integers(length - 3, length + 3).map(lambda size: b"v" * size)


BIG_VALUES = st.one_of(
    st.just(b"v"), plain_length(limits.PLAIN_FRAME_BYTES_MAX // 2), plain_length(limits.PLAIN_FRAME_BYTES_MAX)
)


@given(st.lists(BIG_VALUES, max_size=12))
def test_a_request_is_cut_without_loss(values: list[bytes]) -> None:
    operations = tuple(
        (number, 0, 1, 0, 0, (commands.SET, b"k", value, 0, 0, None)) for number, value in enumerate(values, start=1)
    )
    whole = Request(bytes(16), 1, 2, 3, 4, 5, operations)
    sent: list[Any] = []
    for part, frame in frames(whole):
        assert decode(frame) == part
        assert isinstance(part, Request)
        assert len(frame) <= limits.PLAIN_FRAME_BYTES_MAX or len(part.operations) == 1
        assert (part.receipt, part.milliseconds_left) == (4, 5)
        sent += part.operations
    assert tuple(sent) == operations


@given(
    st.lists(BIG_VALUES, max_size=12),
    st.lists(st.sampled_from(["", "t" * 1_000, "t" * limits.TEXT_BYTES_MAX]), max_size=200),
)
def test_a_reply_is_cut_without_loss(values: list[bytes], texts: list[str]) -> None:
    numbers = tuple(range(1, len(values) + 1))
    refusals = tuple((1_000 + index, 1, text) for index, text in enumerate(texts))
    whole = Reply(bytes(16), 1, 2, 3, 4, numbers, tuple(values), refusals)
    answered: list[Any] = []
    refused: list[Any] = []
    for part, frame in frames(whole):
        assert decode(frame) == part
        assert isinstance(part, Reply)
        count = len(part.numbers) + len(part.refusals)
        assert len(frame) <= limits.PLAIN_FRAME_BYTES_MAX or count == 1
        assert part.receipt == 4
        answered += zip(part.numbers, part.results, strict=True)
        refused += part.refusals
    assert tuple(answered) == tuple(zip(numbers, values, strict=True))
    assert tuple(refused) == refusals


SERIALIZABLE: SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False),
        TEXTS,
        st.binary(max_size=9),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(st.one_of(TEXTS, st.binary(max_size=5), st.integers(-9, 99)), children, max_size=4),
    ),
    max_leaves=8,
)


@given(SERIALIZABLE)
def test_values_survive(value: Any) -> None:
    assert unpack_value(pack_value(value)) == value


@given(st.binary(max_size=40))
def test_a_value_that_is_none_is_told_so(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        unpack_value(data)


@given(st.integers(limits.INTEGER_MIN, limits.INTEGER_MAX))
def test_integers_are_found_again(number: int) -> None:
    packed = pack_integer(number)
    assert integer_of(packed) == number
    assert integer_of(packed + b"\0") is None
    assert len(packed) == 1 or integer_of(packed[:-1]) is None


@given(st.binary(min_size=1, max_size=12))
def test_only_integers_are_counted(data: bytes) -> None:
    number = integer_of(data)
    if number is not None:
        assert type(number) is int
        assert unpack_value(data) == number
