"""What goes to one follower for all partitions: portions, credit, and what is sent again, and when."""

from itertools import count
from math import inf

import pytest

from gimmal.replication.progress import Progress
from gimmal.replication.replica import Replica
from gimmal.replication.stream import (
    CREDIT_BYTES,
    PORTION_BYTES,
    RESEND_AFTER_S,
    RETRY_AFTER_S,
    SLOW_AFTER_S,
    Stream,
)
from gimmal.replication.view import View
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation
from gimmal.wire import commands
from gimmal.wire.peer_messages import BLANK, Append, AppendAck

N1, N2 = Incarnation("n1", 1), Incarnation("n2", 22)


class Line:
    """Partitions that n1 leads, and its stream to n2. Each has its no-op to send."""

    def __init__(self, partitions: int = 1) -> None:
        self.stream = Stream(N2, count(1))
        self.replicas = [Replica(number, N1, Engine(Footprint())) for number in range(partitions)]
        for replica in self.replicas:
            replica.see(View(5, 1, N1, (N1, N2), (N1, N2), 2), lambda _: self.stream, 0)
            self.stream.offer(replica, self.progress(replica.partition))

    def progress(self, partition: int = 0) -> Progress:
        leading = self.replicas[partition].leading
        assert leading is not None
        return leading.followers[0]

    def write(self, value_bytes: int = 1, partition: int = 0, times: int = 1) -> None:
        replica = self.replicas[partition]
        for _ in range(times):
            replica.propose(None, (0, 0, 0), (commands.SET, b"k", bytes(value_bytes), 0, 0, None), 0)
        self.stream.offer(replica, self.progress(partition))

    def send(self, now: float = 0.0) -> list[Append]:
        return list(self.stream.messages(now, {}))

    def ack(self, append: Append, now: float = 0.0, refused: tuple[int, ...] = ()) -> list[tuple[int, int]]:
        """Acknowledge, and let the machines know; return (partition, how far)."""
        found = self.stream.on_ack(AppendAck(*BLANK, append.number, refused), now)
        for _, progress, seq in found:
            progress.on_acknowledged(seq)
        return [(replica.partition, seq) for replica, _, seq in found]


def begun(partitions: int = 1) -> Line:
    """What goes out with the epoch has been acknowledged."""
    line = Line(partitions)
    for append in line.send():
        line.ack(append)
    return line


def spans(appends: list[Append]) -> list[tuple[int, int]]:
    """(place before, number of entries) of each section."""
    return [(section[2], len(section[5])) for append in appends for section in append.sections]


# -- what is sent


def test_the_first_append_tells_where_to_align_and_brings_what_is_behind_it() -> None:
    (append,) = Line().send()
    noop = (5, 0, 0, 0, 0, (commands.NOOP,))
    assert append == Append(b"", 0, 22, 0, "", 1, ((0, 5, 0, 0),), ((0, 5, 0, 0, 0, (noop,)),))


def test_one_append_carries_all_partitions_of_a_turn() -> None:
    line = Line(100)
    (append,) = line.send()
    assert [section[0] for section in append.sections] == list(range(100))
    assert line.send() == []
    assert line.ack(append) == [(partition, 1) for partition in range(100)]
    line.write(partition=7)
    line.write(partition=70)
    (append,) = line.send()
    assert append.alignments == ()
    assert [section[0] for section in append.sections] == [7, 70]


def test_entries_go_ahead_of_the_acknowledgements() -> None:
    line = begun()
    sent = []
    for _ in range(3):
        line.write()
        sent += line.send()
    assert spans(sent) == [(1, 1), (2, 1), (3, 1)]
    assert [append.number for append in sent] == [2, 3, 4]
    assert [line.ack(append) for append in sent] == [[(0, 2)], [(0, 3)], [(0, 4)]]


def test_what_is_long_goes_in_portions() -> None:
    line = begun()
    line.write(PORTION_BYTES // 4, times=10)
    sent = line.send()
    assert spans(sent) == [(1, 3), (4, 3), (7, 3), (10, 1)]


def test_an_entry_larger_than_a_portion_goes_alone() -> None:
    line = begun()
    line.write()
    line.write(3 * PORTION_BYTES)
    line.write()
    assert spans(line.send()) == [(1, 1), (2, 1), (3, 1)]


def test_no_more_than_the_credit_is_on_the_way() -> None:
    line = begun()
    line.write(PORTION_BYTES // 2, times=100)
    sent = line.send()
    size_bytes = sum(line.replicas[0].log.sizes[1 : line.progress().next - 1])
    assert CREDIT_BYTES <= size_bytes < CREDIT_BYTES + 2 * PORTION_BYTES
    assert line.send() == []
    line.ack(sent[0])
    assert len(line.send()) == 1
    for append in sent[1:]:
        line.ack(append)
    assert len(sent) + 1 + len(line.send()) == 100


def test_a_commit_alone_is_a_section_without_entries() -> None:
    line = begun()
    line.replicas[0].advance()
    line.stream.offer(line.replicas[0], line.progress())
    (append,) = line.send()
    assert append.sections == ((0, 5, 1, 5, 1, ()),)
    assert line.progress().told_commit == 1


def test_who_lacks_what_is_forgotten_is_needy() -> None:
    line = begun()
    line.write(times=5)
    line.replicas[0].log.forget(3)
    assert line.send() == []
    assert [progress for progress, _ in line.stream.take_needy()] == [line.progress()]
    line.progress().is_installing = True  # as who sends it says
    line.write()
    assert line.send() == [], "it gets a snapshot, and nothing else"


def test_nothing_of_an_epoch_that_is_over_is_sent() -> None:
    line = begun()
    line.write()
    line.replicas[0].see(View(6, 2, N2, (N1, N2), (N1, N2), 2), lambda _: line.stream, 0)
    assert line.send() == []
    assert line.stream.is_idle


# -- what is lost


def test_what_a_later_acknowledgement_passes_over_is_lost() -> None:
    line = begun(2)
    line.write(partition=0)
    (lost,) = line.send()
    line.write(partition=1)
    (arrived,) = line.send()
    assert line.ack(arrived) == [(1, 2)]
    (again,) = line.send()
    assert again.sections == lost.sections
    assert again.number > arrived.number
    assert line.ack(lost) == [], "it is late, and was taken for lost"
    assert line.ack(again) == [(0, 2)]


def test_after_a_silence_everything_is_sent_again_but_carefully() -> None:
    line = begun()
    line.write(PORTION_BYTES, times=8)
    sent = line.send(1.0)
    assert len(sent) == 8
    assert line.stream.next_deadline() == 1.0 + RESEND_AFTER_S
    line.stream.tick(1.0 + RESEND_AFTER_S)
    now = 1.0 + RESEND_AFTER_S
    again = line.send(now)
    assert spans(again) == [(1, 1)], "one at a time to a node that is silent"
    assert line.ack(again[0], now) == [(0, 2)]
    assert len(line.send(now)) == 7


@pytest.mark.parametrize("answers_after_s", [0.29, 0.31, 0.5, 1.1])
def test_a_node_that_always_answers_late_gets_on(answers_after_s: float) -> None:
    line = begun()
    line.write(PORTION_BYTES, times=8)
    now, on_the_way = 0.0, [(answers_after_s, append) for append in line.send(0.0)]
    while on_the_way and now < 100:
        now = min(on_the_way[0][0], line.stream.next_deadline())
        line.stream.tick(now)
        while on_the_way and on_the_way[0][0] <= now:
            line.ack(on_the_way.pop(0)[1], now)
        on_the_way += [(now + answers_after_s, append) for append in line.send(now)]
    assert line.progress().match == 9


def test_what_is_refused_is_sent_again_after_a_moment() -> None:
    line = begun(2)
    line.write(partition=0)
    line.write(partition=1)
    (append,) = line.send(1.0)
    assert line.ack(append, 1.0, refused=(1,)) == [(0, 2)]
    assert line.send(1.0) == []
    assert line.stream.next_deadline() == 1.0 + RETRY_AFTER_S
    line.stream.tick(1.0 + RETRY_AFTER_S)
    (again,) = line.send(1.0 + RETRY_AFTER_S)
    assert again.sections == append.sections[1:]
    assert line.ack(again, 1.1) == [(1, 2)]
    assert line.stream.next_deadline() == inf


def test_what_is_refused_is_not_sent_again_with_every_write() -> None:
    line = begun()
    line.write()
    (append,) = line.send(1.0)
    line.ack(append, 1.0, refused=(0,))
    line.write()
    assert line.send(1.01) == []
    line.stream.tick(1.0 + RETRY_AFTER_S)
    assert spans(line.send(1.0 + RETRY_AFTER_S)) == [(1, 2)]


def test_refusals_of_what_went_ahead_of_the_first_are_harmless() -> None:
    line = begun()
    line.write()
    (first,) = line.send()
    line.write()
    (second,) = line.send()
    line.ack(first, refused=(0,))
    line.ack(second, refused=(0,))
    line.stream.tick(RETRY_AFTER_S)
    (again,) = line.send(RETRY_AFTER_S)
    assert spans([again]) == [(1, 2)]
    assert line.ack(again) == [(0, 3)]


def test_acknowledgements_of_nothing_say_nothing() -> None:
    line = begun()
    assert line.stream.on_ack(AppendAck(*BLANK, 99, ()), 5.0) == []
    assert line.stream.on_ack(AppendAck(*BLANK, 1, ()), 5.0) == []
    assert line.stream.heard_at_s == 0.0
    line.write()
    (append,) = line.send()
    assert line.ack(append, refused=(7, 8)) == [(0, 2)]


# -- who is behind


def test_it_owes_an_answer_since_the_oldest_append_on_the_way() -> None:
    line = begun()
    assert (line.stream.owes_since_s, line.stream.is_idle) == (inf, True)
    line.write()
    (first,) = line.send(1.0)
    line.write()
    (second,) = line.send(1.1)
    assert line.stream.owes_since_s == 1.0
    line.ack(first, 1.2)
    assert (line.stream.owes_since_s, line.stream.heard_at_s) == (1.1, 1.2)
    line.ack(second, 1.3)
    assert line.stream.owes_since_s == inf


def test_it_owes_an_answer_still_when_everything_was_sent_again() -> None:
    line = begun()
    line.write()
    line.send(1.0)
    for _ in range(5):
        now = line.stream.next_deadline()
        line.stream.tick(now)
        assert len(line.send(now)) == 1
    assert line.stream.owes_since_s == 1.0


def answered(line: Line, after_s: float, times: int) -> None:
    for number in range(times):
        line.write()
        (append,) = line.send(number)
        line.ack(append, number + after_s)


def test_a_node_is_slow_after_a_while_or_after_four_times_what_is_usual() -> None:
    line = begun()
    assert line.stream.slow_after_s() == SLOW_AFTER_S
    answered(line, 0.2, 10)
    assert line.stream.slow_after_s() == SLOW_AFTER_S, "a few answers say little"
    answered(line, 0.001, 256)
    assert line.stream.slow_after_s() == SLOW_AFTER_S
    answered(line, 0.2, 3)
    assert line.stream.slow_after_s() == pytest.approx(0.8)
    answered(line, 0.001, 256)
    assert line.stream.slow_after_s() == SLOW_AFTER_S
