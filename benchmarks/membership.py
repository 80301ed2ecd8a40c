"""How fast a death is found, what that costs, and how often it is wrong: `python -m benchmarks.membership [--write]`.

Runs the trials of `membership_trials` and prints their figures as tables in Markdown. `--write` keeps the figures in
docs/membership.json and puts tables and picture of all that is kept there into docs/membership.md; `--only` runs some.
All is virtual, so the figures are the same on every machine; only the CPU seconds differ. Each trial prints the command
that runs it again.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.membership_plot import draw
from benchmarks.membership_trials import TRIALS, Figures, Trial
from benchmarks.placement import table

DOCS = Path(__file__).parent.parent / "docs"
PAGE, KEPT, PICTURE = DOCS / "membership.md", DOCS / "membership.json", DOCS / "membership.svg"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"

DETECTION_HEAD = (
    "| nodes | loss | deaths | first accuser, p50 | two accusers, p50 | p99 | known to all, p50 | p99 | longest |"
)
TRAFFIC_HEAD = (
    "| condition | nodes | messages | beside 10 nodes | bytes | beside 10 nodes "
    "| full exchange: messages | bytes | pings | acks | ping requests | nacks | gossip |"
)
STALLS_HEAD = (
    "| stalls of | nodes | hours | stalls | refutations | false deaths | per 1,000 stalls | messages | CPU s |"
)
CONDITIONS = {"rest": "at rest", "loss": "at rest, 5 % loss", "churn": "a death a minute, back after 30 s"}


def detection_rows(kept: dict[str, Figures]) -> Iterable[Sequence[object]]:
    for figures in of_kind(kept, "detection"):
        first, second, known = (figures[name] for name in ("first_accuser_s", "second_accuser_s", "known_to_all_s"))
        times = (first[50], second[50], second[99], known[50], known[99], known[100])
        yield figures["nodes"], f"{figures['loss']:.0%}", figures["deaths"], *(f"{value:.2f} s" for value in times)


def traffic_rows(kept: dict[str, Figures]) -> Iterable[Sequence[object]]:
    least: Figures = {}
    for key, figures in kept.items():
        if not key.startswith("traffic"):
            continue
        _, size, condition = key.split("-")
        if size == "10":
            least = figures
        kinds = figures["kinds"]
        yield (
            CONDITIONS[condition],
            figures["nodes"],
            f"{figures['messages']:.2f}",
            beyond(figures["messages"], least.get("messages")),
            f"{figures['bytes']:.0f}",
            beyond(figures["bytes"], least.get("bytes")),
            f"{figures['exchange_messages']:.3f}",
            f"{figures['exchange_bytes']:.1f}",
            *(f"{kinds.get(kind, 0):.2f}" for kind in ("Ping", "Ack", "PingRequest", "Nack", "Gossip")),
        )


def beyond(value: float, least: float | None) -> str:
    return "" if least is None else f"{value / least - 1:+.0%}"


def stalls_rows(kept: dict[str, Figures]) -> Iterable[Sequence[object]]:
    for figures in of_kind(kept, "stalls"):
        yield (
            f"{figures['stall_s']:.0f} s",
            figures["nodes"],
            f"{figures['hours']:.2g}",
            f"{figures['stalls']:,}",
            f"{figures['refutations']:,}",
            figures["false_deaths"],
            f"{1_000 * figures['false_deaths'] / figures['stalls']:.3f}",
            f"{figures['messages']:,}",
            figures["cpu_s"],
        )


def of_kind(kept: dict[str, Figures], kind: str) -> Iterable[Figures]:
    return (figures for key, figures in kept.items() if key.startswith(kind))


def tables_of(kept: dict[str, Figures]) -> str:
    parts = (
        (DETECTION_HEAD, list(detection_rows(kept))),
        (TRAFFIC_HEAD, list(traffic_rows(kept))),
        (STALLS_HEAD, list(stalls_rows(kept))),
    )
    return "\n".join(table(head, rows) for head, rows in parts if rows)


def run_all(trials: Sequence[Trial], seed: int, jobs: int) -> dict[str, Figures]:
    """Run trials, `jobs` at a time; those that take longest begin first."""
    found: dict[str, Figures] = {}
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        running = {pool.submit(trial.run, seed): trial for trial in reversed(trials)}
        for done in as_completed(running):
            key = running[done].key
            found[key] = done.result()
            shown = {name: value for name, value in found[key].items() if not isinstance(value, list)}
            print(f"python -m benchmarks.membership --seed {seed} --only {key}\n    {shown}", flush=True)
    return found


def keep(found: dict[str, Figures]) -> dict[str, Figures]:
    """Put figures among those that are kept, and write the page and the picture."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    kept |= found
    kept = {trial.key: kept[trial.key] for trial in TRIALS if trial.key in kept}
    lines = (f"{json.dumps(key)}: {json.dumps(figures)}" for key, figures in kept.items())
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables_of(kept)}\n{END}{after}", encoding="utf-8")
    draw(kept, PICTURE)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.membership", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put figures, tables and picture beside {PAGE.name}")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another course of events")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time, each on a core of its own")
    parser.add_argument("--only", metavar="PREFIX", default="", help="only trials whose name begins so")
    parser.add_argument("--list", action="store_true", help="show the names of the trials")
    arguments = parser.parse_args()
    trials = [trial for trial in TRIALS if trial.key.startswith(arguments.only)]
    if not trials:
        parser.error(f"no trial begins with {arguments.only!r}; --list shows their names")
    if arguments.list:
        print("\n".join(trial.key for trial in trials))
        return
    found = run_all(trials, arguments.seed, arguments.jobs)
    if arguments.write:
        keep(found)
    else:
        sys.stdout.write("\n" + tables_of({trial.key: found[trial.key] for trial in trials}))


if __name__ == "__main__":
    main()
