"""Snapshots between two machines: what comes late, twice or in the wrong order never keeps one from arriving."""

from gimmal.replication.transfer import Incoming, checksum
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
