"""The command line of the leases' world: `python -m tests.leases --seeds 1000`, `--seed 7`, `--ablations`."""

import argparse
import sys
import time

from tests.leases import runner
from tests.leases.ablations import ABLATIONS, BY_TITLE, Ablation

_SEARCH_S = 120.0


def main() -> int:
    """Run what the arguments ask for; 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.leases", description="Leases in a small world.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and print the end of its trace")
    parser.add_argument("--trace", action="store_true", help="with --seed: print the whole trace")
    parser.add_argument("--without", choices=BY_TITLE, metavar="RULE", help=f"one of: {', '.join(BY_TITLE)}")
    parser.add_argument("--ablations", action="store_true", help="look for a schedule for every rule")
    parser.add_argument("--within", type=float, default=_SEARCH_S, help="how many CPU seconds to look for each")
    arguments = parser.parse_args()
    changes = BY_TITLE[arguments.without].changes if arguments.without else ()
    if arguments.seed is not None:
        if arguments.trace:
            runner.replay(arguments.seed, changes, print)
        print(runner.report(arguments.seed, changes, arguments.without or ""))
        return 1 if runner.run_one(arguments.seed, changes).check else 0
    if arguments.ablations or changes:
        for ablation in [BY_TITLE[arguments.without]] if changes else ABLATIONS:
            print(look_for(ablation, arguments.first, arguments.within), flush=True)
        return 0
    return _run_many(arguments.seeds, arguments.first)


def look_for(ablation: Ablation, first: int, within_s: float) -> str:
    """Return a line for people about the first schedule that notices a missing rule."""
    started_s, seed = time.process_time(), first
    while time.process_time() - started_s < within_s:
        outcome = runner.run_one(seed, ablation.changes)
        if outcome.check:
            return f"{ablation.title:40} caught by schedule {seed - first + 1:6}, seed {seed}: {outcome.text}"
        seed += 1
    return f"{ablation.title:40} not caught by {seed - first} schedules"


def _run_many(count: int, first: int) -> int:
    account, failures = runner.Account(), []
    for outcome in runner.run_many(range(first, first + count)):
        account.add(outcome)
        if outcome.check:
            failures.append(outcome)
            print(f"seed {outcome.seed} violates {outcome.text}", flush=True)
    print(account.text())
    if failures:
        print(runner.report(failures[0].seed))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
