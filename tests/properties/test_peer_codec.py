"""Messages between nodes survive the wire; whatever arrives is decoded to a well-formed message or refused."""

from collections import defaultdict
from dataclasses import fields
from typing import Any, get_type_hints

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gimmal.errors import RemoteProtocolError
from gimmal.wire import checks, limits
from gimmal.wire.codec import VERSION, decode, encode, frames, pack_tree, pack_value, unpack_tree
from gimmal.wire.kinds import FROM_NODES, KINDS
from gimmal.wire.messages import Message
from gimmal.wire.peer_messages import PeerMessage
from tests.properties.broken_frames import check_cut_and_flipped

NATURALS = st.one_of(st.sampled_from([0, 1, 127, 128, 2**32, limits.INTEGER_MAX]), st.integers(0, limits.INTEGER_MAX))
TERMS = st.one_of(st.sampled_from([0, 1, limits.TERM_MAX]), st.integers(0, limits.TERM_MAX))
INDEXES = st.one_of(st.sampled_from([0, 1, limits.INDEX_MAX]), st.integers(0, limits.INDEX_MAX))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = st.one_of(TEXTS, st.just("n" * limits.NAME_BYTES_MAX))
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-5, 2**62), st.binary(max_size=5), TEXTS)
TREES: SearchStrategy[Any] = st.recursive(
    LEAVES, lambda children: st.lists(children, max_size=4).map(tuple), max_leaves=10
)
BRANCHES = st.lists(TREES, max_size=3).map(tuple)
UUIDS = st.binary(min_size=16, max_size=16)
RUMORS = st.lists(
    st.tuples(NAMES, NATURALS, NATURALS, NATURALS, NAMES, NATURALS, st.one_of(st.none(), BRANCHES)), max_size=4
).map(tuple)
VOTERS = st.lists(NAMES, max_size=4).map(tuple)

BY_FIELD: dict[str, SearchStrategy[Any]] = {
    "cluster": st.one_of(st.just(b""), UUIDS),
    **dict.fromkeys(["sender", "target", "voter"], NAMES),
    **dict.fromkeys(["leader", "peer", "text", "trouble"], TEXTS),
    **dict.fromkeys(["founding", "uuid"], UUIDS),
    "digest": st.binary(min_size=8, max_size=8),
    "rumors": RUMORS,
    "entries": st.lists(st.tuples(TERMS, NATURALS, BRANCHES), max_size=4).map(tuple),
    "configuration": st.tuples(VOTERS, VOTERS),
    **dict.fromkeys(["state", "command", "profile"], BRANCHES),
    "peers": st.lists(TEXTS, max_size=4).map(tuple),
    "table": st.one_of(st.none(), BRANCHES),
}
"""What a field may hold, where its type does not say it."""
BY_CHECK: dict[Any, SearchStrategy[Any]] = {checks.is_term: TERMS, checks.is_index: INDEXES}
BY_TYPE: dict[Any, SearchStrategy[Any]] = defaultdict(st.nothing, {int: NATURALS, bool: st.booleans()})


def messages_of(message_class: type[Message]) -> SearchStrategy[Message]:
    types = get_type_hints(message_class)
    names = [field.name for field in fields(message_class)]
    known = next(known for made, known in KINDS.values() if made is message_class)
    return st.builds(
        message_class,
        **{name: BY_CHECK.get(known[name], BY_FIELD.get(name, BY_TYPE[types[name]])) for name in names},
    )


MESSAGES = st.one_of(*(messages_of(KINDS[kind][0]) for kind in sorted(FROM_NODES)))
KIND = st.sampled_from(sorted(FROM_NODES))


def check_well_formed(message: Message) -> None:
    """What every receiver may rely on, said a second time and differently."""
    assert isinstance(message, PeerMessage)
    assert len(message.cluster) in (0, 16)
    types = get_type_hints(type(message))
    for field in fields(message):
        value = getattr(message, field.name)
        if types[field.name] is int:
            assert type(value) is int
            assert value in range(2**63)
        elif types[field.name] in (bool, str, bytes):
            assert type(value) is types[field.name]
        else:
            assert type(value) is tuple or (value is None and field.name == "table")
    for name, incarnation, refutation, state, accuser, health, profile in getattr(message, "rumors", ()):
        assert type(name) is type(accuser) is str
        assert all(type(n) is int and n >= 0 for n in (incarnation, refutation, state, health))
        assert profile is None or type(profile) is tuple
    for term, kind, payload in getattr(message, "entries", ()):
        assert type(term) is type(kind) is int
        assert type(payload) is tuple
    for group in getattr(message, "configuration", ()):
        assert type(group) is tuple
        assert all(type(name) is str for name in group)
    assert all(type(address) is str for address in getattr(message, "peers", ()))


def decode_or_refuse(frame: bytes) -> None:
    """Whatever the bytes: a well-formed message or the one error; any other error fails the test."""
    try:
        message = decode(frame, FROM_NODES)
    except RemoteProtocolError:
        return
    check_well_formed(message)


@given(MESSAGES)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    received = decode(encode(message), FROM_NODES)
    assert received == message
    assert type(received) is type(message)
    for field in fields(message):
        assert type(getattr(received, field.name)) is type(getattr(message, field.name))
    check_well_formed(received)
    assert list(frames(message)) == [(message, encode(message))]  # between nodes, a message is one frame


@given(KIND, st.binary(max_size=200))
def test_junk_behind_a_good_start_is_refused(kind: int, junk: bytes) -> None:
    decode_or_refuse(bytes([VERSION, kind]) + junk)


@given(KIND, st.data())
def test_trees_of_the_wrong_shape_are_refused(kind: int, data: st.DataObject) -> None:
    """Good msgpack of the right length, wrong message: the checks see it, not the parser."""
    count = len(KINDS[kind][1])
    tree = data.draw(st.lists(TREES, min_size=count, max_size=count))
    decode_or_refuse(bytes([VERSION, kind]) + pack_value(tree))


@given(MESSAGES, st.data())
def test_a_field_of_another_type_is_refused(message: Message, data: st.DataObject) -> None:
    tree = [getattr(message, field.name) for field in fields(message)]
    place = data.draw(st.integers(0, len(tree) - 1))
    tree[place] = data.draw(st.one_of(st.floats(), st.booleans(), st.integers(-(2**63), 2**64 - 1), TEXTS, TREES))
    decode_or_refuse(encode(message)[:2] + pack_value(tree))


@given(MESSAGES, st.data())
def test_a_cut_or_flipped_frame_is_refused_or_well_formed(message: Message, data: st.DataObject) -> None:
    check_cut_and_flipped(encode(message), decode_or_refuse, data)


@given(BRANCHES)
def test_a_tree_survives_a_journal(tree: Any) -> None:
    assert unpack_tree(pack_tree(tree)) == tree


@given(st.binary(max_size=64))
def test_junk_in_a_journal_is_a_tree_or_told(junk: bytes) -> None:
    try:
        tree = unpack_tree(junk)
    except RemoteProtocolError:
        return
    assert not isinstance(tree, dict | list)
