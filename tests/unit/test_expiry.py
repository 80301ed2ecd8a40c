"""When keys are proposed for expiry: in order, each once, nothing stale, and in bounded memory."""

from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gimmal.leader.expiry import Expiry, expire_if_due
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import version_of
from gimmal.wire import commands

ONE = b"\x01"


class Leader:
    """Some partitions with their timers, wired as a node wires them."""

    def __init__(self, partitions: int = 2) -> None:
        self.engines = {number: Engine(Footprint()) for number in range(partitions)}
        self.expiry = Expiry({number: engine.keys for number, engine in self.engines.items()})
        self.seq = count(1)
        self.now_ms = 1_000

    def write(self, partition: int, *command: Any) -> Any:
        result = self.engines[partition].apply(next(self.seq), (1, self.now_ms, 0, 0, 0, command))
        self.expiry.on_committed(partition, command)
        return result

    def set(self, key: bytes, ttl: int, partition: int = 0, flags: int = 0) -> None:
        self.write(partition, commands.SET, key, ONE, ttl, flags, None)

    def expire(self, now_ms: int, count_max: int = 1_000) -> list[bytes]:
        """What a tick does. Every proposal has to succeed: the state is asked before it is made."""
        self.now_ms = now_ms
        expired = []
        for partition, command in self.expiry.due(now_ms, count_max):
            assert self.write(partition, *command) is True
            expired.append(command[1])
        return expired


def test_keys_expire_in_the_order_of_their_times_over_all_partitions() -> None:
    leader = Leader()
    for key, ttl, partition in ((b"c", 30, 0), (b"a", 10, 1), (b"d", 40, 1), (b"b", 20, 0)):
        leader.set(key, ttl, partition)
    assert leader.expiry.next_ms() == 1_010
    assert leader.expire(1_009) == []
    assert leader.expire(1_030) == [b"a", b"b", b"c"]
    assert leader.expiry.next_ms() == 1_040
    assert leader.expire(5_000) == [b"d"]
    assert leader.expiry.next_ms() is None


def test_nothing_expires_where_nothing_does() -> None:
    leader = Leader()
    leader.set(b"k", 0)
    leader.write(0, commands.INCR, b"n", 1)
    leader.write(0, commands.SET_MANY, (b"a", ONE), 0)
    assert leader.expiry.next_ms() is None
    assert leader.expire(10**15) == []
    assert len(leader.expiry) == 0


def test_every_command_that_gives_a_time_is_noted() -> None:
    leader = Leader()
    leader.set(b"set", 10)
    leader.write(0, commands.SET_MANY, (b"many1", ONE, b"many2", ONE), 11)
    leader.set(b"later", 0)
    leader.write(0, commands.SET_TTL, b"later", 12)
    assert leader.expire(2_000) == [b"set", b"many1", b"many2", b"later"]


def test_what_was_overtaken_is_dropped() -> None:
    leader = Leader()
    for key in (b"deleted", b"persisted", b"extended", b"rewritten", b"counted", b"kept", b"stays"):
        leader.set(key, 10)
    leader.write(0, commands.DELETE, b"deleted")
    leader.write(0, commands.PERSIST, b"persisted")
    leader.write(0, commands.SET_TTL, b"extended", 500)
    leader.set(b"rewritten", 0)
    leader.write(0, commands.INCR, b"counted", 1)
    leader.set(b"kept", 0, flags=commands.KEEP_TTL)
    assert sorted(leader.expire(1_100)) == [b"counted", b"kept", b"stays"]
    assert leader.expire(1_499) == []
    assert leader.expire(1_500) == [b"extended"]
    assert sorted(leader.engines[0].keys.records) == [b"persisted", b"rewritten"]


def test_a_shorter_time_counts_at_once() -> None:
    leader = Leader()
    leader.set(b"k", 10_000)
    leader.write(0, commands.SET_TTL, b"k", 5)
    assert leader.expire(1_005) == [b"k"]
    assert leader.expire(20_000) == []


def test_a_write_that_did_nothing_does_no_harm() -> None:
    leader = Leader()
    leader.set(b"k", 10)
    leader.set(b"k", 99_999, flags=commands.NX)
    leader.write(0, commands.SET_TTL, b"missing", 5)
    assert leader.expire(1_010) == [b"k"]
    assert leader.expire(200_000) == []


def test_a_turn_expires_no_more_than_it_may() -> None:
    leader = Leader()
    for number in range(10):
        leader.set(b"%d" % number, 10)
    assert leader.expire(2_000, count_max=4) == [b"0", b"1", b"2", b"3"]
    assert leader.expiry.next_ms() == 1_010
    assert len(leader.expire(2_000, count_max=4)) == 4
    assert len(leader.expire(2_000, count_max=4)) == 2


def test_stale_entries_count_against_the_turn() -> None:
    """Dropping is work as well: a turn stays short whatever is in the heap."""
    leader = Leader()
    for number in range(10):
        leader.set(b"%d" % number, 10)
        leader.write(0, commands.DELETE, b"%d" % number)
    leader.set(b"k", 20)
    assert leader.expire(2_000, count_max=5) == []
    assert len(leader.expiry) == 6


def test_a_key_rewritten_for_ever_costs_bounded_memory() -> None:
    leader = Leader()
    for number in range(100):
        leader.set(b"other%d" % number, 10**9)
    longest = 0
    for _ in range(10_000):
        leader.now_ms += 1
        leader.set(b"k", 10**6)
        longest = max(longest, len(leader.expiry))
    assert longest < 1_500
    assert leader.expire(leader.now_ms + 10**6) == [b"k"]


def test_a_partition_that_is_led_no_more_is_skipped() -> None:
    engine = Engine(Footprint())
    led = {0: engine.keys}
    expiry = Expiry(led)
    command = (commands.SET, b"k", ONE, 10, 0, None)
    engine.apply(1, (1, 0, 0, 0, 0, command))
    expiry.on_committed(0, command)
    del led[0]
    assert list(expiry.due(10_000, 10)) == []
    assert len(expiry) == 0


def test_expire_if_due_names_the_version_it_saw() -> None:
    leader = Leader()
    leader.set(b"k", 10)
    keys = leader.engines[0].keys
    assert expire_if_due(keys, b"k", 1_009) is None
    assert expire_if_due(keys, b"missing", 10**15) is None
    assert expire_if_due(keys, b"k", 1_010) == (commands.EXPIRE, b"k", version_of(keys.records[b"k"]))
    leader.write(0, commands.PERSIST, b"k")
    assert expire_if_due(keys, b"k", 10**15) is None


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 60)),
        st.tuples(st.just("ttl"), KEYS, st.integers(1, 60)),
        st.tuples(st.just("delete"), KEYS, st.just(0)),
        st.tuples(st.just("persist"), KEYS, st.just(0)),
        st.tuples(st.just("tick"), st.just(b""), st.integers(1, 30)),
    ),
    max_size=40,
)


@given(STEPS)
def test_after_a_tick_nothing_that_is_due_is_left(steps: list[tuple[str, bytes, int]]) -> None:
    leader = Leader()
    for what, key, number in steps:
        partition = key[0] % 2 if key else 0
        if what == "set":
            leader.set(key, number, partition)
        elif what == "ttl":
            leader.write(partition, commands.SET_TTL, key, number)
        elif what == "delete":
            leader.write(partition, commands.DELETE, key)
        elif what == "persist":
            leader.write(partition, commands.PERSIST, key)
        else:
            times = {
                key: at_ms for engine in leader.engines.values() for key, at_ms in engine.keys.expires_at_ms.items()
            }
            expired = leader.expire(leader.now_ms + number)
            assert sorted(expired) == sorted(key for key, at_ms in times.items() if at_ms <= leader.now_ms)
        next_ms = leader.expiry.next_ms()
        for engine in leader.engines.values():
            for at_ms in engine.keys.expires_at_ms.values():
                assert next_ms is not None
                assert next_ms <= at_ms
