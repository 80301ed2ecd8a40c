"""What a leader knows of a follower: it is told where to align, entries go ahead of its answers, and some are lost."""

from itertools import count

from gimmal.replication.progress import Progress
from gimmal.replication.stream import Stream
from gimmal.types import Incarnation

N2 = Incarnation("n2", 2)


def aligning(guess: int) -> Progress:
    return Progress(N2, Stream(N2, count(1)), guess)


def streaming(match: int, sent: int) -> Progress:
    progress = aligning(match)
    progress.on_acknowledged(match)
    progress.next = sent + 1
    return progress


def test_nothing_is_known_at_first_and_the_guess_is_sent() -> None:
    progress = aligning(7)
    assert (progress.match, progress.aligns_at, progress.next) == (-1, 7, 8)
    progress.align(4)
    assert (progress.match, progress.aligns_at, progress.next) == (-1, 4, 5)


def test_an_acknowledgement_says_that_it_is_aligned() -> None:
    progress = aligning(7)
    assert progress.on_acknowledged(7)
    assert (progress.match, progress.aligns_at, progress.next) == (7, None, 8)


def test_even_an_empty_log_can_be_aligned() -> None:
    progress = aligning(0)
    assert progress.on_acknowledged(0)
    assert progress.match == 0


def test_entries_are_sent_ahead_and_what_is_known_never_goes_back() -> None:
    progress = streaming(match=7, sent=10)
    assert progress.on_acknowledged(9)
    assert not progress.on_acknowledged(8)
    assert not progress.on_acknowledged(9)
    assert (progress.match, progress.next) == (9, 11)


def test_what_is_lost_is_sent_again_from_the_last_acknowledgement() -> None:
    progress = streaming(match=7, sent=10)
    progress.told_commit = 7
    progress.rewind()
    assert (progress.match, progress.next, progress.told_commit) == (7, 8, 0)
    assert progress.on_acknowledged(10), "it was only late"
    assert (progress.match, progress.next) == (10, 11)


def test_while_it_aligns_everything_is_sent_again() -> None:
    progress = aligning(7)
    progress.next = 12
    progress.rewind()
    assert (progress.aligns_at, progress.next) == (7, 8)


def test_a_snapshot_aligns_too() -> None:
    progress = aligning(7)
    progress.is_installing = True
    progress.on_installed(20)
    assert (progress.is_installing, progress.aligns_at, progress.match, progress.next) == (False, None, 20, 21)
    progress.on_installed(15)
    assert progress.match == 20
