"""The two ledgers."""

import pytest

from gimmal.errors import InvalidArgument
from gimmal.testing import ConsistencyViolation, CounterLedger, SetLedger


def ledger_of(*totals: int, open_count: int = 0, start: int = 0) -> CounterLedger:
    """Increments by 1, one after the other, that returned these totals."""
    ledger = CounterLedger(start)
    for time, total in enumerate(totals):
        ledger.acknowledge(total, time, time + 0.5)
    for _ in range(open_count):
        ledger.leave_open()
    return ledger


@pytest.mark.parametrize("final", [3, 4, 5])
def test_a_counter_may_have_what_is_unknown(final: int) -> None:
    result = ledger_of(1, 2, 3, open_count=2).check(final)
    result.raise_if_wrong()
    assert (result.least, result.most) == (3, 5)


def test_a_counter_starts_anywhere_and_steps_may_differ() -> None:
    ledger = CounterLedger(start=100)
    ledger.acknowledge(110, 0, 1, amount=10)
    ledger.leave_open(amount=5)
    ledger.acknowledge(117, 2, 3, amount=2)
    ledger.check(117).raise_if_wrong()


def test_lost_increments() -> None:
    result = ledger_of(1, 2, 3).check(1)
    assert result.lost == 2
    with pytest.raises(ConsistencyViolation, match=r"the counter is 1, .* from 3 to 3\n  lost increments: 2"):
        result.raise_if_wrong()


def test_increments_that_nobody_asked_for() -> None:
    assert ledger_of(1, 2, open_count=1).check(5).phantoms == 2


def test_a_total_returned_twice() -> None:
    result = ledger_of(1, 2, 2).check(3)
    assert (result.lost, result.phantoms, result.duplicates) == (0, 0, (2,))
    with pytest.raises(ConsistencyViolation, match="count the same step twice: 1: 2"):
        result.raise_if_wrong()


def test_steps_that_overlap() -> None:
    ledger = CounterLedger()
    ledger.acknowledge(5, 0, 9, amount=5)
    ledger.acknowledge(7, 0, 9, amount=3)
    assert ledger.check(8).duplicates == (7,)


@pytest.mark.parametrize("total", [0, 9])
def test_a_total_that_the_counter_never_had(total: int) -> None:
    assert ledger_of(total, open_count=3).check(2).impossible == (total,)


def test_totals_that_go_back() -> None:
    result = ledger_of(2, 1).check(2)
    assert result.backwards == ((2, 1),)
    with pytest.raises(ConsistencyViolation, match=r"later not exceeded: 1: \(2, 1\)"):
        result.raise_if_wrong()


def test_totals_of_increments_at_once_may_come_in_any_order() -> None:
    ledger = CounterLedger()
    ledger.acknowledge(2, 0, 5)
    ledger.acknowledge(1, 5, 6)
    ledger.check(2).raise_if_wrong()


def test_a_counter_ledger_is_for_increments() -> None:
    with pytest.raises(InvalidArgument):
        CounterLedger().acknowledge(1, 0, 1, amount=0)
    with pytest.raises(InvalidArgument):
        CounterLedger().leave_open(amount=-1)


def test_a_set_is_right() -> None:
    ledger = SetLedger()
    ledger.acknowledge("a")
    ledger.leave_open("b")
    ledger.leave_open("c")
    ledger.refuse("d")
    ledger.check(["a", "b"]).raise_if_wrong()


def test_all_that_can_be_wrong_with_a_set() -> None:
    ledger = SetLedger()
    for element in "ab":
        ledger.acknowledge(element)
    ledger.refuse("c")
    result = ledger.check(["b", "b", "c", "d"])
    assert result.lost == ("a",)
    assert result.phantoms == ("d",)
    assert result.undead == ("c",)
    assert result.duplicates == ("b",)
    with pytest.raises(ConsistencyViolation) as caught:
        result.raise_if_wrong()
    assert str(caught.value).splitlines() == [
        "the set has 4 elements",
        "  acknowledged and not there: 1: 'a'",
        "  there and never written: 1: 'd'",
        "  there though refused: 1: 'c'",
        "  there more than once: 1: 'b'",
    ]


def test_the_best_answer_counts() -> None:
    ledger = SetLedger()
    ledger.refuse("a")
    ledger.leave_open("b")
    ledger.refuse("b")
    ledger.acknowledge("a")
    ledger.check(["a", "b"]).raise_if_wrong()


def test_a_long_list_is_cut() -> None:
    ledger = SetLedger()
    for number in range(100):
        ledger.acknowledge(number)
    with pytest.raises(ConsistencyViolation, match=r"not there: 100: 0, 1, 2, 3, 4, 5, 6, 7, and 92 more"):
        ledger.check([]).raise_if_wrong()
