"""The page that says how each missing rule is noticed: `make ablations ARGS=--write`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.small.ablation import RECOVERY, Ablation
from tests.small.registries import REGISTRIES
from tests.small.search import Found

PAGE: Final = Path(__file__).parents[2] / "docs" / "ablations.md"
_TEXT_MAX: Final = 100
_HEAD: Final = """# What each rule is for

A check that has never caught anything proves nothing, and neither does a rule that nobody would miss. So each rule that
replication needs can be taken away from the product, one at a time, while tests watch. `make ablations ARGS=--write`
has written this page: it plays schedules, those of the seeds from {first} on, without a rule until one of them is
violated, for {within_s:g} CPU seconds at most.

A schedule is a few hundred steps of a small world: the product's own machines, a network that loses, doubles and
reorders, nodes that die and come back, and checks that know nothing of the rules. *Schedules* says how many it took.
*Does not go on* means that nothing was lost, but something waits for ever.

Each rule of a table also has a transcript, in `tests/transcripts`: a story of a few messages that reads otherwise
without it. `tests/small/test_ablations.py` proves that in every run. Where no schedule noticed, that is what does.

To see one: `.venv/bin/python -m tests.small --without "{example}" --seed {seed}`.
"""


def page(found: Iterable[Found], first: int, within_s: float) -> str:
    """Return the page about what was found."""
    found_by_title = {row.title: row for row in found}
    example = next(row for row in found_by_title.values() if row.place)
    parts = [_HEAD.format(first=first, within_s=within_s, example=example.title, seed=example.seed)]
    for registry in REGISTRIES:
        rows = [_row(rule, found_by_title[rule.title]) for rule in registry.ablations if rule.title in found_by_title]
        if rows:
            table = "\n".join(rows)
            parts.append(f"## {registry.title}\n\n| without | noticed by | schedules |\n|---|---|---|\n{table}\n")
    return "\n".join(parts)


def _row(rule: Ablation, found: Found) -> str:
    transcript = f"`{rule.transcript}`" if rule.transcript else "a test of its own"
    if not found.place:
        return f"| {rule.title} | directly: {transcript} | none of {found.schedules:,} |"
    text = " ".join(found.text.split()).replace("|", "/")
    short = text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
    if found.is_stuck:
        short = "does not go on: " + short.removeprefix(f"{RECOVERY}: ")
    also = f"; {transcript}" if rule.transcript else ""
    return f"| {rule.title} | {short}{also} | {found.place:,} |"
