"""The cluster table: who the nodes are, and for each partition who leads it and who holds copies.

One immutable value with a version; versions are totally ordered and a holder only ever moves to a higher one.
Nodes and clients act on the same rows. Within a row, `epoch` (leader epoch) rises with every change of leader
and `version` with every change at all; both are fences: what was decided under a lower one is void.

On the wire a table is a tree of tuples (`to_wire`, `from_wire`); `from_wire` trusts nothing.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gimmal.errors import RemoteProtocolError
from gimmal.hashing import check_partitions
from gimmal.wire import limits


class Addresses(NamedTuple):
    """Where one network reaches a node, each as `host:port`."""

    client: str
    pubsub: str


class Incarnation(NamedTuple):
    """One life of a node: a restart under the same name is another one."""

    name: str
    number: int


class NodeRow(NamedTuple):
    """A node as the cluster knows it.

    `networks` are (name, addresses) pairs, the default first: a client inside a container network and one
    outside reach the same node under different addresses. `status` is "alive" or "fenced".
    """

    name: str
    incarnation: int
    uuid: bytes
    zone: str
    weight: int
    status: str
    peer: str
    networks: tuple[tuple[str, Addresses], ...]

    def addresses(self, network: str) -> Addresses | None:
        """Return the node's addresses in a network, or None when it has none there."""
        for name, addresses in self.networks:
            if name == network:
                return addresses
        return None


class PartitionRow(NamedTuple):
    """Who leads a partition (None: nobody may), who holds copies, and which of them are in sync.

    `in_sync` and `eligible` list incarnations, because a restarted copy has forgotten what it acknowledged.
    """

    leader: str | None
    epoch: int
    version: int
    replicas: tuple[str, ...]
    in_sync: tuple[Incarnation, ...]
    eligible: tuple[Incarnation, ...] = ()
    adding: tuple[str, ...] = ()
    removing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The whole cluster at one version. `cluster` is its 16-byte id."""

    cluster: bytes
    version: int
    nodes: tuple[NodeRow, ...]
    partitions: tuple[PartitionRow, ...]
    _row_by_name: dict[str, NodeRow] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_row_by_name", {row.name: row for row in self.nodes})

    def node(self, name: str) -> NodeRow | None:
        """Return the row of a node, or None."""
        return self._row_by_name.get(name)

    def to_wire(self) -> tuple[Any, ...]:
        """Return the table as tuples, strings, bytes and integers."""
        return (self.cluster, self.version, self.nodes, self.partitions)

    @classmethod
    def from_wire(cls, tree: tuple[Any, ...]) -> "Table":
        """Return the table that `to_wire` wrote.

        Raises:
            RemoteProtocolError: the tree is not a consistent table.
        """
        try:
            cluster, version, node_trees, partition_trees = tree
            table = cls(
                cluster,
                version,
                tuple(_node_row(node_tree) for node_tree in node_trees),
                tuple(_partition_row(partition_tree) for partition_tree in partition_trees),
            )
            table._check()
        except (ValueError, TypeError, AttributeError) as reason:
            raise RemoteProtocolError(f"malformed cluster table: {reason}") from None
        return table

    def _check(self) -> None:
        if not (type(self.cluster) is bytes and len(self.cluster) == 16):
            raise ValueError("the cluster id is not 16 bytes")
        check_partitions(len(self.partitions))
        if not 0 < len(self._row_by_name) == len(self.nodes) <= limits.NODES_MAX:
            raise ValueError("node names are missing or doubled")
        if not (type(self.version) is int and self.version > 0):
            raise ValueError("the version is not a positive integer")
        for number, row in enumerate(self.partitions):
            if row.leader is not None and row.leader not in self._row_by_name:
                raise ValueError(f"partition {number} is led by {row.leader!r}, which is no node")
            if not (type(row.epoch) is type(row.version) is int and row.epoch > 0 and row.version > 0):
                raise ValueError(f"partition {number} has no positive epoch and version")


def _node_row(tree: tuple[Any, ...]) -> NodeRow:
    row = NodeRow(*tree)
    if not (
        all(type(text) is str for text in (row.name, row.zone, row.status, row.peer))
        and type(row.incarnation) is int
        and type(row.weight) is int
        and type(row.uuid) is bytes
    ):
        raise ValueError(f"the row of node {row.name!r} has a field of the wrong type")
    networks = tuple((str(name), Addresses(*map(str, addresses))) for name, addresses in row.networks)
    if not networks:
        raise ValueError(f"node {row.name!r} has no address")
    return row._replace(networks=networks)


def _partition_row(tree: tuple[Any, ...]) -> PartitionRow:
    row = PartitionRow(*tree)
    for names in (row.replicas, row.adding, row.removing):
        if type(names) is not tuple or not all(type(name) is str for name in names):
            raise ValueError("holders of a partition are not names")
    return row._replace(in_sync=_incarnations(row.in_sync), eligible=_incarnations(row.eligible))


def _incarnations(trees: tuple[Any, ...]) -> tuple[Incarnation, ...]:
    members = tuple(Incarnation(*tree) for tree in trees)
    if not all(type(name) is str and type(number) is int for name, number in members):
        raise ValueError("copies in sync are not names and incarnations")
    return members
