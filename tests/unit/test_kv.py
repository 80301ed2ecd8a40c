"""Key commands by example, and that the counted footprint is what the memory really is."""

import gc
import tracemalloc
from typing import Any

import pytest

from gimmal.leader.expiry import Expiry
from gimmal.store import engine, queues
from gimmal.store.engine import Engine
from gimmal.store.footprint import EXPIRY_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Footprint
from gimmal.store.kv import READS, VERSION_BYTES, Keys, Refused, record_bytes, version_of
from gimmal.wire import commands, limits, queue_commands
from gimmal.wire.codec import pack_value
from gimmal.wire.messages import Refusal

NX, XX, KEEP_TTL = commands.NX, commands.XX, commands.KEEP_TTL
ONE, TEXT = pack_value(1), pack_value("text")


class Partition:
    """An engine that numbers its entries, so that a test reads like a session."""

    def __init__(self) -> None:
        self.footprint = Footprint()
        self.engine = Engine(self.footprint)
        self.seq = 0
        self.now_ms = 1_000

    @property
    def keys(self) -> Keys:
        return self.engine.keys

    def write(self, *command: Any) -> Any:
        self.seq += 1
        return self.engine.apply(self.seq, (1, self.now_ms, 0, 0, 0, command))

    def read(self, *command: Any) -> Any:
        return self.engine.read(self.now_ms, command)

    def set(
        self, key: bytes, value: bytes = ONE, *, ttl: int = 0, flags: int = 0, if_version: int | None = None
    ) -> Any:
        return self.write(commands.SET, key, value, ttl, flags, if_version)


@pytest.fixture
def partition() -> Partition:
    return Partition()


def test_every_command_is_a_read_or_a_write() -> None:
    reads = set(READS) | set(queues.READS)
    assert reads | set(engine.WRITES) == set(commands.NAMES) - queue_commands.FOR_CONSUMERS
    assert all(code < commands.FIRST_WRITE for code in reads)
    assert set(engine.WRITES) == set(commands.MAY_BE_LOGGED)
    assert all(code >= commands.FIRST_WRITE for code in engine.WRITES)


def test_a_record_is_a_version_and_the_value(partition: Partition) -> None:
    partition.seq = 2**40
    partition.set(b"k", TEXT)
    record = partition.read(commands.GET, b"k")
    assert version_of(record) == 2**40 + 1
    assert record[VERSION_BYTES:] == TEXT


def test_a_missing_key(partition: Partition) -> None:
    assert partition.read(commands.GET, b"k") is None
    assert partition.read(commands.GET_MANY, (b"k", b"l")) == (None, None)
    assert partition.read(commands.EXISTS, b"k") is False
    assert partition.read(commands.TTL, b"k") == -2
    assert partition.read(commands.SCAN, b"", 0, 0) == (-1, 0, ())
    for code in (commands.DELETE, commands.PERSIST):
        assert partition.write(code, b"k") is False
    for code in (commands.SET_TTL, commands.EXPIRE, commands.EVICT):
        assert partition.write(code, b"k", 1) is False
    assert partition.write(commands.DELETE_MANY, (b"k", b"k")) == 0
    assert partition.footprint == Footprint()


@pytest.mark.parametrize(
    ("flags", "exists", "done"), [(NX, False, True), (NX, True, False), (XX, False, False), (XX, True, True)]
)
def test_set_with_a_condition(partition: Partition, flags: int, exists: bool, done: bool) -> None:
    if exists:
        partition.set(b"k", TEXT)
    assert partition.set(b"k", ONE, flags=flags) is done
    record = partition.read(commands.GET, b"k")
    assert (record is None) == (not exists and not done)
    if record is not None:
        assert record[VERSION_BYTES:] == (ONE if done else TEXT)


def test_set_if_version(partition: Partition) -> None:
    assert partition.set(b"k", if_version=1) is False
    assert partition.set(b"k", if_version=0) is True
    assert partition.set(b"k", if_version=0) is False
    version = version_of(partition.read(commands.GET, b"k"))
    assert partition.set(b"k", if_version=version + 1) is False
    assert partition.set(b"k", if_version=version) is True
    assert partition.set(b"k", if_version=version) is False, "a version is never used twice"


def test_a_version_is_not_used_again_after_a_delete(partition: Partition) -> None:
    partition.set(b"k")
    before = version_of(partition.read(commands.GET, b"k"))
    partition.write(commands.DELETE, b"k")
    partition.set(b"k")
    assert version_of(partition.read(commands.GET, b"k")) > before
    assert partition.write(commands.EVICT, b"k", before) is False


def test_set_and_the_ttl(partition: Partition) -> None:
    partition.set(b"k", ttl=100)
    assert partition.read(commands.TTL, b"k") == 100
    partition.set(b"k", flags=KEEP_TTL)
    assert partition.read(commands.TTL, b"k") == 100
    partition.set(b"k", ttl=70, flags=KEEP_TTL)
    assert partition.read(commands.TTL, b"k") == 70, "a new time is a new time"
    partition.set(b"k")
    assert partition.read(commands.TTL, b"k") == -1


def test_set_ttl_and_persist(partition: Partition) -> None:
    partition.set(b"k")
    version = version_of(partition.read(commands.GET, b"k"))
    assert partition.write(commands.PERSIST, b"k") is False, "it lives for ever already"
    assert partition.write(commands.SET_TTL, b"k", 50) is True
    assert partition.write(commands.SET_TTL, b"k", 80) is True
    assert partition.read(commands.TTL, b"k") == 80
    assert partition.write(commands.PERSIST, b"k") is True
    assert partition.read(commands.TTL, b"k") == -1
    assert version_of(partition.read(commands.GET, b"k")) == version, "only a new value is a new version"


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ((commands.SET, b"k", TEXT, 0, NX, None), True),
        ((commands.SET, b"k", TEXT, 0, XX, None), False),
        ((commands.SET, b"k", TEXT, 0, 0, 1), False),
        ((commands.SET, b"k", TEXT, 0, 0, 0), True),
        ((commands.SET, b"k", TEXT, 0, KEEP_TTL, None), True),
        ((commands.SET_MANY, (b"k", TEXT), 0), 1),
        ((commands.DELETE, b"k"), False),
        ((commands.DELETE_MANY, (b"k",)), 0),
        ((commands.SET_TTL, b"k", 50), False),
        ((commands.PERSIST, b"k"), False),
        ((commands.INCR, b"k", 7), 7),
    ],
)
def test_a_write_finds_a_key_absent_from_its_last_millisecond_on(command: Any, result: object) -> None:
    partition = Partition()
    partition.set(b"k", ONE, ttl=100)
    partition.now_ms += 100
    assert partition.write(*command) == result
    assert b"k" not in partition.keys.expires_at_ms


def test_a_key_lives_until_its_last_millisecond(partition: Partition) -> None:
    partition.set(b"k", ONE, ttl=100)
    partition.now_ms += 99
    assert partition.write(commands.INCR, b"k", 1) == 2
    assert partition.write(commands.EXPIRE, b"k", 2) is False
    partition.now_ms += 1
    assert partition.write(commands.EXPIRE, b"k", 1) is False, "another version"
    assert partition.write(commands.EXPIRE, b"k", 2) is True
    assert partition.footprint == Footprint()


@pytest.mark.parametrize(
    ("start", "amount", "result"),
    [
        (None, 5, 5),
        (None, -(2**63), -(2**63)),
        (41, 1, 42),
        (2**63 - 2, 1, 2**63 - 1),
        (-(2**63) + 1, -1, -(2**63)),
        (0, 0, 0),
        (2**63 - 1, -(2**63), -1),
    ],
)
def test_incr(partition: Partition, start: int | None, amount: int, result: int) -> None:
    if start is not None:
        partition.set(b"k", pack_value(start))
    assert partition.write(commands.INCR, b"k", amount) == result
    assert partition.read(commands.GET, b"k")[VERSION_BYTES:] == pack_value(result)


@pytest.mark.parametrize(
    ("value", "amount", "refusal"),
    [
        (pack_value(2**63 - 1), 1, Refusal.INTEGER_OVERFLOW),
        (pack_value(-(2**63)), -1, Refusal.INTEGER_OVERFLOW),
        (pack_value(2**64 - 1), 1, Refusal.INTEGER_OVERFLOW),
        (pack_value("5"), 1, Refusal.NOT_AN_INTEGER),
        (pack_value(5.0), 1, Refusal.NOT_AN_INTEGER),
        (pack_value(True), 1, Refusal.NOT_AN_INTEGER),
        (pack_value(None), 1, Refusal.NOT_AN_INTEGER),
        (pack_value([1]), 1, Refusal.NOT_AN_INTEGER),
        (b"\xcc", 1, Refusal.NOT_AN_INTEGER),
        (b"\x05more", 1, Refusal.NOT_AN_INTEGER),
    ],
)
def test_incr_refuses_and_changes_nothing(value: bytes, amount: int, refusal: Refusal) -> None:
    partition = Partition()
    partition.set(b"k", value, ttl=100)
    before = (
        dict(partition.keys.records),
        dict(partition.keys.expires_at_ms),
        partition.footprint.size_bytes,
    )
    result = partition.write(commands.INCR, b"k", amount)
    assert isinstance(result, Refused)
    assert result.refusal is refusal
    assert result.text
    after = (dict(partition.keys.records), dict(partition.keys.expires_at_ms), partition.footprint.size_bytes)
    assert after == before


def test_incr_keeps_the_ttl(partition: Partition) -> None:
    partition.set(b"k", ONE, ttl=100)
    partition.write(commands.INCR, b"k", 1)
    assert partition.read(commands.TTL, b"k") == 100


def test_many(partition: Partition) -> None:
    assert partition.write(commands.SET_MANY, (b"a", ONE, b"b", TEXT, b"a", TEXT), 30) == 3
    records = partition.read(commands.GET_MANY, (b"b", b"nope", b"a"))
    assert [record and record[VERSION_BYTES:] for record in records] == [TEXT, None, TEXT]
    assert partition.read(commands.TTL, b"b") == 30
    assert partition.write(commands.DELETE_MANY, (b"a", b"a", b"nope", b"b")) == 2
    assert partition.footprint == Footprint()


# -- scan ---------------------------------------------------------


def scan_all(partition: Partition, prefix: bytes = b"") -> list[bytes]:
    found: list[bytes] = []
    position, removals = 0, partition.keys.removals
    while position >= 0:
        position, removals, page = partition.read(commands.SCAN, prefix, position, removals)
        found += page
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_a_scan_without_changes_brings_each_key_once(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(limits, "SCAN_EXAMINED_MAX", 3)
    partition = Partition()
    names = [b"k%d" % number for number in range(count)]
    for name in names:
        partition.set(name)
    assert scan_all(partition) == names
    assert scan_all(partition, b"k1") == [name for name in names if name.startswith(b"k1")]


def test_a_scan_passes_over_what_is_due(partition: Partition) -> None:
    partition.set(b"old", ttl=10)
    partition.set(b"young", ttl=20)
    partition.now_ms += 10
    assert scan_all(partition) == [b"young"]


def test_a_scan_misses_nothing_when_keys_before_it_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCAN_EXAMINED_MAX", 2)
    partition = Partition()
    for name in b"abcdef":
        partition.set(bytes([name]))
    position, removals, first = partition.read(commands.SCAN, b"", 0, 0)
    partition.write(commands.DELETE_MANY, (b"a", b"b"))
    partition.set(b"a")
    assert first == (b"a", b"b")
    _, _, second = partition.read(commands.SCAN, b"", position, removals)
    assert second == (b"c", b"d")


@pytest.mark.parametrize("position", [0, 5, 2**62, limits.INTEGER_MAX])
@pytest.mark.parametrize("removals", [0, 1, 2**62, limits.INTEGER_MAX])
def test_a_scan_from_anywhere_is_answered(position: int, removals: int) -> None:
    """Both numbers are the client's; whatever it sends, the answer is a page."""
    partition = Partition()
    for name in b"abc":
        partition.set(bytes([name]))
    partition.write(commands.DELETE, b"b")
    following, removed, found = partition.read(commands.SCAN, b"", position, removals)
    assert (following, removed) == (-1, 1)
    assert set(found) <= {b"a", b"c"}


# -- footprint ---------------------------------------------------------


def test_the_footprint_is_shared_by_the_engines_of_a_node() -> None:
    footprint = Footprint()
    for each_engine in (Engine(footprint), Engine(footprint)):
        each_engine.apply(1, (1, 0, 0, 0, 0, (commands.SET, b"k", ONE, 5, 0, None)))
    each = record_bytes(b"k", b"\0" * 8 + ONE) + EXPIRY_OVERHEAD_BYTES
    assert (footprint.entries, footprint.size_bytes) == (2, 2 * each)
    assert each == 1 + 8 + 1 + RECORD_OVERHEAD_BYTES + EXPIRY_OVERHEAD_BYTES


def test_the_footprint_is_what_the_memory_is() -> None:
    """Keys of 16 and values of 100 bytes: within 15 % of what the interpreter asked for."""
    count = 50_000
    partition = Partition()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            partition.set(b"%016d" % number, b"\xc4\x62" + bytes(98))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert partition.footprint.entries == count
    assert abs(partition.footprint.size_bytes / (after - before) - 1) < 0.15


def test_the_footprint_of_expiry_is_what_the_memory_is() -> None:
    """The time of 50,000 keys, with the leader's heap: within 15 % as well."""
    count = 50_000
    partition = Partition()
    expiry = Expiry({0: partition.keys})
    names = [b"%016d" % number for number in range(count)]
    for name in names:
        partition.set(name)
    counted = partition.footprint.size_bytes
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number, name in enumerate(names):
            command = (commands.SET_TTL, name, 100_000 + number)
            partition.write(*command)
            expiry.on_committed(0, command)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del command
    assert abs((partition.footprint.size_bytes - counted) / (after - before) - 1) < 0.15
