"""What clients were told is judged: each way in which a store could deceive them is noticed."""

from collections import Counter
from typing import Any

import pytest

from tests.sim.history import ADD, CLAIM, DELETE, DONE, READ, REFUSED, SET, UNKNOWN, History, Operation
from tests.sim.violation import Violation


class Story:
    """A history that is told operation by operation; each takes its own time unless it is begun and ended apart."""

    def __init__(self, key: str) -> None:
        self.counts: Counter[str] = Counter()
        self.history = History(self.counts)
        self.key = key
        self.now = 0.0

    def begin(self, kind: str, argument: Any = None) -> Operation:
        self.now += 1.0
        return self.history.begin("k1", kind, self.key, argument, self.now)

    def end(self, operation: Operation, result: Any = None, outcome: str = DONE) -> None:
        self.now += 1.0
        self.history.end(operation, outcome, result, self.now)

    def tell(self, kind: str, argument: Any = None, result: Any = None, outcome: str = DONE) -> None:
        self.end(self.begin(kind, argument), result, outcome)

    def at_end(self, value: Any) -> None:
        self.history.key(self.key).at_end(value)


def test_a_call_ends_once() -> None:
    story = Story("register:1")
    operation = story.begin(SET, "a")
    story.end(operation, True)
    with pytest.raises(Violation, match="a call ends once"):
        story.end(operation, True)


# -- counters -------------------------------------------------------------------------------------------------


def test_a_result_of_a_counter_that_comes_twice_is_noticed() -> None:
    story = Story("counter:1")
    one, other = story.begin(ADD, 1), story.begin(ADD, 1)
    story.end(one, 1)
    with pytest.raises(Violation, match="results of a counter differ"):
        story.end(other, 1)


def test_a_counter_that_goes_back_is_noticed() -> None:
    story = Story("counter:1")
    for result in (1, 2, 3):
        story.tell(ADD, 1, result)
    story.history.key(story.key).is_forgiven = True
    story.tell(ADD, 1, 2)
    story.history.key(story.key).is_forgiven = False
    with pytest.raises(Violation, match="counters rise"):
        story.tell(ADD, 7, 8)


def test_an_addition_that_is_done_twice_is_noticed() -> None:
    story = Story("counter:1")
    story.tell(ADD, 1, 1)
    story.tell(ADD, 1, outcome=REFUSED)
    with pytest.raises(Violation, match="counters count once"):
        story.tell(READ, result=2)


def test_the_value_of_a_counter_in_the_end_is_what_was_added() -> None:
    story = Story("counter:1")
    story.tell(ADD, 5, 5)
    story.tell(ADD, 1, outcome=UNKNOWN)
    story.tell(ADD, 10, outcome=REFUSED)
    story.at_end(5)
    story.at_end(6)
    for value in (4, 7, None):
        with pytest.raises(Violation, match="acknowledged additions count"):
            story.at_end(value)


# -- claims ---------------------------------------------------------------------------------------------------


def test_a_claim_that_two_have_won_is_noticed() -> None:
    story = Story("claim:1")
    story.tell(CLAIM, "a", True)
    with pytest.raises(Violation, match="a claim is for ever"):
        story.tell(CLAIM, "b", True)


def test_a_claim_that_was_lost_to_nobody_is_noticed() -> None:
    story = Story("claim:1")
    story.tell(CLAIM, "a", outcome=REFUSED)
    with pytest.raises(Violation, match="claims are lost to claims"):
        story.tell(CLAIM, "b", False)


def test_a_claim_that_was_lost_and_won_is_noticed() -> None:
    story = Story("claim:1")
    story.tell(CLAIM, "a", outcome=UNKNOWN)
    story.tell(CLAIM, "b", False)
    with pytest.raises(Violation, match="what is read was written"):
        story.tell(READ, result="b")


def test_a_claim_that_is_gone_in_the_end_is_noticed() -> None:
    story = Story("claim:1")
    story.tell(CLAIM, "a", True)
    story.at_end("a")
    with pytest.raises(Violation, match="a claim is for ever"):
        story.at_end(None)


# -- registers ------------------------------------------------------------------------------------------------


def test_a_value_that_nobody_wrote_is_noticed() -> None:
    with pytest.raises(Violation, match="what is read was written"):
        Story("register:1").tell(READ, result="a")


def test_a_write_that_was_refused_and_done_is_noticed_whichever_shows_first() -> None:
    story = Story("register:1")
    story.tell(SET, "a", outcome=REFUSED)
    with pytest.raises(Violation, match="what is read was written"):
        story.tell(READ, result="a")
    story = Story("register:1")
    write = story.begin(SET, "a")
    story.tell(READ, result="a")
    with pytest.raises(Violation, match="what is refused is not done"):
        story.end(write, outcome=REFUSED)


def test_a_value_that_was_replaced_is_stale() -> None:
    story = Story("register:1")
    story.tell(SET, "a")
    story.tell(SET, "b")
    story.tell(READ, result="b")
    with pytest.raises(Violation, match="no stale reads"):
        story.tell(READ, result="a")


def test_what_is_written_at_the_same_time_is_not_stale() -> None:
    story = Story("register:1")
    story.tell(SET, "a", outcome=UNKNOWN)
    one, other = story.begin(SET, "b"), story.begin(SET, "c")
    story.end(one)
    read = story.begin(READ)
    story.end(other)
    story.end(read, "b")
    for value in ("a", "b", "c"):
        story.tell(READ, result=value)


def test_an_absent_key_that_nobody_deleted_since_is_stale() -> None:
    story = Story("deleted:1")
    story.tell(SET, "a")
    story.tell(DELETE, outcome=UNKNOWN)
    story.tell(READ)
    story = Story("deleted:1")
    story.tell(DELETE)
    story.tell(SET, "a")
    with pytest.raises(Violation, match="no stale reads"):
        story.tell(READ)


def test_versions_are_of_one_value() -> None:
    story = Story("register:1")
    for value in ("a", "b"):
        story.begin(SET, value)
    one, other = story.begin(READ), story.begin(READ)
    one.version = other.version = 7
    story.end(one, "a")
    with pytest.raises(Violation, match="one version, one value"):
        story.end(other, "b")


def test_the_end_is_never_stale() -> None:
    story = Story("register:1")
    story.tell(SET, "a")
    story.tell(SET, "b")
    story.at_end("b")
    for value in ("a", None):
        with pytest.raises(Violation, match="no stale reads: everybody"):
            story.at_end(value)


def test_what_expires_may_be_gone_but_never_something_else() -> None:
    story = Story("fleeting:1")
    story.tell(SET, "a")
    story.tell(SET, "b")
    story.tell(READ)
    story.tell(READ, result="a")
    story.at_end(None)
    with pytest.raises(Violation, match="what is read was written"):
        story.tell(READ, result="c")


def test_a_lost_partition_owes_nothing_but_what_was_written_once() -> None:
    story = Story("counter:1")
    story.tell(ADD, 1, 1)
    story.history.forgive(lambda key: True)
    story.tell(ADD, 1, 1)
    story.at_end(None)
    assert story.history.key("counter:2").is_forgiven
