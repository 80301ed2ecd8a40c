"""How much of their logs copies keep: behind a snapshot that is under way more than else, but not without end."""

import pytest

from gimmal.replication import transfer
from gimmal.wire.peer_messages import SnapshotChunk
from tests.unit.copies import Copies, Packet, life, view

LOG_BYTES = 8_000


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Copies:
    """Partitions 0 and 1, led by a, with long logs; c has just lost everything and gets snapshots of many chunks."""
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 20)
    monkeypatch.setattr(transfer, "CHUNKS_AHEAD", 1)
    copies = Copies(log_bytes=LOG_BYTES)
    for partition in (0, 1):
        copies.see(view(1, 1, "a", "abc"), partition=partition)
        copies.write("a", 200, partition)
        copies.settle(0.2)
        copies.see(view(1, 2, "a", "ab", holders="ab"), "ab", partition)  # c is fenced
    copies.holdings["c"] = Copies("c").holdings["c"]
    for partition in (0, 1):
        copies.see(view(1, 3, "a", "ab"), partition=partition)
    return copies


def round_trip(copies: Copies) -> list[Packet]:
    """Let every node have a turn, and everything arrive that was sent; return it."""
    sent = [packet for name in "abc" for packet in copies.turn(name)]
    facts = copies.holdings["a"].facts()
    assert facts["log_bytes"] - facts["uncommitted_bytes"] <= 2 * LOG_BYTES
    copies.net.clear()
    for packet in sent:
        copies.deliver(packet)
    return sent


def snapshots(copies: Copies, rounds: int, each: int, partition: int = 0) -> list[int]:
    """Let a partition be written to meanwhile; return after which entries snapshots of it stand, in their order."""
    bases = dict[int, None]()
    for _ in range(rounds):
        copies.write("a", each, partition)
        for _, _, message in round_trip(copies):
            if isinstance(message, SnapshotChunk) and message.partition == partition:
                bases[message.base] = None
    return list(bases)


def test_what_is_behind_a_snapshot_is_kept_while_it_comes(copies: Copies) -> None:
    bases = snapshots(copies, 40, 1)
    log = copies.replica("a").log
    assert log.base <= bases[0], "all that was written since is there"
    assert log.size_bytes > LOG_BYTES
    copies.settle(5.0)
    assert copies.replica("c").log.last == log.last
    assert copies.replica("c").log.base == bases[0], "it never began anew"


def test_as_much_again_is_kept_and_no_more(copies: Copies) -> None:
    assert len(snapshots(copies, 100, 5)) > 1, "it began anew: in the end memory counts for more"
    copies.settle(5.0)
    assert copies.replica("c").log.last == copies.replica("a").log.last


def test_who_has_caught_up_needs_nothing_any_more(copies: Copies) -> None:
    copies.settle(5.0)
    copies.write("a", 200)
    copies.settle(0.2)
    assert copies.holdings["a"].facts()["log_bytes"] <= LOG_BYTES


def test_for_whom_nobody_waits_nothing_is_kept(copies: Copies) -> None:
    snapshots(copies, 3, 1)
    for partition in (0, 1):
        copies.see(view(1, 4, "a", "ab", holders="ab"), "ab", partition)
    copies.write("a", 200)
    copies.settle(0.2)
    assert copies.holdings["a"].facts()["log_bytes"] <= LOG_BYTES
    assert life("c") not in [packet[1] for packet in copies.turn("a")]
