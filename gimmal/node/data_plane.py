"""What clients get: requests in, one reply for each client and turn out. No protocol rules live here.

How one request travels: `receive` checks who is meant; each operation goes to `Serving`, which has the copies, and is
answered now or when it has committed, which takes a message to the followers and back, or with one copy no time at all.
Answers collect per client (`Replies`) and leave as one `Reply` each at `drain`.

The copies belong to one life of the node: another life starts from nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from gimmal.cluster.table import Table
from gimmal.errors import RemoteProtocolError
from gimmal.leader.memory import MemoryLimits
from gimmal.leader.steady_clock import SteadyClock
from gimmal.node.chronicle import Level
from gimmal.node.clients import Clients
from gimmal.node.replies import Replies
from gimmal.node.serving import Serving
from gimmal.node.table_desk import TableDesk
from gimmal.replication.holdings import LOG_BYTES, Holdings
from gimmal.replication.petition import Request as MetaGroupRequest
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation, Instant
from gimmal.wire import commands, limits
from gimmal.wire.messages import (
    Digests,
    Fault,
    FetchDigests,
    FetchTable,
    KeepAlive,
    Message,
    Problem,
    Refusal,
    Request,
    TableRows,
)
from gimmal.wire.peer_messages import PeerMessage

if TYPE_CHECKING:
    from random import Random

_DIGEST_BYTES: Final = 32  # about what one takes in a message
_TABLE_ROW_BYTES: Final = 64  # about what a partition takes in a table
_NEVER: Final = float("inf")


class DataPlane:
    """The store side of a node, led by messages, tables and time alone."""

    def __init__(
        self, name: str, memory_limits: MemoryLimits, dice: "Random", now: Instant, log_bytes: int = LOG_BYTES
    ) -> None:
        self.name = name
        self._log_bytes = log_bytes
        self.incarnation = 0
        self.table: Table | None = None
        self.counters: Counter[str] = Counter()
        self._memory_limits = memory_limits
        self._now = now
        self._clock = SteadyClock(now)
        self._clients = Clients(dice)
        self._replies = Replies(self._clients, self.header)
        self._table_desk = TableDesk()
        self._outbox: list[tuple[bytes, Message]] = []
        self._complaints: list[tuple[Level, str]] = []
        self._receivers: dict[type[Message], Callable[[bytes, Any, Instant], None]] = {
            Request: self._on_request,
            FetchTable: self._on_fetch_table,
            FetchDigests: self._on_fetch_digests,
            KeepAlive: lambda peer, message, now: self.serving.queue_desk.on_sign(message.client),
        }
        self.serving = self._new_life(0)

    def _new_life(self, incarnation: int) -> Serving:
        holdings = Holdings(Incarnation(self.name, incarnation), Footprint(), self._log_bytes)
        return Serving(holdings, self._memory_limits, self._replies, self.counters, self._clock)

    # -- from the control plane -----------------------------------------------------------------------------------

    def adopt(self, table: Table | None, incarnation: int, now: Instant) -> None:
        """Serve by a newer table, as this incarnation (0: as nobody)."""
        self._look_at_clock(now)
        if not self._is_same_life(table, incarnation):
            lease_until_s = self.serving.lease_until_s
            self.serving.end()
            self.serving = self._new_life(incarnation)
            self.serving.lease_until_s = lease_until_s
            self._look_at_clock(now)
        self.incarnation = incarnation
        self.table = table
        if table is None or not incarnation:
            self.serving.close()
        else:
            self.serving.adopt(table)

    def _is_same_life(self, table: Table | None, incarnation: int) -> bool:
        """Say whether the copies here are those of an incarnation: 0 may be the same life again, once it is certain."""
        seen = self.serving.table
        is_same_cluster = seen is None or table is None or _shape(seen) == _shape(table)
        return is_same_cluster and incarnation in (0, self.serving.me.number)

    def on_lease(self, until_s: float) -> None:
        """Learn until when nobody else can have been given what this node leads."""
        self.serving.lease_until_s = until_s

    @property
    def leads_any(self) -> bool:
        """Whether this node leads any partition now."""
        return self.serving.led_count > 0

    def _look_at_clock(self, now: Instant) -> None:
        now = self._clock.read(now)
        self._now = self.serving.now = self.serving.queue_desk.now = now

    # -- the verbs: clients -------------------------------------------------------------------------------------

    def receive(self, peer: bytes, message: Message, now: Instant) -> None:
        """Take one message from a client."""
        self._look_at_clock(now)
        if self._is_for_another_cluster(message):
            self._on_wrong_cluster(peer, message)
            return
        receiver = self._receivers.get(type(message))
        if receiver is None:
            self._problem(peer, Fault.UNEXPECTED, f"a node does not expect a {type(message).__name__}")
        else:
            receiver(peer, message, now)

    def refuse(self, peer: bytes, request: Request, why: str, now: Instant) -> None:
        """Take a request from a client while this node serves nothing, and say why."""
        self._look_at_clock(now)
        if self._is_for_another_cluster(request):
            self._on_wrong_cluster(peer, request)
            return
        self._clients.seen(peer, now).on_receipt(request.receipt)
        self._refuse_all(peer, request, Refusal.MOVED, why[: limits.TEXT_BYTES_MAX])

    def reject(self, peer: bytes, error: RemoteProtocolError, now: Instant) -> None:
        """Count and answer a frame that was no message."""
        self._look_at_clock(now)
        self._problem(peer, Fault.MALFORMED, str(error)[: limits.TEXT_BYTES_MAX])

    def complaints(self) -> list[tuple[Level, str]]:
        """Return what clients sent that was wrong, for the log, at most once per client and minute, and forget it."""
        complaints, self._complaints = self._complaints, []
        return complaints

    def drain(self) -> list[tuple[bytes, Message]]:
        """Return what is to be sent to clients, and forget it."""
        self.serving.end_turn()
        if self._table_desk and self.table is not None:
            self._answer_for_tables(self.table)
        outbox, self._outbox = self._outbox, []
        return self._replies.drain() + outbox

    # -- the verbs: nodes, time -----------------------------------------------------------------------------------

    def receive_from_node(self, message: PeerMessage, now: Instant) -> None:
        """Take a message about copies from another node of this cluster, to this life of this one.

        Raises:
            RemoteProtocolError: it brings something that is not what it should be.
        """
        self._look_at_clock(now)
        if self.incarnation:
            self.serving.receive(message)

    def drain_for_nodes(self, now: Instant) -> list[tuple[Incarnation, PeerMessage]]:
        """Return what is to be sent to the copies on other nodes, and forget it."""
        return self.serving.holdings.drain(now) if self.incarnation else []

    def take_request(self) -> MetaGroupRequest | None:
        """Return what the meta group is to be asked for now, once."""
        return self.serving.holdings.petition.take() if self.incarnation else None

    def on_request_answered(self, number: int, version: int, now: Instant) -> None:
        """Learn that the meta group has decided about a request, by the table of a version."""
        self._look_at_clock(now)
        self.serving.on_request_answered(number, version)

    def relieve(self, handovers: Sequence[tuple[int, int, int, str]]) -> None:
        """Hand over what the meta group advises: (partition, epoch, version of its row, name of the new leader)."""
        for partition, epoch, version, target in handovers:
            self.serving.hand_over(partition, epoch, version, target)

    def leave(self, now: Instant) -> None:
        """Hand over everything that others can lead, until nothing of that is left."""
        self._look_at_clock(now)
        self.serving.is_leaving = True

    @property
    def has_left(self) -> bool:
        """Whether this node leads nothing any more that others can lead, or could if they had caught up."""
        return not self.incarnation or self.serving.has_left

    def tick(self, now: Instant) -> None:
        """Do what time asks for."""
        self._look_at_clock(now)
        self.serving.tick()
        self._clients.tick(now)

    def next_deadline(self) -> float:
        """Return when to call `tick` next, in the clock of `Instant.seconds`; infinity if nothing waits for time."""
        return -_NEVER if self._table_desk and self.table is not None else self.serving.next_deadline()

    # -- requests -------------------------------------------------------------------------------------------------

    def _on_request(self, peer: bytes, request: Request, now: Instant) -> None:
        client = self._clients.seen(peer, now)
        client.on_receipt(request.receipt)
        self.counters["operations"] += len(request.operations)
        if request.destination not in (0, self.incarnation):
            self._refuse_all(peer, request, Refusal.MOVED, f"{self.name} is now incarnation {self.incarnation}")
            return
        self.serving.parked.expires_at_s = now.seconds + min(request.milliseconds_left / 1000, limits.TIMEOUT_MAX_S)
        for operation in request.operations:
            if client.is_overloaded:
                text = f"{self.name} waits for you to read its answers"
                self._replies.refuse(peer, operation[0], Refusal.OVERLOADED, text)
            else:
                self.serving.on_operation(peer, operation)

    # -- answers --------------------------------------------------------------------------------------------------

    def header(self) -> tuple[bytes, int, int, int]:
        """Return the header of what leaves for clients."""
        if self.table is None:
            return b"", self.incarnation, 0, 0
        return self.table.cluster, self.incarnation, 0, self.table.version

    def _refuse_all(self, peer: bytes, request: Request, refusal: Refusal, text: str) -> None:
        if refusal == Refusal.MOVED:
            self.counters["moved"] += len(request.operations)
        for operation in request.operations:
            self._replies.refuse(peer, operation[0], refusal, text)

    def _is_for_another_cluster(self, message: Message) -> bool:
        return self.table is not None and bool(message.cluster) and message.cluster != self.table.cluster

    def _on_wrong_cluster(self, peer: bytes, message: Message) -> None:
        """Refuse what was meant for another cluster; operations one by one, so that their client knows of each."""
        assert self.table is not None
        ours, theirs = self.table.cluster.hex(), message.cluster.hex()
        text = f"{self.name} belongs to cluster {ours}, not {theirs}: connect a new client"
        if isinstance(message, Request):
            self._clients.seen(peer, self._now).on_receipt(message.receipt)
            self._complain(peer, text)
            self._refuse_all(peer, message, Refusal.WRONG_CLUSTER, text)
        else:
            self._problem(peer, Fault.WRONG_CLUSTER, text)

    def _complain(self, peer: bytes, text: str) -> None:
        self.counters["protocol_errors"] += 1
        if self._clients.may_complain(peer, self._now):
            self._complaints.append(("warning", f"client {peer.hex()} sent a bad message: {text}"))

    def _problem(self, peer: bytes, fault: Fault, text: str) -> None:
        self._complain(peer, text)
        self._outbox.append((peer, Problem(*self.header(), int(fault), text)))

    # -- what clients and people ask --------------------------------------------------------------------------

    def _on_fetch_table(self, peer: bytes, message: FetchTable, now: Instant) -> None:
        client = self._clients.seen(peer, now)
        if client.is_overloaded:
            return
        table = self.table
        assert table is not None, "the core answers for a node without a table"
        self._table_desk.ask(peer, message.table_version if message.cluster == table.cluster else 0)

    def _answer_for_tables(self, table: Table) -> None:
        for peer, tree in self._table_desk.answers(table):
            if tree is not None:
                client = self._clients.seen(peer, self._now)
                client.on_sent(_TABLE_ROW_BYTES * (len(tree[-1]) + len(tree[-2])))
            self._outbox.append((peer, TableRows(*self.header(), tree)))

    def _on_fetch_digests(self, peer: bytes, message: FetchDigests, now: Instant) -> None:
        client = self._clients.seen(peer, now)
        if not client.is_overloaded:
            upcoming, digests = self.serving.digests(message.first)
            client.on_sent(_DIGEST_BYTES * len(digests))
            self._outbox.append((peer, Digests(*self.header(), upcoming, digests)))

    def facts(self) -> dict[str, int | str]:
        """Return what this plane says of itself in a node's status."""
        return {
            "partitions_led": self.serving.led_count,
            "partitions_held": len(self.serving.holdings.replicas),
            "partitions_behind": self.serving.holdings.behind_count,
            "entries": self.serving.footprint.entries,
            "memory_bytes": self.serving.footprint.size_bytes,
            **{name: self.counters[name] for name in ("operations", "moved", "reads_confirmed", "protocol_errors")},
            "expired": self.counters[commands.NAMES[commands.EXPIRE]],
            "evicted": self.counters[commands.NAMES[commands.EVICT]],
            **self.serving.holdings.facts(),
        }


def _shape(table: Table) -> tuple[bytes, int]:
    """Return what never changes in the tables of one cluster."""
    return table.cluster, len(table.partitions)
