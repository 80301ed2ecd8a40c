"""Who wants to see the cluster as it is now: an idle client asks, and waits for an answer that is new enough."""

import pytest

from gimmal.errors import ClientClosed, NoRoute, OperationTimeout
from gimmal.wire.messages import Fault, FetchTable, Message, Problem, TableRows
from tests.unit.fake_network import CLUSTER, DROP, World, only_towards
from tests.unit.tables import with_leaders, with_node

SEEDS = ["h1:1", "h2:1", "h3:1"]
WAITING = "n1 is not registered in its cluster: no answer from its leader yet"


@pytest.fixture
def world() -> World:
    return World()


def test_a_client_that_was_idle_sees_what_has_changed(world: World) -> None:
    end = world.connect()
    world.become(with_node(world.table, "n3", status="fenced"))
    world.run(60.0)
    assert end.session.table != world.table
    look = end.look()
    world.run(0.1)
    assert look.result() is None
    assert end.session.table == world.table
    assert end.session.next_deadline() > world.now + 0.15
    world.run(60.0)
    assert len(end.sent(FetchTable)) == 1


def test_no_news_are_an_answer_too(world: World) -> None:
    end = world.connect()
    for _ in range(50):  # and the next question need not wait
        look = end.look()
        world.run(0.01)
        assert look.result() is None
    assert len(end.sent(FetchTable)) == 50


def test_an_answer_that_was_on_its_way_is_not_new_enough(world: World) -> None:
    end = world.connect()
    world.fate = only_towards(TableRows, 0.1)
    first = end.look()
    world.run(0.05)
    world.become(with_leaders(world.table, {0: "n2"}))
    second, third = end.look(), end.look()
    world.run(0.06)
    assert (first.is_done, second.is_done, third.is_done) == (True, False, False)
    world.run(0.2)
    assert second.is_done
    assert third.is_done
    assert end.session.table == world.table
    assert len(end.sent(FetchTable)) == 2


@pytest.mark.parametrize("seed", range(5))
def test_nodes_that_do_not_answer_are_passed_over(seed: int) -> None:
    world = World(seed)
    end = world.connect(SEEDS)
    world.fate = lambda address, message: 0.001 if address == "h2:1" else DROP
    look = end.look()
    world.run(1.5)
    assert look.result() is None


def test_when_nobody_answers_it_ends_at_its_deadline_and_names_who_was_asked(world: World) -> None:
    end = world.connect(SEEDS)
    world.fate = only_towards(TableRows, DROP)
    short, long = end.look(timeout=1.0), end.look(timeout=2.0)
    world.run(10.0)
    error = short.error()
    assert isinstance(error, OperationTimeout)
    assert not error.maybe_applied
    nodes = "node n1 at h1:1, node n2 at h2:1, node n3 at h3:1"
    assert str(error) == f"cluster: no answer within 1 s from {nodes}; ask again"
    assert [outcome.ended_at[0] - outcome.started_at for outcome in (short, long)] == pytest.approx([1.0, 2.0])


def test_when_nobody_can_be_reached_there_is_no_route(world: World) -> None:
    end = world.connect(SEEDS)
    world.unplugged = set(SEEDS)
    for address in SEEDS:
        end.session.on_unready(address)
    look = end.look(timeout=1.0)
    world.run(2.0)
    assert type(look.error()) is NoRoute
    assert "no node could be reached" in str(look.error())
    look = end.look(timeout=1.0)
    world.run(0.2)
    world.unplugged = set()
    end.flush()
    world.run(0.5)
    assert look.result() is None


def test_what_a_node_without_a_table_says_is_no_answer(world: World) -> None:
    end = world.connect(["h1:1"])
    newer = with_node(world.table, "n3", status="fenced")
    world.become(newer)
    end.requests.clear()
    is_ready = False

    def fate(address: str, message: Message) -> float | None:
        if isinstance(message, FetchTable) and not is_ready:
            end.session.receive(address, Problem(b"", 0, 0, 0, int(Fault.NOT_READY), WAITING), world.now)
            return DROP
        return 0.001

    world.fate = fate
    late, patient = end.look(timeout=2.0), end.look(timeout=30.0)
    world.run(5.0)
    assert f"(before that: {WAITING})" in str(late.error())
    assert 8 <= len(end.sent(FetchTable)) <= 30  # in 5 seconds
    is_ready = True
    world.run(1.0)
    assert patient.result() is None
    assert end.session.table == newer


def test_a_node_of_another_cluster_does_not_answer_for_this_one(world: World) -> None:
    end = world.connect(["h1:1"])
    world.fate = only_towards(TableRows, DROP)
    look = end.look(timeout=1.0)
    world.run(0.1)
    end.session.receive("h1:1", TableRows(CLUSTER[::-1], 1, 0, 9, None), world.now)
    world.run(0.1)
    assert not look.is_done
    world.run(1.0)
    assert isinstance(look.error(), OperationTimeout)


def test_a_client_that_is_closed_ends_it(world: World) -> None:
    end = world.connect()
    look = end.look()
    end.finished(end.session.abort("closed"))
    assert isinstance(look.error(), ClientClosed)
