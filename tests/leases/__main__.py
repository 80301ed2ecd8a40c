"""The command line of the leases' world: `python -m tests.leases --seeds 1000`, `--seed 7`."""

import argparse
import sys

from tests.leases.ablations import BY_TITLE
from tests.leases.runner import SCHEDULES


def main() -> int:
    """Run what the arguments ask for; 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.leases", description="Leases in a small world.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and print the end of its trace")
    parser.add_argument("--trace", action="store_true", help="with --seed: print the whole trace")
    parser.add_argument("--without", choices=BY_TITLE, metavar="RULE", help=f"one of: {', '.join(BY_TITLE)}")
    arguments = parser.parse_args()
    changes = BY_TITLE[arguments.without].changes if arguments.without else ()
    if arguments.seed is not None:
        return SCHEDULES.tell_one(arguments.seed, changes, arguments.without or "", with_trace=arguments.trace)
    if changes:
        parser.error("--without is for a --seed; to look for one: make ablations ARGS='--registry Leases'")
    return SCHEDULES.tell_many(arguments.first, arguments.seeds)


if __name__ == "__main__":
    sys.exit(main())
