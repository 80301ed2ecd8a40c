"""The cluster for people: what `db.cluster()` returns."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from gimmal.client.session import Session
from gimmal.cluster.table import ALIVE, Addresses

VOTER: Final = "voter"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node.

    `state` is as the table has it ("alive", "fenced"), or "unreachable" if this client does not reach a node that is
    alive. `role` is "voter" if it votes in the meta group, which decides about the table, else empty.
    """

    name: str
    addresses: dict[str, Addresses]
    state: str
    incarnation: int
    role: str
    zone: str
    weight: int
    partitions_led: int
    partitions_held: int


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition: its leader (None: nobody), who holds copies, and which of them are in sync.

    It is lost when every node that had all of it has come back without it.
    """

    leader: str | None
    replicas: tuple[str, ...]
    in_sync: tuple[str, ...]
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster at one version of its table.

    `id` is 32 hex digits, `voters` are the names of the nodes that vote in the meta group, and `partitions` are in the
    order of their numbers.
    """

    id: str
    table_version: int
    voters: tuple[str, ...]
    nodes: tuple[NodeInfo, ...]
    partitions: tuple[PartitionInfo, ...]


def overview(session: Session) -> Cluster:
    """Return the cluster as a session that has a table sees it."""
    table = session.table
    assert table is not None, "a client has a table from its connect on"
    led = Counter(row.leader for row in table.partitions)
    held = Counter(name for row in table.partitions for name in row.replicas)
    return Cluster(
        id=table.cluster.hex(),
        table_version=table.version,
        voters=tuple(voter.rpartition("/")[0] for voter in table.voters),
        nodes=tuple(
            NodeInfo(
                name=row.name,
                addresses=dict(row.networks),
                state="unreachable" if row.status == ALIVE and not session.is_reachable(row) else row.status,
                incarnation=row.incarnation,
                role=VOTER if row.voter in table.voters else "",
                zone=row.zone,
                weight=row.weight,
                partitions_led=led[row.name],
                partitions_held=held[row.name],
            )
            for row in table.nodes
        ),
        partitions=tuple(
            PartitionInfo(row.leader, row.replicas, tuple(member.name for member in row.in_sync), row.is_lost)
            for row in table.partitions
        ),
    )
