"""An engine that is taken apart and put together at any point of its log goes on like one that never was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimmal.store import snapshot
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.types import Entry
from gimmal.wire import commands, limits
from gimmal.wire import queue_commands as queue
from gimmal.wire.codec import pack_tree, unpack_tree

KEYS = st.sampled_from([b"a", b"b", b"c", b"aa", b"\x00", b"\xff" * 30])
VALUES = st.sampled_from([b"\x01", b"\xa4text", b"\xc4\x50" + bytes(80)])
TTLS_MS = st.sampled_from([0, 0, 1, 3, 20])
COMMANDS = st.one_of(
    st.tuples(
        st.just(commands.SET),
        KEYS,
        VALUES,
        TTLS_MS,
        st.sampled_from([0, 0, commands.NX, commands.XX, commands.KEEP_TTL]),
        st.none() | st.integers(0, 9),
    ),
    st.tuples(
        st.just(commands.SET_MANY),
        st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3).map(lambda pairs: tuple(sum(pairs, ()))),
        TTLS_MS,
    ),
    st.tuples(st.sampled_from([commands.DELETE, commands.PERSIST]), KEYS),
    st.tuples(st.just(commands.DELETE_MANY), st.lists(KEYS, min_size=1, max_size=3).map(tuple)),
    st.tuples(st.just(commands.SET_TTL), KEYS, st.integers(1, 20)),
    st.tuples(st.just(commands.INCR), KEYS, st.sampled_from([1, -5, 2**63 - 1])),
    st.tuples(st.sampled_from([commands.EXPIRE, commands.EVICT]), KEYS, st.integers(1, 30)),
    st.sampled_from([(commands.OPEN_SESSION,), (commands.OPEN_SESSION,), (commands.NOOP,)]),
    st.tuples(st.just(commands.CLOSE_SESSION), st.integers(1, 12), st.integers(0, 9)),
)
REFUSED = st.just((commands.INCR, b"text", 1))
ENTRIES = st.builds(
    lambda step_ms, session, number, floor, command: (1, step_ms, session, number, floor, command),
    st.sampled_from([0, 0, 1, 10]),
    st.sampled_from([0, 0, 1, 1, 1, 2, 2, 3, 7]),
    st.integers(1, 12),
    st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5, 8]),
    COMMANDS | REFUSED,
)
LOGS = st.lists(ENTRIES, min_size=1, max_size=60)

WHO = (b"c" * 16, b"Ada")
DELIVERIES = st.lists(st.tuples(st.integers(3, 14), st.integers(4, 20)), min_size=1, max_size=4).map(tuple)
QUEUE_COMMANDS = st.one_of(
    st.tuples(
        st.just(queue.PRODUCE),
        st.just(b"q"),
        st.sampled_from([0, 0, 5]),
        st.lists(
            st.tuples(VALUES, st.sampled_from([b"", b"k"]), st.sampled_from([b"", b"x"])), min_size=1, max_size=4
        ).map(tuple),
    ),
    st.tuples(
        st.just(queue.GRANT),
        st.just(b"q"),
        st.sampled_from([b"default", b"g"]),
        st.just(WHO),
        st.integers(1, 9),
        st.tuples(st.integers(1, 4), st.just(0)),
    ),
    st.tuples(st.just(queue.ACK), st.just(b"q"), st.just(b"default"), DELIVERIES),
    st.tuples(
        st.just(queue.NACK),
        st.just(b"q"),
        st.just(b"default"),
        DELIVERIES,
        st.sampled_from([(True, 0), (True, 5), (False, None)]),
        st.just(b"no"),
    ),
    st.just((queue.VANISH, b"q", WHO[0], False)),
    st.just((queue.REDRIVE, b"q", b"default", 1)),
    st.just((queue.PURGE, b"q", b"default", 1)),
)
QUEUE_LOGS = st.lists(QUEUE_COMMANDS, min_size=1, max_size=30).map(
    lambda written: [
        (1, 1, 0, 0, 0, command)
        for command in [(queue.DECLARE, b"q", (None,) * 6), (queue.CREATE_GROUP, b"q", b"g"), *written]
    ]
)


def stamped(log: list[Entry]) -> list[Entry]:
    """The log with times that only rise; the first entries open two sessions and write a text."""
    opening: Entry = (1, 0, 0, 0, 0, (commands.OPEN_SESSION,))
    text: Entry = (1, 0, 0, 0, 0, (commands.SET, b"text", b"\xa4text", 0, 0, None))
    entries: list[Entry] = []
    now_ms = 1_000
    for epoch, step_ms, session, number, floor, command in (opening, opening, text, *log):
        now_ms += step_ms
        entries.append((epoch, now_ms, session, number, floor, command))
    return entries


def copy_of(engine: Engine, bytes_max: int, footprint: Footprint) -> Engine:
    return Engine.from_chunks(footprint, trees_of(engine.freeze(), bytes_max))


def trees_of(frozen: snapshot.Frozen, bytes_max: int) -> list[Any]:
    return [unpack_tree(pack_tree(tree)) for tree in snapshot.chunks(frozen, bytes_max)]


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SESSIONS_MAX", 4)
        patch.setattr(limits, "SESSION_REPLIES_MAX", 4)
        patch.setattr(limits, "SESSION_REPLY_BYTES_MAX", 80)
        patch.setattr(limits, "SCAN_EXAMINED_MAX", 3)
        yield


@given(LOGS, st.lists(st.integers(0, 61), max_size=5), st.sampled_from([1, 100, 300, 10_000]))
def test_two_replicas_stay_equal_though_one_is_restored(log: list[Entry], points: list[int], bytes_max: int) -> None:
    footprint, copied_footprint = Footprint(), Footprint()
    engine, copied = Engine(footprint), Engine(copied_footprint)
    for seq, entry in enumerate(stamped(log), 1):
        if seq in points:
            restored = copy_of(copied, bytes_max, copied_footprint)
            copied.discard()
            copied = restored
        result = engine.apply(seq, entry)
        again = copied.apply(seq, entry)
        assert again == result
        assert type(again) is type(result)
        assert copied.digest() == engine.digest()
        for position in (0, 1, 2, 5):
            scan = (commands.SCAN, b"", position, max(0, engine.keys.removals - position))
            assert copied.read(entry[1], scan) == engine.read(entry[1], scan)
    assert copied.keys.expires_at_ms == engine.keys.expires_at_ms
    assert copied_footprint == footprint
    copied.discard()
    assert copied_footprint == Footprint()


@given(LOGS, st.integers(1, 60), st.sampled_from([1, 100, 10_000]))
def test_what_is_frozen_is_the_state_of_its_moment(log: list[Entry], moment: int, bytes_max: int) -> None:
    entries = stamped(log)
    engine = Engine(Footprint())
    frozen, digest = engine.freeze(), engine.digest()
    for seq, entry in enumerate(entries, 1):
        engine.apply(seq, entry)
        if seq == moment:
            frozen, digest = engine.freeze(), engine.digest()
    restored = Engine.from_chunks(Footprint(), trees_of(frozen, bytes_max))
    assert restored.digest() == digest
    if moment < len(entries):
        for seq, entry in enumerate(entries[moment:], moment + 1):
            restored.apply(seq, entry)
        assert restored.digest() == engine.digest()


@given(LOGS, LOGS)
def test_digests_are_equal_only_if_states_are(log: list[Entry], other_log: list[Entry]) -> None:
    states = []
    for entries in (stamped(log), stamped(other_log)):
        engine = Engine(Footprint())
        for seq, entry in enumerate(entries, 1):
            engine.apply(seq, entry)
        states.append((list(map(pack_tree, trees_of(engine.freeze(), 10**6))), engine.digest()))
    (trees, digest), (other_trees, other_digest) = states
    assert (digest == other_digest) is (trees == other_trees)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1, 5)
    | st.integers(2**63, 2**64 - 1)
    | st.binary(max_size=3)
    | st.text(max_size=2)
)
RUBBISH = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=6)


def damaged(tree: Any, draw: Any) -> Any:
    """The tree with one of its branches or leaves replaced, dropped or doubled."""
    if type(tree) is not tuple or not tree or draw(st.integers(0, 3)) == 0:
        return draw(RUBBISH)
    place = draw(st.integers(0, len(tree) - 1))
    change = draw(st.sampled_from(["within", "within", "within", "drop", "double"]))
    middle = {"drop": (), "double": (tree[place], tree[place])}.get(change)
    return (*tree[:place], *((damaged(tree[place], draw),) if middle is None else middle), *tree[place + 1 :])


@given(LOGS, st.sampled_from([1, 100, 10_000]), st.data())
def test_damaged_chunks_are_refused_or_are_another_state(log: list[Entry], bytes_max: int, data: st.DataObject) -> None:
    engine, footprint = Engine(Footprint()), Footprint()
    for seq, entry in enumerate(stamped(log), 1):
        engine.apply(seq, entry)
    trees = damaged(tuple(trees_of(engine.freeze(), bytes_max)), data.draw)
    try:
        restored = Engine.from_chunks(footprint, trees)
    except (ValueError, TypeError):
        assert footprint == Footprint()
    else:
        restored.apply(1_000, (1, 1_000, 1, 5, 1, (commands.SET_MANY, (b"a", b"\x01", b"b", b"\x01"), 0)))
        copy = copy_of(restored, bytes_max, footprint)
        assert copy.digest() == restored.digest()
        restored.discard()
        copy.discard()
        assert footprint == Footprint()


def consume_all(engine: Engine) -> None:
    """Settle whatever a queue holds, as far as that goes."""
    seq = 10_000
    for shard, state in engine.queues.shards.items():
        for group in state.groups:
            for command in (
                (queue.VANISH, shard, WHO[0], True),
                (queue.REDRIVE, shard, group, 100),
                *((queue.GRANT, shard, group, WHO, 100 + number, (100, 0)) for number in range(40)),
            ):
                seq += 1
                result = engine.apply(seq, (1, limits.INTEGER_MAX, 0, 0, 0, command))
                if command[0] == queue.GRANT and result:
                    ack = (queue.ACK, shard, group, result)
                    assert set(engine.apply(seq + 100, (1, limits.INTEGER_MAX, 0, 0, 0, ack))) == {0}
            engine.read(limits.INTEGER_MAX, (queue.QUEUE_STATS, shard, group))


@given(QUEUE_LOGS, st.sampled_from([1, 100, 10_000]), st.data())
def test_damaged_queues_are_refused_or_are_another_state(log: list[Entry], bytes_max: int, data: st.DataObject) -> None:
    """What was let in goes on without harm, however odd it is."""
    engine, footprint = Engine(Footprint()), Footprint()
    for seq, entry in enumerate(stamped(log), 1):
        engine.apply(seq, entry)
    trees = trees_of(engine.freeze(), bytes_max)
    chunk = data.draw(st.integers(0, len(trees) - 1))
    position, items = trees[chunk]
    place = data.draw(st.integers(0, len(items) - 1))
    trees[chunk] = position, (*items[:place], damaged(items[place], data.draw), *items[place + 1 :])
    try:
        restored = Engine.from_chunks(footprint, trees)
    except (ValueError, TypeError):
        assert footprint == Footprint()
    else:
        copy = copy_of(restored, bytes_max, footprint)
        assert copy.digest() == restored.digest()
        for each in (copy, restored):
            consume_all(each)
        assert copy.digest() == restored.digest()
        restored.discard()
        copy.discard()
        assert footprint == Footprint()
