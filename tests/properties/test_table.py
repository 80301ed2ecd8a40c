"""Whatever a cluster has been through: who has an old table and gets what is new since then has the newest one."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gimmal.cluster.table import Addresses, NodeRow, PartitionRow, Table
from gimmal.errors import RemoteProtocolError
from gimmal.types import Incarnation
from gimmal.wire.codec import decode, encode
from gimmal.wire.messages import TableRows
from tests.unit.tables import check_consistent, static_nodes, static_table

CLUSTER = bytes(range(16))
NAMES = [f"n{number}" for number in range(6)]
PARTITIONS = 8


def node_row(name: str, version: int) -> NodeRow:
    addresses = (("default", Addresses(f"{name}:{version}", f"{name}:s")),)
    return NodeRow(
        name, version, version.to_bytes(16, "big"), f"{name}/a", "", 1, "alive", f"{name}:p", addresses, version
    )


@st.composite
def changes(draw: Any, before: Table) -> Table:
    """The next table, some versions later: nodes come, come anew and are fenced, rows and voters change."""
    version = before.version + draw(st.integers(1, 3))
    row_by_name = {row.name: row for row in before.nodes}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True)):
        known = row_by_name.get(name)
        if known is not None and draw(st.booleans()):
            row_by_name[name] = known._replace(status=draw(st.sampled_from(["alive", "fenced"])), changed_at=version)
        else:
            row_by_name[name] = node_row(name, version)
    partitions = list(before.partitions)
    for number in draw(st.lists(st.integers(0, PARTITIONS - 1), max_size=4, unique=True)):
        row = partitions[number]
        leader = draw(st.sampled_from([None, *sorted(row_by_name)]))
        members = tuple(Incarnation(name, row_by_name[name].incarnation) for name in [leader] if name is not None)
        epoch = row.epoch + (leader != row.leader)
        partitions[number] = PartitionRow(leader, epoch, row.version + 1, row.replicas, members, changed_at=version)
    voters = tuple(draw(st.lists(st.sampled_from([f"{name}/a" for name in NAMES]), max_size=3, unique=True)))
    nodes = tuple(row_by_name[name] for name in sorted(row_by_name))
    return Table(before.cluster, version, voters, nodes, tuple(partitions))


@st.composite
def histories(draw: Any) -> list[Table]:
    tables = [static_table(CLUSTER, static_nodes("n1", "n2"), PARTITIONS)]
    for _ in range(draw(st.integers(1, 6))):
        tables.append(draw(changes(tables[-1])))
    return tables


def travelled(tree: Any) -> Any:
    message = decode(encode(TableRows(CLUSTER, 1, 0, 1, tree)))
    assert isinstance(message, TableRows)
    return message.table


@given(histories(), st.data())
def test_any_holder_gets_the_newest_table(history: list[Table], data: st.DataObject) -> None:
    newest = history[-1]
    assert Table.from_wire(travelled(newest.to_wire())) == newest
    for table in history:
        for since in {0, data.draw(st.integers(0, table.version)), table.version}:
            received = table.updated(travelled(newest.to_wire(since)))
            assert received == newest
            check_consistent(received)


@given(histories(), st.data())
def test_it_does_not_matter_over_whom_and_in_which_order_the_news_come(
    history: list[Table], data: st.DataObject
) -> None:
    """Holders tell each other at random; none goes back, and whoever asks the best informed is as well informed."""
    holders = list(history)
    for _ in range(data.draw(st.integers(1, 10))):
        asker, teller = (data.draw(st.integers(0, len(holders) - 1)) for _ in range(2))
        before, told = holders[asker], holders[teller]
        holders[asker] = before.updated(travelled(told.to_wire(before.version)))
        assert holders[asker] == (told if told.version > before.version else before)
    for table in holders:
        assert table.updated(travelled(history[-1].to_wire(table.version))) == history[-1]


@given(histories(), st.data())
def test_a_difference_that_starts_too_late_is_refused(history: list[Table], data: st.DataObject) -> None:
    newest = history[-1]
    for table in history[:-1]:
        if table.version + 1 < newest.version:
            since = data.draw(st.integers(table.version + 1, newest.version - 1))
            try:
                table.updated(newest.to_wire(since))
            except RemoteProtocolError:
                continue
            raise AssertionError("it was taken")


@st.composite
def forks(draw: Any) -> tuple[list[Table], list[Table]]:
    """Two histories that begin with the same table."""
    history = draw(histories())
    other = [history[0]]
    for _ in range(draw(st.integers(1, 3))):
        other.append(draw(changes(other[-1])))
    return history, other


@given(forks())
def test_news_of_another_history_never_take_a_table_back(pair: tuple[list[Table], list[Table]]) -> None:
    """It cannot happen, as versions are totally ordered; if it does, no fence is lowered by it."""
    for table in pair[0]:
        for other in pair[1]:
            for since in {0, min(table.version, other.version - 1)}:
                try:
                    received = table.updated(travelled(other.to_wire(since)))
                except RemoteProtocolError:
                    continue
                check_consistent(received)
                assert received is table or received.version > table.version
                for old, new in zip(table.partitions, received.partitions, strict=True):
                    assert new.epoch >= old.epoch
                    assert new.version >= old.version
                for row in table.nodes:
                    newer = received.node(row.name)
                    assert newer is not None
                    assert newer.incarnation >= row.incarnation


@given(histories(), st.binary(min_size=16, max_size=16))
def test_another_cluster_is_refused(history: list[Table], cluster: bytes) -> None:
    if cluster == CLUSTER:
        return
    stranger = replace(history[-1], cluster=cluster)
    for since in (0, 1):
        for table in history:
            try:
                table.updated(stranger.to_wire(since))
            except RemoteProtocolError:
                continue
            raise AssertionError("it was taken")
