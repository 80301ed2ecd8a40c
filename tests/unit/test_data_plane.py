"""The store side of a node by its verbs only: messages and time in, messages out."""

import random
from math import inf
from typing import Any

import pytest

from gimmal.cluster.table import Table
from gimmal.errors import RemoteProtocolError
from gimmal.hashing import key_slot, partition_of
from gimmal.leader.memory import MemoryLimits
from gimmal.node.data_plane import DataPlane
from gimmal.store.kv import record_bytes
from gimmal.types import Command, Instant
from gimmal.wire import commands, limits
from gimmal.wire.codec import decode, frames, pack_value
from gimmal.wire.messages import (
    Fault,
    FetchStatus,
    FetchTable,
    Message,
    Problem,
    Refusal,
    Reply,
    Request,
    Status,
    TableRows,
)
from tests.unit.tables import StaticNode, static_table

CLUSTER = bytes(range(16))
PARTITIONS = 4
TABLE = static_table(CLUSTER, [StaticNode("n1", "h:1", "h:2", "h:3")], PARTITIONS)
TWO_NODES = static_table(CLUSTER, [StaticNode(name, "h:1", "h:2", "h:3") for name in ("n1", "n2")], PARTITIONS)
START = Instant(5_000.0, 1_700_000_000_000)
ONE = pack_value(1)
NEW = b"\0" * 7 + b"\2"  # version 2: the first entry is the no-op of the epoch


def later(seconds: float) -> Instant:
    return Instant(START.seconds + seconds, START.unix_ms + int(seconds * 1000))


def new_core(memory_limits: MemoryLimits | None = None, table: Table = TABLE, name: str = "n1") -> DataPlane:
    core = DataPlane(name, memory_limits or MemoryLimits(), random.Random(1), START)
    core.on_lease(inf)
    row = table.node(name)
    core.adopt(table, row.incarnation if row else 0, START)
    return core


@pytest.fixture
def core() -> DataPlane:
    return new_core()


def home(command: Command) -> int:
    keys = commands.keys_of(command)
    return partition_of(key_slot(keys[0]), PARTITIONS) if keys else 0


def request(*wanted: Command, first: int = 1, **fields: Any) -> Request:
    """A request as a client would send it; `fields` replaces what is to be different."""
    message = Request(CLUSTER, 0, 0, 1, 0, 5_000, tuple((first + i, home(c), 0, 0, 0, c) for i, c in enumerate(wanted)))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def ask(core: DataPlane, *wanted: Command, now: Instant = START, peer: bytes = b"peer", **fields: Any) -> list[Any]:
    """Send commands in one request; return for each its result, or the Refusal."""
    core.receive(peer, request(*wanted, **fields), now)
    answers: dict[int, Any] = {}
    for to, reply in core.drain():  # several when the results are large
        assert to == peer
        assert isinstance(reply, Reply)
        answers |= dict(zip(reply.numbers, reply.results, strict=True))
        answers |= {number: Refusal(refusal) for number, refusal, _ in reply.refusals}
    assert sorted(answers) == list(range(1, len(wanted) + 1))
    return [answers[number] for number in range(1, len(wanted) + 1)]


def answer(core: DataPlane, message: Message, now: Instant = START, peer: bytes = b"peer") -> Message:
    """Send one message and return the one that comes back."""
    core.receive(peer, message, now)
    ((to, back),) = core.drain()
    assert to == peer
    assert (back.cluster, back.source, back.destination, back.table_version) == (CLUSTER, core.incarnation, 0, 1)
    return back


def facts(core: DataPlane, now: Instant = START) -> dict[str, Any]:
    """What it says of itself after a message at that time has made it look at what is due."""
    core.receive(b"monitor", FetchTable(CLUSTER, 0, 0, 1), now)
    core.drain()
    return core.facts()


def set_(key: bytes, value: bytes = ONE, ttl_ms: int = 0) -> Command:
    return (commands.SET, key, value, ttl_ms, 0, None)


def get(key: bytes) -> Command:
    return (commands.GET, key)


def incr(key: bytes) -> Command:
    return (commands.INCR, key, 1)


# -- requests ----------------------------------------------------------------------------


def test_operations_are_carried_out_in_their_order(core: DataPlane) -> None:
    assert ask(core, incr(b"k"), get(b"k"), incr(b"k"), (commands.DELETE, b"k"), get(b"k")) == [
        *(1, NEW + ONE, 2, True, None)
    ]


def test_every_command_has_an_answer(core: DataPlane) -> None:
    many = (b"{t}a", b"{t}b")
    scanned = (commands.SCAN, b"", 0, 0)
    assert ask(
        core,
        (commands.SET_MANY, (many[0], ONE, many[1], ONE), 0),
        (commands.GET_MANY, (*many, b"{t}c")),
        (commands.EXISTS, many[0]),
        (commands.TTL, many[0]),
        (commands.SET_TTL, many[0], 5_000),
        (commands.TTL, many[0]),
        (commands.PERSIST, many[0]),
        (commands.DELETE_MANY, many),
        scanned,
    ) == [2, (NEW + ONE, NEW + ONE, None), True, -1, True, 5_000, True, 2, (-1, 0, ())]


def test_a_command_that_cannot_be_carried_out_is_refused_with_a_text(core: DataPlane) -> None:
    text, big = pack_value("text"), pack_value(2**63 - 1)
    assert ask(core, set_(b"k", text), incr(b"k"), set_(b"k", big), incr(b"k"), get(b"k"))[1::2] == [
        Refusal.NOT_AN_INTEGER,
        Refusal.INTEGER_OVERFLOW,
    ]
    core.receive(b"peer", request(incr(b"k")), START)
    ((_, reply),) = core.drain()
    assert isinstance(reply, Reply)
    assert "64 bits" in reply.refusals[0][2]


def test_another_cluster_is_turned_away(core: DataPlane) -> None:
    assert ask(core, incr(b"k"), get(b"k"), cluster=bytes(16)) == [Refusal.WRONG_CLUSTER] * 2
    for message in (FetchTable(bytes(16), 0, 0, 0), FetchStatus(bytes(16), 0, 0, 0)):
        problem = answer(core, message)
        assert isinstance(problem, Problem)
        assert problem.fault == Fault.WRONG_CLUSTER
        assert CLUSTER.hex() in problem.text
    assert facts(core)["protocol_errors"] == 3
    assert ask(core, get(b"k")) == [None]


def test_who_knows_no_cluster_yet_is_served(core: DataPlane) -> None:
    assert ask(core, incr(b"k"), cluster=b"") == [1]


def test_another_incarnation_is_not_this_one(core: DataPlane) -> None:
    assert ask(core, incr(b"k"), incr(b"k"), destination=core.incarnation + 1) == [Refusal.MOVED] * 2
    assert ask(core, get(b"k")) == [None]
    assert ask(core, incr(b"k"), destination=core.incarnation) == [1]
    assert facts(core)["moved"] == 2


def operation_with(command: Command, partition: int | None = None, epoch: int = 0) -> dict[str, Any]:
    where = home(command) if partition is None else partition
    return {"operations": ((1, where, epoch, 0, 0, command),)}


def test_another_epoch_is_moved(core: DataPlane) -> None:
    assert ask(core, incr(b"k"), **operation_with(incr(b"k"), epoch=2)) == [Refusal.MOVED]
    assert ask(core, incr(b"k"), **operation_with(incr(b"k"), epoch=1)) == [1]
    assert ask(core, incr(b"k"), **operation_with(incr(b"k"), epoch=0)) == [2]


@pytest.mark.parametrize("partition", [PARTITIONS, 2**62])
def test_a_partition_that_does_not_exist_is_moved(core: DataPlane, partition: int) -> None:
    assert ask(core, get(b"k"), **operation_with(get(b"k"), partition)) == [Refusal.MOVED]


def test_a_partition_of_another_node_is_moved() -> None:
    cores = {name: new_core(table=TWO_NODES, name=name) for name in ("n1", "n2")}
    for number in range(20):
        command = incr(b"k%d" % number)
        leader = TWO_NODES.partitions[home(command)].leader
        for name, core in cores.items():
            assert ask(core, command) == [1 if name == leader else Refusal.MOVED]
    assert {facts(core)["partitions_led"] for core in cores.values()} == {PARTITIONS // 2}


@pytest.mark.parametrize(
    "command",
    [
        *(get(b"k"), set_(b"k"), incr(b"k"), (commands.GET_MANY, (b"k",)), (commands.DELETE_MANY, (b"k",))),
        *((commands.SET_MANY, (b"k", ONE), 0), (commands.TTL, b"k"), (commands.SET_TTL, b"k", 5)),
        *((commands.EXISTS, b"k"), (commands.DELETE, b"k"), (commands.PERSIST, b"k")),
    ],
    ids=lambda command: commands.NAMES[command[0]],
)
def test_a_key_of_another_partition_is_invalid(core: DataPlane, command: Command) -> None:
    elsewhere = (home(command) + 1) % PARTITIONS
    assert ask(core, command, **operation_with(command, elsewhere)) == [Refusal.INVALID]
    assert facts(core)["entries"] == 0


def test_one_key_of_many_in_another_partition_makes_all_invalid(core: DataPlane) -> None:
    others = [b"x%d" % number for number in range(50)]
    stray = next(key for key in others if home(get(key)) != home(get(b"k")))
    for command in (
        (commands.SET_MANY, (b"k", ONE, stray, ONE), 0),
        (commands.GET_MANY, (b"k", stray)),
        (commands.DELETE_MANY, (b"k", stray)),
    ):
        assert ask(core, command) == [Refusal.INVALID]
    assert facts(core)["entries"] == 0


def test_a_scan_may_ask_any_partition_for_any_prefix(core: DataPlane) -> None:
    ask(core, set_(b"k"))
    found = [
        ask(core, get(b"k"), **operation_with((commands.SCAN, b"k", 0, 0), partition))[0][2]
        for partition in range(PARTITIONS)
    ]
    assert sorted(found) == [(), (), (), (b"k",)]
    far = (commands.SCAN, b"", limits.INTEGER_MAX, limits.INTEGER_MAX)
    assert ask(core, far)[0][0] == -1


@pytest.mark.parametrize(
    "message",
    [
        Reply(CLUSTER, 1, 0, 1, 0, (1,), (None,), ()),
        TableRows(CLUSTER, 1, 0, 9, None),
        Status(CLUSTER, 1, 0, 1, ()),
        Problem(CLUSTER, 1, 0, 1, 1, "no, you"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_a_node_does_not_expect_is_a_problem(core: DataPlane, message: Message) -> None:
    problem = answer(core, message)
    assert isinstance(problem, Problem)
    assert problem.fault == Fault.UNEXPECTED
    assert type(message).__name__ in problem.text
    assert facts(core)["protocol_errors"] == 1


def test_a_frame_that_was_no_message_is_answered_and_logged_once_a_minute(core: DataPlane) -> None:
    error = RemoteProtocolError("x" * 10_000)
    logged = []
    for second in (0, 1, 59, 60, 61):
        core.reject(b"peer", error, later(second))
        logged.append(len(core.complaints()))
    assert logged == [1, 0, 0, 1, 0]
    core.reject(b"other", error, later(61))
    assert [(level, b"other".hex() in text) for level, text in core.complaints()] == [("warning", True)]
    problems = core.drain()
    assert [peer for peer, _ in problems] == [b"peer"] * 5 + [b"other"]
    for _, problem in problems:
        assert isinstance(problem, Problem)
        assert problem.fault == Fault.MALFORMED
        assert [decode(frame) for _, frame in frames(problem)] == [problem]
    assert facts(core, later(61))["protocol_errors"] == 6


# -- answers -----------------------------------------------------------------------------


def test_a_turn_answers_each_client_once(core: DataPlane) -> None:
    for number in range(5):
        for peer in (b"a", b"b", b"c"):
            core.receive(peer, request(incr(b"k" + peer), get(b"x"), first=10 * number + 1), START)
    replies = core.drain()
    assert [peer for peer, _ in replies] == [b"a", b"b", b"c"]
    for _, reply in replies:
        assert isinstance(reply, Reply)
        assert reply.numbers == (1, 2, 11, 12, 21, 22, 31, 32, 41, 42)
        assert reply.results == (1, None, 2, None, 3, None, 4, None, 5, None)
    assert core.drain() == []


def test_a_reply_of_any_mixture_travels(core: DataPlane) -> None:
    wanted = [get(b"x%d" % number) for number in range(limits.OPERATIONS_MAX)]
    for _ in range(8):
        core.receive(b"peer", request(*wanted, destination=77), START)
        core.receive(b"peer", request(*wanted), START)
    parts = [decode(frame) for _, reply in core.drain() for _, frame in frames(reply)]
    assert all(isinstance(part, Reply) for part in parts)
    assert sum(len(part.numbers) for part in parts if isinstance(part, Reply)) == 8 * len(wanted)
    assert sum(len(part.refusals) for part in parts if isinstance(part, Reply)) == 8 * len(wanted)


BIG = limits.VALUE_BYTES_MAX


def receipt_of(core: DataPlane, *wanted: Command, receipt: int = 0, now: Instant = START) -> tuple[int, bool]:
    """Return the reply's receipt, and whether all was refused as too much."""
    core.receive(b"peer", request(*wanted, receipt=receipt), now)
    ((_, reply),) = core.drain()
    assert isinstance(reply, Reply)
    refused = {refusal for _, refusal, _ in reply.refusals}
    assert refused <= {Refusal.OVERLOADED}
    return reply.receipt, bool(refused)


def fill_up(core: DataPlane) -> int:
    """Let a client ask for more than it may leave unread; return the last receipt before it is refused."""
    ask(core, set_(b"big", bytes(BIG)))
    last = 0
    for _ in range(limits.UNREAD_REPLY_BYTES_MAX // BIG + 5):
        receipt, refused = receipt_of(core, get(b"big"))
        if refused:
            return last
        last = receipt
    raise AssertionError("a client may leave everything unread")


def test_a_client_that_does_not_read_is_refused_until_it_does(core: DataPlane) -> None:
    last = fill_up(core)
    for guess in (0, 1, last + 2, last ^ 2):
        assert receipt_of(core, get(b"big"), incr(b"n"), receipt=guess)[1]
    assert ask(core, get(b"n"), peer=b"other") == [None], "refused means not executed, and others are served"
    assert not receipt_of(core, get(b"big"), receipt=last)[1]


def test_an_overloaded_client_that_falls_silent_is_forgotten(core: DataPlane) -> None:
    fill_up(core)
    core.tick(later(60))
    assert receipt_of(core, get(b"big"), now=later(60))[1]
    core.tick(later(200))
    assert not receipt_of(core, get(b"big"), now=later(200))[1]


def test_an_overloaded_client_gets_no_table(core: DataPlane) -> None:
    last = fill_up(core)
    core.receive(b"peer", FetchTable(CLUSTER, 0, 0, 0), START)
    assert core.drain() == []
    receipt_of(core, get(b"n"), receipt=last)
    assert isinstance(answer(core, FetchTable(CLUSTER, 0, 0, 0)), TableRows)


def test_an_answer_that_fits_no_message_is_too_large(core: DataPlane) -> None:
    ask(core, set_(b"{t}a", bytes(BIG)), set_(b"{t}b", bytes(BIG)))
    assert ask(core, (commands.GET_MANY, (b"{t}a", b"{t}b"))) == [Refusal.TOO_LARGE]
    assert len(ask(core, (commands.GET_MANY, (b"{t}a",)))[0][0]) == BIG + 8


def test_one_request_cannot_ask_for_more_than_may_be_unread(core: DataPlane) -> None:
    ask(core, set_(b"big", bytes(BIG)))
    count = limits.UNREAD_REPLY_BYTES_MAX // BIG
    results = ask(core, *[get(b"big")] * (3 * count))
    sent = sum(len(result) for result in results if isinstance(result, bytes))
    assert sent <= limits.UNREAD_REPLY_BYTES_MAX + 2 * BIG


# -- table and status --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cluster", "version", "is_sent"),
    [(b"", 0, True), (b"", 1, True), (CLUSTER, 0, True), (CLUSTER, 1, False), (CLUSTER, 2, False)],
)
def test_the_table_is_sent_to_who_has_an_older_one(
    core: DataPlane, cluster: bytes, version: int, is_sent: bool
) -> None:
    rows = answer(core, FetchTable(cluster, 0, 0, version))
    assert isinstance(rows, TableRows)
    if is_sent:
        ((_, frame),) = frames(rows)
        received = decode(frame)
        assert isinstance(received, TableRows)
        assert Table.from_wire(received.table) == TABLE
    else:
        assert rows.table is None


def test_the_facts_of_a_status(core: DataPlane) -> None:
    ask(core, set_(b"k"), set_(b"l", ttl_ms=500), get(b"k"))
    told = facts(core, later(7.9))
    assert told.pop("memory_bytes") > 2 * record_bytes(b"k", NEW + ONE)
    assert told.pop("log_bytes") > 0
    counts = {"partitions_led": PARTITIONS, "partitions_held": PARTITIONS, "entries": 2, "operations": 3}
    assert told == {
        **counts,
        **dict.fromkeys(("moved", "reads_confirmed", "protocol_errors", "expired", "evicted"), 0),
        **dict.fromkeys(("partitions_behind", "uncommitted_bytes", "snapshots_sent", "snapshots_taken"), 0),
    }


# -- expiry ------------------------------------------------------------------------------


def test_keys_expire_without_being_read(core: DataPlane) -> None:
    ask(core, set_(b"k", ttl_ms=100), set_(b"l", ttl_ms=200), set_(b"m"))
    core.tick(later(0.099))
    assert facts(core, later(0.099))["entries"] == 3
    core.tick(later(0.1))
    told = facts(core, later(0.1))
    assert (told["entries"], told["expired"]) == (2, 1)
    core.tick(later(1))
    assert facts(core, later(1))["entries"] == 1
    assert facts(core, later(1))["memory_bytes"] == record_bytes(b"m", NEW + ONE)
    assert core.next_deadline() == inf


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (get(b"k"), None),
        ((commands.EXISTS, b"k"), False),
        ((commands.TTL, b"k"), -2),
        ((commands.GET_MANY, (b"k", b"k")), (None, None)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_reading_an_expired_key_expires_it_first(core: DataPlane, command: Command, result: object) -> None:
    ask(core, set_(b"k", ttl_ms=100))
    assert ask(core, command, now=later(0.099)) != [result]
    assert ask(core, command, now=later(0.1)) == [result]
    told = facts(core, later(0.1))
    assert (told["expired"], told["entries"]) == (1, 0)
    core.tick(later(5))
    assert facts(core, later(5))["expired"] == 1, "the timer finds nothing more to do"


def test_a_scan_does_not_show_what_is_due(core: DataPlane) -> None:
    ask(core, set_(b"k", ttl_ms=100))
    scan = operation_with((commands.SCAN, b"", 0, 0), home(get(b"k")))
    assert ask(core, get(b"k"), now=later(0.099), **scan)[0][2] == (b"k",)
    assert ask(core, get(b"k"), now=later(0.1), **scan)[0][2] == ()


def test_the_deadline_is_the_next_expiry_or_a_second(core: DataPlane) -> None:
    assert core.next_deadline() == inf
    ask(core, set_(b"far", ttl_ms=3_600_000))
    assert core.next_deadline() == START.seconds + 1
    ask(core, set_(b"near", ttl_ms=250))
    assert core.next_deadline() == START.seconds + 0.25
    core.tick(later(0.1))
    assert core.next_deadline() == pytest.approx(START.seconds + 0.25)
    core.tick(later(0.25))
    assert core.next_deadline() == START.seconds + 1.25


def test_many_expiries_are_spread_over_turns(core: DataPlane) -> None:
    ask(core, *[set_(b"k%d" % number, ttl_ms=10) for number in range(1_200)])
    left = []
    while (deadline := core.next_deadline()) < inf:
        assert deadline <= START.seconds + 1
        core.tick(later(1))
        left.append(facts(core, later(1))["entries"])
    assert left == sorted(left, reverse=True)
    assert len(left) > 1
    assert (left[-1], facts(core, later(1))["expired"]) == (0, 1_200)


def test_reads_and_writes_agree_on_what_is_due_when_the_clock_goes_back(core: DataPlane) -> None:
    ask(core, set_(b"{t}k", ttl_ms=100))
    ask(core, set_(b"{t}other"), now=later(1))
    back = Instant(START.seconds + 2, START.unix_ms)
    seen, created = ask(core, get(b"{t}k"), (commands.SET, b"{t}k", ONE, 0, commands.NX, None), now=back)
    assert (seen is None) is created


# -- memory ------------------------------------------------------------------------------


def test_lru_on_a_node_over_all_its_partitions() -> None:
    core = new_core(MemoryLimits(max_entries=4, policy="lru"))
    names = [b"k%d" % number for number in range(5)]
    assert len({home(get(name)) for name in names}) > 1
    ask(core, *map(set_, names[:4]))
    ask(core, get(names[0]))
    assert ask(core, set_(names[4])) == [True]
    assert [name for name in names if ask(core, (commands.EXISTS, name)) == [True]] == [
        *(names[0], names[2], names[3], names[4])
    ]
    told = facts(core)
    assert (told["entries"], told["evicted"], told["expired"]) == (4, 1, 0)


def test_refuse_on_a_node_leaves_no_trace() -> None:
    core = new_core(MemoryLimits(max_entries=2))
    ask(core, set_(b"a"), set_(b"b"))
    before = facts(core)
    assert ask(core, set_(b"c"), incr(b"c"), get(b"c"), get(b"a"))[:3] == [
        *(Refusal.OUT_OF_MEMORY, Refusal.OUT_OF_MEMORY, None)
    ]
    after = facts(core)
    assert (after["entries"], after["memory_bytes"], after["evicted"]) == (2, before["memory_bytes"], 0)
    ask(core, (commands.DELETE, b"a"))
    assert ask(core, set_(b"c")) == [True]
