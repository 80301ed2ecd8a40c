"""What a node admits and what it evicts: both policies, exactly."""

import gc
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimmal.leader.memory import Memory, MemoryLimits, growth
from gimmal.store.engine import Engine
from gimmal.store.footprint import EXPIRY_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Footprint
from gimmal.store.kv import Refused, record_bytes
from gimmal.store.queues.shard import dedup_bytes, message_bytes
from gimmal.wire import commands, queue_commands
from gimmal.wire.codec import pack_integer

ONE = b"\x01"
EACH = record_bytes(b"k", b"\0" * 8 + ONE)  # a key of one byte with a value of one byte


class Leader:
    """Some partitions under one limit, wired as a node wires them."""

    def __init__(self, limits: MemoryLimits, partitions: int = 3) -> None:
        self.footprint = Footprint()
        self.engines = {number: Engine(self.footprint) for number in range(partitions)}
        led = {number: engine.keys for number, engine in self.engines.items()}
        self.memory = Memory(limits, self.footprint, led)
        self.seq = 0
        self.evicted: list[bytes] = []

    def home(self, key: bytes) -> int:
        return key[0] % len(self.engines)

    def write(self, *command: Any) -> Any:
        """Return the result, or why it was refused, as a str."""
        partition = self.home(commands.keys_of(command)[0])
        refused = self.memory.why_refused(self.engines[partition].keys, command)
        if refused:
            return refused
        result = self.commit(partition, command)
        if self.memory.tracks_use:
            for victim_partition, evict in self.memory.victims():
                assert self.commit(victim_partition, evict) is True
                self.evicted.append(evict[1])
        return result

    def commit(self, partition: int, command: Any) -> Any:
        self.seq += 1
        result = self.engines[partition].apply(self.seq, (1, 1_000, 0, 0, 0, command))
        if self.memory.tracks_use:
            self.memory.on_committed(partition, command)
        return result

    def set(self, key: bytes, value: bytes = ONE, ttl: int = 0) -> Any:
        return self.write(commands.SET, key, value, ttl, 0, None)

    def produce(self, queue: bytes, *payloads: bytes, dedup_id: bytes = b"") -> Any:
        self.commit(self.home(queue), (queue_commands.DECLARE, queue, (None,) * 6))
        return self.write(queue_commands.PRODUCE, queue, 0, tuple((payload, b"", dedup_id) for payload in payloads))

    def get(self, *keys: bytes) -> None:
        self.memory.on_read((commands.GET_MANY, keys) if len(keys) > 1 else (commands.GET, keys[0]))

    def held(self) -> list[bytes]:
        return sorted(key for engine in self.engines.values() for key in engine.keys.records)

    def state(self) -> object:
        return [(dict(engine.keys.records), dict(engine.keys.expires_at_ms)) for engine in self.engines.values()]


def refuse(entries: int | None = None, size_bytes: int | None = None) -> Leader:
    return Leader(MemoryLimits(entries, size_bytes, "refuse"))


def lru(entries: int | None = None, size_bytes: int | None = None) -> Leader:
    return Leader(MemoryLimits(entries, size_bytes, "lru"))


# -- refuse ------------------------------------------------------------------------------


def test_refuse_counts_entries() -> None:
    leader = refuse(entries=2)
    assert leader.set(b"a") is leader.set(b"b") is True
    before = leader.state()
    refused = leader.set(b"c")
    assert "2 of at most 2 entries" in refused
    assert isinstance(leader.write(commands.INCR, b"c", 1), str)
    assert isinstance(leader.write(commands.SET_MANY, (b"a", ONE, b"d", ONE), 0), str)
    assert leader.state() == before
    assert leader.set(b"a", b"\x02") is True, "a key that is there takes no new entry"
    assert leader.write(commands.INCR, b"b", 1) == 2
    assert leader.write(commands.SET_TTL, b"a", 50) is True
    assert leader.write(commands.DELETE, b"a") is True
    assert leader.set(b"c") is True


def test_refuse_counts_bytes_to_the_last() -> None:
    leader = refuse(size_bytes=2 * EACH + 3)
    assert leader.set(b"a") is leader.set(b"b") is True
    refused = leader.set(b"a", b"\xa4four")
    assert f"{2 * EACH} of {2 * EACH + 3}" in refused
    assert leader.set(b"a", b"\xa3abc") is True
    assert leader.footprint.size_bytes == 2 * EACH + 3
    assert isinstance(leader.set(b"b", b"\xa1a"), str)
    assert isinstance(leader.write(commands.SET_TTL, b"a", 5), str)
    assert isinstance(leader.set(b"b", ttl=5), str)
    assert leader.set(b"b", b"\x02") is True, "what does not grow is never refused"


def test_refuse_counts_a_counter_that_grows() -> None:
    leader = refuse(size_bytes=EACH)
    assert leader.write(commands.SET, b"n", pack_integer(100), 0, 0, None) is True
    assert leader.write(commands.INCR, b"n", 27) == 127
    assert isinstance(leader.write(commands.INCR, b"n", 1), str), "128 takes a byte more"
    assert leader.write(commands.INCR, b"n", -100) == 27
    assert isinstance(leader.write(commands.INCR, b"n", 2**63 - 1), Refused), "out of range, not out of memory"


def test_set_many_counts_each_key_once() -> None:
    leader = refuse(entries=2)
    assert leader.write(commands.SET_MANY, (b"a", ONE, b"d", ONE, b"a", ONE), 0) == 3
    leader = refuse(size_bytes=2 * EACH)
    assert leader.write(commands.SET_MANY, (b"a", ONE, b"d", ONE, b"a", ONE), 0) == 3


COMMANDS = st.one_of(
    st.tuples(
        st.just(commands.SET),
        st.sampled_from([b"a", b"b", b"d"]),
        st.binary(min_size=1, max_size=90),
        st.sampled_from([0, 0, 9]),
        st.integers(0, 7),
        st.none(),
    ),
    st.tuples(
        st.just(commands.SET_MANY),
        st.lists(st.tuples(st.sampled_from([b"a", b"d"]), st.binary(min_size=1, max_size=60)), min_size=1).map(
            lambda pairs: tuple(part for pair in pairs for part in pair)
        ),
        st.sampled_from([0, 9]),
    ),
    st.tuples(st.just(commands.INCR), st.sampled_from([b"a", b"b", b"n"]), st.integers(-(2**40), 2**40)),
    st.tuples(st.just(commands.SET_TTL), st.sampled_from([b"a", b"b", b"n"]), st.just(9)),
    st.tuples(st.sampled_from([commands.DELETE, commands.PERSIST]), st.sampled_from([b"a", b"b", b"d"])),
)


@given(st.lists(COMMANDS, max_size=25), st.integers(0, 4), st.integers(0, 900))
def test_refuse_is_never_exceeded(written: list[Any], max_entries: int, max_bytes: int) -> None:
    leader = refuse(max_entries, max_bytes)
    for command in written:
        before = leader.state()
        if isinstance(leader.write(*command), str):
            assert leader.state() == before
        assert leader.footprint.entries <= max_entries
        assert leader.footprint.size_bytes <= max_bytes


@given(st.lists(COMMANDS, max_size=25))
def test_growth_is_an_upper_bound(written: list[Any]) -> None:
    leader = refuse()
    for command in written:
        keys = leader.engines[leader.home(commands.keys_of(command)[0])].keys
        entries, size_bytes = growth(keys, command)
        before = (leader.footprint.entries, leader.footprint.size_bytes)
        leader.write(*command)
        assert leader.footprint.entries - before[0] <= max(0, entries)
        assert leader.footprint.size_bytes - before[1] <= max(0, size_bytes)


# -- messages of queues --------------------------------------------------------------------

MESSAGE = message_bytes(b"p", b"")


def test_refuse_counts_messages_as_bytes_and_not_as_entries() -> None:
    leader = refuse(entries=1, size_bytes=2 * MESSAGE + EACH)
    assert len(leader.produce(b"q", b"p", b"p")) == 2
    assert leader.footprint.pinned_bytes == 2 * MESSAGE
    assert leader.set(b"a") is True
    refused = leader.produce(b"q", b"p")
    assert f"{MESSAGE} more bytes do not fit" in refused
    assert isinstance(leader.set(b"a", b"\xa1x"), str)


def test_refuse_counts_a_dedup_id() -> None:
    leader = refuse(size_bytes=MESSAGE + dedup_bytes(b"id"))
    assert isinstance(leader.produce(b"q", b"pp", dedup_id=b"id"), str)
    assert len(leader.produce(b"q", b"p", dedup_id=b"id")) == 1
    assert leader.footprint.size_bytes == MESSAGE + dedup_bytes(b"id")


def test_what_takes_messages_away_is_never_refused() -> None:
    leader = refuse(size_bytes=MESSAGE)
    (number,) = leader.produce(b"q", b"p")
    who = (bytes(16), b"Ada")
    assert leader.write(queue_commands.GRANT, b"q", b"default", who, 1, (1, 0)) == ((number, leader.seq),)
    assert leader.write(queue_commands.ACK, b"q", b"default", ((number, leader.seq),)) == (0,)
    assert leader.footprint == Footprint()


def test_lru_evicts_keys_for_messages() -> None:
    leader = lru(size_bytes=MESSAGE + 2 * EACH)
    for key in (b"a", b"b", b"c"):
        leader.set(key)
    leader.produce(b"q", b"p")
    assert leader.evicted == [b"a"]
    assert leader.held() == [b"b", b"c"]


def test_lru_never_evicts_messages() -> None:
    leader = lru(size_bytes=2 * MESSAGE + EACH)
    assert len(leader.produce(b"q", b"p", b"p")) == 2
    assert leader.set(b"a") is leader.set(b"b") is True
    assert leader.evicted == [b"a"], "beside the messages there is room for one key"
    refused = leader.produce(b"q", b"p")
    assert f"{2 * MESSAGE} of {2 * MESSAGE + EACH} are in use by messages" in refused
    assert isinstance(leader.set(b"b", b"\xa1x"), str), "it could not stay"
    assert leader.held() == [b"b"]
    assert leader.footprint.pinned_bytes == 2 * MESSAGE


def test_a_queue_of_the_name_of_a_key_is_no_use_of_that_key() -> None:
    leader = lru(entries=2)
    leader.set(b"a")
    leader.set(b"b")
    leader.produce(b"a", b"p")
    leader.memory.on_read((queue_commands.QUEUE_GROUPS, b"a"))
    leader.set(b"c")
    assert leader.evicted == [b"a"]


@given(
    st.lists(st.tuples(st.sampled_from(["set", "produce"]), st.integers(1, 400)), max_size=20),
    st.sampled_from(["refuse", "lru"]),
)
def test_messages_and_keys_never_exceed_the_memory(steps: list[tuple[str, int]], policy: Any) -> None:
    leader = Leader(MemoryLimits(None, 2_000, policy), partitions=1)
    produced = 0
    for number, (what, size) in enumerate(steps):
        if what == "set":
            leader.set(b"k%d" % number, bytes(size))
        else:
            produced += not isinstance(leader.produce(b"q", bytes(size)), str)
            assert len(leader.engines[0].queues.shards[b"q"].messages) == produced
        assert leader.footprint.size_bytes <= 2_000


# -- lru ---------------------------------------------------------------------------------


def test_lru_evicts_what_was_used_longest_ago_over_all_partitions() -> None:
    leader = lru(entries=3)
    for key in (b"a", b"b", b"c"):
        leader.set(key)
    leader.get(b"a")
    leader.set(b"d")
    assert leader.evicted == [b"b"]
    leader.get(b"c", b"a")
    leader.set(b"e")
    assert leader.evicted == [b"b", b"d"]
    assert leader.held() == [b"a", b"c", b"e"]


@pytest.mark.parametrize("code", [commands.GET, commands.EXISTS, commands.TTL])
def test_every_read_is_a_use(code: int) -> None:
    leader = lru(entries=2)
    leader.set(b"a")
    leader.set(b"b")
    leader.memory.on_read((code, b"a"))
    leader.memory.on_read((commands.SCAN, b"", 0, 0))
    leader.set(b"c")
    assert leader.evicted == [b"b"]


def test_lru_stops_as_soon_as_it_is_within_the_limits() -> None:
    leader = lru(size_bytes=4 * EACH)
    for key in (b"a", b"b", b"c", b"d"):
        leader.set(key)
    leader.set(b"e", b"\xc4\x0a" + bytes(10))
    assert leader.evicted == [b"a", b"b"], "one was too few, and two are enough"
    leader.set(b"c", b"\x02")
    assert leader.evicted == [b"a", b"b"]


def test_lru_counts_expiry() -> None:
    leader = lru(size_bytes=3 * EACH)
    for key in (b"a", b"b", b"c"):
        leader.set(key)
    leader.write(commands.SET_TTL, b"c", 10)
    assert leader.evicted == [b"a"]
    assert leader.footprint.size_bytes == 2 * EACH + EXPIRY_OVERHEAD_BYTES


def test_a_read_of_a_missing_key_is_no_use() -> None:
    leader = lru(entries=1)
    leader.get(b"ghost")
    leader.set(b"a")
    leader.set(b"b")
    assert leader.evicted == [b"a"]


def test_a_write_is_a_use() -> None:
    leader = lru(entries=2)
    for key in (b"a", b"b", b"a", b"c"):
        leader.set(key)
    assert leader.evicted == [b"b"]


def test_what_is_gone_is_not_kept_in_the_order_of_use() -> None:
    leader = lru(entries=5)
    leader.set(b"first")
    leader.write(commands.DELETE, b"first")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(5_000):
            leader.set(b"k%d" % number)
            leader.write(commands.DELETE, b"k%d" % number)
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("there", [False, True])
def test_lru_refuses_what_would_not_fit_into_an_empty_node(there: bool) -> None:
    leader = lru(size_bytes=1_000)
    leader.set(b"b")
    if there:
        assert leader.set(b"a", b"\xc4\xff" + bytes(600)) is True
    before = leader.state()
    refused = leader.set(b"a", b"\xc4\xff" + bytes(1_000))
    assert isinstance(refused, str), "it would have been evicted at once, whatever it replaces"
    assert isinstance(leader.write(commands.SET_MANY, (b"a", bytes(600), b"d", bytes(600)), 0), str)
    assert leader.state() == before
    assert leader.evicted == []


def test_lru_admits_what_just_fits() -> None:
    room = 1_000 - RECORD_OVERHEAD_BYTES - 8 - 1
    leader = lru(size_bytes=1_000)
    leader.set(b"b")
    assert isinstance(leader.set(b"a", bytes(room + 1)), str)
    assert leader.set(b"a", bytes(room)) is True
    assert leader.held() == [b"a"]
    assert leader.footprint.size_bytes == 1_000


def test_lru_refuses_more_entries_at_once_than_there_may_be() -> None:
    leader = lru(entries=2)
    leader.set(b"b")
    many = (b"a", ONE, b"d", ONE, b"g", ONE)
    assert isinstance(leader.write(commands.SET_MANY, many, 0), str)
    assert leader.write(commands.SET_MANY, many[:4], 0) == 2
    assert leader.held() == [b"a", b"d"]


@pytest.mark.parametrize(
    "limits", [MemoryLimits(), MemoryLimits(policy="lru"), MemoryLimits(5, 5_000, "refuse")], ids=str
)
def test_the_order_of_use_is_kept_only_where_it_matters(limits: MemoryLimits) -> None:
    leader = Leader(limits)
    assert not leader.memory.tracks_use
    assert leader.memory.is_limited is (limits.max_entries is not None)
    assert list(leader.memory.victims()) == []
    if not leader.memory.is_limited:
        assert leader.set(b"a", bytes(10**6)) is True


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "get", "get many", "incr", "ttl", "delete"]),
        st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
        st.integers(1, 60),
    ),
    min_size=15,  # short ones evict nothing
    max_size=60,
)


@given(STEPS, st.one_of(st.none(), st.integers(2, 4)), st.one_of(st.none(), st.integers(400, 1_000)))
def test_lru_is_exact(steps: list[tuple[str, bytes, int]], max_entries: int | None, max_bytes: int | None) -> None:
    """A list of keys, last used last, is the whole model."""
    leader = lru(max_entries, max_bytes)
    order: list[bytes] = []

    for what, key, size in steps:
        evicted_before = len(leader.evicted)
        used = [key] if key in order else []
        if what == "set":
            used = [key] if leader.set(key, bytes(size)) is True else []
        elif what == "incr":
            used = [] if isinstance(leader.write(commands.INCR, key, 1), str) else [key]
        elif what == "ttl":
            leader.write(commands.SET_TTL, key, 9)
        elif what == "get":
            leader.get(key)
        elif what == "get many":
            used += order[:1]
            leader.get(key, b"ghost", *order[:1])
        else:
            assert leader.write(commands.DELETE, key) is bool(used)
            order = [other for other in order if other != key]
            used = []
        for other in used:
            order = [another for another in order if another != other] + [other]
        if leader.memory.tracks_use:
            evicted = leader.evicted[evicted_before:]
            assert evicted == order[: len(evicted)], f"after {what} {key!r}"
            order = order[len(evicted) :]
        assert leader.held() == sorted(order)
        assert max_entries is None or leader.footprint.entries <= max_entries
        assert max_bytes is None or leader.footprint.size_bytes <= max_bytes
