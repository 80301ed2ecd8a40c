"""Copies on several nodes together: writes, failovers, followers that are behind, and who is in sync."""

import pytest

from gimmal.replication.holdings import COMMIT_AFTER_S
from gimmal.replication.leading import Leading
from gimmal.replication.stream import PORTION_BYTES, SLOW_AFTER_S
from gimmal.wire import commands
from gimmal.wire.peer_messages import Append, AppendAck, Histories
from tests.unit.holdings_group import Copies, get, set_


@pytest.fixture
def copies() -> Copies:
    """Three nodes, led by n1, which is ready."""
    copies = Copies("n1", "n2", "n3")
    copies.run(2 * COMMIT_AFTER_S)
    assert [copies.log(name) for name in copies.lives] == ["1|", "1|", "1|"]
    return copies


def leading_of(copies: Copies, name: str) -> Leading:
    leading = copies.replica(name).leading
    assert leading is not None
    return leading


# -- one write


def test_a_write_is_acknowledged_when_all_in_sync_have_it(copies: Copies) -> None:
    copies.write("n1", "a")
    copies.deliver("n1->n2")
    copies.deliver("n2->n1")
    assert copies.answers == {}
    copies.deliver("n1->n3")
    copies.deliver("n3->n1")
    assert copies.answers == {"a": True}
    assert [copies.keys(name) for name in copies.lives] == [["a"], [], []]


def test_followers_hear_of_a_commit_alone_after_a_moment(copies: Copies) -> None:
    copies.write("n1", "a")
    copies.settle()
    assert copies["n1"].next_deadline() == copies.now + COMMIT_AFTER_S
    copies.run(COMMIT_AFTER_S)
    assert [copies.keys(name) for name in copies.lives] == [["a"]] * 3


def test_followers_hear_of_a_commit_with_the_next_write_if_there_is_one(copies: Copies) -> None:
    copies.write("n1", "a")
    copies.settle()
    copies.write("n1", "b")
    copies.settle()
    assert copies.keys("n2") == ["a"]


def test_nothing_is_said_when_there_is_nothing_to_say(copies: Copies) -> None:
    copies.run(10)
    assert all(not holdings.drain(copies.instant()) for holdings in copies.holdings.values())
    assert {copies[name].next_deadline() for name in copies.lives} == {float("inf")}


def test_one_turn_makes_one_append_for_each_follower(copies: Copies) -> None:
    copies = Copies("n1", "n2", "n3", partitions=5)
    copies.run(1)
    for partition in range(5):
        copies.write("n1", *(f"{partition}{letter}" for letter in "abc"), partition=partition)
    sent = copies.deliver()
    assert [type(message) for message in sent] == [Append, Append]
    for append in sent:
        assert isinstance(append, Append)
        assert [len(section[5]) for section in append.sections] == [3] * 5
    answers = copies.deliver()
    assert [type(message) for message in answers] == [AppendAck, AppendAck]
    assert len(copies.answers) == 15


def test_with_one_copy_a_write_commits_at_once() -> None:
    copies = Copies("n1")
    copies.write("n1", "a")
    assert copies.answers == {"a": True}
    assert copies.deliver() == []


def test_a_log_that_nobody_follows_is_not_kept() -> None:
    copies = Copies("n1")
    for number in range(500):
        copies.write("n1", f"k{number}")
    log = copies.replica("n1").log
    assert log.last == 501
    assert log.size_bytes < 64 * 1024


def test_below_the_least_number_of_copies_nothing_commits(copies: Copies) -> None:
    copies.fence("n2")
    copies.fence("n3")
    copies.tell()
    copies.write("n1", "a")
    copies.run(1)
    assert copies.answers == {}
    copies.unfence("n3")
    copies.alter("n1", "n3")
    copies.tell()
    copies.run(1)
    assert copies.answers == {"a": True}


# -- another leader


def test_a_deposed_leader_does_not_know_what_becomes_of_its_proposals(copies: Copies) -> None:
    copies.cuts.add("n1")
    copies.write("n1", "a")
    copies.flush()
    copies.elect("n2")
    copies.tell()
    assert copies.undecided == ["a"]
    copies.run(1)
    copies.cuts.clear()
    copies.run(2)
    assert copies.answers == {}
    assert {copies.log(name) for name in copies.lives} == {"12|"}, "n1 has cut off what it had alone"


def test_what_most_have_is_kept_by_the_next_leader(copies: Copies) -> None:
    copies.write("n1", "a")
    copies.deliver("n1->n2")
    copies.drop()
    copies.elect("n2")
    copies.tell()
    copies.run(1)
    assert {copies.log(name) for name in copies.lives} == {"112|"}
    assert copies.keys("n3") == ["a"]


def test_a_new_leader_answers_nobody_before_its_no_op(copies: Copies) -> None:
    copies.elect("n2")
    copies.tell()
    replica = copies.replica("n2")
    assert not replica.is_ready
    assert replica.log.entries[-1][5] == (commands.NOOP,)
    copies.settle()
    assert replica.is_ready


def test_a_follower_that_hears_first_is_aligned_when_its_leader_hears_too(copies: Copies) -> None:
    copies.write("n1", "a")
    copies.deliver("n1->n3")
    copies.drop()
    copies.elect("n2")
    copies.tell("n3")
    assert [type(message) for message in copies.deliver("n3->n2")] == [Histories]
    copies.tell("n1", "n2")
    copies.settle()
    assert copies.log("n3") == "1|2", "at once: its leader shows that it leads by now"


def test_an_old_leader_is_fenced_by_its_epoch(copies: Copies) -> None:
    copies.elect("n2")
    copies.tell("n2", "n3")
    copies.write("n1", "a")
    (append,) = copies.deliver("n1->n3")
    assert isinstance(append, Append)
    (ack,) = (message for message in copies.deliver("n3->n1") if isinstance(message, AppendAck))
    assert ack.refused == (0,)
    assert copies.answers == {}
    assert copies.log("n3") == "1|"


def test_who_is_not_listed_takes_nothing(copies: Copies) -> None:
    copies.fence("n3")
    copies.tell("n3")
    copies.write("n1", "a")
    copies.settle()
    assert copies.log("n3") == "1|"
    assert copies.answers == {}


def test_a_read_is_answered_from_what_is_committed(copies: Copies) -> None:
    copies.write("n1", "a")
    assert copies.replica("n1").read(get("a"), 0) is None
    copies.settle()
    assert copies.replica("n1").read(get("a"), 0) is not None


# -- who is in sync


def test_a_silent_follower_leaves_and_comes_back(copies: Copies) -> None:
    copies.cuts.add("n3")
    copies.write("n1", "a")
    copies.run(SLOW_AFTER_S / 2)
    assert copies.decide("n1") is None
    copies.run(SLOW_AFTER_S)
    assert copies.answers == {}
    decision = copies.decide("n1")
    assert decision is not None
    assert decision.request.changes == ((0, 1, 1, (("n1", 1), ("n2", 2))),)
    copies.tell("n1")
    assert copies.answers == {"a": True}, "the row is enough; the answer may come later"
    copies.answer("n1", decision)
    copies.cuts.clear()
    copies.run(2)
    decision = copies.decide("n1")
    assert decision is not None
    assert decision.request.changes == ((0, 1, 2, (("n1", 1), ("n2", 2), ("n3", 3))),)


def test_a_lagging_node_is_dropped_from_all_partitions_at_once() -> None:
    copies = Copies("n1", "n2", "n3", partitions=4)
    copies.run(1)
    copies.cuts.add("n2")
    copies.write("n1", "a", partition=3)
    copies.run(2 * SLOW_AFTER_S)
    decision = copies.decide("n1")
    assert decision is not None
    assert [change[0] for change in decision.request.changes] == [0, 1, 2, 3]


def test_nobody_is_dropped_below_the_least_number() -> None:
    copies = Copies("n1", "n2")
    copies.run(1)
    copies.cuts.add("n2")
    copies.write("n1", "a")
    copies.run(5)
    assert copies.decide("n1") is None
    assert copies.answers == {}


def test_who_is_proposed_is_counted_on_until_the_answer_is_known(copies: Copies) -> None:
    copies.alter("n1", "n2")
    copies.tell()
    copies.run(1)
    granted = copies.decide("n1")
    assert granted is not None
    assert granted.made == 1
    copies.cuts.add("n3")
    copies.write("n1", "a")
    copies.run(1)
    copies.answer("n1", granted)
    assert copies.answers == {}, "the answer alone does not say what the row is now"
    copies.cuts.clear()
    copies.run(2)
    assert copies.answers == {"a": True}


def test_who_was_refused_is_not_counted_on_any_more(copies: Copies) -> None:
    copies.alter("n1", "n2")
    copies.tell()
    copies.run(1)
    copies.cuts.add("n3")
    copies.write("n1", "a")
    refused = copies.decide("n1", grants=False)
    assert refused is not None
    copies.run(1)
    copies.answer("n1", refused)
    assert copies.answers == {}, "the table of the answer is not here yet: it may have another row"
    copies.tell("n1")
    assert copies.answers == {"a": True}


def test_a_restarted_copy_is_another_and_joins_when_it_has_everything(copies: Copies) -> None:
    copies.write("n1", "a", "b")
    copies.settle()
    copies.restart("n3")
    copies.tell()
    copies.settle()
    assert copies.log("n3") == "111|"
    decision = copies.decide("n1")
    assert decision is not None
    assert decision.request.changes[0][3] == (("n1", 1), ("n2", 2), ("n3", copies.lives["n3"].number))


def test_an_acknowledgement_of_an_earlier_life_counts_for_nothing(copies: Copies) -> None:
    copies.write("n1", "a")
    copies.deliver("n1->n3")
    copies.flush()
    copies.restart("n3")
    copies.tell("n1")
    copies.deliver("n3->n1")
    decision = copies.decide("n1")
    assert decision is None
    assert copies.answers == {}


def catching_up() -> Copies:
    """n2 leads since a moment, and n3 has the first of three long entries that n2 took over; nobody is cut off."""
    copies = Copies("n1", "n2", "n3")
    copies.run(1)
    copies.cuts.add("n3")
    for key in ("a", "b", "c"):
        copies.propose("n1", key, set_(key, bytes(PORTION_BYTES)))
    copies.settle()
    copies.alter("n1", "n2")
    copies.tell()
    assert list(copies.answers) == ["a", "b", "c"]
    copies.cuts.clear()
    copies.elect("n2")
    copies.tell("n2", "n3")
    copies.deliver_until(Histories)
    copies.hand_over(copies.take("n2->n3")[0])
    assert copies.log("n3") == "1|1"
    return copies


def test_nobody_joins_without_the_log_that_the_leader_took_over() -> None:
    """Nothing has committed in its epoch yet, but what it took over may be committed all the same, and here it is."""
    copies = catching_up()
    copies.deliver("n3->n2")
    leading = leading_of(copies, "n2")
    progress = leading.followers_by_member[copies.lives["n3"]]
    assert (progress.match, copies.replica("n2").commit, leading.leso) == (2, 1, 4)
    assert copies.decide("n2") is None
    copies.tell()
    copies.run(2)
    decision = copies.decide("n2")
    assert decision is not None
    assert copies.log("n3") == "11112|"
