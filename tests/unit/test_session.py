"""The client's decisions, against real node cores over a network that is only a list."""

import random
from itertools import pairwise
from typing import Any

import pytest

from gimmal.client.commands import Commands
from gimmal.client.retries import ATTEMPTS_MAX
from gimmal.cluster.table import Addresses
from gimmal.errors import (
    ClientClosed,
    NoRoute,
    OperationTimeout,
)
from gimmal.wire.messages import FetchTable, Refusal, Reply, Request, TableRows
from tests.unit.fake_network import CLUSTER, DROP, PARTITIONS, World, only_towards
from tests.unit.tables import with_leaders, with_node

SEEDS = ["h1:1", "h2:1", "h3:1"]


@pytest.fixture
def world() -> World:
    return World()


def moves(world: World, keys: list[str]) -> dict[int, str | None]:
    """A leader for the partition of each key that is not the one it has."""
    others = {"n1": "n2", "n2": "n3", "n3": "n1"}
    partitions = {world.partition(key) for key in keys}
    return {partition: others[world.table.partitions[partition].leader or ""] for partition in partitions}


# -- routes and batches -------------------------------------------------------------------------------------


def test_the_table_is_asked_for_once_and_then_everything_goes_straight_to_its_owner(world: World) -> None:
    end = world.join()
    world.run(1.0)
    assert [(address, type(message)) for address, message in end.requests] == [("h1:1", FetchTable)]
    keys = [f"key{i}" for i in range(500)]
    outcomes = [end.incr(key) for key in keys]
    world.run(1.0)
    assert [outcome.result() for outcome in outcomes] == [1] * 500
    assert end.session.counters["redirects"] == 0
    assert all(core.counters["moved"] == 0 for core in world.cores.values())
    assert {address for address, _ in end.requests} == set(SEEDS)


def test_all_that_starts_before_a_drain_is_one_request_per_node_in_its_order(world: World) -> None:
    end = world.connect()
    keys = [f"key{i}" for i in range(1_000)]
    outcomes = [end.get(key) for key in keys]
    world.run(1.0)
    assert sorted(address for address, _ in end.requests) == SEEDS
    for address, request in end.requests:
        assert isinstance(request, Request)
        mine = [key.encode() for key in keys if world.owner(key) == address]
        assert [operation[5][1] for operation in request.operations] == mine
    assert all(outcome.is_done for outcome in outcomes)


def test_a_request_has_at_most_8192_operations(world: World) -> None:
    end = world.connect()
    key = world.keys_of("h2:1", 1)[0]
    outcomes = [end.get(key) for _ in range(20_000)]
    world.run(1.0)
    assert [len(request.operations) for request in end.sent(Request)] == [8_192, 8_192, 20_000 - 2 * 8_192]
    assert all(outcome.is_done for outcome in outcomes)


def test_a_request_says_how_long_its_most_patient_operation_waits(world: World) -> None:
    end = world.connect()
    one, two, three = world.keys_of("h2:1", 3)
    end.get(one, timeout=2.0), end.get(two, timeout=30.0), end.get(three, timeout=0.5)
    world.run(0.0)
    end.get(one, timeout=1.0)
    world.run(0.0)
    assert [request.milliseconds_left for request in end.sent(Request)] == [30_000, 1_000]


@pytest.mark.parametrize("seed", range(20))
def test_replies_may_come_split_and_in_any_order(seed: int) -> None:
    dice = random.Random(seed)
    world = World(seed)
    end = world.writer()
    numbers: list[int] = []
    outcomes = [end.call(Commands.incr, f"key{i}", i) for i in range(60)]
    outcomes.append(end.call(Commands.set_many, {f"many{i}": i for i in range(200)}, None))
    world.fate = only_towards(Reply, DROP)
    end.flush()
    requests = end.sent(Request)
    for request in requests:
        for number, _, _, _, _, command in request.operations:
            numbers.append(number)
            end.call(Commands.get, command[1] if isinstance(command[1], bytes) else "x", None, "any")
    results: dict[int, Any] = {}
    for address in SEEDS:
        core = world.cores[address]
        for to, message in end.requests:
            if to == address and isinstance(message, Request):
                core.receive(end.identity, message, world.instant())
        for _, reply in core.drain():
            assert isinstance(reply, Reply)
            results |= dict(zip(reply.numbers, reply.results, strict=True))
    dice.shuffle(numbers)
    while numbers:
        size = dice.randint(1, 9)
        some, numbers = tuple(numbers[:size]), numbers[size:]
        reply = Reply(CLUSTER, 1, 0, 1, 0, some, tuple(results[number] for number in some), ())
        end.finished(end.session.receive(dice.choice(SEEDS), reply, world.now))
    assert [outcome.result() for outcome in outcomes] == [*range(60), 200], f"seed {seed}"


def test_clients_do_not_get_each_others_answers(world: World) -> None:
    ends = [world.connect([seed]) for seed in SEEDS]
    outcomes = [(i, end.call(Commands.incr, f"of{i}", 10 * i + 1)) for i, end in enumerate(ends)]
    world.run(1.0)
    assert [outcome.result() for _, outcome in outcomes] == [1, 11, 21]


# -- a newer table ------------------------------------------------------------------------------------------


def test_what_has_moved_is_sent_again_after_one_look_at_the_table(world: World) -> None:
    end = world.connect()
    keys = [f"key{i}" for i in range(1_000)]
    world.become(with_leaders(world.table, moves(world, keys)))
    outcomes = [end.get(key) for key in keys]
    world.run(4.0)
    assert [outcome.result() for outcome in outcomes] == [None] * 1_000
    assert end.session.counters["redirects"] >= 1_000
    assert len(end.sent(FetchTable)) == 1
    assert end.session.table == world.table


def test_a_refusal_is_reason_enough_to_look_at_the_table(world: World) -> None:
    end = world.writer()
    world.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    world.run(0.0)
    reply = Reply(CLUSTER, 1, 0, 1, 0, (), (), ((outcome.call.first, int(Refusal.MOVED), "not mine"),))
    end.session.receive(world.owner("key"), reply, world.now)
    assert end.session.next_deadline() == world.now
    world.run(0.0)
    assert len(end.sent(FetchTable)) == 1


def test_one_call_on_many_moved_partitions_is_sent_again_as_well(world: World) -> None:
    end = world.connect()
    mapping = {f"key{i}": i for i in range(1_000)}
    world.become(with_leaders(world.table, moves(world, list(mapping))))
    outcome = end.call(Commands.set_many, mapping, None)
    world.run(4.0)
    assert outcome.result() == 1_000
    assert end.session.counters["redirects"] >= PARTITIONS
    assert len(end.sent(FetchTable)) == 1


def test_a_node_that_knows_less_than_the_client_is_asked_again_until_it_has_learnt(world: World) -> None:
    end = world.connect()
    key = world.keys_of("h1:1", 1)[0]
    newer = with_leaders(world.table, {world.partition(key): "n2"})
    world.become(newer, ("n1",))
    outcome = end.incr(key)
    world.run(0.7)
    assert not outcome.is_done
    assert end.session.table == newer
    world.become(newer)
    world.run(3.0)
    assert outcome.result() == 1


def test_a_newer_version_in_any_header_leads_to_one_look_after_a_random_wait() -> None:
    waits = set()
    for seed in range(20):
        world = World(seed)
        end = world.connect()
        world.become(with_leaders(world.table, {0: "n2"}))
        for key in world.keys_of("h1:1", 10) + world.keys_of("h3:1", 10):
            end.get(key)
        world.run(0.001)  # the answers arrive a millisecond later, all at once
        arrives_at = world.now + 0.001
        world.run(0.001)
        waits.add(end.session.next_deadline() - arrives_at)
        world.run(1.0)
        assert len(end.sent(FetchTable)) == 1, f"seed {seed}"
        assert end.session.table == world.table
    assert len(waits) > 10
    assert 0 <= min(waits) <= max(waits) <= 0.05


def test_when_the_table_does_not_come_another_node_is_asked(world: World) -> None:
    end = world.connect(SEEDS)
    world.become(with_leaders(world.table, {0: "n2"}))
    world.fate = only_towards(TableRows, DROP)
    end.get(world.keys_of("h1:1", 1)[0])
    world.run(5.0)
    asked = [address for address, message in end.requests if isinstance(message, FetchTable)]
    assert 4 <= len(asked) <= 5  # after 0.3 s, and then each time after twice as long
    assert all(first != second for first, second in pairwise(asked))
    world.fate = lambda address, message: 0.001
    world.run(5.0)
    assert end.session.table == world.table
    count = len(end.sent(FetchTable))
    world.run(60.0)
    assert len(end.sent(FetchTable)) == count


def test_an_older_table_is_not_adopted(world: World) -> None:
    end = world.connect()
    old, new = world.table, with_leaders(world.table, {0: "n2"})
    for table in (new, old):
        end.session.receive("h1:1", TableRows(CLUSTER, 1, 0, table.version, table.to_wire()), world.now)
        assert end.session.table == new


def test_queued_operations_follow_their_partition_to_its_new_leader(world: World) -> None:
    end = world.connect(SEEDS)
    key = world.keys_of("h1:1", 1)[0]
    world.unplugged.add("h1:1")
    outcome = end.incr(key)
    world.run(2.0)
    world.become(with_leaders(world.table, {world.partition(key): "n3"}))
    world.run(1.0)
    assert outcome.result() == 1
    assert end.session.counters["redirects"] == 0


def test_links_follow_the_table_and_seeds_stay(world: World) -> None:
    end = world.connect(["h1:1", "elsewhere:9"])
    assert list(end.session.links) == ["h1:1", "elsewhere:9", "h2:1", "h3:1"]
    links = end.session.links
    elsewhere = with_node(world.table, "n3", networks=(("other", Addresses("o3:1", "o3:3")),))
    end.session.receive("h1:1", TableRows(CLUSTER, 1, 0, 2, elsewhere.to_wire()), world.now)
    assert list(end.session.links) == ["h1:1", "elsewhere:9", "h2:1"]
    assert end.session.links is not links
    assert end.session.links["h1:1"] is links["h1:1"]


# -- deadlines ----------------------------------------------------------------------------------------------


def test_what_was_never_sent_ends_as_no_route_that_names_node_and_key(world: World) -> None:
    end = world.connect(SEEDS)
    world.unplugged.add(world.owner("lost"))
    outcomes = [end.incr("lost", timeout=2.0), end.get("lost", timeout=2.0)]
    world.run(10.0)
    leader = world.table.partitions[world.partition("lost")].leader
    for outcome, name in zip(outcomes, ("incr", "get"), strict=True):
        error = outcome.error()
        assert type(error) is NoRoute
        for part in (f"{name} 'lost'", f"node {leader} at {world.owner('lost')}", "2 s", "nothing was sent"):
            assert part in str(error)
        assert outcome.ended_at == [pytest.approx(outcome.started_at + 2.0)]
    assert end.sent(Request) == []


def test_a_write_without_an_answer_may_have_been_applied(world: World) -> None:
    end = world.writer()
    world.fate = only_towards(Reply, DROP)
    outcome = end.incr("key", timeout=10.0)
    world.run(30.0)
    error = outcome.error()
    assert isinstance(error, OperationTimeout)
    assert error.maybe_applied is True
    assert "incr 'key'" in str(error)
    assert "may have been applied" in str(error)
    assert outcome.ended_at == [pytest.approx(outcome.started_at + 10.0)]
    world.fate = lambda address, message: 0.001
    after = end.incr("key")
    world.run(1.0)
    assert after.result() == 2


def test_a_write_in_flight_is_sent_again_when_it_is_late_and_each_time_later(world: World) -> None:
    waits = []
    for seed in range(20):
        world = World(seed)
        end = world.writer()
        world.fate = only_towards(Reply, DROP)
        end.incr("key", timeout=60.0)
        sent_at = []
        for _ in range(600):
            count = len(end.sent(Request))
            world.run(0.1)
            sent_at += [world.now] * (len(end.sent(Request)) - count)
        waits.append([later - earlier for earlier, later in pairwise(sent_at)])
        assert end.session.counters["resent_writes"] == len(sent_at) - 1 < ATTEMPTS_MAX
    assert all(wait[0] == pytest.approx(1.0, abs=0.15) for wait in waits)
    means = [sum(column) / len(column) for column in zip(*waits, strict=False)]
    assert means[0] < means[1] < means[2] < means[3]
    assert max(map(max, waits)) < 9.2


def test_a_read_in_flight_is_sent_again_each_second(world: World) -> None:
    end = world.connect()
    world.fate = only_towards(Reply, DROP)
    outcome, hopeless = end.get("key", timeout=60.0), end.get("other", timeout=3.5)
    world.run(4.5)
    assert type(hopeless.error()) is OperationTimeout
    assert hopeless.error().maybe_applied is False  # type: ignore[attr-defined]
    assert end.session.counters["resent_reads"] == 4 + 3
    world.fate = lambda address, message: 0.001
    world.run(1.0)
    assert outcome.result() is None
    world.run(60.0)
    assert end.session.counters["resent_reads"] == 5 + 3


def test_a_read_is_sent_ten_times_at_most(world: World) -> None:
    end = world.connect()
    world.fate = only_towards(Reply, DROP)
    end.get("key", timeout=60.0)
    world.run(61.0)
    assert len(end.sent(Request)) == ATTEMPTS_MAX


def test_a_read_follows_its_partition_when_its_node_hangs(world: World) -> None:
    end = world.connect(SEEDS)
    key, other = world.keys_of("h1:1", 1)[0], world.keys_of("h2:1", 1)[0]
    del world.cores["h1:1"]
    outcome = end.get(key)
    world.run(0.1)
    world.become(with_leaders(world.table, {world.partition(key): "n2"}), ("n2", "n3"))
    end.get(other)
    world.run(2.0)
    assert outcome.is_done
    assert outcome.result() is None


def test_a_late_reply_is_ignored(world: World) -> None:
    end = world.writer()
    world.fate = only_towards(Reply, 3.0)
    late = [end.incr("key", timeout=1.0), end.get("key", timeout=0.5)]
    world.run(20.0)
    assert [type(outcome.error()) for outcome in late] == [OperationTimeout, OperationTimeout]
    world.fate = lambda address, message: 0.001
    outcome = end.incr("key")
    world.run(1.0)
    assert outcome.result() == 2
    assert not end.session.has_in_flight()


def test_operations_with_different_deadlines_end_at_their_own(world: World) -> None:
    end = world.connect()
    world.fate = only_towards(Reply, DROP)
    outcomes = []
    for i in range(200):
        timeout = 0.05 + (i * 37 % 100) / 20
        outcomes.append((timeout, end.incr(f"key{i}", timeout) if i % 2 else end.get(f"key{i}", timeout)))
        world.run(0.01)
    world.run(60.0)
    for timeout, outcome in outcomes:
        assert outcome.ended_at == [pytest.approx(outcome.started_at + timeout)]


def test_a_blocked_message_is_put_back_exactly_once(world: World) -> None:
    end = world.writer()
    keys = world.keys_of("h2:1", 100)
    outcomes = [end.incr(key) for key in keys]
    for _ in range(5):
        blocked = [(address, message) for address, message in end.session.drain() if address == "h2:1"]
        assert [len(message.operations) for _, message in blocked if isinstance(message, Request)] == [100]
        for address, message in blocked:
            end.session.on_blocked(address, message)
        assert end.session.drain() == []
        end.session.on_ready("h2:1")
    world.run(1.0)
    assert [outcome.result() for outcome in outcomes] == [1] * 100
    assert set(world.received.values()) == {1}


def test_what_ended_while_it_was_queued_is_not_sent_any_more(world: World) -> None:
    end = world.connect(SEEDS)
    key = world.keys_of("h2:1", 1)[0]
    world.unplugged.add("h2:1")
    outcome = end.incr(key, timeout=1.0)
    world.run(2.0)
    world.unplugged.clear()
    world.run(2.0)
    assert type(outcome.error()) is NoRoute
    assert end.sent(Request) == []


def test_a_partition_that_nobody_leads_has_no_route_until_somebody_does(world: World) -> None:
    key = "key"
    world.become(with_leaders(world.table, {world.partition(key): None}))
    end = world.connect()
    outcome = end.incr(key, timeout=1.0)
    world.run(2.0)
    assert type(outcome.error()) is NoRoute
    partition = f"partition {world.partition(key)}, led by nobody: its only copy is on node n1, which was declared dead"
    assert str(outcome.error()).startswith(f"incr 'key' ({partition}): no answer within 1 s, so nothing was sent")
    outcome = end.incr(key)
    world.run(1.0)
    world.become(with_leaders(world.table, {world.partition(key): "n2"}))
    world.run(1.0)
    assert outcome.result() == 1
    end.requests.clear()
    world.run(60.0)
    assert end.requests == []


# -- many keys ----------------------------------------------------------------------------------------------


def test_many_keys_with_one_node_dead_say_what_was_done_and_what_failed(world: World) -> None:
    end = world.connect(SEEDS)
    mapping = {f"key{i}": i for i in range(100)}
    written = end.call(Commands.set_many, mapping, None)
    world.run(1.0)
    assert written.result() == 100
    world.unplugged.add("h2:1")
    dead = {key for key in mapping if world.owner(key) == "h2:1"}
    assert 10 < len(dead) < 60
    read = end.call(Commands.get_many, [*mapping, "absent{key0}"], "linearizable", timeout=2.0)
    again = end.call(Commands.set_many, mapping, None, timeout=2.0)
    deleted = end.call(Commands.delete_many, mapping, timeout=2.0)
    world.run(3.0)
    for outcome in (read, again, deleted):
        error = outcome.error()
        assert type(error) is NoRoute
        assert set(error.failed) == dead
        assert {type(part) for part in error.failed.values()} == {NoRoute}
    assert read.error().done == {key: value for key, value in mapping.items() if key not in dead}
    assert set(again.error().done) == set(deleted.error().done) == set(mapping) - dead


def test_abort_ends_everything_once(world: World) -> None:
    end = world.connect(SEEDS)
    world.unplugged.add("h2:1")
    world.refuse = lambda number: Refusal.OVERLOADED if number % 2 else None
    world.fate = only_towards(Reply, 0.01)
    outcomes = [end.incr(f"key{i}") for i in range(100)]
    outcomes.append(end.call(Commands.get_many, [f"key{i}" for i in range(100)], "any"))
    world.run(0.015)
    for outcome in outcomes:
        assert len(outcome.ended_at) <= 1
    open_ones = [outcome for outcome in outcomes if not outcome.is_done]
    assert open_ones
    end.finished(end.session.abort("the client was closed"))
    for outcome in open_ones:
        assert type(outcome.error()) is ClientClosed
    world.run(30.0)
    assert all(len(outcome.ended_at) == 1 for outcome in outcomes)
