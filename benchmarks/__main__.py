"""`python -m benchmarks`: runs the rows, prints the tables, writes JSON, Markdown and a picture.

Exit status: 0 when everything was measured, whether or not targets are met; 1 when a system answered wrongly
or broke; 2 when something is missing or the command line is wrong.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks import results
from benchmarks.floor import open_floor
from benchmarks.gimmal_cluster import open_gimmal
from benchmarks.loads import preload
from benchmarks.machine import machine_facts
from benchmarks.memory import Memory, measure_memory
from benchmarks.plot import draw
from benchmarks.queues import OPENERS as QUEUE_OPENERS
from benchmarks.queues import run_queues, show_and_write
from benchmarks.queues_rows import QUEUE_ROW_BY_NAME
from benchmarks.redis_cluster import RedisMissingError, open_redis_cluster
from benchmarks.report import rich_tables, summarize
from benchmarks.rest import Rest, measure_rest
from benchmarks.rounds import Bench, Plan, Round
from benchmarks.rows import ROW_BY_NAME, SYSTEMS, Load, Row
from benchmarks.stores import System
from benchmarks.workload import Ledger

ROUNDS_MIN = 5
TABLE_WIDTH = 160
FULL = Plan(rounds=ROUNDS_MIN, round_s=1.2, run_in_s=0.2)
QUICK = Plan(rounds=ROUNDS_MIN, round_s=0.25, run_in_s=0.1)
MEMORY_KEYS, MEMORY_KEYS_QUICK = 1_000_000, 100_000
REST_S, REST_QUICK_S = 60, 10
OPENERS: dict[str, Callable[[int], AbstractContextManager[System]]] = {
    "gimmal": open_gimmal,
    "redis": lambda copies: open_redis_cluster(replicas_per_master=copies - 1),
    "floor": open_floor,
}
"""What starts a system that keeps so many copies."""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.partition("\n")[0],
        epilog="The queue rows write to benchmarks/results/queues.json, or to FILE with -queues in its name.",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS_MIN, help="counted rounds per row (at least 5)")
    parser.add_argument("--quick", action="store_true", help="short rounds: to see that it works, not to quote")
    names = (*ROW_BY_NAME, *QUEUE_ROW_BY_NAME)
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=names, help=", ".join(names))
    systems = dict.fromkeys((*SYSTEMS, *QUEUE_OPENERS))
    parser.add_argument("--systems", nargs="+", choices=systems, help="leave the others out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: benchmarks/results/keys.json; see below")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="svg or png; default: beside the JSON")
    options = parser.parse_args(arguments)
    if options.rounds < ROUNDS_MIN:
        parser.error(f"--rounds must be at least {ROUNDS_MIN}: a median of fewer says little")
    parts = [*(["part"] if options.only or options.systems else []), *(["quick"] if options.quick else [])]
    options.queues_json = (
        options.json.with_stem(f"{options.json.stem}-queues")
        if options.json
        else results.RESULTS / ("-".join(["queues", *parts]) + ".json")
    )
    options.json = options.json or results.RESULTS / ("-".join(["keys", *parts]) + ".json")
    options.plot = options.plot or options.json.with_suffix(".svg")
    options.rows = [row for name, row in ROW_BY_NAME.items() if not options.only or name in options.only]
    options.queue_rows = [row for name, row in QUEUE_ROW_BY_NAME.items() if not options.only or name in options.only]
    lengths = QUICK if options.quick else FULL
    options.plan = Plan(options.rounds, lengths.round_s, lengths.run_in_s)
    return options


def run_speed(rows: Sequence[Row], names: Sequence[str], plan: Plan, progress: Progress) -> list[Round]:
    """Run all speed rows: those of one number of copies on clusters that live side by side, then the next."""
    task = progress.add_task("starting", total=len(rows) * len(names) * plan.rounds)

    def announce(row: Row, system: str) -> None:
        progress.update(task, advance=1, description=f"{row.title}: {system}")
        progress.refresh()

    rounds: list[Round] = []
    for copies in sorted({row.copies for row in rows}):
        group = [row for row in rows if row.copies == copies]
        with ExitStack() as stack:
            systems = [stack.enter_context(OPENERS[name](copies)) for name in names]
            bench = Bench(systems, preloaded(systems, group), plan, announce)
            for row in group:
                rounds += bench.run_row(row)
    return rounds


def preloaded(systems: Sequence[System], rows: Sequence[Row]) -> dict[tuple[str, bool], Ledger]:
    """Write all keys that the rows use, and return the books of them."""
    ledgers = {}
    for system in systems:
        store = system.connect()
        for is_tagged in sorted({row.is_tagged for row in rows}):
            ledgers[system.name, is_tagged] = Ledger(system.name, is_tagged=is_tagged)
            preload(store, ledgers[system.name, is_tagged])
        store.close()
    return ledgers


def run_memory(names: Sequence[str], keys: int, progress: Progress) -> list[Memory]:
    """Fill a fresh cluster of each system, one after another."""
    memories = []
    for name in names:
        task = progress.add_task(f"memory: {name}", total=keys)
        with OPENERS[name](1) as system:
            memories.append(measure_memory(system, keys, partial(advance_bar, progress, task)))
        progress.refresh()
    return memories


def run_rest(names: Sequence[str], seconds: int, progress: Progress) -> list[Rest]:
    """Watch a fresh cluster of each system that has nodes which know each other do nothing."""
    rests = []
    for name in names:
        if name != "floor":
            task = progress.add_task(f"at rest: {name}", total=seconds)
            with OPENERS[name](1) as system:
                rests.append(measure_rest(system, seconds, partial(progress.advance, task)))
            progress.refresh()
    return rests


def advance_bar(progress: Progress, task: TaskID, count: int) -> None:
    """Move a bar, and draw it once per 1 % of its length."""
    progress.advance(task, count)
    bar = progress.tasks[task]
    if bar.total and int(bar.completed) % (int(bar.total) // 100) < count:
        progress.refresh()


def run(options: argparse.Namespace, console: Console) -> results.Run:
    """Measure what the command line asks for."""
    loads = [row.load for row in options.rows]
    speed_rows = [row for row in options.rows if row.load not in (Load.MEMORY, Load.REST)]
    names = [name for name in SYSTEMS if not options.systems or name in options.systems]
    machine = machine_facts()
    columns = (TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rounds: list[Round] = []
    memories: list[Memory] = []
    rests: list[Rest] = []
    # Drawn between rounds only: a bar that redraws itself would take CPU time from what is measured.
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        if speed_rows:
            rounds = run_speed(speed_rows, names, options.plan, progress)
        if Load.MEMORY in loads:
            keys = MEMORY_KEYS_QUICK if options.quick else MEMORY_KEYS
            memories = run_memory(names, keys, progress)
        if Load.REST in loads:
            rests = run_rest(names, REST_QUICK_S if options.quick else REST_S, progress)
    command = ["python", "-m", "benchmarks", *sys.argv[1:]]
    return results.Run(command, machine, options.plan, rounds, memories, rests, summarize(rounds, memories, rests))


def stop_on_terminate(_number: int, _frame: FrameType | None) -> None:
    """Leave through every `with` when asked to terminate."""
    sys.exit(128 + signal.SIGTERM)


def show(outcome: results.Run, options: argparse.Namespace, wide: Console) -> list[Path]:
    """Print the tables and write the files; return which."""
    for table in rich_tables(outcome.lines):
        if table.row_count:
            wide.print(table)
    markdown = options.json.with_suffix(".md")
    results.write_text(options.json, results.as_json(outcome))
    results.write_text(markdown, results.as_markdown(outcome))
    written = [options.json, markdown]
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    if draw(outcome.lines, options.plot):
        written.append(options.plot)
    return written


def main() -> int:
    """Run the benchmark."""
    options = parse_arguments(sys.argv[1:])
    console = Console()
    wide = Console(width=max(console.width, TABLE_WIDTH))
    signal.signal(signal.SIGTERM, stop_on_terminate)
    written: list[Path] = []
    try:
        if options.rows:
            written += show(run(options, console), options, wide)
        if options.queue_rows:
            written += show_and_write(run_queues(options, console), options.queues_json, wide)
    except RedisMissingError as error:
        console.print(str(error), style="bold red")
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped", style="bold red")
        return 128 + signal.SIGINT
    console.print("written:", ", ".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
