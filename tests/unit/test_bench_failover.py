"""The failover benchmark's judgement: gaps, calm, lost writes, victims and the table."""

import random
from collections.abc import Sequence

import pytest

from benchmarks.failover import parse_arguments
from benchmarks.failover_report import (
    COLUMNS,
    SCENARIO_BY_NAME,
    SCENARIOS,
    cells_of,
    markdown_report,
    summarize,
    terminal_table,
)
from benchmarks.failover_subjects import Fault, NotWholeError, why_not_in_sync
from benchmarks.failover_trial import TAGS, Try, find_lost, pick_victim
from benchmarks.failover_writers import Acknowledged, Writer, is_calm, key_of, longest_gap, value_of
from gimmal.client.overview import PartitionInfo
from gimmal.hashing import key_slot

# -- gaps


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([9.0, 10.5, 11.0, 12.0], 1.5),  # it began before the window
        ([10.1, 11.0, 11.5], 0.9),
        ([9.9, 10.2, 14.0], 3.8),  # it ended after the window
        ([1.0, 2.0, 9.9, 10.1, 11.9, 12.1], 1.8),  # what was long before does not count
        ([9.5], 2.5),  # nothing came any more
        ([], 2.0),
    ],
)
def test_the_longest_gap_is_between_acknowledged_writes(times: list[float], expected: float) -> None:
    assert longest_gap(times, 10.0, 12.0) == pytest.approx(expected)


def test_writes_are_calm_when_none_of_the_last_gaps_was_long() -> None:
    steady = [step / 100 for step in range(1000)]
    assert is_calm(steady, 10.0, 1.5, 0.5)
    assert not is_calm(steady, 10.5, 1.5, 0.5)
    assert not is_calm([each for each in steady if not 9.0 < each < 9.6], 10.0, 1.5, 0.5)
    assert not is_calm([], 10.0, 1.5, 0.5)


# -- writers and what they lose


class FakeSubject:
    """A cluster that is a dict and a list of who leads which tag; each restart gives a node's keys to the next."""

    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, leader: str = "n1", decider: str = "n1") -> None:
        self.values: dict[str, str] = {}
        self.leader = leader
        self.decider = decider
        self.restarts: list[str] = []

    def put(self, key: str, value: str) -> object:
        if key.endswith(":3"):
            raise OSError("no answer")
        self.values[key] = value
        return True

    def read(self, keys: Sequence[str]) -> list[str | None]:
        return [self.values.get(key) for key in keys]

    def owners(self, keys: Sequence[str]) -> list[str]:
        return [self.leader for _ in keys]

    def deciders(self) -> set[str]:
        return {self.decider}

    def harm(self, fault: Fault, node: str) -> None:
        assert fault is Fault.KILL

    def repair(self, _fault: Fault, node: str) -> None:
        self.restarts.append(node)
        self.leader = {"n1": "n2", "n2": "n3", "n3": "n1"}[self.leader]

    def wait_whole(self) -> None:
        pass


def test_a_writer_goes_on_after_a_failure_and_writes_no_key_twice() -> None:
    subject = FakeSubject()
    writer = Writer("a", 7, subject.put, subject.failures)
    writer.start()
    while len(writer.acknowledged) < 6:
        assert writer.is_alive()
    writer.stop()
    writer.join()
    assert [each.number for each in writer.acknowledged][:6] == [0, 1, 2, 4, 5, 6]
    assert writer.unknown == {"OSError": 1}
    assert subject.values[key_of("a", 6)] == value_of(7, 6)
    assert find_lost(subject, [writer], 7, 0.0) == []


def test_an_error_that_no_client_should_raise_ends_a_writer_and_is_kept() -> None:
    def put(_key: str, _value: str) -> object:
        raise ZeroDivisionError

    writer = Writer("a", 0, put, (OSError,))
    writer.start()
    writer.join()
    assert isinstance(writer.crash, ZeroDivisionError)


def test_an_acknowledged_write_that_is_not_there_is_lost_even_if_an_older_try_left_a_value() -> None:
    subject = FakeSubject()
    writer = Writer("a", 2, subject.put, ())
    writer.acknowledged += [Acknowledged(number, 10.0 + number) for number in range(3)]
    subject.values = {key_of("a", 0): value_of(2, 0), key_of("a", 1): value_of(1, 1)}
    assert find_lost(subject, [writer], 2, 11.0) == [
        "{a}:1: acknowledged at +0.000 s, reads '1:1'",
        "{a}:2: acknowledged at +1.000 s, reads None",
    ]


def test_all_keys_of_a_writer_have_one_slot() -> None:
    for tag in TAGS:
        assert len({key_slot(key_of(tag, number).encode()) for number in range(50)}) == 1
    assert len({key_slot(key_of(tag, 0).encode()) for tag in TAGS}) == len(TAGS)


# -- who is hit


def test_the_victim_leads_keys_and_the_meta_group_only_if_it_is_to() -> None:
    dice = random.Random(1)
    assert pick_victim(FakeSubject("n2", "n1"), SCENARIO_BY_NAME["kill"], dice) == "n2"
    assert pick_victim(FakeSubject("n1", "n1"), SCENARIO_BY_NAME["decider"], dice) == "n1"
    assert pick_victim(FakeSubject("n1", "n1"), SCENARIO_BY_NAME["pause"], dice) == "n1"


def test_leaderships_are_moved_until_there_is_a_victim() -> None:
    dice = random.Random(1)
    subject = FakeSubject("n1", "n3")
    assert pick_victim(subject, SCENARIO_BY_NAME["decider"], dice) == "n3"
    assert subject.restarts == ["n1", "n2"]
    with pytest.raises(NotWholeError, match="did not move"):
        pick_victim(FakeSubject("n1", "nobody"), SCENARIO_BY_NAME["decider"], dice)


def test_copies_that_stay_out_of_sync_are_told_by_node() -> None:
    names = ("n1", "n2", "n3")
    whole = PartitionInfo("n1", names, names)
    assert why_not_in_sync([whole, whole]) == ""
    rows = [whole, PartitionInfo("n1", names, ("n1", "n2")), PartitionInfo(None, names, ("n2", "n1"))]
    assert why_not_in_sync(rows) == ("on n3 2 copies are not in sync (partitions 1, 2 ...); nobody leads 1 partitions")


# -- the table


def tries_of(scenario: str, gaps: Sequence[float]) -> list[Try]:
    return [Try(scenario, index, "n1", gap_s=gap, acknowledged=1000) for index, gap in enumerate(gaps)]


def test_targets_are_for_the_median_and_for_the_worst() -> None:
    for gaps, met in (([1.0, 1.4, 2.4], True), ([1.0, 1.6, 1.6], False), ([1.0, 1.0, 2.6], False)):
        (line,) = summarize(tries_of("kill", gaps))
        assert line.is_met is met
    (line,) = summarize(tries_of("kill", [1.0, 1.2, 2.0]))
    assert cells_of(line)[:6] == ["gimmal, kill -9", "3", "1.20 s", "2.00 s", "median < 1.5 s, worst < 2.5 s", "met"]


def test_a_lost_write_or_a_problem_misses_the_target_and_is_told() -> None:
    lost = Try(
        "pause", 1, "n2", gap_s=1.0, acknowledged=10, unknown={"A": 2, "B": 1}, lost=1, lost_shown=["{a}:1: gone"]
    )
    stuck = Try("isolate", 0, "n3", problem="no steady writes within 20 s\nits log ends with: ...")
    lines = summarize([stuck, *tries_of("pause", [1.0]), lost])
    assert [line.is_met for line in lines] == [False, False]
    assert [cells_of(line)[-3:] for line in lines] == [["1", "3", "0"], ["0", "0", "1"]]
    told = markdown_report(lines)
    assert "SIGSTOP, try 1 (node n2): 1 lost, so {a}:1: gone" in told
    assert "try 0 (node n3): no steady writes within 20 s\n" in told


def test_redis_has_no_target_and_all_rows_are_as_wide_as_the_head() -> None:
    lines = summarize([each for scenario in SCENARIOS for each in tries_of(scenario.name, [1.0])])
    assert [line.scenario for line in lines] == list(SCENARIOS)
    assert lines[-1].is_met is None
    assert {len(cells_of(line)) for line in lines} == {len(COLUMNS)}
    assert terminal_table(lines).row_count == len(SCENARIOS)


def test_a_part_of_the_tries_does_not_overwrite_the_whole() -> None:
    assert parse_arguments([]).json.name == "failover.json"
    assert parse_arguments(["--only", "kill", "--quick"]).json.name == "failover-part-quick.json"
    assert parse_arguments(["--tries", "7", "--quick"]).tries == 7
    assert parse_arguments(["--quick"]).tries == 2
