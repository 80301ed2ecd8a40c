"""Situations from which copies once did not find out by themselves; the simulator found them."""

from gimmal.replication.holdings import Holdings
from gimmal.replication.replica import Replica
from gimmal.replication.view import View
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation, Instant
from gimmal.wire import commands

N1, N2, N2_AGAIN = Incarnation("n1", 1), Incarnation("n2", 1), Incarnation("n2", 9)
COMMAND = (commands.INCR, b"k", 1)


def exchange(one: Holdings, other: Holdings, now: float) -> None:
    """Let two nodes say everything they have to say to each other, in a second."""
    for step in range(20):
        at = Instant(now + step * 0.05, 0)
        for source, target in ((one, other), (other, one)):
            source.tick(at)
            for member, message in source.drain(at):
                if member == target.me:
                    target.receive(message, source.me, at)


def test_a_leader_without_enough_copies_in_sync_sends_the_snapshot_that_one_needs_to_be() -> None:
    leader, follower = Holdings(N1, Footprint(), log_bytes=1), Holdings(N2, Footprint(), log_bytes=1)
    view = View(1, 1, N1, (N1, N2), (N1, N2), least=2)
    for holdings in (leader, follower):
        holdings.see(0, view, Instant(0.0, 0))
    exchange(leader, follower, 0.0)
    leader.propose(leader.replicas[0], None, (0, 0, 0), COMMAND, 0)
    exchange(leader, follower, 1.0)
    assert leader.replicas[0].log.base == leader.replicas[0].commit == 2
    restarted = Holdings(N2_AGAIN, Footprint())
    for holdings in (leader, restarted):
        holdings.see(0, View(2, 2, N1, (N1, N2_AGAIN), (N1,), least=2), Instant(2.0, 0))
    exchange(leader, restarted, 2.0)
    request = leader.petition.take()
    assert request is not None
    assert request.changes == ((0, 2, 2, (tuple(N1), tuple(N2_AGAIN))),)


def test_a_copy_that_is_aligned_says_so_when_its_leader_takes_it_to_be_further() -> None:
    copy = Replica(0, N2, Engine(Footprint()))
    copy.see(View(2, 2, N1, (N1, N2), (N1,), least=1), lambda member: None, 0)  # type: ignore[arg-type, return-value]
    assert copy.align(0, 0)
    assert copy.align(0, 0)
    assert not copy.align(5, 1)
