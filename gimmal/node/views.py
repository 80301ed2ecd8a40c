"""What a newer table says to the copies on one node: the rows of the partitions it holds, as `View`s."""

from collections.abc import Iterator

from gimmal.cluster.table import ALIVE, PartitionRow, Table
from gimmal.replication.view import View
from gimmal.types import Incarnation


def views(table: Table, me: Incarnation, before: Table | None) -> Iterator[tuple[int, View | None]]:
    """Yield (partition, view) for what has changed for a node since an earlier table; None: it holds that no more.

    A row counts as changed if it was written since, or if it names a node whose own row was.
    """
    since = before.version if before is not None else 0
    alive = {row.name: Incarnation(row.name, row.incarnation) for row in table.nodes if row.status == ALIVE}
    changed = frozenset(row.name for row in table.nodes if row.changed_at > since)
    for number, row in enumerate(table.partitions):
        if row.changed_at <= since and (not changed or changed.isdisjoint((*row.replicas, *row.adding))):
            continue
        if me.name in row.replicas or me.name in row.adding:
            yield number, view_of(row, alive)
        elif before is not None and me.name in (*before.partitions[number].replicas, *before.partitions[number].adding):
            yield number, None


def view_of(row: PartitionRow, alive: dict[str, Incarnation]) -> View:
    """Return a row as copies see it, with the lives of the nodes that are not fenced, by name."""
    holders = tuple(alive[name] for name in (*row.replicas, *row.adding) if name in alive)
    leader = next((member for member in row.in_sync if member.name == row.leader), None)
    least = len(row.replicas) // 2 + 1
    return View(row.epoch, row.version, leader, holders, row.in_sync, least, row.reset_epoch, row.survivor)
