"""This node's share in the meta group: its vote and its log if it has any, and the leader's work while it leads.

It answers heartbeats and requests of other nodes: as the leader it decides, else it says who leads. The leader answers
the heartbeat of a node that may have a lease when it can grant it, and not before. What has to be durable before
anything is sent becomes the bytes of the journal here.
"""

from typing import TYPE_CHECKING, Final

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome, Result
from gimmal.cluster.meta.grants import Grants, Waiting
from gimmal.cluster.meta.group import GENESIS_INDEX, Decided, Deposed, Elected, Fact, MetaGroup
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.meta.steward import Steward, StewardParameters, Suspicions, View
from gimmal.cluster.raft import (
    Identity,
    RaftParameters,
    Role,
    Save,
    Snapshot,
    Stored,
    read_journal,
    rewritten,
    save_of,
)
from gimmal.cluster.table import ALIVE, NodeRow, Table
from gimmal.errors import RemoteProtocolError
from gimmal.types import Incarnation
from gimmal.wire import limits
from gimmal.wire.peer_messages import (
    BLANK,
    Heartbeat,
    HeartbeatReply,
    MetaReply,
    MetaRequest,
    PeerMessage,
    RaftMessage,
    Relieve,
)

if TYPE_CHECKING:
    from random import Random

    from gimmal.node.settings import NodeSettings

_NEVER: Final = float("inf")
_NO_CLUSTER: Final = bytes(16)
"""What a journal has in place of a cluster's id before there is a cluster."""


class MetaShare:
    """The meta group, as far as it is on this node. `journal` is what the node's data directory holds."""

    def __init__(self, settings: "NodeSettings", journal: bytes, dice: "Random", now: float) -> None:
        found = read_journal(journal)
        self._saved_cluster = found.identity.cluster if found.identity is not None else None
        self.cluster = self._saved_cluster if self._saved_cluster not in (None, _NO_CLUSTER) else b""
        self.voter = found.identity.voter if found.identity is not None else f"{settings.name}/{settings.uuid.hex()}"
        self.group = MetaGroup(self.voter, found.stored, RaftParameters(), dice, now)
        self.steward = Steward(StewardParameters())
        self._grants = Grants()
        self._name = settings.name
        self._peer = settings.peer
        self._is_durable = settings.is_durable
        self._dice = dice
        self._is_reborn = False
        self._stands = False
        self._outbox: list[tuple[str, PeerMessage]] = []

    @property
    def is_leader(self) -> bool:
        """Whether this node leads the meta group."""
        return self.group.raft.role is Role.LEADER

    @property
    def role(self) -> str:
        """What this node is in the meta group: leader, voter, learner or none."""
        raft = self.group.raft
        if self.is_leader:
            return "leader"
        if self.voter in raft.configuration.voters:
            return "voter"
        return "learner" if self.voter in raft.configuration.learners else "none"

    @property
    def leader_name(self) -> str:
        """The name of the node that leads, if this one has a share and knows; else empty."""
        leader = self.group.raft.leader
        return leader.rpartition("/")[0] if leader else ""

    # -- how it begins ----------------------------------------------------------------------------------------------

    @property
    def is_blank(self) -> bool:
        """Whether this node has no part in any cluster yet: no vote that could be relied on, and no registration."""
        raft = self.group.raft
        return not self.cluster and raft.term == 0 and raft.last_index == 0

    @property
    def origin(self) -> Snapshot | None:
        """The snapshot that the cluster began with, if this node still has it."""
        snapshot = self.group.raft.log.snapshot
        return snapshot if snapshot.index == GENESIS_INDEX else None

    def check_origin(self, origin: Snapshot) -> Table:
        """Return the table that a cluster begins with; raises RemoteProtocolError if there is none."""
        table = MetaState.from_wire(origin.state).table
        if table is None:
            raise RemoteProtocolError("a founding without a table")
        return table

    def begin(self, origin: Snapshot, now: float) -> Table:
        """Begin as a founding member; what this voter has promised already still binds it."""
        table = self.check_origin(origin)
        raft = self.group.raft
        self.cluster = table.cluster
        if self.voter in origin.configuration.voters and raft.last_index == 0:
            vote = raft.vote if raft.term >= origin.term else None
            stored = Stored(max(raft.term, origin.term), vote, origin, ())
            self.group = MetaGroup(self.voter, stored, RaftParameters(), self._dice, now)
            self._is_reborn = True
        return table

    def stand(self) -> None:
        """Stand for election with the next tick: a founder need not wait until it misses a leader."""
        self._stands = True

    def on_bound(self, cluster: bytes) -> None:
        """Belong to a cluster for good: the journal has to say so, also that of a node without a vote."""
        self.cluster = cluster

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive(self, message: RaftMessage, now: float) -> list[Fact]:
        """Take a message of another voter's; raises RemoteProtocolError if it is not to be understood."""
        facts = self._follow(self.group.receive(message, now), now)
        self._grant()
        if not self.cluster and self.group.raft.unsaved() is not None:
            self.on_bound(message.cluster)  # a voter that has promised something belongs to whom it promised it
        return facts

    def on_heartbeat(self, message: Heartbeat, address: str, leader: str, now: float) -> None:
        """Hear a node; let it wait for a lease if it may have one, else say who leads."""
        node = Incarnation(message.sender, message.source)
        row = self._row_of(node) if self.is_leader else None
        if row is not None:
            self.steward.on_heartbeat(*node, now)
            if row.status == ALIVE and self.steward.accept(*node, now):
                self._grants.on_heartbeat(Waiting(node, message.number, address, self.group.raft.round))
                if self.group.raft.configuration.voters == (self.voter,):
                    self.group.raft.start_round(now)  # it is a quorum by itself, and has no reason to wait
                self._grant()
                return
        self._answer(Waiting(node, message.number, address, 0), leader, is_granted=False)

    def _row_of(self, node: Incarnation) -> NodeRow | None:
        """Return the row of a node, if it is in this life."""
        row = self.group.table.node(node.name) if self.group.table is not None else None
        return row if row is not None and row.incarnation == node.number else None

    def _grant(self) -> None:
        """Answer those whose heartbeats a quorum has outlived.

        Before an entry of its own term is applied, a leader does not know whom an earlier one has fenced. The header
        of a grant names a table no older than the one by which it is made: what is applied here, the node goes by
        before it sends anything.
        """
        raft = self.group.raft
        if self._grants and raft.has_committed_in_term:
            for waiting in self._grants.due(raft.confirmed_round):
                row = self._row_of(waiting.node)
                is_alive = row is not None and row.status == ALIVE
                may_have_it = is_alive and self.steward.may_be_granted(*waiting.node)
                self._answer(waiting, self._peer, is_granted=may_have_it)

    def _answer(self, waiting: Waiting, leader: str, *, is_granted: bool) -> None:
        if waiting.address:
            reply = HeartbeatReply(*BLANK, waiting.number, leader, is_granted)
            reply.destination = waiting.node.number
            self._outbox.append((waiting.address, reply))

    def on_request(self, message: MetaRequest, address: str, leader: str, now: float) -> None:
        """Decide about a request, or say who does."""
        command = message.command
        ticket = (address, message.number)
        if not (commands.is_well_formed(command) and _may_ask(message)):
            result: Result | None = Result(Outcome.MALFORMED, 0, "nodes cannot ask for that")
        elif not self.is_leader:
            result = Result(Outcome.NOT_LEADER)
        else:
            is_up_to_date = self.group.raft.has_committed_in_term  # else an earlier leader may have decided more
            result = self.group.state.answer_without_entry(command) if is_up_to_date else None
            if command[0] == commands.FENCE:
                result = self._on_leaving(Incarnation(message.sender, message.source), now)
            result = result or self.group.request(ticket, command, now)
        if result is not None:
            self._reply(ticket, result, leader)

    def _on_leaving(self, node: Incarnation, now: float) -> Result:
        """Have the steward fence a node that asks for it, when its lease is over; the node hears of it by the table."""
        row = self._row_of(node)
        if row is None:
            return Result(Outcome.REFUSED, 0, f"{node.name} is not registered as incarnation {node.number}")
        if row.status != ALIVE:
            return Result(Outcome.DONE)
        self.steward.on_leaving(*node, now)
        return Result(Outcome.UNDECIDED, 0, f"{node.name} will be fenced as soon as no lease of it counts any more")

    def on_gone(self, row: NodeRow, now: float) -> None:
        """Learn that the process of a node is gone."""
        if self.is_leader:
            self.steward.on_gone(row.name, row.incarnation, now)
        elif row.voter == self.group.raft.leader:
            self.group.raft.on_leader_gone(now)

    # -- time -------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        if self._stands:
            return -_NEVER
        due_at, watches_at = self.group.raft.next_deadline(), self.steward.next_deadline()
        return watches_at if watches_at < due_at and self.group.table is not None else due_at

    def tick(self, incarnation: int, suspicions: Suspicions, now: float) -> list[Fact]:
        """Do what time asks for; `incarnation` is this node's."""
        facts = self._follow(self.group.campaign(now) if self._stands else self.group.tick(now), now)
        self._stands = False
        self._grant()
        table, raft = self.group.table, self.group.raft
        if self.is_leader and table is not None and self.steward.next_deadline() <= now:
            is_settled = raft.has_committed_in_term and raft.commit_index == raft.last_index
            view = View(Incarnation(self._name, incarnation), table, is_settled)
            for verdict in self.steward.verdicts(view, suspicions, now):
                if self.group.request(None, verdict, now) is None:
                    self.steward.on_proposed(verdict)
            self._advise(table, now)
            configuration = self.steward.next_configuration(raft, table, now)
            if configuration is not None:
                raft.propose_configuration(configuration, now)
        return facts

    def _advise(self, table: Table, now: float) -> None:
        """Tell leaders of partitions what they should hand over."""
        changes: dict[str, list[tuple[int, int, int, str]]] = {}
        for partition, target in self.steward.advice(table, now):
            row = table.partitions[partition]
            if row.leader is not None:
                changes.setdefault(row.leader, []).append((partition, row.epoch, row.version, target))
        for leader, handovers in changes.items():
            node = table.node(leader)
            if node is not None:
                message = Relieve(*BLANK, tuple(handovers))
                message.destination = node.incarnation
                self._outbox.append((node.peer, message))

    # -- out --------------------------------------------------------------------------------------------------------

    def unsaved(self) -> Save | None:
        """Return what must be in the journal before anything is sent that answers for it.

        A node without a cluster saves under which identity it would vote: a founding may count on it.
        """
        raft = self.group.raft
        unsaved = raft.unsaved()
        cluster = self.cluster or _NO_CLUSTER
        has_to_rewrite = self._is_reborn or cluster != self._saved_cluster
        if unsaved is None and not has_to_rewrite:
            return None
        if not self._is_durable:
            return Save(b"", replaces=False)
        identity = Identity(cluster, self.voter)
        if has_to_rewrite or unsaved is None:
            return rewritten(identity, raft.stored)
        return save_of(identity, unsaved)

    def on_saved(self, now: float) -> list[Fact]:
        """Go on after the journal has what `unsaved` returned."""
        self._saved_cluster, self._is_reborn = self.cluster or _NO_CLUSTER, False
        facts = self._follow(self.group.on_saved(now), now)
        self._grant()
        return facts

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (peer address, message) pairs to be sent."""
        outbox, self._outbox = self._outbox, []
        return outbox

    # -- what comes back --------------------------------------------------------------------------------------------

    def _follow(self, facts: list[Fact], now: float) -> list[Fact]:
        for fact in facts:
            if isinstance(fact, Decided):
                if fact.ticket is None:
                    self.steward.on_decided(fact.command)
                else:
                    self._reply(fact.ticket, fact.result, self._peer if self.is_leader else "")
            elif isinstance(fact, Elected):
                self.steward.start(now)
            elif isinstance(fact, Deposed):
                self.steward.stop()
                for waiting in self._grants.give_up():
                    self._answer(waiting, "", is_granted=False)
        return facts

    def _reply(self, ticket: tuple[str, int], result: Result, leader: str) -> None:
        address, number = ticket
        if address:
            text = result.text[: limits.TEXT_BYTES_MAX]
            self._outbox.append((address, MetaReply(*BLANK, number, int(result.outcome), result.value, text, leader)))


def _may_ask(message: MetaRequest) -> bool:
    """Say whether a node may ask for a command: to be fenced it may ask for itself alone."""
    command = message.command
    if command[0] == commands.FENCE:
        return command[1:] == (message.sender, message.source)
    return command[0] in commands.FROM_NODES
