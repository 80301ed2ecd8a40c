"""Snapshots in chunks: a few ahead, again after a silence, and never mixed."""

from dataclasses import replace
from itertools import count
from math import inf

import pytest

from gimmal.replication.progress import Progress
from gimmal.replication.stream import Stream
from gimmal.replication.transfer import CHUNKS_AHEAD, RESEND_AFTER_S, Incoming, Outgoing, checksum
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation
from gimmal.wire import commands
from gimmal.wire.codec import pack_value
from gimmal.wire.peer_messages import BLANK, SnapshotAck, SnapshotChunk

N2 = Incarnation("n2", 7)
TAG = (3, 5, 40, 4, 1_000)


def engine_of(count: int, value_bytes: int = 100_000) -> Engine:
    engine = Engine(Footprint())
    for seq in range(1, count + 1):
        command = (commands.SET, b"k%d" % seq, pack_value(bytes(value_bytes)), 0, 0, None)
        engine.apply(seq, (4, 1_000, 0, 0, 0, command))
    return engine


def outgoing(engine: Engine, now: float = 0.0) -> Outgoing:
    progress = Progress(N2, Stream(N2, count(1)), 0)
    return Outgoing(TAG, engine, progress, now)


def ack(index: int, *, is_complete: bool = False) -> SnapshotAck:
    return SnapshotAck(*BLANK, *TAG[:3], index, is_complete)


def test_a_small_state_is_one_chunk() -> None:
    (chunk,) = outgoing(engine_of(1, 10)).messages(0.0)
    assert (chunk.partition, chunk.epoch, chunk.base, chunk.base_epoch, chunk.now_ms) == TAG
    assert (chunk.index, chunk.is_last, chunk.destination) == (0, True, 7)
    assert chunk.checksum == checksum(chunk.chunk)


def test_an_empty_state_is_one_chunk_too() -> None:
    (chunk,) = outgoing(Engine(Footprint())).messages(0.0)
    incoming = Incoming(chunk)
    assert incoming.take(chunk)
    assert incoming.engine(Footprint()).digest() == Engine(Footprint()).digest()


def test_only_so_many_chunks_are_ahead_of_the_acknowledgements() -> None:
    sending = outgoing(engine_of(20))
    assert [chunk.index for chunk in sending.messages(0.0)] == list(range(CHUNKS_AHEAD))
    assert list(sending.messages(0.1)) == []
    sending.on_ack(ack(3), 0.1)
    assert [chunk.index for chunk in sending.messages(0.1)] == [8, 9, 10]
    sending.on_ack(ack(2), 0.1)
    assert list(sending.messages(0.1)) == [], "what an older acknowledgement says is known"


@pytest.mark.parametrize("now", [0.0, 0.1, 6.539999999999998, 1e9 / 7])
def test_after_a_silence_what_is_not_acknowledged_is_sent_again(now: float) -> None:
    sending = outgoing(engine_of(4), now)
    assert sending.next_deadline() == inf, "there is nothing to wait for yet"
    assert len(list(sending.messages(now))) == 4
    sending.on_ack(ack(2), now)
    again = sending.next_deadline()
    assert again == now + RESEND_AFTER_S
    assert [chunk.index for chunk in sending.messages(again)] == [2, 3], "at the deadline, however it was rounded"
    assert sending.next_deadline() > again


def test_when_all_is_acknowledged_there_is_nothing_to_wait_for() -> None:
    sending = outgoing(engine_of(4))
    list(sending.messages(0.0))
    sending.on_ack(ack(4), 0.1)
    assert sending.next_deadline() == inf
    assert list(sending.messages(100.0)) == []


def test_what_is_written_meanwhile_is_not_in_it() -> None:
    engine = engine_of(20)
    before = engine.digest()
    sending = outgoing(engine)
    chunks = list(sending.messages(0.0))
    engine.apply(21, (4, 1_000, 0, 0, 0, (commands.DELETE, b"k20")))
    sending.on_ack(ack(len(chunks)), 0.0)
    chunks += sending.messages(0.0)
    sending.on_ack(ack(len(chunks)), 0.0)
    chunks += sending.messages(0.0)
    incoming = Incoming(chunks[0])
    assert [incoming.take(chunk) for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    assert incoming.engine(Footprint()).digest() == before != engine.digest()


# -- the follower's side


@pytest.fixture
def chunks() -> list[SnapshotChunk]:
    return list(outgoing(engine_of(4)).messages(0.0))


def test_chunks_are_taken_in_their_order_and_once(chunks: list[SnapshotChunk]) -> None:
    incoming = Incoming(chunks[0])
    assert not incoming.take(chunks[1])
    assert incoming.count == 0
    for chunk in (chunks[0], chunks[0], chunks[2], chunks[1]):
        assert not incoming.take(chunk)
    assert incoming.count == 2


def test_a_damaged_chunk_is_not_taken(chunks: list[SnapshotChunk]) -> None:
    incoming = Incoming(chunks[0])
    assert not incoming.take(replace(chunks[0], checksum=chunks[0].checksum ^ 1))
    assert not incoming.take(replace(chunks[0], chunk=chunks[1].chunk))
    assert incoming.count == 0


@pytest.mark.parametrize("field", ["epoch", "base"])
def test_a_chunk_of_another_snapshot_is_seen(chunks: list[SnapshotChunk], field: str) -> None:
    incoming = Incoming(chunks[0])
    assert incoming.is_of(chunks[3])
    assert not incoming.is_of(replace(chunks[3], **{field: getattr(chunks[3], field) + 1}))


def test_chunks_that_make_no_state_are_told(chunks: list[SnapshotChunk]) -> None:
    for wrong in (chunks[1].chunk, ("no", "chunk"), (0, ((9, 9),)), (0, 5)):
        message = replace(chunks[0], chunk=wrong, checksum=checksum(wrong), is_last=True)
        incoming = Incoming(message)
        assert incoming.take(message)
        footprint = Footprint()
        with pytest.raises((ValueError, TypeError)):
            incoming.engine(footprint)
        assert footprint.entries == 0
