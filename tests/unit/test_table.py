"""The cluster table travels unharmed, and nothing but a consistent table arrives; static tables from files."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gimmal.cluster.static import DEFAULT_NETWORK, StaticNode, load_static_table, static_table
from gimmal.cluster.table import Addresses, Incarnation, NodeRow, PartitionRow, Table
from gimmal.errors import ConfigError, RemoteProtocolError
from gimmal.wire.codec import decode, encode, pack_value
from gimmal.wire.messages import TableRows

CLUSTER = bytes(range(16))
RICH = Table(
    cluster=CLUSTER,
    version=9,
    nodes=(
        NodeRow(
            "n1",
            4,
            b"\1" * 16,
            "zone-a",
            2,
            "alive",
            "10.0.0.1:7701",
            (("internal", Addresses("10.0.0.1:7700", "10.0.0.1:7702")), ("host", Addresses("h:1", "h:2"))),
        ),
        NodeRow("nøde", 5, b"", "", 1, "fenced", "p:1", (("default", Addresses("c:1", "s:1")),)),
    ),
    partitions=(
        PartitionRow("n1", 3, 8, ("n1", "nøde"), (Incarnation("n1", 4),), (Incarnation("nøde", 5),), ("nøde",)),
        PartitionRow(None, 1, 2, ("n1",), (), (Incarnation("n1", 3),), (), ("n1",)),
    ),
)


def travel(table: Table) -> Table:
    message = decode(encode(TableRows(CLUSTER, 1, 0, 1, table.to_wire())))
    assert isinstance(message, TableRows)
    return Table.from_wire(message.table)


def static_nodes(*names: str) -> list[StaticNode]:
    return [StaticNode(name, f"{name}:1", f"{name}:2", f"{name}:3") for name in names]


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


# -- hostile trees -----------------------------------------------------------------------


def as_lists(tree: Any) -> Any:
    """A table as nested lists, for a test to spoil."""
    return list(map(as_lists, tree)) if isinstance(tree, tuple) else tree


def as_tuples(tree: Any) -> Any:
    return tuple(map(as_tuples, tree)) if isinstance(tree, list) else tree


def check_consistent(table: Table) -> None:
    """What the holders of a table rely on."""
    assert len(table.cluster) == 16
    assert table.version > 0
    names = [row.name for row in table.nodes]
    assert len(set(names)) == len(names) > 0
    assert len(table.partitions) in [1 << exponent for exponent in range(15)]
    for row in table.nodes:
        texts = [row.name, row.zone, row.status, row.peer]
        texts += [text for name, addresses in row.networks for text in (name, *addresses)]
        assert all(type(text) is str for text in texts)
        assert type(row.incarnation) is type(row.weight) is int
        assert row.networks
        assert type(row.uuid) is bytes
    for partition in table.partitions:
        assert partition.leader is None or partition.leader in names
        assert type(partition.epoch) is type(partition.version) is int
        holders = (*partition.replicas, *partition.adding, *partition.removing)
        assert all(type(name) is str for name in holders)
        for name, number in (*partition.in_sync, *partition.eligible):
            assert type(name) is str
            assert type(number) is int


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


@given(JUNK)
def test_junk_is_no_table(junk: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cluster table"):
        Table.from_wire(as_tuples(junk))


def spoiled(*path: int, to: Any) -> Any:
    tree = as_lists(RICH.to_wire())
    branch = tree
    for step in path[:-1]:
        branch = branch[step]
    branch[path[-1]] = to
    return as_tuples(tree)


NODES, PARTITIONS = 2, 3


@pytest.mark.parametrize(
    "tree",
    [
        spoiled(0, to=b"short"), spoiled(0, to="x" * 16), spoiled(1, to=0), spoiled(1, to=True),
        spoiled(NODES, to=()), spoiled(NODES, 1, 0, to="n1"), spoiled(NODES, 0, 0, to=7),
        spoiled(NODES, 0, 1, to="1"), spoiled(NODES, 0, 1, to=True), spoiled(NODES, 0, 2, to="uuid"),
        spoiled(NODES, 0, 4, to=1.0), spoiled(NODES, 0, 7, to=()), spoiled(NODES, 0, 7, to=None),
        spoiled(NODES, 0, 7, 0, to=("default",)), spoiled(NODES, 0, 7, 0, 1, to=("one",)),
        spoiled(PARTITIONS, to=()), spoiled(PARTITIONS, to=(RICH.partitions[0],) * 3),
        spoiled(PARTITIONS, 0, 0, to="n3"), spoiled(PARTITIONS, 0, 0, to=0), spoiled(PARTITIONS, 0, 0, to=()),
        spoiled(PARTITIONS, 0, 1, to=0), spoiled(PARTITIONS, 0, 1, to=1.0), spoiled(PARTITIONS, 0, 2, to=-1),
        spoiled(PARTITIONS, 0, 3, to="n1"), spoiled(PARTITIONS, 0, 3, to=5),
        spoiled(PARTITIONS, 0, 3, to=(5,)),
        spoiled(PARTITIONS, 0, 4, to=("n1",)), spoiled(PARTITIONS, 0, 4, to=((4, "n1"),)),
        spoiled(PARTITIONS, 0, 5, to=(("n1", None),)), spoiled(PARTITIONS, 0, 6, to=b"n1"),
        spoiled(PARTITIONS, 0, 7, to=((),)),
    ],
)  # fmt: skip
def test_an_inconsistent_table_is_refused(tree: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cluster table"):
        Table.from_wire(tree)


# -- static tables -----------------------------------------------------------------------


def test_the_same_list_gives_the_same_table() -> None:
    names = [f"node-{number}" for number in range(7)]
    tables = [static_table(CLUSTER, static_nodes(*names), 256) for _ in range(2)]
    assert tables[0] == tables[1]
    assert pack_value(tables[0].to_wire()) == pack_value(tables[1].to_wire())
    assert [row.incarnation for row in tables[0].nodes] == [1, 2, 3, 4, 5, 6, 7]
    assert {row.networks[0][0] for row in tables[0].nodes} == {DEFAULT_NETWORK}
    led = [sum(row.leader == name for row in tables[0].partitions) for name in names]
    assert max(led) - min(led) <= 1
    for row in tables[0].partitions:
        assert row.replicas == (row.leader,) == tuple(member.name for member in row.in_sync)
        assert (row.epoch, row.version) == (1, 1)


@pytest.mark.parametrize(
    ("cluster", "nodes", "partitions", "said"),
    [
        (b"short", static_nodes("n1"), 8, "16 bytes"),
        (CLUSTER, [], 8, "at least one member"),
        (CLUSTER, static_nodes("n1", "n1"), 8, "share the name 'n1'"),
        (CLUSTER, static_nodes("n1"), 1_000, "power of two"),
        (CLUSTER, static_nodes("n1"), 0, "power of two"),
        (CLUSTER, static_nodes("n1"), 2**15, "power of two"),
        (CLUSTER, [static_nodes("n1")[0]._replace(weight=0)], 8, "weight"),
        (CLUSTER, [static_nodes("n1")[0]._replace(name="")], 8, "needs a name"),
    ],
)
def test_a_list_that_makes_no_cluster(cluster: bytes, nodes: list[StaticNode], partitions: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        static_table(cluster, nodes, partitions)


NODE = {"name": "n1", "client": "a:1", "peer": "a:2", "pubsub": "a:3", "zone": "z", "weight": 2}
GOOD: dict[str, Any] = {"cluster": CLUSTER.hex(), "partitions": 8, "nodes": [NODE]}


def written(folder: Path, content: Any) -> Path:
    file = folder / "cluster.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_a_file_is_read(tmp_path: Path) -> None:
    table = load_static_table(written(tmp_path, GOOD))
    assert table == static_table(CLUSTER, [StaticNode("n1", "a:1", "a:2", "a:3", "z", 2)], 8)
    without = {key: value for key, value in GOOD.items() if key != "partitions"}
    assert len(load_static_table(written(tmp_path, without)).partitions) == 1_024


def with_node(**changes: Any) -> dict[str, Any]:
    node = {key: value for key, value in (NODE | changes).items() if value != "absent"}
    return GOOD | {"nodes": [node]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value"), ("{", "Expecting"), ("[]", "list"), ("5", "int"), ("null", "None"),
        ({}, "cluster"), (GOOD | {"cluster": "xyz"}, "hexadecimal"),
        (GOOD | {"cluster": "00ff"}, "32 hex digits"),
        (GOOD | {"cluster": 5}, "fromhex"), (GOOD | {"nodes": []}, "at least one"),
        (GOOD | {"nodes": None}, "None"),
        (GOOD | {"nodes": ["n1"]}, "mapping"), (GOOD | {"nodes": [NODE, NODE]}, "share the name"),
        (GOOD | {"partitions": 1_000}, "power of two"), (GOOD | {"partitions": "8"}, "str"),
        (GOOD | {"partitions": None}, "None"), (GOOD | {"partitions": 8.5}, "float"),
        (with_node(client="absent"), "client"), (with_node(port=7700), "port"), (with_node(name=5), "name"),
        (with_node(name=None), "name"), (with_node(name=["n1"]), "name"), (with_node(name=""), "name"),
        (with_node(zone=None), "zone"), (with_node(weight="2"), "weight"), (with_node(weight=True), "weight"),
        (with_node(weight=1.5), "weight"), (with_node(weight=0), "weight"), (with_node(weight=10**9),
        "weight"),
        (with_node(client="localhost"), "host:port"), (with_node(peer=":7701"), "host:port"),
        (with_node(pubsub="a:b"), "host:port"), (with_node(client=7700), "client"),
    ],
)  # fmt: skip
def test_a_file_that_describes_no_cluster(tmp_path: Path, content: Any, said: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        load_static_table(file)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the cluster file .*No such file"):
        load_static_table(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="cannot read the cluster file"):
        load_static_table(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.json"):
        load_static_table(tmp_path / "binary.json")


JSON_JUNK: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(-3, 3), st.text(max_size=5)),
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(st.sampled_from(["cluster", "nodes", "partitions", *NODE]), children, max_size=8),
    ),
    max_leaves=8,
)


@given(st.sampled_from([*GOOD, *NODE]), JSON_JUNK)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spoiled_file_is_a_config_error(tmp_path: Path, name: str, junk: Any) -> None:
    content = with_node(**{name: junk}) if name in NODE else GOOD | {name: junk}
    with suppress(ConfigError):
        check_consistent(load_static_table(written(tmp_path, content)))
