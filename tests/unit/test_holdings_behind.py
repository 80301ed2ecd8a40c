"""Followers that are far behind, hang, or were taken back: snapshots, and what a leader must not believe."""

import pytest

from gimmal.cluster.table import PartitionRow
from gimmal.wire import commands, limits
from gimmal.wire.codec import frames
from gimmal.wire.peer_messages import Append, Histories, SnapshotAck, SnapshotChunk
from tests.unit.holdings_group import Copies, set_
from tests.unit.test_holdings import catching_up, leading_of


@pytest.fixture
def copies() -> Copies:
    """Three nodes, led by n1, which is ready."""
    copies = Copies("n1", "n2", "n3")
    copies.run(1)
    return copies


# -- snapshots


def compacted() -> Copies:
    """Three nodes, of which n3 has lost everything, and the others' logs reach back to nowhere."""
    copies = Copies("n1", "n2", "n3", log_bytes=0)
    copies.run(1)
    copies.write("n1", "a", "b")
    copies.run(1)
    copies.restart("n3")
    copies.tell()
    return copies


def test_who_lacks_what_is_forgotten_gets_a_snapshot_while_others_are_served() -> None:
    copies = compacted()
    copies.deliver_until(SnapshotChunk)
    copies.write("n1", "c")
    copies.deliver("n1->n2")
    copies.deliver("n2->n1")
    assert copies.answers["c"] is True
    assert copies.log("n3") == "...|"
    assert [type(message) for message in copies.deliver("n3->n1")] == [SnapshotAck]
    copies.run(1)
    assert copies.keys("n3") == ["a", "b", "c"]
    decision = copies.decide("n1")
    assert decision is not None
    assert decision.made == 1


def test_a_snapshot_of_many_chunks_survives_losses() -> None:
    copies = Copies("n1", "n2", "n3", log_bytes=0)
    copies.run(1)
    for number in range(40):
        copies.propose("n1", None, (commands.SET, b"k%d" % number, b"\xc4\x02" + bytes(60_000), 0, 0, None))
    copies.run(1)
    copies.restart("n3")
    copies.tell()
    copies.settle_with_losses()
    assert len(copies.keys("n3")) == 40
    assert copies.replica("n3").engine.digest() == copies.replica("n1").engine.digest()


def test_a_late_guess_of_where_the_logs_part_takes_nothing_of_a_snapshot_away() -> None:
    copies = Copies("n1", "n2", "n3", log_bytes=0)
    copies.run(1)
    for number in range(40):
        copies.propose("n1", None, (commands.SET, b"k%d" % number, b"\xc4\x02" + bytes(60_000), 0, 0, None))
    copies.run(1)
    copies.restart("n3")
    copies.tell()
    guesses = copies.take("n1->n3")
    assert [type(letter.message) for letter in guesses] == [Append]
    copies.deliver("n3->n1")
    for letter in guesses:
        copies.hand_over(letter)
    copies.deliver_until(SnapshotChunk)
    for letter in guesses:
        copies.hand_over(letter)
    copies.run(1)
    assert len(copies.keys("n3")) == 40, "what was acknowledged is not sent again"


def test_a_snapshot_ends_with_the_epoch_of_its_leader() -> None:
    copies = compacted()
    copies.deliver_until(SnapshotChunk)
    copies.elect("n2")
    copies.tell()
    copies.run(1)
    assert {copies.keys(name)[-1] for name in copies.lives} == {"b"}
    assert {copies.replica(name).epoch for name in copies.lives} == {2}


def test_a_leader_that_is_alone_in_sync_sends_snapshots_to_those_who_have_lost_everything() -> None:
    """Its no-op cannot commit before one of them has joined it, and none can without a snapshot."""
    copies = Copies("n1", "n2", "n3", log_bytes=0)
    copies.run(1)
    copies.write("n1", "a")
    copies.run(1)
    copies.restart("n1")
    copies.restart("n2")
    assert copies.rows[0].in_sync == (copies.lives["n3"],)
    copies.tell()
    copies.run(1)
    assert not copies.replica("n3").is_ready
    decision = copies.decide("n3")
    assert decision is not None
    assert decision.made == 1
    copies.tell()
    copies.run(1)
    assert copies.replica("n3").is_ready
    assert {tuple(copies.keys(name)) for name in copies.lives} == {("a",)}


def test_who_is_taken_back_before_it_has_all_that_its_leader_took_over_is_aligned_anew() -> None:
    """Its leader does not know any more how far it was, and begins anew: at a place that it has not reached yet."""
    copies = catching_up()
    copies.fence("n3")
    copies.tell("n2")
    copies.drop()
    copies.unfence("n3")
    copies.tell()
    copies.run(2)
    assert {copies.log(name) for name in copies.lives} == {"11112|"}


def test_who_is_taken_back_in_the_middle_of_a_snapshot_gets_it_from_the_start() -> None:
    copies = Copies("n1", "n2", "n3")
    copies.run(1)
    for number in range(20):
        copies.propose("n1", None, set_(f"k{number}", bytes(100_000)))
    copies.run(1)
    copies.replica("n1").log.forget(10)
    copies.elect("n1")
    copies.restart("n3")
    copies.tell()
    copies.deliver_until(SnapshotChunk)
    copies.drop()
    copies.fence("n3")
    copies.tell("n1")
    copies.unfence("n3")
    copies.tell()
    copies.run(2)
    assert len(copies.keys("n3")) == 20


def test_one_copy_in_sync_commits_at_once_and_still_tells_who_is_to_join() -> None:
    copies = Copies("n1", "n2")
    copies.rows[0] = PartitionRow("n1", 2, 2, ("n1",), (copies.lives["n1"],), adding=("n2",))
    copies.tell()
    copies.deliver("n2->n1")
    copies.deliver("n1->n2")
    copies.write("n1", "a", "b")
    assert copies.answers == {"a": True, "b": True}
    copies.settle()
    assert copies.keys("n2") == ["a", "b"]
    assert copies.replica("n1").log.last == copies.replica("n2").log.last


def test_an_acknowledgement_of_before_a_follower_was_taken_back_counts_for_nothing() -> None:
    """It hangs, is fenced and taken back, in the same life and epoch: what it answers to is long forgotten."""
    copies = Copies("n1", "n2", "n3")
    late = copies.take("n1->n3")
    copies.settle()
    copies.fence("n3")
    copies.tell("n1")
    copies.run(1)
    copies.tell("n1")
    copies.unfence("n3")
    copies.tell("n1")
    copies.write("n1", "a")
    copies.drop("n1->n3")
    for letter in late:
        copies.hand_over(letter)
    copies.deliver("n3->n1")
    assert copies.replica("n3").log.last == 1
    assert leading_of(copies, "n1").followers_by_member[copies.lives["n3"]].match < 2


def test_histories_of_many_partitions_after_many_elections_are_told_in_parts() -> None:
    copies = Copies("n1", "n2", partitions=200)
    copies.settle()
    log = copies.replica("n2").log
    for epoch in range(2, 400):
        log.append((epoch, 0, 0, 0, 0, (commands.NOOP,)))
    for replica in copies["n2"].replicas.values():
        replica.log = log  # all are the same, to save time
    for partition in range(200):
        copies.elect("n1", partition)
    copies.tell("n2")
    messages = [message for message in copies.drop() if isinstance(message, Histories)]
    assert len(messages) > 5
    assert [row[0] for message in messages for row in message.histories] == list(range(200))
    assert all(len(frame) < limits.PLAIN_FRAME_BYTES_MAX for message in messages for _, frame in frames(message))


def test_a_copy_that_is_not_to_be_held_any_more_says_what_it_cannot_answer_for(copies: Copies) -> None:
    copies.write("n1", "a")
    row = copies.rows[0]
    copies.rows[0] = row._replace(leader="n2", epoch=2, version=2, replicas=("n2", "n3"), in_sync=row.in_sync[1:])
    copies.tell("n1")
    assert copies.undecided == ["a"]
    assert copies["n1"].replicas == {}
