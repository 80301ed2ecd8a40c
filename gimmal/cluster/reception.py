"""What a member of a cluster tells nodes that are not: that there is a cluster, and which.

- A newcomer's Hello is answered with Belonging; if the cluster's founding named that very voter and it has not heard of
  it, with the Genesis instead, for as long as this node has it. A voter with a data directory may be another process
  by then; one without is another voter.
- The leader of the meta group invites fenced nodes from time to time: a node that was restarted without knowing anybody
  hears in that way that it has a cluster to come back to.
- A node of another cluster is told which one this is, at most once a second for each address.
"""

from typing import TYPE_CHECKING, Any, Final

from gimmal.cluster.meta.commands import Registration, read_registration
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.table import FENCED, Table
from gimmal.errors import RemoteProtocolError
from gimmal.wire import limits
from gimmal.wire.peer_messages import BLANK, Belonging, Genesis, Hello, PeerMessage

if TYPE_CHECKING:
    from gimmal.cluster.raft import Snapshot

_INVITE_EVERY_S: Final = 2.0
_TELL_EVERY_S: Final = 1.0
_GENESIS_EVERY_S: Final = 0.2
_PEERS_MAX: Final = 8
_NEVER: Final = float("inf")


class Reception:
    """The door of a cluster. `origin` is the snapshot that the cluster began with, if this node has it."""

    def __init__(self, cluster: bytes, origin: "Snapshot | None") -> None:
        self._cluster = cluster
        self._origin = origin
        table = MetaState.from_wire(origin.state).table if origin is not None else None
        self._founders = {row.name: row for row in table.nodes} if table is not None else {}
        self._told_at: dict[str, float] = {}
        self._invite_at = _NEVER
        self._outbox: list[tuple[str, PeerMessage]] = []

    def announce(self, table: Table, me: str) -> None:
        """Send the Genesis to every other node of a new cluster."""
        for row in table.nodes:
            if row.name != me:
                self._outbox.append((row.peer, self._genesis()))

    def on_hello(self, message: Hello, table: Table | None, leader: str, now: float) -> None:
        """Answer a newcomer.

        Raises:
            RemoteProtocolError: it introduces itself as something that is none.
        """
        newcomer = introduced(message)
        row = self._founders.get(newcomer.name)
        if row is not None and row.voter == newcomer.voter and self._may_tell(newcomer.peer, _GENESIS_EVERY_S, now):
            self._outbox.append((newcomer.peer, self._genesis()))
        else:
            self.tell(newcomer.peer, table, leader, now)

    def tell(self, address: str, table: Table | None, leader: str, now: float) -> None:
        """Say which cluster this is and who could be asked about it."""
        if self._may_tell(address, _TELL_EVERY_S, now):
            self._outbox.append((address, Belonging(*BLANK, leader, _peers(table))))

    def _may_tell(self, address: str, pause_s: float, now: float) -> bool:
        """Say whether an address may be told something again, and count that as done."""
        if not address or now - self._told_at.get(address, -_NEVER) < pause_s:
            return False
        if len(self._told_at) >= limits.NODES_MAX:
            self._told_at.clear()
        self._told_at[address] = now
        return True

    def start_inviting(self, now: float) -> None:
        """Invite fenced nodes from now on: this node leads the meta group."""
        self._invite_at = now + _INVITE_EVERY_S

    def stop_inviting(self) -> None:
        """Leave it to the new leader."""
        self._invite_at = _NEVER

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        return self._invite_at

    def tick(self, table: Table | None, leader: str, now: float) -> None:
        """Do what time asks for."""
        if self._invite_at > now:
            return
        self._invite_at = now + _INVITE_EVERY_S
        for row in table.nodes if table is not None else ():
            if row.status == FENCED:
                self.tell(row.peer, table, leader, now)

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (peer address, message) pairs to be sent."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def _genesis(self) -> Genesis:
        assert self._origin is not None
        configuration: Any = tuple(self._origin.configuration)
        return Genesis(*BLANK, self._cluster, configuration, self._origin.state)


def introduced(message: Hello) -> Registration:
    """Return whom a Hello introduces.

    Raises:
        RemoteProtocolError: it is no node.
    """
    try:
        return read_registration(message.profile)
    except (ValueError, TypeError) as reason:
        raise RemoteProtocolError(f"{message.sender} introduces itself as no node: {reason}") from None


def _peers(table: Table | None) -> tuple[str, ...]:
    """Return the addresses of the voters first, then of others, a few in all."""
    if table is None:
        return ()
    rows = sorted(table.nodes, key=lambda row: (row.voter not in table.voters, row.status, row.name))
    return tuple(row.peer for row in rows[:_PEERS_MAX])
