"""Snapshots between two machines: what comes late, twice or in the wrong order never keeps one from arriving."""

from itertools import count

from gimmal.replication.progress import Progress
from gimmal.replication.stream import Stream
from gimmal.replication.transfer import Incoming, Outgoing, checksum
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation
from gimmal.wire.peer_messages import BLANK, SnapshotChunk


def chunk(base: int, index: int, *, is_last: bool = False) -> SnapshotChunk:
    tree = (index, ())
    return SnapshotChunk(*BLANK, 0, 3, base, 2, 1_000, index, is_last, checksum(tree), tree)


def test_a_late_chunk_of_an_earlier_snapshot_is_known_as_such() -> None:
    incoming = Incoming(chunk(6, 0))
    assert not incoming.take(chunk(6, 0))
    assert not incoming.is_of(chunk(4, 1))
    assert not incoming.is_before(chunk(4, 1))
    assert incoming.is_before(chunk(7, 0))
    assert incoming.take(chunk(6, 1, is_last=True))


def test_a_snapshot_that_is_begun_anew_at_the_same_place_is_the_same() -> None:
    incoming = Incoming(chunk(6, 0))
    again = chunk(6, 0)
    again.now_ms += 1  # written meanwhile, and not committed
    assert incoming.is_of(again)


def test_what_is_not_acknowledged_goes_again_at_the_deadline_whatever_its_last_bits() -> None:
    member = Incarnation("b", 1)
    for number in range(100):
        now = number / 7
        progress = Progress(member, Stream(member, count(1)), 0)
        outgoing = Outgoing((0, 1, 4, 1, 1_000), Engine(Footprint()), progress, now)
        assert len(list(outgoing.messages(now))) == 1
        assert len(list(outgoing.messages(outgoing.next_deadline()))) == 1
