"""The cluster table: who the nodes are, and for each partition who leads it and who holds copies.

One immutable value with a version; versions are totally ordered and a holder only ever moves to a higher one.
Nodes and clients act on the same rows. Within a partition's row, `epoch` (leader epoch) rises with every change of
leader and `version` with every change at all; both are fences: what was decided under a lower one is void.

Tables travel as differences. Every row says in `changed_at` which version of the table wrote it, so whoever has a
table can tell any older one what is new: the rows written since. No history is kept, and no row ever leaves: a node
that is gone stays as a fenced row.

On the wire a table is a tree of tuples (`to_wire`, `from_wire`, `updated`); what arrives is not trusted. Whoever has a
table takes only what continues it: a row that it has already is the same row, and one written later has not gone back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gimmal.errors import RemoteProtocolError
from gimmal.hashing import check_partitions
from gimmal.types import Incarnation
from gimmal.wire import limits


class Addresses(NamedTuple):
    """Where one network reaches a node, each as `host:port`."""

    client: str
    pubsub: str


ALIVE: Final = "alive"
FENCED: Final = "fenced"


class NodeRow(NamedTuple):
    """A node as the cluster knows it.

    `uuid` (16 bytes) names one start of its process, `incarnation` numbers the lives of its name, and `voter` is
    under which name it may vote in the meta group. `peer` is where other nodes reach it. `networks` are (name,
    addresses) pairs, the default first: a client inside a container network and one outside reach the same node under
    different addresses. `status` is `ALIVE` or `FENCED`.
    """

    name: str
    incarnation: int
    uuid: bytes
    voter: str
    zone: str
    weight: int
    status: str
    peer: str
    networks: tuple[tuple[str, Addresses], ...]
    changed_at: int

    def addresses(self, network: str) -> Addresses | None:
        """Return the node's addresses in a network, or None when it has none there."""
        for name, addresses in self.networks:
            if name == network:
                return addresses
        return None


class PartitionRow(NamedTuple):
    """Who leads a partition (None: nobody may), who holds copies, and which of them are in sync.

    `in_sync` and `eligible` list incarnations, because a restarted copy has forgotten what it acknowledged. What was
    written under epochs below `reset_epoch` does not count any more: it was lost, or may have been, when the partition
    started again in that epoch, empty or with what the copy of `survivor` had.
    """

    leader: str | None
    epoch: int
    version: int
    replicas: tuple[str, ...]
    in_sync: tuple[Incarnation, ...]
    eligible: tuple[Incarnation, ...] = ()
    adding: tuple[str, ...] = ()
    removing: tuple[str, ...] = ()
    changed_at: int = 1
    reset_epoch: int = 0
    survivor: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether nobody is left who could have all that was acknowledged."""
        return not self.in_sync and not self.eligible


@dataclass(frozen=True, slots=True)
class Table:
    """The whole cluster at one version. `cluster` is its 16-byte id; `voters` are those of the meta group.

    Nodes are in the order of their names, partitions in that of their numbers.
    """

    cluster: bytes
    version: int
    voters: tuple[str, ...]
    nodes: tuple[NodeRow, ...]
    partitions: tuple[PartitionRow, ...]
    _row_by_name: dict[str, NodeRow] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_row_by_name", {row.name: row for row in self.nodes})

    def node(self, name: str) -> NodeRow | None:
        """Return the row of a node, or None."""
        return self._row_by_name.get(name)

    def to_wire(self, since: int = 0) -> tuple[Any, ...]:
        """Return what is new to a holder of version `since` (0: everything), as tuples, strings, bytes and integers."""
        nodes = tuple(row for row in self.nodes if row.changed_at > since)
        partitions = tuple((number, *row) for number, row in enumerate(self.partitions) if row.changed_at > since)
        return (self.cluster, self.version, since, self.voters, nodes, partitions)

    @classmethod
    def from_wire(cls, tree: tuple[Any, ...]) -> "Table":
        """Return the table that `to_wire()` wrote.

        Raises:
            RemoteProtocolError: the tree is not a consistent table.
        """
        return _read(tree, None)

    def updated(self, tree: tuple[Any, ...]) -> "Table":
        """Return the newer table of a tree, which may say only what is new since this one or an older one.

        Returns this table itself if the tree is not newer.

        Raises:
            RemoteProtocolError: the tree does not fit: it is malformed, of another cluster, starts too late, or
                contradicts this table.
        """
        return _read(tree, self)


def _read(tree: tuple[Any, ...], before: Table | None) -> Table:
    try:
        cluster, version, since, voters, node_trees, partition_trees = tree
        if not (type(cluster) is bytes and len(cluster) == 16):
            raise ValueError("the cluster id is not 16 bytes")
        if not (_is_natural(version) and _is_natural(since)):
            raise ValueError("the versions are not natural numbers")
        if before is not None and cluster != before.cluster:
            raise ValueError(f"it is of cluster {cluster.hex()}, not of {before.cluster.hex()}")
        if before is not None and version <= before.version:
            return before
        if since > (before.version if before is not None else 0) or since >= version:
            raise ValueError(f"it tells what is new since version {since}, which this side does not have")
        if type(voters) is not tuple or len(voters) > limits.VOTERS_MAX or not _are_names(voters):
            raise ValueError("voters are not names")
        span = range(since + 1, version + 1)
        nodes = _merged_nodes([_node_row(node_tree, span) for node_tree in node_trees], before if since else None)
        rows = {number: _partition_row(tuple(fields), span) for number, *fields in partition_trees}
        if len(rows) != len(partition_trees):
            raise ValueError("partitions are doubled")
        partitions = _merged_partitions(rows, before if since else None)
        table = Table(cluster, version, voters, nodes, partitions)
        _check_leaders(table, rows)
        if before is not None:
            _check_continues(table, before)
    except (ValueError, TypeError, AttributeError) as reason:
        raise RemoteProtocolError(f"malformed cluster table: {reason}") from None
    return table


def _merged_nodes(rows: list[NodeRow], before: Table | None) -> tuple[NodeRow, ...]:
    """Return the nodes of a table and those that are new, in the order of their names."""
    row_by_name = {row.name: row for row in rows}
    if len(row_by_name) != len(rows):
        raise ValueError("node names are doubled")
    if before is not None:
        row_by_name = {row.name: row for row in before.nodes} | row_by_name
    if not 0 < len(row_by_name) <= limits.NODES_MAX:
        raise ValueError(f"{len(row_by_name)} nodes; a cluster has 1 to {limits.NODES_MAX}")
    return tuple(row_by_name[name] for name in sorted(row_by_name))


def _merged_partitions(rows: dict[int, PartitionRow], before: Table | None) -> tuple[PartitionRow, ...]:
    """Return the partitions of a table with those that are new in their places; without a table, all must be there."""
    count = check_partitions(len(rows) if before is None else len(before.partitions))
    for number in rows:
        if type(number) is not int or not 0 <= number < count:
            raise ValueError(f"there is no partition {number!r}")
    if before is None:
        return tuple(rows[number] for number in range(count))
    partitions = list(before.partitions)
    for number, row in rows.items():
        partitions[number] = row
    return tuple(partitions)


def _check_leaders(table: Table, numbers: Iterable[int]) -> None:
    for number in numbers:
        leader = table.partitions[number].leader
        if leader is not None and table.node(leader) is None:
            raise ValueError(f"partition {number} is led by {leader!r}, which is no node")


def _check_continues(table: Table, before: Table) -> None:
    """Check that a newer table is the older one with later rows: versions are totally ordered, and no row goes back."""
    if len(table.partitions) != len(before.partitions):
        raise ValueError(f"it has {len(table.partitions)} partitions, not {len(before.partitions)}")
    for known in before.nodes:
        row = table.node(known.name)
        if row is known:
            continue
        if row is None:
            raise ValueError(f"the row of node {known.name!r} has left")
        is_later = row.changed_at > before.version and row.incarnation >= known.incarnation
        if not is_later and row != known:
            raise ValueError(f"the row of node {known.name!r} contradicts version {before.version}")
    for number, (old, new) in enumerate(zip(before.partitions, table.partitions, strict=True)):
        if new is old:
            continue
        has_risen = new.version > old.version and new.epoch >= old.epoch and new.reset_epoch >= old.reset_epoch
        is_later = new.changed_at > before.version and has_risen
        if not is_later and new != old:
            raise ValueError(f"the row of partition {number} contradicts version {before.version}")


def _is_natural(number: object) -> bool:
    return type(number) is int and 0 <= number <= limits.INTEGER_MAX


def _are_names(names: Iterable[object]) -> bool:
    return all(type(name) is str and len(name) <= limits.NAME_BYTES_MAX for name in names)


def _node_row(tree: tuple[Any, ...], span: range) -> NodeRow:
    """Return the row of a node, which was written in `span`, the versions that its tree tells of."""
    row = NodeRow(*tree)
    if not (
        _are_names((row.name, row.voter, row.zone, row.status, row.peer))
        and row.name
        and _is_natural(row.incarnation)
        and _is_natural(row.weight)
        and type(row.uuid) is bytes
        and len(row.uuid) == 16
    ):
        raise ValueError(f"the row of node {row.name!r} has a field of the wrong type")
    if not (type(row.changed_at) is int and row.changed_at in span):
        raise ValueError(f"the row of node {row.name!r} was not written in versions {span[0]} to {span[-1]}")
    trees: Any = row.networks
    if type(trees) is not tuple or not 0 < len(trees) <= limits.NETWORKS_MAX:
        raise ValueError(f"node {row.name!r} has no addresses")
    networks = tuple((name, Addresses(*addresses)) for name, addresses in trees)
    if not all(isinstance(addresses, tuple) and _are_names((name, *addresses)) for name, addresses in trees):
        raise ValueError(f"an address of node {row.name!r} is not text")
    return row._replace(networks=networks)


def _partition_row(tree: tuple[Any, ...], span: range) -> PartitionRow:
    """Return the row of a partition, which was written in `span`, the versions that its tree tells of."""
    if len(tree) != len(PartitionRow._fields):
        raise ValueError(f"the row of a partition has {len(PartitionRow._fields)} fields, not {len(tree)}")
    row = PartitionRow(*tree)
    if not (_is_natural(row.epoch) and _is_natural(row.version) and row.epoch and row.version):
        raise ValueError("a partition has no positive epoch and version")
    if not (_is_natural(row.reset_epoch) and row.reset_epoch <= row.epoch):
        raise ValueError("a partition has started again in an epoch that is still to come")
    if not _are_names((row.survivor,)):
        raise ValueError("the copy that a partition has started again with is nobody's")
    if not (type(row.changed_at) is int and row.changed_at in span):
        raise ValueError(f"the row of a partition was not written in versions {span[0]} to {span[-1]}")
    for names in (row.replicas, row.adding, row.removing):
        if type(names) is not tuple or not _are_names(names):
            raise ValueError("holders of a partition are not names")
    return row._replace(in_sync=_incarnations(row.in_sync), eligible=_incarnations(row.eligible))


def _incarnations(trees: tuple[Any, ...]) -> tuple[Incarnation, ...]:
    members = tuple(Incarnation(*tree) for tree in trees)
    if not all(_are_names((name,)) and _is_natural(number) for name, number in members):
        raise ValueError("copies in sync are not names and incarnations")
    return members
