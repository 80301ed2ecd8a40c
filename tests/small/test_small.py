"""Some hundred schedules of the small world, a few rules taken away, and the proof that a seed decides everything."""

from collections.abc import Callable

import pytest

from tests.sim.trace import digest_elsewhere
from tests.small.page import page
from tests.small.registries import RULES
from tests.small.runner import SCHEDULES, first_catch, found_seeds
from tests.small.schedules import Account
from tests.small.search import Found, Search, look_for

HOW_MANY = 500
MUST_HAPPEN = (
    *("Append", "AppendAck", "Histories", "SnapshotAck", "SnapshotChunk", "Confirm", "Confirmed"),
    *("commits", "answers", "undecided", "reads", "reads refused"),
    *("cuts", "crashes", "fences", "elections", "in-sync changes", "in-sync sets asked for"),
)
QUICK = {
    "commit below minISR": 60,
    "amnesia kept in elr": 60,
    "amnesia kept in isr": 60,
    "read before NOOP": 300,
    "no MaxISR": 300,
    "MaxISR rolled back on any reject": 60,
    "elr never emptied": 60,
    "no epoch fence on append": 60,
    "zombie local read": 300,
    "no leso check": 300,
    "dedup at receipt": 60,
    "dedup in leader memory only": 600,
    "snapshot without window": 100,
    "floor not enforced": 600,
    "base without le": 200,
    "mixed snapshot chunks": 600,
    "alignment to less than the highest common point": 100,
}


@pytest.mark.timeout(300)
def test_no_schedule_violates_anything(tell: Callable[[str], None]) -> None:
    account = Account()
    for outcome in SCHEDULES.run_many([*found_seeds(), *range(1, HOW_MANY + 1)]):
        account.add(outcome)
        assert not outcome.check, SCHEDULES.report(outcome.seed)
    tell(f"\n{account.text()}")
    for name in MUST_HAPPEN:
        assert account.counts[name], f"in {account.seeds} schedules nothing was counted under {name}"


@pytest.mark.parametrize("rule", QUICK)
def test_a_rule_that_is_missing_is_noticed(rule: str) -> None:
    assert first_catch(RULES[rule].changes, range(1, QUICK[rule] + 1)) is not None


def test_one_seed_gives_one_trace_whatever_python_hashes() -> None:
    assert len({digest_elsewhere("tests.small", 9, hash_seed) for hash_seed in ("1", "2")}) == 1
    assert SCHEDULES.replay(9)[1].digest != SCHEDULES.replay(10)[1].digest


def test_the_page_says_of_each_rule_how_it_is_noticed() -> None:
    caught, stuck = (
        look_for(Search("Sessions", "dedup at receipt", 1, 60.0)),
        Found("req_no", 9, 1.0, 3, 3, "a|b", True),
    )
    text = page([caught, stuck, Found("no MaxISR", 1_000)], 1, 60.0)
    assert f"| dedup at receipt | {caught.text}; `copies_retry` | {caught.place} |" in text
    assert "| req_no | does not go on: a/b; `copies_request_again` | 3 |" in text
    assert "| no MaxISR | directly: `copies_max_isr` | none of 1,000 |" in text
    assert caught.line().split()[-1] in caught.text
    assert "## Snapshots" not in text


def test_a_failure_says_how_to_see_it_again() -> None:
    rule = "dedup at receipt"
    changes = RULES[rule].changes
    caught = first_catch(changes, range(1, QUICK[rule] + 1))
    assert caught is not None
    text = SCHEDULES.report(caught.seed, changes, rule)
    assert caught.text in text
    assert f"python -m tests.small --seed {caught.seed} --without {rule!r}" in text
