"""The cluster table travels unharmed, whole and as differences, and nothing but a consistent table arrives."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gimmal.cluster.table import Addresses, NodeRow, PartitionRow, Table
from gimmal.errors import RemoteProtocolError
from gimmal.types import Incarnation
from gimmal.wire import limits
from gimmal.wire.codec import decode, encode
from gimmal.wire.messages import TableRows
from tests.unit.tables import as_lists, as_tuples, check_consistent, static_nodes, static_table, with_leaders, with_node

CLUSTER = bytes(range(16))
RICH = Table(
    cluster=CLUSTER,
    version=9,
    voters=("n1/1", "nøde/c0ffee"),
    nodes=(
        NodeRow(
            name="n1",
            incarnation=4,
            uuid=b"\1" * 16,
            voter="n1/1",
            zone="zone-a",
            weight=2,
            status="alive",
            peer="10.0.0.1:7701",
            networks=(("internal", Addresses("10.0.0.1:7700", "10.0.0.1:7702")), ("host", Addresses("h:1", "h:2"))),
            changed_at=4,
        ),
        NodeRow(
            *("nøde", 5, b"\2" * 16, "nøde/c0ffee", "", 1, "fenced", "p:1"),
            *((("default", Addresses("c:1", "s:1")),), 9),
        ),
    ),
    partitions=(
        PartitionRow(
            *("n1", 3, 8, ("n1", "nøde"), (Incarnation("n1", 4),), (Incarnation("nøde", 5),), ("nøde",), (), 9),
            reset_epoch=2,
        ),
        PartitionRow(None, 1, 2, ("n1",), (), (Incarnation("n1", 3),), (), ("n1",), 4),
    ),
)


def travel(table: Table) -> Table:
    message = decode(encode(TableRows(CLUSTER, 1, 0, 1, table.to_wire())))
    assert isinstance(message, TableRows)
    return Table.from_wire(message.table)


@pytest.mark.parametrize(
    "table", [RICH, static_table(CLUSTER, static_nodes("n1", "n2", "n3"), 64)], ids=["rich", "static"]
)
def test_a_table_travels(table: Table) -> None:
    received = travel(table)
    assert received == table
    assert hash(received) == hash(table)
    assert [type(row) for row in received.nodes] == [NodeRow] * len(table.nodes)
    assert type(received.partitions[0].in_sync[0]) is Incarnation
    assert type(received.nodes[0].networks[0][1]) is Addresses


def test_a_node_is_found_by_name_and_network() -> None:
    row = RICH.node("n1")
    assert row is RICH.nodes[0]
    assert RICH.node("n9") is None
    assert row.addresses("host") == Addresses("h:1", "h:2")
    assert row.addresses("nowhere") is None


def test_nodes_are_in_the_order_of_their_names() -> None:
    cluster, version, since, voters, nodes, partitions = RICH.to_wire()
    backwards = (cluster, version, since, voters, nodes[::-1], partitions[::-1])
    assert Table.from_wire(backwards) == RICH


# -- hostile trees -----------------------------------------------------------------------


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.floats(), st.integers(-3, 3), st.text(max_size=8), st.binary(max_size=17)),
        st.just({}),
    ),
    lambda children: st.lists(children, max_size=8),
    max_leaves=10,
)


def spoil(data: st.DataObject, tree: list[Any]) -> None:
    """Replace, remove, add or double one thing somewhere in a tree."""
    while True:
        place = data.draw(st.integers(0, len(tree) - 1))
        if isinstance(tree[place], list) and tree[place] and data.draw(st.integers(0, 3)):
            tree = tree[place]
            continue
        what = data.draw(st.sampled_from(["replace", "replace", "remove", "add", "double"]))
        if what == "replace":
            tree[place] = data.draw(JUNK)
        elif what == "remove":
            del tree[place]
        else:
            tree.insert(place, data.draw(JUNK) if what == "add" else tree[place])
        return


@given(st.data())
@settings(max_examples=300)
def test_a_spoiled_table_is_refused_or_consistent(data: st.DataObject) -> None:
    tree = as_lists(RICH.to_wire())
    for _ in range(data.draw(st.integers(1, 2))):
        spoil(data, tree)
    with suppress(RemoteProtocolError):
        check_consistent(Table.from_wire(as_tuples(tree)))


OLDER = replace(
    RICH,
    version=8,
    nodes=(RICH.nodes[0], RICH.nodes[1]._replace(status="alive", changed_at=5)),
    partitions=(RICH.partitions[0]._replace(version=7, changed_at=6), RICH.partitions[1]),
)
"""What RICH was one version before."""


@given(st.data())
@settings(max_examples=300)
def test_a_spoiled_difference_is_refused_or_leads_to_a_consistent_table(data: st.DataObject) -> None:
    tree = as_lists(RICH.to_wire(data.draw(st.sampled_from([0, 4, 8]))))
    for _ in range(data.draw(st.integers(1, 2))):
        spoil(data, tree)
    with suppress(RemoteProtocolError):
        table = OLDER.updated(as_tuples(tree))
        check_consistent(table)
        check_not_gone_back(OLDER, table)


def check_not_gone_back(before: Table, after: Table) -> None:
    assert after.version >= before.version
    assert after is before or after.version > before.version
    assert len(after.partitions) == len(before.partitions)
    for row in before.nodes:
        newer = after.node(row.name)
        assert newer is not None
        assert (newer.incarnation, newer.changed_at) >= (row.incarnation, row.changed_at)
    for old, new in zip(before.partitions, after.partitions, strict=True):
        assert new.epoch >= old.epoch
        assert new.version >= old.version
        assert new == old or new.version > old.version


@given(JUNK)
def test_junk_is_no_table(junk: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cluster table"):
        Table.from_wire(as_tuples(junk))
    with pytest.raises(RemoteProtocolError, match="malformed cluster table"):
        RICH.updated(as_tuples(junk))


def spoiled(*path: int, to: Any) -> Any:
    tree = as_lists(RICH.to_wire())
    branch = tree
    for step in path[:-1]:
        branch = branch[step]
    branch[path[-1]] = to
    return as_tuples(tree)


VERSION, SINCE, VOTERS, NODES, PARTITIONS = 1, 2, 3, 4, 5
ROWS = RICH.to_wire()[PARTITIONS]
LONG = "n" * (limits.NAME_BYTES_MAX + 1)


@pytest.mark.parametrize(
    "tree",
    [
        spoiled(0, to=b"short"), spoiled(0, to="x" * 16), spoiled(0, to=b""), spoiled(VERSION, to=0),
        spoiled(VERSION, to=True), spoiled(VERSION, to=2**63), spoiled(VERSION, to=8), spoiled(VERSION, to=None),
        spoiled(SINCE, to=1), spoiled(SINCE, to=-1), spoiled(SINCE, to=None), spoiled(SINCE, to=False),
        spoiled(VOTERS, to=None), spoiled(VOTERS, to="n1/1"), spoiled(VOTERS, to=(5,)), spoiled(VOTERS, to=(LONG,)),
        spoiled(VOTERS, to=("n1/1",) * (limits.VOTERS_MAX + 1)),
        spoiled(NODES, to=()), spoiled(NODES, to=None), spoiled(NODES, to=5), spoiled(NODES, 1, 0, to="n1"),
        spoiled(NODES, 0, 0, to=7), spoiled(NODES, 0, 0, to=""), spoiled(NODES, 0, 0, to=LONG),
        spoiled(NODES, 0, 1, to="1"), spoiled(NODES, 0, 1, to=True), spoiled(NODES, 0, 1, to=-1),
        spoiled(NODES, 0, 1, to=2**63), spoiled(NODES, 0, 2, to="uuid"), spoiled(NODES, 0, 2, to=b"uuid"),
        spoiled(NODES, 0, 3, to=None), spoiled(NODES, 0, 4, to=1), spoiled(NODES, 0, 5, to=1.0),
        spoiled(NODES, 0, 5, to=-1), spoiled(NODES, 0, 6, to=None), spoiled(NODES, 0, 7, to=b"h:1"),
        spoiled(NODES, 0, 8, to=()), spoiled(NODES, 0, 8, to=None), spoiled(NODES, 0, 8, to=(("ab", "cd"),)),
        spoiled(NODES, 0, 8, to=(("default", ("h:1", "h:2")),) * (limits.NETWORKS_MAX + 1)),
        spoiled(NODES, 0, 8, 0, to=("default",)), spoiled(NODES, 0, 8, 0, 0, to=None),
        spoiled(NODES, 0, 8, 0, 1, to=("one",)), spoiled(NODES, 0, 8, 0, 1, to=("one", None)),
        spoiled(NODES, 0, 9, to=0), spoiled(NODES, 0, 9, to=10), spoiled(NODES, 0, 9, to=True),
        spoiled(NODES, 0, to=RICH.nodes[0][:9]), spoiled(NODES, 0, to=(*RICH.nodes[0], 9)),
        spoiled(PARTITIONS, to=()), spoiled(PARTITIONS, to=None), spoiled(PARTITIONS, to=ROWS[:1] * 2),
        spoiled(PARTITIONS, to=(*ROWS, (2, *ROWS[0][1:]))), spoiled(PARTITIONS, to=ROWS[1:]),
        spoiled(PARTITIONS, to=(ROWS[0], (7, *ROWS[1][1:]))), spoiled(PARTITIONS, to=(*ROWS, ROWS[1])),
        spoiled(PARTITIONS, 0, 0, to=-1), spoiled(PARTITIONS, 1, 0, to=True), spoiled(PARTITIONS, 0, 0, to=None),
        spoiled(PARTITIONS, 0, 0, to={}), spoiled(PARTITIONS, 0, to=ROWS[0][:9]), spoiled(PARTITIONS, 0, to=(0,)),
        spoiled(PARTITIONS, 0, to=()), spoiled(PARTITIONS, 0, to=(*ROWS[0], 9)),
        spoiled(PARTITIONS, 0, 1, to="n3"), spoiled(PARTITIONS, 0, 1, to=0), spoiled(PARTITIONS, 0, 1, to=()),
        spoiled(PARTITIONS, 0, 1, to={}),
        spoiled(PARTITIONS, 0, 2, to=0), spoiled(PARTITIONS, 0, 2, to=1.0), spoiled(PARTITIONS, 0, 2, to=2**63),
        spoiled(PARTITIONS, 0, 3, to=-1), spoiled(PARTITIONS, 0, 3, to=0),
        spoiled(PARTITIONS, 0, 4, to="n1"), spoiled(PARTITIONS, 0, 4, to=5), spoiled(PARTITIONS, 0, 4, to=(5,)),
        spoiled(PARTITIONS, 0, 5, to=("n1",)), spoiled(PARTITIONS, 0, 5, to=((4, "n1"),)),
        spoiled(PARTITIONS, 0, 5, to=(("n1", -1),)),
        spoiled(PARTITIONS, 0, 6, to=(("n1", None),)), spoiled(PARTITIONS, 0, 7, to=b"n1"),
        spoiled(PARTITIONS, 0, 8, to=((),)),
        spoiled(PARTITIONS, 0, 9, to=0), spoiled(PARTITIONS, 0, 9, to=10), spoiled(PARTITIONS, 0, 9, to=None),
    ],
)  # fmt: skip
def test_an_inconsistent_table_is_refused(tree: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cluster table"):
        Table.from_wire(tree)


# -- differences ----------------------------------------------------------------------------

FIRST = static_table(CLUSTER, static_nodes("n1", "n2", "n3"), 8)
SECOND = with_leaders(FIRST, {0: "n2"})
THIRD = with_node(SECOND, "n3", status="fenced")
FOURTH = replace(with_leaders(THIRD, {0: "n1", 7: None}), voters=("n1/1", "n2/1"))


def test_a_difference_holds_only_what_was_written_since() -> None:
    *_, nodes, partitions = FOURTH.to_wire(2)
    assert [row[0] for row in nodes] == ["n3"]
    assert [row[0] for row in partitions] == [0, 7]
    assert FOURTH.to_wire(4)[4:] == ((), ())
    assert FOURTH.to_wire(0)[SINCE] == 0
    assert len(FOURTH.to_wire(0)[PARTITIONS]) == 8


@pytest.mark.parametrize("since", range(5))
@pytest.mark.parametrize("older", [FIRST, SECOND, THIRD, FOURTH])
def test_a_holder_of_any_version_gets_the_newest(older: Table, since: int) -> None:
    tree = FOURTH.to_wire(since)
    if older is FOURTH:
        assert older.updated(tree) is older
    elif since <= older.version:  # what it has already may be said again
        assert older.updated(tree) == FOURTH
    else:
        with pytest.raises(RemoteProtocolError, match=f"new since version {since}, which this side does not have"):
            older.updated(tree)


@pytest.mark.parametrize("since", range(4))
def test_what_is_not_newer_changes_nothing(since: int) -> None:
    for table in (FIRST, SECOND, THIRD, FOURTH):
        assert FOURTH.updated(table.to_wire(since)) is FOURTH


def test_rows_that_have_not_changed_are_the_same_objects() -> None:
    newer = SECOND.updated(FOURTH.to_wire(2))
    assert newer.nodes[0] is SECOND.nodes[0]
    assert all(newer.partitions[number] is SECOND.partitions[number] for number in range(1, 7))


def test_only_a_holder_can_take_a_difference() -> None:
    with pytest.raises(RemoteProtocolError, match="new since version 1, which this side does not have"):
        Table.from_wire(SECOND.to_wire(1))


def test_when_a_partition_started_again_travels_and_never_goes_back() -> None:
    row = FOURTH.partitions[0]
    again = row._replace(version=row.version + 1, changed_at=5, reset_epoch=row.epoch)
    fifth = replace(FOURTH, version=5, partitions=(again, *FOURTH.partitions[1:]))
    assert FOURTH.updated(fifth.to_wire(4)).partitions[0].reset_epoch == row.epoch
    back = again._replace(version=again.version + 1, changed_at=6, reset_epoch=0)
    with pytest.raises(RemoteProtocolError, match="partition 0 contradicts version 5"):
        fifth.updated(replace(fifth, version=6, partitions=(back, *fifth.partitions[1:])).to_wire(5))


def test_a_new_node_and_a_new_life_of_a_node_travel() -> None:
    (row,) = static_table(CLUSTER, static_nodes("n0"), 1).nodes
    version = FOURTH.version + 1
    fifth = replace(FOURTH, version=version, nodes=(row._replace(incarnation=5, changed_at=5), *FOURTH.nodes))
    sixth = with_node(fifth, "n3", status="alive", incarnation=6, uuid=b"6" * 16)
    for older in (FIRST, FOURTH, fifth):
        assert older.updated(sixth.to_wire(older.version)) == sixth


NEWER = FOURTH.to_wire(1)


def newer(place: int, to: Any) -> Any:
    return (*NEWER[:place], to, *NEWER[place + 1 :])


def row_of(number: int, **changes: Any) -> tuple[Any, ...]:
    return (number, *FOURTH.partitions[number]._replace(**changes))


N3 = FOURTH.nodes[2]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (newer(0, bytes(16)), "it is of cluster 0000"),
        (replace(FOURTH, cluster=bytes(16)).to_wire(), "it is of cluster 0000"),
        (newer(SINCE, 3), "new since version 3"), (newer(SINCE, 4), "new since version 4"),
        (newer(SINCE, -1), "natural"), (newer(SINCE, None), "natural"), (newer(VERSION, "5"), "natural"),
        (newer(VERSION, 2**63), "natural"),
        (newer(SINCE, 0), "2 partitions|power of two|no partition"),
        (newer(NODES, (N3, N3)), "doubled"), (newer(PARTITIONS, (row_of(0), row_of(0))), "doubled"),
        (newer(PARTITIONS, (row_of(0), (8, *row_of(7)[1:]))), "there is no partition 8"),
        (newer(PARTITIONS, ((-1, *row_of(7)[1:]),)), "there is no partition -1"),
        (newer(PARTITIONS, (row_of(0, leader="n9"),)), "partition 0 is led by 'n9'"),
        (newer(NODES, (N3._replace(changed_at=1),)), "not written in versions 2 to 4"),
        (newer(NODES, (N3._replace(changed_at=5),)), "not written in versions 2 to 4"),
        (newer(PARTITIONS, (row_of(0, changed_at=1),)), "not written in versions 2 to 4"),
        (newer(PARTITIONS, (row_of(0, changed_at=5),)), "not written in versions 2 to 4"),
        (newer(NODES, (N3._replace(incarnation=2),)), "node 'n3' contradicts version 2"),
        (newer(NODES, (N3._replace(changed_at=2),)), "node 'n3' contradicts version 2"),
        (newer(PARTITIONS, (row_of(0, version=2),)), "partition 0 contradicts version 2"),
        (newer(PARTITIONS, (row_of(0, epoch=1),)), "partition 0 contradicts version 2"),
        (newer(PARTITIONS, (row_of(7, changed_at=2),)), "partition 7 contradicts version 2"),
        (newer(PARTITIONS, (row_of(0, reset_epoch=99),)), "started again in an epoch that is still to come"),
        (newer(PARTITIONS, (row_of(0, reset_epoch=-1),)), "still to come"),
        (newer(PARTITIONS, (row_of(0, reset_epoch=True),)), "still to come"),
        (static_table(CLUSTER, static_nodes("n1", "n2", "n3"), 16).to_wire(), None),
        (replace(static_table(CLUSTER, static_nodes("n1", "n2", "n3"), 16), version=4).to_wire(), "16 partitions"),
        (replace(static_table(CLUSTER, static_nodes("n1", "n2"), 8), version=4).to_wire(), "'n3' has left|contradicts"),
        (replace(FIRST, version=4).to_wire(), "partition 0 contradicts version 2"),
        (with_leaders(FIRST, {0: "n3"}, version=2).to_wire(), None),
        (replace(with_leaders(FIRST, {0: "n3"}), version=4).to_wire(), "partition 0 contradicts version 2"),
    ],
)  # fmt: skip
def test_what_does_not_continue_a_table_is_refused(tree: Any, said: str | None) -> None:
    if said is None:  # it is not newer, so nobody looks into it
        assert SECOND.updated(tree) is SECOND
        return
    with pytest.raises(RemoteProtocolError, match=said):
        SECOND.updated(tree)
