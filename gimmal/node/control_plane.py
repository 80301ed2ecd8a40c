"""A node among nodes: who gets which message, and when; what leaves, and with which header.

    Enrolment    which cluster this node belongs to, and as whom
    Membership   gossip with everybody: who is there
    MetaShare    this node's vote in the meta group, if it has one, and what its leader does
    Tracking     the newest table, and how to get a newer one

No protocol rules live here but those about which messages count:

- A message of another cluster is refused and told of; nodes of no common cluster only exchange those of founding.
- A message for another life of this node is dropped. Those of Raft are for a voter, which outlives its node's lives.
- Everything that leaves is stamped in one place, after what it answers for is durable (`unsaved`).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gimmal.cluster.membership import Fact as MembershipFact
from gimmal.cluster.membership import LaterLifeRumored, MemberDead, Membership, MembershipParameters, Profile, State
from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Result
from gimmal.cluster.meta.contact import Answered
from gimmal.cluster.meta.group import Deposed, Elected, TableChanged
from gimmal.cluster.meta.group import Fact as MetaFact
from gimmal.cluster.raft import Save
from gimmal.cluster.table import FENCED, Table
from gimmal.cluster.tracking import Tracking
from gimmal.errors import RemoteProtocolError
from gimmal.node.chronicle import Chronicle, losses
from gimmal.node.enrolment import Abandoned, Begun, Disowned, Enrolment, Fact, Registered, RequestAnswered, peer_of
from gimmal.node.meta_share import MetaShare
from gimmal.node.operators import Operators
from gimmal.node.settings import NodeSettings
from gimmal.types import Incarnation
from gimmal.wire import limits
from gimmal.wire import peer_messages as messages
from gimmal.wire.peer_messages import PeerMessage

if TYPE_CHECKING:
    from random import Random

_ASK_TO_LEAVE_EVERY_S: Final = 1.0
_NEVER: Final = float("inf")

Handover: TypeAlias = tuple[int, int, int, str]
"""(partition, epoch, version, name of the new leader), under the epoch and version of the row as it is now."""

_Handler = Callable[[Any, float], None]


class ControlPlane:
    """A node among nodes. `journal` is what its data directory holds, empty at the first start or without one."""

    def __init__(self, settings: NodeSettings, journal: bytes, dice: "Random", now: float) -> None:
        self.chronicle = Chronicle()
        self.tracking = Tracking(dice)
        self.meta = MetaShare(settings, journal, dice, now)
        self.enrolment = Enrolment(settings, self.meta, self.chronicle, dice, now)
        self.membership: Membership | None = None
        self._operators = Operators(self.enrolment.contact)
        self._dice = dice
        self._leader_name = ""
        self._asks_to_leave_at = -_NEVER
        self._voters: dict[str, str] = {}  # where voters say that they are, by voter id; the table may be older
        self._reliefs: tuple[Handover, ...] = ()
        self._outbox: list[tuple[str, PeerMessage]] = []
        self._for_copies: list[PeerMessage] = []
        self._request_answers: list[tuple[int, int]] = []
        self._to_self: list[PeerMessage] = []  # what this node says to itself, at the next tick
        self._handlers = self._all_handlers()
        if self.meta.group.table is not None:
            self.tracking.adopt(self.meta.group.table)

    # -- what others may know ---------------------------------------------------------------------------------------

    @property
    def cluster(self) -> bytes:
        """The id of this node's cluster; empty while it has none."""
        return self.enrolment.cluster

    @property
    def incarnation(self) -> int:
        """Which life of its name this node is; 0 while it is not registered."""
        return self.enrolment.incarnation

    @property
    def table(self) -> Table | None:
        """The newest table."""
        return self.tracking.table

    def why(self) -> str:
        """Return what a node that does not serve waits for, for people."""
        return self.enrolment.why()

    def facts(self) -> dict[str, int | str]:
        """Return what this plane says of itself in a node's status."""
        nodes = self.table.nodes if self.table is not None else ()
        return {
            "state": self.enrolment.state(),
            "why": self.why(),
            "cluster": self.cluster.hex(),
            "incarnation": self.incarnation,
            "table_version": self.tracking.version,
            "meta_role": self.meta.role,
            "meta_term": self.meta.group.raft.term,
            "nodes_alive": sum(row.status != FENCED for row in nodes),
        }

    def alter_in_sync(self, number: int, changes: tuple[Any, ...], now: float) -> None:
        """Ask for other in-sync sets of partitions this node leads (`gimmal.cluster.meta.commands`)."""
        command = (commands.ALTER_ISR, self.enrolment.me.name, self.incarnation, number, changes)
        self.enrolment.contact.request(command, now)

    def hand_over(self, number: int, changes: tuple[Handover, ...], now: float) -> None:
        """Ask for other leaders of partitions this node leads; numbers rise together with those of `alter_in_sync`.

        Whoever asks has stopped, and goes on with a partition only under a row of a higher version than it named:
        one comes in any case, also when the new leader is not to the meta group's liking.
        """
        command = (commands.HANDOVER, self.enrolment.me.name, self.incarnation, number, changes)
        self.enrolment.contact.request(command, now)

    def take_reliefs(self) -> list[Handover]:
        """Return what this node was advised to hand over and still leads so, and forget it."""
        if not self._reliefs:
            return []
        reliefs, self._reliefs = self._reliefs, ()
        rows = self.table.partitions if self.table is not None else ()
        return [
            (partition, epoch, version, target)
            for partition, epoch, version, target in reliefs
            if partition < len(rows)
            and (rows[partition].leader, rows[partition].epoch, rows[partition].version)
            == (self.enrolment.me.name, epoch, version)
        ]

    def operate(self, peer: bytes, command: tuple[Any, ...], now: float) -> None:
        """Have the meta group decide what an operator asks for; the answer comes with `drain_for_operators`."""
        self._operators.ask(peer, command, "" if self.incarnation else self.why(), now)

    def drain_for_operators(self) -> list[tuple[bytes, Result]]:
        """Return answers to operators, and forget them."""
        return self._operators.drain()

    @property
    def is_fenced(self) -> bool:
        """Whether this node is out of everything, by the newest table."""
        return self.enrolment.state() == "fenced"

    def ask_to_be_fenced(self, now: float) -> None:
        """Ask to be taken out of everything: this node is about to stop, and leads nothing that others could lead.

        That it is asked for is remembered: between the answer and the table that says so there are many turns.
        """
        if now >= self._asks_to_leave_at:
            self._asks_to_leave_at = now + _ASK_TO_LEAVE_EVERY_S
            self.enrolment.contact.request((commands.FENCE, self.enrolment.me.name, self.incarnation), now)

    def lease_is_valid(self, now: float) -> bool:
        """Say whether nobody else can have been given, by `now`, what the table gives to this node."""
        return self.enrolment.contact.lease.is_valid(now, self.tracking.version)

    @property
    def lease_grants(self) -> object:
        """What the lease rests on; another object when that has changed."""
        return self.enrolment.contact.lease.grants

    def lease_until(self) -> float:
        """Return when that ends by what is known so far; minus infinity without a lease."""
        return self.enrolment.contact.lease.valid_until(self.tracking.version)

    def accusers(self, name: str) -> tuple[str, ...]:
        """Return the members that suspect a node now, independently of each other."""
        return self.membership.accusers(name) if self.membership is not None else ()

    def is_well(self, name: str) -> bool:
        """Say whether a member is neither suspected nor taken for dead."""
        member = self.membership.members.get(name) if self.membership is not None else None
        return member is None or member.state is State.ALIVE

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive(self, message: PeerMessage, now: float) -> None:
        """Take a message of another node's."""
        handler, is_for_strangers = self._handlers[type(message)]
        self.chronicle.counters["node_messages"] += 1
        cluster = self.cluster
        if message.cluster and cluster and message.cluster != cluster:
            self.chronicle.counters["other_cluster"] += 1
            self.enrolment.on_other_cluster(message, self._leader_address(now), now)
        elif message.destination not in (0, self.incarnation):
            self.chronicle.counters["for_other_lives"] += 1
        elif is_for_strangers or (cluster and message.cluster == cluster):
            try:
                handler(message, now)
            except RemoteProtocolError as error:
                self.on_bad_message(message, error, now)
            if message.cluster == self.cluster:
                self._on_heard(message, now)

    def on_bad_message(self, message: PeerMessage, error: RemoteProtocolError, now: float) -> None:
        """Count and tell of a message that was not what it should be."""
        self.chronicle.counters["protocol_errors"] += 1
        self.chronicle.tell_rarely("warning", f"bad {message.sender}", f"node {message.sender}: {error}", now)

    def take_for_copies(self) -> Sequence[PeerMessage]:
        """Return the messages that are about copies of partitions, and forget them."""
        if not self._for_copies:
            return ()
        taken, self._for_copies = self._for_copies, []
        return taken

    def take_request_answers(self) -> Sequence[tuple[int, int]]:
        """Return (number, version of the table) of decided requests for in-sync sets or leaders, and forget them."""
        if not self._request_answers:
            return ()
        taken, self._request_answers = self._request_answers, []
        return taken

    def _on_heard(self, message: PeerMessage, now: float) -> None:
        """Take note of what every message of this cluster says: that the cluster is there, and which table it has."""
        if message.source:
            self.enrolment.on_heard_cluster(now)
        if message.table_version > self.tracking.version:
            self.tracking.on_heard(message.table_version, self._where_now(message), now)

    def on_refused(self, address: str, now: float) -> None:
        """Learn that nobody listens at a peer address any more: the process that did is gone."""
        self.enrolment.on_refused(address, now)
        for row in self.table.nodes if self.table is not None else ():
            if row.peer == address and row.name != self.enrolment.me.name:
                self.meta.on_gone(row, now)
                if self.membership is not None and row.status != FENCED:
                    self._on_membership(self.membership.on_refused(row.name, now), now)

    def _all_handlers(self) -> dict[type[PeerMessage], tuple[_Handler, bool]]:
        """Return for each message its handler, and whether it counts between nodes of no common cluster."""
        enrolment = self.enrolment
        raft = (messages.VoteRequest, messages.Vote, messages.AppendEntries, messages.AppendReply)
        gossip = (messages.Ping, messages.PingRequest, messages.Ack, messages.Nack, messages.Gossip)
        views = (messages.ViewDigest, messages.View)
        locks = (messages.Lock, messages.Locked, messages.Release)
        answers = (messages.MetaReply, messages.HeartbeatReply)
        copies = (
            *(messages.Append, messages.AppendAck, messages.Histories, messages.SnapshotChunk, messages.SnapshotAck),
            *(messages.Confirm, messages.Confirmed),
        )
        return {
            **dict.fromkeys((*gossip, *views), (self._on_gossip, False)),
            **dict.fromkeys((*raft, messages.InstallSnapshot), (self._on_raft, False)),
            **dict.fromkeys(locks, (lambda message, now: self._enrol(enrolment.on_founding(message, now), now), True)),
            **dict.fromkeys(answers, (self._on_answer, False)),
            **dict.fromkeys(copies, (lambda message, now: self._for_copies.append(message), False)),
            messages.Hello: (self._on_hello, True),
            messages.Belonging: (lambda message, now: self._enrol(enrolment.on_belonging(message, now), now), True),
            messages.Genesis: (lambda message, now: self._enrol(enrolment.on_genesis(message, now), now), True),
            messages.MetaRequest: (self._on_meta_request, False),
            messages.Heartbeat: (self._on_heartbeat, False),
            messages.Relieve: (self._on_relieve, False),
            messages.FetchRows: (self._on_fetch_rows, False),
            messages.Rows: (self._on_rows, False),
        }

    # -- enrolment, the table ---------------------------------------------------------------------------------------

    def _on_hello(self, message: messages.Hello, now: float) -> None:
        self._enrol(self.enrolment.on_hello(message, self._leader_address(now), now), now)

    def _on_answer(self, message: messages.MetaReply | messages.HeartbeatReply, now: float) -> None:
        self._enrol(self.enrolment.on_answer(message, self._address_of(message.sender), now), now)

    def _enrol(self, facts: Sequence[Fact], now: float) -> None:
        for fact in facts:
            if isinstance(fact, Registered | Disowned):
                self._reliefs, self._request_answers = (), []  # they were for another life
            if isinstance(fact, Begun):
                self.tracking.adopt(fact.table)
            elif isinstance(fact, Registered):
                me = self.enrolment.me
                profile = Profile(me.peer, me.zone, me.weight, me.networks)
                parameters = MembershipParameters()
                self.membership = Membership(me.name, fact.incarnation, profile, parameters, self._dice, now)
                self._tell_membership(now)
            elif isinstance(fact, Answered):
                self._on_answered(fact)
            elif isinstance(fact, Abandoned):
                self.tracking = Tracking(self._dice)
            elif isinstance(fact, Disowned):
                self.membership = None
            elif isinstance(fact, RequestAnswered):
                self._request_answers.append(fact)

    def _on_answered(self, answer: Answered) -> None:
        if answer.command[0] in commands.FROM_OPERATORS:
            self._operators.on_answered(answer.command, answer.result)

    def _on_fetch_rows(self, message: messages.FetchRows, now: float) -> None:
        self.tracking.answer(self._address_of(message.sender), message.since, now)

    def _on_rows(self, message: messages.Rows, now: float) -> None:
        if self.tracking.on_rows(message, self._where_now(message), self.cluster):
            self._on_table(now)

    def _on_table(self, now: float) -> None:
        """Go by a newer table."""
        assert self.table is not None
        self._voters.clear()  # it is newer than what they said
        self._enrol(self.enrolment.on_table(self.table, now), now)
        self._tell_membership(now)

    def _tell_membership(self, now: float) -> None:
        if self.membership is not None and self.table is not None:
            members = [
                (row.name, row.incarnation, Profile(row.peer, row.zone, row.weight, row.networks))
                for row in self.table.nodes
            ]
            self._on_membership(self.membership.adopt(members, now), now)

    # -- gossip -----------------------------------------------------------------------------------------------------

    def _on_gossip(self, message: PeerMessage, now: float) -> None:
        if self.membership is not None:
            self._on_membership(self.membership.receive(message, now), now)

    def _on_membership(self, facts: Sequence[MembershipFact], now: float) -> None:
        for fact in facts:
            self.chronicle.counters[type(fact).__name__] += 1
            if isinstance(fact, LaterLifeRumored):
                self.enrolment.ask_who_this_is(now)
            elif isinstance(fact, MemberDead):
                who = f"node {fact.name} (incarnation {fact.incarnation})"
                self.chronicle.tell_rarely("info", f"dead {who}", f"{who} is taken for dead", now)

    # -- the meta group ---------------------------------------------------------------------------------------------

    def _on_raft(self, message: messages.RaftMessage, now: float) -> None:
        self._voters.pop(message.voter, None)
        if len(self._voters) >= limits.VOTERS_MAX:
            del self._voters[next(iter(self._voters))]  # whoever has been silent longest
        self._voters[message.voter] = message.peer
        self._on_meta(self.meta.receive(message, now), now)

    def _on_heartbeat(self, message: messages.Heartbeat, now: float) -> None:
        self.meta.on_heartbeat(message, self._address_of(message.sender), self._leader_address(now), now)

    def _on_meta_request(self, message: messages.MetaRequest, now: float) -> None:
        address = peer_of(message) or self._address_of(message.sender)  # who registers is in no table yet
        self.meta.on_request(message, address, self._leader_address(now), now)

    def _on_relieve(self, message: messages.Relieve, now: float) -> None:
        self._reliefs = message.changes  # what came before was about an older table

    def _on_meta(self, facts: Sequence[MetaFact], now: float) -> None:
        reception = self.enrolment.reception
        for fact in facts:
            if isinstance(fact, TableChanged):
                table = self.meta.group.table
                if table is not None and table.version > self.tracking.version:
                    self._tell_changes(table)
                    self.tracking.adopt(table)
                    self._on_table(now)
            elif isinstance(fact, Elected):
                self.chronicle.tell("info", f"this node leads the meta group in term {fact.term}")
                if reception is not None:
                    reception.start_inviting(now)
            elif isinstance(fact, Deposed):
                self.chronicle.tell("info", f"this node does not lead the meta group any more (term {fact.term})")
                if reception is not None:
                    reception.stop_inviting()
        if self.meta.leader_name != self._leader_name:
            self._leader_name = self.meta.leader_name
            if self._leader_name:
                self.enrolment.contact.on_leader(self._address_of(self._leader_name), now)

    def _tell_changes(self, table: Table) -> None:
        """Log what a newer table says of nodes, where it was decided."""
        for row in table.nodes if self.meta.is_leader else ():
            before = self.table.node(row.name) if self.table is not None else None
            who = f"node {row.name} (incarnation {row.incarnation}, at {row.peer})"
            if before is None or before.incarnation != row.incarnation:
                self.chronicle.tell("info", f"{who} was registered")
            elif before.status != row.status:
                self.chronicle.tell("info", f"{who} was {'fenced' if row.status == FENCED else 'taken back'}")
        if self.meta.is_leader and self.table is not None:
            for text in losses(self.table, table):
                self.chronicle.tell("warning", text)

    def _leader_address(self, now: float) -> str:
        """Return the peer address of the meta group's leader if this node knows it at first hand."""
        address = self._address_of(self.meta.leader_name) if self.meta.leader_name else ""
        address = address or self.enrolment.contact.leader(now)  # a learner may follow before it has a table
        is_stale = address == self.enrolment.me.peer and not self.meta.is_leader
        return "" if is_stale else address  # else a deposed leader would go on believing itself

    # -- time -------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what time asks for."""
        to_self, self._to_self = self._to_self, []
        for message in to_self:
            self.receive(message, now)
        if self.enrolment.next_deadline() <= now:
            self._enrol(self.enrolment.tick(self._leader_address(now), now), now)
        if self.membership is not None and self.membership.next_deadline() <= now:
            self._on_membership(self.membership.tick(now), now)
        if self.meta.next_deadline() <= now:
            self._on_meta(self.meta.tick(self.incarnation, self, now), now)
        self.tracking.tick(now)
        self._operators.tick(now)

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        if self._to_self:
            return -_NEVER
        return min(
            self.enrolment.next_deadline(),
            self.membership.next_deadline() if self.membership is not None else _NEVER,
            self.meta.next_deadline(),
            self.tracking.next_deadline(),
            self._operators.next_deadline(),
        )

    # -- out --------------------------------------------------------------------------------------------------------

    def unsaved(self) -> Save | None:
        """Return what must be in the journal before `drain`, or None."""
        return self.meta.unsaved()

    def on_saved(self, now: float) -> None:
        """Go on after the journal has what `unsaved` returned last."""
        self._on_meta(self.meta.on_saved(now), now)

    def post(self, messages_by_life: Sequence[tuple[Incarnation, PeerMessage]]) -> None:
        """Take what the copies here have to say to those on other nodes; the life that is meant is in the message."""
        self._outbox += [(self._address_of(name), message) for (name, _), message in messages_by_life]

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return what is to be sent, with the peer addresses it goes to, and forget it."""
        outbox, self._outbox = self._outbox, []
        outbox += self.enrolment.drain()
        outbox += self.tracking.drain()
        outbox += self.meta.drain()
        for voter, raft_message in self.meta.group.raft.drain():
            raft_message.peer = self.enrolment.me.peer
            outbox.append((self._address_of_voter(voter), raft_message))
        if self.membership is not None:
            for name, message in self.membership.drain():
                member = self.membership.members.get(name)
                message.destination = member.incarnation if member is not None else 0
                outbox.append((self._address_of(name), message))
        if not outbox:
            return outbox
        cluster, source, version = self.cluster, self.incarnation, self.tracking.version
        here, me = self.enrolment.me.peer, self.enrolment.me.name
        for _, message in outbox:
            message.cluster = message.cluster or cluster
            message.source = source
            message.table_version = version
            message.sender = me
        self._to_self += [message for address, message in outbox if address == here]
        return [(address, message) for address, message in outbox if address and address != here]

    def _where_now(self, message: PeerMessage) -> str:
        """Return the peer address of who sent a message; if it is in no table, or moved since, that of the leader."""
        row = self.table.node(message.sender) if self.table is not None else None
        is_known = row is None or row.incarnation == message.source
        return (self._address_of(message.sender) if is_known else "") or self.enrolment.contact.believed

    def _address_of_voter(self, voter: str) -> str:
        known = self._voters.get(voter) or self.meta.group.address_of(voter)
        return known or self._address_of(voter.rpartition("/")[0])

    def _address_of(self, name: str) -> str:
        """Return the peer address of a node, empty if it is not known."""
        if name == self.enrolment.me.name:
            return self.enrolment.me.peer
        row = self.table.node(name) if self.table is not None else None
        if row is not None:
            return row.peer
        return (self.membership.peer_of(name) or "") if self.membership is not None else ""
