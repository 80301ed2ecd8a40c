"""How a client gets messages out of several shards: in a few trips, fairly, and never more than it wants."""

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from gimmal.errors import NoRoute, OperationTimeout
from gimmal.wire.messages import Message
from tests.unit.fake_network import DROP
from tests.unit.queue_world import Handle, Interrupt, QueueEnd, QueueWorld, Trip, fill, payloads


@pytest.fixture
def world() -> QueueWorld:
    return QueueWorld()


@pytest.fixture
def client(world: QueueWorld) -> QueueEnd:
    return world.client()


def test_every_shard_has_its_turn(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=4)
    queue.now(queue.produce_many(range(20)))
    shards = []
    for _ in range(20):
        client.requests.clear()
        (message,) = queue.now(queue.consume())
        shards.append(int(message.id.split("-")[0]))
        assert client.names() == ["consume"]
    assert all((after - before) % 4 == 1 for before, after in pairwise(shards))


@pytest.mark.parametrize("shards", [2, 3, 16, 64])
def test_the_one_shard_that_has_something_is_found_in_a_few_trips(world: QueueWorld, shards: int) -> None:
    client = world.client()
    queue = client.queue("q", shards=shards)
    queue.now(queue.stats())
    for index in range(5):
        queue.now(queue.produce(index, group_key=f"g{index}"))
        client.requests.clear()
        (message,) = queue.now(queue.consume())
        assert message.payload == index
        assert Counter(client.names())["consume"] <= 2
        queue.now(queue.ack(message))
    assert queue.counts() == (0, 0, 5, 0)


def test_a_busy_shard_does_not_starve_the_others(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=8)
    queue.now(queue.produce_many(["busy"] * 200, group_key=None))
    queue.now(queue.produce("rare", group_key="one"))
    for _ in range(8 * 30):
        (message,) = queue.now(queue.consume())
        queue.now(queue.ack(message))
        if message.payload == "rare":
            return
        queue.now(queue.produce("busy"))
    raise AssertionError("it starves")


def test_an_empty_queue_of_many_shards_is_waited_for_at_all_of_them(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q", shards=6), world.client().queue("q")
    queue.now(queue.stats())
    client.requests.clear()
    trip = queue.consume(timeout=8.0)
    world.run(1.0)
    names = Counter(client.names())
    assert (names["consume"], names["queue stats"]) == (1 + 6, 5)
    assert client.at.partitions() == {world.home(b"{q/%d}" % shard) for shard in range(6)}
    client.requests.clear()
    other.now(other.produce("a"))
    assert payloads(trip.result()) == ["a"]
    assert Counter(client.names()) == {"end of consume": 5}
    world.run(8.0)
    assert queue.counts() == (0, 1, 0, 0)
    assert client.session.counters["resent_reads"] == 0
    assert client.questions() == []


def test_what_several_shards_give_at_once_is_given_back_but_for_one(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q", shards=6), world.client().queue("q")
    trip = queue.consume(timeout=8.0)
    world.run(1.0)
    other.now(other.produce_many(range(12)))
    assert len(trip.result()) == 1
    world.run(1.0)
    assert queue.counts() == (11, 1, 0, 0)
    assert client.at.partitions() == {world.home(b"{q/%s}" % trip.result()[0].id.split("-")[0].encode())}


def test_a_wait_that_is_over_is_none_and_leaves_nobody_waiting(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=6)
    trip = queue.consume(timeout=2.0)
    world.run(3.0)
    assert trip.result() == []
    queue.now(queue.produce_many(range(12)))
    assert queue.counts() == (12, 0, 0, 0)


def test_many_messages_are_shared_out_and_topped_up(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=4)
    fill(queue, 2, 100)
    queue.now(queue.produce_many(range(12)))
    client.requests.clear()
    found = queue.now(queue.consume(most=40))
    assert len(found) == 40
    assert Counter(client.names())["consume"] <= 4 + 1
    assert queue.counts()[1] == 40
    assert len(queue.now(queue.consume(most=1_000))) == 112 - 40


def test_no_more_than_wanted_is_ever_asked_for(world: QueueWorld, client: QueueEnd) -> None:
    dice = random.Random(5)
    queue = client.queue("q", shards=5)
    left = 300
    queue.now(queue.produce_many(range(left)))
    while left:
        most = dice.randrange(1, 40)
        found = queue.now(queue.consume(most=most))
        assert len(found) == min(most, left), "there were that many"
        assert queue.counts()[1] == len(found)
        queue.now(queue.ack_many(found))
        left -= len(found)
    assert queue.counts() == (0, 0, 300, 0)


def test_a_shard_that_cannot_be_reached_does_not_keep_the_others_from_giving(
    world: QueueWorld, client: QueueEnd
) -> None:
    queue = client.queue("q", shards=8)
    queue.now(queue.produce_many(range(80)))
    address = world.owner("q/0")
    world.unplugged.add(address)
    client.session.on_unready(address)
    owners = [world.owner(f"q/{shard}") for shard in range(8)]
    found: list[Any] = []
    errors: list[BaseException] = []
    for _ in range(90):
        trip = queue.consume(timeout=0.0)
        world.run(6.0)
        try:
            got = trip.result()
            found += got
            queue.now(queue.ack_many(got))
        except (NoRoute, OperationTimeout) as error:
            errors.append(error)
        if len(found) >= 10 * sum(owner != address for owner in owners):
            break
    assert errors
    assert len(found) >= 10 * sum(owner != address for owner in owners)


# -- a storm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_and_nothing_stays_in_flight_whatever_happens(seed: int) -> None:
    world, dice = QueueWorld(seed), random.Random(seed)
    ends = [world.client() for _ in range(3)]
    shards = dice.choice([1, 2, 5])
    queues = [end.queue("q", shards=shards, lease=3_600.0) for end in ends]  # no lease ends here
    arrives_at: dict[tuple[str, type[Message]], float] = {}

    def lossy(address: str, message: Message) -> float | None:
        """Connections lose messages, but do not change their order."""
        if dice.random() < 0.05:
            return DROP
        way = address, type(message)
        arrives_at[way] = max(world.now + dice.uniform(0.0005, 0.02), arrives_at.get(way, 0.0) + 1e-6)
        return arrives_at[way] - world.now

    world.fate = lossy
    makes: list[Trip] = []
    takes: list[tuple[Handle, Trip]] = []
    for turn in range(60):
        queue = queues[turn % 3]
        if turn < 40:
            makes.append(queue.produce_many([turn * 100 + index for index in range(dice.randrange(1, 6))]))
        trip = queue.consume(timeout=dice.choice([0.0, 0.5, 3.0]), most=dice.choice([1, 3]))
        takes.append((queue, trip))
        world.run(dice.uniform(0.0, 1.5))
        if not trip.is_done and dice.random() < 0.3:
            trip.interrupt(Interrupt())
        if turn in (20, 40):
            home = world.home(b"{q/0}")
            others = [row.name for row in world.table.nodes if row.name != world.table.partitions[home].leader]
            world.become(world.led_by({home: dice.choice(others)}))
        if dice.random() < 0.2:
            world.run(5.0)
    world.fate = lambda address, message: 0.001
    world.run(80.0)
    acknowledged: list[Any] = []
    for queue, trip in takes:
        assert trip.is_done
        if isinstance(trip.failed, Interrupt | OperationTimeout | NoRoute):
            continue
        assert all(message.retry_count == 0 for message in trip.result())
        queue.now(queue.ack_many(trip.result()))
        acknowledged += payloads(trip.result())
    queue = queues[0]
    while rest := queue.now(queue.consume(most=100)):
        assert all(message.retry_count == 0 for message in rest)
        acknowledged += payloads(rest)
        queue.now(queue.ack_many(rest))
    assert queue.counts() == (0, 0, len(acknowledged), 0), "nothing is in flight for nobody"
    assert len(set(acknowledged)) == len(acknowledged), "nobody got what was acknowledged"
    assert len(acknowledged) >= sum(len(trip.result()) for trip in makes if trip.failed is None)
