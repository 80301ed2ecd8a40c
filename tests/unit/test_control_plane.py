"""A node among nodes, by its verbs only: which messages count, and who a node believes to be."""

import random
from typing import Any

import pytest

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome
from gimmal.cluster.meta.group import genesis
from gimmal.cluster.raft import COMMAND, CONFIGURATION, Configuration, Entry, Identity, Stored, rewritten
from gimmal.cluster.table import Addresses, Table
from gimmal.node.core import NodeCore
from gimmal.node.settings import NodeSettings
from gimmal.types import Instant
from gimmal.wire import peer_messages as messages
from gimmal.wire.commands import GET
from gimmal.wire.messages import Fault, FetchStatus, FetchTable, Problem, Refusal, Reply, Request, Status, TableRows
from gimmal.wire.peer_messages import PeerMessage
from tests.unit.meta_states import Meta, registration

OTHER_CLUSTER = b"o" * 16


def settings(name: str, life: int = 1, **changes: Any) -> NodeSettings:
    node = registration(name, life)
    fields: dict[str, Any] = {
        "name": name,
        "uuid": node.uuid,
        "peer": node.peer,
        "networks": node.networks,
        "expect": 1,
        "partitions": 8,
    }
    return NodeSettings(**(fields | changes))


class Node:
    """One node, alone with a test that plays everybody else."""

    def __init__(self, name: str = "a", life: int = 1, journal: bytes = b"", **changes: Any) -> None:
        self.now = 100.0
        self.journal = journal
        self.sent: list[tuple[str, PeerMessage]] = []
        self.log: list[str] = []
        self.core = NodeCore(settings(name, life, **changes), journal, random.Random(life), self.instant)
        self.turn()

    @property
    def instant(self) -> Instant:
        return Instant(self.now, int(self.now * 1000))

    def turn(self) -> list[tuple[str, PeerMessage]]:
        self.core.tick(self.instant)
        while (save := self.core.unsaved()) is not None:
            self.journal = save.data if save.replaces else self.journal + save.data
            self.core.on_saved(self.instant)
        sent = self.core.drain_for_nodes()
        self.sent += sent
        self.log += [text for _, text in self.core.complaints()]
        return sent

    def wait(self, seconds: float) -> list[tuple[str, PeerMessage]]:
        end = self.now + seconds
        sent = []
        while (at := self.core.next_deadline()) <= end:
            self.now = max(self.now, at)
            sent += self.turn()
        self.now = end
        return sent

    def take(self, message: PeerMessage, **header: Any) -> list[tuple[str, PeerMessage]]:
        """Receive a message of node b's, of this node's cluster unless the header says otherwise."""
        fields = {"cluster": self.core.control.cluster, "source": 1, "sender": "b"} | header
        for name, value in fields.items():
            setattr(message, name, value)
        self.core.receive_from_node(message, self.instant)
        return self.turn()

    def learn(self, table: Table | None) -> None:
        """Hear of a table from b, fetch it, and get it."""
        assert table is not None
        self.take(messages.HeartbeatReply(*messages.BLANK, 1, "b:7701", False), table_version=table.version)
        self.wait(0.2)
        self.take(messages.Rows(*messages.BLANK, table.to_wire()), table_version=table.version)

    def facts(self) -> dict[str, Any]:
        self.core.receive(b"monitor", FetchStatus(b"", 0, 0, 0), self.instant)
        ((_, status),) = self.core.drain()
        assert isinstance(status, Status)
        return dict(status.facts)


def kinds(sent: list[tuple[str, PeerMessage]]) -> list[type[PeerMessage]]:
    return [type(message) for _, message in sent]


def refusals(node: Node, cluster: bytes = b"") -> list[tuple[int, int, str]]:
    """What a client gets that asks for a key, as operation 7."""
    request = Request(cluster, 0, 0, 0, 0, 1_000, ((7, 0, 0, 0, 0, (GET, b"key")),))
    node.core.receive(b"client", request, node.instant)
    ((_, reply),) = node.core.drain()
    assert isinstance(reply, Reply)
    assert reply.results == ()
    return list(reply.refusals)


def lone() -> Node:
    """A node that has founded a cluster for itself alone, and leads it."""
    node = Node()
    node.wait(2)
    node.sent.clear()
    assert node.facts()["state"] == "serving"
    return node


def joined() -> Node:
    """The node d of a cluster of a, b and c, registered as incarnation 2."""
    node = Node("d", seeds=("b:7701",), expect=0)
    meta = Meta()
    meta.register("d")
    node.take(messages.Belonging(*messages.BLANK, "b:7701", ()), cluster=meta.table.cluster)
    node.learn(meta.table)
    assert node.facts()["state"] == "serving"
    return node


# -- alone ----------------------------------------------------------------------------------


def test_a_lone_node_serves_at_once() -> None:
    node = Node()
    node.wait(0.1)
    facts = node.facts()
    assert (facts["state"], facts["incarnation"], facts["meta_role"], facts["nodes_alive"]) == (
        "serving",
        1,
        "leader",
        1,
    )
    assert facts["partitions_led"] == 8
    assert node.sent == []


def test_without_a_cluster_clients_are_told_what_it_waits_for() -> None:
    node = Node(expect=3)
    node.wait(1)
    node.core.receive(b"client", FetchTable(b"", 0, 0, 0), node.instant)
    ((_, problem),) = node.core.drain()
    assert isinstance(problem, Problem)
    assert (problem.fault, problem.text) == (
        Fault.NOT_READY,
        "a belongs to no cluster yet: waiting for 2 more nodes (--expect 3)",
    )
    assert node.facts()["why"] == problem.text
    assert refusals(node) == [(7, Refusal.MOVED, problem.text)]
    assert node.facts()["state"] == "founding"


def test_a_restarted_lone_node_with_its_journal_is_another_life_of_the_same_cluster() -> None:
    node = Node(is_durable=True)
    node.wait(2)
    again = Node(life=2, journal=node.journal, is_durable=True)
    again.wait(6)
    facts = again.facts()
    assert facts["cluster"] == node.facts()["cluster"]
    assert (facts["state"], facts["incarnation"] > 1) == ("serving", True)
    assert facts["partitions_led"] == 8


def test_without_a_journal_it_is_another_cluster() -> None:
    assert Node(life=2).facts()["cluster"] != lone().facts()["cluster"]


# -- which messages count -------------------------------------------------------------------


def test_a_message_of_another_cluster_is_refused_and_told_of_once_a_minute() -> None:
    node = lone()
    for _ in range(5):
        assert node.take(messages.Ping(*messages.BLANK, 1, "a", ()), cluster=OTHER_CLUSTER) == []
    assert node.core.control.chronicle.counters["other_cluster"] == 5
    told = [line for line in node.log if "refused" in line]
    assert len(told) == 1
    assert OTHER_CLUSTER.hex() in told[0]
    assert "'b'" in told[0]
    node.wait(61)
    node.take(messages.Ping(*messages.BLANK, 1, "a", ()), cluster=OTHER_CLUSTER)
    assert len([line for line in node.log if "refused" in line]) == 2


def test_who_wants_to_register_from_another_cluster_is_told_which_this_is() -> None:
    node = lone()
    register = messages.MetaRequest(*messages.BLANK, 1, (commands.REGISTER, tuple(registration("z"))))
    ((address, message),) = node.take(register, cluster=OTHER_CLUSTER)
    assert (address, type(message), message.cluster) == ("z:7701", messages.Belonging, node.core.control.cluster)
    other = lone()
    other.take(message, cluster=message.cluster)
    if other.core.control.cluster != message.cluster:
        assert any("refused" in line for line in other.log)


def test_a_message_for_another_life_is_dropped() -> None:
    node = joined()
    ping = messages.Ping(*messages.BLANK, 1, "d", ())
    assert node.take(ping, destination=1) == []
    assert node.core.control.chronicle.counters["for_other_lives"] == 1
    assert kinds(node.take(ping, destination=2)) == [messages.Ack]


@pytest.mark.parametrize(
    "message",
    [
        messages.Ping(*messages.BLANK, 1, "d", ()),
        messages.Heartbeat(*messages.BLANK, 1),
        messages.VoteRequest(*messages.RAFT_BLANK, "b/1", "d/1", 5, False, 5, 5),
        messages.FetchRows(*messages.BLANK, 0),
        messages.MetaRequest(*messages.BLANK, 1, (commands.REGISTER, tuple(registration("z")))),
    ],
    ids=lambda message: type(message).__name__,
)
def test_nodes_of_no_cluster_only_exchange_the_messages_of_founding(message: PeerMessage) -> None:
    node = Node(expect=3)
    assert kinds(node.take(message, cluster=b"")) == []
    assert kinds(node.take(message, cluster=OTHER_CLUSTER)) == []


def test_every_message_is_stamped() -> None:
    node = joined()
    for _, message in node.wait(3):
        assert (message.cluster, message.source, message.sender) == (node.core.control.cluster, 2, "d")
        assert message.table_version == 2
        assert message.destination in (0, 1)


def test_bad_content_is_counted_and_told_of_once_a_minute() -> None:
    node = joined()
    for tree in ((), (1,), ("x",) * 6, (node.core.control.cluster, 9, 7, (), (), ())):
        node.take(messages.Heartbeat(*messages.BLANK, 1), table_version=99)
        node.wait(0.5)
        node.take(messages.Rows(*messages.BLANK, tree))
    assert node.facts()["protocol_errors"] == 4
    assert len([line for line in node.log if line.startswith("node b: ")]) == 1
    assert node.facts()["state"] == "serving"


# -- joining --------------------------------------------------------------------------------


def test_a_newcomer_registers_and_fetches_the_table_from_who_answered() -> None:
    node = Node("d", seeds=("b:7701",), expect=0)
    meta = Meta()
    assert node.facts()["state"] == "joining"
    node.take(messages.Belonging(*messages.BLANK, "c:7701", ()), cluster=meta.table.cluster)
    (address, request) = node.wait(0.5)[-1]
    assert isinstance(request, messages.MetaRequest)
    assert (address, request.command[0]) == ("c:7701", commands.REGISTER)
    meta.do(*request.command)
    node.take(
        messages.MetaReply(*messages.BLANK, request.number, int(Outcome.DONE), 2, "", "c:7701"),
        sender="c",
        table_version=2,
    )
    assert [to for to, message in node.wait(0.1) if isinstance(message, messages.FetchRows)] == ["c:7701"]
    node.take(messages.Rows(*messages.BLANK, meta.table.to_wire()), sender="c")
    facts = node.facts()
    assert (facts["state"], facts["incarnation"], facts["table_version"]) == ("serving", 2, 2)


def test_a_table_that_got_lost_is_fetched_again_though_no_address_is_known_by_name() -> None:
    node = Node("d", seeds=("b:7701",), expect=0)
    node.take(messages.Belonging(*messages.BLANK, "c:7701", ()), cluster=OTHER_CLUSTER)
    (_, request) = node.wait(0.5)[-1]
    assert isinstance(request, messages.MetaRequest)
    answer = messages.MetaReply(*messages.BLANK, request.number, int(Outcome.DONE), 2, "", "c:7701")
    node.take(answer, sender="c", table_version=2)
    for _ in range(3):
        sent = node.wait(5)  # whatever it fetches is lost
        assert messages.FetchRows not in kinds(sent[10:])
        node.take(messages.HeartbeatReply(*messages.BLANK, 1, "c:7701", False), sender="c", table_version=2)
        assert [to for to, message in node.wait(0.1) if isinstance(message, messages.FetchRows)] == ["c:7701"]


def test_a_node_that_is_refused_keeps_trying_and_says_so() -> None:
    node = Node("d", seeds=("b:7701",), expect=0)
    node.take(messages.Belonging(*messages.BLANK, "c:7701", ()), cluster=OTHER_CLUSTER)
    (_, request) = node.wait(0.5)[-1]
    assert isinstance(request, messages.MetaRequest)
    reply = messages.MetaReply(*messages.BLANK, request.number, int(Outcome.REFUSED), 0, "the name is taken", "c:7701")
    node.take(reply, sender="c")
    assert node.facts()["why"] == "d is not registered in its cluster: the name is taken"
    assert any("the name is taken" in line for line in node.log)
    assert messages.MetaRequest in kinds(node.wait(2))
    assert node.facts()["cluster"] == OTHER_CLUSTER.hex(), "and forms no cluster of its own"


def test_a_cluster_that_never_answers_is_left_for_another() -> None:
    node = Node("d", seeds=("b:7701",), expect=0)
    node.take(messages.Belonging(*messages.BLANK, "c:7701", ()), cluster=OTHER_CLUSTER)
    node.wait(9)
    assert node.facts()["cluster"] == OTHER_CLUSTER.hex()
    assert messages.Hello in kinds(node.wait(5))
    assert node.facts()["cluster"] == ""


def test_a_member_that_is_restarted_with_its_journal_never_leaves() -> None:
    node = Node("d", seeds=("b:7701",), expect=0, is_durable=True)
    meta = Meta()
    meta.register("d")
    node.take(messages.Belonging(*messages.BLANK, "b:7701", ()), cluster=meta.table.cluster)
    node.learn(meta.table)
    again = Node("d", life=2, journal=node.journal, seeds=("b:7701",), expect=1, is_durable=True)
    again.wait(600)
    facts = again.facts()
    assert (facts["state"], facts["cluster"]) == ("joining", meta.table.cluster.hex())
    assert any("by its journal" in line for line in again.log)
    assert messages.Hello in kinds(again.sent), "it asks its seeds whether they are of its cluster"


def test_a_newcomer_that_has_voted_is_bound_to_that_cluster() -> None:
    node = Node("d", seeds=("b:7701",), expect=0, is_durable=True)
    node.take(messages.Belonging(*messages.BLANK, "b:7701", ()), cluster=OTHER_CLUSTER)
    voter = node.core.control.enrolment.me.voter
    request = messages.VoteRequest(*messages.RAFT_BLANK, "b/1", voter, 5, False, 5, 5)
    request.peer = "b:7701"
    ((address, vote),) = [(to, m) for to, m in node.take(request) if isinstance(m, messages.Vote)]
    assert (address, vote.is_granted) == ("b:7701", True)
    again = Node("d", life=2, journal=node.journal, seeds=("b:7701",), expect=0, is_durable=True)
    again.wait(60)
    assert again.facts()["cluster"] == OTHER_CLUSTER.hex()
    assert again.core.control.meta.group.raft.vote == "b/1"


def test_a_restarted_voter_asks_for_votes_whom_only_its_log_gives_an_address() -> None:
    node = Node("d", seeds=("b:7701",), expect=0, is_durable=True)
    node.take(messages.Belonging(*messages.BLANK, "b:7701", ()), cluster=OTHER_CLUSTER)
    voter = node.core.control.enrolment.me.voter
    entries = (
        (3, COMMAND, (commands.REGISTER, tuple(registration("e")))),
        (3, CONFIGURATION, ((voter, "b/1", "e/1"), ())),
    )
    append = messages.AppendEntries(*messages.RAFT_BLANK, "b/1", voter, 3, 0, 0, 0, 1, entries)
    append.peer = "b:7701"
    assert messages.AppendReply in kinds(node.take(append))
    again = Node("d", life=2, journal=node.journal, seeds=("b:7701",), expect=0, is_durable=True)
    again.wait(10)
    asked = {address for address, message in again.sent if isinstance(message, messages.VoteRequest)}
    assert asked == {"e:7701"}, "b is in no table and no entry: it has to be heard first"


def test_who_leads_a_group_that_founded_nothing_rests_and_stays_who_it_is() -> None:
    node = joined()
    voter = node.core.control.enrolment.me.voter
    for end, entries in ((0, ((1, CONFIGURATION, ((voter,), ())),)), (1, ())):
        append = messages.AppendEntries(*messages.RAFT_BLANK, "evil/1", voter, 1, end, end, 1, 1, entries)
        append.peer = "evil:1"
        node.take(append)
    for _ in range(200):
        node.now = max(node.now, node.core.next_deadline())
        node.turn()
    assert node.core.control.meta.role == "leader"
    assert node.now > 105.0, "each turn waits for something"
    assert node.facts()["incarnation"] == 2


def test_an_entry_that_makes_no_sense_harms_nobody_who_looks_for_an_address() -> None:
    node = Node("d", seeds=("b:7701",), expect=0, is_durable=True)
    node.take(messages.Belonging(*messages.BLANK, "b:7701", ()), cluster=OTHER_CLUSTER)
    voter = node.core.control.enrolment.me.voter
    entries = ((3, COMMAND, ()), (3, CONFIGURATION, ((voter, "b/1"), ())))
    node.take(messages.AppendEntries(*messages.RAFT_BLANK, "b/1", voter, 3, 0, 0, 0, 1, entries))
    again = Node("d", life=2, journal=node.journal, seeds=("b:7701",), expect=0, is_durable=True)
    again.wait(10)
    assert again.core.control.meta.group.raft.last_index == 2


def test_a_registered_node_never_leaves() -> None:
    node = joined()
    cluster = node.facts()["cluster"]
    node.wait(600)
    assert node.facts()["cluster"] == cluster
    assert refusals(node) == [(7, Refusal.MOVED, "d does not lead partition 0")]


def test_a_node_whose_name_was_given_away_is_nobody_and_asks_again() -> None:
    node = joined()
    node.core.receive(b"client", FetchTable(b"", 0, 0, 0), node.instant)
    ((_, rows),) = node.core.drain()
    assert isinstance(rows, TableRows)
    meta = Meta()
    meta.register("d")
    meta.fence("d")
    meta.register("d", life=2)
    node.learn(meta.table)
    facts = node.facts()
    assert (facts["state"], facts["incarnation"], facts["partitions_led"]) == ("joining", 0, 0)
    assert any("no longer incarnation 2" in line for line in node.log)
    ((_, _, text),) = refusals(node)
    assert text.startswith("d is not registered in its cluster: ")
    sent = kinds(node.wait(2))
    assert messages.MetaRequest in sent
    assert messages.Heartbeat not in sent
    assert messages.Ping not in sent


def test_a_fenced_node_says_so_and_goes_on_with_its_heartbeats() -> None:
    node = joined()
    meta = Meta()
    meta.register("d")
    meta.fence("d")
    node.learn(meta.table)
    assert (node.facts()["state"], node.facts()["incarnation"]) == ("fenced", 2)
    assert refusals(node) == [(7, Refusal.MOVED, "d was declared dead and is about to be taken back")]
    ((_, refusal, _),) = refusals(node, OTHER_CLUSTER)
    assert refusal == Refusal.WRONG_CLUSTER
    assert messages.Heartbeat in kinds(node.wait(2))


# -- at the door ----------------------------------------------------------------------------


def test_a_newcomer_at_the_door_is_told_which_cluster_this_is() -> None:
    node = lone()
    hello = messages.Hello(*messages.BLANK, tuple(registration("z")), 3, False, "")
    ((address, message),) = node.take(hello, cluster=b"", sender="z")
    assert (address, type(message)) == ("z:7701", messages.Belonging)
    assert isinstance(message, messages.Belonging)
    assert message.leader == "a:7701"
    assert node.take(hello, cluster=b"", sender="z") == [], "not more than once a second"


def test_a_lone_leader_takes_a_newcomer_in() -> None:
    node = lone()
    register = messages.MetaRequest(*messages.BLANK, 7, (commands.REGISTER, tuple(registration("z"))))
    sent = node.take(register, sender="z", source=0)
    ((address, reply),) = [(to, m) for to, m in sent if isinstance(m, messages.MetaReply)]
    assert (address, reply.number, reply.outcome, reply.leader) == ("z:7701", 7, Outcome.DONE, "a:7701")
    assert reply.value == node.facts()["table_version"]
    assert node.facts()["nodes_alive"] == 2


@pytest.mark.parametrize("command", [(), (commands.FENCE, "a", 1), (commands.FOUND,), (99, 1), (commands.REGISTER, ())])
def test_nodes_cannot_ask_for_what_only_the_leader_decides(command: tuple[Any, ...]) -> None:
    node = joined()
    ((address, reply),) = node.take(messages.MetaRequest(*messages.BLANK, 1, command))
    assert isinstance(reply, messages.MetaReply)
    assert (address, reply.outcome) == ("b:7701", Outcome.MALFORMED)


def test_a_new_leader_refuses_nobody_by_what_it_knew_before_it_led() -> None:
    founders = [registration(name) for name in "abcd"]
    voters = tuple(node.voter for node in founders[:3])
    founding = (commands.FOUND, OTHER_CLUSTER, 1, commands.REFUSE, tuple(map(tuple, founders)), ((0,),) * 8)
    origin = genesis(Configuration(voters, ()), founding)
    again = tuple(registration("d", 2))
    # d's second life is committed by an earlier leader, and this voter does not know it yet.
    entries = (Entry(2, COMMAND, (commands.FENCE, "d", 1)), Entry(2, COMMAND, (commands.REGISTER, again)))
    journal = rewritten(Identity(OTHER_CLUSTER, voters[0]), Stored(2, None, origin, entries)).data
    node = Node("a", life=2, journal=journal, is_durable=True)
    node.wait(2)
    for is_trial in (True, False):
        term = [message.term for _, message in node.sent if isinstance(message, messages.VoteRequest)][-1]
        node.take(messages.Vote(*messages.RAFT_BLANK, voters[1], voters[0], term, is_trial, True))
    assert node.facts()["meta_role"] == "leader"
    request = messages.MetaRequest(*messages.BLANK, 7, (commands.REGISTER, again))
    assert messages.MetaReply not in kinds(node.take(request, sender="d", source=4))
    raft = node.core.control.meta.group.raft
    reply = messages.AppendReply(
        *(*messages.RAFT_BLANK, voters[1], voters[0], raft.term, True, raft.last_index, raft.term), 1
    )
    answers = [message for _, message in node.take(reply) if isinstance(message, messages.MetaReply)]
    assert [(answer.outcome, answer.value) for answer in answers] == [(Outcome.DONE, 3)]


def test_a_leader_fences_who_does_not_listen_any_more() -> None:
    node = lone()
    node.take(messages.MetaRequest(*messages.BLANK, 7, (commands.REGISTER, tuple(registration("z")))), source=0)
    node.core.on_refused("z:7701", node.instant)
    node.wait(0.2)
    assert node.facts()["nodes_alive"] == 1
    assert any("z (incarnation" in line and "fenced" in line for line in node.log)


def test_addresses_may_be_of_several_networks() -> None:
    networks = (("inside", Addresses("i:1", "i:2")), ("host", Addresses("h:1", "h:2")))
    node = Node(networks=networks)
    node.wait(0.1)
    assert node.core.control.table is not None
    assert node.core.control.table.nodes[0].networks == networks
