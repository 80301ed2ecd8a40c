"""Some hundred schedules of the leases' world, the rules that are noticed soon, and the proof that a seed decides."""

import pytest

from tests.leases.ablations import BY_TITLE
from tests.leases.runner import SCHEDULES
from tests.leases.witness import CHECK
from tests.sim.trace import digest_elsewhere
from tests.small.schedules import Account

HOW_MANY = 200
MUST_HAPPEN = ("reads", "answers under a lease", "leaders")
QUICK = {
    "no wait by M": 1,
    "grant to a fenced node": 1,
    "no wait after an M election": 9,
    "a move that skips the wait": 30,
    "now of the node before the drain": 15,
    "now of the voter before the drain": 36,
    "grant without version": 19,
    "counted from receipt": 38,
    "quorum round before the heartbeat": 33,
    "no quorum round": 8,
    "voters accept a lower term": 116,
    "no drift allowance": 46,
    "clock that stops in suspend": 18,
    "no margin": 46,
    "hand-over keeps reading": 8,
    "hand-over resumes on timeout": 8,
}


@pytest.mark.timeout(300)
def test_no_schedule_violates_anything(capsys: pytest.CaptureFixture[str]) -> None:
    account = Account()
    for outcome in SCHEDULES.run_many(range(1, HOW_MANY + 1)):
        account.add(outcome)
        assert not outcome.check, SCHEDULES.report(outcome.seed)
    with capsys.disabled():
        print(f"\n{account.text()}")
    for name in MUST_HAPPEN:
        assert account.counts[name] > HOW_MANY, f"in {account.seeds} schedules: {account.text()}"


@pytest.mark.parametrize("rule", QUICK)
def test_a_rule_that_is_missing_is_noticed(rule: str) -> None:
    seed = QUICK[rule]
    assert SCHEDULES.run_one(seed, BY_TITLE[rule].changes).check == CHECK, f"no more by seed {seed}: look again"


def test_one_seed_gives_one_trace_whatever_python_hashes() -> None:
    assert len({digest_elsewhere("tests.leases", 9, hash_seed) for hash_seed in ("1", "2")}) == 1
    assert SCHEDULES.replay(9)[1].digest != SCHEDULES.replay(10)[1].digest


def test_a_failure_says_how_to_see_it_again() -> None:
    rule = "no wait by M"
    text = SCHEDULES.report(QUICK[rule], BY_TITLE[rule].changes, rule)
    assert CHECK in text
    assert f"python -m tests.leases --seed {QUICK[rule]} --without {rule!r}" in text
    assert "python -m tests.leases --seed 9" in SCHEDULES.report(9)
