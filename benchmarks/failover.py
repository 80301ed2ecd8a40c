"""How long writes stop when a node dies, hangs or is cut off, and what is lost: `python -m benchmarks.failover`.

gimmal with three nodes and three copies, beside a Redis Cluster of three masters with a replica each, in one run.
Prints a table, and writes it with every raw figure to benchmarks/results. `failover_trial` says what a try is.

Exit status: 0 when all tries ended and nothing that gimmal acknowledged was lost, whether or not targets are met; 1
otherwise; 2 when something is missing or the command line is wrong.
"""

import argparse
import json
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.__main__ import TABLE_WIDTH, stop_on_terminate
from benchmarks.failover_report import SCENARIO_BY_NAME, Line, markdown_report, summarize, terminal_table, wrongs_of
from benchmarks.failover_subjects import NotWholeError, Subject, open_gimmal_subject, open_redis_subject
from benchmarks.failover_trial import Scenario, Try, run_try
from benchmarks.machine import machine_facts
from benchmarks.redis_cluster import RedisMissingError
from benchmarks.results import RESULTS, write_text

TRIES, TRIES_QUICK = 30, 2
SEED = 20260
OPENERS: dict[str, Callable[[], AbstractContextManager[Subject]]] = {
    "gimmal": open_gimmal_subject,
    "redis": open_redis_subject,
}


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=0, help=f"faults of each kind (default {TRIES})")
    parser.add_argument("--quick", action="store_true", help=f"{TRIES_QUICK} tries: to see that it works")
    parser.add_argument(
        "--only", nargs="+", metavar="FAULT", choices=SCENARIO_BY_NAME, help=", ".join(SCENARIO_BY_NAME)
    )
    parser.add_argument("--seed", type=int, default=SEED, help="another seed hits other nodes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: benchmarks/results/failover.json")
    options = parser.parse_args(arguments)
    options.tries = options.tries or (TRIES_QUICK if options.quick else TRIES)
    if options.tries < 1:
        parser.error("--tries must be at least 1")
    parts = ["failover", *(["part"] if options.only else []), *(["quick"] if options.quick else [])]
    options.json = options.json or RESULTS / ("-".join(parts) + ".json")
    return options


def run_scenario(scenario: Scenario, tries: int, seed: int) -> Iterator[Try]:
    """Yield one try after another; after one with a problem, the next has a fresh cluster."""
    dice = random.Random(f"{seed} {scenario.name}")
    indexes = count()
    index = next(indexes)
    while index < tries:
        with OPENERS[scenario.system]() as subject:
            while index < tries:
                try:
                    outcome = run_try(subject, scenario, index, dice)
                except NotWholeError as error:
                    outcome = Try(scenario.name, index, problem=str(error))
                yield outcome
                index = next(indexes)
                if outcome.problem:
                    break


def run(options: argparse.Namespace, console: Console) -> list[Try]:
    """Try what the command line asks for."""
    chosen = [each for name, each in SCENARIO_BY_NAME.items() if not options.only or name in options.only]
    columns = (TextColumn("{task.description:64}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes = []
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        for scenario in chosen:
            task = progress.add_task(scenario.title, total=options.tries)
            progress.refresh()
            for outcome in run_scenario(scenario, options.tries, options.seed):
                outcomes.append(outcome)
                last = f"{scenario.title}: {outcome.gap_s:.2f} s, {outcome.lost} lost"
                progress.update(task, advance=1, description=last)
                progress.refresh()
                if outcome.problem:
                    console.print(
                        f"{scenario.title}, try {outcome.index}: {outcome.problem}", style="red", markup=False
                    )
    return outcomes


def as_json(lines: Sequence[Line], facts: dict[str, object]) -> str:
    """Return every raw figure as JSON."""
    document = {
        "command": " ".join(["python", "-m", "benchmarks.failover", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts,
        "scenarios": [
            {"scenario": asdict(line.scenario), "met": line.is_met, "tries": [asdict(each) for each in line.tries]}
            for line in lines
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def main() -> int:
    """Run the tries."""
    options = parse_arguments(sys.argv[1:])
    console = Console()
    signal.signal(signal.SIGTERM, stop_on_terminate)
    facts = machine_facts()
    try:
        lines = summarize(run(options, console))
    except RedisMissingError as error:
        console.print(str(error), style="bold red")
        return 2
    except KeyboardInterrupt:
        console.print("stopped", style="bold red")
        return 128 + signal.SIGINT
    Console(width=max(console.width, TABLE_WIDTH)).print(terminal_table(lines))
    markdown = options.json.with_suffix(".md")
    write_text(options.json, as_json(lines, facts))
    machine = ", ".join(f"{name} {value}" for name, value in facts.items())
    write_text(markdown, f"{markdown_report(lines)}\n{machine}.\n")
    console.print("written:", f"{options.json}, {markdown}")
    wrong = [told for line in lines if line.scenario.system == "gimmal" for told in wrongs_of(line)]
    for told in wrong:
        console.print(told, style="bold red", markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
