"""How even the plan is, and how little it moves: `python -m benchmarks.placement [--write]`.

Prints two tables in Markdown, one for load and one for moves; with `--write` puts them into
docs/placement.md, between its markers. The counts are the same on every machine; only the seconds differ.
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

from gimmal.hashing import Assignment, Member, Ring, plan
from gimmal.hashing.quotas import copy_quotas, zone_bounds

PARTITIONS = 1024
COPIES = 3
COUNTS = (3, 10, 30, 100)
PAGE = Path(__file__).parent.parent / "docs" / "placement.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"

SCENARIOS = {
    "no zones": ("", (1,)),
    "3 equal zones": ("abc", (1,)),
    "3 zones, 3:2:1": ("aaabbc", (1,)),
    "5 zones, 4:2:1:1:1": ("aaaabbcde", (1,)),
    "weights 1, 2, 4": ("", (1, 2, 4)),
    "5 zones and weights": ("aaaabbcde", (1, 4, 2, 1)),
}
"""For each scenario the zones and the weights that members get in turn."""


def member(scenario: str, number: int) -> Member:
    zones, weights = SCENARIOS[scenario]
    zone = zones[number % len(zones)] if zones else ""
    return Member(f"node-{number:03}", weights[number % len(weights)], zone)


def spread(values: Iterable[int]) -> str:
    values = list(values)
    return f"{min(values)} to {max(values)}"


def deviants(counts: dict[str, int], fair: dict[str, Fraction]) -> int:
    """Return how many members hold neither the floor nor the ceiling of what is fair."""
    return sum(not floor(share) <= counts.get(name, 0) <= ceil(share) for name, share in fair.items())


def fair_leads(members: Sequence[Member]) -> dict[str, Fraction]:
    total = sum(one.weight for one in members)
    return {one.name: Fraction(PARTITIONS * one.weight, total) for one in members}


def peak(led: dict[str, int], fair: dict[str, Fraction]) -> float:
    """Return the largest load of a leader relative to its fair one: max/mean when weights are equal."""
    return max(float(led.get(name, 0) / share) for name, share in fair.items())


def ring_walks(members: Sequence[Member]) -> Assignment:
    ring = Ring(members)
    return Assignment(tuple(ring.preference(partition)[:COPIES] for partition in range(PARTITIONS)))


def least_moves(before: Assignment, members: Sequence[Member]) -> int:
    """Return a lower bound of the copies any balanced plan must move: what must be received, or replaced."""
    copies = min(COPIES, len(members))
    quotas = copy_quotas(members, PARTITIONS, copies)
    had = before.copies_held()
    zone_of = {one.name: one.zone for one in members}
    bounds = zone_bounds(members, copies)
    must_receive = sum(max(0, floor(quota) - had.get(name, 0)) for name, quota in quotas.items())

    gaps = 0
    fillable = dict.fromkeys(bounds, 0)
    for names in before.replicas:
        zones = [zone_of[name] for name in names if name in zone_of]
        gaps_here = max(0, copies - len(zones))
        gaps += gaps_here
        for zone, bound in bounds.items():
            fillable[zone] += max(0, min(gaps_here, bound.most - zones.count(zone)))
    room_made = 0
    for zone in bounds:
        names_here = [name for name in zone_of if zone_of[name] == zone]
        share = floor(sum(quotas[name] for name in names_here))
        room_made += max(0, share - sum(had.get(name, 0) for name in names_here) - fillable[zone])
    return max(must_receive, gaps + room_made)


def timed_plan(members: Sequence[Member], previous: Assignment | None = None) -> tuple[Assignment, float]:
    start = time.perf_counter()
    assignment = plan(members, PARTITIONS, COPIES, previous)
    return assignment, time.perf_counter() - start


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    columns = head.count("|") - 1
    lines = [head, "|" + "---|" * columns]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def measure() -> str:
    load_rows: list[Sequence[object]] = []
    move_rows: list[Sequence[object]] = []
    for scenario in SCENARIOS:
        for count in COUNTS:
            members = [member(scenario, number) for number in range(count)]
            founded, seconds = timed_plan(members)
            quotas = copy_quotas(members, PARTITIONS, COPIES)
            leads = fair_leads(members)
            held, led = founded.copies_held(), founded.partitions_led()
            allowed = f"{floor(min(quotas.values()))} to {ceil(max(quotas.values()))}"
            allowed_leads = f"{floor(min(leads.values()))} to {ceil(max(leads.values()))}"
            load_rows.append(
                (
                    scenario,
                    count,
                    f"{spread(held.values())} ({allowed})",
                    f"{spread(led.values())} ({allowed_leads})",
                    deviants(held, quotas) + deviants(led, leads),
                    f"{peak(ring_walks(members).partitions_led(), leads):.2f}",
                    f"{peak(led, leads):.2f}",
                    f"{seconds:.2f}",
                )
            )
            more = [*members, member(scenario, count)]
            fewer = members[: count // 2] + members[count // 2 + 1 :]
            row: list[object] = [scenario, count]
            for now in (more, fewer):
                after, seconds = timed_plan(now, founded)
                moved, least = after.copies_moved_from(founded), least_moves(founded, now)
                handed_over = sum(c.leader != c.leader_before for c in after.changes_from(founded))
                ratio = f"{moved / least:.3f}" if least else "-"
                row += [f"{moved} / {least}", ratio, handed_over, f"{seconds:.2f}"]
            move_rows.append(row)
    load_head = (
        "| scenario | members | copies per member (allowed) | partitions led (allowed) | off quota "
        "| busiest leader, plain ring | busiest leader, plan | seconds |"
    )
    move_head = (
        "| scenario | members | join: moved / least | ratio | leaders changed | seconds "
        "| leave: moved / least | ratio | leaders changed | seconds |"
    )
    machine = f"CPython {platform.python_version()}, {platform.system()} {platform.machine()}, one core."
    return f"{table(load_head, load_rows)}\n{table(move_head, move_rows)}\n{machine}\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    tables = measure()
    sys.stdout.write(tables)
    if arguments.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
        PAGE.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
