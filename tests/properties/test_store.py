"""The store against a plain model: every key command, versions, expiry, scans among changes, exact footprint.

The model keeps what a reader of the reference would keep: for each key a value, a version, a time to die. It
shares no code with the store. At the end of every run the log is applied to a second engine, which must give
the same results and end in the same state.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gimmal.store.engine import Engine
from gimmal.store.footprint import EXPIRY_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Footprint
from gimmal.store.kv import Refused
from gimmal.wire import commands, limits
from gimmal.wire.codec import pack_value
from gimmal.wire.messages import Refusal

PAGE = 3  # keys of a scan's page here: a few keys make many pages
INT64 = (-(2**63), 2**63 - 1)


@dataclass
class Item:
    """A key of the model. `number` is what the value counts as, if it is an integer."""

    value: bytes
    number: int | None
    version: int
    dies_at_ms: int | None = None


@dataclass
class Scan:
    """One scan under way: what it has to bring, and what it has brought."""

    prefix: bytes
    owed: set[bytes]
    position: int = 0
    removals: int = 0
    found: set[bytes] = field(default_factory=set)


KEYS = st.sampled_from([b"a", b"b", b"c", b"aa", b"ab", b"ba", b"abc", b"\x00", b"\xff" * 9, b"{a}b", b"x", b"y"])
NUMBERS = st.one_of(
    st.integers(-200, 200), st.sampled_from([*INT64, INT64[0] + 1, INT64[1] - 1, 1, -1]), st.integers(*INT64)
)
VALUES = st.one_of(
    st.tuples(st.binary(max_size=30).map(pack_value), st.none()),
    st.tuples(st.sampled_from([b"\xc0", b"\xc3", b"\xa15", b"\xc1", b"\x05\x05", b"\xcc"]), st.none()),
    NUMBERS.map(lambda number: (pack_value(number), number)),
)
SPANS_MS = st.sampled_from([1, 2, 5, 10, 30])  # few, so that the last millisecond of a key is met often
TTLS_MS = st.one_of(st.just(0), SPANS_MS)
FLAGS = st.sampled_from(
    [
        0,
        0,
        commands.NX,
        commands.XX,
        commands.KEEP_TTL,
        commands.XX | commands.KEEP_TTL,
        commands.NX | commands.XX,
    ]
)
STALENESS = st.sampled_from([0, 0, 0, -1, 1])


class StoreAgainstModel(RuleBasedStateMachine):
    """Every rule does one thing to the engine and the same to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(limits, "SCAN_EXAMINED_MAX", PAGE)
        self.footprint = Footprint()
        self.engine = Engine(self.footprint)
        self.model: dict[bytes, Item] = {}
        self.scans: list[Scan] = []
        self.log: list[tuple[int, int, Any, Any]] = []
        self.seq = 0
        self.now_ms = 1_000

    def teardown(self) -> None:
        self.patch.undo()
        footprint = Footprint()
        other = Engine(footprint)
        for seq, now_ms, command, result in self.log:
            assert other.apply(seq, (1, now_ms, 0, 0, 0, command)) == result
        assert list(other.keys.records.items()) == list(self.engine.keys.records.items())
        assert list(other.keys.expires_at_ms.items()) == list(self.engine.keys.expires_at_ms.items())
        assert other.keys.removals == self.engine.keys.removals
        assert footprint == self.footprint

    # what both sides do

    def apply(self, *command: Any) -> Any:
        self.seq += 1
        result = self.engine.apply(self.seq, (1, self.now_ms, 0, 0, 0, command))
        self.log.append((self.seq, self.now_ms, command, result))
        return result

    def read(self, *command: Any) -> Any:
        """As a leader reads: what is due goes first."""
        for key in commands.keys_of(command):
            item = self.model.get(key)
            if item is not None and self.is_dead(item):
                assert self.apply(commands.EXPIRE, key, item.version) is True
                self.forget(key)
        return self.engine.read(self.now_ms, command)

    def is_dead(self, item: Item) -> bool:
        return item.dies_at_ms is not None and item.dies_at_ms <= self.now_ms

    def living(self, key: bytes) -> Item | None:
        """The item as a write sees it; a write that meets a dead one buries it."""
        item = self.model.get(key)
        if item is not None and self.is_dead(item):
            self.forget(key)
            return None
        return item

    def forget(self, key: bytes) -> None:
        del self.model[key]
        for scan in self.scans:
            scan.owed.discard(key)

    def write(self, key: bytes, value: tuple[bytes, int | None], dies_at_ms: int | None) -> None:
        self.model[key] = Item(*value, self.seq, dies_at_ms)

    # rules

    @initialize(keys=st.sets(KEYS, min_size=4))
    def fill(self, keys: set[bytes]) -> None:
        for key in sorted(keys):
            assert self.apply(commands.SET, key, b"\x01", 0, 0, None) is True
            self.write(key, (b"\x01", 1), None)

    @rule(ms=SPANS_MS)
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule(
        key=KEYS,
        value=VALUES,
        ttl_ms=TTLS_MS,
        flags=FLAGS,
        stale=st.one_of(st.none(), st.just(None), STALENESS),
    )
    def set(self, key: bytes, value: tuple[bytes, int | None], ttl_ms: int, flags: int, stale: int | None) -> None:
        old = self.living(key)
        version = 0 if old is None else old.version
        if_version = None if stale is None else max(0, version + stale)
        result = self.apply(commands.SET, key, value[0], ttl_ms, flags, if_version)
        may = not (
            (flags & commands.NX and old is not None)
            or (flags & commands.XX and old is None)
            or (if_version is not None and if_version != version)
        )
        assert result is may
        if may:
            kept = old.dies_at_ms if old is not None and flags & commands.KEEP_TTL else None
            self.write(key, value, self.now_ms + ttl_ms if ttl_ms else kept)

    @rule(pairs=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=5), ttl_ms=TTLS_MS)
    def set_many(self, pairs: list[tuple[bytes, tuple[bytes, int | None]]], ttl_ms: int) -> None:
        flat = tuple(part for key, (value, _) in pairs for part in (key, value))
        assert self.apply(commands.SET_MANY, flat, ttl_ms) == len(pairs)
        for key, value in pairs:
            self.living(key)
            self.write(key, value, self.now_ms + ttl_ms if ttl_ms else None)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        expected = self.living(key) is not None
        assert self.apply(commands.DELETE, key) is expected
        if expected:
            self.forget(key)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4))
    def delete_many(self, keys: list[bytes]) -> None:
        living = {key for key in keys if self.living(key) is not None}
        assert self.apply(commands.DELETE_MANY, tuple(keys)) == len(living)
        for key in living:
            self.forget(key)

    @rule(key=KEYS, ttl_ms=SPANS_MS)
    def expire_in(self, key: bytes, ttl_ms: int) -> None:
        item = self.living(key)
        assert self.apply(commands.SET_TTL, key, ttl_ms) is (item is not None)
        if item is not None:
            item.dies_at_ms = self.now_ms + ttl_ms

    @rule(key=KEYS)
    def persist(self, key: bytes) -> None:
        item = self.living(key)
        assert self.apply(commands.PERSIST, key) is (item is not None and item.dies_at_ms is not None)
        if item is not None:
            item.dies_at_ms = None

    @rule(key=KEYS, amount=NUMBERS)
    def incr(self, key: bytes, amount: int) -> None:
        old = self.living(key)
        result = self.apply(commands.INCR, key, amount)
        if old is not None and old.number is None:
            assert isinstance(result, Refused)
            assert result.refusal is Refusal.NOT_AN_INTEGER
            return
        count = (0 if old is None or old.number is None else old.number) + amount
        if not INT64[0] <= count <= INT64[1]:
            assert isinstance(result, Refused)
            assert result.refusal is Refusal.INTEGER_OVERFLOW
            return
        assert result == count
        assert type(result) is int
        self.write(key, (pack_value(count), count), None if old is None else old.dies_at_ms)

    @rule(key=KEYS, stale=STALENESS)
    def timer_expires(self, key: bytes, stale: int) -> None:
        item = self.model.get(key)
        version = (1 if item is None else item.version) + stale
        expected = item is not None and stale == 0 and self.is_dead(item)
        assert self.apply(commands.EXPIRE, key, version) is expected
        if expected:
            self.forget(key)

    @rule(key=KEYS, stale=STALENESS)
    def evict(self, key: bytes, stale: int) -> None:
        item = self.model.get(key)
        version = (1 if item is None else item.version) + stale
        expected = item is not None and stale == 0
        assert self.apply(commands.EVICT, key, version) is expected
        if expected:
            self.forget(key)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4))
    def look(self, keys: list[bytes]) -> None:
        records = self.read(commands.GET_MANY, tuple(keys))
        for key, record in zip(keys, records, strict=True):
            item = self.model.get(key)
            assert record == (None if item is None else item.version.to_bytes(8, "big") + item.value)
            assert self.read(commands.GET, key) == record
            assert self.read(commands.EXISTS, key) is (item is not None)
            left_ms = -2 if item is None else -1 if item.dies_at_ms is None else item.dies_at_ms - self.now_ms
            assert self.read(commands.TTL, key) == left_ms

    @precondition(lambda self: len(self.scans) < 3)
    @rule(prefix=st.sampled_from([b"", b"", b"a", b"ab", b"nothing"]))
    def start_scan(self, prefix: bytes) -> None:
        living = {key for key, item in self.model.items() if not self.is_dead(item)}
        self.scans.append(Scan(prefix, {key for key in living if key.startswith(prefix)}))

    @precondition(lambda self: self.scans)
    @rule(which=st.integers(0, 2))
    def next_page(self, which: int) -> None:
        scan = self.scans[which % len(self.scans)]
        page = self.engine.read(self.now_ms, (commands.SCAN, scan.prefix, scan.position, scan.removals))
        scan.position, scan.removals, found = page
        assert len(found) <= PAGE
        for key in found:
            assert key.startswith(scan.prefix)
            assert not self.is_dead(self.model[key])
        scan.found.update(found)
        if scan.position < 0:
            self.scans.remove(scan)
            dead = {key for key in scan.owed if self.is_dead(self.model[key])}
            missed = scan.owed - dead - scan.found
            assert not missed, f"{sorted(missed)} were there throughout"

    # invariants

    @invariant()
    def the_state_is_the_models(self) -> None:
        keys = self.engine.keys
        assert keys.records == {key: item.version.to_bytes(8, "big") + item.value for key, item in self.model.items()}
        assert keys.expires_at_ms == {
            key: item.dies_at_ms for key, item in self.model.items() if item.dies_at_ms is not None
        }

    @invariant()
    def the_footprint_is_exact(self) -> None:
        dying = sum(item.dies_at_ms is not None for item in self.model.values())
        assert self.footprint.entries == len(self.model)
        assert self.footprint.size_bytes == dying * EXPIRY_OVERHEAD_BYTES + sum(
            len(key) + 8 + len(item.value) + RECORD_OVERHEAD_BYTES for key, item in self.model.items()
        )


TestStoreAgainstModel = StoreAgainstModel.TestCase
StoreAgainstModel.TestCase.settings = settings(stateful_step_count=40)
