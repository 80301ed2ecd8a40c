"""What a leader counts, drawn: whose acknowledgements commit what, and who may be in sync."""

from itertools import count

import pytest

from gimmal.replication.leading import Leading, Proposal
from gimmal.replication.progress import Progress
from gimmal.replication.stream import Stream
from gimmal.replication.view import View
from gimmal.types import Incarnation

LIVES = {name: Incarnation(name, number) for number, name in enumerate(("n1", "n2", "n3", "n4", "n5"), 1)}
N1, N2, N3, N4, _ = LIVES.values()


def members(names: str) -> tuple[Incarnation, ...]:
    return tuple(LIVES[name] for name in names.split())


def view(in_sync: str, holders: str = "n1 n2 n3", version: int = 1, least: int = 2) -> View:
    return View(5, version, N1, members(holders), members(in_sync), least)


def leading(first: View, leso: int = 0) -> Leading:
    made = Leading(N1, first, leso, lambda member: Stream(member, count(1)))
    made.see(first)
    return made


def acknowledge(leader: Leading, drawing: str) -> int:
    """Acknowledge as the bars say, "n2 xxx" being entry 3 by n2; return how long n1's own is."""
    last = 0
    for bar in drawing.split(","):
        name, _, length = bar.strip().partition(" ")
        if name == "n1":
            last = len(length)
        elif length:
            leader.followers_by_member[LIVES[name]].on_acknowledged(len(length) if length != "-" else 0)
    return last


def proposal_of(leader: Leading) -> Proposal | None:
    return leader.proposal


# -- counting


@pytest.mark.parametrize(
    ("in_sync", "drawing", "commit"),
    [
        ("n1 n2 n3", "n1 xxxxx, n2 xxxxx, n3 xxxxx", 5),
        ("n1 n2 n3", "n1 xxxxx, n2 xxxx, n3 xxx", 3),
        ("n1 n2 n3", "n1 xxxxx, n2 xxxxx, n3 -", 0),
        ("n1 n2 n3", "n1 xxxxx, n2 xxxxx, n3", 0),  # nothing is known of n3
        ("n1 n2", "n1 xxxxx, n2 xxxx, n3", 4),  # n3 holds a copy, and does not count
        ("n1 n2", "n1 xxxxx, n2 xxxx, n3 xxxxx", 4),
        ("n1 n2", "n1 xx, n2 xxxx", 2),  # its own log counts too
        ("n1", "n1 xxxxx, n2 xxxxx, n3 xxxxx", 0),  # fewer than the least are in sync
    ],
)
def test_what_all_in_sync_have_is_committed(in_sync: str, drawing: str, commit: int) -> None:
    leader = leading(view(in_sync))
    assert leader.committed(acknowledge(leader, drawing)) == commit


@pytest.mark.parametrize(("leso", "commit"), [(0, 4), (3, 4), (4, 0), (5, 0)])
def test_nothing_commits_without_an_entry_of_this_epoch(leso: int, commit: int) -> None:
    leader = leading(view("n1 n2"), leso)
    assert leader.committed(acknowledge(leader, "n1 xxxxx, n2 xxxx")) == commit


def test_one_copy_alone_commits_what_it_has_if_one_is_enough() -> None:
    leader = leading(view("n1", "n1", least=1))
    assert (leader.followers, leader.must_have, leader.committed(3)) == ((), (), 3)


@pytest.mark.parametrize(
    ("proposed", "commit"),
    [("n1 n2 n3", 2), ("n1 n2 n4", 3), ("n1", 4), ("n1 n2", 4)],  # whoever is in the row counts as well
)
def test_who_is_proposed_is_counted_on(proposed: str, commit: int) -> None:
    leader = leading(view("n1 n2", "n1 n2 n3 n4"))
    last = acknowledge(leader, "n1 xxxxx, n2 xxxx, n3 xx, n4 xxx")
    leader.propose(members(proposed))
    assert leader.committed(last) == commit


def test_a_proposal_does_not_make_the_in_sync_set_large_enough() -> None:
    leader = leading(view("n1"))
    last = acknowledge(leader, "n1 xx, n2 xx")
    leader.propose(members("n1 n2"))
    assert not leader.can_commit
    assert leader.committed(last) == 0
    leader.see(view("n1 n2", version=2))
    assert leader.committed(last) == 2


def test_a_newer_row_ends_a_proposal() -> None:
    leader = leading(view("n1 n2"))
    leader.propose(members("n1 n2 n3"))
    leader.see(view("n1 n2", version=1))
    assert proposal_of(leader) == Proposal(1, members("n1 n2 n3")), "only somebody's life or death is new"
    leader.see(view("n1 n2", version=2))
    assert proposal_of(leader) is None
    assert [progress.member for progress in leader.must_have] == [N2]


@pytest.mark.parametrize(
    ("refused_version", "row_version", "is_over"),
    [(1, 1, True), (2, 1, False), (1, 2, True)],
)
def test_a_refusal_ends_a_proposal_if_the_row_is_still_the_one(
    refused_version: int, row_version: int, *, is_over: bool
) -> None:
    leader = leading(view("n1 n2"))
    leader.propose(members("n1 n2 n3"))
    if row_version > 1:
        leader.see(view("n1 n2", version=row_version))
    leader.on_refused(refused_version)
    assert (leader.proposal is None) is is_over


def test_an_old_refusal_does_not_end_a_later_proposal() -> None:
    leader = leading(view("n1 n2"))
    leader.propose(members("n1 n2 n3"))
    leader.see(view("n1 n2", version=2))
    leader.propose(members("n1 n2 n3"))
    leader.on_refused(1)
    assert leader.proposal is not None


def test_what_is_known_of_a_follower_is_kept_while_it_holds_a_copy() -> None:
    leader = leading(view("n1 n2 n3"))
    acknowledge(leader, "n2 xxx, n3 xxx")
    kept = leader.followers_by_member[N2]
    leader.see(view("n1 n2", "n1 n2", version=2))
    assert leader.followers == (kept,)
    leader.see(view("n1 n2", version=3))
    assert leader.followers_by_member[N3].match == -1, "what it does meanwhile, nobody knows"


def test_another_life_is_another_follower() -> None:
    leader = leading(view("n1 n2"))
    acknowledge(leader, "n2 xxx")
    reborn = Incarnation("n2", 9)
    leader.see(View(5, 2, N1, (N1, reborn, N3), (N1,), 2))
    assert leader.followers_by_member[reborn].match == -1
    assert N2 not in leader.followers_by_member


# -- who may be in sync


def follower(leader: Leading, match: int) -> Progress:
    progress = leader.followers_by_member[N3]
    progress.on_acknowledged(match)
    return progress


@pytest.mark.parametrize(
    ("match", "commit", "leso", "may_join"),
    [
        (5, 5, 3, True),
        (6, 5, 3, True),
        (4, 5, 3, False),  # it lacks something that is committed
        (3, 3, 3, False),  # it lacks the no-op
        (3, 0, 3, False),  # nothing has committed here yet: entries up to leso may be committed all the same
        (4, 0, 3, True),
    ],
)
def test_who_has_everything_that_may_be_committed_may_join(
    match: int, commit: int, leso: int, *, may_join: bool
) -> None:
    leader = leading(view("n1 n2"), leso)
    assert leader.may_join(follower(leader, match), commit) is may_join


def test_one_proposal_at_a_time() -> None:
    leader = leading(view("n1 n2", "n1 n2 n3 n4"))
    progress = follower(leader, 5)
    leader.propose(members("n1 n2 n4"))
    assert not leader.may_join(progress, 5)
    assert not leader.may_drop(N2)


def test_who_is_in_sync_or_holds_no_copy_does_not_join() -> None:
    leader = leading(view("n1 n2 n3"))
    progress = follower(leader, 5)
    assert not leader.may_join(progress, 5)
    leader.see(view("n1 n2", "n1 n2", version=2))
    assert not leader.may_join(progress, 5)


@pytest.mark.parametrize(
    ("in_sync", "member", "may_drop"),
    [("n1 n2 n3", N3, True), ("n1 n2 n3", N4, False), ("n1 n2", N2, False), ("n1 n2 n3", N2, True)],
)
def test_the_in_sync_set_does_not_shrink_below_the_least(in_sync: str, member: Incarnation, *, may_drop: bool) -> None:
    assert leading(view(in_sync)).may_drop(member) is may_drop
