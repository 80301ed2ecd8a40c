"""The command line of the simulator: `make sim SEEDS=n`, `make sim SEED=k`."""

import argparse
import sys
import time

from tests.sim import runner


def main() -> int:
    """Run what the arguments ask for; 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Whole clusters in virtual time.")
    parser.add_argument("--seeds", type=int, default=100, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and print the end of its trace")
    parser.add_argument("--trace", action="store_true", help="with --seed: print the whole trace")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first violation")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _replay(arguments.seed, whole=arguments.trace)
    return _run_many(arguments.seeds, arguments.first, keep_going=arguments.keep_going)


def _replay(seed: int, *, whole: bool) -> int:
    violation, trace = runner.replay(seed, print if whole else None)
    if not whole:
        print(trace.tail())
    print(f"\nseed {seed} violates {violation}" if violation else f"\nseed {seed} holds")
    print(f"trace {trace.digest}")
    return 1 if violation else 0


def _run_many(count: int, first: int, *, keep_going: bool) -> int:
    account = runner.Account()
    started_s = told_s = time.monotonic()
    for outcome in runner.run_many(range(first, first + count)):
        account.add(outcome)
        if outcome.violation:
            print(f"seed {outcome.seed}: {outcome.violation}", flush=True)
            if not keep_going:
                break
        if time.monotonic() - told_s >= 10.0:
            told_s = time.monotonic()
            pace = account.seeds / (told_s - started_s)
            print(
                f"{account.seeds}/{count} schedules, {len(account.failures)} violated, {pace:.1f} a second", flush=True
            )
    print(account.text())
    if account.failures:
        print(runner.report(min(account.failures, key=lambda outcome: outcome.seed)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
