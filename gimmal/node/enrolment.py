"""How this node comes to belong to a cluster, and as whom.

    nobody's       Founding: it founds a cluster with others, or finds one that exists
    a cluster's    it registers with the leader of the meta group (Contact), also if it was named by the founding
    registered     it is incarnation n; heartbeats keep it so; newcomers are told where they are (Reception)

It can go back: a cluster that never answered is left for another; a node whose name was given to another process
meanwhile (`Disowned`) is nobody again, and goes on asking to be registered. Once a node was registered, is a founding
member, or has given a vote to a cluster that it joined, it never leaves: what its journal says binds its next life too.

What changes is returned as facts; what others have to know (`cluster`, `incarnation`) is read from here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from gimmal.cluster.founding import Born, ClusterFound, Conflict, Founding, Ready
from gimmal.cluster.founding import Fact as FoundingFact
from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome, Registration, read_registration
from gimmal.cluster.meta.contact import Answered, Contact
from gimmal.cluster.meta.group import genesis, read_genesis
from gimmal.cluster.planner import founding_command, founding_configuration
from gimmal.cluster.raft import Snapshot
from gimmal.cluster.reception import Reception
from gimmal.cluster.table import FENCED, Table
from gimmal.errors import RemoteProtocolError
from gimmal.node.chronicle import Chronicle
from gimmal.node.meta_share import MetaShare
from gimmal.node.settings import NodeSettings
from gimmal.wire import peer_messages as messages
from gimmal.wire.peer_messages import BLANK, PeerMessage

if TYPE_CHECKING:
    from random import Random

_ABANDON_AFTER_S: Final = 10.0
_INTRODUCE_AFTER_S: Final = 3.0


class Begun(NamedTuple):
    """A cluster was founded with this node in it; this is its first table."""

    table: Table


class Registered(NamedTuple):
    """This node is `incarnation` from now on."""

    incarnation: int


class Disowned(NamedTuple):
    """This node is nobody any more: its name belongs to another process."""


class Abandoned(NamedTuple):
    """This node belongs to no cluster any more: the one that it had found is not there."""


class RequestAnswered(NamedTuple):
    """The meta group has decided about request `number` for in-sync sets or leaders, by the table of a version."""

    number: int
    version: int


Fact: TypeAlias = Begun | Registered | Disowned | Abandoned | RequestAnswered | Answered
"""An `Answered` is to a request of somebody else's on this node: what enrolment asked for is its own business."""


class Enrolment:
    """This node's way into a cluster. `meta` is its share in the meta group, if there is one from an earlier life."""

    def __init__(
        self, settings: NodeSettings, meta: MetaShare, chronicle: Chronicle, dice: "Random", now: float
    ) -> None:
        self.cluster = b""
        self.incarnation = 0
        self.me = Registration(
            *(settings.name, settings.uuid, meta.voter, settings.zone, settings.weight, settings.peer),
            settings.networks,
        )
        self.contact = Contact(self._askable, dice, now)
        self.reception: Reception | None = None
        self._settings = settings
        self._meta = meta
        self._chronicle = chronicle
        self._dice = dice
        self._founding: Founding | None = None
        self._table: Table | None = meta.group.table
        self._known_peers: tuple[str, ...] = ()
        self._refusal = ""
        self._heard_cluster_at = now
        self._outbox: list[tuple[str, PeerMessage]] = []
        if meta.cluster:
            chronicle.tell("info", f"node {self.me.name} belongs to cluster {meta.cluster.hex()} by its journal")
            self._enter(meta.cluster, now)
            self._outbox = [(seed, self._hello()) for seed in settings.seeds]  # are they of this cluster?
        else:
            self._look_for_a_cluster(now)

    # -- what others may know ---------------------------------------------------------------------------------------

    def state(self) -> str:
        """Return where this node is on its way: founding, joining, fenced or serving."""
        if not self.cluster:
            return "founding" if self._settings.expect else "joining"
        row = self._table.node(self.me.name) if self._table is not None else None
        if not self.incarnation or row is None or row.incarnation != self.incarnation:
            return "joining"
        return "fenced" if row.status == FENCED else "serving"

    def why(self) -> str:
        """Return what a node that does not serve waits for, for people."""
        name, state = self.me.name, self.state()
        if self._founding is not None:
            return f"{name} belongs to no cluster yet: {self._founding.why()}"
        if not self.incarnation:
            return f"{name} is not registered in its cluster: {self._refusal or self._why_silent()}"
        if state == "joining":
            return f"{name} has no table yet in which it is named"
        return f"{name} was declared dead and is about to be taken back" if state == "fenced" else ""

    def _why_silent(self) -> str:
        if self._meta.role != "voter" or self._meta.origin is None:
            return "no answer from its leader yet"
        return (
            "no leader has come out of its founding yet. If its other founding members were lost with all they knew, "
            "start this node anew, with an empty data directory if it has one"
        )

    # -- in ---------------------------------------------------------------------------------------------------------

    def on_heard_cluster(self, now: float) -> None:
        """Hear a registered node of this node's cluster."""
        self._heard_cluster_at = now

    def on_founding(self, message: PeerMessage, now: float) -> list[Fact]:
        """Take a Lock, Locked or Release."""
        return self._follow(self._founding.receive(message, now), now) if self._founding is not None else []

    def on_hello(self, message: messages.Hello, leader: str, now: float) -> list[Fact]:
        """Meet a newcomer: as another one, or at the door of a cluster."""
        if self.reception is None:
            return self.on_founding(message, now)
        if self.incarnation or not self._meta.is_blank:  # who only hopes to belong pulls nobody along
            self.reception.on_hello(message, self._table, leader, now)
        return []

    def on_belonging(self, message: messages.Belonging, now: float) -> list[Fact]:
        """Hear of a cluster."""
        if not self.cluster:
            return self.on_founding(message, now)
        self._known_peers = self._known_peers or message.peers
        return []

    def on_genesis(self, message: messages.Genesis, now: float) -> list[Fact]:
        """Hear how a cluster begins; it counts for a node that is nobody's, or has not got further than its door."""
        if not self.cluster:
            return self.on_founding(message, now)
        if message.founding != self.cluster or self.incarnation:
            return []
        return self._be_born(message, now)

    def on_refused(self, address: str, now: float) -> None:
        """Learn that nobody listens at a peer address any more."""
        if self._founding is not None:
            self._founding.on_refused(address, now)

    def on_other_cluster(self, message: PeerMessage, leader: str, now: float) -> None:
        """Refuse a node of another cluster, so that both sides say it."""
        text = (
            f"refused a {type(message).__name__} of node {message.sender!r}, which belongs to cluster "
            f"{message.cluster.hex()}: node {self.me.name} belongs to {self.cluster.hex()}. If one of them was started "
            "with the data directory of another cluster, give it an empty one"
        )
        self._chronicle.tell_rarely("warning", f"cluster {message.sender}", text, now)
        if isinstance(message, messages.MetaRequest | messages.Hello) and self.reception is not None:
            self.reception.tell(peer_of(message), self._table, leader, now)

    def on_answer(self, message: messages.MetaReply | messages.HeartbeatReply, source: str, now: float) -> list[Fact]:
        """Take an answer of the meta group's from the node with peer address `source`."""
        facts: list[Fact] = []
        for answer in self.contact.receive(message, source, now):
            facts += self._on_answered(answer, message.table_version, now)
        return facts

    def on_table(self, table: Table, now: float) -> list[Fact]:
        """Look for this node in a newer table."""
        self._table = table
        row = table.node(self.me.name)
        if row is not None and row.uuid == self.me.uuid:
            return self._be_registered(row.incarnation, now)
        is_over = row is not None and 0 < self.incarnation < row.incarnation
        return self._be_nobody(now) if is_over else []

    def ask_who_this_is(self, now: float) -> None:
        """Ask the meta group, after a rumor that somebody else is registered under this name; it is the one to know."""
        self._register(now)

    def _be_nobody(self, now: float) -> list[Fact]:
        """Stop being who this node was, and ask to be somebody again."""
        self._chronicle.tell(
            "error",
            f"node {self.me.name} is no longer incarnation {self.incarnation}: another process was registered under "
            "its name while this one was silent. Give one of them another name",
        )
        self.incarnation = 0
        self.contact.stop_beating()
        self.contact.forget_requests()
        self._register(now)
        return [Disowned()]

    # -- time, out --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        due_at = self.contact.next_deadline()
        if self._founding is not None:
            due_at = min(due_at, self._founding.next_deadline())
        if self.reception is not None:
            due_at = min(due_at, self.reception.next_deadline())
        return due_at

    def tick(self, leader: str, now: float) -> list[Fact]:
        """Do what time asks for."""
        facts: list[Fact] = []
        if self._founding is not None and self._founding.next_deadline() <= now:
            facts = self._follow(self._founding.tick(now), now)
            if self._founding is not None:
                self._chronicle.tell_rarely("info", "waiting", self.why(), now)
        if self.contact.next_deadline() <= now:
            self.contact.tick(now)
            facts += self._leave_if_hopeless(now)
            if self.incarnation and self.contact.silence(now) > _INTRODUCE_AFTER_S:
                self._register(now)  # answers may go to another process of this name: say where this one is
        if self.reception is not None:
            self.reception.tick(self._table, leader, now)
        return facts

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (peer address, message) pairs to be sent."""
        outbox, self._outbox = self._outbox, []
        outbox += self.contact.drain()
        if self._founding is not None:
            outbox += self._founding.drain()
        if self.reception is not None:
            outbox += self.reception.drain()
        return outbox

    # -- the steps --------------------------------------------------------------------------------------------------

    def _hello(self) -> messages.Hello:
        return messages.Hello(*BLANK, tuple(self.me), 0, is_answer=False, trouble="")

    def _look_for_a_cluster(self, now: float) -> None:
        settings = self._settings
        self.cluster, self.reception, self._known_peers, self._refusal = b"", None, (), ""
        self.contact.forget_requests()
        self._founding = Founding(self.me, settings.seeds, settings.expect, self._dice, now)

    def _enter(self, cluster: bytes, now: float) -> None:
        """Go by a cluster from now on, and register in it."""
        self.cluster = cluster
        self._founding = None
        self._heard_cluster_at = now
        self.reception = Reception(cluster, self._meta.origin)
        self._register(now)

    def _register(self, now: float) -> None:
        self.contact.request((commands.REGISTER, tuple(self.me)), now, persists=True)

    def _leave_if_hopeless(self, now: float) -> list[Fact]:
        """Look for a cluster anew when the one that was found is not there any more, and never took this node in."""
        if not (self.cluster and self._meta.is_blank and now - self._heard_cluster_at > _ABANDON_AFTER_S):
            return []
        name = self.cluster.hex()
        self._chronicle.tell("warning", f"cluster {name} does not answer: looking for another")
        self._table = None
        self._look_for_a_cluster(now)
        return [Abandoned()]

    def _follow(self, found: list[FoundingFact], now: float) -> list[Fact]:
        facts: list[Fact] = []
        for fact in found:
            if isinstance(fact, Ready):
                facts += self._found(fact, now)
            elif isinstance(fact, Born):
                facts += self._be_born(fact.genesis, now)
            elif isinstance(fact, Conflict):
                self._chronicle.tell_rarely("error", "conflict", f"{self.me.name} cannot found: {fact.text}", now)
            elif isinstance(fact, ClusterFound):
                self._known_peers = fact.peers
                self._chronicle.tell("info", f"node {self.me.name} joins cluster {fact.cluster.hex()}")
                self._enter(fact.cluster, now)
                if fact.peers:
                    self.contact.on_hearsay(fact.peers[0], now)
        return facts

    def _found(self, ready: Ready, now: float) -> list[Fact]:
        """Make a cluster of nodes that have all promised themselves to this founding."""
        settings, members = self._settings, ready.members
        command = founding_command(
            ready.founding, members, settings.partitions, settings.copies, settings.on_total_loss
        )
        names = ", ".join(sorted(node.name for node in members))
        self._chronicle.tell("info", f"node {self.me.name} founds cluster {ready.founding.hex()} of {names}")
        facts = self._begin(genesis(founding_configuration(members), command), now)
        self._meta.stand()
        assert self.reception is not None
        assert self._table is not None
        self.reception.announce(self._table, self.me.name)
        return facts

    def _be_born(self, message: messages.Genesis, now: float) -> list[Fact]:
        origin = read_genesis(message.configuration, message.state)
        table = self._meta.check_origin(origin)
        row = table.node(self.me.name)
        if table.cluster != message.founding or row is None or row.voter != self.me.voter:
            raise RemoteProtocolError(f"a founding that does not name this node, {self.me.name}")
        self._chronicle.tell("info", f"node {self.me.name} is a founding member of cluster {table.cluster.hex()}")
        return self._begin(origin, now)

    def _begin(self, origin: Snapshot, now: float) -> list[Fact]:
        """Start as a founding member; it is somebody only when a leader says so, which most voters have chosen."""
        self._table = self._meta.begin(origin, now)
        self._enter(self._table.cluster, now)
        self.reception = Reception(self.cluster, origin)
        return [Begun(self._table)]

    def _on_answered(self, answer: Answered, version: int, now: float) -> list[Fact]:
        command, result = answer
        if command[0] in (commands.ALTER_ISR, commands.HANDOVER):
            return [RequestAnswered(command[3], version)] if command[2] == self.incarnation else []
        if command[0] != commands.REGISTER:
            return [answer]
        if result.outcome == Outcome.DONE:
            return self._be_registered(result.value, now)
        if self.incarnation:  # who is registered is never refused: another process is, under this name
            return self._be_nobody(now) if result.outcome == Outcome.REFUSED else []
        self._refusal = result.text
        self._chronicle.tell_rarely("error", "refused", f"{self.me.name} is not taken in: {result.text}", now)
        return []

    def _be_registered(self, incarnation: int, now: float) -> list[Fact]:
        if incarnation <= self.incarnation:
            return []
        self.incarnation, self._refusal = incarnation, ""
        self._meta.on_bound(self.cluster)
        self.contact.start_beating(now)
        self._chronicle.tell("info", f"node {self.me.name} is registered as incarnation {incarnation}")
        return [Registered(incarnation)]

    def _askable(self) -> Sequence[str]:
        """Return the peer addresses that may be asked for the leader: voters first, else whoever is known."""
        if self._meta.is_leader:
            return (self.me.peer,)  # a lone one, told that another leads, would ask nobody any more
        table = self._table
        voters = [row.peer for row in table.nodes if row.voter in table.voters] if table is not None else []
        return [address for address in (*voters, *self._known_peers, *self._settings.seeds) if address != self.me.peer]


def peer_of(message: messages.MetaRequest | messages.Hello) -> str:
    """Return the peer address of a node that introduces itself in a message; empty if it does not."""
    try:
        tree = message.profile if isinstance(message, messages.Hello) else message.command[1]
        return read_registration(tree).peer
    except (ValueError, TypeError, LookupError):
        return ""
