"""What a node serves follows the table: copies are kept while nobody else leads them, and end with the node's life."""

import random
from math import inf
from typing import Any

import pytest

from gimmal.cluster.table import FENCED, Table
from gimmal.leader.memory import MemoryLimits
from gimmal.node.data_plane import DataPlane
from gimmal.types import Incarnation
from gimmal.wire import commands
from gimmal.wire.messages import FetchTable, Refusal, TableRows
from tests.unit.test_data_plane import NEW, ONE, PARTITIONS, START, TABLE, answer, ask, get, later, new_core, set_


def changed(table: Table, incarnation: int = 1, **fields: Any) -> Table:
    """The next version of a table, with all partitions changed."""
    version = table.version + 1
    partitions = tuple(
        row._replace(epoch=row.epoch + 1, version=row.version + 1, changed_at=version, **fields)
        for row in table.partitions
    )
    nodes = tuple(row._replace(incarnation=incarnation, changed_at=version) for row in table.nodes)
    return Table(table.cluster, version, table.voters, nodes, partitions)


FENCED_TABLE = changed(TABLE, leader=None, in_sync=(), eligible=(Incarnation("n1", 1),))
BACK_TABLE = changed(FENCED_TABLE, leader="n1", in_sync=(Incarnation("n1", 1),), eligible=())


def test_without_a_table_nothing_is_led() -> None:
    plane = DataPlane("n1", MemoryLimits(), random.Random(1), later(0))
    assert plane.facts()["partitions_led"] == 0
    assert ask(plane, get(b"k")) == [Refusal.MOVED]


def test_what_is_not_led_any_more_is_kept_and_not_served() -> None:
    plane = new_core()
    ask(plane, set_(b"k"), set_(b"l", ttl_ms=50))
    plane.adopt(FENCED_TABLE, 1, START)
    assert ask(plane, set_(b"k")) == [Refusal.MOVED]
    assert (plane.facts()["partitions_led"], plane.facts()["partitions_held"]) == (0, PARTITIONS)
    assert plane.facts()["entries"] == 2


def test_what_is_led_again_is_as_it_was_under_the_new_epoch() -> None:
    plane = new_core()
    ask(plane, set_(b"k"))
    plane.adopt(FENCED_TABLE, 1, START)
    plane.adopt(BACK_TABLE, 1, START)
    assert ask(plane, get(b"k")) == [NEW + ONE]
    assert {replica.epoch for replica in plane.serving._led.values()} == {3}


def test_keys_of_a_partition_that_is_led_again_expire() -> None:
    plane = new_core()
    ask(plane, set_(b"k", ttl_ms=500))
    plane.adopt(FENCED_TABLE, 1, START)
    plane.tick(later(1))  # nobody expires what is not led: only a leader proposes
    assert plane.facts()["entries"] == 1
    plane.adopt(BACK_TABLE, 1, START)
    plane.tick(later(1))
    assert plane.facts()["entries"] == 0


def test_keys_of_a_partition_that_is_led_again_can_be_evicted() -> None:
    plane = new_core(MemoryLimits(max_entries=2, policy="lru"))
    ask(plane, set_(b"{t}a"), set_(b"{t}b"))
    plane.adopt(FENCED_TABLE, 1, START)
    plane.adopt(BACK_TABLE, 1, START)
    ask(plane, set_(b"{t}c"))
    assert plane.facts()["evicted"] == 1
    assert ask(plane, (commands.EXISTS, b"{t}a")) == [False], "the one that was written first is the one to go"


def test_a_victim_of_a_partition_that_is_not_led_is_passed_over() -> None:
    plane = new_core(MemoryLimits(max_entries=1, policy="lru"))
    ask(plane, set_(b"k"))
    (home,) = [partition for partition, keys in plane.serving._led_keys.items() if keys.records]
    one_lost = list(TABLE.partitions)
    one_lost[home] = FENCED_TABLE.partitions[home]
    plane.adopt(Table(TABLE.cluster, 2, TABLE.voters, TABLE.nodes, tuple(one_lost)), 1, START)
    others = [key for key in (b"a", b"b", b"c", b"d", b"e") if ask(plane, set_(key)) == [True]]
    assert others, "another partition takes writes, and looks for victims"


def test_another_life_starts_from_nothing() -> None:
    plane = new_core()
    ask(plane, set_(b"k"))
    reborn = changed(TABLE, incarnation=5, in_sync=(Incarnation("n1", 5),))
    plane.adopt(reborn, 5, START)
    assert ask(plane, get(b"k")) == [None]
    assert plane.facts()["entries"] == 0


def test_a_row_that_names_an_older_life_is_not_led() -> None:
    plane = new_core()
    plane.adopt(changed(TABLE, incarnation=5), 5, START)  # in sync is still incarnation 1
    assert ask(plane, get(b"k")) == [Refusal.MOVED]


def test_a_client_gets_what_is_new_since_its_own_table() -> None:
    plane = new_core()
    nodes = tuple(row._replace(status=FENCED, changed_at=2) for row in TABLE.nodes)
    plane.adopt(Table(TABLE.cluster, 2, TABLE.voters, nodes, TABLE.partitions), 1, START)
    plane.receive(b"peer", FetchTable(TABLE.cluster, 0, 0, 1), later(0))
    ((_, rows),) = plane.drain()
    assert isinstance(rows, TableRows)
    _, version, since, _, node_rows, partition_rows = rows.table
    assert (version, since, len(node_rows), len(partition_rows)) == (2, 1, 1, 0)
    assert TABLE.updated(rows.table) == plane.table


@pytest.mark.parametrize("version", [0, 99])
def test_a_client_of_another_cluster_or_of_none_gets_everything(version: int) -> None:
    plane = new_core()
    rows = answer(plane, FetchTable(b"", 0, 0, version))
    assert isinstance(rows, TableRows)
    assert Table.from_wire(rows.table) == TABLE


def test_before_anything_is_promised_there_is_no_lease() -> None:
    plane = DataPlane("n1", MemoryLimits(), random.Random(1), later(0))
    assert plane.serving.lease_until_s == -inf
    plane.adopt(TABLE, 1, START)
    assert plane.serving.lease_until_s == -inf, "nor does another life begin with one"
