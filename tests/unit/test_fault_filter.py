"""The faults of a node in a test: who is cut off from whom, what is held back, and how a file tells of them."""

import json
from pathlib import Path

import pytest

from gimmal.errors import ConfigError, InvalidArgument
from gimmal.node.fault_filter import FaultFilter, Word
from gimmal.node.fault_injection import FaultFile
from gimmal.testing.faults import FaultLog

NAMES = ("a", "b", "c")
PEER = {name: f"{name}:1" for name in NAMES}
NEVER = float("inf")


def tell(faults: FaultFilter, *words: object) -> None:
    faults.tell(json.dumps(words).encode())


def filters(*faults: tuple[object, ...]) -> dict[str, FaultFilter]:
    """The filters of three nodes that have been told the same."""
    made = {name: FaultFilter(name) for name in NAMES}
    for one in made.values():
        for name in NAMES:
            tell(one, Word.NODE, name, PEER[name])
        for words in faults:
            tell(one, *words)
    return made


def ways(nodes: dict[str, FaultFilter]) -> set[str]:
    """The ways that messages get through, such as "ab" for those from a to b; both ends must agree."""
    pairs = {(one, other) for one in nodes for other in nodes if one != other}
    sent = {one + other for one, other in pairs if not nodes[one].loses_to(PEER[other])}
    received = {one + other for one, other in pairs if not nodes[other].loses_from(one)}
    assert sent == received
    return sent


ALL = {"ab", "ac", "ba", "bc", "ca", "cb"}
CUTS = [
    ([], ALL),
    ([(Word.ISOLATE, "a", False)], {"bc", "cb"}),
    ([(Word.CUT, ["a"], ["b", "c"], False)], {"bc", "cb"}),
    ([(Word.CUT, ["a", "b"], ["c"], True)], {"ab", "ba", "ca", "cb"}),
    ([(Word.CUT, ["a"], ["b"], True), (Word.CUT, ["b"], ["c"], True)], ALL - {"ab", "bc"}),
    ([(Word.CUT, ["a"], ["b"], True), (Word.CUT, ["a"], ["b"], False)], ALL - {"ab", "ba"}),
    ([(Word.CUT, ["b"], ["c"], True), (Word.ISOLATE, "a", False)], {"cb"}),
    ([(Word.ISOLATE, "a", True), (Word.CUT, ["b"], ["c"], False), (Word.HEAL,)], ALL),
    ([(Word.HEAL,), (Word.CUT, ["a"], ["b"], True)], ALL - {"ab"}),
]


@pytest.mark.parametrize(("faults", "left"), CUTS)
def test_cuts_add_up_until_they_are_healed(faults: list[tuple[object, ...]], left: set[str]) -> None:
    assert ways(filters(*faults)) == left


def test_an_isolated_node_is_cut_off_from_nodes_that_nobody_has_named() -> None:
    nodes = filters((Word.ISOLATE, "a", False))
    assert nodes["a"].loses_to("stranger:1")
    assert nodes["a"].loses_from("stranger")
    assert not nodes["b"].loses_to("stranger:1")
    assert not nodes["b"].loses_from("stranger")


def test_only_the_isolated_node_loses_its_clients_and_only_if_it_should() -> None:
    nodes = filters((Word.ISOLATE, "a", True), (Word.ISOLATE, "a", False), (Word.ISOLATE, "b", False))
    assert [nodes[name].loses_clients for name in NAMES] == [True, False, False]
    tell(nodes["a"], Word.HEAL)
    assert not nodes["a"].loses_clients


def test_nobody_is_refused_where_the_attempt_or_the_refusal_would_be_lost() -> None:
    nodes = filters((Word.CUT, ["a"], ["b"], True))
    assert not nodes["a"].refuses(PEER["b"])
    assert not nodes["b"].refuses(PEER["a"])
    assert nodes["a"].refuses(PEER["c"])
    assert nodes["c"].refuses(PEER["a"])
    assert nodes["c"].refuses("stranger:1")


def test_a_node_that_has_moved_is_known_by_its_new_address() -> None:
    (node, *_) = filters((Word.CUT, ["a"], ["b"], False)).values()
    tell(node, Word.NODE, "b", "b:2")
    assert node.loses_to("b:2")
    assert not node.loses_to(PEER["b"])


# --- delays


def sent(faults: FaultFilter, *frames: bytes, now: float) -> list[bytes]:
    """Send frames to b and return what leaves now."""
    return [frame for frame in frames if faults.admits(PEER["b"], frame, now)]


def slow_node(delay_s: float) -> FaultFilter:
    return filters((Word.SLOW, "a", "b", delay_s))["a"]


def test_a_slow_link_holds_each_frame_back_for_as_long() -> None:
    node = slow_node(2)
    assert sent(node, b"1", b"2", now=10.0) == []
    assert sent(node, b"3", now=11.0) == []
    assert node.next_due() == 12.0
    assert node.due(11.9) == []
    assert node.due(12.0) == [(PEER["b"], b"1"), (PEER["b"], b"2")]
    assert node.next_due() == 13.0
    assert node.due(20.0) == [(PEER["b"], b"3")]
    assert node.next_due() == NEVER
    assert node.admits(PEER["c"], b"frame", 10.0)


def test_only_the_way_that_is_slow_is_slow() -> None:
    nodes = filters((Word.SLOW, "a", "b", 2.0))
    assert nodes["b"].admits(PEER["a"], b"frame", 10.0)
    assert nodes["c"].admits(PEER["b"], b"frame", 10.0)


def test_nothing_overtakes_on_a_link_that_becomes_faster() -> None:
    node = slow_node(5.0)
    sent(node, b"1", now=10.0)
    tell(node, Word.SLOW, "a", "b", 1.0)
    sent(node, b"2", now=10.5)
    assert node.next_due() == 11.0
    tell(node, Word.HEAL)
    assert sent(node, b"3", now=10.6) == [], "it waits for those that were sent before"
    assert [frame for _, frame in node.due(10.6)] == [b"1", b"2", b"3"]
    assert sent(node, b"4", now=10.6) == [b"4"]


def test_a_cut_loses_what_is_held_back_for_good() -> None:
    node = slow_node(5.0)
    sent(node, b"1", now=10.0)
    tell(node, Word.CUT, ["b"], ["a"], True)
    assert node.next_due() == 15.0
    tell(node, Word.CUT, ["a"], ["b"], True)
    assert sent(node, b"2", now=10.0) == []
    tell(node, Word.HEAL)
    assert node.due(99.0) == []
    assert sent(node, b"3", now=99.0) == [b"3"]


# --- what is written and what is read


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'["cut"]', b'["slow", "a", "b", "long"]', b'["heal", 1]', b"1"])
def test_a_line_that_is_no_fault_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"no fault|Expecting"):
        FaultFilter("a").tell(line)


def test_what_is_written_is_understood_at_the_next_look_and_by_nodes_that_start_later(tmp_path: Path) -> None:
    log = FaultLog(tmp_path / "faults")
    for name in NAMES:
        log.add_node(name, PEER[name])
    files = {name: FaultFile(name, log.file) for name in NAMES}

    def left() -> set[str]:
        return ways({name: file.filter() for name, file in files.items()})

    assert left() == ALL
    log.isolate("a", clients=True)
    assert left() == {"bc", "cb"}
    log.partition(("b",), ("c",), one_way=True)
    log.slow("c", "b", 0.5)
    late = FaultFile("c", log.file)
    for node in (files["c"], late):
        assert not node.filter().loses_to(PEER["b"])
        assert not node.filter().admits(PEER["b"], b"frame", 10.0)
        assert node.filter().next_due() == 10.5
    assert left() == {"cb"}
    assert files["a"].filter().loses_clients
    log.heal()
    assert left() == ALL
    for node in (*files.values(), late):
        node.close()


def test_a_line_counts_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "faults"
    path.touch()
    node = FaultFile("a", path)
    line = json.dumps([Word.ISOLATE, "a", True]).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        for number in range(len(line)):
            assert not node.filter().loses_clients
            file.write(line[number : number + 1])
    assert node.filter().loses_clients
    node.close()


def test_faults_that_cannot_be_read_stop_a_node_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node a cannot read faults from .*: No such file"):
        FaultFile("a", tmp_path / "faults")


def test_faults_that_cannot_be_are_refused_and_not_written(tmp_path: Path) -> None:
    log = FaultLog(tmp_path / "faults")
    with pytest.raises(InvalidArgument, match="a is on both sides"):
        log.partition(("a", "b"), ("c", "a"), one_way=False)
    for groups in (((), ("a",)), (("a",), ())):
        with pytest.raises(InvalidArgument, match="one side names none"):
            log.partition(*groups, one_way=True)
    with pytest.raises(InvalidArgument, match="a sends nothing to itself"):
        log.slow("a", "a", 1.0)
    for delay in (-0.1, 60.1, float("nan"), NEVER):
        with pytest.raises(InvalidArgument, match="a delay is 0 to 60 seconds"):
            log.slow("a", "b", delay)
    assert log.file.read_bytes() == b""
    assert log.file.stat().st_mode & 0o077 == 0
