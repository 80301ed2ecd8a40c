"""The bytes that nodes send each other, the bounds, and what a hostile node may try.

`GOLDEN` is the protocol: a change of these bytes is a change of protocol, and needs another version byte.
"""

import struct
from dataclasses import fields, replace
from typing import Any

import pytest

from gimmal.cluster.table import Addresses, NodeRow, PartitionRow, Table
from gimmal.errors import RemoteProtocolError
from gimmal.types import Incarnation
from gimmal.wire import limits, peer_messages
from gimmal.wire.codec import VERSION, decode, encode, frames, pack_tree, pack_value, unpack_tree
from gimmal.wire.kinds import FROM_CLIENTS, FROM_NODES, KINDS
from gimmal.wire.messages import TableRows
from gimmal.wire.peer_messages import (
    BLANK,
    Ack,
    Append,
    AppendAck,
    AppendEntries,
    AppendReply,
    Belonging,
    Confirm,
    Confirmed,
    FetchRows,
    Genesis,
    Gossip,
    Heartbeat,
    HeartbeatReply,
    Hello,
    Histories,
    InstallSnapshot,
    Lock,
    Locked,
    MetaReply,
    MetaRequest,
    Nack,
    PeerMessage,
    Ping,
    PingRequest,
    Release,
    Relieve,
    Rows,
    Rumor,
    SnapshotAck,
    SnapshotChunk,
    View,
    ViewDigest,
    Vote,
    VoteRequest,
)
from tests.unit.hostile import JUNK, check_flips, check_truncations, peak_bytes_of_refusing, refusal_of
from tests.unit.tables import static_nodes, static_table

CLUSTER = bytes(range(16))
UUID = bytes(range(16, 32))
HEADER = (CLUSTER, 300, 0, 7, "n1")
VOTERS = ("h:1", "n1/a", "n2/b", 5)
PROFILE = ("p:1", "", 1, (("default", ("c:1", "s:1")),))
RUMORS: tuple[Rumor, ...] = (("n2", 300, 1, 0, "", 0, None), ("n3", 301, 0, 2, "n1", 8, PROFILE))
CONFIGURATION = (("n1/a", "n2/b"), ("n3/c",))
GOLDEN: dict[str, tuple[PeerMessage, str]] = {
    "ping": (
        Ping(*HEADER, 9, "n2", RUMORS),
        "022098c410000102030405060708090a0b0c0d0e0fcd012c0007a26e3109a26e329297a26e32cd012c0100a000c097a2"
        "6e33cd012d0002a26e310894a3703a31a0019192a764656661756c7492a3633a31a3733a31",
    ),
    "ping request": (
        PingRequest(*HEADER, 10, "n3", ()),
        "022198c410000102030405060708090a0b0c0d0e0fcd012c0007a26e310aa26e3390",
    ),
    "ack": (
        Ack(*HEADER, 9, RUMORS[:1]),
        "022297c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31099197a26e32cd012c0100a000c0",
    ),
    "nack": (Nack(*HEADER, 2**40), "022396c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31cf0000010000000000"),
    "gossip": (
        Gossip(*HEADER, RUMORS[1:]),
        "022496c410000102030405060708090a0b0c0d0e0fcd012c0007a26e319197a26e33cd012d0002a26e310894a3703a31"
        "a0019192a764656661756c7492a3633a31a3733a31",
    ),
    "view digest": (
        ViewDigest(*HEADER, b"12345678"),
        "022596c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31c4083132333435363738",
    ),
    "view": (
        View(*HEADER, True, RUMORS),
        "022697c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31c39297a26e32cd012c0100a000c097a26e33cd"
        "012d0002a26e310894a3703a31a0019192a764656661756c7492a3633a31a3733a31",
    ),
    "vote request": (
        VoteRequest(*HEADER, *VOTERS, True, 41, 4),
        "02309cc410000102030405060708090a0b0c0d0e0fcd012c0007a26e31a3683a31a46e312f61a46e322f6205c32904",
    ),
    "vote": (
        Vote(*HEADER, *VOTERS, False, True),
        "02319bc410000102030405060708090a0b0c0d0e0fcd012c0007a26e31a3683a31a46e312f61a46e322f6205c2c3",
    ),
    "append": (
        AppendEntries(*HEADER, *VOTERS, 41, 4, 40, 77, ((5, 0, ()), (5, 1, (3, "n2", 300)), (5, 2, CONFIGURATION))),
        "02329ec410000102030405060708090a0b0c0d0e0fcd012c0007a26e31a3683a31a46e312f61a46e322f62052904284d93930500"
        "909305019303a26e32cd012c9305029292a46e312f61a46e322f6291a46e332f63",
    ),
    "append reply": (
        AppendReply(*HEADER, *VOTERS, False, 40, 4, 77),
        "02339dc410000102030405060708090a0b0c0d0e0fcd012c0007a26e31a3683a31a46e312f61a46e322f6205c228044d",
    ),
    "snapshot": (
        InstallSnapshot(*HEADER, *VOTERS, 40, 4, 78, CONFIGURATION, (None, 1, "empty", (), ())),
        "02349ec410000102030405060708090a0b0c0d0e0fcd012c0007a26e31a3683a31a46e312f61a46e322f620528044e9292a46e31"
        "2f61a46e322f6291a46e332f6395c001a5656d7074799090",
    ),
    "meta request": (
        MetaRequest(*HEADER, 12, (3, "n2", 300)),
        "024097c410000102030405060708090a0b0c0d0e0fcd012c0007a26e310c9303a26e32cd012c",
    ),
    "meta reply": (
        MetaReply(*HEADER, 12, 2, 0, "ask the leader", "h:7701"),
        "02419ac410000102030405060708090a0b0c0d0e0fcd012c0007a26e310c0200ae61736b20746865206c6561646572a6683a37373031",
    ),
    "heartbeat": (Heartbeat(*HEADER, 13), "024296c410000102030405060708090a0b0c0d0e0fcd012c0007a26e310d"),
    "heartbeat reply": (
        HeartbeatReply(*HEADER, 13, "h:7701", True),
        "024398c410000102030405060708090a0b0c0d0e0fcd012c0007a26e310da6683a37373031c3",
    ),
    "relieve": (
        Relieve(*HEADER, ((3, 4, 9, "n2"), (5, 1, 2, "n3"))),
        "024496c410000102030405060708090a0b0c0d0e0fcd012c0007a26e319294030409a26e3294050102a26e33",
    ),
    "hello": (
        Hello(*BLANK[:4], "n1", ("n1", UUID, "n1/a", "", 1, "h:7701", ()), 3, True, "who is that?"),
        "025099c400000000a26e3197a26e31c410101112131415161718191a1b1c1d1e1fa46e312f61a001a6683a3737303190"
        "03c3ac77686f20697320746861743f",
    ),
    "belonging": (
        Belonging(*HEADER, "", ("h:7701", "h:7711")),
        "025197c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31a092a6683a37373031a6683a37373131",
    ),
    "lock": (
        Lock(*BLANK[:4], "n1", UUID, CLUSTER),
        "025297c400000000a26e31c410101112131415161718191a1b1c1d1e1fc410000102030405060708090a0b0c0d0e0f",
    ),
    "locked": (
        Locked(*BLANK[:4], "n2", UUID, CLUSTER),
        "025397c400000000a26e32c410101112131415161718191a1b1c1d1e1fc410000102030405060708090a0b0c0d0e0f",
    ),
    "release": (Release(*BLANK[:4], "n1", UUID), "025496c400000000a26e31c410101112131415161718191a1b1c1d1e1f"),
    "genesis": (
        Genesis(*HEADER, UUID, CONFIGURATION, (1, CLUSTER)),
        "025598c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31c410101112131415161718191a1b1c1d1e1f92"
        "92a46e312f61a46e322f6291a46e332f639201c410000102030405060708090a0b0c0d0e0f",
    ),
    "fetch rows": (FetchRows(*HEADER, 5), "026096c410000102030405060708090a0b0c0d0e0fcd012c0007a26e3105"),
    "rows": (
        Rows(*HEADER, (CLUSTER, 7, 5, ("n1/a",), (), ())),
        "026196c410000102030405060708090a0b0c0d0e0fcd012c0007a26e3196c410000102030405060708090a0b0c0d0e0f"
        "070591a46e312f619090",
    ),
    "no newer rows": (Rows(*HEADER, None), "026196c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31c0"),
    "append to copies": (
        Append(*HEADER, 9, ((3, 2, 40, 1),), ((3, 2, 40, 1, 39, ((2, 1_700_000, 7, 5, 4, (22, b"k", 1)),)),)),
        "027098c410000102030405060708090a0b0c0d0e0fcd012c0007a26e310991940302280191960302280127919602ce00"
        "19f0a00705049316c4016b01",
    ),
    "append ack": (
        AppendAck(*HEADER, 9, (3,)),
        "027197c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31099103",
    ),
    "histories": (
        Histories(*HEADER, ((3, 2, ((0, 0), (1, 40))),)),
        "027296c410000102030405060708090a0b0c0d0e0fcd012c0007a26e319193030292920000920128",
    ),
    "snapshot chunk": (
        SnapshotChunk(*HEADER, 3, 2, 40, 1, 1_700_000, 0, True, 2**32 - 1, (0, ((1, 0, 0, 0),))),
        "02739ec410000102030405060708090a0b0c0d0e0fcd012c0007a26e3103022801ce0019f0a000c3ceffffffff9200919401000000",
    ),
    "snapshot ack": (
        SnapshotAck(*HEADER, 3, 2, 40, 1, True),
        "02749ac410000102030405060708090a0b0c0d0e0fcd012c0007a26e3103022801c3",
    ),
    "confirm": (
        Confirm(*HEADER, 9, ((3, 2),)),
        "027597c410000102030405060708090a0b0c0d0e0fcd012c0007a26e310991920302",
    ),
    "confirmed": (
        Confirmed(*HEADER, 9, (3,)),
        "027697c410000102030405060708090a0b0c0d0e0fcd012c0007a26e31099103",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    message, expected = GOLDEN[name]
    assert encode(message).hex() == "".join(expected.split())
    assert decode(encode(message), FROM_NODES) == message
    with pytest.raises(RemoteProtocolError, match="unexpected kind of message"):
        decode(encode(message), FROM_CLIENTS)


def test_every_kind_has_golden_bytes() -> None:
    assert {encode(message)[1] for message, _ in GOLDEN.values()} == FROM_NODES
    classes = {member for member in vars(peer_messages).values() if isinstance(member, type)}
    leaves = {member for member in classes if issubclass(member, PeerMessage) and not member.__subclasses__()}
    assert {KINDS[kind][0] for kind in FROM_NODES} == leaves


def test_every_field_has_a_check() -> None:
    for message_class, checks in KINDS.values():
        assert [field.name for field in fields(message_class)] == list(checks)


def test_what_a_message_starts_with_is_the_same_everywhere() -> None:
    for message, _ in GOLDEN.values():
        assert [field.name for field in fields(message)][:5] == [
            *("cluster", "source", "destination", "table_version", "sender")
        ]


# -- hostile input ---------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_every_truncation_is_refused(name: str) -> None:
    check_truncations(GOLDEN[name][0])


@pytest.mark.parametrize("name", GOLDEN)
def test_every_flip_of_a_byte_is_refused_or_another_message(name: str) -> None:
    check_flips(GOLDEN[name][0])


def kind_of(message_class: type[PeerMessage]) -> int:
    (kind,) = [kind for kind, (known, _) in KINDS.items() if known is message_class]
    return kind


def spoiled(name: str, **changes: Any) -> bytes:
    """The frame of a golden message with fields that no sender would write."""
    message = GOLDEN[name][0]
    tree = [changes.get(field.name, getattr(message, field.name)) for field in fields(message)]
    return bytes([VERSION, kind_of(type(message))]) + pack_value(tree)


LONG_NAME = "n" * (limits.NAME_BYTES_MAX + 1)
LONG_TEXT = "t" * (limits.TEXT_BYTES_MAX + 1)
RUMOR = RUMORS[0]
BAD_UUIDS = (None, b"", UUID[:15], UUID + b"x", "x" * 16)
BAD_CONFIGURATIONS: tuple[Any, ...] = (
    *(None, (), ((),), ((), (), ()), ("n1", "n2"), "ab", b"ab", (("n1/a",), None), (("n1/a",), "n2/b")),
    *(((5,), ()), ((), (b"n1/a",)), ((LONG_NAME,), ()), (("n1/a",) * limits.VOTERS_MAX, ("n2/b",))),
)


def rumor_with(place: int, value: Any) -> tuple[Any, ...]:
    return (*RUMOR[:place], value, *RUMOR[place + 1 :])


def bad(name: str, field: str, *values: Any) -> list[tuple[str, str, Any]]:
    return [(name, field, value) for value in values]


BAD_FIELDS = [
    *bad("heartbeat", "cluster", None, "", b"short", CLUSTER + b"x", 0),
    *bad("heartbeat", "source", -1, 2**63, 1.0, True, None, "1"),
    *bad("heartbeat", "destination", -1, 2**63, False, b""),
    *bad("heartbeat", "table_version", -1, 2**63, None, ()),
    *bad("heartbeat", "sender", None, b"n1", 5, LONG_NAME, ("n1",)),
    *bad("ping", "number", -1, 1.0, None),
    *bad("ping", "target", None, b"n2", LONG_NAME),
    *bad("ping", "rumors", None, (None,), "abcdefg", ("abcdefg",), b"abcdefg", 5, ((),)),
    *bad("ping", "rumors", (RUMOR[:6],), ((*RUMOR, None),), ({},), ((RUMOR,),)),
    *bad("ping", "rumors", *((rumor_with(0, name),) for name in (None, b"n2", 5, LONG_NAME))),
    *bad("ping", "rumors", *((rumor_with(place, -1),) for place in (1, 2, 3, 5))),
    *bad("ping", "rumors", *((rumor_with(place, True),) for place in (1, 2, 3, 5))),
    *bad("ping", "rumors", *((rumor_with(place, None),) for place in (1, 2, 3, 5))),
    *bad("ping", "rumors", *((rumor_with(4, name),) for name in (None, b"n2", LONG_NAME))),
    *bad("ping", "rumors", *((rumor_with(6, profile),) for profile in ("profile", b"", 0, False))),
    *bad("ping request", "rumors", (RUMOR,) * (limits.NODES_MAX + limits.HEARSAY_MAX + 1)),
    *bad("ack", "rumors", (RUMOR,) * (limits.NODES_MAX + limits.HEARSAY_MAX + 1)),
    *bad("gossip", "rumors", (RUMOR,) * (limits.NODES_MAX + limits.HEARSAY_MAX + 1)),
    *bad("view", "rumors", (RUMOR,) * (limits.NODES_MAX + limits.HEARSAY_MAX + 1)),
    *bad("view", "is_answer", None, 0, 1, "yes"),
    *bad("view digest", "digest", None, b"", b"1234567", b"123456789", "12345678"),
    *bad("vote request", "voter", None, 5, b"n1/a", LONG_NAME),
    *bad("vote request", "target", None, 5, b"n1/a", LONG_NAME),
    *bad("vote request", "term", -1, None, 2**63),
    *bad("vote request", "last_index", -1, None, 2**63),
    *bad("vote request", "last_term", -1, None, 2**63),
    *bad("vote request", "is_trial", None, 1),
    *bad("vote", "is_trial", None, 1),
    *bad("vote", "is_granted", None, 0),
    *(("append", field, -1) for field in ("term", "prev_index", "prev_term", "commit", "round")),
    *bad("append", "entries", None, 5, "abc", ("abc",), (5,), ((),), {}),
    *bad("append", "entries", ((1, 2),), ((1, 2, (), 4),), ((-1, 0, ()),), ((1, None, ()),)),
    *bad(
        "append", "entries", ((1, 0, None),), ((1, 0, 5),), ((1, 0, "payload"),), ((1, 0, b"payload"),), ((1, 0, {}),)
    ),
    *bad("append", "entries", ((1, 0, ()),) * (limits.OPERATIONS_MAX + 1)),
    *bad("append reply", "is_accepted", None, 1),
    *bad("append reply", "index", -1, None),
    *bad("append reply", "round", 0.0),
    *bad("snapshot", "configuration", *BAD_CONFIGURATIONS),
    *bad("snapshot", "state", None, 5, b"", "state", {}),
    *bad("meta request", "command", None, 5, b"", "command", {}),
    *bad("meta reply", "outcome", -1, None, True),
    *bad("meta reply", "value", -1, None, True),
    *bad("meta reply", "text", None, b"", LONG_TEXT),
    *bad("meta reply", "leader", None, b"", LONG_TEXT),
    *bad("heartbeat reply", "leader", None, 7701, LONG_TEXT),
    *bad("hello", "profile", None, "n1", b"", {}),
    *bad("hello", "expect", -1, None),
    *bad("hello", "is_answer", None, 0),
    *bad("hello", "trouble", None, b"", LONG_TEXT),
    *bad("belonging", "peers", None, "h:1", (5,), (b"h:1",), (LONG_TEXT,), ("",) * (limits.NODES_MAX + 1)),
    *(row for name in ("lock", "locked", "release", "genesis") for row in bad(name, "founding", *BAD_UUIDS)),
    *(row for name in ("lock", "locked") for row in bad(name, "uuid", *BAD_UUIDS)),
    *bad("genesis", "configuration", *BAD_CONFIGURATIONS),
    *bad("genesis", "state", None, 5, b"", "state", {}),
    *bad("fetch rows", "since", -1, None, 2**63),
    *(row for name in ("vote", "append", "snapshot") for row in bad(name, "term", -1, True, limits.TERM_MAX + 1)),
    *bad("append", "prev_index", -1, True, limits.INDEX_MAX + 1),
    *bad("append", "commit", limits.INDEX_MAX + 1),
    *bad("append", "entries", ((limits.TERM_MAX + 1, 0, ()),)),
    *bad("snapshot", "index", limits.INDEX_MAX + 1),
    *bad("vote request", "last_index", limits.INDEX_MAX + 1),
    *bad("append reply", "index_term", limits.TERM_MAX + 1),
    *bad("rows", "table", 5, b"", "table", False, {}),
]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    BAD_FIELDS,
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_field_is_refused(name: str, field: str, value: Any) -> None:
    assert "malformed" in refusal_of(spoiled(name, **{field: value}))


def test_a_frame_that_is_not_spoiled_passes() -> None:
    for name, (message, _) in GOLDEN.items():
        assert decode(spoiled(name)) == message


@pytest.mark.parametrize("kind", sorted(FROM_NODES))
def test_a_message_of_another_length_is_refused(kind: int) -> None:
    count = len(KINDS[kind][1])
    for wrong in (0, count - 1, count + 1):
        refusal_of(bytes([VERSION, kind]) + pack_value((b"", *(0,) * wrong)[:wrong]))


@pytest.mark.parametrize("levels", [500, 1_100, 50_000])
@pytest.mark.parametrize("kind", sorted(FROM_NODES))
def test_deep_nesting_is_refused(kind: int, levels: int) -> None:
    refusal_of(bytes([VERSION, kind]) + b"\x91" * levels + b"\x90")


@pytest.mark.parametrize("name", ["rows", "meta request", "snapshot"])
def test_deep_nesting_inside_a_tree_is_refused(name: str) -> None:
    message = GOLDEN[name][0]
    frame = encode(message)
    last = {"rows": b"\x90", "meta request": b"\xcd\x01\x2c", "snapshot": b"\x90"}[name]
    assert frame.endswith(last)
    for levels in (limits.TREE_DEPTH_MAX, 300, 600, 1_100, 50_000):
        refusal_of(frame[: -len(last)] + b"\x91" * levels + b"\x90")


@pytest.mark.parametrize("packed", [b"\x80", b"\x81\xc0\xc0", b"\xc7\x00\x05", b"\xd4\x05\x00"], ids=bytes.hex)
def test_maps_and_extensions_do_not_occur_in_trees(packed: bytes) -> None:
    frame = encode(GOLDEN["rows"][0])
    assert frame.endswith(b"\x90")
    refusal_of(frame[:-1] + packed)


# -- sizes: hostile, and the largest that occur ------------------------------------------


@pytest.mark.parametrize("unit", JUNK[:2], ids=bytes.hex)
@pytest.mark.parametrize("name", ["gossip", "append", "rows"])
def test_a_long_frame_of_junk_costs_nothing(name: str, unit: bytes) -> None:
    kind = kind_of(type(GOLDEN[name][0]))
    count = (limits.MESSAGE_BYTES_MAX - 16) // len(unit)
    frame = bytes([VERSION, kind]) + b"\x98\xdd" + struct.pack(">I", count) + unit * count
    assert limits.PLAIN_FRAME_BYTES_MAX < len(frame) <= limits.MESSAGE_BYTES_MAX
    assert peak_bytes_of_refusing(frame) < 1_000_000


def test_a_tree_as_large_as_may_be_costs_a_bounded_amount() -> None:
    """Within the limit of items nothing stops it before it is built: that bounds what it can cost."""
    kind = kind_of(View)
    fields_before = len(KINDS[kind][1]) - 1
    count = limits.TABLE_ITEMS_MAX - fields_before - 3
    head = bytes([VERSION, kind, 0x90 + fields_before + 1]) + b"\xc0" * fields_before
    frame = head + b"\xdd" + struct.pack(">I", count) + b"\x90" * count
    assert peak_bytes_of_refusing(frame) < 50_000_000
    longer = head + b"\xdd" + struct.pack(">I", count + 9) + b"\x90" * (count + 9)
    assert "items" in refusal_of(longer)
    assert peak_bytes_of_refusing(longer) < 1_000_000


@pytest.mark.parametrize("name", ["gossip", "append", "rows", "belonging", "genesis"])
def test_nested_arrays_that_promise_much_cost_little(name: str) -> None:
    kind = kind_of(type(GOLDEN[name][0]))
    declared = b"\xdd" + struct.pack(">I", limits.PLAIN_FRAME_BYTES_MAX - 10_000)
    frame = (bytes([VERSION, kind]) + declared * 1_000).ljust(limits.PLAIN_FRAME_BYTES_MAX, b"\x80")
    assert peak_bytes_of_refusing(frame) < 30_000_000


@pytest.mark.parametrize("marker", [b"\xdd", b"\xc6", b"\xdb", b"\xdf", b"\xc9"])
@pytest.mark.parametrize("name", ["gossip", "append", "rows", "belonging", "genesis", "view"])
def test_a_huge_declared_length_is_refused(name: str, marker: bytes) -> None:
    start = encode(GOLDEN[name][0])[:40]
    for length in (2**32 - 1, 2**31, 2**20):
        assert peak_bytes_of_refusing(start + marker + struct.pack(">I", length) + b"x" * 100) < 1_000_000


def passes(message: Any) -> int:
    """Check that a message can be sent and received whole; return its bytes."""
    ((part, frame),) = frames(message)
    assert part is message
    assert decode(frame) == message
    return len(frame)


def largest_table() -> Table:
    """As many partitions as there can be, on 1,000 nodes, and each in the middle of something."""
    names = [f"node-{number:04}" for number in range(1_000)]
    addresses = Addresses("host.example:7700", "host.example:7702")
    nodes = tuple(
        NodeRow(name, 2**40, UUID, f"{name}/{'f' * 32}", "zone", 1, "alive", "host:7701", (("default", addresses),), 9)
        for name in names
    )
    partitions = []
    for number in range(16_384):
        one, two, three, four = (names[(number + step) % 1_000] for step in range(4))
        in_sync = (Incarnation(one, 2**40), Incarnation(two, 2**40))
        partitions.append(
            PartitionRow(one, 9, 9, (one, two, three), in_sync, (Incarnation(three, 2**40),), (four,), (three,), 9)
        )
    return Table(CLUSTER, 9, tuple(row.voter for row in nodes[:5]), nodes, tuple(partitions))


def test_the_largest_table_travels() -> None:
    table = largest_table()
    tree = table.to_wire()
    header = (CLUSTER, 1, 0, 9)
    for message in (
        Rows(*header, "n1", tree),
        TableRows(*header, tree),
        InstallSnapshot(*header, "n1", *VOTERS, 40, 4, 78, CONFIGURATION, (tree, 3, "empty", table.voters, ())),
    ):
        assert 2**20 < passes(message) < limits.MESSAGE_BYTES_MAX // 2
    assert Table.from_wire(unpack_tree(pack_tree(tree))) == table


def test_the_largest_view_and_the_largest_changes_travel() -> None:
    profile = ("host.example:7701", "zone", 1, (("default", ("host.example:7700", "host.example:7702")),))
    rumors = tuple((f"node-{number:04}", 2**40, 3, 0, "", 0, profile) for number in range(limits.NODES_MAX))
    passes(View(*HEADER, False, rumors))
    members = (("node-0001", 2**40), ("node-0002", 2**40), ("node-0003", 2**40))
    changes = tuple((partition, 9, 9, members) for partition in range(16_384))
    command = (5, "node-0001", 2**40, 1, changes)
    assert passes(MetaRequest(*HEADER, 1, command)) > limits.PLAIN_FRAME_BYTES_MAX
    passes(AppendEntries(*HEADER, *VOTERS, 41, 4, 40, 77, ((5, 1, command),)))
    passes(AppendEntries(*HEADER, *VOTERS, 41, 4, 40, 77, ((5, 0, ()),) * limits.OPERATIONS_MAX))


def test_a_difference_is_as_small_as_what_has_changed() -> None:
    table = static_table(CLUSTER, static_nodes("n1", "n2", "n3"), 1_024)
    newer = replace(table, version=2, nodes=(table.nodes[0]._replace(changed_at=2), *table.nodes[1:]))
    assert passes(Rows(*HEADER, newer.to_wire(1))) < 200
    assert passes(Rows(*HEADER, newer.to_wire())) > 20_000


# -- trees in a journal ------------------------------------------------------------------


def test_a_tree_in_a_journal_is_read_again_and_damage_is_told() -> None:
    tree = (1, "n1/a", (CLUSTER, None, (2**63 - 1, -1)))
    assert unpack_tree(pack_tree(tree)) == tree
    for data in (b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\x80", b"\x81\xa1a\xc0", b"\xc7\x00\x05", b"\x91" * 2_000):
        with pytest.raises(RemoteProtocolError, match="not a tree"):
            unpack_tree(data)
