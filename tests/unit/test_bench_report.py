"""The benchmark's report: from raw figures to a table that hides nothing."""

from collections.abc import Mapping, Sequence

import pytest

from benchmarks.memory import Memory
from benchmarks.processes import parse_cpu_ticks
from benchmarks.report import (
    CPU_COLUMNS,
    MISSED,
    ROLE_COLUMNS,
    SPEED_COLUMNS,
    compare,
    cpu_per_operation,
    make_line,
    markdown_report,
    rich_tables,
    role_cells,
    speed_cells,
    summarize,
)
from benchmarks.rest import Rest
from benchmarks.rounds import Round
from benchmarks.rows import ROW_BY_NAME, ROWS, SYSTEMS
from benchmarks.workload import BATCH, Ledger, WrongAnswerError, key_name, value_of
from gimmal.hashing import key_slot


def a_round(row: str, system: str, index: int, operations: int) -> Round:
    return Round(row, system, index, operations, 1.0, 0.5, 0.25, 0.01, 0.15, 0.08)


def rounds_of(row: str, speeds: Mapping[str, Sequence[int]]) -> list[Round]:
    return [
        a_round(row, system, index, operations)
        for system, operations_of_rounds in speeds.items()
        for index, operations in enumerate(operations_of_rounds)
    ]


def test_speed_row_prints_medians_ratios_and_verdicts() -> None:
    speeds = {"gimmal": [50_000, 60_000, 55_000], "redis": [10_000] * 3, "floor": [100_000] * 3}
    (line,) = summarize(rounds_of("get-200", speeds), [])
    assert speed_cells(line) == [
        "asyncio GET, 200 tasks",
        "55,000",
        "10,000",
        "100,000",
        "5.50 (5.50)",
        ">= 5 x",
        "met",
        "0.55 (0.55)",
        ">= 0.4 x",
        "met",
        "9.1 / 4.5",
    ]


def test_missed_target_stays_and_is_marked() -> None:
    speeds = {"gimmal": [30_000] * 5, "redis": [10_000] * 5, "floor": [100_000] * 5}
    (line,) = summarize(rounds_of("set-50", speeds), [])
    assert line.verdicts == (False, False)
    assert markdown_report([line]).count(f"**{MISSED}**") == 2


def test_target_is_met_only_if_both_ratios_meet_it() -> None:
    # Medians 50 / 10 = 5, but side by side 50 / 10, 40 / 9, 90 / 20: the median of these is 4.5.
    ratio = compare([50, 40, 90], [10, 9, 20], 5.0, at_least=True)
    assert (ratio.of_medians, ratio.of_rounds) == (5.0, 4.5)
    assert ratio.met is False
    assert compare([50, 40, 90], [10, 9, 20], 4.5, at_least=True).met is True


def test_serial_row_compares_times_to_redis_and_speed_to_the_floor() -> None:
    speeds = {"gimmal": [5_000], "redis": [6_000], "floor": [10_000]}
    (line,) = summarize(rounds_of("get", speeds), [])
    cells = speed_cells(line)
    assert cells[1:4] == ["200.0 us", "166.7 us", "100.0 us"]
    assert cells[4:7] == ["1.20 (1.20)", "<= 1.3 x", "met"]
    assert cells[7:10] == ["0.50 (0.50)", ">= 0.4 x", "met"]


def test_row_without_a_target_has_no_verdict() -> None:
    (line,) = summarize(rounds_of("set", {"gimmal": [5_000], "redis": [1_000]}), [])
    assert speed_cells(line)[4:7] == ["0.20 (0.20)", "-", "-"]


@pytest.mark.parametrize(("growth", "verdict"), [(400_000, "met"), (400_001, "MISSED")])
def test_memory_row_is_judged_by_its_own_limit(growth: int, verdict: str) -> None:
    memories = [Memory("gimmal", 1_000, 5, 5 + growth, 1.0), Memory("redis", 1_000, 0, 200_000, 1.0)]
    (line,) = summarize([], memories)
    cells = speed_cells(line)
    assert cells[:3] == ["memory per key", "400", "200"]
    assert cells[5:7] == ["<= 400 bytes/key", verdict]
    assert cells[7:] == ["-", "-", "-", "-"]


@pytest.mark.parametrize(("cpu_s", "shown", "verdict"), [(5.4, "3.00 %", "met"), (5.5, "3.06 %", "MISSED")])
def test_cpu_at_rest_is_judged_by_its_own_limit(cpu_s: float, shown: str, verdict: str) -> None:
    (line,) = summarize([], [], [Rest("gimmal", 3, 60.0, cpu_s), Rest("redis", 3, 60.0, 0.0)])
    cells = speed_cells(line)
    assert cells[:3] == ["CPU of a node at rest", shown, "0.01 %"]
    assert cells[5:7] == ["<= 3 % of a core", verdict]


def test_systems_that_did_not_run_leave_gaps() -> None:
    (line,) = summarize(rounds_of("get-many", {"redis": [60_000], "floor": [400_000]}), [])
    cells = speed_cells(line)
    assert cells[1] == "-"
    assert cells[4] == cells[6] == cells[7] == cells[9] == "-"


def test_cpu_is_the_median_per_operation() -> None:
    assert cpu_per_operation([a_round("get", "floor", 0, 100_000)]).client_us == pytest.approx(5.0)
    assert cpu_per_operation([a_round("get", "floor", 0, 100_000)]).nodes_us == pytest.approx(2.5)


def test_lines_come_in_the_order_of_the_rows_and_every_table_is_rectangular() -> None:
    rounds = [
        each
        for row in reversed(ROWS)
        if row.name not in ("memory", "rest")
        for each in rounds_of(row.name, {system: [10, 20] for system in SYSTEMS})
    ]
    lines = summarize(rounds, [Memory(system, 10, 0, 1_000, 1.0) for system in SYSTEMS], [Rest("gimmal", 3, 60, 1.8)])
    assert [line.row for line in lines] == list(ROWS)
    tables = [part.splitlines() for part in markdown_report(lines).split("\n\n") if part.startswith("|")]
    for table, columns in zip(tables, (SPEED_COLUMNS, CPU_COLUMNS, ROLE_COLUMNS), strict=True):
        assert {line.count("|") for line in table} == {len(columns) + 1}
    assert [table.row_count for table in rich_tables(lines)] == [len(ROWS), len(ROWS) - 2, 2]


def test_where_one_node_leads_all_keys_leader_and_followers_are_told_apart() -> None:
    (line,) = summarize(rounds_of("set-200-x3-tag", {"gimmal": [10_000], "redis": [5_000]}), [])
    assert role_cells(line)[1:] == ["50.0", "15.0", "4.0", "100.0", "30.0", "8.0", "-", "-", "-"]
    assert len(rich_tables([line])) == 3


def test_a_row_with_spread_keys_has_no_table_of_roles() -> None:
    lines = summarize(rounds_of("set-200-x3", {"gimmal": [10_000]}), [])
    assert len(rich_tables(lines)) == 2


def test_rows_with_copies_say_so_in_name_and_title() -> None:
    for row in ROWS:
        assert (f"{row.copies} copies" in row.title) == (f"-x{row.copies}" in row.name) == (row.copies > 1)
        assert row.is_tagged == row.name.endswith("-tag") == row.title.endswith("one tag")
    assert len(ROW_BY_NAME) == len(ROWS)


def test_rounds_must_have_run_side_by_side() -> None:
    with pytest.raises(ValueError, match="zip"):
        make_line(ROW_BY_NAME["get"], {"gimmal": [1.0, 2.0], "redis": [1.0]}, {})


def test_cpu_ticks_survive_an_odd_process_name() -> None:
    assert parse_cpu_ticks("7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0") == 150


def test_keys_and_values_have_the_promised_sizes() -> None:
    assert len(key_name(999_999).encode()) == len(key_name(999_999, is_tagged=True).encode()) == 16
    assert len(value_of(key_name(7), 3)) == 100


def test_tagged_keys_have_one_slot_and_the_others_have_many() -> None:
    slots = [{key_slot(key.encode()) for key in Ledger("x", 100, is_tagged=tagged).keys} for tagged in (True, False)]
    assert len(slots[0]) == 1
    assert len(slots[1]) > 90


def test_ledger_notices_a_stale_value_and_a_short_answer() -> None:
    ledger = Ledger("some system", count=BATCH)
    old = list(ledger.expected)
    ledger.check_batch(0, old)
    keys = ledger.keys
    ledger.book_batch(0, dict(zip(keys, ledger.next_values(), strict=True)), BATCH)
    with pytest.raises(WrongAnswerError, match=keys[0]):
        ledger.check_batch(0, old)
    with pytest.raises(WrongAnswerError):
        ledger.check_batch(0, ledger.expected[:-1])
    with pytest.raises(WrongAnswerError, match="99 stored"):
        ledger.book_batch(0, dict(zip(keys, old, strict=True)), BATCH - 1)
