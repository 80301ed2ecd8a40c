"""A state that is frozen, taken apart and put together: what it holds, what it costs, what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gimmal.store import snapshot
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import VERSION_BYTES
from gimmal.wire import commands, limits, queue_commands
from gimmal.wire.codec import pack_tree, pack_value, unpack_tree
from gimmal.wire.messages import Refusal
from tests.unit.test_sessions import Partition, refusal_of

ROOT = Path(__file__).resolve().parents[2]
ONE, TEXT = pack_value(1), pack_value("text")
HEAD, RECORD, SESSION = snapshot.HEAD, snapshot.RECORD, snapshot.SESSION


def lived_in() -> Partition:
    """A partition with a bit of everything in it."""
    partition = Partition()
    for key, ttl_ms in ((b"a", 0), (b"b", 50), (b"c", 0), (b"d", 70)):
        partition.apply(commands.SET, key, TEXT, ttl_ms, 0, None)
    partition.apply(commands.DELETE, b"a")
    partition.apply(commands.SET, b"a", ONE, 0, 0, None)
    session = partition.open()
    partition.open()
    partition.apply(commands.INCR, b"c", 1, session=session, number=1, floor=1)
    partition.apply(commands.INCR, b"a", 5, session=session, number=2, floor=1)
    partition.apply(commands.DELETE, b"d", session=session, number=4, floor=1)
    return partition


def trees_of(engine: Engine, bytes_max: int = 1_000) -> list[Any]:
    return [unpack_tree(pack_tree(tree)) for tree in snapshot.chunks(engine.freeze(), bytes_max)]


@pytest.mark.parametrize("bytes_max", [1, 60, 100, 10_000])
def test_a_copy_goes_on_like_the_original(bytes_max: int) -> None:
    original = lived_in()
    copy = Partition()
    copy.seq = original.seq
    copy.engine = Engine.from_chunks(copy.footprint, trees_of(original.engine, bytes_max))
    assert copy.footprint == original.footprint
    assert list(copy.engine.keys.records.items()) == list(original.engine.keys.records.items())
    assert copy.engine.keys.expires_at_ms == original.engine.keys.expires_at_ms
    assert copy.engine.digest() == original.engine.digest()
    for partition in (original, copy):
        assert partition.engine.read(1_000, (commands.SCAN, b"", 2, 1)) == (-1, 2, (b"c", b"a"))
        assert partition.apply(commands.INCR, b"a", 5, session=7, number=2) == 6
        assert refusal_of(partition.apply(commands.INCR, b"c", 1, session=7, number=1)) is Refusal.NOT_AN_INTEGER
        assert partition.apply(commands.DELETE, b"d", session=7, number=4) is True
        assert partition.apply(commands.INCR, b"a", 5, session=7, number=3, floor=3) == 11
        partition.now_ms += 50
        assert partition.apply(commands.PERSIST, b"b") is False
    assert copy.engine.digest() == original.engine.digest()
    assert copy.footprint == original.footprint


def test_a_state_of_nothing_is_one_chunk_too() -> None:
    (tree,) = trees_of(Engine(Footprint()))
    assert tree == (0, ((HEAD, 0, 0, 0, 0),))
    assert Engine.from_chunks(Footprint(), [tree]).digest() == Engine(Footprint()).digest()


def test_what_is_frozen_stays_as_it_was() -> None:
    partition = lived_in()
    before, frozen = trees_of(partition.engine), partition.engine.freeze()
    partition.apply(commands.SET, b"a", TEXT, 10, 0, None)
    partition.apply(commands.DELETE, b"b")
    partition.apply(commands.SET, b"new", TEXT, 10, 0, None)
    partition.apply(commands.INCR, b"c", 1, session=7, number=9, floor=9)
    partition.apply(commands.CLOSE_SESSION, 8, 0)
    partition.open()
    assert list(snapshot.chunks(frozen, 1_000)) == before
    assert trees_of(partition.engine) != before


def test_a_copy_of_a_full_window_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition()
    session = partition.open()
    partition.apply(commands.SET, b"k", TEXT, 0, 0, None)
    refused = [partition.incr(session, number) for number in (1, 2)]
    monkeypatch.setattr(limits, "SESSION_REPLY_BYTES_MAX", sum(len(each.text) for each in refused))
    partition.engine = Engine.from_chunks(Footprint(), trees_of(partition.engine))
    assert refusal_of(partition.incr(session, 3)) is Refusal.OVERLOADED
    assert partition.incr(session, 1) == refused[0]
    assert refusal_of(partition.incr(session, 3, floor=2)) is Refusal.NOT_AN_INTEGER


def test_lists_of_numbers_among_the_replies_count_in_a_chunk() -> None:
    partition = Partition()
    partition.apply(queue_commands.DECLARE, b"q", (None,) * 6)
    partition.now_ms = 2**40
    partition.seq = 2**40
    partition.apply(queue_commands.DECLARE, b"far", (None,) * 6)
    for _ in range(3):
        session = partition.open()
        produce = (queue_commands.PRODUCE, b"far", 0, ((b"p", b"", b""),) * 500)
        numbers = partition.apply(*produce, session=session, number=1, floor=1)
        assert partition.apply(*produce, session=session, number=1, floor=1) == numbers
    copy = Engine.from_chunks(Footprint(), trees_of(partition.engine))
    assert copy.digest() == partition.engine.digest()
    assert copy.sessions.windows[session].replies == {1: numbers}
    sizes = [len(pack_tree(tree)) for tree in trees_of(partition.engine, 6_000)]
    assert max(sizes) <= 6_000


@pytest.mark.parametrize("bytes_max", [1, 200, 1_000, 64 * 1024])
def test_chunks_have_about_the_size_asked_for(bytes_max: int) -> None:
    partition = Partition()
    for number in range(200):
        partition.apply(commands.SET, b"%0*d" % (1 + number % 50, number), bytes(1 + number % 99), number % 2, 0, None)
    session = partition.open()
    for number in range(1, 100):
        partition.apply(commands.INCR, b"0", 2**62, session=session, number=number, floor=1)
    trees = trees_of(partition.engine, bytes_max)
    sizes = [len(pack_tree(tree)) for tree in trees]
    assert all(size <= bytes_max or len(items) == 1 for size, (_, items) in zip(sizes, trees, strict=True))
    if bytes_max == 1_000:
        assert sum(sizes) / len(sizes) > 500, "and not much less"
    if bytes_max == 1:
        assert len(sizes) == 1 + 200 + 1


def test_a_large_record_travels_alone() -> None:
    partition = lived_in()
    partition.apply(commands.SET, b"large", bytes(5_000), 0, 0, None)
    assert [len(items) for _, items in trees_of(partition.engine, 400)] == [4, 1, 2]


def test_discarding_leaves_nothing_behind() -> None:
    footprint = Footprint()
    kept, dropped = Partition(), lived_in()
    kept.engine = Engine(footprint)
    kept.apply(commands.SET, b"k", TEXT, 5, 0, None)
    alone = Footprint(footprint.entries, footprint.size_bytes)
    dropped.engine = Engine.from_chunks(footprint, trees_of(dropped.engine))
    assert footprint.entries == alone.entries + 3
    for _ in range(2):
        dropped.engine.discard()
        assert footprint == alone
    assert dropped.engine.digest() == Engine(Footprint()).digest()


CHANGES: dict[str, tuple[Any, ...]] = {
    "a value": (commands.SET, b"c", ONE, 0, 0, None),
    "a version": (commands.SET, b"c", TEXT, 0, 0, None),
    "an expiry": (commands.SET_TTL, b"c", 1),
    "no expiry": (commands.PERSIST, b"b"),
    "a key less": (commands.DELETE, b"c"),
    "a session": (commands.OPEN_SESSION,),
    "a session less": (commands.CLOSE_SESSION, 8, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_sees_every_difference(change: str) -> None:
    partition = lived_in()
    before = partition.engine.digest()
    assert len(before) == 8
    assert partition.engine.digest() == before == lived_in().engine.digest()
    assert partition.apply(*CHANGES[change])
    assert partition.engine.digest() != before


@pytest.mark.parametrize(
    "entry",
    [
        {"number": 5, "floor": 1},
        {"number": 1, "floor": 1, "later": True},
        {"number": 9, "floor": 5},
    ],
)
def test_the_digest_sees_windows(entry: dict[str, int]) -> None:
    partition, other = lived_in(), lived_in()
    partition.now_ms += entry.pop("later", False)
    partition.apply(commands.PERSIST, b"a", session=7, **entry)
    assert partition.engine.digest() != other.engine.digest()


def test_the_digest_sees_order_and_removals() -> None:
    engines = [Engine(Footprint()) for _ in range(3)]
    for engine, order in zip(engines, ((b"a", b"b"), (b"b", b"a"), (b"a", b"b")), strict=True):
        for key in order:
            engine.apply(5, (1, 1_000, 0, 0, 0, (commands.SET, key, ONE, 0, 0, None)))
    assert engines[0].digest() != engines[1].digest()
    assert engines[0].digest() == engines[2].digest()
    engines[2].keys.removals += 1
    assert engines[0].digest() != engines[2].digest()


def test_the_digest_does_not_see_what_nobody_can() -> None:
    """Two replicas of which one was restored keep another number of replies below the floor."""
    partition = lived_in()
    partition.apply(commands.PERSIST, b"a", session=7, number=5, floor=3)
    copy = Engine.from_chunks(Footprint(), trees_of(partition.engine))
    assert len(copy.sessions.windows[7].replies) < len(partition.engine.sessions.windows[7].replies)
    assert copy.digest() == partition.engine.digest()


def test_the_digest_is_the_same_in_every_process() -> None:
    program = "from tests.unit.test_snapshot import lived_in; print(lived_in().engine.digest().hex())"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {lived_in().engine.digest().hex()}


# -- what comes over the wire ---------------------------------------------------------

GOOD_HEAD = (HEAD, 0, 1, 1, 0)
GOOD_RECORD = (RECORD, b"k", bytes(VERSION_BYTES) + ONE, 0)
GOOD_SESSION = (SESSION, 3, 1, 2, 1_000, ((1, 0, True), (2, 4, b"text")))


def with_record(place: int, value: Any) -> Any:
    return (0, (GOOD_HEAD, (*GOOD_RECORD[:place], value, *GOOD_RECORD[place + 1 :]), GOOD_SESSION))


def with_session(place: int, value: Any) -> Any:
    return (0, (GOOD_HEAD, GOOD_RECORD, (*GOOD_SESSION[:place], value, *GOOD_SESSION[place + 1 :])))


MALFORMED: list[list[Any]] = [
    [],
    [None],
    [7],
    [()],
    [(0,)],
    ["01"],
    [(0, None)],
    [(0, ())],
    [(0, (None,))],
    [(0, ((),))],
    [(0, ((9,),))],
    [(0, ((b"",),))],
    [(0, (((),),))],
    [(True, (GOOD_HEAD, GOOD_RECORD, GOOD_SESSION))],
    [(0, ((HEAD, -1, 0, 0, 0),))],
    [(0, ((HEAD, 0, 0, 0, -1),))],
    [(0, ((HEAD, 0, 0, 0, 1),))],
    [(0, ((HEAD, 0, 0, limits.SESSIONS_MAX + 1, 0),))],
    [(0, ((HEAD, 0, 0, 0),))],
    [(0, (GOOD_RECORD, GOOD_HEAD, GOOD_SESSION))],
    [(0, (GOOD_RECORD, (HEAD, 0, 0, 0, 0)))],
    [(0, (GOOD_HEAD, GOOD_HEAD, GOOD_RECORD, GOOD_SESSION))],
    [(0, (GOOD_HEAD, GOOD_RECORD, GOOD_RECORD, GOOD_SESSION))],
    [(0, (GOOD_HEAD, GOOD_RECORD, GOOD_SESSION, GOOD_SESSION))],
    [(0, (GOOD_HEAD, GOOD_RECORD))],
    [(0, (GOOD_HEAD, GOOD_SESSION))],
    [(0, (GOOD_HEAD,)), (0, (GOOD_RECORD, GOOD_SESSION))],
    [(0, (GOOD_HEAD,)), (2, (GOOD_RECORD, GOOD_SESSION))],
    [with_record(0, True)],
    *[[with_record(1, key)] for key in (b"", "k", 5, None, bytes(limits.KEY_BYTES_MAX + 1))],
    *[[with_record(2, record)] for record in (bytes(VERSION_BYTES), b"", "text", None)],
    *[[with_record(3, at_ms)] for at_ms in (-1, None, True, 2**64 - 1)],
    *[[with_session(1, session)] for session in (0, -1, None, b"", 2**63, True)],
    *[[with_session(2, floor)] for floor in (-1, None, 2)],
    *[[with_session(3, highest)] for highest in (-1, None, 1)],
    *[[with_session(4, last_ms)] for last_ms in (-1, None)],
    *[[with_session(5, replies)] for replies in (None, b"", 7, (7,), ((1,),), ((1, 0),), ((1, 0, True), (1, 0, True)))],
    *[
        [with_session(5, ((1, *reply),))]
        for reply in ((0, "text"), (0, ()), (0, (True,)), (0, (-1,)), (0, ((1,),)), (4, None), (99, b""), (-1, b""))
    ],
    *[[with_session(5, ((1, *reply),))] for reply in ((4, b"\xff"), (4, bytes(limits.TEXT_BYTES_MAX + 1)))],
    [with_session(5, tuple((1 + number, 0, True) for number in range(limits.SESSION_REPLIES_MAX + 2)))],
]


def test_the_good_parts_are_good() -> None:
    footprint = Footprint()
    engine = Engine.from_chunks(footprint, [(0, (GOOD_HEAD,)), (1, (GOOD_RECORD, GOOD_SESSION))])
    assert footprint.entries == 1
    assert trees_of(engine) == [(0, (GOOD_HEAD, GOOD_RECORD, GOOD_SESSION))]


@pytest.mark.parametrize("trees", MALFORMED)
def test_what_is_no_snapshot_is_refused_and_leaves_no_trace(trees: list[Any]) -> None:
    footprint = Footprint()
    with pytest.raises((ValueError, TypeError)):
        Engine.from_chunks(footprint, trees)
    assert footprint == Footprint()
