"""How the row of one partition changes: pure functions from row to row.

Words: *isr* is `in_sync`, the copies that have everything acknowledged. *elr* is `eligible`, copies outside the isr
that still have it. `least` is the number of copies that must be in sync before anything commits: more than half of
the replicas.

Rules:

- A copy that leaves the isr and thereby makes it smaller than `least` goes to the elr, if it has not been restarted:
  nothing can be committed without it from then on, so it keeps having everything. As soon as the isr has `least`
  members again, commits go on without the elr, which is emptied.
- A leader comes from the isr, else from the elr, never from elsewhere; a copy that leads from the elr joins the isr.
- Each change raises `version`; each change of the leader, also to nobody, raises `epoch`.
- A leader may hand over to a member of the isr, and to nobody else: only those have everything.
- When both sets are empty, everybody who could have everything has come back empty: the row is lost.
- A row starts again when it is lost, or when somebody makes a copy outside isr and elr its leader, knowing that writes
  may be lost. That is the epoch below which nothing counts (`reset_epoch`), and whoever had a place has none any more.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from gimmal.cluster.table import PartitionRow
from gimmal.types import Incarnation

Choice: TypeAlias = Callable[[Sequence[str]], str]
"""Picks a leader among the names of candidates, of which there is at least one."""


def least_in_sync(row: PartitionRow) -> int:
    """Return how many copies must be in sync before anything commits."""
    return len(row.replicas) // 2 + 1


def without_member(row: PartitionRow, gone: Incarnation, *, is_restarted: bool) -> PartitionRow:
    """Return the row after a copy has left the isr; one that was restarted has forgotten everything."""
    in_sync = tuple(member for member in row.in_sync if member != gone)
    eligible = row.eligible
    if is_restarted:
        eligible = tuple(member for member in eligible if member != gone)
    elif gone in row.in_sync and len(in_sync) < least_in_sync(row):
        eligible = (*eligible, gone)
    return settled(row._replace(in_sync=in_sync, eligible=eligible))


def settled(row: PartitionRow) -> PartitionRow:
    """Return the row with its elr as it must be: empty once the isr is large enough, and apart from the isr."""
    if len(row.in_sync) >= least_in_sync(row):
        return row._replace(eligible=())
    return row._replace(eligible=tuple(member for member in row.eligible if member not in row.in_sync))


def with_leader(row: PartitionRow, may_lead: Collection[str], choose: Choice) -> PartitionRow:
    """Return the row under a new leader, or under none if nobody in isr and elr may lead; the epoch rises.

    `may_lead` are the names of nodes that are not fenced.
    """
    for candidates in (row.in_sync, row.eligible):
        names = [member.name for member in candidates if member.name in may_lead]
        if names:
            leader = choose(names)
            (member,) = (member for member in candidates if member.name == leader)
            in_sync = row.in_sync if member in row.in_sync else in_order(row, (*row.in_sync, member))
            return settled(row._replace(leader=leader, epoch=row.epoch + 1, in_sync=in_sync))
    if row.leader is None:
        return row
    return row._replace(leader=None, epoch=row.epoch + 1)


def started_empty(row: PartitionRow, leader: Incarnation) -> PartitionRow:
    """Return a lost row that starts again with nothing, led by one of its replicas."""
    assert row.is_lost, "only what is lost may start empty"
    return led_by_force(row, leader)._replace(survivor="")


def led_by_force(row: PartitionRow, leader: Incarnation) -> PartitionRow:
    """Return a row that nobody leads, led by a replica that may lack what was acknowledged."""
    assert row.leader is None, "a leader that has everything is replaced by nobody who may not"
    epoch = row.epoch + 1
    return row._replace(
        leader=leader.name, epoch=epoch, in_sync=(leader,), eligible=(), reset_epoch=epoch, survivor=leader.name
    )


def handed_over(row: PartitionRow, target: str) -> PartitionRow:
    """Return the row led by another member of its isr."""
    assert target in [member.name for member in row.in_sync], "only who is in sync has everything"
    return row._replace(leader=target, epoch=row.epoch + 1)


def with_in_sync(row: PartitionRow, in_sync: Collection[Incarnation]) -> PartitionRow:
    """Return the row with the isr its leader asked for; members that leave it may go to the elr."""
    removed = [member for member in row.in_sync if member not in in_sync]
    eligible = (*row.eligible, *removed) if len(in_sync) < least_in_sync(row) else row.eligible
    return settled(row._replace(in_sync=in_order(row, in_sync), eligible=eligible))


def in_order(row: PartitionRow, members: Collection[Incarnation]) -> tuple[Incarnation, ...]:
    """Return members in the order in which the row names its holders, so that equal sets are equal rows."""
    holders = (*row.replicas, *row.adding)
    return tuple(sorted(members, key=lambda member: holders.index(member.name) if member.name in holders else -1))
