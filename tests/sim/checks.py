"""All checks together, as the world asks for them: cheap after each turn, and thorough at the end.

After a turn only the host whose turn it was is looked at, and only what has changed since its last.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gimmal.cluster.meta.commands import REGISTER, Outcome
from gimmal.cluster.table import Table
from gimmal.wire import peer_messages as wire
from gimmal.wire.peer_messages import Genesis, MetaReply, MetaRequest
from tests.sim.copy_checks import CopyChecks
from tests.sim.host import HOME
from tests.sim.lease_checks import LeaseChecks
from tests.sim.raft_checks import RaftChecks
from tests.sim.table_checks import TableChecks
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimmal.wire.peer_messages import PeerMessage
    from tests.sim.host import Host

_NOT_OF_COPIES: Final[frozenset[type]] = frozenset(
    [
        *(wire.Ping, wire.PingRequest, wire.Ack, wire.Nack, wire.Gossip, wire.ViewDigest, wire.View),
        *(wire.VoteRequest, wire.Vote, wire.AppendEntries, wire.AppendReply, wire.Heartbeat, wire.HeartbeatReply),
        *(wire.FetchRows, wire.Hello, wire.Belonging),
    ]
)
"""After a turn with nothing but these, and no other table, copies are as they were."""


def _may_be_of_copies(got: "Sequence[object]", sent: "Sequence[tuple[str, object]]") -> bool:
    for item in got:
        if type(item) not in _NOT_OF_COPIES:
            return True
    return any(type(message) not in _NOT_OF_COPIES for _, message in sent) if sent else False


class Checks:
    """What the world calls. `counts` are of things seen to happen."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.raft = RaftChecks(counts)
        self.leases = LeaseChecks(counts)
        self.tables = TableChecks(counts)
        self.copies = CopyChecks(counts)
        self.tables.on_newest = self._on_newest
        self._registering: dict[int, None] = {}  # numbers of requests; they start at random and rise
        self._foundings: dict[bytes, None] = {}
        self._observers: dict[type[PeerMessage], Any] = {
            **self.raft.observers,
            MetaRequest: self._on_request,
            MetaReply: self._on_reply,
            Genesis: self._on_genesis,
        }

    def on_start(self, host: "Host") -> None:
        """Look at a process that has read its journal."""
        self.on_turn(host)

    def on_death(self, host: "Host") -> None:
        """Take what a process counted before it is gone."""
        if host.watch is not None:
            for name, number in host.watch.happenings().items():
                self.counts[name] += number

    def on_turn(self, host: "Host", got: "Sequence[object]" = (), sent: "Sequence[tuple[str, object]]" = ()) -> None:
        """Look at a host after its turn, in which it got and sent messages."""
        watch = host.watch
        assert watch is not None
        if watch.voter != host.voter:
            raise Violation("a voter keeps its word", f"{host.voter} calls itself {watch.voter} now")
        identity = watch.identity()
        if identity is not host.identity and identity != host.identity:
            self.tables.on_identity(host, identity)
        table = watch.table()
        is_new_table = table is not host.table
        if is_new_table:
            self.tables.on_table(host, table)
        self.leases.on_turn(host, self.tables.newest_of(identity.cluster))
        state = watch.raft()
        if state is not host.raft and state != host.raft:
            self.raft.on_state(host, state)
        if host.group == HOME and (is_new_table or _may_be_of_copies(got, sent)):
            self.copies.on_turn(host)

    def _on_newest(self, earlier: Table, later: Table) -> None:
        self.leases.on_newest(later)
        if later.cluster == self.tables.cluster_by_group.get(HOME):
            self.copies.on_table(earlier, later)

    def on_leaving(self, host: "Host", message: "PeerMessage") -> None:
        """Look at a message that leaves."""
        observer = self._observers.get(type(message))
        if observer is not None:
            observer(host, message)

    def _on_request(self, host: "Host", message: MetaRequest) -> None:
        if message.command[0] == REGISTER:
            self._registering[message.number] = None

    def _on_reply(self, host: "Host", message: MetaReply) -> None:
        if message.outcome == Outcome.REFUSED and message.number in self._registering:
            self.counts["registrations_refused"] += 1

    def _on_genesis(self, host: "Host", message: Genesis) -> None:
        if message.founding not in self._foundings:
            self._foundings[message.founding] = None
            self.counts["foundings"] += 1
