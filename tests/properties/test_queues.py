"""The queues of a partition against a plain model, with copies taken in the midst and gone on with.

Every rule gives one entry to an engine and to the model (`queue_model`) and compares what both answer; after each, all
that can be read is compared too. Now and then the engine is taken apart, put together again and replaced by what came
out. In the end the log is applied to an engine that never was, and all messages are consumed: what was produced is
acknowledged, or a dead letter, or was purged, in every group that was there; and then the memory is empty.
"""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gimmal.store import snapshot
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Refused
from gimmal.wire import limits
from gimmal.wire import queue_commands as codes
from gimmal.wire.codec import pack_tree, unpack_tree
from gimmal.wire.messages import Refusal
from tests.properties import queue_model
from tests.properties.queue_model import HELD

SHARDS = st.sampled_from([b"q", b"q", b"q", b"{r/1}"])
GROUPS = st.sampled_from([b"default", b"default", b"default", b"g", b"h"])
CLIENTS = st.sampled_from([b"1" * 16, b"2" * 16])
CONSUMERS = st.sampled_from([b"", b"Ada"])
MESSAGES = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=9) | st.just(bytes(60)),
        st.sampled_from([b"", b"", b"a", b"a", b"b"]),
        st.sampled_from([b"", b"", b"", b"x", b"y"]),
    ),
    min_size=1,
    max_size=4,
)
SPANS_MS = st.sampled_from([1, 2, 5, 10, 40])
DELAYS_MS = st.sampled_from([0, 0, 0, 1, 5, 20])
SETTINGS = st.tuples(
    st.sampled_from([3, 3, 2, 1, 0]),  # max_retries
    st.just(30_000),
    st.sampled_from([0, 2, 8]),  # backoff
    st.sampled_from([8, 10]),  # backoff_max
    st.sampled_from([1, 2]),  # shards
    st.sampled_from([0, 0, 7, 12]),  # max_length
)
PICKS = st.lists(st.integers(0, 11), min_size=1, max_size=4)


class QueuesAgainstModel(RuleBasedStateMachine):
    """Every rule does one thing to the engine and the same to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for name, bound in (("DEDUP_MS", 30), ("GRANT_BYTES_MAX", 80), ("FAILURES_MAX", 2), ("GROUPS_MAX", 2)):
            self.patch.setattr(limits, name, bound)
        self.footprint = Footprint()
        self.engine = Engine(self.footprint)
        self.model: dict[bytes, queue_model.Shard] = {}
        self.handed: defaultdict[tuple[bytes, bytes], list[tuple[int, int]]] = defaultdict(list)  # newest first
        self.acked: set[tuple[bytes, bytes, int]] = set()
        self.log: list[tuple[int, int, Any, Any]] = []
        self.seq = 0
        self.now_ms = 1_000
        self.request = 0

    def teardown(self) -> None:
        try:
            footprint = Footprint()
            other = Engine(footprint)
            for seq, now_ms, command, result in self.log:
                assert other.apply(seq, (1, now_ms, 0, 0, 0, command)) == result
            assert other.digest() == self.engine.digest()
            assert footprint == self.footprint
            for name in self.model:
                self.consume_all(name)
            assert self.footprint == Footprint()
        finally:
            self.patch.undo()

    def consume_all(self, name: bytes) -> None:
        """Take whatever is left, and see that it is everything."""
        shard = self.model[name]
        self.now_ms += 1_000
        for group in list(shard.groups):
            for client in (b"1" * 16, b"2" * 16):
                self.apply(codes.VANISH, name, client, False)
            found: set[int] = set()
            while granted := self.apply(codes.GRANT, name, group, (b"3" * 16, b""), self.next_request(), (9, 0)):
                found.update(number for number, _ in granted)
                assert set(self.apply(codes.ACK, name, group, granted)) == {0}
            places = shard.groups[group].places
            assert found == {number for number, place in places.items() if place.state in ("waiting", HELD)}
            assert self.apply(codes.PURGE, name, group, 1_000) == len(shard.groups[group].dead)
            assert self.engine.read(self.now_ms, (codes.QUEUE_STATS, name, group))[0] == 0
        assert self.engine.queues.shards[name].messages == {}
        assert self.engine.queues.shards[name].unsettled == 0
        self.engine.queues.shards[name].forget_old(self.now_ms)

    # what both sides do

    def apply(self, *command: Any) -> Any:
        assert (codes.IS_WELL_FORMED | codes.OWN_ARE_WELL_FORMED)[command[0]](command)
        self.seq += 1
        result = self.engine.apply(self.seq, (1, self.now_ms, 0, 0, 0, command))
        self.log.append((self.seq, self.now_ms, command, result))
        return result

    def apply_to(self, code: int, name: bytes, group: bytes, *arguments: Any) -> tuple[Any, queue_model.Shard | None]:
        """Return the result, and the model of the shard if there is such a queue and group."""
        result = self.apply(code, name, group, *arguments)
        shard = self.model.get(name)
        if shard is not None and group in shard.groups:
            return result, shard
        if code in codes.OWN:
            assert result in (0, ())
        else:
            assert isinstance(result, Refused)
            assert result.refusal is (Refusal.NO_QUEUE if shard is None else Refusal.NO_GROUP)
        return result, None

    def next_request(self) -> int:
        self.request += 1
        return self.request

    def deliveries(self, name: bytes, group: bytes, picks: list[int]) -> Any:
        """Some deliveries of a group, the newest more often than old ones."""
        handed = self.handed[name, group]
        return tuple(handed[pick % len(handed)] for pick in picks) if handed else ((10**6, 1),)

    # rules

    @initialize(given=SETTINGS)
    def first_queue(self, given: Any) -> None:
        self.declare(b"q", given)
        self.produce(b"q", [(b"0", b"", b""), (b"1", b"a", b""), (b"2", b"a", b""), (b"3", b"", b"")], 0)

    @rule(name=SHARDS, given=SETTINGS)
    def declare(self, name: bytes, given: Any) -> None:
        result = self.apply(codes.DECLARE, name, given)
        if name not in self.model:
            self.model[name] = queue_model.Shard(given, self.seq)
            assert result == given
        elif isinstance(result, Refused):
            assert result.refusal is Refusal.SETTINGS_MISMATCH
        assert len(self.apply(codes.DECLARE, name, (None,) * 6)) == 6

    @rule(ms=SPANS_MS)
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule(name=SHARDS, messages=MESSAGES, delay_ms=DELAYS_MS)
    def produce(self, name: bytes, messages: list[tuple[bytes, bytes, bytes]], delay_ms: int) -> None:
        result = self.apply(codes.PRODUCE, name, delay_ms, tuple(messages))
        if name not in self.model:
            assert result.refusal is Refusal.NO_QUEUE
            return
        numbers = self.model[name].produce(messages, delay_ms, self.now_ms)
        if numbers is None:
            assert result.refusal is Refusal.QUEUE_FULL
        else:
            assert list(result) == numbers

    @rule(name=SHARDS, group=GROUPS, client=CLIENTS, consumer=CONSUMERS, most=st.integers(1, 5), again=st.booleans())
    def grant(self, name: bytes, group: bytes, client: bytes, consumer: bytes, most: int, again: bool) -> None:
        request = self.request if again and self.request else self.next_request()
        result, shard = self.apply_to(codes.GRANT, name, group, (client, consumer), request, (most, 0))
        if shard is None:
            return
        held = set(shard.groups[group].having(HELD))
        is_again = bool(shard.got(shard.groups[group], client, request))
        numbers = shard.grant(group, (client, consumer), request, most, self.seq, self.now_ms)
        assert result == tuple((number, shard.groups[group].places[number].token) for number in numbers)
        if is_again:
            return
        assert not held & set(numbers), "given away twice"
        for number in numbers:
            assert (name, group, number) not in self.acked, "it was acknowledged"
            assert all(token < self.seq for other, token in self.handed[name, group] if other == number)
            self.handed[name, group].insert(0, (number, self.seq))
        keys = [shard.sent[number].key for number in shard.groups[group].having(HELD) if shard.sent[number].key]
        assert len(keys) == len(set(keys)), "one at a time"

    @rule(name=SHARDS, group=GROUPS, picks=PICKS)
    def ack(self, name: bytes, group: bytes, picks: list[int]) -> None:
        deliveries = self.deliveries(name, group, picks)
        result, shard = self.apply_to(codes.ACK, name, group, deliveries)
        if shard is not None and self.handed[name, group]:
            assert list(result) == shard.ack(group, deliveries, self.now_ms)
            self.acked |= {
                (name, group, number) for (number, _), stale in zip(deliveries, result, strict=True) if not stale
            }

    @rule(
        name=SHARDS,
        group=GROUPS,
        picks=PICKS,
        how=st.tuples(st.sampled_from([True, True, True, False]), st.sampled_from([None, None, 0, 7])),
        reason=st.sampled_from([b"", b"no"]),
    )
    def nack(self, name: bytes, group: bytes, picks: list[int], how: Any, reason: bytes) -> None:
        deliveries = self.deliveries(name, group, picks)
        result, shard = self.apply_to(codes.NACK, name, group, deliveries, how, reason)
        if shard is not None and self.handed[name, group]:
            requeue, delay_ms = how
            for number in self.ended(shard, group, deliveries, result):
                shard.fail(group, number, "nack" if requeue else "rejected", reason, self.now_ms, delay_ms)

    def ended(self, shard: queue_model.Shard, group: bytes, deliveries: Any, result: Any) -> list[int]:
        """Those of the deliveries that were in flight, which the outcomes have to say."""
        held = shard.held(group, deliveries)
        numbers = [number for number, _ in deliveries]
        done = [number for number, outcome in zip(numbers, result, strict=True) if outcome == 0]
        assert done == held
        return held

    @rule(name=SHARDS, group=GROUPS, picks=PICKS, lease_ms=st.none() | st.integers(1, 9))
    def release_or_extend(self, name: bytes, group: bytes, picks: list[int], lease_ms: int | None) -> None:
        deliveries = self.deliveries(name, group, picks[:1])
        if lease_ms is not None:
            result, shard = self.apply_to(codes.EXTEND, name, group, deliveries, lease_ms)
        else:
            result, shard = self.apply_to(codes.RELEASE, name, group, deliveries)
        if shard is not None and self.handed[name, group]:
            for number in self.ended(shard, group, deliveries, result):
                if lease_ms is None:
                    shard.release(group, number)

    @rule(name=SHARDS, group=GROUPS, picks=PICKS)
    def lease_end(self, name: bytes, group: bytes, picks: list[int]) -> None:
        deliveries = self.deliveries(name, group, picks)
        result, shard = self.apply_to(codes.LEASE_END, name, group, deliveries)
        if shard is not None and self.handed[name, group]:
            numbers = shard.held(group, deliveries)
            assert result == len(numbers)
            for number in numbers:
                shard.fail(group, number, "lease", b"the lease ran out", self.now_ms)

    @rule(name=SHARDS, client=CLIENTS, is_counted=st.booleans())
    def vanish(self, name: bytes, client: bytes, is_counted: bool) -> None:
        result = self.apply(codes.VANISH, name, client, is_counted)
        shard, ended = self.model.get(name), 0
        for group, there in shard.groups.items() if shard is not None else ():
            held = [number for number in there.having(HELD) if there.places[number].who[0] == client]
            for number in sorted(held, key=lambda number: (there.places[number].token, number)):
                assert shard is not None
                ended += 1
                if is_counted:
                    text = b"nothing was heard of the consumer's client any more"
                    shard.fail(group, number, "vanished", text, self.now_ms)
                else:
                    shard.release(group, number)
        assert result == ended

    @rule(name=SHARDS, group=GROUPS, client=CLIENTS, back=st.integers(0, 3))
    def give_back(self, name: bytes, group: bytes, client: bytes, back: int) -> None:
        request = max(1, self.request - back)
        result, shard = self.apply_to(codes.GIVE_BACK, name, group, client, request)
        if shard is not None:
            numbers = shard.got(shard.groups[group], client, request)
            assert result == len(numbers)
            for number in numbers:
                shard.release(group, number)

    @rule(name=SHARDS, group=GROUPS, limit=st.integers(1, 3), is_purge=st.sampled_from([True, False, False]))
    def redrive_or_purge(self, name: bytes, group: bytes, limit: int, is_purge: bool) -> None:
        result, shard = self.apply_to(codes.PURGE if is_purge else codes.REDRIVE, name, group, limit)
        if shard is not None:
            assert result == (shard.purge(group, limit) if is_purge else shard.redrive(group, limit))

    @rule(name=SHARDS, group=GROUPS)
    def create_group(self, name: bytes, group: bytes) -> None:
        result = self.apply(codes.CREATE_GROUP, name, group)
        shard = self.model.get(name)
        if shard is None:
            assert result.refusal is Refusal.NO_QUEUE
        elif group not in shard.groups and len(shard.groups) == limits.GROUPS_MAX:
            assert result.refusal is Refusal.INVALID
        else:
            assert result is (group not in shard.groups)
            shard.groups.setdefault(group, queue_model.Group())

    @precondition(lambda self: self.seq % 4 == 0)
    @rule(name=SHARDS, group=GROUPS)
    def delete_group(self, name: bytes, group: bytes) -> None:
        result = self.apply(codes.DELETE_GROUP, name, group)
        shard = self.model.get(name)
        if shard is None:
            assert result.refusal is Refusal.NO_QUEUE
            return
        assert result is (group in shard.groups)
        shard.groups.pop(group, None)
        self.handed.pop((name, group), None)
        self.acked = {at for at in self.acked if at[:2] != (name, group)}

    @rule(bytes_max=st.sampled_from([1, 200, 10_000]))
    def go_on_with_a_copy(self, bytes_max: int) -> None:
        trees = [unpack_tree(pack_tree(tree)) for tree in snapshot.chunks(self.engine.freeze(), bytes_max)]
        footprint = Footprint()
        copy = Engine.from_chunks(footprint, trees)
        assert footprint == self.footprint
        assert copy.digest() == self.engine.digest()
        self.engine.discard()
        assert self.footprint == Footprint()
        self.engine, self.footprint = copy, footprint

    # invariants

    @invariant()
    def what_can_be_read_is_the_models(self) -> None:
        for name, shard in self.model.items():
            assert self.engine.read(self.now_ms, (codes.QUEUE_GROUPS, name)) == tuple(shard.groups)
            assert self.engine.queues.shards[name].unsettled == len(shard.open())
            for group in shard.groups:
                assert self.engine.read(self.now_ms, (codes.QUEUE_STATS, name, group)) == shard.stats(
                    group, self.now_ms
                )
                assert self.engine.read(self.now_ms, (codes.DEAD_LETTERS, name, group, 99)) == shard.letters(group)

    @invariant()
    def the_leader_sees_what_a_grant_could_take(self) -> None:
        for name, shard in self.model.items():
            for group, there in shard.groups.items():
                first = [number for number in there.having("waiting") if shard.is_first(there, number)]
                ready = [number for number in first if there.places[number].due_ms <= self.now_ms]
                delays = [there.places[number].due_ms for number in first if there.places[number].due_ms]
                seen = self.engine.queues.shards[name].groups[group]
                assert seen.ready_count + seen.due_count(self.now_ms) == len(ready)
                assert seen.due_count(self.now_ms, 1) == min(1, seen.due_count(self.now_ms))
                assert seen.next_due_ms == min(delays, default=None)

    @invariant()
    def the_footprint_is_exact(self) -> None:
        expected = sum(shard.footprint() for shard in self.model.values())
        assert self.footprint == Footprint(0, expected, expected)


TestQueuesAgainstModel = QueuesAgainstModel.TestCase
QueuesAgainstModel.TestCase.settings = settings(stateful_step_count=50)
