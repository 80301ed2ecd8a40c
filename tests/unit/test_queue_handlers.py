"""What queue commands answer where there is no queue, no group, or another queue than was meant."""

from typing import Any

import pytest

from gimmal.store import queues
from gimmal.store.queues.shard import Settings
from gimmal.wire import limits
from gimmal.wire import queue_commands as codes
from gimmal.wire.messages import Refusal
from tests.unit.queue_partition import ADA, DEFAULT, DONE, QUEUE, STALE, QueuePartition, refusal_of

OTHER = b"other"
NONE = (None,) * 6
DELIVERIES = ((2, 3),)


@pytest.fixture
def queue() -> QueuePartition:
    return QueuePartition()


def test_every_command_that_is_logged_or_read_has_a_handler() -> None:
    assert set(queues.WRITES) | set(queues.READS) == codes.CODES - codes.FOR_CONSUMERS
    assert set(queues.READS) == codes.FOR_READING


# -- declare ---------------------------------------------------------


def test_a_new_queue_has_what_was_given_and_defaults_for_the_rest(queue: QueuePartition) -> None:
    given = (5, None, None, None, 2, None)
    settings = (5, 30_000, 500, 300_000, 2, 0)
    assert queue.apply(codes.DECLARE, OTHER, given) == settings
    assert queue.apply(codes.DECLARE, OTHER, NONE) == settings, "none given: as stored"
    assert queue.apply(codes.DECLARE, OTHER, settings) == settings
    assert queue.engine.read(0, (codes.QUEUE_GROUPS, OTHER)) == (DEFAULT,)


@pytest.mark.parametrize("place", range(6))
def test_another_setting_than_the_stored_one_is_a_mismatch(queue: QueuePartition, place: int) -> None:
    given = [None, None, None, None, None, None, *()]
    given[place] = 7  # type: ignore[call-overload]
    before = queue.engine.digest()
    result = queue.apply(codes.DECLARE, QUEUE, tuple(given))
    assert refusal_of(result) is Refusal.SETTINGS_MISMATCH
    assert Settings._fields[place] in result.text
    assert "7" in result.text
    assert queue.engine.digest() == before


def test_messages_are_numbered_from_the_entry_that_declared_the_shard() -> None:
    queue = QueuePartition()
    queue.seq = 500
    queue.apply(codes.DECLARE, OTHER, NONE)
    assert queue.apply(codes.PRODUCE, OTHER, 0, ((b"p", b"", b""),)) == (502,)


# -- no queue, no group ---------------------------------------------------------

WITH_A_GROUP: dict[str, tuple[Any, ...]] = {
    "ack": (codes.ACK, DELIVERIES),
    "nack": (codes.NACK, DELIVERIES, (True, None), b""),
    "release": (codes.RELEASE, DELIVERIES),
    "extend": (codes.EXTEND, DELIVERIES, 9),
    "redrive": (codes.REDRIVE, 1),
    "purge": (codes.PURGE, 1),
    "stats": (codes.QUEUE_STATS,),
    "dead letters": (codes.DEAD_LETTERS, 1),
}


def ask(queue: QueuePartition, shard: bytes, group: bytes, code: int, *arguments: Any) -> Any:
    if code in codes.FOR_READING:
        return queue.engine.read(0, (code, shard, group, *arguments))
    return queue.apply(code, shard, group, *arguments)


@pytest.mark.parametrize("name", WITH_A_GROUP)
def test_without_queue_or_group_a_command_of_a_client_is_refused(queue: QueuePartition, name: str) -> None:
    before = queue.engine.digest()
    assert refusal_of(ask(queue, OTHER, DEFAULT, *WITH_A_GROUP[name])) is Refusal.NO_QUEUE
    assert refusal_of(ask(queue, QUEUE, OTHER, *WITH_A_GROUP[name])) is Refusal.NO_GROUP
    assert queue.engine.digest() == before


@pytest.mark.parametrize(
    ("code", "arguments"),
    [(codes.PRODUCE, (0, ((b"p", b"", b""),))), (codes.CREATE_GROUP, (b"g",)), (codes.DELETE_GROUP, (b"g",))],
)
def test_without_queue_there_is_nothing_to_produce_to_or_to_share(
    queue: QueuePartition, code: int, arguments: tuple[Any, ...]
) -> None:
    assert refusal_of(queue.apply(code, OTHER, *arguments)) is Refusal.NO_QUEUE
    assert refusal_of(queue.engine.read(0, (codes.QUEUE_GROUPS, OTHER))) is Refusal.NO_QUEUE


@pytest.mark.parametrize(("shard", "group"), [(OTHER, DEFAULT), (QUEUE, OTHER)])
def test_what_the_leader_proposed_does_nothing_where_nothing_is_left(
    queue: QueuePartition, shard: bytes, group: bytes
) -> None:
    before = queue.engine.digest()
    assert queue.apply(codes.GRANT, shard, group, ADA, 1, (1, 0)) == ()
    assert queue.apply(codes.LEASE_END, shard, group, DELIVERIES) == 0
    assert queue.apply(codes.GIVE_BACK, shard, group, ADA[0], 1) == 0
    assert queue.apply(codes.VANISH, shard, ADA[0], True) == 0
    assert queue.engine.digest() == before


# -- many at once ---------------------------------------------------------


def test_each_delivery_has_an_outcome_of_its_own(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c")
    queue.grant(2)
    token = queue.seq
    assert queue.nack(1, 3, 2, 2, token=token) == [DONE, STALE, DONE, STALE]
    assert queue.stats()["delayed"] == 2


def test_a_lease_end_says_how_many_deliveries_it_ended(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c")
    queue.grant(2)
    assert queue.lease_end(1, 2, 3, 1) == 2


def test_a_client_vanishes_from_all_groups_of_a_shard(queue: QueuePartition) -> None:
    queue.apply(codes.CREATE_GROUP, QUEUE, b"audit")
    queue.produce(b"a")
    queue.grant()
    queue.grant(group=b"audit")
    assert queue.vanish(ADA, is_counted=True) == 2
    assert queue.stats()["delayed"] == queue.stats(b"audit")["delayed"] == 1


# -- groups, reads ---------------------------------------------------------


def test_groups_are_told_in_the_order_of_their_making(queue: QueuePartition) -> None:
    assert queue.apply(codes.CREATE_GROUP, QUEUE, b"b") is True
    assert queue.apply(codes.CREATE_GROUP, QUEUE, b"a") is True
    assert queue.apply(codes.CREATE_GROUP, QUEUE, b"a") is False
    assert queue.apply(codes.DELETE_GROUP, QUEUE, b"b") is True
    assert queue.apply(codes.DELETE_GROUP, QUEUE, b"b") is False
    assert queue.engine.read(0, (codes.QUEUE_GROUPS, QUEUE)) == (DEFAULT, b"a")


def test_there_are_only_so_many_groups(queue: QueuePartition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUPS_MAX", 2)
    assert queue.apply(codes.CREATE_GROUP, QUEUE, b"a") is True
    assert refusal_of(queue.apply(codes.CREATE_GROUP, QUEUE, b"b")) is Refusal.INVALID
    assert queue.apply(codes.CREATE_GROUP, QUEUE, b"a") is False


def test_dead_letters_are_told_until_they_are_bytes_enough(
    queue: QueuePartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.produce(*[bytes(10)] * 5)
    queue.grant(5)
    queue.nack(1, 2, 3, 4, 5, requeue=False)
    assert len(queue.read(codes.DEAD_LETTERS, DEFAULT, 3)) == 3
    monkeypatch.setattr(limits, "GRANT_BYTES_MAX", 20)
    assert len(queue.read(codes.DEAD_LETTERS, DEFAULT, 5)) == 2


def test_a_read_changes_nothing(queue: QueuePartition) -> None:
    queue.produce(b"a", delay=5)
    before = queue.engine.digest()
    queue.now_ms += 10
    queue.stats()
    queue.letters()
    assert queue.engine.digest() == before
