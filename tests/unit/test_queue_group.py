"""One consumer group by example: order, failures, leases that end, lanes, what a late ACK gets."""

import pytest

from gimmal.store.queues import group as group_module
from gimmal.store.queues.group import backoff_ms
from gimmal.wire import limits
from gimmal.wire import queue_commands as codes
from tests.unit.queue_partition import ADA, BOB, DEFAULT, DONE, QUEUE, STALE, QueuePartition


@pytest.fixture
def queue() -> QueuePartition:
    return QueuePartition()


# -- order ---------------------------------------------------------


def test_messages_are_given_away_in_the_order_in_which_they_came(queue: QueuePartition) -> None:
    assert queue.produce(b"a", b"b", b"c") == [1, 2, 3]
    assert queue.grant(2) == [1, 2]
    assert queue.grant(2, BOB) == [3]
    assert queue.grant(2, BOB) == []


def test_what_comes_back_is_given_away_before_what_is_younger(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c")
    assert queue.grant(2) == [1, 2]
    queue.release(2, 1)
    assert queue.grant(3) == [1, 2, 3]


def test_a_consume_that_is_sent_twice_gets_the_same_messages(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c")
    assert queue.grant(2) == [1, 2]
    token = queue.seq
    queue.request -= 1
    assert queue.grant(2) == [1, 2]
    assert queue.granted == ((2, token), (3, token)), "under the token of the first time"
    assert queue.stats()["in_progress"] == 2
    assert queue.ack(1, 2, token=token) == [DONE, DONE]


def test_requests_of_two_clients_may_have_one_number(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b")
    assert queue.grant(1, ADA) == [1]
    queue.request -= 1
    assert queue.grant(1, BOB) == [2]


def test_a_grant_ends_when_it_has_bytes_enough(queue: QueuePartition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRANT_BYTES_MAX", 10)
    queue.produce(bytes(6), bytes(6), bytes(6))
    assert queue.grant(3) == [1, 2]
    assert queue.grant(3) == [3]


# -- delays ---------------------------------------------------------


def test_a_delayed_message_is_ready_at_its_millisecond(queue: QueuePartition) -> None:
    queue.produce(b"a", delay=50)
    queue.now_ms += 49
    assert queue.grant() == []
    assert queue.stats()["delayed"] == 1
    queue.now_ms += 1
    assert queue.stats() | {"pending": 1, "delayed": 0} == queue.stats(), "also before anybody asks for it"
    assert queue.grant() == [1]


def test_a_grant_lets_in_no_more_of_what_is_due_than_it_asks_for(queue: QueuePartition) -> None:
    """However many are due at once, an entry is carried out in a time of its own size."""
    queue.produce(*[b"a"] * 500, delay=50)
    queue.now_ms += 50
    assert queue.grant(3) == [1, 2, 3]
    assert len(queue.group.delayed) == 497
    assert queue.stats()["pending"] == queue.group.ready_count + queue.group.due_count(queue.now_ms) == 497
    assert queue.group.due_count(queue.now_ms, 5) == 5


# -- failures ---------------------------------------------------------


def test_three_counted_failures_make_a_dead_letter(queue: QueuePartition) -> None:
    queue.produce(b"a")
    for attempt in (1, 2, 3):
        assert queue.stats()["dead_letter"] == 0
        queue.now_ms += 400_000
        assert queue.grant() == [1], attempt
        assert queue.nack(1) == [DONE]
    queue.now_ms += 400_000
    assert queue.grant() == []
    assert queue.stats() | {"pending": 0, "dead_letter": 1, "redelivered": 2, "completed": 0} == queue.stats()


@pytest.mark.parametrize("max_retries", [0, 1])
def test_without_retries_the_first_failure_is_the_last(max_retries: int) -> None:
    queue = QueuePartition(max_retries)
    queue.produce(b"a")
    queue.grant()
    queue.nack(1)
    assert queue.stats()["dead_letter"] == 1


def test_a_nack_a_lease_that_ran_out_and_a_vanished_client_count_alike(queue: QueuePartition) -> None:
    queue.produce(b"a")
    for cause in ("nack", "lease", "vanished"):
        queue.now_ms += 400_000
        assert queue.grant() == [1]
        if cause == "nack":
            assert queue.nack(1) == [DONE]
        else:
            assert (queue.lease_end(1) if cause == "lease" else queue.vanish(ADA, is_counted=True)) == 1
    ((_, _, _, attempts, retries, failures),) = queue.letters()
    assert (attempts, retries) == (3, 3)
    assert [cause for _, cause, _, _ in failures] == ["nack", "lease", "vanished"]
    assert {consumer for consumer, _, _, _ in failures} == {b"Ada"}


def test_a_nack_that_does_not_requeue_is_the_last_failure(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    assert queue.nack(1, requeue=False) == [DONE]
    ((number, payload, created_ms, attempts, retries, failures),) = queue.letters()
    assert (number, payload, created_ms, attempts, retries) == (2, b"a", 1_000, 1, 1)
    assert failures == ((b"Ada", "rejected", b"no", 1_000),)


def test_a_nack_may_say_when_the_message_comes_back(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    queue.nack(1, delay=7)
    assert queue.group.next_due_ms == queue.now_ms + 7
    queue.now_ms += 7
    assert queue.grant() == [1]
    queue.nack(1, delay=0)
    assert queue.grant() == [1], "0: at once"


def test_a_failure_delays_by_its_backoff(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    queue.lease_end(1)
    assert queue.group.next_due_ms == queue.now_ms + backoff_ms(500, 300_000, 1, 2)
    assert queue.stats()["delayed"] == 1


def test_a_backoff_doubles_and_is_capped() -> None:
    for retries in range(1, 8):
        whole = 500 * 2 ** (retries - 1)
        assert whole // 2 <= backoff_ms(500, 300_000, retries, 7) <= whole
    assert 150_000 <= backoff_ms(500, 300_000, 30, 7) <= 300_000
    assert 150_000 <= backoff_ms(500, 300_000, 1_000_000, 7) <= 300_000
    assert backoff_ms(0, 300_000, 5, 7) == backoff_ms(500, 0, 5, 7) == 0


def test_a_jitter_is_a_messages_own_and_the_same_everywhere() -> None:
    pauses = [backoff_ms(10_000, 300_000, 1, number) for number in range(200)]
    assert len(set(pauses)) > 150
    for first in range(0, 200, 10):
        some = pauses[first : first + 10]
        assert max(some) - min(some) > 2_000, "neighbours fail together, and do not come back together"
    assert pauses[:3] == [9_716, 9_355, 6_226], "by nothing that differs between processes"
    assert backoff_ms(10_000, 10_000, 1, 5) != backoff_ms(10_000, 10_000, 2, 5)


def test_the_first_failure_and_the_newest_are_kept() -> None:
    queue = QueuePartition(100, None, 0)
    queue.produce(b"a")
    for _ in range(limits.FAILURES_MAX + 3):
        queue.now_ms += 1
        queue.grant()
        queue.nack(1)
    failures = queue.group.deliveries[2].failures
    assert [failure.at_ms for failure in failures] == [1_001, *range(1_005, 1_012)]
    assert queue.group.deliveries[2].retries == limits.FAILURES_MAX + 3


# -- neither counted nor delayed ---------------------------------------------------------


def test_what_is_released_neither_counts_nor_waits(queue: QueuePartition) -> None:
    queue.produce(b"a")
    for _ in range(10):
        assert queue.grant() == [1]
        assert queue.release(1) == [DONE]
    assert queue.group.deliveries[2].retries == 0
    assert queue.group.deliveries[2].attempts == 10
    assert queue.stats()["redelivered"] == 9


def test_a_failover_neither_counts_nor_delays(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c")
    queue.grant(2, ADA)
    queue.grant(1, BOB)
    assert queue.vanish(ADA, is_counted=False) == 2
    assert queue.grant(5, BOB) == [1, 2]
    assert [queue.group.deliveries[number].retries for number in (2, 3, 4)] == [0, 0, 0]


def test_only_what_is_in_flight_with_that_client_vanishes(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b")
    queue.grant(1, ADA)
    queue.grant(1, BOB)
    assert queue.vanish(BOB, is_counted=True) == 1
    assert queue.vanish(BOB, is_counted=True) == 0
    assert list(queue.group.held) == [2]


def test_a_consume_that_gave_up_gives_back_what_it_got(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c")
    queue.grant(1)
    queue.grant(2)
    assert queue.apply(codes.GIVE_BACK, QUEUE, DEFAULT, ADA[0], queue.request) == 2
    assert queue.apply(codes.GIVE_BACK, QUEUE, DEFAULT, ADA[0], queue.request) == 0
    assert queue.grant(5) == [2, 3]


# -- late and stale ---------------------------------------------------------


def test_what_was_acknowledged_is_never_given_away_again(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    assert queue.ack(1) == [DONE]
    queue.now_ms += 10**6
    assert queue.grant() == []
    assert queue.stats()["completed"] == 1


def test_an_ack_may_be_sent_twice(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    token = queue.seq
    assert queue.ack(1, 1, token=token) == [DONE, DONE]
    assert queue.ack(1, token=token) == [DONE]
    assert queue.stats()["completed"] == 1


@pytest.mark.parametrize("delay", [0, 50])
def test_a_late_ack_counts_while_nobody_else_has_the_message(queue: QueuePartition, delay: int) -> None:
    queue.produce(b"a", b"b")
    queue.grant()
    token = queue.seq
    queue.nack(1, delay=delay)
    assert queue.ack(1, token=token) == [DONE]
    queue.now_ms += 1_000
    assert queue.grant(5) == [2]
    assert queue.stats()["completed"] == 1


def test_an_ack_is_stale_once_the_message_was_given_to_another(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant(1, ADA)
    token = queue.seq
    queue.release(1)
    queue.grant(1, BOB)
    assert queue.ack(1, token=token) == [STALE]
    assert queue.stats()["in_progress"] == 1
    assert queue.ack(1, token=queue.seq - 1) == [DONE]
    assert queue.ack(1, token=token) == [STALE], "also when the other one has settled it"


def test_an_ack_is_stale_once_the_message_is_dead_was_purged_or_redriven(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b")
    queue.grant(2)
    token = queue.seq
    queue.nack(1, 2, requeue=False)
    assert queue.ack(1, token=token) == [STALE]
    assert queue.purge(1) == 1
    assert queue.ack(1, token=token) == [STALE]
    assert queue.redrive() == 1
    assert queue.ack(2, token=token) == [STALE], "it is ready again, as if it were new"
    assert queue.grant() == [2]
    assert queue.ack(2, token=token) == [STALE]
    assert queue.ack(2, token=queue.seq - 1) == [DONE]
    assert queue.ack(2, token=token) == [STALE], "also when it was given away only once since"


def test_only_what_is_in_flight_can_fail_be_released_or_extended(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    token = queue.seq
    assert queue.release(1, 1) == [DONE, STALE]
    for again in (queue.nack(1, token=token), queue.release(1, token=token)):
        assert again == [STALE]
    assert queue.apply(codes.EXTEND, QUEUE, DEFAULT, ((2, token),), 9) == (STALE,)
    assert queue.lease_end(1, token=token) == 0


def test_an_extended_lease_is_part_of_the_state(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    before = queue.engine.digest()
    assert queue.apply(codes.EXTEND, QUEUE, DEFAULT, ((2, queue.seq),), 9_000) == (DONE,)
    assert queue.group.held[2].lease_ms == 9_000
    assert queue.engine.digest() != before


def test_tokens_only_grow(queue: QueuePartition) -> None:
    queue.produce(b"a")
    tokens = []
    for _ in range(3):
        queue.grant()
        tokens.append(queue.group.held[2].token)
        queue.release(1)
    assert tokens == sorted(set(tokens))


def test_so_many_last_tokens_are_kept(queue: QueuePartition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "FINISHED_MAX", 2)
    queue.produce(b"a", b"b", b"c")
    for _ in range(2):
        queue.grant(3)
        queue.release(1, 2, 3)
    queue.grant(3)
    assert queue.ack(1, 2, 3) == [DONE] * 3
    assert list(queue.group.finished) == [3, 4]


@pytest.mark.parametrize("delay", [0, 10**9])
def test_what_was_settled_late_does_not_pile_up(queue: QueuePartition, delay: int) -> None:
    queue.produce(b"first", delay=1)
    for _ in range(300):
        (number,) = queue.produce(b"a")
        assert queue.grant() == [number]
        token = queue.seq
        queue.nack(number, delay=delay)
        assert queue.ack(number, token=token) == [DONE]
    group = queue.group
    assert len(group.returned) + len(group.delayed) + len(group.taken_back) < 10
    assert group.next_due_ms == 1_001


def test_when_the_next_message_is_due_is_not_said_of_one_that_was_settled(queue: QueuePartition) -> None:
    """Else a leader would wait for it, and nobody would be told of those that are due later."""
    queue.produce(b"a", b"b", b"c")
    queue.grant(3)
    token = queue.seq
    for number, delay in ((1, 5), (2, 50), (3, 60)):
        queue.nack(number, token=token, delay=delay)
    queue.ack(1, token=token)
    assert queue.group.next_due_ms == queue.now_ms + 50


def test_the_oldest_age_is_that_of_what_waits(queue: QueuePartition) -> None:
    assert queue.stats()["oldest_age"] == 0
    queue.produce(b"a", key=b"k")
    queue.now_ms += 10
    queue.produce(b"b", key=b"k")
    queue.now_ms += 10
    queue.produce(b"c", delay=500)
    assert queue.stats()["oldest_age"] == 20
    queue.grant()
    assert queue.stats()["oldest_age"] == 10, "in its lane"
    queue.ack(1)
    queue.grant()
    assert queue.stats()["oldest_age"] == 0, "what is delayed does not wait"
    queue.now_ms += 500
    assert queue.stats()["oldest_age"] == 500


# -- lanes ---------------------------------------------------------


def test_messages_with_a_group_key_come_one_at_a_time(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", key=b"k")
    queue.produce(b"c", key=b"other")
    queue.produce(b"d")
    assert queue.grant(9) == [1, 3, 4]
    assert queue.stats()["pending"] == 1
    assert queue.ack(1) == [DONE]
    assert queue.grant(9) == [2]


def test_a_lane_waits_for_its_first_message_while_that_is_retried(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", key=b"k")
    queue.grant()
    queue.nack(1)
    assert queue.grant(9) == []
    queue.now_ms += 1_000
    assert queue.grant(9) == [1]
    queue.release(1)
    assert queue.grant(9) == [1]


def test_a_lane_goes_on_when_its_first_message_dies(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", key=b"k")
    queue.grant()
    queue.nack(1, requeue=False)
    assert queue.grant(9) == [2]


def test_a_lane_goes_on_after_a_late_ack(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", key=b"k")
    queue.grant()
    token = queue.seq
    queue.lease_end(1)
    assert queue.ack(1, token=token) == [DONE]
    assert queue.grant(9) == [2]


def test_a_lane_waits_for_a_first_message_that_is_delayed(queue: QueuePartition) -> None:
    queue.produce(b"a", key=b"k", delay=50)
    queue.produce(b"b", key=b"k")
    queue.produce(b"c", key=b"k", delay=500)
    assert queue.grant(9) == []
    queue.now_ms += 50
    assert queue.grant(9) == [1]
    queue.ack(1)
    assert queue.grant(9) == [2]
    queue.ack(2)
    assert queue.grant(9) == [], "its own delay is not over"
    queue.now_ms += 450
    assert queue.grant(9) == [3]


def test_a_lane_that_is_empty_is_forgotten(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", key=b"k")
    for number in (1, 2):
        queue.grant()
        queue.ack(number)
    assert queue.group.lanes == {}
    assert queue.group.waiting_in_lanes == 0


def test_a_redriven_message_goes_to_the_end_of_its_lane(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c", key=b"k")
    queue.grant()
    queue.nack(1, requeue=False)
    queue.redrive()
    for number in (2, 3, 1):
        assert queue.grant(9) == [number]
        queue.ack(number)


# -- dead letters ---------------------------------------------------------


def test_what_is_redriven_has_all_its_retries_again(queue: QueuePartition) -> None:
    queue.produce(b"a")
    queue.grant()
    queue.nack(1, requeue=False)
    assert queue.redrive() == 1
    assert queue.letters() == ()
    for _ in range(3):
        queue.now_ms += 400_000
        assert queue.grant() == [1]
        queue.nack(1)
    ((_, _, _, attempts, retries, failures),) = queue.letters()
    assert (retries, len(failures)) == (3, 3), "the failure before is forgotten"
    assert attempts == 4, "that it was given away is not"


def test_dead_letters_go_oldest_first(queue: QueuePartition) -> None:
    queue.produce(b"a", b"b", b"c")
    queue.grant(3)
    queue.nack(2, 1, 3, requeue=False)
    assert [letter[0] - 1 for letter in queue.letters()] == [2, 1, 3]
    assert queue.redrive(1) == 1
    assert queue.purge(1) == 1
    assert [letter[0] - 1 for letter in queue.letters()] == [3]
    assert queue.grant(3) == [2]
    assert (queue.purge(), queue.purge(), queue.redrive()) == (1, 0, 0)
