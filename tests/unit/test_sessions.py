"""Sessions by example: what a retry gets, what is too old, what is unknown, and the bounds."""

from typing import Any

import pytest

from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Refused
from gimmal.wire import commands, limits, queue_commands
from gimmal.wire.codec import pack_value
from gimmal.wire.messages import Refusal

INCR = (commands.INCR, b"k", 1)
TEXT = pack_value("text")


class Partition:
    """An engine whose entries number themselves; a client has a session and numbers of its own."""

    def __init__(self) -> None:
        self.footprint = Footprint()
        self.engine = Engine(self.footprint)
        self.seq = 0
        self.now_ms = 1_000

    def apply(self, *command: Any, session: int = 0, number: int = 0, floor: int = 0) -> Any:
        self.seq += 1
        return self.engine.apply(self.seq, (1, self.now_ms, session, number, floor, command))

    def open(self) -> int:
        session = self.apply(commands.OPEN_SESSION)
        assert session == self.seq
        return self.seq

    def incr(self, session: int, number: int, floor: int = 0) -> Any:
        return self.apply(*INCR, session=session, number=number, floor=floor)

    def open_sessions(self) -> list[int]:
        return list(self.engine.sessions.windows)


@pytest.fixture
def partition() -> Partition:
    return Partition()


def refusal_of(result: Any) -> Refusal:
    assert isinstance(result, Refused)
    assert result.text
    return result.refusal


def test_a_session_is_called_by_the_number_of_its_entry(partition: Partition) -> None:
    partition.seq = 41
    assert partition.open() == 42
    assert partition.open() == 43
    assert partition.footprint == Footprint(), "it is no entry of a user's, and counts as none"


def test_a_number_is_executed_once_and_answered_as_often_as_asked(partition: Partition) -> None:
    session = partition.open()
    assert [partition.incr(session, 1) for _ in range(3)] == [1, 1, 1]
    assert [partition.incr(session, number) for number in (2, 1, 2)] == [2, 1, 2]
    other = partition.open()
    assert partition.incr(other, 1) == 3, "numbers of one session mean nothing in another"


def test_a_command_without_a_session_is_executed_each_time(partition: Partition) -> None:
    assert [partition.apply(*INCR) for _ in range(2)] == [1, 2]
    assert partition.apply(commands.NOOP) is None


def test_the_truth_of_a_reply_is_kept(partition: Partition) -> None:
    session = partition.open()
    write = (commands.SET, b"k", TEXT, 0, commands.NX, None)
    assert partition.apply(*write, session=session, number=1) is True
    assert partition.apply(*write, session=session, number=2) is False
    assert partition.apply(*write, session=session, number=1) is True


def test_a_refused_command_has_a_reply_like_any_other(partition: Partition) -> None:
    session = partition.open()
    partition.apply(commands.SET, b"k", TEXT, 0, 0, None)
    refused = partition.incr(session, 1)
    assert refusal_of(refused) is Refusal.NOT_AN_INTEGER
    partition.apply(commands.DELETE, b"k")
    assert partition.incr(session, 1) == refused
    assert partition.incr(session, 2) == 1


def test_what_is_below_the_floor_is_never_executed(partition: Partition) -> None:
    session = partition.open()
    assert partition.incr(session, 5, floor=3) == 1
    assert partition.incr(session, 3, floor=3) == 2, "the floor itself is above it"
    assert refusal_of(partition.incr(session, 2, floor=2)) is Refusal.TOO_OLD
    assert partition.incr(session, 5, floor=5) == 1
    assert partition.incr(session, 6, floor=6) == 3
    assert refusal_of(partition.incr(session, 5, floor=5)) is Refusal.TOO_OLD, "answered, and confirmed since"
    assert partition.incr(session, 9) == 4, "a floor never goes back"
    assert refusal_of(partition.incr(session, 5)) is Refusal.TOO_OLD


def test_a_floor_beyond_its_own_number_still_executes_it_once(partition: Partition) -> None:
    """No client of ours does that; a hostile one harms nobody but itself."""
    session = partition.open()
    assert partition.incr(session, 5, floor=9) == 1
    assert refusal_of(partition.incr(session, 5, floor=9)) is Refusal.TOO_OLD
    assert partition.incr(session, 2**63 - 1, floor=2**63 - 1) == 2


@pytest.mark.parametrize("session", [1, 3, 2**63 - 1])
def test_a_session_that_is_not_there_executes_nothing(partition: Partition, session: int) -> None:
    partition.seq = 1
    partition.open()
    assert refusal_of(partition.incr(session, 1)) is Refusal.SESSION_EXPIRED
    assert partition.engine.keys.records == {}


def test_a_close_happens_only_if_nothing_was_done_since(partition: Partition) -> None:
    session = partition.open()
    assert partition.apply(commands.CLOSE_SESSION, session, 1) is False
    partition.incr(session, 4)
    partition.incr(session, 2)
    for seen in (0, 2, 5):
        assert partition.apply(commands.CLOSE_SESSION, session, seen) is False
    assert partition.apply(commands.CLOSE_SESSION, session, 4) is True
    assert partition.apply(commands.CLOSE_SESSION, session, 4) is False
    assert refusal_of(partition.incr(session, 4)) is Refusal.SESSION_EXPIRED
    unused = partition.open()
    assert partition.apply(commands.CLOSE_SESSION, unused, 0) is True


# -- bounds ---------------------------------------------------------


def test_a_full_window_executes_nothing_until_the_floor_rises(partition: Partition) -> None:
    session = partition.open()
    count = limits.SESSION_REPLIES_MAX
    for number in range(1, count + 1):
        assert partition.incr(session, number, floor=1) == number
    for _ in range(2):
        assert refusal_of(partition.incr(session, count + 1, floor=1)) is Refusal.OVERLOADED
    assert partition.incr(session, 7, floor=1) == 7, "what was answered still is"
    assert partition.incr(session, count + 1, floor=2) == count + 1, (
        "its own floor makes room for it, and is judged first"
    )
    assert refusal_of(partition.incr(session, count + 2, floor=2)) is Refusal.OVERLOADED
    assert refusal_of(partition.incr(session, count + 3, floor=2)) is Refusal.OVERLOADED
    assert partition.incr(session, count + 3, floor=100) == count + 2
    assert partition.apply(commands.CLOSE_SESSION, session, count + 3) is True


def test_the_number_at_the_floor_is_always_let_in(partition: Partition) -> None:
    """The first was lost, and the window is full of later ones: only the first can raise the floor."""
    session = partition.open()
    count = limits.SESSION_REPLIES_MAX
    for number in range(2, count + 2):
        partition.incr(session, number, floor=1)
    assert refusal_of(partition.incr(session, count + 2, floor=1)) is Refusal.OVERLOADED
    assert partition.incr(session, 1, floor=1) == count + 1
    assert refusal_of(partition.incr(session, count + 2, floor=1)) is Refusal.OVERLOADED
    assert partition.incr(session, 1, floor=1) == count + 1
    assert len(partition.engine.sessions.windows[session].replies) == count + 1


def test_a_list_of_numbers_counts_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_REPLY_BYTES_MAX", 2 * 9 * 10)
    partition = Partition()
    session = partition.open()
    partition.apply(queue_commands.DECLARE, b"q", (None,) * 6)
    produce = (queue_commands.PRODUCE, b"q", 0, ((b"p", b"", b""),) * 10)
    for number in (1, 2):
        assert len(partition.apply(*produce, session=session, number=number, floor=1)) == 10
    assert refusal_of(partition.apply(*produce, session=session, number=3, floor=1)) is Refusal.OVERLOADED
    assert len(partition.apply(*produce, session=session, number=3, floor=2)) == 10


def test_the_bytes_of_replies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition()
    session = partition.open()
    partition.apply(commands.SET, b"k", TEXT, 0, 0, None)
    length = len(partition.incr(session, 1).text)
    monkeypatch.setattr(limits, "SESSION_REPLY_BYTES_MAX", 3 * length)
    for number in (2, 3):
        assert refusal_of(partition.incr(session, number, floor=1)) is Refusal.NOT_AN_INTEGER
    assert refusal_of(partition.incr(session, 4, floor=1)) is Refusal.OVERLOADED
    assert refusal_of(partition.incr(session, 4, floor=2)) is Refusal.NOT_AN_INTEGER
    assert refusal_of(partition.incr(session, 5, floor=2)) is Refusal.OVERLOADED
    partition.apply(commands.DELETE, b"k")
    for number in range(6, 100):
        assert partition.incr(session, number, floor=number) == number - 5


def test_a_pipeline_keeps_no_more_than_twice_what_it_must(partition: Partition) -> None:
    session = partition.open()
    window = partition.engine.sessions.windows[session]
    for number in range(1, 2_000):
        partition.incr(session, number, floor=max(1, number - 19))
        assert len(window.replies) <= 2 * 20 + 8
    for number in range(2_000, 2_010):
        partition.incr(session, number, floor=number)
        assert len(window.replies) == 1


def test_one_session_too_many_drops_the_one_that_was_idle_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 3)
    partition = Partition()
    first, second, third = [partition.open() for _ in range(3)]
    partition.now_ms += 1
    partition.incr(first, 1)
    fourth = partition.open()
    assert partition.open_sessions() == [third, first, fourth]
    assert refusal_of(partition.incr(second, 1)) is Refusal.SESSION_EXPIRED
    partition.now_ms += 1
    partition.incr(third, 1)
    partition.now_ms += 1
    partition.incr(first, 1)  # asking again is life, too
    partition.open()
    assert partition.open_sessions() == [third, first, partition.seq]


def test_a_session_may_open_another_even_in_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 1)
    partition = Partition()
    session = partition.open()
    opened = partition.apply(commands.OPEN_SESSION, session=session, number=1)
    assert opened == partition.seq
    assert partition.open_sessions() == [opened]


def test_sessions_are_bounded() -> None:
    partition = Partition()
    for _ in range(limits.SESSIONS_MAX + 5):
        partition.open()
    assert partition.open_sessions() == list(range(6, limits.SESSIONS_MAX + 6))


def test_idle_sessions_come_with_what_closes_them(partition: Partition) -> None:
    first, second, third = [partition.open() for _ in range(3)]
    partition.now_ms += 100
    partition.incr(first, 7)
    partition.incr(third, 3)
    partition.now_ms += 100
    partition.incr(first, 8, floor=8)
    idle_since = partition.engine.sessions.idle_since
    assert list(idle_since(999)) == []
    assert list(idle_since(1_000)) == [(second, 0)]
    assert list(idle_since(1_199)) == [(second, 0), (third, 3)]
    for session, highest in [*idle_since(1_200)]:
        assert partition.apply(commands.CLOSE_SESSION, session, highest) is True
    assert partition.open_sessions() == []


def test_an_entry_that_would_execute_nothing_is_known_as_such(partition: Partition) -> None:
    session = partition.open()
    sessions = partition.engine.sessions
    assert not sessions.is_over(session, 3)
    partition.incr(session, 3, floor=3)
    assert [sessions.is_over(session, number) for number in (2, 3, 4)] == [True, True, False]
    assert sessions.is_over(session + 1, 4), "it has expired"
    assert not sessions.is_over(0, 4), "without a session everything is executed"
