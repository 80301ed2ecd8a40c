"""Queues on their way to another copy: what is told, and what is refused and leaves no trace."""

from typing import Any

import pytest

from gimmal.store import snapshot
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.queues import frozen
from gimmal.wire import limits
from gimmal.wire import queue_commands as codes
from gimmal.wire.codec import pack_tree
from tests.unit.queue_partition import ADA, BOB, DEFAULT, DONE, QUEUE, STALE, QueuePartition

SETTINGS = (3, 30_000, 500, 300_000, 1, 0)
WHO = (*ADA, 1)


def lived_in() -> QueuePartition:
    """A queue with a bit of everything in it: ready, given back, delayed, in lanes, in flight, dead, settled late."""
    queue = QueuePartition()
    queue.apply(codes.CREATE_GROUP, QUEUE, b"audit")
    queue.base = 1
    queue.produce(b"dead", b"late", b"back", b"failed", b"held", b"finished")
    queue.produce(b"first", b"behind", b"last", key=b"k")
    queue.produce(b"ready", dedup_id=b"x")
    queue.produce(b"delayed", delay=500)
    queue.grant(6)
    token = queue.seq
    queue.nack(1, token=token, requeue=False)
    queue.release(2, 3, 6, token=token)
    queue.ack(2, token=token)
    queue.nack(4, token=token)
    queue.grant(2, BOB)
    queue.ack(6)
    queue.release(3, token=queue.seq - 1)
    queue.grant(2, group=b"audit")
    return queue


def copy_of(queue: QueuePartition, bytes_max: int = 1_000) -> QueuePartition:
    copy = QueuePartition()
    copy.seq, copy.now_ms, copy.request, copy.footprint = queue.seq, queue.now_ms, queue.request, Footprint()
    copy.engine = Engine.from_chunks(copy.footprint, queue.trees(bytes_max))
    return copy


@pytest.mark.parametrize("bytes_max", [1, 100, 400, 10_000])
def test_a_copy_goes_on_like_the_original(bytes_max: int) -> None:
    original = lived_in()
    copy = copy_of(original, bytes_max)
    assert copy.footprint == original.footprint
    stories = []
    for queue in (original, copy):
        said: list[Any] = [queue.stats(), queue.stats(b"audit"), queue.letters(), queue.group.next_due_ms]
        said += [queue.grant(9), queue.ack(3, 7), queue.grant(9), queue.ack(6, token=5), queue.redrive()]
        queue.now_ms += 1_000
        said += [
            queue.stats(),
            queue.grant(9),
            queue.produce(b"again", dedup_id=b"x"),
            queue.vanish(ADA, is_counted=True),
        ]
        stories.append(said)
        assert queue.stats()["in_progress"] == 0
    assert stories[0] == stories[1]
    assert copy.engine.digest() == original.engine.digest()
    assert copy.footprint == original.footprint


def test_a_delivery_in_flight_keeps_its_token_in_a_copy() -> None:
    queue = QueuePartition()
    queue.produce(b"a", b"b")
    queue.grant(2)
    token = queue.seq
    copy = copy_of(queue)
    copy.request -= 1
    assert copy.grant(2) == [1, 2], "the same consume"
    assert copy.ack(1, token=token) == [DONE]
    assert copy.release(2, token=token) == [DONE]
    assert copy.ack(1, token=token) == [DONE]
    assert copy.ack(2, token=token - 1) == [STALE]


def test_what_is_frozen_stays_as_it_was() -> None:
    queue = lived_in()
    before, frozen_state = queue.trees(), queue.engine.freeze()
    queue.grant(9)
    queue.now_ms += 1_000
    queue.vanish(ADA, is_counted=True)
    queue.vanish(BOB, is_counted=True)
    queue.produce(b"new", key=b"k")
    queue.redrive()
    queue.apply(codes.DELETE_GROUP, QUEUE, b"audit")
    assert list(snapshot.chunks(frozen_state, 1_000)) == before
    assert queue.trees() != before


@pytest.mark.parametrize("delay", [0, 5])
def test_what_was_settled_late_is_not_told(delay: int) -> None:
    """That it lies about still is the store's own affair, and no two copies need agree about it."""
    queue = QueuePartition()
    queue.produce(b"a", b"b", b"c", b"d")
    queue.grant(4)
    token = queue.seq
    queue.nack(1, 2, 3, 4, token=token, delay=delay)
    queue.ack(4, token=token)
    assert queue.group.taken_back == {5}
    copy = copy_of(queue)
    assert copy.group.taken_back == set()
    assert copy.trees() == queue.trees()
    assert copy.stats() == queue.stats()


@pytest.mark.parametrize("bytes_max", [1, 300, 64 * 1024])
def test_chunks_have_about_the_size_asked_for(bytes_max: int) -> None:
    queue = QueuePartition()
    for number in range(30):
        queue.produce(*[bytes(1 + number)] * 40, key=b"k%d" % (number % 3) if number % 2 else b"", delay=number % 5)
    for _ in range(3):
        queue.now_ms += 10
        queue.grant(100)
        queue.nack(1, 2, 3, delay=5)
    trees = queue.trees(bytes_max)
    sizes = [len(pack_tree(tree)) for tree in trees]
    assert all(size <= bytes_max or len(items) == 1 for size, (_, items) in zip(sizes, trees, strict=True))


# -- what comes over the wire ---------------------------------------------------------

SHARD = (frozen.SHARD, QUEUE, SETTINGS, 9)
DEDUP = (frozen.DEDUP, b"x", 3, 5_000)
MESSAGES = tuple((frozen.MESSAGE, number, b"p", b"k" if number > 6 else b"", 1_000, 0) for number in range(1, 10))
GROUP = (frozen.GROUP, DEFAULT, 4, 2)
READY = (frozen.READY, (1, 2, 7))
DELAYED = (frozen.DELAYED, (1_500, 3, 1_500, 4))
LANE = (frozen.LANE, b"k", (8, 9))
FAILURE = (b"Ada", 0, b"no", 1_000)
WAITS = (frozen.DELIVERY, 2, 0, (3, 1, 1, 0), WHO, (FAILURE,))
HELD = (frozen.DELIVERY, 5, 1, (4, 1, 0, 0), WHO, ())
DEAD = (frozen.DELIVERY, 6, 2, (5, 1, 3, 0), WHO, (FAILURE,))
FINISHED = (frozen.FINISHED, (11, 6, 12, 0))
ITEMS = (SHARD, DEDUP, *MESSAGES, GROUP, READY, DELAYED, LANE, WAITS, HELD, DEAD, FINISHED)


def build(items: Any, footprint: Footprint, shards: int = 1) -> Engine:
    return Engine.from_chunks(footprint, [(0, ((snapshot.HEAD, 0, 0, 0, shards), *items))])


def ended(*items: Any) -> Any:
    return (*items, (frozen.END, len(items) + 1))


def with_changed(item: Any, place: int, value: Any) -> Any:
    changed = (*item[:place], value, *item[place + 1 :])
    return ended(*(changed if each is item else each for each in ITEMS))


def with_more(before: Any, *more: Any) -> Any:
    place = ITEMS.index(before)
    return ended(*ITEMS[:place], *more, *ITEMS[place:])


def test_the_good_items_are_good() -> None:
    footprint = Footprint()
    engine = build(ended(*ITEMS), footprint)
    assert footprint.pinned_bytes > 0
    told = [item for _, items in snapshot.chunks(engine.freeze(), 10**6) for item in items][1:]
    assert tuple(told) == ended(*ITEMS)
    shard = engine.queues.shards[QUEUE]
    assert shard.unsettled == 8
    assert shard.groups[DEFAULT].by_request == {(ADA[0], 1): [5]}
    engine.discard()
    assert footprint == Footprint()


KEY_TOO_LONG = bytes(limits.KEY_BYTES_MAX + 1)
NAME_TOO_LONG = bytes(limits.QUEUE_NAME_BYTES_MAX + 1)
BAD_NUMBERS = (None, True, -1, 2**64 - 1, b"", 1.0)
MALFORMED: list[Any] = [
    (),
    ITEMS,
    ended(*ITEMS[1:]),
    ended(SHARD, *ITEMS),
    (*ended(*ITEMS), (frozen.END, 1)),
    (*ended(*ITEMS), READY),
    (*ended(*ITEMS), *ended(*ITEMS)),
    ended(SHARD, READY),
    ended(GROUP),
    (*ITEMS, (frozen.END, len(ITEMS))),
    (*ITEMS, (frozen.END, True)),
    (*ITEMS, (frozen.END,)),
    *[with_changed(SHARD, 1, key) for key in (b"", "q", None, bytes(limits.SHARD_KEY_BYTES_MAX + 1))],
    *[with_changed(SHARD, 2, settings) for settings in ((), None, SETTINGS[1:], (*SETTINGS[:5], None), (-1,) * 6)],
    *[with_changed(SHARD, 3, last) for last in (*BAD_NUMBERS, 0, 8)],
    *[with_changed(DEDUP, 1, dedup_id) for dedup_id in (b"", "x", None, KEY_TOO_LONG)],
    *[with_changed(DEDUP, 2, number) for number in (*BAD_NUMBERS, 0, 10)],
    *[with_changed(DEDUP, 3, until_ms) for until_ms in BAD_NUMBERS],
    with_more(MESSAGES[0], DEDUP),
    with_more(READY, DEDUP),
    with_more(READY, MESSAGES[0]),
    with_more(GROUP, MESSAGES[0]),
    *[with_changed(MESSAGES[0], 1, number) for number in (*BAD_NUMBERS, 0, 2, 10)],
    *[with_changed(MESSAGES[0], 2, payload) for payload in (b"", "p", None, 5)],
    *[with_changed(MESSAGES[0], 3, key) for key in ("k", None, KEY_TOO_LONG, b"k", b"other")],
    *[with_changed(MESSAGES[0], place, at_ms) for place in (4, 5) for at_ms in BAD_NUMBERS],
    *[with_changed(GROUP, 1, name) for name in (b"", "g", None, NAME_TOO_LONG)],
    *[with_changed(GROUP, place, count) for place in (2, 3) for count in BAD_NUMBERS],
    (*ended(*ITEMS, GROUP),),
    ended(*ITEMS, (frozen.GROUP, b"other", 0, 0), (frozen.READY, (99,))),
    *[with_changed(READY, 1, numbers) for numbers in (None, 7, (1, 7, 2), (1, 1, 2, 7), (1, 2), (1, 2, 7, 99))],
    *[with_changed(READY, 1, numbers) for numbers in ((1, 2, 7, "8"), (1, 2, 5, 7), (1, 2, 7, 8), (1, 2, 3, 7))],
    with_changed(READY, 1, (1, 2, 6, 7)),
    with_more(DELAYED, READY),
    *[with_changed(DELAYED, 1, numbers) for numbers in (None, (1,), (1, 3), (2, 3, 1, 4), (1, 4, 1, 3))],
    *[with_changed(DELAYED, 1, (1_500, 3, due_ms, 4)) for due_ms in (*BAD_NUMBERS, 0)],
    *[with_changed(LANE, 1, key) for key in (b"", "k", None, b"other", KEY_TOO_LONG)],
    *[with_changed(LANE, 2, numbers) for numbers in (None, (8,), (8, 9, 9), (8, 9, 1), (8, 9, 7), (8, 99))],
    with_more(WAITS, (frozen.LANE, b"empty", ())),
    ended(*(each for each in ITEMS if each is not LANE)),
    *[with_changed(item, 1, number) for item in (WAITS, HELD, DEAD) for number in (None, 0, 99, "1")],
    *[with_changed(item, 2, place) for item in (WAITS, HELD, DEAD) for place in (None, 3, -1, "0")],
    with_changed(WAITS, 2, 1),
    with_changed(WAITS, 2, 2),
    with_changed(HELD, 2, 0),
    with_changed(HELD, 1, 1),
    with_changed(HELD, 3, (0, 1, 0, 0)),
    with_changed(HELD, 4, (b"", b"Ada", 1)),
    with_changed(HELD, 4, (*ADA, 0)),
    with_changed(DEAD, 2, 0),
    with_more(DEAD, (frozen.READY, (6,))),
    with_more(WAITS, (frozen.DELIVERY, 8, 0, (3, 1, 1, 0), WHO, ())),
    *[with_more(FINISHED, item) for item in (WAITS, HELD, DEAD)],
    with_more(FINISHED, (frozen.READY, (6,))),
    with_more(WAITS, (frozen.READY, (8,))),
    *[with_changed(WAITS, 3, counts) for counts in (None, (), (3, 1, 1), *((bad, 1, 1, 0) for bad in BAD_NUMBERS))],
    *[with_changed(WAITS, 4, who) for who in (None, (), ADA, (b"short", b"", 1), (ADA[0], "", 1))],
    with_changed(WAITS, 4, (ADA[0], NAME_TOO_LONG, 1)),
    *[with_changed(WAITS, 5, failures) for failures in (None, 7, (7,), ((),), (FAILURE,) * (limits.FAILURES_MAX + 1))],
    *[with_changed(WAITS, 5, ((who, 0, b"", 1),)) for who in (None, "Ada", NAME_TOO_LONG)],
    *[with_changed(WAITS, 5, ((b"", cause, b"", 1),)) for cause in (None, True, -1, 4, b"")],
    *[with_changed(WAITS, 5, ((b"", 0, text, 1),)) for text in (None, "no", bytes(limits.REASON_BYTES_MAX + 1))],
    *[with_changed(WAITS, 5, ((b"", 0, b"", at_ms),)) for at_ms in BAD_NUMBERS],
    *[with_changed(FINISHED, 1, numbers) for numbers in (None, (11,), (0, 6), (11, -1), (11, 6, 11, 6), ("11", 6))],
]  # fmt: skip


@pytest.mark.parametrize("items", MALFORMED)
def test_what_is_no_snapshot_is_refused_and_leaves_no_trace(items: Any) -> None:
    footprint = Footprint()
    with pytest.raises((ValueError, TypeError)):
        build(items, footprint)
    assert footprint == Footprint()


@pytest.mark.parametrize("place", range(len(ITEMS) + 1))
def test_no_item_may_be_missing_or_come_twice(place: int) -> None:
    items = ended(*ITEMS)
    for changed in (items[:place] + items[place + 1 :], items[: place + 1] + items[place:], items[:place]):
        footprint = Footprint()
        with pytest.raises((ValueError, TypeError)):
            build(changed, footprint)
        assert footprint == Footprint()


@pytest.mark.parametrize("shards", [0, 2])
def test_no_shard_may_be_missing_or_too_many(shards: int) -> None:
    with pytest.raises(ValueError, match="shards"):
        build(ended(*ITEMS), Footprint(), shards)


def test_there_are_only_so_many_groups_in_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUPS_MAX", 1)
    with pytest.raises(ValueError, match="group"):
        build(ended(*ITEMS, (frozen.GROUP, b"other", 0, 0)), Footprint())
