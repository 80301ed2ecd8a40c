"""What must hold of cluster tables, and of who believes to be whom, at every moment.

- Tables are totally ordered: one version is one table, everywhere; and from any version to any later one, incarnations,
  epochs and versions of rows only rise. It is checked between neighbours, and it is transitive.
- On each process versions only rise, and never change the cluster.
- One incarnation per name: no two processes ever hold the same (name, incarnation), in a table or by their own belief.
- One leader per partition and epoch.
- One founding makes one cluster.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING

from gimmal.cluster.table import ALIVE, NodeRow, PartitionRow, Table
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.sim.host import Host
    from tests.sim.subject import Identity


class TableHistory:
    """All tables of one cluster that anybody has shown."""

    def __init__(self) -> None:
        self.versions: list[int] = []
        self.table_by_version: dict[int, Table] = {}
        self.uuid_by_incarnation: dict[tuple[str, int], bytes] = {}
        self.leader_by_epoch: dict[tuple[int, int], str | None] = {}

    @property
    def newest(self) -> Table | None:
        return self.table_by_version[self.versions[-1]] if self.versions else None


class TableChecks:
    """Checks of the tables of all clusters, by cluster id."""

    def __init__(self, counts: "Counter[str]") -> None:
        self._counts = counts
        self._histories: dict[bytes, TableHistory] = {}
        self.cluster_by_group: dict[str, bytes] = {}
        self.on_newest: Callable[[Table, Table], None] = lambda earlier, later: None
        self._lived: dict[bytes, None] = {}  # clusters in which somebody is registered

    def history(self, cluster: bytes) -> TableHistory:
        history = self._histories.get(cluster)
        if history is None:
            history = self._histories[cluster] = TableHistory()
        return history

    def newest(self, group: str) -> Table | None:
        """The newest table anybody has of the cluster that a founding made."""
        cluster = self.cluster_by_group.get(group)
        return self.history(cluster).newest if cluster else None

    def newest_of(self, cluster: bytes) -> Table | None:
        """The newest table anybody has of a cluster."""
        history = self._histories.get(cluster)
        return history.newest if history is not None else None

    # -- identities -------------------------------------------------------------------------------------------

    def on_identity(self, host: "Host", identity: "Identity") -> None:
        """Check whom a process believes to be."""
        before, host.identity = host.identity, identity
        if before.incarnation and identity.cluster != before.cluster:
            raise Violation("who is registered stays", f"{host.name} has left cluster {before.cluster.hex()}")
        if not identity.cluster:
            return
        ours = self.cluster_by_group.get(host.group, b"")
        if ours not in self._lived:  # a founding that nobody leads may be followed by another
            self.cluster_by_group[host.group] = ours = identity.cluster
        if identity.incarnation:
            self._lived[identity.cluster] = None
        if ours != identity.cluster:
            raise Violation(
                "one cluster from one founding",
                f"{host.name} belongs to cluster {identity.cluster.hex()}, others to {ours.hex()}",
            )
        if identity.incarnation:
            self._is_one(self.history(identity.cluster), (host.name, identity.incarnation), host.uuid, "believes")

    def _is_one(self, history: TableHistory, life: tuple[str, int], uuid: bytes, how: str) -> None:
        earlier = history.uuid_by_incarnation.setdefault(life, uuid)
        if earlier != uuid:
            raise Violation(
                "one incarnation per name",
                f"{life[0]} {life[1]} was process {earlier.hex()[:8]}, and {uuid.hex()[:8]} {how} to be it",
            )

    # -- tables -----------------------------------------------------------------------------------------------

    def on_table(self, host: "Host", table: Table | None) -> None:
        """Check the table that a process has gone over to."""
        before, host.table = host.table, table
        if table is None:
            if before is not None and host.identity.cluster:  # who was never registered may look for another cluster
                raise Violation("table versions rise", f"{host.name} lost its table of version {before.version}")
            return
        if before is not None and (before.cluster != table.cluster or table.version < before.version):
            raise Violation(
                "table versions rise",
                f"{host.name} went from version {before.version} of cluster {before.cluster.hex()} to "
                f"{table.version} of {table.cluster.hex()}",
            )
        history = self.history(table.cluster)
        known = history.table_by_version.get(table.version)
        if known is None:
            self._insert(history, table)
        elif known is not table and known != table:
            raise Violation(
                "one version, one table", f"version {table.version} at {host.name}: {_difference(known, table)}"
            )

    def _insert(self, history: TableHistory, table: Table) -> None:
        place = bisect_left(history.versions, table.version)
        if place:
            earlier = history.table_by_version[history.versions[place - 1]]
            check_order(earlier, table)
            if place == len(history.versions):
                self._count_changes(earlier, table)
                self.on_newest(earlier, table)
        if place < len(history.versions):
            check_order(table, history.table_by_version[history.versions[place]])
        history.versions.insert(place, table.version)
        history.table_by_version[table.version] = table
        self._counts["table_changes"] += 1
        for row in table.nodes:
            self._is_one(history, (row.name, row.incarnation), row.uuid, "is registered")
        for number, partition in enumerate(table.partitions):
            leader = history.leader_by_epoch.setdefault((number, partition.epoch), partition.leader)
            if leader != partition.leader:
                raise Violation(
                    "one leader per epoch",
                    f"partition {number} in epoch {partition.epoch} is led by {leader} and by {partition.leader}",
                )

    def _count_changes(self, earlier: Table, later: Table) -> None:
        counts = self._counts
        for row in later.nodes:
            before = earlier.node(row.name)
            if before is None:
                counts["joins"] += 1
            elif before.incarnation != row.incarnation:
                counts["registrations"] += 1
            elif before.status != row.status:
                counts["unfences" if row.status == ALIVE else "fences"] += 1
        if earlier.voters != later.voters:
            counts["voter_changes"] += 1
        if any(old.in_sync != new.in_sync for old, new in zip(earlier.partitions, later.partitions, strict=True)):
            counts["in_sync_changes"] += 1


def check_order(earlier: Table, later: Table) -> None:
    """Check that nothing that only rises is lower in the later of two tables of one cluster."""
    where = f"from version {earlier.version} to {later.version}"
    for row in earlier.nodes:
        after = later.node(row.name)
        if after is None:
            raise Violation("no row leaves", f"{where} the row of {row.name} is gone")
        _check_node(row, after, where)
    if len(earlier.partitions) != len(later.partitions):
        raise Violation("no row leaves", f"{where} the number of partitions changed")
    for number, (old, new) in enumerate(zip(earlier.partitions, later.partitions, strict=True)):
        if old is not new:
            _check_partition(number, old, new, where)


def _check_node(old: NodeRow, new: NodeRow, where: str) -> None:
    if new.incarnation < old.incarnation:
        raise Violation("incarnations rise", f"{where} {old.name} went from {old.incarnation} to {new.incarnation}")
    if new.incarnation == old.incarnation and new.uuid != old.uuid:
        raise Violation(
            "one incarnation per name", f"{where} incarnation {new.incarnation} of {old.name} is another process"
        )


def _check_partition(number: int, old: PartitionRow, new: PartitionRow, where: str) -> None:
    if new.epoch < old.epoch or new.version < old.version or new.reset_epoch < old.reset_epoch:
        raise Violation("epochs and versions rise", f"{where} partition {number}: {old} became {new}")
    if new.epoch == old.epoch and new.leader != old.leader:
        raise Violation("one leader per epoch", f"{where} partition {number}: {old} became {new}")
    if new.version == old.version and new._replace(changed_at=old.changed_at) != old:
        raise Violation("one version, one row", f"{where} partition {number}: {old} became {new}")


def _difference(one: Table, other: Table) -> str:
    for name in ("cluster", "voters", "nodes", "partitions"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine != theirs:
            return f"{name} differ: {mine} and {theirs}"
    return "they differ"
