"""Answers collect per client and leave as one reply; what is too long is refused, or leaves earlier."""

import random

from gimmal.node.clients import Clients
from gimmal.node.replies import ANSWER_BYTES, Replies, size_of
from gimmal.types import Instant
from gimmal.wire import limits
from gimmal.wire.messages import Refusal, Reply

HEADER = (bytes(16), 3, 0, 7)


def replies_to(*peers: bytes) -> Replies:
    clients = Clients(random.Random(1))
    for peer in peers:
        clients.seen(peer, Instant(0.0, 0))
    return Replies(clients, lambda: HEADER)


def test_each_client_gets_one_reply_with_all_it_is_owed() -> None:
    replies = replies_to(b"a", b"b")
    replies.add(b"a", 1, True)
    replies.add(b"b", 1, b"value")
    replies.refuse(b"a", 2, Refusal.MOVED, "not here")
    replies.add(b"a", 3, None)
    (to_a, a), (to_b, b) = replies.drain()
    assert (to_a, a.numbers, a.results, a.refusals) == (b"a", (1, 3), (True, None), ((2, 1, "not here"),))
    assert (to_b, b.numbers, b.results, b.refusals) == (b"b", (1,), (b"value",), ())
    assert (a.cluster, a.source, a.destination, a.table_version) == HEADER
    assert type(a.refusals[0][1]) is int
    assert replies.drain() == []


def test_who_is_only_asked_about_gets_nothing() -> None:
    replies = replies_to(b"a")
    replies.to(b"a")
    assert replies.drain() == []


def test_what_is_owed_may_be_added_to_directly() -> None:
    replies = replies_to(b"a")
    answers = replies.to(b"a")
    answers.numbers.append(5)
    answers.results.append(None)
    answers.size_bytes += ANSWER_BYTES
    ((_, reply),) = replies.drain()
    assert reply.numbers == (5,)


def test_long_answers_leave_before_the_frame_grows_too_long() -> None:
    replies = replies_to(b"a")
    for number in range(10):
        replies.add(b"a", number, bytes(limits.PLAIN_FRAME_BYTES_MAX // 3))
    sent = replies.drain()
    assert [reply.numbers for _, reply in sent] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)]
    assert len({reply.receipt for _, reply in sent}) == 4


def test_an_answer_that_fits_into_no_message_is_refused() -> None:
    replies = replies_to(b"a")
    replies.add(b"a", 1, bytes(limits.REPLY_BYTES_MAX + 1))
    replies.add(b"a", 2, (bytes(limits.REPLY_BYTES_MAX // 2),) * 2)
    replies.add(b"a", 3, b"short")
    ((_, reply),) = replies.drain()
    assert isinstance(reply, Reply)
    assert [(number, refusal) for number, refusal, _ in reply.refusals] == [(1, 6), (2, 6)]
    assert reply.numbers == (3,)


def test_the_size_of_a_result_with_parts() -> None:
    assert size_of(()) == 0
    assert size_of((None, 5, b"four", (b"four", (b"",)))) == 9 + 9 + 5
