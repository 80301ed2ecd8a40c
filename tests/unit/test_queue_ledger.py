"""The ledger of queues: what it finds, each by a history made up for it."""

import pytest

from gimmal import Message
from gimmal.testing import ConsistencyViolation, QueueLedger, QueueResult


def ledger_of(*elements: str, group_key: str | None = None) -> QueueLedger:
    """Messages that were produced, and no more; the id of `a` is `0-a`."""
    ledger = QueueLedger()
    for element in elements:
        ledger.produced(element, f"0-{element}", group_key)
    return ledger


def deliver(ledger: QueueLedger, element: str, token: int, consumer: str = "w1") -> None:
    ledger.delivered(element, f"0-{element}", token, consumer)


def settle(ledger: QueueLedger, element: str, token: int, consumer: str = "w1") -> None:
    deliver(ledger, element, token, consumer)
    ledger.acknowledged(element, token)


def faults_of(result: QueueResult) -> dict[str, object]:
    """Return what was found and is wrong, by its name."""
    counts = ("produced", "delivered", "acknowledged", "redelivered", "unexplained")
    found = {name: value for name, value in vars(result).items() if name not in counts and value}
    if found:
        with pytest.raises(ConsistencyViolation):
            result.raise_if_wrong()
    else:
        result.raise_if_wrong()
    return found


def test_a_queue_in_which_all_went_well_is_right() -> None:
    ledger = ledger_of("a", "b", "c", "d", "e")
    settle(ledger, "a", 3)
    deliver(ledger, "b", 3)
    settle(ledger, "b", 7, "w2")
    result = ledger.check(left=["c", "e"], dead=["d"])
    assert faults_of(result) == {}
    assert (result.produced, result.delivered, result.acknowledged, result.redelivered) == (5, 3, 2, 1)


def test_a_queue_of_which_nothing_is_known_is_right() -> None:
    assert faults_of(QueueLedger().check()) == {}


# --- lost


def test_a_message_that_nobody_got_is_lost() -> None:
    ledger = ledger_of("a", "b")
    settle(ledger, "b", 3)
    result = ledger.check()
    assert faults_of(result) == {"lost": ("a",)}
    with pytest.raises(ConsistencyViolation) as caught:
        result.raise_if_wrong()
    assert str(caught.value).splitlines() == [
        "2 messages were produced, 1 deliveries made, 1 settled",
        "  produced and lost: 1: 'a'",
    ]


def test_a_message_that_was_delivered_and_never_settled_is_lost() -> None:
    ledger = ledger_of("a")
    deliver(ledger, "a", 3)
    assert faults_of(ledger.check()) == {"lost": ("a",)}


def test_a_message_that_may_have_been_produced_is_not_lost() -> None:
    ledger = QueueLedger()
    ledger.leave_open("a")
    assert faults_of(ledger.check()) == {}


def test_a_message_that_came_out_has_been_produced_whatever_was_answered_and_can_be_lost() -> None:
    ledger = QueueLedger()
    ledger.leave_open("a")
    deliver(ledger, "a", 3)
    assert faults_of(ledger.check()) == {"lost": ("a",)}


def test_a_message_that_may_have_been_acknowledged_is_not_lost() -> None:
    ledger = ledger_of("a")
    deliver(ledger, "a", 3)
    ledger.leave_ack_open("a")
    assert faults_of(ledger.check()) == {}


# --- made up


def test_a_message_that_nobody_produced_is_a_phantom() -> None:
    ledger = QueueLedger()
    settle(ledger, "a", 3)
    assert faults_of(ledger.check(left=["b"], dead=["c"])) == {"phantoms": ("a", "b", "c")}


def test_a_message_that_was_refused_and_comes_out_is_undead() -> None:
    ledger = QueueLedger()
    for element in ("a", "b"):
        ledger.refuse(element)
    settle(ledger, "a", 3)
    assert faults_of(ledger.check(dead=["b"])) == {"undead": ("a", "b")}


def test_the_best_answer_to_a_producer_counts() -> None:
    ledger = ledger_of("a")
    ledger.refuse("a")
    ledger.leave_open("b")
    ledger.refuse("b")
    ledger.refuse("c")
    settle(ledger, "a", 3)
    settle(ledger, "b", 4)
    assert faults_of(ledger.check()) == {}


def test_a_message_with_two_ids_was_produced_twice() -> None:
    ledger = ledger_of("a", "b")
    settle(ledger, "a", 3)
    ledger.delivered("a", "0-99", 4, "w1")
    ledger.produced("b", "1-5")
    settle(ledger, "b", 5)
    assert faults_of(ledger.check())["twice"] == ("a", "b")


def test_an_answer_that_comes_twice_with_one_id_is_right() -> None:
    ledger = ledger_of("a", "a", group_key="lane")
    settle(ledger, "a", 3)
    assert faults_of(ledger.check()) == {}


# --- settled, and yet


def test_a_message_delivered_after_its_acknowledgement_is_noticed() -> None:
    ledger = ledger_of("a")
    settle(ledger, "a", 3)
    deliver(ledger, "a", 5, "w2")
    assert faults_of(ledger.check()) == {"after_ack": ("a",)}


@pytest.mark.parametrize("where", ["left", "dead"])
def test_a_message_that_is_there_after_its_acknowledgement_is_noticed(where: str) -> None:
    ledger = ledger_of("a")
    settle(ledger, "a", 3)
    assert faults_of(ledger.check(**{where: ["a"]})) == {"after_ack": ("a",)}


def test_an_acknowledgement_of_which_nobody_knows_forbids_no_delivery() -> None:
    ledger = ledger_of("a")
    deliver(ledger, "a", 3)
    ledger.leave_ack_open("a")
    settle(ledger, "a", 5, "w2")
    assert faults_of(ledger.check()) == {}


def test_an_earlier_delivery_that_is_told_of_later_is_none_after_the_acknowledgement() -> None:
    ledger = ledger_of("a")
    settle(ledger, "a", 5, "w2")
    deliver(ledger, "a", 3)
    assert faults_of(ledger.check()) == {}


def test_one_delivery_that_two_consumers_got_is_noticed() -> None:
    ledger = ledger_of("a")
    settle(ledger, "a", 3)
    deliver(ledger, "a", 3, "w2")
    result = ledger.check()
    assert faults_of(result) == {"shared": ("a",)}
    assert (result.delivered, result.redelivered) == (1, 0)


def test_one_delivery_told_of_twice_is_one() -> None:
    ledger = ledger_of("a")
    settle(ledger, "a", 3)
    settle(ledger, "a", 3)
    result = ledger.check()
    assert faults_of(result) == {}
    assert result.delivered == 1


def test_two_acknowledgements_that_both_counted_are_noticed() -> None:
    ledger = ledger_of("a")
    settle(ledger, "a", 3)
    settle(ledger, "a", 5, "w2")
    assert faults_of(ledger.check()) == {"after_ack": ("a",), "acked_twice": ("a",)}


def test_an_acknowledgement_that_counted_though_another_consumer_has_the_message_is_noticed() -> None:
    ledger = ledger_of("a")
    deliver(ledger, "a", 3)
    settle(ledger, "a", 5, "w2")
    ledger.acknowledged("a", 3)
    assert faults_of(ledger.check()) == {"after_ack": ("a",), "acked_twice": ("a",)}


# --- order


def test_the_messages_of_a_group_key_come_one_after_the_other() -> None:
    ledger = ledger_of("a", "b", "c", group_key="lane")
    deliver(ledger, "a", 3)
    for token, element in enumerate("abc", 5):
        settle(ledger, element, token)
    assert faults_of(ledger.check()) == {}


def test_a_message_that_overtakes_another_one_of_its_group_key_is_noticed() -> None:
    ledger = ledger_of("a", "b", group_key="lane")
    deliver(ledger, "a", 3)
    settle(ledger, "b", 4)
    settle(ledger, "a", 5)
    assert faults_of(ledger.check()) == {"out_of_order": (("a", "b"),)}


def test_two_messages_of_a_group_key_in_one_delivery_are_noticed() -> None:
    ledger = ledger_of("a", "b", group_key="lane")
    settle(ledger, "a", 3)
    settle(ledger, "b", 3)
    assert faults_of(ledger.check()) == {"out_of_order": (("a", "b"),)}


def test_messages_of_two_group_keys_or_of_none_may_overtake_each_other() -> None:
    ledger = ledger_of("a", group_key="lane")
    ledger.produced("b", "0-b", "other lane")
    ledger.produced("c", "0-c")
    for token, element in enumerate("cba", 3):
        settle(ledger, element, token)
    assert faults_of(ledger.check()) == {}


def test_a_dead_letter_that_was_redriven_keeps_no_order() -> None:
    ledger = ledger_of("a", "b", group_key="lane")
    deliver(ledger, "a", 3)
    settle(ledger, "b", 4)
    ledger.redriven("a")
    settle(ledger, "a", 5)
    assert faults_of(ledger.check()) == {}


def test_a_message_that_is_dead_lets_the_next_one_of_its_group_key_come() -> None:
    ledger = ledger_of("a", "b", group_key="lane")
    deliver(ledger, "a", 3)
    settle(ledger, "b", 4)
    assert faults_of(ledger.check(dead=["a"])) == {}


# --- why messages come again


def test_a_message_that_comes_again_without_a_reason_is_told_and_no_fault() -> None:
    ledger = ledger_of("a")
    deliver(ledger, "a", 3)
    settle(ledger, "a", 5)
    result = ledger.check()
    assert faults_of(result) == {}
    assert (result.redelivered, result.unexplained) == (1, ("a",))


def test_each_delivery_but_the_last_needs_a_reason() -> None:
    ledger = ledger_of("a", "b")
    for element in "ab":
        deliver(ledger, element, 3)
        deliver(ledger, element, 5)
        settle(ledger, element, 7)
        ledger.came_back(element, 3)
    ledger.came_back("a", 5)
    result = ledger.check()
    assert faults_of(result) == {}
    assert (result.redelivered, result.unexplained) == (4, ("b",))


# --- messages


def test_a_message_that_was_never_consumed_has_no_token() -> None:
    assert Message("0-1", "payload", 0.0, 1, 0).token == 0
