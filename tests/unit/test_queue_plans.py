"""What clients of queues do, step by step, against real nodes over a network that is only a list."""

from collections.abc import Callable
from typing import Any

import pytest

from gimmal.client import inspecting, settling
from gimmal.client.steps import Plan
from gimmal.errors import (
    InvalidArgument,
    OperationTimeout,
    QueueFull,
    QueueSettingsMismatch,
    StaleLease,
)
from gimmal.wire import queue_commands as wire
from gimmal.wire.messages import Reply
from tests.unit.fake_network import DROP, only_towards
from tests.unit.queue_world import VALUES, QueueEnd, QueueWorld


@pytest.fixture
def world() -> QueueWorld:
    return QueueWorld()


@pytest.fixture
def client(world: QueueWorld) -> QueueEnd:
    return world.client()


# -- declaring --------------------------------------------------------------------------------------------------


def test_the_first_operation_declares_and_the_others_do_not(client: QueueEnd) -> None:
    queue = client.queue("q")
    first = queue.now(queue.produce("a"))
    second = queue.now(queue.produce("b"))
    assert client.names() == ["declare", "produce", "produce"]
    assert first.startswith("0-")
    assert int(second[2:]) == int(first[2:]) + 1


def test_another_handle_of_the_same_client_need_not_declare(client: QueueEnd) -> None:
    queue, other = client.queue("q", shards=2), client.queue("q", max_retries=3)
    queue.now(queue.produce("a"))
    client.requests.clear()
    other.now(other.produce("b"))
    assert client.names() == ["produce"]


def test_all_shards_are_declared_at_once_with_the_full_settings(client: QueueEnd) -> None:
    queue = client.queue("q", shards=8, lease=2.0)
    queue.now(queue.stats())
    declared = [op[5] for _, op in client.sent_operations(wire.DECLARE)]
    assert declared[0] == (wire.DECLARE, b"{q/0}", (None, 2_000, None, None, 8, None))
    full = (3, 2_000, 500, 300_000, 8, 0)
    assert sorted(declared[1:]) == [(wire.DECLARE, b"{q/%d}" % shard, full) for shard in range(1, 8)]
    assert len(client.sent_operations(wire.QUEUE_STATS)) == 8


def test_a_setting_that_differs_is_refused_and_one_that_is_left_out_is_not(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=4, max_retries=7)
    queue.now(queue.produce("a"))
    for end in (client, world.client()):
        for wrong in (end.queue("q", shards=2), end.queue("q", lease=1.0), end.queue("q", max_length=5)):
            trip = wrong.produce("b")
            world.run(0.1)
            assert isinstance(trip.error(), QueueSettingsMismatch)
            assert "given" in str(trip.error())
        fine = end.queue("q", max_retries=7)
        fine.now(fine.produce("b"))


def test_a_name_with_a_tag_is_placed_as_a_key_of_that_name(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("jobs{user7}")
    queue.now(queue.produce("a"))
    assert {op[5][1] for _, op in client.sent_operations()} == {b"jobs{user7}"}
    assert {op[1] for _, op in client.sent_operations()} == {world.partition("user7")}


def test_a_queue_that_was_lost_is_declared_again_and_asked_again(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=4, max_retries=9)
    queue.now(queue.produce("a"))
    for lost in ([b"{q/0}"], [b"{q/1}", b"{q/2}", b"{q/3}"], [b"{q/%d}" % shard for shard in range(4)]):
        world.lose(*lost)
        client.requests.clear()
        queue.now(queue.produce_many(["b"] * 4))
        again = [op[5] for _, op in client.sent_operations(wire.DECLARE)]
        assert sorted(again) == [(wire.DECLARE, shard, (9, 30_000, 500, 300_000, 4, 0)) for shard in lost]
    world.lose(b"{q/0}")
    assert len(queue.now(queue.consume(most=10))) == 3


def test_a_lost_queue_that_somebody_declared_otherwise_is_a_mismatch_once(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q"), world.client().queue("q", max_retries=9)
    queue.now(queue.produce("a"))
    world.lose(b"{q/0}")
    other.now(other.produce("b"))
    queue.now(queue.produce("c"))  # it is there again, so nobody sees
    world.lose(b"{q/0}")
    other.end.book.known_by_name.clear()
    other.now(other.produce("d"))
    assert queue.now(queue.produce("e"))


# -- producing --------------------------------------------------------------------------------------------------


def test_messages_without_a_key_go_to_all_shards_in_turn(client: QueueEnd) -> None:
    queue = client.queue("q", shards=4)
    ids = [queue.now(queue.produce(index)) for index in range(8)]
    shards = [int(message_id.split("-")[0]) for message_id in ids]
    first = shards[0]
    assert shards == [(first + turn) % 4 for turn in range(8)]


def test_a_group_key_or_a_dedup_id_decides_on_the_shard(world: QueueWorld, client: QueueEnd) -> None:
    queue, same = client.queue("q", shards=16), world.client().queue("q")
    by_group = {queue.now(queue.produce(index, group_key="user7", dedup_id=f"d{index}"))[:2] for index in range(4)}
    by_group |= {same.now(same.produce(0, group_key=b"user7"))[:2]}
    assert len(by_group) == 1
    first = queue.now(queue.produce("x", dedup_id="once"))
    assert same.now(same.produce("y", dedup_id="once")) == first
    spread = {queue.now(queue.produce("x", dedup_id=f"id{index}")).split("-")[0] for index in range(40)}
    assert len(spread) > 8


def test_a_produce_whose_answer_is_lost_is_carried_out_once(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.produce("a"))
    world.fate = only_towards(Reply, DROP)
    trip = queue.produce("b")
    world.run(0.5)
    world.fate = lambda address, message: 0.001
    world.run(3.0)
    assert trip.result()
    assert len(client.sent_operations(wire.PRODUCE)) >= 3
    assert queue.counts()[0] == 2


def test_many_messages_are_one_command_for_each_shard_and_come_back_in_order(client: QueueEnd) -> None:
    queue = client.queue("q", shards=4)
    ids = queue.now(queue.produce_many([f"m{index}" for index in range(100)]))
    assert client.names().count("produce") == 4
    found = {message.id: message.payload for message in queue.now(queue.consume(most=100))}
    assert [found[message_id] for message_id in ids] == [f"m{index}" for index in range(100)]


def test_more_than_1000_messages_follow_each_other(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.produce_many(range(2_500))
    world.run(1.0)
    ids = trip.result()
    assert [len(op[5][3]) for _, op in client.sent_operations(wire.PRODUCE)] == [1_000, 1_000, 500]
    assert [int(message_id[2:]) for message_id in ids] == list(range(int(ids[0][2:]), int(ids[0][2:]) + 2_500))
    trip = queue.consume(most=2_500)
    world.run(1.0)
    assert [message.payload for message in trip.result()] == list(range(2_500))


def test_more_than_4_mebibytes_follow_each_other(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    trip = queue.produce_many([b"x" * 1_500_000] * 5)
    world.run(1.0)
    assert len(trip.result()) == 5
    assert [len(op[5][3]) for _, op in client.sent_operations(wire.PRODUCE)] == [2, 2, 1]


def test_nothing_to_produce_is_no_trip(client: QueueEnd) -> None:
    queue = client.queue("q")
    assert queue.now(queue.produce_many([])) == []
    assert client.names() == ["declare"]


def test_a_full_queue_says_what_was_done_and_what_was_not(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=2, max_length=10)
    trip = queue.produce_many(range(10))
    assert len(queue.now(trip)) == 10
    (given,) = queue.now(queue.consume())
    queue.now(queue.ack(given))
    trip = queue.produce_many(["x", "y"])
    world.run(0.1)
    error = trip.error()
    assert isinstance(error, QueueFull)
    assert len(error.done) == len(error.failed) == 1
    assert sorted([*error.done, *error.failed]) == [0, 1]
    assert queue.counts()[0] == 10


def test_a_delayed_message_comes_when_it_is_due(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.produce("a", delay=2.0))
    started_at = world.now
    trip = queue.consume(timeout=10.0)
    world.run(5.0)
    assert trip.result()[0].payload == "a"
    assert trip.ended_at is not None
    assert 1.8 <= trip.ended_at - started_at <= 2.1


# -- settling ---------------------------------------------------------------------------------------------------


def test_what_is_acknowledged_is_gone_and_twice_is_fine(client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.produce_many(["a", "b"]))
    first, second = queue.now(queue.consume(most=2))
    queue.now(queue.ack(first))
    queue.now(queue.ack(first))
    queue.now(queue.ack(second.id))
    assert queue.counts() == (0, 0, 2, 0)
    assert client.at.partitions() == frozenset()


def test_an_id_is_good_as_long_as_this_client_holds_it(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q"), world.client().queue("q")
    message_id = queue.now(queue.produce("a"))
    for held in (queue, other):
        with pytest.raises(InvalidArgument, match="holds no message"):
            held.ack(message_id)
    queue.now(queue.consume())
    with pytest.raises(InvalidArgument, match="holds no message"):
        other.ack(message_id)
    queue.now(queue.nack(message_id))
    with pytest.raises(InvalidArgument, match="holds no message"):
        queue.nack(message_id)
    no_message: Any = 7
    with pytest.raises(TypeError, match="int"):
        queue.ack(no_message)


def test_an_id_that_is_held_in_two_groups_has_to_be_named_by_its_message(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.begin(inspecting.create_group(queue.shards, client.at, b"g")))
    queue.now(queue.produce("a"))
    (one,), (other,) = queue.now(queue.consume()), queue.now(queue.consume(group="g"))
    assert one == other
    with pytest.raises(InvalidArgument, match="in groups 'default', 'g'"):
        queue.ack(one.id)
    queue.now(queue.ack(other))
    queue.now(queue.ack(one.id))
    assert queue.counts() == queue.counts("g") == (0, 0, 1, 0)


def test_a_message_of_another_queue_is_refused(client: QueueEnd) -> None:
    queue, other = client.queue("q"), client.queue("other")
    queue.now(queue.produce("a"))
    (message,) = queue.now(queue.consume())
    with pytest.raises(InvalidArgument, match="of queue 'q', not of 'other'"):
        other.ack(message)


def test_a_nack_counts_and_the_third_makes_a_dead_letter(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", backoff=0.0)
    queue.now(queue.produce({"n": 1}))
    for count in range(3):
        (message,) = queue.now(queue.consume())
        assert (message.attempts, message.retry_count) == (count + 1, count)
        queue.now(queue.nack(message, reason=b"ValueError: %d" % count))
    assert queue.now(queue.consume()) == []
    (letter,) = queue.now(queue.begin(inspecting.dead_letters(queue.shards, client.at, b"default", 10, VALUES.decode)))
    assert (letter.id, letter.payload, letter.attempts, letter.retry_count) == (message.id, {"n": 1}, 3, 3)
    assert (letter.reason, letter.error, letter.consumer) == ("nack", "ValueError: 2", "me")
    assert letter.created_at <= letter.first_failure < letter.last_failure
    assert [failure.error for failure in letter.history] == [f"ValueError: {count}" for count in range(3)]
    assert queue.now(queue.begin(inspecting.redrive(queue.shards, client.at, b"default", None))) == 1
    (message,) = queue.now(queue.consume())
    assert message.retry_count == 0
    queue.now(queue.nack(message, requeue=False))
    (letter,) = queue.now(queue.begin(inspecting.dead_letters(queue.shards, client.at, b"default", 10, VALUES.decode)))
    assert letter.reason == "rejected"
    assert queue.now(queue.begin(inspecting.purge(queue.shards, client.at, b"default"))) == 1
    assert queue.counts() == (0, 0, 0, 0)


def test_a_message_that_went_to_somebody_else_is_stale(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q", lease=1.0, backoff=0.0), world.client().queue("q")
    queue.now(queue.produce("a"))
    (mine,) = queue.now(queue.consume())
    world.run(1.5)
    (theirs,) = other.now(other.consume())
    for code, details in ((wire.ACK, ()), (wire.NACK, ((True, None), b"")), (wire.RELEASE, ()), (wire.EXTEND, (500,))):
        trip = queue.settle(code, mine, *details)
        world.run(0.1)
        assert isinstance(trip.error(), StaleLease)
        assert mine.id in str(trip.error())
    other.now(other.ack(theirs))
    assert queue.counts() == (0, 0, 1, 0)


def test_many_acknowledgments_say_which_failed(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q", shards=4, lease=1.0, backoff=0.0), world.client().queue("q")
    queue.now(queue.produce_many(range(8)))
    mine = queue.now(queue.consume(most=8))
    world.run(1.5)
    theirs = other.now(other.consume(most=3))
    trip = queue.ack_many(mine)
    world.run(0.1)
    error = trip.error()
    assert isinstance(error, StaleLease)
    assert sorted(error.failed) == sorted(message.id for message in theirs)
    assert sorted([*error.done, *error.failed]) == sorted(message.id for message in mine)
    other.now(other.ack_many(theirs))
    assert queue.counts() == (0, 0, 8, 0)
    assert queue.now(queue.ack_many([])) is None


def test_a_lease_that_is_extended_lasts_longer(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", lease=1.0)
    queue.now(queue.produce("a"))
    (message,) = queue.now(queue.consume())
    receipt = settling.receipt_of(queue.shards, client.at, message)
    for _ in range(5):
        queue.now(queue.begin(settling.extend(queue.shards, client.at, receipt, 1_000)))
        world.run(0.7)
    assert queue.counts()[1] == 1
    world.run(1.5)
    assert queue.counts()[1] == 0


def test_a_message_of_a_group_that_is_no_more_is_stale(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.begin(inspecting.create_group(queue.shards, client.at, b"g")))
    queue.now(queue.produce("a"))
    (message,) = queue.now(queue.consume(group="g"))
    assert queue.now(queue.begin(inspecting.delete_group(queue.shards, client.at, b"g"))) is True
    trip = queue.ack(message)
    world.run(0.1)
    assert isinstance(trip.error(), StaleLease)


# -- groups -----------------------------------------------------------------------------------------------------


def test_a_group_exists_in_all_shards_from_its_first_consume(client: QueueEnd) -> None:
    queue = client.queue("q", shards=4)
    assert queue.now(queue.consume(group="g")) == []
    assert client.names().count("create group") == 4
    queue.now(queue.produce_many(range(8)))
    assert len(queue.now(queue.consume(group="g", most=8))) == 8
    assert len(queue.now(queue.consume(most=8))) == 8
    assert client.names().count("create group") == 4
    assert queue.now(queue.begin(inspecting.groups(queue.shards, client.at))) == ["default", "g"]
    assert queue.now(queue.begin(inspecting.create_group(queue.shards, client.at, b"g"))) is False


def test_a_group_that_was_deleted_comes_back_with_the_next_consume(world: QueueWorld, client: QueueEnd) -> None:
    queue, other = client.queue("q", shards=3), world.client().queue("q")
    for name in ("g", "default"):
        queue.now(queue.consume(group=name))
        other.now(other.begin(inspecting.delete_group(other.shards, other.end.at, name.encode())))
        trip = queue.consume(group=name, timeout=3.0)
        world.run(0.5)
        queue.now(queue.produce("a"))
        assert [message.payload for message in trip.result()] == ["a"]


def test_looking_at_a_group_that_does_not_exist_says_so(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=2)
    plans: list[Callable[[], Plan[Any]]] = [
        lambda: inspecting.stats(queue.shards, client.at, b"g"),
        lambda: inspecting.dead_letters(queue.shards, client.at, b"g", 10, VALUES.decode),
        lambda: inspecting.redrive(queue.shards, client.at, b"g", None),
        lambda: inspecting.redrive(queue.shards, client.at, b"g", 5),
        lambda: inspecting.purge(queue.shards, client.at, b"g"),
    ]
    for plan in plans:
        trip = queue.begin(plan())
        world.run(0.1)
        error = trip.error()
        assert type(error) is InvalidArgument
        assert "no consumer group 'g'" in str(error)
    assert queue.now(queue.begin(inspecting.delete_group(queue.shards, client.at, b"g"))) is False


def test_a_group_that_one_shard_has_lost_is_created_there_again(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=3)
    queue.now(queue.begin(inspecting.create_group(queue.shards, client.at, b"g")))
    queue.now(queue.produce_many(range(6)))
    world.lose(b"{q/1}")
    assert queue.counts("g") == (4, 0, 0, 0)
    queue.now(queue.produce_many(range(6)))
    assert queue.counts("g") == (10, 0, 0, 0)


def test_a_redrive_with_a_limit_is_not_exceeded(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q", shards=3)
    queue.now(queue.produce_many(range(9)))
    for message in queue.now(queue.consume(most=9)):
        queue.now(queue.nack(message, requeue=False))
    assert queue.now(queue.begin(inspecting.redrive(queue.shards, client.at, b"default", 4))) == 4
    assert queue.counts() == (4, 0, 0, 5)
    letters = queue.now(queue.begin(inspecting.dead_letters(queue.shards, client.at, b"default", 2, VALUES.decode)))
    assert len(letters) == 2


# -- when the cluster is not there --------------------------------------------------------------------------------


def test_a_produce_without_an_answer_may_have_been_carried_out(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.produce("a"))
    world.fate = only_towards(Reply, DROP)
    trip = queue.produce("b", timeout=2.0)
    world.run(3.0)
    error = trip.error()
    assert isinstance(error, OperationTimeout)
    assert error.maybe_applied


def test_a_new_leader_goes_on_with_everything(world: QueueWorld, client: QueueEnd) -> None:
    queue = client.queue("q")
    queue.now(queue.produce_many(range(10)))
    (held,) = queue.now(queue.consume())
    old = world.owner("q/0")
    world.kill(next(row.name for row in world.table.nodes if row.networks[0][1].client == old))
    trips = [queue.produce(f"n{index}") for index in range(5)]
    world.run(5.0)
    assert len({trip.result() for trip in trips}) == 5
    queue.now(queue.ack(held))
    assert queue.counts() == (14, 0, 1, 0)
