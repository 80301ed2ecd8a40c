"""From tries to a table: pure functions, no clock, no files.

A try with a problem (writes that did not come back, a cluster that did not become whole) or with a lost write misses
every target of its row, whatever the others took.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from benchmarks.failover_subjects import Fault
from benchmarks.failover_trial import Scenario, Try
from benchmarks.report import MET, MISSED, NOTHING, markdown_table, marked, rich_table, verdict_text

SCENARIOS = (
    Scenario("kill", "gimmal, kill -9", "gimmal", Fault.KILL, hits_decider=False, median_max_s=1.5, worst_max_s=2.5),
    Scenario("decider", "gimmal, kill -9 of the meta leader", "gimmal", Fault.KILL, hits_decider=True, worst_max_s=3.5),
    Scenario("pause", "gimmal, SIGSTOP", "gimmal", Fault.PAUSE, worst_max_s=3.5),
    Scenario("isolate", "gimmal, cut off from the other nodes", "gimmal", Fault.ISOLATE, worst_max_s=3.5),
    Scenario("redis", "Redis Cluster, kill -9 of a master", "redis", Fault.KILL),
)
SCENARIO_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

COLUMNS = (
    "fault",
    "tries",
    "median",
    "worst",
    "target",
    "met?",
    "keys of other nodes: median",
    "worst",
    "when it comes back: worst",
    "acknowledged",
    "lost",
    "unknown",
    "problems",
)
NOTE = (
    "Median and worst: the longest time without an acknowledged write, per try, for keys of the node that met the "
    "fault; then the same for keys of the others, and for any key from the repair until all copies are in sync again. "
    "Lost: acknowledged writes that could not be read afterwards. Unknown: attempts that failed and may have been "
    "applied."
)


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of one scenario."""

    scenario: Scenario
    tries: Sequence[Try]

    @property
    def finished(self) -> list[Try]:
        """Return the tries in which writes came back."""
        return [each for each in self.tries if not each.problem]

    @property
    def problems(self) -> int:
        """Return how many did not end well."""
        return len(self.tries) - len(self.finished)

    @property
    def is_met(self) -> bool | None:
        """Tell whether the targets are met, and nothing was lost; None without a target."""
        scenario, gaps = self.scenario, [each.gap_s for each in self.finished]
        if scenario.worst_max_s is None:
            return None
        if self.problems or any(each.lost for each in self.tries):
            return False
        is_soon = scenario.median_max_s is None or median(gaps) < scenario.median_max_s
        return is_soon and max(gaps) < scenario.worst_max_s


def summarize(tries: Iterable[Try]) -> list[Line]:
    """Return one line per scenario that was tried, in the order of the table."""
    by_name: dict[str, list[Try]] = {}
    for each in tries:
        by_name.setdefault(each.scenario, []).append(each)
    return [Line(scenario, by_name[scenario.name]) for scenario in SCENARIOS if scenario.name in by_name]


def target_text(scenario: Scenario) -> str:
    """Return the targets in words."""
    limits = (("median", scenario.median_max_s), ("worst", scenario.worst_max_s))
    return ", ".join(f"{what} < {limit:g} s" for what, limit in limits if limit is not None) or NOTHING


def seconds_text(values: Sequence[float]) -> tuple[str, str]:
    """Return median and worst."""
    return (f"{median(values):.2f} s", f"{max(values):.2f} s") if values else (NOTHING, NOTHING)


def cells_of(line: Line) -> list[str]:
    """Return the cells of a row in the order of COLUMNS."""
    done = line.finished
    return [
        line.scenario.title,
        f"{len(line.tries)}",
        *seconds_text([each.gap_s for each in done]),
        target_text(line.scenario),
        verdict_text(line.is_met),
        *seconds_text([each.others_gap_s for each in done]),
        seconds_text([each.back_gap_s for each in done])[1],
        f"{sum(each.acknowledged for each in line.tries):,}",
        f"{sum(each.lost for each in line.tries):,}",
        f"{sum(each.unknown_count for each in line.tries):,}",
        f"{line.problems}",
    ]


def markdown_report(lines: Sequence[Line]) -> str:
    """Return the table, the note that explains it, and what went wrong."""
    wrong = [f"- {told}" for line in lines for told in wrongs_of(line)]
    parts = [markdown_table(COLUMNS, map(marked, map(cells_of, lines))), NOTE, *(["\n".join(wrong)] if wrong else [])]
    return "\n\n".join(parts) + "\n"


def wrongs_of(line: Line) -> list[str]:
    """Return a sentence about every try that had a problem or lost writes."""
    return [
        f"{line.scenario.title}, try {each.index} (node {each.victim or 'not chosen yet'}): "
        + (each.problem.splitlines()[0] if each.problem else f"{each.lost} lost, so {each.lost_shown[0]}")
        for each in line.tries
        if each.problem or each.lost
    ]


def terminal_table(lines: Sequence[Line]) -> Table:
    """Return the table for the terminal."""
    colors = {MET: "[green]met[/]", MISSED: "[bold red]MISSED[/]"}
    rows = [[colors.get(cell, cell) for cell in cells_of(line)] for line in lines]
    table = rich_table("Time without writes after a fault", COLUMNS, rows)
    table.caption = NOTE
    return table
