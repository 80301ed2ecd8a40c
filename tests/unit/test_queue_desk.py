"""Consumers at the node that leads a queue: who waits, who gets, and what comes back by itself."""

import pytest

from gimmal.wire import limits
from gimmal.wire import queue_commands as q
from gimmal.wire.messages import Refusal
from tests.unit.owned_queue import ANNA, BEN, NOTHING, SHARD, OwnedQueue


@pytest.fixture
def queue() -> OwnedQueue:
    return OwnedQueue()


def test_a_consumer_gets_what_is_there(queue: OwnedQueue) -> None:
    queue.produce(b"one", b"two")
    assert queue.got(queue.consume()) == [b"one"]
    assert queue.got(queue.consume(most=5)) == [b"two"]
    assert queue.stats()["in_progress"] == 2


def test_a_consumer_waits_for_what_comes(queue: OwnedQueue) -> None:
    waiting = queue.consume()
    assert queue.got(waiting) == NOTHING
    queue.produce(b"late")
    assert queue.got(waiting) == [b"late"]


def test_a_consumer_that_waited_in_vain_is_told_so(queue: OwnedQueue) -> None:
    waiting = queue.consume(wait_ms=2_000)
    queue.wait(1.75, ANNA)
    assert queue.got(waiting) == NOTHING
    queue.wait(0.5, ANNA)
    assert queue.got(waiting) == []
    queue.produce(b"later")
    assert queue.stats()["pending"] == 1


def test_who_does_not_want_to_wait_hears_at_once(queue: OwnedQueue) -> None:
    assert queue.got(queue.consume(wait_ms=0)) == []


@pytest.mark.parametrize("names", [("n1",), ("n1", "n2", "n3")])
def test_waiting_consumers_are_served_in_turn_and_nobody_else_is_woken(names: tuple[str, ...]) -> None:
    queue = OwnedQueue(*names)
    first, second, third = queue.consume(), queue.consume(BEN), queue.consume()
    grants = queue.planes[queue.leader].counters[q.NAMES[q.GRANT]]
    queue.produce(b"one", b"two")
    assert [queue.got(number) for number in (first, second, third)] == [[b"one"], [b"two"], NOTHING]
    assert queue.planes[queue.leader].counters[q.NAMES[q.GRANT]] == grants + 2


def test_many_messages_are_shared_out(queue: OwnedQueue) -> None:
    first, second = queue.consume(most=2), queue.consume(BEN, most=2)
    queue.produce(b"one", b"two", b"three")
    assert [queue.got(first), queue.got(second)] == [[b"one", b"two"], [b"three"]]


def test_a_consume_that_is_sent_twice_gets_the_same_and_waits_once(queue: OwnedQueue) -> None:
    queue.produce(b"one", b"two")
    assert queue.got(queue.consume(request=77)) == [b"one"]
    assert queue.got(queue.consume(request=77)) == [b"one"]
    last = queue.consume(request=78)
    waiting, again = queue.consume(request=79), queue.consume(request=79)
    queue.produce(b"three", b"four")
    assert [queue.got(last), queue.got(waiting), queue.got(again)] == [[b"two"], NOTHING, [b"three"]]
    assert queue.stats()["pending"] == 1


def test_a_consume_that_is_given_up_gets_nothing(queue: OwnedQueue) -> None:
    waiting = queue.consume(request=7)
    assert queue.ask(q.CANCEL, b"default", ANNA, 7) == 0
    queue.produce(b"one")
    assert queue.got(waiting) == NOTHING
    assert queue.stats()["pending"] == 1


def test_what_a_given_up_consume_was_given_goes_back_uncounted(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    queue.consume(request=7)
    assert queue.ask(q.CANCEL, b"default", ANNA, 7) == 1
    row = queue.rows(queue.consume(BEN))[0]
    assert (row[2], row[3]) == (2, 0)  # the second attempt, and no retry


def test_a_grant_that_comes_too_late_goes_back_uncounted(queue: OwnedQueue) -> None:
    planes = queue.planes
    queue.produce(b"one")
    planes.cuts |= {"n2", "n3"}
    number = queue.consume(wait_ms=1_000)
    planes.now += 7.0
    planes.cuts.clear()
    planes.adopt()
    queue.wait(2.0, ANNA)
    assert queue.got(number) == NOTHING
    stats = queue.stats()
    assert (stats["pending"], stats["in_progress"], stats["delayed"]) == (1, 0, 0)


def test_a_lease_ends_and_counts(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    given = queue.consume()
    queue.wait(29.5, ANNA)
    assert queue.stats()["in_progress"] == 1
    queue.wait(1.0, ANNA)
    assert queue.stats()["in_progress"] == 0
    queue.wait(1.0, ANNA)
    again = queue.consume(BEN)
    assert [(row[2], row[3]) for row in queue.rows(again)] == [(2, 1)]
    assert queue.ask(q.ACK, b"default", queue.deliveries(given)) == (q.Outcome.STALE,)
    assert queue.ask(q.ACK, b"default", queue.deliveries(again)) == (q.Outcome.DONE,)


def test_an_extended_lease_ends_later(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    given = queue.consume()
    queue.wait(25.0, ANNA)
    assert queue.ask(q.EXTEND, b"default", queue.deliveries(given), 60_000) == (q.Outcome.DONE,)
    queue.wait(50.0, ANNA)
    assert queue.stats()["in_progress"] == 1
    queue.wait(11.0, ANNA)
    assert queue.stats()["in_progress"] == 0


def test_a_lease_may_be_made_shorter(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    given = queue.consume()
    queue.ask(q.EXTEND, b"default", queue.deliveries(given), 1_000)
    queue.wait(1.5, ANNA)
    assert queue.stats()["in_progress"] == 0


def test_what_a_vanished_client_holds_goes_to_others_and_counts(queue: OwnedQueue) -> None:
    queue.produce(b"one", b"two")
    queue.consume(ANNA), queue.consume(BEN)
    waiting = queue.consume(BEN, wait_ms=60_000)
    queue.wait(4.5, BEN)
    assert queue.got(waiting) == NOTHING
    queue.wait(2.0, BEN)
    assert [(row[-1], row[2], row[3]) for row in queue.rows(waiting)] == [(b"one", 2, 1)]
    assert queue.stats()["in_progress"] == 2


def test_a_vanished_client_waits_for_nothing_any_more(queue: OwnedQueue) -> None:
    queue.consume(ANNA, wait_ms=60_000)
    queue.wait(6.5)
    queue.produce(b"one")
    assert queue.stats()["pending"] == 1


def test_a_delayed_message_wakes_who_waits(queue: OwnedQueue) -> None:
    queue.produce(b"soon", delay_ms=2_000)
    assert queue.stats()["delayed"] == 1
    waiting = queue.consume()
    queue.wait(1.5, ANNA)
    assert queue.got(waiting) == NOTHING
    queue.wait(1.0, ANNA)
    assert queue.got(waiting) == [b"soon"]


def test_a_failed_message_wakes_who_waits_when_its_pause_is_over(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    given = queue.consume()
    waiting = queue.consume()
    queue.ask(q.NACK, b"default", queue.deliveries(given), (True, None), b"no")
    assert queue.got(waiting) == NOTHING
    queue.wait(1.0, ANNA)
    assert queue.got(waiting) == [b"one"]


def test_consumers_keep_what_they_have_over_a_failover(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    given = queue.consume()
    queue.fail_over()
    queue.wait(20.0, ANNA)
    assert queue.stats()["in_progress"] == 1
    assert queue.ask(q.ACK, b"default", queue.deliveries(given)) == (q.Outcome.DONE,)
    assert queue.stats() == {**queue.stats(), "completed": 1, "redelivered": 0}


def test_leases_begin_anew_with_a_new_leader(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    queue.consume()
    queue.wait(20.0, ANNA)
    queue.fail_over()
    queue.wait(29.5, ANNA)
    assert queue.stats()["in_progress"] == 1
    queue.wait(1.0, ANNA)
    assert queue.stats()["in_progress"] == 0


def test_who_does_not_come_back_after_a_failover_loses_what_it_holds_uncounted(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    queue.consume(ANNA)
    queue.fail_over()
    waiting = queue.consume(BEN, wait_ms=60_000)
    queue.wait(limits.CLIENT_RETURN_S + 1.0, BEN)
    assert [(row[2], row[3]) for row in queue.rows(waiting)] == [(2, 0)]


def test_who_waits_when_a_leader_goes_is_sent_on(queue: OwnedQueue) -> None:
    planes = queue.planes
    waiting = queue.consume()
    planes.change(leader="n2")
    planes.adopt("n1")
    assert planes.answers[waiting] == Refusal.MOVED


def test_a_consume_that_was_granted_by_the_leader_before_gets_its_messages_from_the_new_one(queue: OwnedQueue) -> None:
    queue.produce(b"one")
    queue.consume(request=9)
    queue.fail_over()
    assert queue.got(queue.consume(request=9)) == [b"one"]
    assert queue.stats()["redelivered"] == 0


def test_while_too_few_copies_are_in_sync_who_waits_goes_on_waiting(queue: OwnedQueue) -> None:
    planes = queue.planes
    queue.produce(b"one")
    for plane in planes.planes.values():
        plane.on_lease(-1.0)
    everybody = planes.in_sync("n1", "n2", "n3")
    planes.change(in_sync=planes.in_sync("n1"))
    planes.adopt("n1")
    waiting = queue.consume(wait_ms=60_000)
    assert queue.got(waiting) == NOTHING
    planes.change(in_sync=everybody)
    planes.adopt()
    queue.wait(2.0, ANNA)
    assert queue.got(waiting) == [b"one"]


def test_a_queue_or_group_that_is_not_there_is_named(queue: OwnedQueue) -> None:
    other = (q.CONSUME, SHARD, b"nobody", (ANNA, b"w"), 1, (1, 0, 0))
    assert queue.planes.answered("n1", other) == [Refusal.NO_GROUP]
    assert queue.planes.answered("n1", (q.QUEUE_STATS, b"{nowhere/0}", b"default")) == [Refusal.NO_QUEUE]


def test_a_group_key_is_handled_one_at_a_time(queue: OwnedQueue) -> None:
    queue.produce(b"a1", b"a2", group_key=b"a")
    queue.produce(b"b1", group_key=b"b")
    first = queue.consume()
    others = queue.consume(BEN, most=5)
    waiting = queue.consume(BEN)
    assert [queue.got(first), queue.got(others), queue.got(waiting)] == [[b"a1"], [b"b1"], NOTHING]
    queue.ask(q.ACK, b"default", queue.deliveries(first))
    assert queue.got(waiting) == [b"a2"]
