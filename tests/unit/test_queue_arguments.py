"""What can be asked of queues: every rule about arguments, checked before anything is sent."""

import math
from typing import Any

import pytest

from gimmal import DeadLetter, Message, MessageStatus
from gimmal.client import producing
from gimmal.client.attendance import Attendance
from gimmal.client.calls import Survey
from gimmal.client.consuming import wish_of
from gimmal.client.queue_arguments import (
    count_of,
    delay_to_ms,
    lease_to_ms,
    name_bytes,
    place_of,
    reason_bytes,
    settings_of,
    wait_seconds,
)
from gimmal.client.queue_types import Receipt
from gimmal.client.steps import Budget, Stopper
from gimmal.client.values import Values
from gimmal.client.workers import Renewals, Work, what_follows
from gimmal.errors import InvalidArgument, TooLarge
from gimmal.wire import limits
from gimmal.wire import queue_commands as wire

NONE = (None, None, None)
CLIENT = b"c" * 16


# -- names and places


@pytest.mark.parametrize(
    ("name", "shard", "key"),
    [
        ("tasks", 0, b"{tasks/0}"),
        ("tasks", 12, b"{tasks/12}"),
        (b"\xff", 1, b"{\xff/1}"),
        ("jobs{user7}", 0, b"jobs{user7}"),
        ("{}", 3, b"{{}/3}"),
        ("a{b", 0, b"{a{b/0}"),
        ("a}b", 0, b"{a}b/0}"),
        ("}{", 0, b"{}{/0}"),
    ],
)
def test_a_shard_is_placed_like_a_key(name: str | bytes, shard: int, key: bytes) -> None:
    assert place_of(name).key(shard) == key


@pytest.mark.parametrize("name", ["", b"", "x" * 257, "ä" * 129, "\ud800"])
def test_a_name_has_1_to_256_bytes_of_unicode(name: str | bytes) -> None:
    with pytest.raises(InvalidArgument):
        place_of(name)


@pytest.mark.parametrize("name", [1, None, ["q"], bytearray(b"q")])
def test_anything_else_is_no_name(name: Any) -> None:
    with pytest.raises(TypeError):
        place_of(name)
    with pytest.raises(TypeError):
        name_bytes("a group", name)


def test_a_queue_with_a_tag_has_one_shard() -> None:
    place = place_of("jobs{user7}")
    assert settings_of(place, (None, 1, None), NONE)[4] == 1
    assert settings_of(place, NONE, NONE)[4] is None
    with pytest.raises(InvalidArgument, match="needs shards=1"):
        settings_of(place, (None, 2, None), NONE)
    assert settings_of(place_of("a{}b"), (None, 2, None), NONE)[4] == 2


# -- settings and numbers


def test_settings_travel_in_milliseconds_and_none_stays_none() -> None:
    place = place_of("q")
    assert settings_of(place, NONE, NONE) == (None,) * 6
    assert settings_of(place, (0, 4, 10), (1.5, 0.0, 60)) == (0, 1_500, 0, 60_000, 4, 10)


@pytest.mark.parametrize(
    ("counts", "times"),
    [
        ((-1, None, None), NONE),
        ((1_000_001, None, None), NONE),
        ((None, 0, None), NONE),
        ((None, 1_025, None), NONE),
        ((None, None, 0), NONE),
        (NONE, (0, None, None)),
        (NONE, (-1.0, None, None)),
        (NONE, (math.nan, None, None)),
        (NONE, (12 * 3600 + 1, None, None)),
        (NONE, (None, -0.1, None)),
        (NONE, (None, None, math.inf)),
    ],
)
def test_a_setting_that_is_out_of_range_is_refused(counts: Any, times: Any) -> None:
    with pytest.raises(InvalidArgument):
        settings_of(place_of("q"), counts, times)


@pytest.mark.parametrize("wrong", ["3", 1.5, True, [3]])
def test_a_setting_of_the_wrong_type_is_a_type_error(wrong: Any) -> None:
    for counts in ((wrong, None, None), (None, wrong, None), (None, None, wrong)):
        with pytest.raises(TypeError):
            settings_of(place_of("q"), counts, NONE)
    if wrong != 1.5:
        for times in ((wrong, None, None), (None, wrong, None), (None, None, wrong)):
            with pytest.raises(TypeError):
                settings_of(place_of("q"), NONE, times)


def test_times_are_rounded_up_to_milliseconds() -> None:
    assert (delay_to_ms(0), delay_to_ms(0.0001), delay_to_ms(2.5)) == (0, 1, 2_500)
    assert (lease_to_ms(0.0001), lease_to_ms(30)) == (1, 30_000)
    for wrong in (-0.1, math.nan):
        with pytest.raises(InvalidArgument):
            delay_to_ms(wrong)
    with pytest.raises(InvalidArgument):
        lease_to_ms(0)


def test_a_wait_may_be_nothing_or_for_ever() -> None:
    assert (wait_seconds(0), wait_seconds(2), wait_seconds(1e9), wait_seconds(math.inf)) == (0, 2, 1e9, math.inf)
    for wrong in (-1, math.nan, -math.inf):
        with pytest.raises(InvalidArgument):
            wait_seconds(wrong)
    no_number: Any
    for no_number in (None, "5", True):
        with pytest.raises(TypeError):
            wait_seconds(no_number)


def test_a_count_is_an_int_from_1_on() -> None:
    assert count_of("n", 1) == 1
    for wrong in (0, -1, 2**63):
        with pytest.raises(InvalidArgument, match="n is from 1"):
            count_of("n", wrong)


@pytest.mark.parametrize(
    ("reason", "size"), [("", 0), ("no", 2), ("x" * 2_000, 1_024), ("ä" * 1_000, 1_024), ("€" * 1_000, 1_023)]
)
def test_a_reason_is_cut_to_what_a_message_keeps(reason: str, size: int) -> None:
    cut = reason_bytes(reason)
    assert len(cut) == size
    assert reason.startswith(cut.decode())


def test_a_reason_may_hold_what_is_not_unicode() -> None:
    assert reason_bytes("a\ud800b") == b"a\\ud800b"
    no_text: Any = b"no"
    with pytest.raises(TypeError):
        reason_bytes(no_text)


# -- what is produced and consumed


def test_what_is_produced_is_checked_before_anything_is_sent() -> None:
    values = Values()
    assert producing.one(values, "a", 0.5, "g", b"d") == (500, (b"\xa1a", b"g", b"d"))
    assert producing.many(values, ("a", 1), 0, None) == (0, [(b"\xa1a", b"", b""), (b"\x01", b"", b"")])
    with pytest.raises(TooLarge):
        producing.one(values, b"x" * limits.VALUE_BYTES_MAX, 0, None, None)
    with pytest.raises(TypeError):
        producing.one(values, object(), 0, None, None)
    with pytest.raises(InvalidArgument, match="delay"):
        producing.one(values, "a", -1, None, None)
    for empty in ("", b"", "x" * 1_025):
        with pytest.raises(InvalidArgument, match="group_key"):
            producing.one(values, "a", 0, empty, None)
        with pytest.raises(InvalidArgument, match="dedup_id"):
            producing.one(values, "a", 0, None, empty)
    one_payload: Any
    for one_payload in ("abc", b"abc", {"a": 1}):
        with pytest.raises(TypeError, match="several payloads"):
            producing.many(values, one_payload, 0, None)


def test_a_consumer_without_a_name_gets_that_of_its_client() -> None:
    at = Attendance(64, CLIENT)
    assert wish_of(at, None, "default", 1, 5.0, None) == (b"client-63636363", b"default", 1, 5.0, 0)
    assert wish_of(at, "me", "g", 10, 0, 2.5) == (b"me", b"g", 10, 0.0, 2_500)
    for wrong in (("", "g", 1, 0, None), ("me", "", 1, 0, None), ("me", "g", 0, 0, None), ("me", "g", 1, -1, None)):
        with pytest.raises(InvalidArgument):
            wish_of(at, *wrong)


def test_what_a_consumer_is_to_do_is_checked_when_it_is_made() -> None:
    work = Work("me", "g", 3, 2.0, pass_message=True)
    assert (work.concurrency, work.lease_ms, work.pass_message) == (3, 2_000, True)
    for wrong in (("", "g", 1, None), ("me", "", 1, None), ("me", "g", 0, None), ("me", "g", 1, 0.0)):
        with pytest.raises(InvalidArgument):
            Work(*wrong, pass_message=False)


# -- what users hold


def message(number: int, payload: Any = None, queue: bytes = b"q") -> Message:
    receipt = Receipt(queue, b"default", 0, number, 7)
    return Message(receipt.message_id, payload, 1.5, 1, 0, _receipt=receipt)


def test_messages_are_immutable_and_equal_by_their_ids() -> None:
    one = message(1, ["a"])
    assert one == message(1, ["b"])
    assert one != message(2, ["a"])
    assert {one: "x"}[message(1)] == "x"
    assert (one.status, one.created_at, one.attempts) == (MessageStatus.IN_PROGRESS, 1.5, 1)
    assert "receipt" not in repr(one)
    for name in ("id", "payload", "status"):
        with pytest.raises(AttributeError):
            setattr(one, name, 1)
    assert not hasattr(one, "__dict__")
    assert DeadLetter.__dataclass_fields__["status"].default is MessageStatus.FAILED


def test_a_status_is_its_text() -> None:
    assert [str(status) for status in MessageStatus] == ["pending", "in_progress", "completed", "failed"]
    assert MessageStatus("failed") is MessageStatus.FAILED


# -- attendance


def test_a_client_attends_where_it_holds_or_waits() -> None:
    woken: list[None] = []
    at = Attendance(64, CLIENT, lambda: woken.append(None))
    assert at.partitions() == frozenset()
    at.on_waiting([1, 2, 2])
    at.on_waited([2])
    assert at.partitions() == {1, 2}
    at.on_waited([1, 2])
    assert at.partitions() == frozenset()
    receipt = Receipt(b"q", b"default", 0, 5, 7)
    at.hold(receipt, b"{q/0}", 30.0)
    assert at.partitions() == {at.partition_of(b"{q/0}")}
    assert at.find(b"q", "0-5") == [receipt]
    at.let_go(receipt._replace(token=6))
    assert at.find(b"q", "0-5") == [receipt], "that was another delivery"
    at.let_go(receipt)
    at.let_go(receipt)
    assert (at.find(b"q", "0-5"), at.partitions()) == ([], frozenset())
    assert len(woken) == 2


def test_what_is_never_settled_is_forgotten_a_minute_after_its_lease() -> None:
    now = [0.0]
    at = Attendance(64, CLIENT, clock=lambda: now[0])
    first, second = Receipt(b"q", b"default", 0, 5, 7), Receipt(b"q", b"default", 0, 6, 7)
    at.hold(first, b"{q/0}", 30.0)
    now[0] = 89.0
    at.hold(second, b"{q/0}", 30.0)
    assert at.find(b"q", "0-5")
    now[0] = 100.0
    at.hold(second, b"{q/0}", 30.0)
    assert (at.find(b"q", "0-5"), at.find(b"q", "0-6")) == ([], [second])


def test_requests_are_numbered_from_1() -> None:
    at = Attendance(64, CLIENT)
    assert [at.next_request() for _ in range(3)] == [1, 2, 3]


# -- renewals, and how handlers end


def test_a_lease_is_renewed_at_a_third_of_it() -> None:
    renewals = Renewals(30.0)
    one, two = Receipt(b"q", b"g", 0, 1, 7), Receipt(b"q", b"g", 0, 2, 7)
    assert renewals.pause_s(0.0) == 10.0
    renewals.begin(one, 0.0)
    renewals.begin(two, 4.0)
    assert renewals.pause_s(5.0) == 5.0
    assert renewals.take_due(9.9) == []
    assert renewals.take_due(10.0) == [one]
    assert renewals.take_due(14.0) == [two]
    renewals.try_again([one], 15.0)
    assert renewals.take_due(15.0) == [one]
    renewals.end(one)
    renewals.try_again([one], 16.0)
    assert renewals.take_due(100.0) == [two]


def test_a_handler_that_returns_acks_and_one_that_raises_nacks() -> None:
    assert what_follows(None) == (wire.ACK, ())
    code, (wanted, reason) = what_follows(ValueError("no such user"))
    assert (code, wanted, reason) == (wire.NACK, (True, None), b"ValueError: no such user")
    assert what_follows(SystemExit(3))[1][1] == b"SystemExit: 3"


# -- steps


def test_a_budget_is_for_all_calls_or_for_each() -> None:
    waiting = Survey((), 7.0)
    assert Budget(5.0, is_for_each=True).timeout_of(waiting) == 12.0
    budget = Budget(5.0, is_for_each=False)
    assert 4.5 < budget.timeout_of(Survey(())) <= 5.0
    assert 0 < Budget(-1.0, is_for_each=False).timeout_of(Survey(())) < 0.01


def test_a_stopper_ends_the_call_that_is_under_way() -> None:
    stopper, ended = Stopper(), []
    stopper.stop()
    assert stopper.is_stopped
    call = Survey(())
    stopper.watch(call, lambda call, error: ended.append((call, str(error))))
    assert call.stopper is stopper
    stopper.stop()
    assert ended == [(call, "the consumer was stopped")]
