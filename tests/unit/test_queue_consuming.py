"""How a client gets messages: how many trips it takes, who has to wait, and that nothing stays in flight for nobody."""

from collections import Counter
from typing import Any

import pytest

from gimmal.client.calls import UNANSWERED, Call, Survey
from gimmal.client.strays import Strays
from gimmal.client.values import Values
from gimmal.errors import ClientClosed, NoRoute, OperationTimeout
from gimmal.wire import queue_commands as wire
from gimmal.wire.messages import Message, Reply
from tests.unit.fake_network import DROP, only_towards
from tests.unit.queue_world import Interrupt, QueueEnd, QueueWorld, fill, payloads


@pytest.fixture
def world() -> QueueWorld:
    return QueueWorld()


@pytest.fixture
def client(world: QueueWorld) -> QueueEnd:
    return world.client()


# -- one shard --------------------------------------------------------------------------------------------------


def test_a_consume_of_one_shard_is_one_trip(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.produce("a"))
    client.requests.clear()
    started_at = world.now
    trip = queue.consume(timeout=5.0)
    (message,) = queue.now(trip)
    assert client.names() == ["consume"]
    assert trip.ended_at is not None
    assert trip.ended_at - started_at < 0.01
    assert (message.payload, message.attempts, message.retry_count, message.status) == ("a", 1, 0, "in_progress")
    assert client.at.partitions() == {world.home(b"{q/0}")}


def test_a_consume_waits_at_the_owner_and_gets_what_comes(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q"), world.client().queue("q")
    trip = queue.consume(timeout=5.0)
    world.run(3.0)
    assert not trip.is_done
    other.now(other.produce("a"))
    assert payloads(trip.result()) == ["a"]
    assert client.names() == ["declare", "consume"]


def test_a_consume_that_waits_is_not_taken_for_late(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.consume(timeout=9.5)
    started_at = world.now
    world.run(9.4)
    assert client.names() == ["declare", "consume"]
    assert client.questions() == []
    assert client.session.counters["resent_reads"] == 0
    world.run(0.2)
    assert trip.result() == []
    assert trip.ended_at is not None
    assert trip.ended_at - started_at == pytest.approx(9.5, abs=0.05)
    assert client.at.partitions() == frozenset()


def test_a_longer_wait_asks_again(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.consume(timeout=95.0)
    world.run(94.0)
    waits = [op[5][5][1] for _, op in client.sent_operations(wire.CONSUME)]
    assert waits[:-1] == [10_000] * 9
    assert 4_000 < waits[-1] <= 5_000
    requests = [op[5][4] for _, op in client.sent_operations(wire.CONSUME)]
    assert len(set(requests)) == len(requests)
    queue.now(queue.produce("a"))
    assert payloads(trip.result()) == ["a"]
    assert client.session.counters["resent_reads"] == 0


def test_a_consume_may_wait_for_ever(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.consume(timeout=float("inf"))
    world.run(300.0)
    assert not trip.is_done
    queue.now(queue.produce("a"))
    assert payloads(trip.result()) == ["a"]


def test_a_consume_without_a_wait_looks_once(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    assert queue.now(queue.consume(timeout=0.0)) == []
    assert client.names() == ["declare", "consume"]


def test_a_lease_of_its_own_travels_with_the_consume(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", backoff=0.0)
    queue.now(queue.produce("a"))
    queue.now(queue.consume(lease=2.5))
    world.run(2.0)
    assert queue.counts() == (0, 1, 0, 0)
    world.run(1.0)
    assert queue.counts() == (1, 0, 0, 0)


# -- faults -----------------------------------------------------------------------------------------------------


def test_a_new_leader_is_asked_with_the_wait_that_is_left(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.consume(timeout=9.0)
    world.run(3.0)
    home = world.home(b"{q/0}")
    leader = world.table.partitions[home].leader
    other = next(row.name for row in world.table.nodes if row.name != leader)
    world.become(world.led_by({home: other}))
    world.run(1.0)
    first, second = [op[5] for _, op in client.sent_operations(wire.CONSUME)]
    assert second[4] == first[4], "it is the same request"
    assert first[5][1] == pytest.approx(9_000, abs=50)
    assert second[5][1] == pytest.approx(6_000, abs=50)
    queue.now(queue.produce("a"))
    assert payloads(trip.result()) == ["a"]


def test_a_wait_at_a_node_that_dies_goes_on_at_the_next_leader(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.consume(timeout=30.0)
    world.run(3.0)
    address = world.owner("q/0")
    world.unplugged.add(address)
    client.session.on_unready(address)  # what the pump sees when the connection breaks
    world.kill(next(row.name for row in world.table.nodes if row.networks[0][1].client == address))
    world.run(2.0)
    other = world.client().queue("q")
    other.now(other.produce("a"))
    assert payloads(trip.result()) == ["a"]


def test_a_connection_that_breaks_has_the_consume_sent_again(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q"), world.client().queue("q")
    trip = queue.consume(timeout=30.0)
    world.run(1.0)
    address = world.owner("q/0")
    world.unplugged.add(address)
    client.session.on_unready(address)
    world.run(1.0)
    world.fate = only_towards(Reply, DROP)
    produced = other.produce("a")
    world.run(0.2)  # it is granted, and the answer is lost
    world.fate = lambda where, message: 0.001
    world.unplugged.clear()
    world.run(2.0)
    assert produced.result()
    assert payloads(trip.result()) == ["a"]
    assert trip.result()[0].attempts == 1
    requests = {op[5][4] for _, op in client.sent_operations(wire.CONSUME)}
    assert len(requests) == 1


def test_links_are_watched_only_while_somebody_waits(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.consume(timeout=3.0)
    world.run(1.0)
    watched = [address for address, link in client.session.links.items() if link.is_watched]
    assert watched == [world.owner("q/0")]
    world.run(5.0)
    assert trip.is_done
    client.get("k")
    world.run(1.0)
    assert not any(link.is_watched for link in client.session.links.values())


def test_a_consume_that_nobody_answers_ends_and_is_cancelled(world: QueueWorld, client: QueueEnd) -> None:
    queue, maker = client.queue("q"), world.client().queue("q")
    queue.now(queue.stats())
    maker.now(maker.stats())
    world.fate = only_towards(Reply, DROP)
    trip = queue.consume(timeout=2.0)
    started_at = world.now
    world.run(1.0)
    made = maker.produce("a")
    world.run(8.0)
    assert isinstance(trip.error(), OperationTimeout)
    assert trip.ended_at is not None
    assert trip.ended_at - started_at == pytest.approx(7.0, abs=0.1)
    assert client.names()[-1] == "end of consume"
    assert isinstance(made.error(), OperationTimeout)
    world.fate = lambda address, message: 0.001
    world.run(3.0)
    (message,) = queue.now(queue.consume())
    assert (message.payload, message.retry_count) == ("a", 0)


def test_a_consume_that_is_interrupted_leaves_nothing_in_flight(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=3)
    queue.now(queue.stats())
    trip = queue.consume(timeout=30.0)
    world.run(1.0)
    trip.interrupt(Interrupt())
    queue.now(queue.produce_many(range(6)))
    assert isinstance(trip.error(), Interrupt)
    assert queue.counts() == (6, 0, 0, 0)
    assert Counter(client.names())["end of consume"] == 3
    assert client.at.partitions() == frozenset()


def test_an_interrupt_gives_back_what_was_granted_on_its_way(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.produce_many(["a", "b"]))
    trip = queue.consume(timeout=30.0, most=2)
    client.flush()
    trip.interrupt(Interrupt())
    world.run(0.5)
    assert queue.counts() == (2, 0, 0, 0)
    (message,) = queue.now(queue.consume())
    assert (message.payload, message.attempts, message.retry_count) == ("a", 2, 0)


def test_an_interrupt_between_two_rounds_gives_back_what_the_first_had_found(
    world: QueueWorld, client: QueueEnd
) -> None:
    queue = client.queue("q", shards=2)
    fill(queue, 0, 10)
    fill(queue, 1, 1)
    client.requests.clear()
    trip = queue.consume(most=8)
    while client.names().count("consume") < 3:
        world.run(0.0005)
    assert not trip.is_done
    trip.interrupt(Interrupt())
    world.run(1.0)
    assert queue.counts() == (11, 0, 0, 0)


def test_a_client_that_is_closed_ends_its_consumes(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.consume(timeout=30.0)
    world.run(1.0)
    client.finished(client.session.abort("closed"))
    assert isinstance(trip.error(), ClientClosed)


def test_a_payload_that_cannot_be_read_is_nacked_and_the_others_arrive(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", backoff=0.0)
    queue.now(queue.produce_many(["good", "bad", "better"]))

    class Picky(Values):
        def __init__(self) -> None:
            super().__init__()
            plain = self.decode
            self.decode = lambda data: 1 // 0 if plain(data) == "bad" else plain(data)

    client.values = Picky()
    assert payloads(queue.now(queue.consume(most=3))) == ["good", "better"]
    for _ in range(2):
        trip = queue.consume(most=3)
        world.run(0.1)
        assert isinstance(trip.error(), ZeroDivisionError)
    assert queue.counts() == (0, 2, 0, 1)


# -- answers that come too often ----------------------------------------------------------------------------------


def test_a_second_answer_that_brings_more_is_given_back(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.stats())

    def slow(address: str, message: Message) -> float:
        return 1.5 if isinstance(message, Reply) and any(type(result) is tuple for result in message.results) else 0.001

    other = world.client().queue("q")
    other.now(other.stats())
    world.fate = slow
    trip = queue.consume(timeout=1.0)
    world.run(1.5)  # nothing came in time, and that is on its way
    other.produce("a")
    world.run(1.2)  # by now it was asked again
    assert len(client.sent_operations(wire.CONSUME)) == 2
    assert trip.result() == []
    assert client.names()[-1] == "consume"
    world.run(3.0)
    assert client.names()[-1] == "release"
    world.fate = lambda address, message: 0.001
    world.run(2.0)
    assert queue.counts() == (1, 0, 0, 0)


def consume_call(number: int) -> Call[Any]:
    call = Survey([(3, (wire.CONSUME, b"{q/0}", b"g", (b"c" * 16, b"me"), 1, (10, 0, 0)))])
    call.first, call.deadline = number, 100.0
    return call


def row(number: int, token: int) -> tuple[Any, ...]:
    return number, token, 1, 0, 0, b"\x01"


def test_a_stray_answer_is_given_back_but_for_what_the_first_had_brought() -> None:
    strays, call = Strays(), consume_call(7)
    assert strays.on_answer(7, (row(1, 5),)) is None, "it was sent only once"
    strays.on_resent(7, call)
    call.results[0] = (row(1, 5), row(2, 5))
    assert strays.on_answer(7, (row(1, 5), row(2, 5))) is None
    assert strays.on_answer(7, ()) is None
    assert strays.on_answer(7, None) is None
    release = strays.on_answer(7, (row(2, 5), row(3, 9)))
    assert release is not None
    assert release.parts == ((3, (wire.RELEASE, b"{q/0}", b"g", ((3, 9),))),)
    for taken in ((), None, UNANSWERED):
        call.results[0] = taken
        release = strays.on_answer(7, (row(3, 9),))
        assert release is not None


def test_what_was_given_up_is_given_back_when_it_comes_after_all() -> None:
    strays, call = Strays(), consume_call(7)
    call.waits_until = 20.0
    strays.on_given_up(call, 3.0)
    strays.forget_old(29.0)
    assert strays.on_answer(7, (row(3, 9),)) is not None
    strays.forget_old(31.0)
    assert strays.on_answer(7, (row(3, 9),)) is None
    call.fail(7, NoRoute("nobody"))
    strays.on_given_up(call, 50.0)
    assert strays.on_answer(7, (row(3, 9),)) is not None


def test_what_was_sent_twice_is_remembered_for_a_minute_after_its_deadline() -> None:
    strays = Strays()
    strays.on_resent(7, consume_call(7))
    strays.forget_old(159.0)
    assert strays.on_answer(7, (row(3, 9),)) is not None
    strays.forget_old(161.0)
    assert strays.on_answer(7, (row(3, 9),)) is None
