"""Each check of copies catches what it is for."""

from collections import Counter

import pytest

from gimmal.cluster.table import PartitionRow
from gimmal.types import Entry, Incarnation
from tests.sim.checks import Checks
from tests.sim.puppet import CLUSTER, Puppet, partition_row, table
from tests.sim.subject import CopyState, Identity
from tests.sim.violation import Violation


@pytest.fixture
def checks() -> Checks:
    return Checks(Counter())


def entry(epoch: int, key: bytes = b"k") -> Entry:
    return (epoch, 0, 0, 0, 0, (18, key))


class Copy(Puppet):
    """A puppet in incarnation 1 that holds a copy of partition 0."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.who = Identity(CLUSTER, 1)

    def show(self, checks: Checks, entries: list[Entry], commit: int, epoch: int = 1, *, leads: bool = False) -> None:
        last_epoch = entries[-1][0] if entries else 0
        self.copied[0] = entries
        self.held[0] = CopyState(0, 1, epoch, epoch, leads, commit, len(entries), last_epoch, 1)
        checks.on_turn(self.host, [object()])


def test_different_commits_are_caught(checks: Checks) -> None:
    Copy("n1").show(checks, [entry(1)], 1)
    Copy("n2").show(checks, [entry(1), entry(1, b"x")], 1)
    with pytest.raises(Violation, match="committed logs are equal"):
        Copy("n3").show(checks, [entry(1, b"x")], 1)


def test_a_commit_that_goes_back_is_caught(checks: Checks) -> None:
    copy = Copy("n1")
    copy.show(checks, [entry(1)], 1)
    with pytest.raises(Violation, match="commits and epochs rise"):
        copy.show(checks, [entry(1)], 0)


def test_an_epoch_that_goes_back_is_caught(checks: Checks) -> None:
    copy = Copy("n1")
    copy.show(checks, [entry(1)], 1, epoch=2)
    with pytest.raises(Violation, match="commits and epochs rise"):
        copy.show(checks, [entry(1)], 1, epoch=1)


def test_a_loss_of_what_was_committed_is_caught(checks: Checks) -> None:
    copy = Copy("n1")
    copy.show(checks, [entry(1), entry(1)], 2)
    with pytest.raises(Violation, match="commit is final"):
        copy.show(checks, [entry(1)], 2)


def test_a_log_that_is_cut_back_or_changed_is_counted(checks: Checks) -> None:
    copy = Copy("n1")
    copy.show(checks, [entry(1), entry(1)], 1)
    copy.show(checks, [entry(1)], 1, epoch=2)
    assert checks.counts["truncations"] == 1
    copy.show(checks, [entry(1), entry(2)], 1, epoch=2)
    copy.show(checks, [entry(1), entry(3)], 1, epoch=3)
    assert checks.counts["truncations"] == 2


def test_two_leaders_of_an_epoch_are_caught(checks: Checks) -> None:
    Copy("n1").show(checks, [entry(1)], 0, leads=True)
    Copy("n2").show(checks, [entry(1)], 0, epoch=2, leads=True)
    with pytest.raises(Violation, match="one leader per epoch"):
        Copy("n3").show(checks, [entry(1)], 0, epoch=2, leads=True)


def test_a_leader_that_lacks_a_commit_is_caught_when_it_takes_over(checks: Checks) -> None:
    Copy("n1").show(checks, [entry(1), entry(1)], 2, leads=True)
    with pytest.raises(Violation, match="n2 leads without entry 2"):
        Copy("n2").show(checks, [entry(1)], 1, epoch=2, leads=True)


def test_a_leader_that_lacks_a_commit_is_caught_when_that_shows(checks: Checks) -> None:
    old, new = Copy("n1"), Copy("n2")
    old.show(checks, [entry(1), entry(1)], 1, leads=True)
    new.show(checks, [entry(1)], 1, epoch=2, leads=True)
    with pytest.raises(Violation, match="n2 leads without entry 2"):
        old.show(checks, [entry(1), entry(1)], 2, leads=True)


def test_a_member_of_an_in_sync_set_that_lacks_a_commit_is_caught_by_the_audit(checks: Checks) -> None:
    one, two = Copy("n1"), Copy("n2")
    one.show(checks, [entry(1), entry(1)], 2, leads=True)
    two.show(checks, [entry(1)], 1)
    row = PartitionRow("n1", 1, 1, ("n1", "n2"), (Incarnation("n1", 1),))
    hosts = [one.host, two.host]
    checks.copies.audit(hosts, table(1, partitions=[row]))
    with pytest.raises(Violation, match="n2 is in sync or eligible without entry 2"):
        checks.copies.audit(hosts, table(2, partitions=[row._replace(eligible=(Incarnation("n2", 1),))]))


def test_a_member_in_another_life_has_forgotten(checks: Checks) -> None:
    one = Copy("n1")
    one.show(checks, [entry(1)], 1, leads=True)
    row = PartitionRow("n1", 1, 1, ("n1",), (Incarnation("n1", 2),))
    one.copied[0] = []
    checks.copies.audit([one.host], table(1, partitions=[row]))


def test_states_that_differ_are_caught_in_the_end(checks: Checks) -> None:
    one, two = Copy("n1"), Copy("n2")
    for copy in (one, two):
        copy.show(checks, [entry(1)], 1)
    row = PartitionRow("n1", 1, 1, ("n1", "n2"), (Incarnation("n1", 1), Incarnation("n2", 1)))
    hosts, newest = [one.host, two.host], table(1, partitions=[row])
    assert not checks.copies.differences(hosts, newest)
    two.digests[0] = b"other"
    with pytest.raises(Violation, match="equal logs, equal states"):
        checks.copies.differences(hosts, newest)


def test_copies_that_are_behind_and_sets_that_are_not_full_are_complained_of(checks: Checks) -> None:
    one, two = Copy("n1"), Copy("n2")
    one.show(checks, [entry(1), entry(1)], 2)
    two.show(checks, [entry(1), entry(1)], 1)
    row = PartitionRow("n1", 1, 1, ("n1", "n2"), (Incarnation("n1", 1), Incarnation("n2", 1)))
    assert "not equally far" in checks.copies.differences([one.host, two.host], table(1, partitions=[row]))[0]
    assert not checks.copies.complaints(table(1, partitions=[row]))
    assert (
        "not all are in sync"
        in checks.copies.complaints(table(1, partitions=[row._replace(in_sync=row.in_sync[:1])]))[0]
    )
    assert "nobody leads" in checks.copies.complaints(table(1, partitions=[row._replace(leader=None)]))[0]


def test_nothing_is_owed_of_a_partition_that_was_lost(checks: Checks) -> None:
    lost: list[int] = []
    checks.copies.on_lost = lost.append
    row = partition_row("n1")
    before, after = table(1, partitions=[row]), table(2, partitions=[row._replace(leader=None, in_sync=())])
    Copy("n1").show(checks, [entry(1)], 1)
    checks.copies.on_table(before, after)
    assert lost == [0]
    assert checks.counts["partitions_lost"] == 1
    Copy("n2").show(checks, [entry(1, b"x")], 1)
    assert not checks.copies.complaints(after)
