"""Rules of replication, each by itself: some that no schedule needs yet, and some that schedules found missing."""

import pytest

from gimmal.cluster.table import PartitionRow, Table
from gimmal.node.views import views
from gimmal.replication import stream
from gimmal.wire.peer_messages import Histories, SnapshotChunk
from tests.unit.copies import Copies, Packet, life, view
from tests.unit.meta_states import Meta

SMALL_LOG_BYTES = 1_000


def led_by_a(log_bytes: int = 1 << 20) -> Copies:
    """Three copies in sync under a, with a few entries."""
    copies = Copies(log_bytes=log_bytes)
    copies.see(view(1, 1, "a", "abc"))
    copies.write("a", 3)
    copies.settle(0.2)
    assert [copies.replica(name).commit for name in "abc"] == [4, 4, 4]
    return copies


def test_a_copy_that_is_not_listed_takes_nothing() -> None:
    copies = led_by_a()
    copies.see(view(1, 2, "a", "ab", holders="ab"), "c")
    copies.write("a")
    copies.settle()
    assert copies.replica("c").log.last == 4
    assert not copies.replica("c").follows(life("a"), 1)


def test_no_snapshot_leaves_before_the_noop_has_committed() -> None:
    copies = led_by_a(SMALL_LOG_BYTES)
    copies.write("a", 10)
    copies.see(view(1, 2, "a", "ab"))
    copies.settle(0.2)
    del copies.holdings["c"]
    copies.holdings["c"] = Copies("c").holdings["c"]  # what is in its log is forgotten everywhere
    row = view(2, 3, "b", "ab")
    copies.see(row, "bc")
    copies.settle()
    assert not copies.replica("b").is_ready, "a has not seen its row, and owes an acknowledgement"
    (histories,) = [packet for packet in _turned(copies, "c", 0.4) if isinstance(packet[2], Histories)]
    copies.deliver(histories)
    assert not [packet for packet in copies.turn("b") if isinstance(packet[2], SnapshotChunk)]
    copies.net.clear()
    copies.see(row, "a")
    copies.settle(1.0)
    assert copies.replica("c").commit == copies.replica("b").log.last


def test_with_too_few_in_sync_a_snapshot_leaves_before_the_noop() -> None:
    copies = led_by_a(SMALL_LOG_BYTES)
    copies.write("a", 10)
    copies.settle(0.2)
    for name in "ac":  # both are restarted: only b is left, which cannot commit alone
        copies.holdings[name] = Copies(name).holdings[name]
    copies.see(view(2, 2, "b", "b"))
    copies.settle(1.0)
    assert [copies.replica(name).log.last for name in "abc"] == [15, 15, 15]
    request = copies.holdings["b"].petition.take()
    assert request is not None
    assert request.changes[0][3] in ((("b", 1), ("a", 1)), (("b", 1), ("c", 1)))


def test_a_late_acknowledgement_counts_for_nothing_sent_since() -> None:
    copies = Copies("ab")
    copies.see(view(1, 1, "a", "ab", holders="ab"))
    copies.turn("a")
    copies.deliver(copies.net.pop())
    (late,) = copies.turn("b")
    copies.settle(1.0)
    copies.see(view(2, 2, "b", "ab", holders="ab"), "a")  # a has nothing to say to b any more
    copies.see(view(3, 3, "a", "ab", holders="ab"), "a")
    copies.net.clear()
    copies.turn("a")
    copies.deliver(late)
    assert copies.replica("a").commit == 1, "b has not even heard of epoch 3"


def test_a_copy_that_its_leader_has_forgotten_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PORTION_BYTES", 1)
    copies = led_by_a()
    copies.see(view(1, 2, "a", "ab"))
    copies.write("a", 3)
    while copies.turn("a"):  # they reach b, which leads next, and not c
        for packet in copies.net:
            if packet[1].name == "b":
                copies.deliver(packet)
        copies.net.clear()
        for packet in copies.turn("b"):
            copies.deliver(packet)
        copies.net.clear()
    copies.see(view(2, 3, "b", "ab"))
    (histories,) = [packet for packet in copies.turn("c") if isinstance(packet[2], Histories)]
    copies.deliver(histories)
    copies.net.clear()
    cut_back, *_ = [packet for packet in copies.turn("b") if packet[1].name == "c"]
    copies.deliver(cut_back)
    copies.net.clear()
    assert copies.replica("c").aligned_epoch == 2
    assert copies.replica("c").log.last == 5, "b had 7 when it took over"
    copies.see(view(2, 4, "b", "ab", holders="ab"), "b")
    copies.see(view(2, 5, "b", "ab"))
    copies.settle(1.0)
    assert copies.replica("c").log.last == copies.replica("b").log.last == 8


def test_a_copy_that_is_taken_back_in_the_same_epoch_needs_no_snapshot() -> None:
    copies = led_by_a(SMALL_LOG_BYTES)
    copies.write("a", 10)
    copies.settle(0.2)
    copies.see(view(1, 2, "a", "ab", holders="ab"))
    copies.write("a", 2)
    copies.settle(0.2)
    assert copies.replica("a").log.base > 1
    copies.see(view(1, 3, "a", "ab"))
    sent = [packet[2] for packet in copies.turn("a")]
    assert not [message for message in sent if isinstance(message, SnapshotChunk)]
    copies.settle(0.2)
    assert copies.replica("c").commit == 16


def test_a_snapshot_that_its_log_has_left_behind_is_begun_anew_in_the_same_turn() -> None:
    copies = led_by_a(SMALL_LOG_BYTES)
    copies.see(view(1, 2, "a", "ab", holders="ab"), "ab")
    copies.write("a", 10)
    copies.settle(0.2)
    copies.holdings["c"] = Copies("c").holdings["c"]  # with nothing
    copies.see(view(1, 3, "a", "ab"))
    (histories,) = copies.turn("c")
    copies.deliver(histories)
    assert _bases(copies.turn("a")) == [14]
    copies.net.clear()
    copies.write("a", 10)
    (append,) = [packet for packet in copies.turn("a") if packet[1].name == "b"]
    copies.deliver(append)
    (acknowledgement,) = copies.turn("b")
    copies.deliver(acknowledgement)
    assert _bases(copies.turn("a")) == [24], "no timer would remind it"
    assert copies.replica("a").log.base > 14


def test_a_node_owes_no_answer_to_what_is_not_sent_any_more() -> None:
    copies = led_by_a()
    copies.see(view(1, 1, "a", "abc"), partition=1)
    copies.settle(0.2)
    copies.write("a")
    copies.turn("a")
    copies.net.clear()
    copies.see(view(2, 2, "b", "abc"))  # nobody will ever answer what a has sent
    copies.settle(0.5)
    petition = copies.holdings["a"].petition
    while (request := petition.take()) is not None:  # b and c were silent for a while; the meta group refuses
        copies.holdings["a"].on_answer(request.number, 2, copies.now)
    copies.settle(1.0)
    assert not petition.is_due, "b and c are well, and in sync in partition 1"


def test_a_leader_that_commits_alone_keeps_no_more_for_a_learner_than_it_may() -> None:
    copies = Copies("ab", log_bytes=SMALL_LOG_BYTES)
    copies.see(view(1, 1, "a", "a", holders="ab", least=1), "a")
    copies.write("a", 50)
    copies.turn("a")
    assert copies.replica("a").commit == 51
    assert copies.replica("a").log.size_bytes <= SMALL_LOG_BYTES
    copies.see(view(1, 1, "a", "a", holders="ab", least=1), "b")
    copies.settle(1.0)
    assert copies.replica("b").commit == 51


@pytest.mark.parametrize("has_copy", [True, False])
def test_a_learner_counts_by_the_life_that_is_registered(has_copy: bool) -> None:
    meta = Meta("abcd", ("abc",))
    row = meta.row(0)._replace(adding=("d",) if has_copy else ())
    before = _with_row(meta.table, row)
    meta.fence("d")
    seen = dict(views(_with_row(meta.table, row), life("a", meta.incarnation("a")), before))
    assert bool(seen) == has_copy
    if has_copy:
        row_seen = seen[0]
        assert row_seen is not None
        assert [member.name for member in row_seen.holders] == ["a", "b", "c"]


def _bases(packets: list[Packet]) -> list[int]:
    return [message.base for _, _, message in packets if isinstance(message, SnapshotChunk)]


def _turned(copies: Copies, name: str, seconds: float) -> list[Packet]:
    copies.now_s += seconds
    return copies.turn(name)


def _with_row(table: Table, row: PartitionRow) -> Table:
    return Table(table.cluster, table.version, table.voters, table.nodes, (row,))
