"""When the leader of the meta group grants a lease: after which round, to whom, and under which table."""

import pytest

from gimmal.cluster.lease import LEASE_S, MARGIN_S
from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome
from gimmal.cluster.meta.grants import Grants, Waiting
from gimmal.cluster.meta.group import genesis
from gimmal.cluster.raft import Configuration, Identity, Stored, rewritten
from gimmal.node.meta_share import MetaShare
from gimmal.types import Incarnation
from gimmal.wire import peer_messages as messages
from gimmal.wire.peer_messages import PeerMessage
from tests.unit.meta_states import CLUSTER, registration
from tests.unit.test_control_plane import Node

FOUNDERS = [registration(name) for name in "abcd"]
VOTERS = tuple(node.voter for node in FOUNDERS[:3])


class Leader(Node):
    """Node a, which was just elected by b; the test answers as b when it wants to. Nodes c and d lead partitions."""

    def __init__(self) -> None:
        founding = (commands.FOUND, CLUSTER, 1, commands.REFUSE, tuple(map(tuple, FOUNDERS)), ((0,), (3,)) * 4)
        origin = genesis(Configuration(VOTERS, ()), founding)
        super().__init__("a", journal=rewritten(Identity(CLUSTER, VOTERS[0]), Stored(2, None, origin, ())).data)
        self.wait(2)
        for is_trial in (True, False):
            term = [message.term for _, message in self.sent if isinstance(message, messages.VoteRequest)][-1]
            self.take(messages.Vote(*messages.RAFT_BLANK, VOTERS[1], VOTERS[0], term, is_trial, True))
        assert self.meta.is_leader

    @property
    def meta(self) -> MetaShare:
        return self.core.control.meta

    def beat(self, name: str = "d", number: int = 7, source: int = 1) -> None:
        self.take(messages.Heartbeat(*messages.BLANK, number), sender=name, source=source)

    def confirm(self, *, term: int = 0) -> list[tuple[int, bool, int]]:
        """Answer as b the last that was sent to it; return the replies to heartbeats that leave then."""
        raft = self.meta.group.raft
        appends = [message for _, message in self.sent if isinstance(message, messages.AppendEntries)]
        last = [append for append in appends if append.target == VOTERS[1]][-1]
        index = last.prev_index + len(last.entries)
        reply = messages.AppendReply(
            *(*messages.RAFT_BLANK, VOTERS[1], VOTERS[0], term or raft.term, True, index, raft.term), last.round
        )
        self.sent.clear()
        self.take(reply)
        return self.replies()

    def replies(self) -> list[tuple[int, bool, int]]:
        """(number, is granted, table version) of the replies to heartbeats that have left."""
        return [
            (message.number, message.is_granted, message.table_version)
            for _, message in self.sent
            if isinstance(message, messages.HeartbeatReply)
        ]

    def settle(self) -> "Leader":
        """Let an entry of its own term be committed."""
        self.confirm()
        assert self.meta.group.raft.has_committed_in_term
        return self

    def next_round(self) -> None:
        begun = self.meta.group.raft.round
        while self.meta.group.raft.round == begun:
            self.wait(0.01)


@pytest.fixture
def leader() -> Leader:
    return Leader().settle()


def test_a_heartbeat_is_granted_after_a_round_that_began_later(leader: Leader) -> None:
    leader.next_round()
    leader.beat()
    assert leader.replies() == [], "it waits"
    assert leader.confirm() == [], "this round had begun before"
    leader.next_round()
    assert leader.replies() == [], "nobody has answered this one yet"
    assert leader.confirm() == [(7, True, 1)]
    leader.next_round()
    assert leader.confirm() == [], "a heartbeat is answered once"


def test_the_leader_grants_to_itself_in_the_same_way(leader: Leader) -> None:
    control = leader.core.control
    for _ in range(5):
        leader.next_round()
        leader.confirm()
        leader.turn()
    assert control.incarnation == 1
    assert control.lease_is_valid(leader.now)
    assert control.lease_until() > leader.now
    until = control.lease_until()
    while leader.now < until:
        leader.now += 0.1
        leader.turn()
    assert not control.lease_is_valid(leader.now), "nobody has answered the leader since"


def test_before_an_entry_of_its_own_term_is_applied_nothing_is_granted() -> None:
    leader = Leader()
    first = leader.meta.group.raft.round
    leader.beat()
    leader.next_round()
    appends = [message for _, message in leader.sent if isinstance(message, messages.AppendEntries)]
    raft = leader.meta.group.raft
    round_only = messages.AppendReply(
        *(*messages.RAFT_BLANK, VOTERS[1], VOTERS[0], raft.term, True, 1, 1), appends[-1].round
    )
    leader.take(round_only)
    assert raft.confirmed_round > first
    assert leader.replies() == []
    leader.next_round()
    assert leader.confirm() == [(7, True, 1)]


def test_an_answer_of_a_later_term_confirms_nothing(leader: Leader) -> None:
    leader.beat()
    leader.next_round()
    assert leader.confirm(term=leader.meta.group.raft.term + 1) == [(7, False, 1)], "it leads no more, and says so"


def test_who_is_fenced_while_it_waits_gets_nothing(leader: Leader) -> None:
    leader.beat()
    leader.meta.group.request(None, (commands.FENCE, "d", 1), leader.now)
    leader.next_round()
    assert leader.confirm() == [(7, False, 3)]
    leader.beat(number=8)
    assert (8, False, 3) in leader.replies(), "who is fenced need not wait for that"


def test_who_is_gone_gets_nothing_and_what_it_leads_is_left_to_it_until_its_lease_is_over(leader: Leader) -> None:
    leader.beat()
    heard_at = leader.now
    leader.core.on_refused("d:7701", leader.instant)
    leader.next_round()
    assert leader.confirm() == [(7, False, 1)]
    while leader.now < heard_at + LEASE_S - 0.15:
        leader.next_round()
        leader.confirm()
    assert leader.facts()["nodes_alive"] == 4
    for _ in range(2):
        leader.next_round()
        leader.confirm()
    assert leader.facts()["nodes_alive"] == 3


def asked_to_leave(leader: Leader, name: str = "d") -> list[Outcome]:
    """Node d asks to be fenced; return what it is answered at once."""
    sent = leader.take(messages.MetaRequest(*messages.BLANK, 3, (commands.FENCE, name, 1)), sender=name)
    return [Outcome(message.outcome) for _, message in sent if isinstance(message, messages.MetaReply)]


def test_who_asks_to_be_fenced_and_leads_is_fenced_when_its_lease_is_over(leader: Leader) -> None:
    raft = leader.meta.group.raft
    last = raft.last_index
    leader.beat()
    over_at = leader.now + LEASE_S + MARGIN_S
    while leader.now < over_at - 0.2:
        assert asked_to_leave(leader) == [Outcome.UNDECIDED]
        leader.next_round()
        leader.beat(number=8)
        leader.confirm()
    leader.wait(over_at - leader.now - 0.01)
    assert raft.last_index == last
    leader.wait(0.02)
    assert raft.last_index == last + 1
    assert asked_to_leave(leader) == [Outcome.UNDECIDED]
    assert leader.facts()["nodes_alive"] == 4, "it is not decided"
    leader.confirm()
    assert leader.facts()["nodes_alive"] == 3
    assert raft.last_index == last + 1, "once, however often it was asked for"
    assert asked_to_leave(leader) == [Outcome.DONE]


def test_who_asks_to_be_fenced_and_leads_nothing_is_fenced_at_once(leader: Leader) -> None:
    assert asked_to_leave(leader, "c") == [Outcome.UNDECIDED]
    leader.next_round()
    leader.confirm()
    assert leader.facts()["nodes_alive"] == 3


def test_a_grant_names_the_table_that_the_leader_has_when_it_leaves(leader: Leader) -> None:
    leader.beat()
    leader.meta.group.request(None, (commands.FENCE, "c", 1), leader.now)
    leader.next_round()
    assert leader.confirm() == [(7, True, 3)]


@pytest.mark.parametrize(("name", "source"), [("d", 0), ("d", 2), ("z", 1)])
def test_an_unknown_life_is_told_who_leads_and_nothing_else(leader: Leader, name: str, source: int) -> None:
    leader.beat(name, source=source)
    assert all(not is_granted for _, is_granted, _ in leader.replies())
    leader.next_round()
    assert all(not is_granted for _, is_granted, _ in leader.confirm())


def test_who_leads_nothing_in_the_group_grants_nothing() -> None:
    founding = (commands.FOUND, CLUSTER, 1, commands.REFUSE, tuple(map(tuple, FOUNDERS)), ((0,), (3,)) * 4)
    origin = genesis(Configuration(VOTERS, ()), founding)
    node = Node("a", journal=rewritten(Identity(CLUSTER, VOTERS[0]), Stored(2, None, origin, ())).data)
    sent = node.take(messages.Heartbeat(*messages.BLANK, 7), sender="d", source=1)
    assert [granted(message) for _, message in sent if isinstance(message, messages.HeartbeatReply)] == [False]


def granted(message: PeerMessage) -> bool:
    assert isinstance(message, messages.HeartbeatReply)
    return message.is_granted


def test_a_lone_voter_grants_at_once() -> None:
    node = Node()
    node.wait(1)
    assert node.core.control.lease_is_valid(node.now)
    assert node.core.control.lease_until() > node.now + 0.5


def test_a_lease_is_of_no_use_before_its_table_and_ends_with_the_life_that_had_it(leader: Leader) -> None:
    control = leader.core.control
    for _ in range(5):
        leader.next_round()
        leader.confirm()
        leader.turn()
    lease = control.enrolment.contact.lease
    assert control.lease_until() == lease.valid_until(control.tracking.version)
    assert not lease.is_valid(leader.now, control.tracking.version - 1)
    control.enrolment._be_nobody(leader.now)
    assert not control.lease_is_valid(leader.now)


def test_heartbeats_wait_in_order_for_the_rounds_after_them() -> None:
    grants = Grants()
    beats = [Waiting(Incarnation("d", 1), number, "d:7701", number // 2) for number in range(4)]
    for beat in beats:
        grants.on_heartbeat(beat)
    assert grants.due(0) == []
    assert grants.due(1) == beats[:2]
    assert grants.due(1) == []
    assert grants.give_up() == beats[2:]
    assert not grants
