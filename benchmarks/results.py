"""Writes one run to files: every raw figure as JSON, the tables as Markdown, the ratios as a picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.memory import Memory
from benchmarks.report import Line, markdown_report
from benchmarks.rest import Rest
from benchmarks.rounds import Plan, Round

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the benchmark: how it was started, where, and everything it measured."""

    command: Sequence[str]
    machine: dict[str, object]
    plan: Plan
    rounds: Sequence[Round]
    memories: Sequence[Memory]
    rests: Sequence[Rest]
    lines: Sequence[Line]


def summary(line: Line) -> dict[str, object]:
    """Return a line of the table as plain data."""
    return {
        "row": line.row.name,
        "title": line.row.title,
        "copies": line.row.copies,
        "unit": line.row.unit.value,
        "figures": dict(line.figures),
        "to_redis": None if line.to_redis is None else asdict(line.to_redis),
        "to_floor": None if line.to_floor is None else asdict(line.to_floor),
        "figure_max": line.row.figure_max,
        "met_beside_redis": line.verdicts[0],
        "met_beside_floor": line.verdicts[1],
        "cpu": {system: asdict(cpu) for system, cpu in line.cpu.items()},
    }


def as_json(run: Run) -> str:
    """Return the whole run as JSON."""
    document = {
        "command": " ".join(run.command),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": run.machine,
        "plan": asdict(run.plan),
        "rounds": [asdict(each) for each in run.rounds],
        "memory": [{**asdict(each), "bytes_per_key": each.bytes_per_key} for each in run.memories],
        "rest": [{**asdict(each), "percent_per_node": each.percent_per_node} for each in run.rests],
        "summary": [summary(line) for line in run.lines],
    }
    return json.dumps(document, indent=1) + "\n"


def as_markdown(run: Run) -> str:
    """Return the tables with a line about the machine."""
    facts = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    return f"{markdown_report(run.lines)}\n`{' '.join(run.command)}` on: {facts}.\n"


def write_text(path: Path, text: str) -> None:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
