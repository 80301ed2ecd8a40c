"""A cluster table from a list of nodes that was agreed on elsewhere, with one copy of each partition.

The same list gives the same table on every node. A file of it is JSON:

    {"cluster": "<32 hex digits>", "partitions": 1024,
     "nodes": [{"name": "n1", "client": "127.0.0.1:7700", "peer": "...", "pubsub": "...", "zone": "", "weight": 1}]}
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gimmal.cluster.table import Addresses, Incarnation, NodeRow, PartitionRow, Table
from gimmal.errors import ConfigError
from gimmal.hashing import Member, plan

DEFAULT_NETWORK = "default"
PARTITIONS_DEFAULT = 1_024


class StaticNode(NamedTuple):
    """One node of the list; addresses are `host:port`."""

    name: str
    client: str
    peer: str
    pubsub: str
    zone: str = ""
    weight: int = 1


def static_table(cluster: bytes, nodes: Sequence[StaticNode], partitions: int = PARTITIONS_DEFAULT) -> Table:
    """Return version 1 of a cluster of these nodes; raises ValueError for a list that makes no cluster."""
    if len(cluster) != 16:
        raise ValueError(f"a cluster id is 16 bytes (32 hex digits), not {len(cluster)}")
    assignment = plan([Member(node.name, node.weight, node.zone) for node in nodes], partitions=partitions, copies=1)
    rows = tuple(
        NodeRow(
            name=node.name,
            incarnation=number,
            uuid=b"",
            zone=node.zone,
            weight=node.weight,
            status="alive",
            peer=node.peer,
            networks=((DEFAULT_NETWORK, Addresses(node.client, node.pubsub)),),
        )
        for number, node in enumerate(nodes, start=1)
    )
    incarnation_by_name = {row.name: row.incarnation for row in rows}
    return Table(
        cluster=cluster,
        version=1,
        nodes=rows,
        partitions=tuple(
            PartitionRow(
                leader=leader,
                epoch=1,
                version=1,
                replicas=(leader,),
                in_sync=(Incarnation(leader, incarnation_by_name[leader]),),
            )
            for leader in map(assignment.leader, range(partitions))
        ),
    )


def load_static_table(file: Path) -> Table:
    """Return the table of a static cluster file.

    Raises:
        ConfigError: the file cannot be read, or does not describe a cluster.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        return static_table(
            bytes.fromhex(content["cluster"]),
            [_checked(StaticNode(**node)) for node in content["nodes"]],
            content.get("partitions", PARTITIONS_DEFAULT),
        )
    except OSError as reason:
        raise ConfigError(f"cannot read the cluster file {file}: {reason.strerror}") from None
    except (ValueError, TypeError, LookupError) as reason:
        raise ConfigError(f"{file} does not describe a cluster: {reason!r}") from None


def _checked(node: StaticNode) -> StaticNode:
    for name, expected in StaticNode.__annotations__.items():
        if type(getattr(node, name)) is not expected:
            raise ValueError(f"{name!r} of node {node.name!r} is not {expected.__name__}")
    for address in (node.client, node.peer, node.pubsub):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{address!r} of node {node.name!r} is not host:port")
    return node
