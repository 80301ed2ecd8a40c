"""Some hundred schedules of the small world, a few rules taken away, and the proof that a seed decides everything."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.small import runner
from tests.small.ablations import BY_TITLE

SCHEDULES = 500
MUST_HAPPEN = (
    *("Append", "AppendAck", "Histories", "SnapshotAck", "SnapshotChunk", "commits", "answers", "undecided", "reads"),
    *("cuts", "crashes", "fences", "elections", "in-sync changes", "in-sync sets asked for"),
)
QUICK = {
    "commit below minISR": 60,
    "no MaxISR": 300,
    "dedup at receipt": 60,
    "alignment to less than the highest common point": 100,
}


@pytest.mark.timeout(300)
def test_no_schedule_violates_anything(tell: Callable[[str], None]) -> None:
    account = runner.Account()
    for outcome in runner.run_many([*runner.found_seeds(), *range(1, SCHEDULES + 1)]):
        account.add(outcome)
        assert not outcome.check, runner.report(outcome.seed)
    tell(f"\n{account.text()}")
    for name in MUST_HAPPEN:
        assert account.counts[name], f"in {account.seeds} schedules nothing was counted under {name}"


@pytest.mark.parametrize("rule", QUICK)
def test_a_rule_that_is_missing_is_noticed(rule: str) -> None:
    caught = runner.first_catch(BY_TITLE[rule].changes, range(1, QUICK[rule] + 1))
    assert caught is not None
    assert caught.check != "recovery"


def test_one_seed_gives_one_trace_whatever_python_hashes() -> None:
    assert len({_digest(9, hash_seed) for hash_seed in ("1", "2")}) == 1
    assert runner.replay(9)[1].digest != runner.replay(10)[1].digest


def test_a_failure_says_how_to_see_it_again() -> None:
    rule = "dedup at receipt"
    changes = BY_TITLE[rule].changes
    caught = runner.first_catch(changes, range(1, QUICK[rule] + 1))
    assert caught is not None
    text = runner.report(caught.seed, changes, rule)
    assert caught.text in text
    assert f"python -m tests.small --seed {caught.seed} --without {rule!r}" in text


def _digest(seed: int, hash_seed: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "tests.small", "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("trace ")]
    return line
