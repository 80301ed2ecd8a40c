"""A node without its sockets and its disk: two planes, and nothing but who gets what.

- `control_plane`: which cluster this node belongs to, as whom, and what the table says. Talks to nodes.
- `data_plane`: what clients get of the partitions that the table gives to this node.

What passes between them: when the control plane goes by a newer table, or the node is somebody else, the data plane is
told, before anything more is served; messages about copies go through the control plane, which knows who is meant; and
what the data plane wants of the meta group, the control plane asks for.

The verbs: `receive` and `receive_from_node`, `tick`, `next_deadline`; then `unsaved` and `on_saved`, until there is
nothing more to save; then `drain` and `drain_for_nodes`. `reject` is for frames that were no message, `on_refused` for
addresses where nobody listens any more.
"""

from typing import TYPE_CHECKING

from gimmal.cluster.raft import Save
from gimmal.errors import RemoteProtocolError
from gimmal.node.chronicle import Level
from gimmal.node.control_plane import ControlPlane
from gimmal.node.data_plane import DataPlane
from gimmal.node.settings import NodeSettings
from gimmal.types import Instant
from gimmal.wire import limits
from gimmal.wire.messages import Fault, FetchStatus, FetchTable, Message, Operate, Operated, Problem, Request, Status
from gimmal.wire.peer_messages import PeerMessage

if TYPE_CHECKING:
    from random import Random


class NodeCore:
    """One node, led by messages and time alone. `journal` is what its data directory holds; empty if it has none.

    Raises:
        JournalCorrupt: the journal is damaged where it must not be.
    """

    def __init__(self, settings: NodeSettings, journal: bytes, dice: "Random", now: Instant) -> None:
        self.name = settings.name
        self.control = ControlPlane(settings, journal, dice, now.seconds)
        self.data = DataPlane(settings.name, settings.memory_limits, dice, now, settings.log_bytes)
        self._started_at_s = now.seconds
        self._now = now
        self._lease_grants: object = None  # by which the data plane goes
        self.had_to_leave = False  # whether there was anything to be handed over when it began to leave
        self._outbox: list[tuple[bytes, Message]] = []
        self._hand_over(now)

    # -- in -------------------------------------------------------------------------------------------------------

    def receive(self, peer: bytes, message: Message, now: Instant) -> None:
        """Take one message from a client."""
        kind = type(message)
        if kind is FetchStatus and message.cluster in (b"", self.control.cluster):
            self._outbox.append((peer, Status(*self.data.header(), tuple(self._facts(now).items()))))
        elif kind is Operate and message.cluster in (b"", self.control.cluster):
            self.control.operate(peer, message.command, now.seconds)  # type: ignore[attr-defined]
        elif kind is FetchTable and self.data.table is None:
            text = self.control.why()[: limits.TEXT_BYTES_MAX]
            self._outbox.append((peer, Problem(*self.data.header(), int(Fault.NOT_READY), text)))
        elif kind is Request and not self.data.leads_any and (why := self.control.why()):
            self.data.refuse(peer, message, why, now)  # type: ignore[arg-type]
        else:
            self.data.receive(peer, message, now)

    def reject(self, peer: bytes, error: RemoteProtocolError, now: Instant) -> None:
        """Count and answer a frame from a client that was no message."""
        self.data.reject(peer, error, now)

    def receive_from_node(self, message: PeerMessage, now: Instant) -> None:
        """Take one message from another node."""
        self.control.receive(message, now.seconds)
        self._hand_over(now)

    def on_refused(self, address: str, now: Instant) -> None:
        """Learn that nobody listens at a peer address any more."""
        self.control.on_refused(address, now.seconds)
        self._hand_over(now)

    def leave(self, now: Instant) -> None:
        """Begin to hand over everything that this node leads, and then to leave all in-sync sets.

        Else those who write would wait for it, until they find out that it is gone. `has_left` says when that is done.
        """
        self.had_to_leave = not self.data.has_left
        self.data.leave(now)

    @property
    def has_left(self) -> bool:
        """Whether nobody waits for this node any more."""
        return self.data.has_left and (not self.had_to_leave or self.control.is_fenced)

    # -- time -----------------------------------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Do what time asks for."""
        self._now = now
        self.data.tick(now)
        self.data.relieve(self.control.take_reliefs())
        if self.had_to_leave and self.data.has_left and not self.control.is_fenced:
            self.control.ask_to_be_fenced(now.seconds)
        request = self.data.take_request()
        if request is not None:
            ask = self.control.hand_over if request.is_handover else self.control.alter_in_sync
            ask(request.number, request.changes, now.seconds)
        self.control.tick(now.seconds)
        self._hand_over(now)

    def next_deadline(self) -> float:
        """Return when to call `tick` next, in the clock of `Instant.seconds`; infinity if nothing waits for time."""
        return min(self.control.next_deadline(), self.data.next_deadline())

    # -- out ------------------------------------------------------------------------------------------------------

    def unsaved(self) -> Save | None:
        """Return what must be in the journal before `drain_for_nodes`, or None."""
        return self.control.unsaved()

    def on_saved(self, now: Instant) -> None:
        """Go on after the journal has what `unsaved` returned last."""
        self.control.on_saved(now.seconds)
        self._hand_over(now)

    def drain(self) -> list[tuple[bytes, Message]]:
        """Return what is to be sent to clients, and forget it."""
        outbox = self.data.drain()
        for peer, (outcome, value, text) in self.control.drain_for_operators():
            outbox.append((peer, Operated(*self.data.header(), int(outcome), value, text[: limits.TEXT_BYTES_MAX])))
        if self._outbox:
            outbox += self._outbox
            self._outbox = []
        return outbox

    def drain_for_nodes(self) -> list[tuple[str, PeerMessage]]:
        """Return what is to be sent to other nodes, with their peer addresses, and forget it."""
        self.control.post(self.data.drain_for_nodes(self._now))
        return self.control.drain()

    def complaints(self) -> list[tuple[Level, str]]:
        """Return lines for the log, and forget them."""
        return self.data.complaints() + self.control.chronicle.take()

    # -- between the planes ---------------------------------------------------------------------------------------

    def _hand_over(self, now: Instant) -> None:
        control, data = self.control, self.data
        table, grants = control.table, control.lease_grants
        if grants is not self._lease_grants or table is not data.table:
            self._lease_grants = grants
            data.on_lease(control.lease_until())
        if table is not data.table or control.incarnation != data.incarnation:
            data.adopt(table, control.incarnation, now)
        for number, version in control.take_request_answers():
            data.on_request_answered(number, version, now)
        for message in control.take_for_copies():
            try:
                data.receive_from_node(message, now)
            except RemoteProtocolError as error:
                control.on_bad_message(message, error, now.seconds)

    def _facts(self, now: Instant) -> dict[str, int | str]:
        facts = {"name": self.name, **self.control.facts(), **self.data.facts()}
        facts["uptime_s"] = int(now.seconds - self._started_at_s)
        facts["protocol_errors"] = (
            self.data.counters["protocol_errors"] + self.control.chronicle.counters["protocol_errors"]
        )
        return facts
