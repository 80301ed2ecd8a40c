"""How a client gets its table and newer ones: as differences, from whoever told, and from any node to begin with."""

import random
from dataclasses import replace

import pytest

from gimmal.client.overview import overview
from gimmal.client.pump import no_table
from gimmal.client.session import Session
from gimmal.cluster.table import Table
from gimmal.errors import DataLost, NoRoute, RemoteProtocolError
from gimmal.types import Incarnation
from gimmal.wire.messages import Fault, FetchTable, Message, Problem, Reply, Request, TableRows
from tests.unit.fake_network import CLUSTER, DROP, World, only_towards, three_nodes
from tests.unit.tables import with_leaders, with_node

SEEDS = ["h1:1", "h2:1", "h3:1"]


@pytest.fixture
def world() -> World:
    return World()


def tables_sent(world: World) -> list[TableRows]:
    """From now on, every table that a node sends."""
    sent: list[TableRows] = []
    before = world.fate

    def fate(address: str, message: Message) -> float | None:
        if isinstance(message, TableRows):
            sent.append(message)
        return before(address, message)

    world.fate = fate
    return sent


@pytest.mark.parametrize("seed", SEEDS)
def test_a_client_can_start_from_any_node(world: World, seed: str) -> None:
    end = world.connect([seed])
    outcome = end.incr("key")
    world.run(1.0)
    assert outcome.result() == 1


def test_only_what_is_new_travels(world: World) -> None:
    end = world.connect()
    sent = tables_sent(world)
    key = world.keys_of("h1:1", 1)[0]
    world.become(with_leaders(world.table, {world.partition(key): "n2"}))
    outcome = end.incr(key)
    world.run(1.0)
    assert outcome.result() == 1
    (question,) = end.sent(FetchTable)
    assert (question.cluster, question.table_version) == (CLUSTER, 1)
    (answer,) = sent
    assert [row[0] for row in answer.table[5]] == [world.partition(key)]
    assert answer.table[4] == ()
    assert end.session.table == world.table


def test_what_does_not_fit_is_followed_by_the_whole_table(world: World) -> None:
    end = world.connect()
    key = world.keys_of("h1:1", 1)[0]
    world.become(with_leaders(world.table, {world.partition(key): "n2"}))
    newer = world.table

    def fate(address: str, message: Message) -> float | None:
        if isinstance(message, TableRows) and message.table[2] == 1:
            late = TableRows(CLUSTER, 1, 0, 2, (*newer.to_wire(1)[:1], 9, 8, (), (), ()))
            with pytest.raises(RemoteProtocolError, match="since version 8"):
                end.session.receive(address, late, world.now)
            return DROP
        return 0.001

    world.fate = fate
    outcome = end.incr(key)
    world.run(1.0)
    assert [question.table_version for question in end.sent(FetchTable)] == [1, 0]
    assert outcome.result() == 1
    assert end.session.table == newer
    world.become(with_node(newer, "n3", zone="z"))
    end.get(key)
    world.run(1.0)
    assert [question.table_version for question in end.sent(FetchTable)] == [1, 0, 2]


def test_the_node_that_told_is_asked(world: World) -> None:
    for seed in range(10):
        world = World(seed)
        end = world.connect(SEEDS)
        world.become(with_node(world.table, "n3", zone="z"), ("n2",))
        end.get(world.keys_of("h2:1", 1)[0])
        world.run(1.0)
        assert [address for address, message in end.requests if isinstance(message, FetchTable)] == ["h2:1"]
        assert end.session.table == world.table


def test_an_absurd_version_is_asked_for_less_and_less_often(world: World) -> None:
    end = world.connect(SEEDS)
    for _ in range(1_000):
        end.session.receive("h2:1", Reply(CLUSTER, 2, 0, 2**63 - 1, 0, (), (), ()), world.now)
        world.run(0.3)
    assert len(end.sent(FetchTable)) < 40  # in 300 seconds
    assert end.session.table == world.table
    newer = with_leaders(world.table, {0: "n1"})
    world.become(newer, ("n1",))
    end.requests.clear()
    end.get(world.keys_of("h1:1", 1)[0])
    world.run(0.2)
    assert end.session.table == newer


def test_a_slow_table_is_not_asked_for_each_second() -> None:
    world = World(table=three_nodes())
    world.fate = only_towards(TableRows, 8.0)
    end = world.join()
    world.run(20.0)
    assert end.session.table == world.table
    assert len(end.sent(FetchTable)) <= 6


# -- before there is a cluster ---------------------------------------------------------------

WAITING = "n1 belongs to no cluster yet: it waits for 2 more nodes"


def not_ready(session: Session, address: str, now: float) -> None:
    session.receive(address, Problem(b"", 0, 0, 0, int(Fault.NOT_READY), WAITING), now)


def test_a_client_waits_for_a_cluster_and_says_what_it_waits_for() -> None:
    session = Session(["h1:1"], None, random.Random(1), 0.0)
    session.on_ready("h1:1")
    questions, now = 0, 0.0
    while now < 10.0:
        now = session.next_deadline()
        session.tick(now)
        for address, message in session.drain():
            assert isinstance(message, FetchTable)
            questions += 1
            not_ready(session, address, now)
    assert 20 <= questions <= 45
    assert session.counters["problems"] == 0
    error = no_table(session, ("h1:1",), 5.0)
    assert isinstance(error, NoRoute)
    assert str(error) == f"no cluster table from h1:1 within 5 s: {WAITING}"
    table = three_nodes()
    session.receive("h1:1", TableRows(CLUSTER, 1, 0, 1, table.to_wire()), now)
    assert session.table == table
    assert session.next_deadline() == float("inf")


def test_a_node_without_a_cluster_is_passed_over_for_one_that_has_one(world: World) -> None:
    session = Session(["h1:1", "h2:1"], None, random.Random(1), 0.0)
    session.on_ready("h1:1")
    now = 0.0
    while now < 1.0:  # n2 cannot be reached yet
        now = session.next_deadline()
        session.tick(now)
        for address, _ in session.drain():
            not_ready(session, address, now)
    session.on_ready("h2:1")
    asked = []
    while "h2:1" not in asked:
        now = session.next_deadline()
        session.tick(now)
        for address, _ in session.drain():
            asked.append(address)
            if address == "h1:1":
                not_ready(session, address, now)
            else:
                session.receive(address, TableRows(CLUSTER, 2, 0, 1, world.table.to_wire()), now)
    assert len(asked) <= 2
    assert session.table == world.table


def test_a_client_passes_a_node_over_that_does_not_answer(world: World) -> None:
    del world.cores["h1:1"]
    end = world.join(["h1:1", "h2:1"])
    world.run(3.0)
    assert end.session.table == world.table
    key = world.keys_of("h2:1", 1)[0]
    outcome = end.incr(key)
    world.run(1.0)
    assert outcome.result() == 1


def test_an_operation_that_could_not_leave_says_what_nodes_without_a_cluster_said(world: World) -> None:
    end = world.connect(SEEDS)
    world.unplugged = {world.owner("key")}
    end.session.on_unready(world.owner("key"))
    outcome = end.incr("key", timeout=2.0)
    world.run(0.5)
    not_ready(end.session, "h1:1", world.now)
    world.run(5.0)
    error = outcome.error()
    assert type(error) is NoRoute
    assert WAITING in str(error)
    world.become(with_node(world.table, "n1", zone="z"))
    world.unplugged = set()
    end.get(world.keys_of("h1:1", 1)[0])
    world.run(2.0)
    assert end.session.why_not_ready == ""


def test_other_problems_do_not_count_as_answers(world: World) -> None:
    end = world.join()
    world.fate = only_towards(TableRows, DROP)
    world.run(0.1)
    end.session.receive("h1:1", Problem(CLUSTER, 1, 0, 1, int(Fault.UNEXPECTED), "what?"), world.now)
    assert end.session.counters["problems"] == 1
    assert end.session.why_not_ready == ""


# -- nodes that are gone, and those that vote ------------------------------------------------


def with_newcomer(table: Table) -> Table:
    """A table in which n2 is gone and another node has its address, and all it led."""
    version = table.version + 1
    gone, dead = table.node("n2"), with_node(table, "n2", status="fenced")
    assert gone is not None
    newcomer = gone._replace(name="n0", incarnation=9, uuid=b"9" * 16, voter="n0/9", changed_at=version)
    moved: dict[int, str | None] = {number: "n0" for number, row in enumerate(table.partitions) if row.leader == "n2"}
    return with_leaders(replace(dead, nodes=(newcomer, *dead.nodes)), moved, version)


def test_an_address_belongs_to_the_living(world: World) -> None:
    end = world.connect()
    key = world.keys_of("h2:1", 1)[0]
    newer = with_newcomer(world.table)
    end.session.receive("h1:1", TableRows(CLUSTER, 1, 0, 2, newer.to_wire(1)), world.now)
    end.incr(key)
    end.flush()
    (request,) = end.sent(Request)
    assert request.destination == 9
    shown = {node.name: (node.state, node.incarnation) for node in overview(end.session).nodes}
    assert shown == {"n0": ("alive", 9), "n1": ("alive", 1), "n2": ("fenced", 2), "n3": ("alive", 3)}


def test_nobody_connects_to_a_node_that_was_dead_before(world: World) -> None:
    world.become(with_node(world.table, "n3", status="fenced"))
    end = world.connect()
    assert list(end.session.links) == ["h1:1", "h2:1"]
    world.become(with_node(world.table, "n3", status="alive"))
    end.get(world.keys_of("h1:1", 1)[0])
    world.run(1.0)
    assert list(end.session.links) == ["h1:1", "h2:1", "h3:1"]
    world.become(with_node(world.table, "n3", status="fenced"))
    end.get(world.keys_of("h1:1", 1)[0])
    world.run(1.0)
    assert list(end.session.links) == ["h1:1", "h2:1", "h3:1"]  # its answers may be on their way


@pytest.mark.parametrize(
    ("holders", "text"),
    [
        (("n2",), "its only copy is on node n2, which was declared dead"),
        (("n2", "n3"), "its copies are on nodes n2, n3, which were declared dead"),
    ],
)
def test_an_error_says_who_has_what_nobody_leads(world: World, holders: tuple[str, ...], text: str) -> None:
    vacant = with_leaders(world.table, {world.partition("key"): None})
    rows = list(vacant.partitions)
    rows[world.partition("key")] = rows[world.partition("key")]._replace(
        replicas=("n2", "n3"), eligible=tuple(Incarnation(name, 1) for name in holders)
    )
    world.become(replace(vacant, partitions=tuple(rows)))
    outcome = world.connect().incr("key", timeout=1.0)
    world.run(2.0)
    assert type(outcome.error()) is NoRoute
    assert f"(partition {world.partition('key')}, led by nobody: {text})" in str(outcome.error())


def test_what_is_lost_is_said_at_once_by_a_node_that_should_hold_it(world: World) -> None:
    vacant = with_leaders(world.table, {world.partition("key"): None})
    rows = list(vacant.partitions)
    rows[world.partition("key")] = rows[world.partition("key")]._replace(replicas=("n2", "n3"), eligible=())
    world.become(replace(vacant, partitions=tuple(rows)))
    outcome = world.connect().incr("key", timeout=1.0)
    world.run(0.5)
    assert type(outcome.error()) is DataLost
    assert "node n2 at h2:1" in str(outcome.error())
    assert "gimmal recover" in str(outcome.error())


def test_a_node_is_unreachable_when_its_connection_has_failed_or_does_not_come(world: World) -> None:
    def states() -> list[str]:
        return [node.state for node in overview(end.session).nodes]

    end = world.join(["h1:1"])
    world.unplugged = {"h3:1"}
    world.run(0.5)
    assert states() == ["alive", "alive", "alive"]
    world.run(1.0)
    end.look()
    world.run(0.1)
    assert states() == ["alive", "alive", "unreachable"]
    end.session.on_unready("h2:1")
    assert states() == ["alive", "unreachable", "unreachable"]


def test_the_overview_says_who_votes(world: World) -> None:
    table = replace(world.table, version=2, voters=("n1/1", "n3/another-disk"))
    end = world.connect()
    end.session.receive("h1:1", TableRows(CLUSTER, 1, 0, 2, table.to_wire(1)), world.now)
    cluster = overview(end.session)
    assert cluster.voters == ("n1", "n3")
    assert [node.role for node in cluster.nodes] == ["voter", "", ""]
