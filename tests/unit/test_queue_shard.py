"""One shard by example: groups that share messages, dedup ids, the bound on the length, what it counts as memory."""

import gc
import tracemalloc

import pytest

from gimmal.store.footprint import Footprint
from gimmal.store.queues.shard import Settings, dedup_bytes, message_bytes
from gimmal.wire import limits
from gimmal.wire import queue_commands as codes
from gimmal.wire.messages import Refusal
from tests.unit.queue_partition import ADA, DEFAULT, DONE, QUEUE, QueuePartition, refusal_of


@pytest.fixture
def queue() -> QueuePartition:
    return QueuePartition()


def create_group(queue: QueuePartition, name: bytes = b"audit") -> None:
    assert queue.apply(codes.CREATE_GROUP, QUEUE, name) is True


# -- groups ---------------------------------------------------------


def test_a_group_sees_only_what_was_produced_since_it_exists(queue: QueuePartition) -> None:
    queue.produce(b"a")
    create_group(queue)
    queue.produce(b"b")
    assert queue.grant(9, group=b"audit") == [2]
    assert queue.grant(9) == [1, 2]


def test_each_group_has_leases_counts_and_dead_letters_of_its_own(queue: QueuePartition) -> None:
    create_group(queue)
    queue.produce(b"a")
    assert queue.grant() == queue.grant(group=b"audit") == [1]
    queue.nack(1, token=queue.seq - 1, requeue=False)
    assert queue.stats()["dead_letter"] == 1
    assert queue.stats(b"audit") | {"in_progress": 1, "dead_letter": 0} == queue.stats(b"audit")


def test_a_message_leaves_when_it_is_settled_in_every_group(queue: QueuePartition) -> None:
    create_group(queue)
    queue.produce(b"a")
    for group in (DEFAULT, b"audit"):
        assert list(queue.shard.messages) == [2]
        queue.grant(group=group)
        queue.ack(1, group=group)
    assert queue.shard.messages == {}
    assert queue.footprint == Footprint()


def test_a_dead_letter_stays_until_it_is_purged(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    queue.nack(1, requeue=False)
    assert queue.shard.unsettled == 0
    assert queue.footprint.pinned_bytes == message_bytes(b"a", b"")
    queue.purge()
    assert queue.footprint == Footprint()


def test_a_message_that_is_dead_in_one_group_is_there_for_another(queue: QueuePartition) -> None:
    create_group(queue)
    queue.produce(b"a")
    queue.grant()
    queue.nack(1, requeue=False)
    queue.purge()
    assert queue.grant(group=b"audit") == [1]
    assert queue.ack(1, group=b"audit") == [DONE]
    assert queue.footprint == Footprint()


def test_a_group_that_is_deleted_settles_all_it_had(queue: QueuePartition) -> None:
    create_group(queue)
    queue.produce(b"ready", b"held", b"dead", b"late")
    queue.produce(b"first", b"behind", key=b"k")
    queue.produce(b"delayed", delay=50)
    queue.grant(4)
    token = queue.seq
    queue.nack(3, token=token, requeue=False)
    queue.release(1, 4, token=token)
    queue.ack(4, token=token)
    queue.apply(codes.DELETE_GROUP, QUEUE, b"audit")
    assert sorted(queue.shard.messages) == [2, 3, 4, 6, 7, 8]
    assert queue.apply(codes.DELETE_GROUP, QUEUE, DEFAULT) is True
    assert queue.shard.messages == {}
    assert queue.shard.unsettled == 0
    assert queue.footprint == Footprint()


def test_without_a_group_what_is_produced_is_for_nobody(queue: QueuePartition) -> None:
    queue.apply(codes.DELETE_GROUP, QUEUE, DEFAULT)
    assert queue.produce(b"a") == [1]
    create_group(queue, DEFAULT)
    assert queue.grant() == []
    assert queue.produce(b"b") == [2], "a number is not used twice"
    assert queue.grant() == [2]


# -- dedup ids ---------------------------------------------------------


def test_the_same_dedup_id_gets_the_first_number_for_five_minutes(queue: QueuePartition) -> None:
    assert queue.produce(b"a", dedup_id=b"x") == [1]
    queue.now_ms += limits.DEDUP_MS - 1
    assert queue.produce(b"b", b"c", dedup_id=b"x") == [1, 1]
    assert queue.produce(b"d", dedup_id=b"y") == [2]
    queue.now_ms += 1
    assert queue.produce(b"e", dedup_id=b"x") == [3]
    assert [queue.shard.messages[number].payload for number in (2, 3, 4)] == [b"a", b"d", b"e"]


def test_a_duplicate_is_one_also_when_the_first_was_settled(queue: QueuePartition) -> None:
    queue.produce(b"a", dedup_id=b"x")
    queue.grant()
    queue.ack(1)
    assert queue.produce(b"a", dedup_id=b"x") == [1]
    assert queue.grant() == []


def test_dedup_ids_are_forgotten_and_their_memory_too(queue: QueuePartition) -> None:
    queue.produce(b"a", dedup_id=b"x")
    queue.now_ms += 1
    queue.produce(b"a", dedup_id=b"yy")
    ids = dedup_bytes(b"x") + dedup_bytes(b"yy")
    assert queue.footprint.pinned_bytes == 2 * message_bytes(b"a", b"") + ids
    queue.now_ms += limits.DEDUP_MS - 1
    queue.produce(b"b")
    assert list(queue.shard.dedup) == [b"yy"]
    assert queue.footprint.pinned_bytes == 3 * message_bytes(b"a", b"") + dedup_bytes(b"yy")


# -- length ---------------------------------------------------------


def test_a_full_queue_refuses_and_takes_nothing() -> None:
    queue = QueuePartition(None, None, None, None, 1, 3)
    queue.produce(b"a", b"b")
    before = queue.engine.digest()
    assert refusal_of(queue.produce(b"c", b"d")) is Refusal.QUEUE_FULL
    assert queue.engine.digest() == before
    assert queue.produce(b"c") == [3]


def test_what_is_settled_in_every_group_makes_room() -> None:
    queue = QueuePartition(None, None, None, None, 1, 2)
    create_group(queue)
    queue.produce(b"a", b"b")
    queue.grant(2)
    queue.ack(1, 2)
    assert refusal_of(queue.produce(b"c")) is Refusal.QUEUE_FULL
    queue.grant(2, group=b"audit")
    queue.apply(codes.NACK, QUEUE, b"audit", ((2, queue.seq),), (False, None), b"")
    assert queue.produce(b"c") == [3], "a dead letter is settled"
    assert refusal_of(queue.produce(b"d")) is Refusal.QUEUE_FULL


def test_a_duplicate_needs_no_room() -> None:
    queue = QueuePartition(None, None, None, None, 1, 2)
    queue.produce(b"a", dedup_id=b"x")
    assert queue.produce(b"b", b"b", dedup_id=b"y") == [2, 2], "two of one batch are one"
    assert queue.produce(b"a", dedup_id=b"x") == [1]
    assert refusal_of(queue.produce(b"c", dedup_id=b"z")) is Refusal.QUEUE_FULL
    queue.now_ms += limits.DEDUP_MS
    assert refusal_of(queue.produce(b"a", dedup_id=b"x")) is Refusal.QUEUE_FULL, "no duplicate any more"


def test_each_shard_takes_its_part_of_the_length() -> None:
    assert Settings(shards=4, max_length=10).shard_length_max == 3
    assert Settings(shards=4, max_length=0).shard_length_max == 0
    assert Settings(max_length=10).shard_length_max == 10


# -- memory ---------------------------------------------------------


def test_what_is_discarded_counts_no_more(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", key=b"k", dedup_id=b"x")
    queue.engine.discard()
    assert queue.footprint == Footprint()
    assert queue.engine.queues.shards == {}


@pytest.mark.parametrize(("batch", "ready", "in_flight"), [(1, 250, 660), (100, 215, 430)])
def test_a_message_costs_about_what_is_counted(batch: int, ready: int, in_flight: int) -> None:
    """20,000 messages of 100 bytes: what `MESSAGE_OVERHEAD_BYTES` says of itself, within 25 %."""
    count, queue = 20_000, QueuePartition()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count // batch):
            queue.now_ms += 1
            queue.produce(*(bytes(100) for _ in range(batch)))
        after, _ = tracemalloc.get_traced_memory()
        assert abs(((after - before) / count - 100) / ready - 1) < 0.25
        for _ in range(count // batch):
            queue.grant(batch, (bytes(bytearray(ADA[0])), ADA[1]))
        after, _ = tracemalloc.get_traced_memory()
        assert abs(((after - before) / count - 100) / in_flight - 1) < 0.25
    finally:
        tracemalloc.stop()
    assert 0.5 < (after - before) / queue.footprint.pinned_bytes < 2
