"""What a newer table says to the copies of one node: only what has changed for it, with the lives of those it names."""

from dataclasses import replace
from typing import Any

import pytest

from gimmal.cluster.table import FENCED, PartitionRow, Table
from gimmal.node.views import views
from gimmal.replication.view import View
from gimmal.types import Incarnation
from tests.unit.tables import static_nodes, static_table, with_node

N1, N2, N3, N4 = (Incarnation(f"n{number}", number) for number in (1, 2, 3, 4))
CLUSTER = bytes(16)


def table_of(*rows: PartitionRow) -> Table:
    table = static_table(CLUSTER, static_nodes("n1", "n2", "n3", "n4"), len(rows))
    return replace(table, partitions=rows)


ON_THREE = PartitionRow("n1", 5, 3, ("n1", "n2", "n3"), (N1, N2), eligible=(), changed_at=1)
ELSEWHERE = PartitionRow("n2", 5, 3, ("n2", "n3", "n4"), (N2, N3), changed_at=1)
TABLE = table_of(ON_THREE, ELSEWHERE)


def changed(table: Table, partition: int, **fields: Any) -> Table:
    version = table.version + 1
    rows = list(table.partitions)
    rows[partition] = rows[partition]._replace(version=rows[partition].version + 1, changed_at=version, **fields)
    return replace(table, version=version, partitions=tuple(rows))


def test_the_first_table_says_everything_of_what_a_node_holds() -> None:
    assert list(views(TABLE, N1, None)) == [(0, View(5, 3, N1, (N1, N2, N3), (N1, N2), 2))]
    assert [number for number, _ in views(TABLE, N2, None)] == [0, 1]
    assert [number for number, _ in views(TABLE, Incarnation("n9", 9), None)] == []


def test_a_later_table_says_what_has_changed() -> None:
    assert list(views(TABLE, N1, TABLE)) == []
    later = changed(TABLE, 0, in_sync=(N1, N2, N3))
    assert list(views(later, N1, TABLE)) == [(0, View(5, 4, N1, (N1, N2, N3), (N1, N2, N3), 2))]
    assert list(views(later, N4, TABLE)) == []
    assert [number for number, _ in views(changed(later, 1), N2, TABLE)] == [0, 1], "over two versions at once"


def test_what_is_not_to_be_held_any_more_is_said_once() -> None:
    moved = changed(TABLE, 0, replicas=("n2", "n3", "n4"))
    assert list(views(moved, N1, TABLE)) == [(0, None)]
    assert list(views(changed(moved, 0), N1, moved)) == []


@pytest.mark.parametrize("field", ["replicas", "adding"])
@pytest.mark.parametrize("change", [{"status": FENCED}, {"incarnation": 9}])
def test_a_change_of_a_node_is_a_change_of_all_rows_that_name_it(field: str, change: dict[str, Any]) -> None:
    holders = {"replicas": ("n1", "n2", "n3", "n4")} if field == "replicas" else {"adding": ("n4",)}
    before = changed(TABLE, 0, **holders)
    ((number, view),) = views(with_node(before, "n4", **change), N1, before)
    assert view is not None
    assert (number, view.version) == (0, 4)
    assert view.holders == (N1, N2, N3, *((Incarnation("n4", 9),) if "incarnation" in change else ()))


def test_a_change_of_another_node_is_none() -> None:
    assert list(views(with_node(TABLE, "n4", status=FENCED), N1, TABLE)) == []


def test_who_is_fenced_holds_nothing_and_may_be_named_all_the_same() -> None:
    fenced = with_node(TABLE, "n3", status=FENCED)
    ((_, view),) = views(fenced, N1, TABLE)
    assert view is not None
    assert view.holders == (N1, N2)


def test_who_is_to_join_holds_a_copy_and_does_not_count_for_the_least() -> None:
    ((_, view),) = views(changed(TABLE, 0, adding=("n4",)), N4, TABLE)
    assert view is not None
    assert (view.holders, view.least) == ((N1, N2, N3, N4), 2)


@pytest.mark.parametrize(("count", "least"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_more_than_half_of_the_copies_are_the_least(count: int, least: int) -> None:
    names = ("n1", "n2", "n3", "n4", "n5")[:count]
    ((_, view),) = views(table_of(ON_THREE._replace(replicas=names)), N1, None)
    assert view is not None
    assert view.least == least


def test_the_leader_is_the_life_that_is_in_sync() -> None:
    reborn = with_node(TABLE, "n1", incarnation=9)
    ((_, view),) = views(reborn, N3, TABLE)
    assert view is not None
    assert view.leader == N1, "the row names the life, and the next one does not lead"
    assert view.holders[0] == Incarnation("n1", 9)
    ((_, view),) = views(changed(TABLE, 0, leader=None), N3, TABLE)
    assert view is not None
    assert view.leader is None
