"""One voter's contract with its owner, and what it does with messages that make no sense."""

from dataclasses import replace
from math import inf

import pytest

from gimmal.cluster.raft import (
    COMMAND,
    CONFIGURATION,
    NOOP,
    BecameLeader,
    Committed,
    Configuration,
    Entry,
    Fact,
    HardState,
    Installed,
    Raft,
    RaftParameters,
    Role,
    Snapshot,
    SteppedDown,
    Stored,
)
from gimmal.wire import limits
from gimmal.wire.peer_messages import (
    RAFT_BLANK,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    RaftMessage,
    Vote,
    VoteRequest,
)
from tests.unit.raft_group import Group, Letter, Steady

ABC = Configuration(("a", "b", "c"), ())
START = Stored(1, None, Snapshot(1, 1, ABC, ()))
HUGE = limits.INTEGER_MAX


def voter(stored: Stored = START, me: str = "a") -> Raft:
    return Raft(me, stored, RaftParameters(), Steady(0.5), 0.0)


def append(
    term: int, prev: tuple[int, int] = (1, 1), *entries: tuple[int, int, object], commit: int = 0
) -> RaftMessage:
    return AppendEntries(*RAFT_BLANK, "b", "a", term, *prev, commit, 7, entries)


def replies(raft: Raft, now: float = 0.0) -> list[RaftMessage]:
    """Save, and return what the voter sends."""
    raft.on_saved(now)
    return [message for _, message in raft.drain()]


# -- the turn: nothing leaves before what it stands for is durable


def test_a_vote_leaves_only_when_it_is_saved() -> None:
    raft = voter()
    assert raft.receive(VoteRequest(*RAFT_BLANK, "b", "a", 2, False, 1, 1), 1.0) == []
    assert raft.drain() == []
    unsaved = raft.unsaved()
    assert unsaved is not None
    assert unsaved.hard_state == HardState(2, "b")
    assert unsaved.entries == ()
    assert replies(raft) == [Vote(*RAFT_BLANK, "a", "b", 2, is_trial=False, is_granted=True)]
    assert raft.unsaved() is None


def test_entries_are_acknowledged_only_when_they_are_saved() -> None:
    raft = voter()
    facts = raft.receive(append(2, (1, 1), (2, NOOP, ()), (2, COMMAND, ("x",)), commit=2), 1.0)
    assert facts == [Committed(2, Entry(2, NOOP, ()))]
    assert raft.drain() == []
    unsaved = raft.unsaved()
    assert unsaved == (HardState(2, None), None, 2, (Entry(2, NOOP, ()), Entry(2, COMMAND, ("x",))))
    (reply,) = replies(raft)
    assert isinstance(reply, AppendReply)
    assert (reply.is_accepted, reply.index, reply.round) == (True, 3, 7)


def test_what_replaces_entries_is_unsaved_from_there_on() -> None:
    raft = voter()
    raft.receive(append(2, (1, 1), (2, NOOP, ()), (2, COMMAND, ("x",)), (2, COMMAND, ("y",))), 1.0)
    raft.on_saved(1.0)
    raft.receive(append(3, (2, 2), (3, NOOP, ())), 2.0)
    assert raft.unsaved() == (HardState(3, None), None, 3, (Entry(3, NOOP, ()),))
    assert raft.last_index == 3


def test_a_trial_changes_nothing_that_has_to_be_saved() -> None:
    raft = voter()
    assert raft.tick(2.0) == []
    assert (raft.role, raft.term) == (Role.TRIAL, 1)
    assert [type(message) for _, message in raft.drain()] == [VoteRequest, VoteRequest]
    raft.receive(VoteRequest(*RAFT_BLANK, "b", "a", 5, True, 1, 1), 2.0)
    assert raft.unsaved() is None
    assert [message for _, message in raft.drain()] == [Vote(*RAFT_BLANK, "a", "b", 5, is_trial=True, is_granted=True)]


def test_a_leader_alone_commits_when_its_own_disk_has_it() -> None:
    raft = voter(Stored(1, None, Snapshot(1, 1, Configuration(("a",), ()), ())))
    assert raft.next_deadline() == 0.0, "it has nobody to wait for"
    assert raft.tick(0.0) == [BecameLeader(2)]
    assert raft.propose(("x",), 0.0) == 3
    assert raft.commit_index == 1
    assert raft.on_saved(0.0) == [Committed(2, Entry(2, NOOP, ())), Committed(3, Entry(2, COMMAND, ("x",)))]
    assert (raft.leader, raft.match_index("a"), raft.next_deadline()) == ("a", 3, inf)


def test_a_snapshot_of_what_is_saved_holds_no_message_back() -> None:
    raft = voter()
    raft.receive(append(2, (1, 1), (2, NOOP, ()), commit=2), 1.0)
    raft.on_saved(1.0)
    raft.compact(2, ("state",))
    assert [type(message) for _, message in raft.drain()] == [AppendReply]
    assert raft.unsaved() == (HardState(2, None), Snapshot(2, 2, ABC, ("state",)), 3, ())


def test_a_snapshot_of_somebody_else_is_acknowledged_only_when_it_is_saved() -> None:
    raft = voter()
    install = InstallSnapshot(*RAFT_BLANK, "b", "a", 2, 9, 2, 7, ABC, ("state",))
    assert raft.receive(install, 1.0) == [Installed(Snapshot(9, 2, ABC, ("state",)))]
    assert raft.drain() == []
    (reply,) = replies(raft)
    assert isinstance(reply, AppendReply)
    assert (reply.is_accepted, reply.index) == (True, 9)
    assert raft.receive(install, 1.0) == [], "the same again is nothing new"
    assert raft.stored == Stored(2, None, Snapshot(9, 2, ABC, ("state",)), ())


def test_a_restart_tells_again_what_follows_the_snapshot() -> None:
    raft = voter(Stored(2, None, Snapshot(1, 1, ABC, ()), (Entry(2, NOOP, ()), Entry(2, COMMAND, ("x",)))))
    assert (raft.commit_index, raft.last_index) == (1, 3)
    assert raft.receive(append(2, (3, 2), commit=3), 1.0) == [
        Committed(2, Entry(2, NOOP, ())),
        Committed(3, Entry(2, COMMAND, ("x",))),
    ]


# -- who may stand


def test_a_node_that_knows_no_group_never_stands() -> None:
    raft = voter(Stored())
    assert raft.next_deadline() == inf
    assert raft.tick(1e9) == []
    assert raft.campaign(1e9) == []
    assert raft.role is Role.FOLLOWER


def test_a_node_that_knows_no_group_answers() -> None:
    raft = voter(Stored())
    raft.receive(VoteRequest(*RAFT_BLANK, "b", "a", 2, False, 1, 1), 1.0)
    raft.receive(append(2), 1.0)
    vote, reply = replies(raft)
    assert isinstance(vote, Vote)
    assert vote.is_granted
    assert isinstance(reply, AppendReply)
    assert (reply.is_accepted, reply.index, reply.index_term) == (False, 0, 0)


def test_a_learner_follows_and_never_stands() -> None:
    raft = voter(Stored(1, None, Snapshot(1, 1, Configuration(("b",), ("a",)), ())))
    raft.receive(append(2, (1, 1), (2, NOOP, ()), commit=2), 1.0)
    assert (raft.commit_index, raft.next_deadline()) == (2, inf)


def test_who_is_being_removed_stands_until_that_is_committed() -> None:
    raft = voter()
    removal = (2, CONFIGURATION, (("b", "c"), ()))
    raft.receive(append(2, (1, 1), removal), 1.0)
    assert raft.next_deadline() < inf, "the others may need its log"
    raft.receive(append(2, (2, 2), commit=2), 1.0)
    assert raft.next_deadline() == inf


# -- loyalty, and terms that are taken over


@pytest.fixture
def follower() -> Raft:
    """A voter that has heard the leader of term 3 at second 1."""
    raft = voter()
    raft.receive(append(3), 1.0)
    replies(raft)
    return raft


def test_who_hears_the_leader_refuses_trials_and_ignores_elections(follower: Raft) -> None:
    follower.receive(VoteRequest(*RAFT_BLANK, "c", "a", 9, True, 99, 9), 1.7)
    follower.receive(VoteRequest(*RAFT_BLANK, "c", "a", 9, False, 99, 9), 1.7)
    assert replies(follower) == [Vote(*RAFT_BLANK, "a", "c", 3, is_trial=True, is_granted=False)]
    assert (follower.term, follower.leader) == (3, "b")


def test_who_hears_that_its_process_is_gone_votes_at_once_and_stands_soon(follower: Raft) -> None:
    follower.on_leader_gone(0.1)
    assert follower.leader is None
    assert 0.1 <= follower.next_deadline() <= 0.1 + RaftParameters().heartbeat_s
    follower.receive(VoteRequest(*RAFT_BLANK, "c", "a", 6, False, HUGE, HUGE), 0.1)
    assert (follower.term, follower.vote) == (6, "c")


def test_a_leader_does_not_hear_that_it_is_gone() -> None:
    leader = voter(Stored(1, None, Snapshot(1, 1, Configuration(("a",), ()), ())))
    leader.tick(0.0)
    leader.on_leader_gone(0.1)
    assert leader.role is Role.LEADER


def test_who_does_not_hear_it_any_more_votes(follower: Raft) -> None:
    follower.receive(VoteRequest(*RAFT_BLANK, "c", "a", 9, False, 99, 9), 1.75)
    assert replies(follower) == [Vote(*RAFT_BLANK, "a", "c", 9, is_trial=False, is_granted=True)]
    assert (follower.term, follower.leader) == (9, None)


def test_in_one_term_only_one_leads(follower: Raft) -> None:
    other = replace(append(3, (1, 1), (3, COMMAND, ("x",))), voter="c")
    assert follower.receive(other, 1.1) == []
    assert (follower.leader, follower.last_index, follower.drain()) == ("b", 1, [])


def test_a_leader_of_an_older_term_learns_the_newer_one(follower: Raft) -> None:
    follower.receive(append(2, (1, 1), (2, NOOP, ())), 1.1)
    (reply,) = replies(follower)
    assert isinstance(reply, AppendReply)
    assert (reply.is_accepted, reply.term, follower.last_index) == (False, 3, 1)


def test_one_who_asks_in_an_older_term_learns_the_newer_one(follower: Raft) -> None:
    follower.receive(VoteRequest(*RAFT_BLANK, "c", "a", 2, False, 99, 2), 9.0)
    assert replies(follower) == [Vote(*RAFT_BLANK, "a", "c", 3, is_trial=False, is_granted=False)]


def test_a_refused_trial_brings_a_voter_that_was_away_up_to_the_term() -> None:
    raft = voter()
    raft.tick(2.0)
    raft.receive(Vote(*RAFT_BLANK, "b", "a", 7, is_trial=True, is_granted=False), 2.0)
    assert (raft.role, raft.term) == (Role.FOLLOWER, 7)


def test_strangers_do_not_raise_the_term_of_who_does_not_ask_them() -> None:
    raft = voter()
    raft.tick(2.0)
    raft.receive(Vote(*RAFT_BLANK, "stranger", "a", 7, is_trial=True, is_granted=False), 2.0)
    raft.receive(Vote(*RAFT_BLANK, "stranger", "a", 2, is_trial=True, is_granted=True), 2.0)
    raft.receive(AppendReply(*RAFT_BLANK, "b", "a", 7, False, 0, 0, 0), 2.0)
    assert (raft.role, raft.term) == (Role.TRIAL, 1)


# -- leading


def test_a_round_of_an_older_term_confirms_nothing_although_its_answer_is_of_this_one() -> None:
    """What a deposed leader had sent arrives late, when it leads again: its rounds count from one again."""
    group = Group(["n1", "n2", "n3"])
    group.elect("n1")
    leader = group["n1"]
    for _ in range(50):
        leader.start_round(group.now)
    group.finish("n1")
    late = [letter for letter in group.in_flight if letter.target == "n2"][-1]
    group.in_flight.clear()
    group.elect("n2")
    group.elect("n1")
    group.settle()
    number = leader.start_round(group.now)
    assert isinstance(late.message, AppendEntries)
    assert number is not None
    assert number < late.message.round
    group.in_flight.append(late)
    group.settle(lambda letter: letter is late or letter.source == "n2")
    assert leader.role is Role.LEADER
    assert leader.confirmed_round < number


def test_a_leader_that_hears_no_quorum_steps_down_in_its_term() -> None:
    group = Group(["n1", "n2", "n3"])
    group.elect("n1")
    group.run(5.0)
    assert group.leaders == ["n1"], "heartbeats keep it"
    silent_since = group.now
    group.in_flight.clear()
    facts: list[Fact] = []
    while not facts:
        group.now = group["n1"].next_deadline()
        facts = group.tick("n1")
        group.in_flight.clear()
    assert facts == [SteppedDown(2)]
    assert group.now - silent_since <= group.parameters.election_timeout_s
    assert (group["n1"].term, group["n1"].leader, group["n1"].role) == (2, None, Role.FOLLOWER)


def test_everything_proposed_in_one_turn_travels_in_one_message() -> None:
    group = Group(["n1", "n2", "n3"])
    group.elect("n1")
    for number in range(5):
        group["n1"].propose((number,), group.now)
    group.finish("n1")
    assert [(letter.target, len(letter.message.entries)) for letter in group.in_flight] == [("n2", 5), ("n3", 5)]  # type: ignore[attr-defined]
    group.settle()
    assert [voter.state for voter in group.voters.values()] == [((0,), (1,), (2,), (3,), (4,))] * 3


def test_a_follower_that_does_not_answer_is_sent_no_more_than_a_window() -> None:
    group = Group(["n1", "n2", "n3"], parameters=RaftParameters(in_flight_max=4, entries_per_append_max=2))
    group.elect("n1")
    for number in range(100):
        group.propose("n1", number)
        group.settle(lambda letter: "n3" not in (letter.source, letter.target))
    assert group["n1"].commit_index == 102
    group.settle()
    assert group["n1"].match_index("n3") == 2
    group.run(1.0)
    assert group["n1"].match_index("n3") == 102


def test_a_round_is_confirmed_when_a_quorum_has_answered_it() -> None:
    group = Group(["n1", "n2", "n3"])
    group.elect("n1")
    leader = group["n1"]
    asked_at = group.now = group.now + 0.01
    number = leader.start_round(group.now)
    group.finish("n1")
    assert number is not None
    assert leader.confirmed_round < number
    assert leader.confirmed_since < asked_at
    group.now += 0.02
    group.settle(lambda letter: "n3" not in (letter.source, letter.target))
    assert (leader.confirmed_round, leader.confirmed_since) == (number, asked_at)
    assert group["n2"].start_round(group.now) is None
    assert (group["n2"].confirmed_round, group["n2"].confirmed_since) == (0, -inf)


def test_only_a_leader_proposes() -> None:
    raft = voter()
    assert raft.propose(("x",), 0.0) is None
    assert raft.propose_configuration(Configuration(("a", "b"), ()), 0.0) is None


def test_one_change_of_the_configuration_at_a_time() -> None:
    group = Group(["n1", "n2", "n3"], ["n4"])
    group.elect("n1")
    leader = group["n1"]
    with_learner = Configuration(("n1", "n2", "n3"), ("n4",))
    assert leader.propose_configuration(with_learner, group.now) == 3
    assert leader.is_change_pending
    assert leader.configuration == with_learner, "in force from the moment it is appended"
    promoted = Configuration(("n1", "n2", "n3", "n4"), ())
    assert leader.propose_configuration(promoted, group.now) is None
    group.finish("n1")
    group.run(1.0)
    assert leader.match_index("n4") == 3
    assert leader.propose_configuration(Configuration(("n1",), ()), group.now) is None
    assert leader.propose_configuration(promoted, group.now) == 4
    group.finish("n1")
    group.run(1.0)
    assert group["n4"].configuration == promoted
    assert not leader.is_change_pending


def test_a_leader_that_is_removed_steps_down_when_that_is_committed() -> None:
    group = Group(["n1", "n2", "n3"])
    group.elect("n1")
    group["n1"].propose_configuration(Configuration(("n2", "n3"), ()), group.now)
    group.finish("n1")
    assert group.leaders == ["n1"]
    group.settle()
    assert group.leaders == []
    assert [voter.live.commit_index for voter in group.voters.values()] == [3, 3, 3]
    group.run(3.0)
    assert len(group.leaders) == 1
    assert group.leaders != ["n1"]
    assert group["n1"].term == 2, "who was removed does not ask"


def test_compaction_leaves_a_tail_and_a_laggard_gets_a_snapshot() -> None:
    group = Group(["n1", "n2", "n3"], parameters=RaftParameters(entries_kept=3))
    group.elect("n1")

    def without_n3(letter: Letter) -> bool:
        return "n3" not in (letter.source, letter.target)

    for number in range(10):
        group.propose("n1", number)
        group.settle(without_n3)
    group["n1"].compact(12, group.voters["n1"].state)
    group.finish("n1")
    assert group["n1"].log.base_index == 9
    group.run(0.5, without_n3)
    group.run(0.5)
    assert group.voters["n3"].state == group.voters["n1"].state
    assert group["n3"].log.snapshot == group["n1"].log.snapshot
    with pytest.raises(AssertionError, match="not committed"):
        group["n1"].compact(99, ())


# -- what makes no sense


def nonsense() -> list[RaftMessage]:
    return [
        append(3, (1, 1), (3, 99, ())),
        append(3, (1, 1), (3, CONFIGURATION, ("x",))),
        append(3, (1, 1), (3, CONFIGURATION, ((1,), ()))),
        append(3, (1, 1), (4, COMMAND, ())),
        append(3, (1, 9), (3, COMMAND, ())),
        append(3, (1, 1), (3, COMMAND, ()), (2, COMMAND, ())),
        append(0, (0, 0), (0, COMMAND, ())),
        InstallSnapshot(*RAFT_BLANK, "b", "a", 3, 9, 2, 0, (("x", "x"), ()), ()),
        InstallSnapshot(*RAFT_BLANK, "b", "a", 3, 9, 4, 0, ABC, ()),
        InstallSnapshot(*RAFT_BLANK, "b", "a", 3, 9, 0, 0, ABC, ()),
    ]


@pytest.mark.parametrize("number", range(len(nonsense())))
def test_what_makes_no_sense_is_dropped(number: int) -> None:
    raft = voter()
    assert raft.receive(nonsense()[number], 1.0) == []
    assert (raft.term, raft.leader, raft.unsaved(), raft.drain()) == (1, None, None, [])


def test_what_is_meant_for_another_is_dropped() -> None:
    raft = voter()
    raft.receive(replace(append(3), target="a/of an earlier life"), 1.0)
    raft.receive(replace(append(3), voter="a"), 1.0)
    assert (raft.term, raft.drain()) == (1, [])


def huge() -> list[RaftMessage]:
    return [
        append(2, (HUGE, 2), commit=HUGE),
        append(2, (1, 1), (2, NOOP, ()), commit=HUGE),
        AppendReply(*RAFT_BLANK, "b", "a", 2, True, HUGE, HUGE, HUGE),
        AppendReply(*RAFT_BLANK, "b", "a", 2, False, HUGE, HUGE, HUGE),
        AppendReply(*RAFT_BLANK, "b", "a", 2, False, 0, HUGE, HUGE),
        VoteRequest(*RAFT_BLANK, "b", "a", 3, True, HUGE, HUGE),
        InstallSnapshot(*RAFT_BLANK, "b", "a", 2, HUGE, 2, HUGE, ABC, ()),
        VoteRequest(*RAFT_BLANK, "b", "a", HUGE, False, HUGE, HUGE),
        VoteRequest(*RAFT_BLANK, "b", "a", HUGE, True, HUGE, HUGE),
        Vote(*RAFT_BLANK, "b", "a", HUGE, False, is_granted=False),
        append(HUGE, (1, 1), (HUGE, NOOP, ()), commit=HUGE),
        AppendReply(*RAFT_BLANK, "b", "a", HUGE, False, HUGE, HUGE, HUGE),
        InstallSnapshot(*RAFT_BLANK, "b", "a", HUGE, HUGE, HUGE, HUGE, ABC, ()),
    ]


@pytest.mark.parametrize("message", huge())
@pytest.mark.parametrize("is_leading", [False, True])
def test_no_number_is_too_large(message: RaftMessage, is_leading: bool) -> None:
    raft = voter()
    if is_leading:
        raft.tick(2.0)
        for is_trial in (True, False):
            raft.receive(Vote(*RAFT_BLANK, "b", "a", 2, is_trial, is_granted=True), 2.0)
        assert raft.role is Role.LEADER
    raft.receive(message, 2.1)
    raft.on_saved(2.1)
    raft.drain()
    raft.tick(9.0)
    raft.on_saved(9.0)
    raft.drain()
    assert raft.commit_index <= raft.last_index
    assert raft.last_index < 10, "a lie about an index lasts for ever"
    assert raft.term < 2 * limits.TERM_STEP_MAX, "terms are not used up"


def test_one_message_raises_a_term_only_so_far() -> None:
    raft = voter()
    far = 1 + 3 * limits.TERM_STEP_MAX
    raft.receive(VoteRequest(*RAFT_BLANK, "b", "a", far, True, 9, 9), 1.0)
    assert raft.term == 1, "a trial raises no term"
    for now in (1.0, 1.1, 1.9):
        raft.receive(append(far), now)
        assert (raft.term, raft.leader) == (1 + limits.TERM_STEP_MAX, None)
    raft.receive(append(far), 2.0)
    assert (raft.term, raft.leader) == (1 + 2 * limits.TERM_STEP_MAX, None)
    raft.receive(append(far), 2.1)
    assert (raft.term, raft.leader) == (far, "b"), "it has come after those who believe in it"


def test_one_snapshot_carries_a_log_only_so_far() -> None:
    raft = voter()
    beyond = raft.last_index + limits.INDEX_STEP_MAX + 1
    raft.receive(InstallSnapshot(*RAFT_BLANK, "b", "a", 2, beyond, 2, 0, ABC, ()), 1.0)
    assert raft.last_index < 10
    raft.receive(InstallSnapshot(*RAFT_BLANK, "b", "a", 2, beyond - 1, 2, 0, ABC, ()), 1.0)
    assert raft.last_index == beyond - 1
