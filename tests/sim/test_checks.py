"""Each check catches what it is for: a checker that has never caught anything proves nothing."""

from collections import Counter
from collections.abc import Callable

import pytest

from gimmal.cluster.table import FENCED
from gimmal.wire.peer_messages import AppendEntries, Vote, VoteRequest
from tests.sim.checks import Checks
from tests.sim.puppet import CLUSTER, Puppet, node_row, partition_row, stranger, table
from tests.sim.subject import NOBODY, Identity
from tests.sim.violation import Violation

HEADER = (CLUSTER, 0, 0, 0, "n1", "n1:7701")
A, B, C = (1, 1, ("a",)), (1, 1, ("b",)), (2, 1, ("c",))


@pytest.fixture
def checks() -> Checks:
    return Checks(Counter())


def puppets(count: int = 3) -> list[Puppet]:
    return [Puppet(f"n{number}") for number in range(1, count + 1)]


def look_at(checks: Checks, *shown: Puppet) -> None:
    for puppet in shown:
        checks.on_turn(puppet.host)


def vote(term: int, voter: str, candidate: str, *, is_trial: bool = False, is_granted: bool = True) -> Vote:
    return Vote(*HEADER, voter, candidate, term, is_trial, is_granted)


# -- Raft -------------------------------------------------------------------------------------------------------------


def test_two_leaders_of_one_term_are_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.leads = other.leads = True
    look_at(checks, one)
    with pytest.raises(Violation, match="election safety"):
        look_at(checks, other)


def test_a_leader_is_known_by_what_it_sends_too(checks: Checks) -> None:
    one, other, _ = puppets()
    append = AppendEntries(*HEADER, "n1/1", "n2/1", 1, 0, 0, 0, 1, ())
    checks.on_leaving(one.host, append)
    other.leads = True
    with pytest.raises(Violation, match="election safety"):
        look_at(checks, other)


def test_a_second_vote_in_a_term_is_caught_even_if_the_voter_died_between(checks: Checks) -> None:
    one = Puppet("n1")
    checks.on_leaving(one.host, vote(4, "n1/1", "n2/1"))
    checks.on_leaving(one.host, vote(4, "n1/1", "n2/1"))
    one.host.forget()
    with pytest.raises(Violation, match="no lost vote"):
        checks.on_leaving(one.host, vote(4, "n1/1", "n3/1"))


def test_a_candidate_has_voted_for_itself(checks: Checks) -> None:
    one = Puppet("n1")
    checks.on_leaving(one.host, VoteRequest(*HEADER, "n1/1", "n2/1", 4, False, 0, 0))
    with pytest.raises(Violation, match="no lost vote"):
        checks.on_leaving(one.host, vote(4, "n1/1", "n3/1"))


def test_trials_and_refusals_are_no_votes(checks: Checks) -> None:
    one = Puppet("n1")
    checks.on_leaving(one.host, vote(4, "n1/1", "n2/1", is_trial=True))
    checks.on_leaving(one.host, vote(4, "n1/1", "n2/1", is_granted=False))
    checks.on_leaving(one.host, vote(4, "n1/1", "n3/1"))


def test_different_entries_of_one_index_and_term_are_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.log, other.log = [A], [B]
    look_at(checks, one)
    with pytest.raises(Violation, match="log matching"):
        look_at(checks, other)


def test_equal_entries_after_different_ones_are_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.log, other.log = [A, C], [(2, 1, ("x",)), C]
    one.term = other.term = 2
    look_at(checks, one)
    with pytest.raises(Violation, match="log matching"):
        look_at(checks, other)


def test_a_leader_that_drops_an_entry_is_caught(checks: Checks) -> None:
    one = Puppet("n1")
    one.leads, one.log = True, [A, B]
    look_at(checks, one)
    one.log = [A]
    with pytest.raises(Violation, match="leader append-only"):
        look_at(checks, one)


def test_a_follower_may_drop_what_is_not_committed_and_nothing_else(checks: Checks) -> None:
    one = Puppet("n1")
    one.log, one.commit = [A, B], 1
    look_at(checks, one)
    one.log, one.term = [A, C], 2
    look_at(checks, one)
    one.log = [C]
    with pytest.raises(Violation, match="commit is"):
        look_at(checks, one)


def test_different_entries_committed_at_one_index_are_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.log, one.commit = [A], 1
    other.log, other.commit, other.term = [C], 1, 2
    look_at(checks, one)
    with pytest.raises(Violation, match="state machine safety"):
        look_at(checks, other)


def test_a_snapshot_of_another_history_is_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.log, one.commit = [A, B], 2
    other.compacted, other.log, other.commit, other.term = (2, 2), [(2, 1, ("d",))], 3, 2
    look_at(checks, one)
    with pytest.raises(Violation, match="state machine safety"):
        look_at(checks, other)


def test_a_leader_without_what_was_committed_before_its_term_is_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.log, one.commit = [A], 1
    look_at(checks, one)
    other.term, other.leads = 2, True
    with pytest.raises(Violation, match="leader completeness"):
        look_at(checks, other)


def test_a_leader_is_held_to_what_turns_out_later_to_have_been_committed(checks: Checks) -> None:
    one, other, _ = puppets()
    other.term, other.leads = 2, True
    look_at(checks, other)
    one.log, one.commit = [A], 1
    with pytest.raises(Violation, match="leader completeness"):
        look_at(checks, one)


def test_an_old_leader_is_not_held_to_what_later_ones_committed(checks: Checks) -> None:
    one, other, _ = puppets()
    one.log, one.commit, one.term = [C], 1, 2
    look_at(checks, one)
    other.term, other.leads = 1, True
    look_at(checks, other)


def test_terms_and_commits_that_fall_are_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.term = 2
    look_at(checks, one)
    one.term = 1
    with pytest.raises(Violation, match="terms rise"):
        look_at(checks, one)
    other.log, other.commit = [A], 1
    look_at(checks, other)
    other.commit = 0
    with pytest.raises(Violation, match="commit rises"):
        look_at(checks, other)


def test_a_change_behind_the_end_of_a_log_is_caught_at_the_end(checks: Checks) -> None:
    one = Puppet("n1")
    one.log = [A, B]
    look_at(checks, one)
    one.log = [B, B]
    look_at(checks, one)
    with pytest.raises(Violation, match="log matching"):
        checks.raft.check_all_logs([one.host])


# -- tables -----------------------------------------------------------------------------------------------------------


def test_two_tables_of_one_version_are_caught(checks: Checks) -> None:
    one, other, _ = puppets()
    one.shown, other.shown = table(5), table(5, partitions=[partition_row("n2")])
    look_at(checks, one)
    with pytest.raises(Violation, match=r"one version, one table: .*partitions differ"):
        look_at(checks, other)


def test_a_table_that_goes_back_is_caught(checks: Checks) -> None:
    one = Puppet("n1")
    one.shown = table(5)
    look_at(checks, one)
    one.shown = table(4)
    with pytest.raises(Violation, match="table versions rise"):
        look_at(checks, one)


def test_only_who_was_never_registered_may_leave_a_cluster_and_its_table(checks: Checks) -> None:
    one, other, third = puppets()
    for puppet in (one, other, third):
        puppet.shown = table(5)
    third.who = Identity(CLUSTER, 3)
    look_at(checks, one, other, third)
    one.who, one.shown = NOBODY, None
    look_at(checks, one)
    other.shown = None
    with pytest.raises(Violation, match="table versions rise: n2 lost"):
        look_at(checks, other)
    third.who, third.shown = NOBODY, None
    with pytest.raises(Violation, match="who is registered stays"):
        look_at(checks, third)


def test_a_process_that_becomes_another_voter_is_caught(checks: Checks) -> None:
    one, _, _ = puppets()
    look_at(checks, one)
    one.voter = "n1/2"
    with pytest.raises(Violation, match="a voter keeps its word"):
        look_at(checks, one)


BAD_STEPS = {
    "incarnations rise": (table(1, [node_row("n1", 5)]), table(2, [node_row("n1", 4)])),
    "one incarnation per name": (table(1, [node_row("n1", 5)]), table(2, [node_row("n1", 5, b"another process!")])),
    "no row leaves": (table(1, [node_row("n1"), node_row("n2")]), table(2, [node_row("n1")])),
    "epochs and versions rise": (
        table(1, partitions=[partition_row("n1", 2, 2)]),
        table(2, partitions=[partition_row("n1", 1, 3)]),
    ),
    "one leader per epoch": (
        table(1, partitions=[partition_row("n1", 1, 1)]),
        table(2, partitions=[partition_row("n2", 1, 2)]),
    ),
    "one version, one row": (
        table(1, partitions=[partition_row("n1", 1, 1)]),
        table(2, partitions=[partition_row("n1", 2, 1)]),
    ),
}


@pytest.mark.parametrize("is_newer_seen_first", [False, True])
@pytest.mark.parametrize("check", BAD_STEPS)
def test_a_step_that_takes_something_back_is_caught(checks: Checks, check: str, *, is_newer_seen_first: bool) -> None:
    one, other, _ = puppets()
    one.shown, other.shown = BAD_STEPS[check][::-1] if is_newer_seen_first else BAD_STEPS[check]
    look_at(checks, one)
    with pytest.raises(Violation, match=check):
        look_at(checks, other)


def test_steps_are_checked_over_versions_that_nobody_showed(checks: Checks) -> None:
    one, other, third = puppets()
    one.shown, other.shown = table(1, [node_row("n1", 3)]), table(9, [node_row("n1", 2, status=FENCED)])
    look_at(checks, one)
    with pytest.raises(Violation, match="incarnations rise"):
        look_at(checks, other)
    look_at(checks, third)


def test_two_processes_that_believe_to_be_one_incarnation_are_caught(checks: Checks) -> None:
    one, twin = Puppet("n1"), Puppet("n1")
    twin.host.uuid = b"another process!"
    one.who = twin.who = Identity(CLUSTER, 7)
    look_at(checks, one)
    with pytest.raises(Violation, match="one incarnation per name"):
        look_at(checks, twin)


def test_two_clusters_from_one_founding_are_caught(checks: Checks) -> None:
    one, other, third = puppets()
    one.who = Identity(CLUSTER, 1)
    stillborn = Puppet("n8")
    stillborn.who = Identity(b"s" * 16, 0)
    other.who = Identity(bytes(16), 1)
    look_at(checks, stillborn, one, stranger("n9"))
    with pytest.raises(Violation, match="one cluster from one founding"):
        look_at(checks, other)
    foreigner = Puppet("x1", group="foreign")
    foreigner.who = Identity(bytes(16), 1)
    look_at(checks, foreigner, third)


LOOKS: list[Callable[[Puppet], None]] = [
    lambda puppet: None,
    lambda puppet: setattr(puppet, "log", [A]),
    lambda puppet: setattr(puppet, "commit", 1),
    lambda puppet: setattr(puppet, "term", 2),
    lambda puppet: setattr(puppet, "log", [A, C]),
    lambda puppet: setattr(puppet, "leads", True),
    lambda puppet: setattr(puppet, "commit", 2),
    lambda puppet: puppet.compact(),
    lambda puppet: setattr(puppet, "shown", table(3)),
]


def test_a_life_without_fault_passes(checks: Checks) -> None:
    one = Puppet("n1")
    for pull in LOOKS:
        pull(one)
        look_at(checks, one)
    checks.raft.check_all_logs([one.host])
    assert checks.counts["elections"] == 1
