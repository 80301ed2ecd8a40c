"""The queue rows of `python -m benchmarks`: gimmal's queues beside JetStream, RabbitMQ and Redis Streams.

Every peer is started here and stopped at the end, with everything of its own: ports, directories, processes. One that
is not installed, or does not start, is left out; that is said at once, and stands below the table.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import machine_facts, version_of
from benchmarks.queues_clients import NotStartedError, ProgramMissingError, QueueSystem
from benchmarks.queues_gimmal import open_gimmal_queues
from benchmarks.queues_jetstream import nats_server_version, open_jetstream
from benchmarks.queues_rabbitmq import open_rabbitmq, rabbitmq_version
from benchmarks.queues_redis import open_redis_streams
from benchmarks.queues_report import QueueLine, markdown_report, summarize, terminal_tables
from benchmarks.queues_rounds import QueueBench, QueueRound
from benchmarks.queues_rows import QueueRow
from benchmarks.results import write_text
from benchmarks.rounds import Plan

IDLE_S, IDLE_QUICK_S = 10.0, 2.0
OPENERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "gimmal": open_gimmal_queues,
    "jetstream": open_jetstream,
    "rabbitmq": open_rabbitmq,
    "redis": open_redis_streams,
}
"""What starts a system, or a list of systems on the same servers."""


@dataclass(frozen=True, slots=True)
class QueueRun:
    """One run of the queue rows."""

    command: Sequence[str]
    machine: dict[str, object]
    plan: Plan
    idle_s: float
    rounds: Sequence[QueueRound]
    notes: Sequence[str]

    @property
    def lines(self) -> list[QueueLine]:
        """Return the lines of its tables."""
        return summarize(self.rounds)


@contextmanager
def open_systems(names: Sequence[str], warn: Callable[[str], None]) -> Iterator[list[QueueSystem]]:
    """Start systems, and give those that run. `warn` hears at once who is missing."""
    systems: list[QueueSystem] = []
    with ExitStack() as stack:
        for name in names:
            try:
                opened = stack.enter_context(OPENERS[name]())
            except (ProgramMissingError, NotStartedError) as error:
                warn(f"{name}: LEFT OUT. {error}.")
                continue
            systems += opened if isinstance(opened, list) else [opened]
        yield systems


def run_queues(options: argparse.Namespace, console: Console) -> QueueRun:
    """Measure the queue rows that the command line asks for, on systems that live side by side."""
    rows: Sequence[QueueRow] = options.queue_rows
    names = [name for name in OPENERS if not options.systems or name in options.systems]
    machine = {**machine_facts(), **queue_facts()}
    columns = (TextColumn("{task.description:64}"), BarColumn(), TimeElapsedColumn())
    rounds: list[QueueRound] = []
    # Drawn between rounds only: a bar that redraws itself would take CPU time from what is measured.
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task = progress.add_task(f"queues: starting {', '.join(names)}", total=len(rows))
        progress.refresh()

        def announce(row: QueueRow, system: str) -> None:
            progress.update(task, description=f"{row.title}: {system}")
            progress.refresh()

        notes: list[str] = []

        def warn(text: str) -> None:
            notes.append(text)
            console.print(text, style="bold red", markup=False)

        with open_systems(names, warn) as systems:
            notes += [system.note for system in systems if system.note]
            bench = QueueBench(systems, options.plan, IDLE_QUICK_S if options.quick else IDLE_S, announce, warn)
            for row in rows:
                rounds += asyncio.run(bench.run_row(row))
                progress.advance(task)
    command = ["python", "-m", "benchmarks", *sys.argv[1:]]
    return QueueRun(command, machine, options.plan, bench.idle_s, rounds, notes)


def queue_facts() -> dict[str, object]:
    """Return the versions of the peers and of their clients."""
    return {
        "nats-server": nats_server_version(),
        "rabbitmq-server": rabbitmq_version(),
        **{name: version_of(name) for name in ("nats-py", "aio-pika")},
    }


def as_json(run: QueueRun) -> str:
    """Return every raw figure as JSON."""
    document = {
        "command": " ".join(run.command),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": run.machine,
        "plan": {**asdict(run.plan), "idle_s": run.idle_s},
        "notes": list(run.notes),
        "rounds": [asdict(each) for each in run.rounds],
        "summary": [
            {
                "row": line.row.name,
                "title": line.row.title_of(line.part),
                "unit": line.row.unit.value,
                "figures": dict(line.figures),
                "ratios": {other: asdict(ratio) for other, ratio in line.ratios.items()},
                "figure_max": line.row.figure_max,
                "met": line.is_met,
                "cpu": {system: asdict(cpu) for system, cpu in line.cpu.items()},
            }
            for line in run.lines
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def show_and_write(run: QueueRun, path: Path, wide: Console) -> list[Path]:
    """Print the tables and write them, with every raw figure, to files; return which."""
    for table in terminal_tables(run.lines, run.notes):
        wide.print(table)
    facts = ", ".join(f"{name} {value}" for name, value in run.machine.items())
    markdown = path.with_suffix(".md")
    write_text(path, as_json(run))
    write_text(markdown, f"{markdown_report(run.lines, run.notes)}\n`{' '.join(run.command)}` on: {facts}.\n")
    return [path, markdown]
