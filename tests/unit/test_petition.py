"""Requests for other in-sync sets: one at a time, and over when its answer and the table of the answer are here."""

from gimmal.replication.petition import Petition, Request
from gimmal.types import Incarnation

N1, N2, N3 = (Incarnation(f"n{number}", number) for number in (1, 2, 3))


def test_all_that_is_wanted_goes_as_one_request() -> None:
    petition = Petition()
    assert (petition.is_due, petition.take()) == (False, None)
    petition.want_in_sync(7, 5, 2, (N1, N2))
    petition.want_in_sync(3, 4, 1, (N1, N3))
    assert petition.take() == Request(1, False, ((7, 5, 2, (("n1", 1), ("n2", 2))), (3, 4, 1, (("n1", 1), ("n3", 3)))))
    assert petition.take() is None


def test_what_is_wanted_later_waits_and_the_newest_counts() -> None:
    petition = Petition()
    petition.want_in_sync(7, 5, 2, (N1, N2))
    petition.take()
    petition.want_in_sync(3, 4, 1, (N1, N3))
    petition.want_in_sync(3, 4, 2, (N1, N2))
    assert not petition.is_due
    petition.on_answer(1, 10)
    assert petition.settled(10) == [(7, 2)]
    assert petition.take() == Request(2, False, ((3, 4, 2, (("n1", 1), ("n2", 2))),))


def test_a_request_is_over_when_its_table_is_here() -> None:
    petition = Petition()
    petition.want_in_sync(7, 5, 2, (N1, N2))
    petition.take()
    assert petition.settled(10**6) == [], "it was not answered"
    petition.on_answer(1, 10)
    assert petition.settled(9) == []
    assert petition.settled(11) == [(7, 2)]
    assert petition.settled(11) == []


def test_answers_to_other_requests_say_nothing() -> None:
    petition = Petition()
    petition.on_answer(1, 10)
    petition.want_in_sync(7, 5, 2, (N1, N2))
    petition.take()
    for number in (0, 2, 99):
        petition.on_answer(number, 10)
    assert petition.settled(10) == []


def test_what_got_lost_is_asked_for_again_under_its_number() -> None:
    petition = Petition()
    petition.on_lost()
    assert petition.take() is None
    petition.want_in_sync(7, 5, 2, (N1, N2))
    request = petition.take()
    petition.want_in_sync(3, 4, 1, (N1, N3))
    petition.on_lost()
    assert petition.take() == request
    assert petition.take() is None
    petition.on_lost()
    petition.on_answer(1, 10)
    assert petition.take() is None, "it was answered after all"
    assert petition.settled(10) == [(7, 2)]
    later = petition.take()
    assert later is not None
    assert later.number == 2


def test_a_handover_that_was_decided_settles_no_in_sync_set() -> None:
    petition = Petition()
    petition.want_leader(7, 5, 2, "n2")
    assert petition.take() == Request(1, True, ((7, 5, 2, "n2"),))
    petition.want_in_sync(7, 5, 2, (N1, N2))
    petition.on_answer(1, 10)
    assert petition.settled(10) == []
    assert petition.take() == Request(2, False, ((7, 5, 2, (("n1", 1), ("n2", 2))),))
