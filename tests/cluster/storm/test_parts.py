"""The parts of a storm that decide something: the plan, the budget, and what the scripts note."""

import random
import time
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from gimmal.client.overview import Cluster, NodeInfo, PartitionInfo
from gimmal.errors import NotEnoughReplicas, OperationTimeout
from gimmal.testing import ConsistencyViolation
from tests.cluster.storm import scripts, test_storm
from tests.cluster.storm.budget import pair_to_kill, spread_of_leaders, survives, why_not_whole
from tests.cluster.storm.gaps import Gaps
from tests.cluster.storm.plan import CRASHES, Kind, episodes
from tests.cluster.storm.record import Record
from tests.cluster.storm.stalls import Spell, waited_for_nothing_s

NAMES = ("n1", "n2", "n3", "n4", "n5")
LIVES = dict.fromkeys(NAMES, 1)
NOT_DONE = NotEnoughReplicas("nothing was done")
UNKNOWN = OperationTimeout("who knows", maybe_applied=True)


# --- the plan


def test_a_seed_has_one_plan() -> None:
    first, again, other = (list(islice(episodes(seed, NAMES), 50)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_soon_and_no_episode_has_two_crashes(seed: int) -> None:
    planned = list(islice(episodes(seed, NAMES), len(Kind)))
    assert {fault.kind for episode in planned for fault in episode.faults} == set(Kind)
    for episode in planned:
        assert sum(fault.kind in CRASHES for fault in episode.faults) <= 1
        assert all(fault.at_s == 0 for fault in episode.faults if fault.kind is Kind.KILL_TWO)
        for fault in episode.faults:
            assert set(fault.nodes) <= set(NAMES)
            assert fault.kind not in (Kind.CUT, Kind.CUT_ONE_WAY) or set(fault.nodes) < set(NAMES)


# --- the budget


def node(name: str, *, role: str = "", led: int = 0) -> NodeInfo:
    return NodeInfo(name, {}, "alive", 1, role, "", 1, led, 0)


def five(*in_sync: tuple[str, ...]) -> Cluster:
    nodes = tuple(node(name, role="voter" if name in NAMES[:3] else "") for name in NAMES)
    partitions = tuple(PartitionInfo(names[0], names, names) for names in in_sync)
    return Cluster("", 1, NAMES[:3], nodes, partitions)


def test_a_cluster_is_whole_when_all_copies_of_this_life_are_in_sync() -> None:
    seen = five(("n1", "n2", "n3"))
    assert why_not_whole(seen, LIVES) == ""
    assert "n2 is incarnation 9" in why_not_whole(seen, LIVES | {"n2": 9})
    assert "n5 is incarnation None" in why_not_whole(seen, dict.fromkeys(NAMES[:4], 1))
    assert "1 partitions" in why_not_whole(five(("n1", "n2", "n3"), ("n1", "n2")), LIVES)
    fenced = replace(seen, nodes=(replace(seen.nodes[0], state="fenced"), *seen.nodes[1:]))
    assert why_not_whole(fenced, LIVES) == "n1 is fenced"
    without = replace(seen, nodes=(node("n1"), *seen.nodes[1:]))
    assert why_not_whole(without, LIVES) == "the meta group has 2 voters"


def test_two_that_are_killed_at_once_are_no_two_voters_and_not_the_leader() -> None:
    seen = five(("n1", "n2", "n3"))
    assert pair_to_kill(seen, ("n1", "n2", "n3", "n4", "n5"), "n1") == ("n2", "n4")
    assert pair_to_kill(seen, ("n4", "n5", "n1", "n2", "n3"), "n1") == ("n4", "n5")
    assert pair_to_kill(seen, ("n3", "n2"), "n1") is None


def test_a_partition_survives_in_a_third_copy() -> None:
    seen = five(("n1", "n2", "n3"), ("n3", "n4"))
    assert survives(seen, ("n1", "n4"))
    assert not survives(seen, ("n3", "n4"))


def test_the_spread_of_leaders_is_that_of_nodes() -> None:
    nodes = tuple(node(name, led=led) for name, led in zip(NAMES, (6, 6, 7, 6, 7), strict=True))
    assert spread_of_leaders(replace(five(), nodes=nodes)) == 1


# --- what the scripts note


def play(script: scripts.Script, *outcomes: Any) -> list[scripts.Step]:
    """Return the steps of a script that meets these outcomes."""
    steps = [next(script)]
    steps += [script.send(outcome) for outcome in outcomes]
    return steps


def test_a_counter_that_lost_an_increment_is_noticed() -> None:
    record = Record(4)
    steps = play(scripts.counter("c", 1, record, 0.0), NOT_DONE, UNKNOWN)
    unknown = steps[1].arguments[1]
    play(scripts.counter("c", 1, record, 0.0), 1)
    record.counters["c"].check(1).raise_if_wrong()
    record.counters["c"].check(1 + unknown).raise_if_wrong()
    with pytest.raises(ConsistencyViolation, match="lost"):
        record.counters["c"].check(0).raise_if_wrong()
    assert record.errors == {"NotEnoughReplicas": 1, "OperationTimeout(maybe_applied=True)": 1}


def test_a_key_is_tried_until_it_is_certain_and_not_again_if_it_was_refused() -> None:
    record = Record(4)
    steps = play(scripts.elements("e", record, 0.0), UNKNOWN, NOT_DONE, False, NOT_DONE, True)
    assert [step.arguments[0] for step in steps] == ["e1", "e1", "e1", "e2", "e3", "e4"]
    assert record.wrong == []
    record.elements.check(["e1", "e3"]).raise_if_wrong()
    with pytest.raises(ConsistencyViolation, match="refused"):
        record.elements.check(["e1", "e2", "e3"]).raise_if_wrong()
    with pytest.raises(ConsistencyViolation, match="not there"):
        record.elements.check(["e1"]).raise_if_wrong()


def test_a_key_that_is_set_before_it_was_asked_for_is_noticed() -> None:
    record = Record(4)
    play(scripts.elements("e", record, 0.0), False)
    assert record.wrong == ["set e1 nx was answered False, and nobody else sets it"]


def test_registers_are_recorded_as_they_were_answered() -> None:
    record = Record(4)
    script = scripts.registers("r", 1, record, 0.0)
    step = next(script)
    dice = random.Random(1)
    for _ in range(300):
        outcome = {"get": None, "get_versioned": ("v", 4), "delete": False, "set": True}[step.method]
        step = script.send(UNKNOWN if dice.random() < 0.1 else outcome)
    assert len(record.history) == 301
    assert any(
        row.operation.argument == (row.operation.argument[0], 4) for row in record.history if row.operation.kind == 6
    )
    assert record.errors["OperationTimeout(maybe_applied=True)"] + record.acknowledged == 300


# --- the gaps


def test_a_gap_is_told_with_the_faults_that_were_near() -> None:
    gaps = Gaps()
    for at_s in (10.0, 10.2, 12.7, 12.9):
        gaps.acknowledge(3, at_s)
    gaps.acknowledge(4, 12.0)
    text = gaps.text([Spell(Kind.PAUSE, ("n2",), 10.5, 11.0), Spell(Kind.KILL, ("n1",), 30.0, 31.0)], 0.0)
    assert "SIGSTOP                       2.50 s alone,  2.50 s with others" in text
    assert "kill -9                         none alone,    none with others" in text
    assert "2.50 s from 10.2 s on, partition 3: SIGSTOP n2 (+0.3 to +0.8 s)" in text


@pytest.mark.parametrize(
    ("spells", "waited_s"),
    [
        ([], 10.0),
        ([Spell(Kind.PAUSE, ("n1",), 2.0, 8.0)], 6.0),
        ([Spell(Kind.CUT, ("n4", "n5"), -1.0, 11.0)], 10.0),
        ([Spell(Kind.CUT, ("n1", "n2"), -1.0, 11.0)], 0.0),
        ([Spell(Kind.CUT_ONE_WAY, ("n3", "n4", "n5"), -1.0, 7.0)], 3.0),
        ([Spell(Kind.PAUSE, ("n1",), 0.0, 9.0), Spell(Kind.ISOLATE, ("n2",), 1.0, 10.0)], 1.0),
        ([Spell(Kind.KILL_TWO, ("n4", "n5"), 0.0, 10.0)], 10.0),
        ([Spell(Kind.KILL_TWO, ("n4", "n5"), 0.0, 10.0), Spell(Kind.PAUSE, ("n3",), 0.0, 6.0)], 4.0),
    ],
)
def test_a_gap_that_nothing_explains_is_noticed(spells: list[Spell], waited_s: float) -> None:
    assert waited_for_nothing_s(0.0, 10.0, spells, NAMES, ("n1", "n2", "n3")) == waited_s


def test_partitions_that_are_not_written_to_any_more_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(3)
    record.gaps.acknowledge(0, 9.0)
    record.gaps.acknowledge(1, 11.0)
    assert record.gaps.silent_since(10.0, 3) == [0, 2]
    assert record.gaps.silent_since(8.0, 2) == []
    monkeypatch.setattr(test_storm, "CALM_S", 0.0)
    monkeypatch.setattr(test_storm, "SERVES_WITHIN_S", 0.2)
    assert "partitions [0, 1, 2]" in test_storm.silence(record, time.monotonic())[0]
    assert test_storm.silence(Record(0), time.monotonic()) == []


def test_stalls_are_told() -> None:
    gaps = Gaps()
    for at_s in (10.0, 15.0, 19.0):
        gaps.acknowledge(0, at_s)
    text = gaps.stalls([Spell(Kind.KILL, ("n2",), 16.5, 18.0)], [("n1", "n2", "n3")], 0.0)
    assert text.startswith("1 gaps of more than 3.5 s")
    assert "5.00 s of 5.00 s from 10.0 s on, partition 0" in text
