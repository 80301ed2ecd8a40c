"""What all clients of a node share is bounded too: the scans of a turn, and what they have not read."""

import random
from dataclasses import replace
from typing import Any

import pytest

from gimmal.leader.memory import MemoryLimits
from gimmal.node.clients import Clients
from gimmal.node.data_plane import DataPlane
from gimmal.types import Command, Instant
from gimmal.wire import commands, limits
from gimmal.wire.messages import Digests, FetchDigests, FetchTable, Refusal, Reply, TableRows
from tests.unit.test_data_plane import CLUSTER, START, answer, ask, home, later, new_core, request, set_


@pytest.fixture
def core() -> DataPlane:
    return new_core()


def test_wrong_clusters_and_unexpected_kinds_are_logged_too(core: DataPlane) -> None:
    answer(core, FetchTable(bytes(16), 0, 0, 0))
    core.receive(b"other", TableRows(CLUSTER, 0, 0, 0, None), START)
    assert [text.split()[1] for _, text in core.complaints()] == [b"peer".hex(), b"other".hex()]


def test_scans_of_one_turn_have_a_budget(core: DataPlane) -> None:
    scan = (commands.SCAN, b"", 0, 0)
    core.receive(b"peer", request(*[scan] * 8_000), START)
    refusals = [refusal for _, reply in core.drain() if isinstance(reply, Reply) for refusal in reply.refusals]
    assert 7_000 < len(refusals) < 8_000
    assert {refusal for _, refusal, _ in refusals} == {Refusal.OVERLOADED}
    assert ask(core, scan) == [(-1, 0, ())]  # the next turn has its own


def test_digests_of_one_turn_have_a_budget(core: DataPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever floods a node with such questions would stall it for longer than it may be silent."""
    monkeypatch.setattr(limits, "DIGEST_TURN_MAX", 10)
    core.drain()
    ask(core, *[set_(b"%d" % number) for number in range(100)])
    question = FetchDigests(CLUSTER, 0, 0, 0, 0)
    for number in range(200):
        core.receive(b"peer %d" % number, question, START)
    answers = [message for _, message in core.drain() if isinstance(message, Digests)]
    assert len(answers) == 200
    assert sum(len(message.digests) for message in answers) == 1
    assert {message.upcoming for message in answers[1:]} == {0}, "ask again"
    found, upcoming = [], 0
    while upcoming >= 0:  # each turn has its own
        core.receive(b"peer", replace(question, first=upcoming), START)
        ((_, message),) = core.drain()
        assert isinstance(message, Digests)
        assert message.digests
        found += [partition for partition, *_ in message.digests]
        upcoming = message.upcoming
    assert found == sorted(core.serving.holdings.replicas)


def test_all_clients_together_may_leave_only_so_much_unread() -> None:
    clients, now = Clients(random.Random(1)), Instant(0.0, 0)
    count = limits.UNREAD_TOTAL_BYTES_MAX // limits.UNREAD_REPLY_BYTES_MAX
    peers = [b"greedy %d" % number for number in range(count)]
    receipts = {}
    for peer in peers:
        clients.seen(peer, now)
        receipts[peer] = clients.on_reply(peer, limits.UNREAD_REPLY_BYTES_MAX)
    for peer, size_bytes in ((b"modest", limits.UNREAD_SHARE_BYTES), (b"late", limits.UNREAD_SHARE_BYTES + 1)):
        clients.seen(peer, now)
        clients.on_reply(peer, size_bytes)
    assert not clients.seen(b"modest", now).is_overloaded
    assert all(clients.seen(peer, now).is_overloaded for peer in (b"late", *peers))
    clients.seen(peers[0], now).on_receipt(receipts[peers[0]])
    assert not any(clients.seen(peer, now).is_overloaded for peer in (b"late", *peers))


def test_what_a_forgotten_client_left_unread_is_forgotten_too() -> None:
    clients = Clients(random.Random(1))
    for number in range(5):
        clients.seen(b"%d" % number, Instant(0.0, 0))
        clients.on_reply(b"%d" % number, limits.UNREAD_REPLY_BYTES_MAX)
    clients.tick(Instant(1_000.0, 0))
    clients.seen(b"new", Instant(1_000.0, 0))
    clients.on_reply(b"new", limits.UNREAD_SHARE_BYTES + 1)
    assert not clients.seen(b"new", Instant(1_000.0, 0)).is_overloaded


def test_room_is_made_by_expiry() -> None:
    core = new_core(MemoryLimits(max_entries=1))
    ask(core, set_(b"a", ttl_ms=100))
    assert ask(core, set_(b"b"), now=later(0.05)) == [Refusal.OUT_OF_MEMORY]
    core.tick(later(0.1))
    assert ask(core, set_(b"b"), now=later(0.1)) == [True]


def test_a_full_node_still_tells_what_became_of_a_write_that_it_carried_out() -> None:
    core = new_core(MemoryLimits(max_entries=1))
    write, other = set_(b"a"), set_(b"b")
    (session,) = ask(core, (commands.OPEN_SESSION,), operations=((1, home(write), 0, 0, 0, (commands.OPEN_SESSION,)),))

    def tried(number: int, floor: int, command: Command) -> Any:
        operation = (number, home(write), 0, session, floor, command)
        core.receive(b"peer", request(operations=(operation,)), START)
        ((_, reply),) = core.drain()
        assert isinstance(reply, Reply)
        return reply.results[0] if reply.results else Refusal(reply.refusals[0][1])

    assert tried(2, 2, write) is True
    assert ask(core, (commands.DELETE, b"a"), other) == [True, True], "somebody else takes the room"
    assert tried(2, 2, write) is True, "it was carried out, and needs no room for that"
    assert ask(core, (commands.EXISTS, b"a")) == [False], "once"
    assert tried(3, 3, write) == Refusal.OUT_OF_MEMORY, "this one was not"
    assert tried(4, 4, (commands.DELETE, b"a")) is False
    assert tried(3, 3, write) == Refusal.TOO_OLD


def test_a_client_opens_a_session_by_a_command_like_any_other() -> None:
    core = new_core(MemoryLimits(max_entries=1, policy="lru"))
    assert ask(core, set_(b"a"), (commands.OPEN_SESSION,), (commands.OPEN_SESSION,)) == [True, 2, 3]
    assert ask(core, (commands.EXISTS, b"a")) == [True], "a session is no entry: nothing had to make room for it"
