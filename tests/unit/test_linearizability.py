"""The checker of histories: tables that people can judge, small histories judged by force, and long ones."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimmal.testing import (
    ConsistencyViolation,
    History,
    Linearizability,
    Operation,
    Undecided,
    check_linearizability,
)
from gimmal.testing.history import Ending, Kind, Row
from tests.unit.histories import Line, history_of, is_linearizable_by_force, random_history, with_result

GET = Operation.get("k")
VERSIONED = Operation.get_versioned("k")
EXISTS = Operation.exists("k")
DELETE = Operation.delete("k")
INCR = Operation.incr("k")


def put(value: Any, **condition: Any) -> Operation:
    return Operation.set("k", value, **condition)


RIGHT: dict[str, list[Line]] = {
    "nothing at all": [],
    "one after the other": [("a", put(1), True, 0, 1), ("b", GET, 1, 2, 3), ("a", DELETE, True, 4, 5)],
    "a read during a write sees the new value": [("a", put(1), True, 0, 9), ("b", GET, 1, 2, 3)],
    "a read during a write sees the old value": [("a", put(1), True, 0, 9), ("b", GET, None, 2, 3)],
    "a read that began earlier sees the older value": [
        ("a", put(1), True, 0, 1),
        ("b", put(2), True, 2, 9),
        ("c", GET, 1, 3, 8),
        ("d", GET, 2, 4, 5),
    ],
    "a write takes effect after its client gave up": [
        ("a", put(1), True, 0, 1),
        ("b", put(2), None, 2, None),
        ("a", GET, 1, 3, 4),
        ("a", GET, 1, 5, 6),
        ("a", GET, 2, 90, 91),
    ],
    "an unknown write never takes effect": [("a", put(1), None, 0, None), ("b", GET, None, 1, 2)],
    "two unknown writes, the second first": [
        ("a", put(1), None, 0, None),
        ("b", put(2), None, 0, None),
        ("c", GET, 2, 3, 4),
        ("c", GET, 1, 5, 6),
    ],
    "two unknown writes of one value": [
        ("a", put(1), None, 0, None),
        ("b", put(1), None, 0, None),
        ("c", GET, 1, 1, 2),
        ("c", DELETE, True, 3, 4),
        ("c", GET, 1, 5, 6),
    ],
    "an unknown delete": [("a", put(1), True, 0, 1), ("b", DELETE, None, 2, None), ("a", GET, None, 3, 4)],
    "unknown increments": [("a", INCR, None, 0, None), ("b", INCR, None, 0, None), ("c", INCR, 3, 1, 2)],
    "an unknown increment of an unknown set": [
        ("a", put(5), None, 0, None),
        ("b", INCR, None, 0, None),
        ("c", GET, 6, 1, 2),
    ],
    "an unknown nx after an unknown delete": [
        ("a", put(1), True, 0, 1),
        ("b", DELETE, None, 2, None),
        ("c", put(2, nx=True), None, 2, None),
        ("a", GET, 2, 3, 4),
    ],
    "versions": [
        ("a", put(1), True, 0, 1),
        ("a", VERSIONED, (1, 17), 2, 3),
        ("b", put(2, if_version=17), True, 4, 5),
        ("a", put(3, if_version=17), False, 6, 7),
        ("a", VERSIONED, (2, 18), 8, 9),
    ],
    "version 0 is absent": [("a", put(1, if_version=0), True, 0, 1), ("a", put(2, if_version=0), False, 2, 3)],
    "one of two wins": [("a", put(1, nx=True), True, 0, 5), ("b", put(2, nx=True), False, 0, 5)],
    "a read nobody waited for says nothing": [("a", GET, None, 0, None), ("a", put(1), True, 1, 2)],
    "an unknown write that the first order tried wastes": [
        ("a", put(5), True, 0, 1),
        ("b", put(1), None, 2, None),
        ("c", DELETE, True, 3, 9),
        ("d", put(1, nx=True), True, 3, 9),
        ("e", GET, 1, 4, 5),
        ("a", put(9), True, 10, 11),
        ("a", GET, 1, 12, 13),
    ],
    "of two writes at once, either is last (1)": [
        ("z", put(1), True, 0, 1),
        ("z", put(2), True, 2, 3),
        ("a", put(1), True, 4, 9),
        ("b", put(2), True, 4, 9),
        ("c", EXISTS, True, 10, 11),
        ("c", GET, 1, 12, 13),
    ],
    "of two writes at once, either is last (2)": [
        ("z", put(1), True, 0, 1),
        ("z", put(2), True, 2, 3),
        ("a", put(1), True, 4, 9),
        ("b", put(2), True, 4, 9),
        ("c", EXISTS, True, 10, 11),
        ("c", GET, 2, 12, 13),
    ],
    "a counter starts from 0, or from nothing": [
        ("a", put(0), True, 0, 1),
        ("a", DELETE, True, 2, 3),
        ("a", INCR, 1, 4, 5),
    ],
    "at one time, in the order recorded": [("a", put(1), True, 1, 1), ("a", GET, 1, 1, 1)],
}

WRONG: dict[str, list[Line]] = {
    "a stale read": [("a", put(1), True, 0, 1), ("a", put(2), True, 2, 3), ("b", GET, 1, 4, 5)],
    "a lost update": [("a", put(1), True, 0, 1), ("b", GET, None, 2, 3)],
    "a read of what nobody wrote": [("a", put(1), True, 0, 1), ("b", GET, 2, 0, 3)],
    "a read of what nobody has written yet": [("b", GET, 1, 0, 1), ("a", put(1), True, 2, 3)],
    "a duplicate increment": [("a", INCR, 1, 0, 5), ("b", INCR, 1, 0, 5)],
    "an increment that happened twice": [("a", INCR, 1, 0, 1), ("a", GET, 2, 2, 3)],
    "unknown increments are not enough": [("a", INCR, None, 0, None), ("c", INCR, 3, 1, 2)],
    "an unknown increment happens once": [
        ("a", INCR, None, 0, None),
        ("b", INCR, 2, 1, 2),
        ("b", INCR, 4, 3, 4),
    ],
    "new, then old": [
        ("a", put(1), True, 0, 1),
        ("b", put(2), True, 2, 9),
        ("c", GET, 2, 3, 4),
        ("d", GET, 1, 5, 6),
    ],
    "an unknown write is read, and then it never was": [
        ("a", put(1), True, 0, 1),
        ("b", put(2), None, 2, None),
        ("a", GET, 2, 3, 4),
        ("a", GET, 1, 5, 6),
    ],
    "two unknown writes take effect once each": [
        ("a", put(1), None, 0, None),
        ("b", put(2), None, 0, None),
        ("c", GET, 1, 1, 2),
        ("c", GET, 2, 3, 4),
        ("c", GET, 1, 5, 6),
    ],
    "an unknown write is read before it began": [("b", GET, 1, 0, 1), ("a", put(1), None, 2, None)],
    "two win": [("a", put(1, nx=True), True, 0, 5), ("b", put(2, nx=True), True, 0, 5)],
    "neither wins": [("a", put(1, nx=True), False, 0, 5), ("b", put(2, nx=True), False, 0, 5)],
    "xx without a key": [("a", put(1, xx=True), True, 0, 1)],
    "a key that is not there exists": [("a", EXISTS, True, 0, 1)],
    "a key is deleted twice": [("a", put(1), True, 0, 1), ("a", DELETE, True, 2, 5), ("b", DELETE, True, 2, 5)],
    "a version for two writes": [
        ("a", put(1), True, 0, 1),
        ("a", VERSIONED, (1, 17), 2, 3),
        ("a", put(1), True, 4, 5),
        ("a", VERSIONED, (1, 17), 6, 7),
    ],
    "two versions for one write": [
        ("a", put(1), True, 0, 1),
        ("a", VERSIONED, (1, 17), 2, 3),
        ("a", VERSIONED, (1, 18), 4, 5),
    ],
    "both replace one version": [
        ("a", put(1), True, 0, 1),
        ("a", put(2, if_version=17), True, 2, 5),
        ("b", put(3, if_version=17), True, 2, 5),
    ],
    "refused with the right version": [
        ("a", put(1), True, 0, 1),
        ("a", VERSIONED, (1, 17), 2, 3),
        ("a", put(2, if_version=17), False, 4, 5),
    ],
    "refused with what turns out to be the right version": [
        ("a", put(1), True, 0, 1),
        ("a", put(2, if_version=17), False, 2, 3),
        ("a", VERSIONED, (1, 17), 4, 5),
    ],
    "a write that nobody read overwrites all the same": [
        ("a", put(1), True, 0, 1),
        ("b", put(7), True, 2, 10),
        ("c", VERSIONED, (1, 17), 3, 4),
        ("c", GET, 1, 11, 12),
    ],
    "a set is refused without a condition": [("a", put(1), False, 0, 1)],
    "an answer to something else": [("a", INCR, "one", 0, 1)],
    "a version without a value": [("a", VERSIONED, (None, 3), 0, 1)],
}


def check(history: History, max_steps: int = 1_000_000) -> Linearizability:
    return check_linearizability(history, max_steps=max_steps)


def is_right(history: History) -> bool:
    result = check(history)
    assert not result.undecided
    return not result.violations


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    check(history_of(*RIGHT[name])).raise_if_wrong()
    assert is_linearizable_by_force(history_of(*RIGHT[name]))


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    assert not is_linearizable_by_force(history_of(*WRONG[name]))
    with pytest.raises(ConsistencyViolation, match="key 'k': no order of its operations explains"):
        check(history_of(*WRONG[name])).raise_if_wrong()


def test_what_surely_failed_says_nothing() -> None:
    history = History()
    history.fail(history.begin("a", put(1), 0.0), 1.0)
    history.end(history.begin("a", GET, 2.0), 1, 3.0)
    assert not is_right(history)


def test_keys_are_checked_one_by_one() -> None:
    history = History()
    for key, value in (("k", 1), ("l", 2), ("m", 1)):
        history.end(history.begin("a", Operation.set(key, 1), 0.0), True, 1.0)
        history.end(history.begin("b", Operation.get(key), 2.0), value, 3.0)
    found = check(history)
    assert (found.operations, found.keys) == (6, 3)
    assert [violation.key for violation in found.violations] == ["l"]


# -- against force ----------------------------------------------------------------------------------------------


def other_result(dice: random.Random, row: Row) -> Any:
    match row.operation.kind:
        case Kind.GET:
            return dice.choice([value for value in (None, 1, 2, 3) if value != row.result])
        case Kind.GET_VERSIONED:
            return dice.choice([None, (dice.randrange(1, 4), dice.randrange(101, 104))])
        case Kind.INCR:
            return row.result + dice.choice((-1, 1))
        case _:
            return not row.result


def small_history(dice: random.Random) -> History:
    values, unknown = dice.choice((1, 2, 5)), dice.choice((0.0, 0.2, 0.5))
    size, clients, plain = dice.randrange(2, 7), dice.randrange(2, 6), dice.random() < 0.35
    return random_history(dice, size, clients=clients, values=values, unknown=unknown, plain=plain)


def answered_tokens(history: History) -> list[int]:
    return [token for token, row in enumerate(history) if row.ending == Ending.ENDED]


@given(st.integers(0, 1 << 32))
def test_it_judges_as_force_does(seed: int) -> None:
    dice = random.Random(seed)
    history = small_history(dice)
    assert is_right(history)
    for token in answered_tokens(history):
        corrupted = with_result(history, token, other_result(dice, history.row(token)))
        assert is_right(corrupted) == is_linearizable_by_force(corrupted)


def test_both_judgements_were_seen_often() -> None:
    counts = {True: 0, False: 0}
    for seed in range(100):
        dice = random.Random(seed)
        history = small_history(dice)
        for token in answered_tokens(history):
            corrupted = with_result(history, token, other_result(dice, history.row(token)))
            judged = is_right(corrupted)
            assert judged == is_linearizable_by_force(corrupted)
            counts[judged] += 1
    assert counts[True] > 50
    assert counts[False] > 150


@pytest.mark.parametrize("plain", [True, False])
def test_a_register_is_right_and_a_corruption_of_it_is_caught(plain: bool) -> None:
    caught = 0
    for seed in range(100):
        dice = random.Random(seed)
        history = random_history(dice, 60, clients=4, values=1000, unknown=0.05, plain=plain)
        check(history).raise_if_wrong()
        reads = [token for token in answered_tokens(history) if history.row(token).operation.kind == Kind.GET]
        if reads:
            token = dice.choice(reads)
            caught += not is_right(with_result(history, token, _older_value(history, token)))
    assert caught >= 85


def _older_value(history: History, token: int) -> Any:
    """What somebody read long before, or a value that nobody wrote."""
    rows = [history.row(earlier) for earlier in range(max(0, token - 20))]
    values = [row.result for row in rows if row.operation.kind == Kind.GET and row.ending == Ending.ENDED]
    return next((value for value in values if value not in (None, history.row(token).result)), 5000)


# -- long histories ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clients", "unknown"), [(1, 0.0), (5, 0.0), (5, 0.005)])
def test_a_long_history(clients: int, unknown: float) -> None:
    """Many operations on one key: neither a limit of recursion nor of the budget."""
    dice = random.Random(7)
    history = random_history(dice, 100_000, clients=clients, values=1 << 40, unknown=unknown, plain=True)
    check(history).raise_if_wrong()


def test_many_clients_write_at_once() -> None:
    history = random_history(random.Random(7), 3_000, clients=40, values=1 << 40, unknown=0.0, plain=True)
    check(history).raise_if_wrong()


def test_a_late_violation_in_a_long_history_is_found() -> None:
    lines: list[Line] = [("a", put(number), True, number, number + 0.5) for number in range(1, 20_000)]
    lines.append(("b", GET, 19_998, 20_000, 20_001))
    (violation,) = check(history_of(*lines)).violations
    assert violation.possible == (19_999,)
    assert [row.client for row in violation.window] == ["b"]


def hard_history() -> History:
    """Increments by 1, 2, 4, ... at once, and a read of a sum that they cannot make."""
    lines: list[Line] = [(f"c{bit}", Operation.incr("k", 2 << bit), None, 0, None) for bit in range(24)]
    return history_of(*lines, ("r", GET, (1 << 24) + 1, 1, 2))


def test_a_budget_ends_undecided() -> None:
    result = check(hard_history(), max_steps=1_000)
    assert (result.violations, result.undecided) == ((), ("k",))
    with pytest.raises(Undecided, match=r"1 of 1 keys took more than the budget: 'k'\. Raise max_steps"):
        result.raise_if_wrong()


def test_a_violation_counts_more_than_an_undecided_key() -> None:
    history = hard_history()
    history.end(history.begin("a", Operation.get("other"), 5.0), 1, 6.0)
    result = check(history, max_steps=1_000)
    assert result.undecided == ("k",)
    with pytest.raises(ConsistencyViolation, match="1 of 2 keys are not linearizable"):
        result.raise_if_wrong()


# -- what people are told ---------------------------------------------------------------------------------------


def test_the_message() -> None:
    history = history_of(
        ("ada", put(1), True, 0, 1),
        ("ada", put(2), True, 2, 3),
        ("eve", put(7), None, 2, None),
        ("bob", put(3), True, 4, 8),
        ("cyd", GET, 1, 5, 6),
        ("ada", GET, 3, 9, 10),
    )
    with pytest.raises(ConsistencyViolation) as caught:
        check(history).raise_if_wrong()
    assert str(caught.value).splitlines() == [
        "1 of 1 keys are not linearizable (6 operations)",
        "key 'k': no order of its operations explains 5.000000 to 6.000000  cyd: get -> 1",
        "  before that, at last:",
        "    0.000000 to 1.000000  ada: set 1 -> True",
        "    2.000000 to 3.000000  ada: set 2 -> True",
        "  so the key could hold: 2; then:",
        "    4.000000 to 8.000000  bob: set 3 -> True",
        "    5.000000 to 6.000000  cyd: get -> 1",
        "  and of these writes nobody knows the outcome:",
        "    2.000000 to open  eve: set 7",
    ]


def test_the_message_says_all_that_the_key_could_hold() -> None:
    history = history_of(("a", put(1), True, 0, 5), ("b", put(2), True, 0, 5), ("c", GET, None, 6, 7))
    (violation,) = check(history).violations
    assert set(violation.possible) == {1, 2}
    assert violation.culprit.client == "c"
