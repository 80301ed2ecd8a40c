"""From raw figures to tables: pure functions, no clock, no files.

Per row and system the figure is the median of its rounds. Per peer there are two ratios: of the medians, and
the median of the ratios of the rounds that ran side by side, which a drifting machine disturbs less. A target
is met only if both ratios meet it. A missed target stays in the table and is marked MISSED.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from benchmarks.memory import Memory
from benchmarks.rest import Rest
from benchmarks.rounds import Round
from benchmarks.rows import ROWS, SYSTEMS, Row, Unit

MET, MISSED, NOTHING = "met", "MISSED", "-"
NOTE = (
    "Figures are medians: asyncio and batch rows in ops/s, serial rows in us per call, memory in bytes per key, CPU "
    "at rest in percent of a core for each node. Ratio to redis: gimmal / redis of the figures as printed; ratio to "
    "floor: of speed. In brackets the median of the ratios of the single rounds; a target is met only if both meet it. "
    "The last column is gimmal's."
)
SPEED_COLUMNS = (
    "row",
    "gimmal",
    "redis",
    "floor",
    "ratio to redis",
    "target",
    "met?",
    "ratio to floor",
    "target",
    "met?",
    "CPU us per op, client / nodes",
)
ROLES = ("client", "leader", "each follower")
ROLE_COLUMNS = ("CPU us per op, one leader", *(f"{system} {role}" for system in SYSTEMS for role in ROLES))
CPU_COLUMNS = ("CPU us per op", *(f"{system} {role}" for system in SYSTEMS for role in ("client", "nodes")))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How gimmal compares to one peer, and whether that is good enough; `met` is None without a target."""

    of_medians: float
    of_rounds: float
    target: float | None
    at_least: bool

    @property
    def met(self) -> bool | None:
        """Tell whether both ratios meet the target."""
        if self.target is None:
            return None
        if self.at_least:
            return min(self.of_medians, self.of_rounds) >= self.target
        return max(self.of_medians, self.of_rounds) <= self.target


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time per operation in microseconds: of the client process, and of all nodes together.

    Where one node leads all keys, also of that one, and of its followers together.
    """

    client_us: float
    nodes_us: float
    leader_us: float = 0.0
    followers_us: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """Everything that is said about one row; systems that did not run are missing from the mappings."""

    row: Row
    figures: Mapping[str, float]
    to_redis: Ratio | None
    to_floor: Ratio | None
    cpu: Mapping[str, Cpu]

    @property
    def figure_met(self) -> bool | None:
        """Tell whether gimmal's own figure keeps its limit; None without a limit or a figure."""
        if self.row.figure_max is None or "gimmal" not in self.figures:
            return None
        return self.figures["gimmal"] <= self.row.figure_max

    @property
    def verdicts(self) -> tuple[bool | None, bool | None]:
        """Return whether the targets beside Redis and beside the floor are met."""
        beside_redis = self.figure_met if self.row.figure_max is not None else met_of(self.to_redis)
        return beside_redis, met_of(self.to_floor)


def met_of(ratio: Ratio | None) -> bool | None:
    """Return the verdict of a ratio that may be missing."""
    return None if ratio is None else ratio.met


def figure_of(row: Row, each: Round) -> float:
    """Return what the row prints for one round."""
    if row.unit is Unit.US_PER_CALL:
        return each.elapsed_s / each.operations * 1e6
    return each.operations / each.elapsed_s


def compare(ours: Sequence[float], theirs: Sequence[float], target: float | None, *, at_least: bool) -> Ratio:
    """Compare the figures of rounds that ran side by side, ours divided by theirs."""
    pairs = zip(ours, theirs, strict=True)
    return Ratio(median(ours) / median(theirs), median(a / b for a, b in pairs), target, at_least)


def make_line(row: Row, figures: Mapping[str, Sequence[float]], cpu: Mapping[str, Cpu]) -> Line:
    """Sum up one row from the figures of its rounds, per system and in the order of the rounds."""
    ours = figures.get("gimmal")
    to_redis = to_floor = None
    if ours and "redis" in figures:
        to_redis = compare(ours, figures["redis"], row.to_redis, at_least=row.more_is_better)
    if ours and "floor" in figures:
        upper, lower = (ours, figures["floor"]) if row.more_is_better else (figures["floor"], ours)
        to_floor = compare(upper, lower, row.to_floor, at_least=True)
    medians = {system: median(values) for system, values in figures.items()}
    return Line(row, medians, to_redis, to_floor, cpu)


def cpu_per_operation(rounds: Sequence[Round]) -> Cpu:
    """Return the median CPU time per operation of the rounds of one system."""
    parts = ("client_cpu_s", "node_cpu_s", "leader_cpu_s", "followers_cpu_s")
    return Cpu(*(median(getattr(each, part) / each.operations for each in rounds) * 1e6 for part in parts))


def summarize(rounds: Iterable[Round], memories: Iterable[Memory], rests: Iterable[Rest] = ()) -> list[Line]:
    """Return one line per row that was measured, in the order of the table of rows."""
    by_row: dict[str, dict[str, list[Round]]] = {}
    for each in sorted(rounds, key=lambda each: each.index):
        by_row.setdefault(each.row, {}).setdefault(each.system, []).append(each)
    measured_once = {
        Unit.BYTES_PER_KEY: {memory.system: [memory.bytes_per_key] for memory in memories},
        Unit.PERCENT_PER_NODE: {rest.system: [rest.percent_per_node] for rest in rests},
    }
    lines = []
    for row in ROWS:
        if row.unit in measured_once:
            if measured_once[row.unit]:
                lines.append(make_line(row, measured_once[row.unit], {}))
        elif row.name in by_row:
            systems = by_row[row.name]
            figures = {name: [figure_of(row, each) for each in found] for name, found in systems.items()}
            cpu = {name: cpu_per_operation(found) for name, found in systems.items()}
            lines.append(make_line(row, figures, cpu))
    return lines


def figure_text(unit: Unit, figure: float | None) -> str:
    """Return a figure with as many digits as it deserves."""
    if figure is None:
        return NOTHING
    if unit is Unit.PERCENT_PER_NODE:
        return f"{figure:.2f} %"
    return f"{figure:,.0f}" if unit is not Unit.US_PER_CALL else f"{figure:.1f} us"


def ratio_text(ratio: Ratio | None) -> str:
    """Return both ratios: of the medians, and in brackets of the rounds."""
    return NOTHING if ratio is None else f"{ratio.of_medians:.2f} ({ratio.of_rounds:.2f})"


def target_text(target: float | None, *, at_least: bool, unit: str = "x") -> str:
    """Return a target with its direction."""
    return NOTHING if target is None else f"{'>=' if at_least else '<='} {target:g} {unit}"


def verdict_text(met: bool | None) -> str:  # noqa: FBT001 - the verdict is the value that is put into words
    """Return met, MISSED, or nothing where there is no target or no figure."""
    return NOTHING if met is None else MET if met else MISSED


def cpu_text(cpu: Cpu | None) -> str:
    """Return the two CPU times."""
    return NOTHING if cpu is None else f"{cpu.client_us:.1f} / {cpu.nodes_us:.1f}"


def speed_cells(line: Line) -> list[str]:
    """Return the cells of a row in the order of SPEED_COLUMNS."""
    row = line.row
    if row.figure_max is not None:
        redis_target = target_text(row.figure_max, at_least=False, unit=row.unit.value)
    else:
        redis_target = target_text(row.to_redis, at_least=row.more_is_better)
    beside_redis, beside_floor = line.verdicts
    return [
        row.title,
        *(figure_text(row.unit, line.figures.get(system)) for system in SYSTEMS),
        ratio_text(line.to_redis),
        redis_target,
        verdict_text(beside_redis),
        ratio_text(line.to_floor),
        target_text(row.to_floor, at_least=True),
        verdict_text(beside_floor),
        cpu_text(line.cpu.get("gimmal")),
    ]


def cpu_cells(line: Line) -> list[str]:
    """Return the cells of a row in the order of CPU_COLUMNS."""
    cells = [line.row.title]
    for system in SYSTEMS:
        cpu = line.cpu.get(system)
        cells += [NOTHING, NOTHING] if cpu is None else [f"{cpu.client_us:.1f}", f"{cpu.nodes_us:.1f}"]
    return cells


def role_cells(line: Line) -> list[str]:
    """Return the cells of a row in the order of ROLE_COLUMNS."""
    cells = [line.row.title]
    for system in SYSTEMS:
        cpu = line.cpu.get(system)
        if cpu is None:
            cells += [NOTHING] * len(ROLES)
        else:
            each_follower_us = cpu.followers_us / (line.row.copies - 1)
            cells += [f"{cpu.client_us:.1f}", f"{cpu.leader_us:.1f}", f"{each_follower_us:.1f}"]
    return cells


def cpu_tables(lines: Sequence[Line]) -> list[tuple[Sequence[str], list[list[str]]]]:
    """Return columns and rows of the tables about CPU time; those without rows are left out."""
    tables = (
        (CPU_COLUMNS, [cpu_cells(line) for line in lines if line.cpu]),
        (ROLE_COLUMNS, [role_cells(line) for line in lines if line.cpu and line.row.is_tagged]),
    )
    return [(columns, rows) for columns, rows in tables if rows]


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def markdown_report(lines: Sequence[Line]) -> str:
    """Return all tables and the note that explains the first."""
    speed = markdown_table(SPEED_COLUMNS, map(marked, map(speed_cells, lines)))
    cpu = [markdown_table(columns, rows) for columns, rows in cpu_tables(lines)]
    return "\n\n".join((speed, NOTE, *cpu)) + "\n"


def marked(cells: Sequence[str]) -> list[str]:
    """Print missed verdicts in bold."""
    return [f"**{cell}**" if cell == MISSED else cell for cell in cells]


def rich_tables(lines: Sequence[Line]) -> list[Table]:
    """Return all tables for the terminal."""
    colors = {MET: "[green]met[/]", MISSED: "[bold red]MISSED[/]"}
    speed = [[colors.get(cell, cell) for cell in speed_cells(line)] for line in lines]
    tables = [
        rich_table("Speed and memory", SPEED_COLUMNS, speed),
        *(rich_table("CPU per operation", columns, rows) for columns, rows in cpu_tables(lines)),
    ]
    tables[0].caption = NOTE
    return tables


def rich_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table for the terminal; all columns but the first are aligned to the right."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    return table
