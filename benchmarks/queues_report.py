"""From the raw figures of the queue rows to tables: pure functions, no clock, no files.

Figures and verdicts are made as in `report`: medians of the rounds, and a target is met only if the ratio of the
medians and the median of the rounds' ratios both meet it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from benchmarks.queues_rounds import QueueRound
from benchmarks.queues_rows import QUEUE_ROWS, SYSTEMS, QueueRow, Unit
from benchmarks.report import (
    MET,
    MISSED,
    NOTHING,
    Cpu,
    Ratio,
    compare,
    cpu_text,
    markdown_table,
    marked,
    ratio_text,
    rich_table,
    target_text,
    verdict_text,
)

OTHERS = SYSTEMS[1:]
NOTE = (
    "Figures are medians: messages/s, or us per message where one caller waits for each answer, ms from the call of "
    "produce to the message, and percent of a core for the node that owns the queue. Ratios: gimmal divided by the "
    "other, of the figures as printed; in brackets the median of the ratios of the single rounds. A target is met only "
    "if both meet it. What each side promises when it answers is not the same: see docs/performance.md, Queues."
)
COLUMNS = ("row", *SYSTEMS, "ratio to jetstream", "target", "met?", *(f"ratio to {other}" for other in OTHERS[1:]))
CPU_COLUMNS = ("CPU us per message, client / nodes", *SYSTEMS)


@dataclass(frozen=True, slots=True)
class QueueLine:
    """Everything that is said about one part of a row; systems that did not run are missing from the mappings."""

    row: QueueRow
    part: int
    figures: Mapping[str, float]
    ratios: Mapping[str, Ratio]
    cpu: Mapping[str, Cpu]

    @property
    def is_met(self) -> bool | None:
        """Tell whether the target is met; None without one, or without what it is about."""
        if self.row.figure_max is not None:
            return self.figures["gimmal"] <= self.row.figure_max if "gimmal" in self.figures else None
        ratio = self.ratios.get("jetstream")
        return None if ratio is None else ratio.met


def summarize(rounds: Iterable[QueueRound]) -> list[QueueLine]:
    """Return the lines of every row that was measured, in the order of the table of rows."""
    by_row: dict[str, dict[str, list[QueueRound]]] = {}
    for each in sorted(rounds, key=lambda each: each.index):
        by_row.setdefault(each.row, {}).setdefault(each.system, []).append(each)
    return [
        make_line(row, part, by_row[row.name])
        for row in QUEUE_ROWS
        if row.name in by_row
        for part in range(len(row.parts))
    ]


def make_line(row: QueueRow, part: int, rounds: Mapping[str, Sequence[QueueRound]]) -> QueueLine:
    """Sum up one part of a row from its rounds, per system and in the order of the rounds."""
    figures = {system: [each.figures[part] for each in found] for system, found in rounds.items()}
    targets = {"jetstream": row.to_jetstream}
    ratios = {
        other: compare(figures["gimmal"], theirs, targets.get(other), at_least=row.more_is_better)
        for other, theirs in figures.items()
        if other != "gimmal" and "gimmal" in figures
    }
    medians = {system: median(values) for system, values in figures.items()}
    cpu = {} if part else {system: used for system, found in rounds.items() if (used := cpu_of(found)) is not None}
    return QueueLine(row, part, medians, ratios, cpu)


def cpu_of(rounds: Sequence[QueueRound]) -> Cpu | None:
    """Return the median CPU time per message of the rounds of one system, if there were messages."""
    if not all(each.messages for each in rounds):
        return None
    parts = ("client_cpu_s", "node_cpu_s")
    return Cpu(*(median(getattr(each, part) / each.messages for each in rounds) * 1e6 for part in parts))


def figure_text(unit: Unit, figure: float | None) -> str:
    """Return a figure with as many digits as it deserves."""
    if figure is None:
        return NOTHING
    texts = {
        Unit.MESSAGES_PER_S: f"{figure:,.0f}",
        Unit.US_PER_MESSAGE: f"{figure:.1f} us",
        Unit.MS: f"{figure:.2f} ms",
        Unit.PERCENT: f"{figure:.2f} %",
    }
    return texts[unit]


def cells_of(line: QueueLine) -> list[str]:
    """Return the cells of a line in the order of COLUMNS."""
    row = line.row
    if row.figure_max is not None:
        target = target_text(row.figure_max, at_least=False, unit=row.unit.value)
    else:
        target = target_text(row.to_jetstream, at_least=row.more_is_better)
    first, *others = (ratio_text(line.ratios.get(other)) for other in OTHERS)
    return [
        row.title_of(line.part),
        *(figure_text(row.unit, line.figures.get(system)) for system in SYSTEMS),
        first,
        target,
        verdict_text(line.is_met),
        *others,
    ]


def cpu_cells(line: QueueLine) -> list[str]:
    """Return the cells of a line in the order of CPU_COLUMNS."""
    return [line.row.title, *(cpu_text(line.cpu.get(system)) for system in SYSTEMS)]


def markdown_report(lines: Sequence[QueueLine], notes: Sequence[str]) -> str:
    """Return the tables, what explains them, and what has to be known about this run."""
    cpu = [cpu_cells(line) for line in lines if line.cpu]
    parts = [
        markdown_table(COLUMNS, map(marked, map(cells_of, lines))),
        NOTE,
        *(["\n".join(f"- {note}" for note in notes)] if notes else []),
        *([markdown_table(CPU_COLUMNS, cpu)] if cpu else []),
    ]
    return "\n\n".join(parts) + "\n"


def terminal_tables(lines: Sequence[QueueLine], notes: Sequence[str]) -> list[Table]:
    """Return the tables for the terminal."""
    colors = {MET: "[green]met[/]", MISSED: "[bold red]MISSED[/]"}
    cells = [[colors.get(cell, cell) for cell in cells_of(line)] for line in lines]
    tables = [rich_table("Queues", COLUMNS, cells)]
    tables[0].caption = "\n".join((NOTE, *notes))
    cpu = [cpu_cells(line) for line in lines if line.cpu]
    return [*tables, *([rich_table("CPU per message", CPU_COLUMNS, cpu)] if cpu else [])]
