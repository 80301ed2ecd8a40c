"""What a node remembers of a client: receipts cannot be guessed, what is unread is bounded, silence is forgotten."""

import random

import pytest

from gimmal.node.clients import Client, Clients
from gimmal.types import Instant
from gimmal.wire import limits

PEER = b"peer"


def at(seconds: float) -> Instant:
    return Instant(seconds, int(seconds * 1000))


def overloaded(client: Client) -> bool:
    """Ask anew: a type checker takes the property for a constant."""
    return client.is_overloaded


@pytest.fixture
def clients() -> Clients:
    return Clients(random.Random(1))


def test_one_reply_may_be_as_long_as_it_is(clients: Clients) -> None:
    client = clients.seen(PEER, at(0))
    clients.on_reply(PEER, limits.UNREAD_REPLY_BYTES_MAX)
    assert not overloaded(client)
    clients.on_reply(PEER, 1)
    assert overloaded(client)


def test_a_receipt_confirms_everything_up_to_it(clients: Clients) -> None:
    client = clients.seen(PEER, at(0))
    receipts = [clients.on_reply(PEER, limits.UNREAD_REPLY_BYTES_MAX // 2) for _ in range(4)]
    assert overloaded(client)
    client.on_receipt(receipts[0])
    assert overloaded(client), "three halves are unread"
    client.on_receipt(receipts[2])
    assert not overloaded(client)
    assert list(client.sent_bytes_by_receipt) == receipts[3:]
    client.on_receipt(receipts[0])
    assert client.sent_bytes - client.read_bytes == limits.UNREAD_REPLY_BYTES_MAX // 2, "it never goes back"


def test_an_unknown_receipt_says_nothing(clients: Clients) -> None:
    client = clients.seen(PEER, at(0))
    theirs = clients.seen(b"another", at(0))
    receipt = clients.on_reply(PEER, limits.UNREAD_REPLY_BYTES_MAX + 1)
    stolen = clients.on_reply(b"another", 5)
    for guess in (0, 1, receipt + 2, receipt ^ 4, stolen, 2**48 - 1):
        client.on_receipt(guess)
        assert overloaded(client)
    theirs.on_receipt(stolen)
    client.on_receipt(receipt)
    assert not overloaded(client)


def test_receipts_are_wide_and_never_zero(clients: Clients) -> None:
    clients.seen(PEER, at(0))
    receipts = [clients.on_reply(PEER, 1) for _ in range(1_000)]
    assert len(set(receipts)) == 1_000
    assert 0 not in receipts
    assert all(receipt < 2**48 for receipt in receipts)
    assert sum(receipt > 2**44 for receipt in receipts) > 850


def test_the_number_of_unread_replies_is_bounded(clients: Clients) -> None:
    client = clients.seen(PEER, at(0))
    for _ in range(limits.UNREAD_REPLIES_MAX - 1):
        clients.on_reply(PEER, 0)
    assert not overloaded(client)
    receipts = [clients.on_reply(PEER, 0) for _ in range(10_000)]
    assert overloaded(client)
    assert len(client.sent_bytes_by_receipt) == limits.UNREAD_REPLIES_MAX, "refusals are replies too"
    client.on_receipt(receipts[0])
    assert overloaded(client)
    client.on_receipt(receipts[-1])
    assert not overloaded(client)
    assert client.sent_bytes_by_receipt == {}


def test_a_reply_to_nobody_has_no_receipt(clients: Clients) -> None:
    assert clients.on_reply(b"unheard of", 5) == 0


def test_the_silent_are_forgotten_and_the_others_are_not(clients: Clients) -> None:
    silent, busy = clients.seen(PEER, at(0)), clients.seen(b"busy", at(0))
    clients.on_reply(PEER, limits.UNREAD_REPLY_BYTES_MAX + 1)
    clients.tick(at(0))
    for second in range(10, 2 * int(limits.TIMEOUT_MAX_S), 10):
        clients.seen(b"busy", at(second))
        clients.tick(at(second))
    assert clients.on_reply(PEER, 0) != 0, "within the longest timeout nobody is forgotten"
    clients.tick(at(2 * limits.TIMEOUT_MAX_S + 10))
    assert clients.on_reply(PEER, 0) == 0
    fresh = clients.seen(PEER, at(131))
    assert fresh is not silent
    assert not overloaded(fresh)
    assert clients.seen(b"busy", at(131)) is busy


def test_each_peer_is_complained_about_once_a_minute(clients: Clients) -> None:
    assert clients.may_complain(PEER, at(100))
    assert not clients.may_complain(PEER, at(100))
    assert clients.may_complain(b"another", at(101))
    assert not clients.may_complain(PEER, at(159))
    assert clients.may_complain(PEER, at(160))
    assert not clients.may_complain(PEER, at(161))


def test_a_new_client_owes_nothing() -> None:
    assert not overloaded(Client(seen_at_s=0))
