"""`gimmal status`: what it makes of a table and of what the nodes say, once and live."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gimmal.cli import cluster as command
from gimmal.cli import main
from gimmal.client.overview import Cluster, NodeInfo, PartitionInfo
from gimmal.cluster.table import Addresses

Facts = dict[str, int | str]


def node(name: str, state: str = "alive", role: str = "") -> NodeInfo:
    addresses = {"default": Addresses(f"{name}:1", f"{name}:3")}
    return NodeInfo(name, addresses, state, int(name[1:]), role, "", 1, partitions_led=2, partitions_held=4)


PARTITIONS = (PartitionInfo("n1", ("n1",), ("n1",)),) * 4
CLUSTER = Cluster(
    "c0" * 16, 7, ("n1", "n2"), (node("n1", role="voter"), node("n2", role="voter"), node("n3")), PARTITIONS
)


def facts(name: str, **changes: int | str) -> Facts:
    known: Facts = {
        "name": name,
        "state": "serving",
        "why": "",
        "cluster": CLUSTER.id,
        "incarnation": int(name[1:]),
        "table_version": 7,
        "meta_role": "leader" if name == "n1" else "voter" if name == "n2" else "learner",
        "entries": 1_234,
        "memory_bytes": 2048,
        "operations": 5,
        "uptime_s": 60,
    }
    return known | changes


class Nodes:
    """The nodes as the command finds them: by address, what each says, and the table that each has."""

    def __init__(self) -> None:
        self.facts: dict[str, Facts] = {f"{name}:1": facts(name) for name in ("n1", "n2", "n3")}
        self.clusters: dict[str, Cluster] = {}
        self.looks = 0
        self.until: Callable[[int], bool] = lambda looks: looks >= 3

    def ask(self, addresses: list[str], timeout: float) -> dict[str, Facts]:
        return {address: self.facts[address] for address in addresses if address in self.facts}

    def fetch(self, address: str, timeout: float) -> Cluster:
        return self.clusters.get(address, CLUSTER)

    def sleep(self, seconds: float) -> None:
        self.looks += 1
        if self.until(self.looks):
            raise KeyboardInterrupt


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    nodes = Nodes()
    monkeypatch.setenv("GIMMAL_SEEDS", "n1:1")
    monkeypatch.setattr(command, "_ask", nodes.ask)
    monkeypatch.setattr(command, "_fetch", nodes.fetch)
    monkeypatch.setattr("time.sleep", nodes.sleep)
    return nodes


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    main(["status", "--json", *words])
    return json.loads(capsys.readouterr().out)


def test_each_node_is_a_line_with_its_state_and_role(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    del nodes.facts["n3:1"]
    nodes.facts["n2:1"] = facts("n2", state="joining", why="n2 is not registered", table_version=6)
    assert main(["status"]) == 0
    heading, *rows, why, last = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        *("node", "client", "address", "state", "incarnation", "role", "table"),
        *("led", "held", "entries", "memory", "operations"),
    ]
    assert [row.split() for row in rows] == [
        ["n1", "n1:1", "serving", "1", "leader", "7", "2", "4", "1,234", "2.0", "KiB", "5"],
        ["n2", "n2:1", "joining", "2", "voter", "6", "2", "4", "1,234", "2.0", "KiB", "5"],
        ["n3", "n3:1", "unreachable", "3", "none", "-", "2", "4", "-", "-", "-"],
    ]
    assert why == "n2: n2 is not registered"
    assert last == f"cluster {CLUSTER.id}, table version 7, 4 partitions"


def test_what_nobody_leads_and_what_is_lost_is_said(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    partitions = (*PARTITIONS[:2], PartitionInfo(None, ("n2",), ()), PartitionInfo(None, ("n3",), (), is_lost=True))
    nodes.clusters["n1:1"] = replace(CLUSTER, partitions=partitions)
    main(["status"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("4 partitions, 2 of them without a leader, 1 of those lost: see gimmal recover --help")
    report = shown(capsys)
    assert (report["partitions"], report["partitions_without_leader"], report["partitions_lost"]) == (4, [2, 3], [3])


def test_the_same_as_json(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    report = shown(capsys)
    assert (report["cluster"], report["table_version"], report["voters"]) == (CLUSTER.id, 7, ["n1", "n2"])
    first = report["nodes"][0]
    assert first == {
        "name": "n1",
        "state": "serving",
        "why": "",
        "addresses": {"default": {"client": "n1:1", "pubsub": "n1:3"}},
        "incarnation": 1,
        "role": "leader",
        "partitions_led": 2,
        "partitions_held": 4,
        "table_version": 7,
        "entries": 1_234,
        "memory_bytes": 2048,
        "operations": 5,
        "uptime_s": 60,
    }


def test_the_table_says_who_votes_when_a_node_does_not(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    del nodes.facts["n2:1"], nodes.facts["n3:1"]
    assert [row["role"] for row in shown(capsys)["nodes"]] == ["leader", "voter", "none"]


def test_a_node_that_the_table_calls_fenced_is(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("n1:1", "n2:1", "n3:1"):
        nodes.clusters[address] = replace(CLUSTER, nodes=(*CLUSTER.nodes[:2], node("n3", "fenced")))
    del nodes.facts["n3:1"]
    assert [row["state"] for row in shown(capsys)["nodes"]] == ["serving", "serving", "fenced"]


def test_what_another_node_says_at_the_address_of_one_that_is_gone_is_not_its_own(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes.facts["n3:1"] = facts("n4")
    assert shown(capsys)["nodes"][2]["state"] == "unreachable"


def test_the_newest_table_is_shown_whoever_has_it(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    nodes.facts["n3:1"] = facts("n3", table_version=9)
    nodes.clusters["n3:1"] = replace(CLUSTER, table_version=9)
    assert shown(capsys)["table_version"] == 9


def test_without_a_cluster_the_nodes_say_what_they_wait_for(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = facts(
        "n1", state="founding", why="n1 waits for 2 more nodes", table_version=0, meta_role="none", cluster=""
    )
    nodes.facts = {"n1:1": waiting | {"incarnation": 0}}
    assert main(["status", "--seeds", "n1:1,n2:1"]) == 1
    _, first, second, why, last = capsys.readouterr().out.splitlines()
    assert first.split()[:5] == ["n1", "n1:1", "founding", "0", "none"]
    assert second.split()[:5] == ["n2:1", "n2:1", "unreachable", "-", "none"]
    assert (why, last) == ("n1: n1 waits for 2 more nodes", "no cluster yet")
    report = shown(capsys)
    assert (report["cluster"], report["table_version"]) == (None, 0)
    assert (report["nodes"][0]["state"], report["nodes"][0]["why"]) == ("founding", "n1 waits for 2 more nodes")


def test_when_nobody_answers_that_is_the_error(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    nodes.facts = {}
    assert main(["status", "--timeout", "0.5"]) == 1
    assert capsys.readouterr().err.startswith("NoRoute: no cluster table from n1:1 within 0.5 s: none answers")


# -- live


def test_watch_as_json_is_a_line_for_each_look_until_it_is_interrupted(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    def until(looks: int) -> bool:
        if looks == 1:
            nodes.facts = {}
        elif looks == 2:
            nodes.facts = {"n3:1": facts("n3")}  # the seed stays away, another node is known by now
        return looks == 3

    nodes.until = until
    assert main(["status", "--watch", "--json", "--interval", "0.5"]) == 0
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["state"] for row in first["nodes"]] == ["serving"] * 3
    assert second["error"] == "NoRoute"
    assert [row["state"] for row in third["nodes"]] == ["unreachable", "unreachable", "serving"]


def test_watch_on_what_is_no_terminal_is_one_table_after_the_other(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("node ")]) == 3
    assert "\x1b" not in "".join(lines)


def test_watch_on_a_terminal_is_one_table_that_changes(
    nodes: Nodes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["status", "--watch"]) == 0
    output = capsys.readouterr().out
    assert "\x1b[?25l" in output  # the cursor is hidden meanwhile
    assert output.rstrip().endswith("\x1b[?25h")
    assert "leader" in output


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "soon"])
def test_an_interval_is_a_number_of_seconds(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--watch", "--interval", interval]) == 2
    assert "--interval" in capsys.readouterr().err
