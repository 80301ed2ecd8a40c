"""Cluster tables for tests: of a list of nodes, with one copy of each partition, as if they had just been founded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gimmal.cluster.table import ALIVE, Addresses, NodeRow, PartitionRow, Table
from gimmal.hashing import Member, plan
from gimmal.types import Incarnation

DEFAULT_NETWORK = "default"


class StaticNode(NamedTuple):
    """One node of the list; addresses are `host:port`."""

    name: str
    client: str
    peer: str
    pubsub: str
    zone: str = ""
    weight: int = 1


def static_nodes(*names: str) -> list[StaticNode]:
    return [StaticNode(name, f"{name}:1", f"{name}:2", f"{name}:3") for name in names]


def static_table(cluster: bytes, nodes: Sequence[StaticNode], partitions: int = 1_024) -> Table:
    """Version 1 of a cluster of these nodes; incarnations count from 1 in the order of the list."""
    assignment = plan([Member(node.name, node.weight, node.zone) for node in nodes], partitions=partitions, copies=1)
    rows = tuple(
        NodeRow(
            name=node.name,
            incarnation=number,
            uuid=number.to_bytes(16, "big"),
            voter=f"{node.name}/1",
            zone=node.zone,
            weight=node.weight,
            status=ALIVE,
            peer=node.peer,
            networks=((DEFAULT_NETWORK, Addresses(node.client, node.pubsub)),),
            changed_at=1,
        )
        for number, node in enumerate(nodes, start=1)
    )
    incarnation_by_name = {row.name: row.incarnation for row in rows}
    return Table(
        cluster=cluster,
        version=1,
        voters=(rows[0].voter,),
        nodes=tuple(sorted(rows)),
        partitions=tuple(
            PartitionRow(leader, 1, 1, (leader,), (Incarnation(leader, incarnation_by_name[leader]),))
            for leader in map(assignment.leader, range(partitions))
        ),
    )


def with_leaders(table: Table, leaders: dict[int, str | None], version: int = 0) -> Table:
    """The next version of a table, or that `version`, with other leaders for some partitions."""
    version = version or table.version + 1
    rows = list(table.partitions)
    for partition, leader in leaders.items():
        row, node = rows[partition], table.node(leader or "")
        in_sync = (Incarnation(node.name, node.incarnation),) if node is not None else ()
        epoch, row_version = row.epoch + 1, row.version + 1
        eligible = () if in_sync else row.in_sync  # nobody leads it, and it is not lost
        holders = (leader or "n1",)
        rows[partition] = PartitionRow(leader, epoch, row_version, holders, in_sync, eligible, changed_at=version)
    return replace(table, version=version, partitions=tuple(rows))


def with_node(table: Table, name: str, **changes: Any) -> Table:
    """The next version of a table, with the row of one node changed."""
    version = table.version + 1
    nodes = tuple(row._replace(**changes, changed_at=version) if row.name == name else row for row in table.nodes)
    return replace(table, version=version, nodes=nodes)


def as_lists(tree: Any) -> Any:
    """A table's tree as nested lists, for a test to spoil."""
    return list(map(as_lists, tree)) if isinstance(tree, tuple) else tree


def as_tuples(tree: Any) -> Any:
    return tuple(map(as_tuples, tree)) if isinstance(tree, list) else tree


def check_consistent(table: Table) -> None:
    """What the holders of a table rely on."""
    assert len(table.cluster) == 16
    assert table.version > 0
    assert all(type(voter) is str for voter in table.voters)
    names = [row.name for row in table.nodes]
    assert names == sorted(set(names))
    assert names
    assert len(table.partitions) in [1 << exponent for exponent in range(15)]
    for row in table.nodes:
        texts = [row.name, row.voter, row.zone, row.status, row.peer]
        texts += [text for name, addresses in row.networks for text in (name, *addresses)]
        assert all(type(text) is str for text in texts)
        assert type(row.incarnation) is type(row.weight) is int
        assert 0 <= row.incarnation < 2**63
        assert row.networks
        assert len(row.uuid) == 16
        assert 0 < row.changed_at <= table.version
    for partition in table.partitions:
        assert partition.leader is None or partition.leader in names
        assert type(partition.epoch) is type(partition.version) is int
        assert 0 < partition.changed_at <= table.version
        holders = (*partition.replicas, *partition.adding, *partition.removing)
        assert all(type(name) is str for name in holders)
        for name, number in (*partition.in_sync, *partition.eligible):
            assert type(name) is str
            assert type(number) is int
