"""What clients get: requests to replicas, answers back. No protocol rules live here.

How one request travels: `receive` finds the partition's replica; a read is answered from committed state, a write
is proposed and answered when it comes back committed, which takes a message to the followers and back, or with one
copy no time at all. Answers collect per client (`replies`) and leave as one `Reply` each at `drain`. After each commit
the leader's rooms look at what was written (when it expires, who was used last) and may propose commands of their own.

The table says which copies this node holds and leads (`adopt`). What asks for a partition whose leader, here, does not
know yet what is committed waits (`parked`) until it does. A copy whose leadership goes away is kept, and served again
when it comes back to the same life of this node; another life starts from nothing.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gimmal.cluster.table import Table
from gimmal.errors import RemoteProtocolError
from gimmal.hashing import SLOTS, key_slot
from gimmal.leader.expiry import Expiry, expire_if_due
from gimmal.leader.memory import Memory, MemoryLimits
from gimmal.node.chronicle import Level
from gimmal.node.clients import Clients
from gimmal.node.parked import Parked
from gimmal.node.replies import Replies
from gimmal.node.views import views
from gimmal.replication.holdings import Holdings
from gimmal.replication.petition import Request as IsrRequest
from gimmal.replication.replica import Replica
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Keys, Refused
from gimmal.types import Command, Incarnation, Instant, Operation
from gimmal.wire import commands, limits
from gimmal.wire.messages import (
    Fault,
    FetchTable,
    Message,
    Problem,
    Refusal,
    Request,
    TableRows,
)
from gimmal.wire.peer_messages import PeerMessage

if TYPE_CHECKING:
    from random import Random

_EXPIRIES_PER_TICK: Final = 512
_TABLE_ROW_BYTES: Final = 64  # about what a partition takes in a table
_LEASE_S: Final = 1.0
_NEVER: Final = float("inf")
_LOOK_AGAIN_S: Final = 1.0  # expiry times are wall clock; timers are not, and the two may drift
_TIMER: Final = (0, 0, 0)


class WaitingRead(NamedTuple):
    """The ticket of a command that has to commit before a read can be answered."""

    peer: bytes
    operation: Operation


class DataPlane:
    """The store side of a node, led by messages, tables and time alone.

    `lease_until_s` is until when the meta group has promised that nobody else leads what this node leads.
    """

    def __init__(self, name: str, memory_limits: MemoryLimits, dice: "Random", now: Instant) -> None:
        self.name = name
        self.incarnation = 0
        self._life = 0  # whose copies these are
        self.table: Table | None = None
        self.lease_until_s = _NEVER
        self.counters: Counter[str] = Counter()
        self._memory_limits = memory_limits
        self._now = now
        self._clients = Clients(dice)
        self._replies = Replies(self._clients, self.header)
        self._outbox: list[tuple[bytes, Message]] = []
        self._complaints: list[tuple[Level, str]] = []
        self._scan_budget = limits.SCAN_TURN_MAX
        self._receivers: dict[type[Message], Callable[[bytes, Any, Instant], None]] = {
            Request: self._on_request,
            FetchTable: self._on_fetch_table,
        }
        self._forget_everything()

    def _forget_everything(self) -> None:
        """Start from nothing, as every life of a node does."""
        self._seen: Table | None = None  # the table that the copies go by
        self._footprint = Footprint()
        self._slots_per_partition = SLOTS
        self.holdings = Holdings(Incarnation(self.name, self._life), self._footprint)
        self._parked = Parked()
        self._led: dict[int, Replica] = {}
        self._led_keys: dict[int, Keys] = {}
        self._expiry = Expiry(self._led_keys)
        self._memory = Memory(self._memory_limits, self._footprint, self._led_keys)

    # -- the table ----------------------------------------------------------------------------------------------

    def adopt(self, table: Table | None, incarnation: int, now: Instant) -> None:
        """Serve by a newer table, as this incarnation (0: as nobody)."""
        self._now = now
        if incarnation not in (0, self._life):  # 0 may be the same life again, once the meta group has said so
            self._life = incarnation
            self._forget_everything()
        was_nobody = not self.incarnation
        self.incarnation = incarnation
        self.table = table
        if table is None or not incarnation:
            for partition in list(self._led):
                self._stop_serving(partition)
            return
        self._slots_per_partition = SLOTS // len(table.partitions)
        before, self._seen = self._seen, table
        for partition, view in views(table, Incarnation(self.name, incarnation), before):
            if view is None:
                self.holdings.drop(partition)
                self._follow(partition)
                continue
            for replica, tickets in self.holdings.see(partition, view, now):
                self._abandon(replica, tickets)
            if self.holdings.replicas[partition].leading is None:
                self._follow(partition)
            else:
                self._lead(self.holdings.replicas[partition])
        for replica in self.holdings.replicas.values() if was_nobody else ():
            if replica.leading is not None:
                self._lead(replica)
        self.holdings.on_table(table.version, now)
        self._take_committed()

    @property
    def leads_any(self) -> bool:
        """Whether this node leads any partition now."""
        return bool(self._led)

    def _lead(self, replica: Replica) -> None:
        """Serve a partition that this node leads, if it knows what is committed."""
        partition = replica.partition
        if not replica.is_ready:
            self._stop_serving(partition)
        elif partition not in self._led:
            self._led[partition] = replica
            self._led_keys[partition] = replica.engine.keys
            self._expiry.on_led(partition)
            self._memory.on_led(partition)
            for peer, operation in self._parked.take(partition):
                self._on_operation(peer, operation)

    def _follow(self, partition: int) -> None:
        """Serve a partition no more that this node does not lead."""
        self._stop_serving(partition)
        for peer, operation in self._parked.take(partition):
            self._refuse_moved(peer, operation[0], partition)

    def _stop_serving(self, partition: int) -> None:
        if self._led.pop(partition, None) is not None:
            del self._led_keys[partition]
            self._memory.on_not_led(partition)

    def _abandon(self, replica: Replica, tickets: list[Any]) -> None:
        """Say of what was proposed and not committed that another leader has to be asked."""
        text = f"{self.name} was replaced as the leader of partition {replica.partition} before this was decided"
        for ticket in tickets:
            if type(ticket) is WaitingRead:
                self._refuse_moved(ticket.peer, ticket.operation[0], replica.partition)
            else:
                peer, number = ticket
                self._replies.refuse(peer, number, Refusal.UNDECIDED, text)

    # -- the verbs: clients -------------------------------------------------------------------------------------

    def receive(self, peer: bytes, message: Message, now: Instant) -> None:
        """Take one message from a client."""
        self._now = now
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
        self._now = now
        if self._is_for_another_cluster(request):
            self._on_wrong_cluster(peer, request)
            return
        self._clients.seen(peer, now).on_receipt(request.receipt)
        self._refuse_all(peer, request, Refusal.MOVED, why[: limits.TEXT_BYTES_MAX])

    def reject(self, peer: bytes, error: RemoteProtocolError, now: Instant) -> None:
        """Count and answer a frame that was no message."""
        self._now = now
        self._problem(peer, Fault.MALFORMED, str(error)[: limits.TEXT_BYTES_MAX])

    def complaints(self) -> list[tuple[Level, str]]:
        """Return what clients sent that was wrong, for the log, at most once per client and minute, and forget it."""
        complaints, self._complaints = self._complaints, []
        return complaints

    def drain(self) -> list[tuple[bytes, Message]]:
        """Return what is to be sent to clients, and forget it."""
        self._scan_budget = limits.SCAN_TURN_MAX
        outbox, self._outbox = self._outbox, []
        return self._replies.drain() + outbox

    # -- the verbs: nodes, time ---------------------------------------------------------------------------------

    def receive_from_node(self, message: PeerMessage, now: Instant) -> None:
        """Take a message about copies from another node of this cluster, to this life of this one.

        Raises:
            RemoteProtocolError: it brings something that is not what it should be.
        """
        self._now = now
        if self.incarnation:
            self.holdings.receive(message, Incarnation(message.sender, message.source), now)
            self._take_committed()

    def _take_committed(self) -> None:
        for fact in self.holdings.take_committed():
            self._on_committed(*fact)

    def drain_for_nodes(self, now: Instant) -> list[tuple[Incarnation, PeerMessage]]:
        """Return what is to be sent to the copies on other nodes, and forget it."""
        return self.holdings.drain(now) if self.incarnation else []

    def take_isr_request(self) -> IsrRequest | None:
        """Return what the meta group is to be asked for now, once."""
        return self.holdings.petition.take() if self.incarnation else None

    def on_isr_answer(self, number: int, version: int, now: Instant) -> None:
        """Learn that the meta group has decided about a request, by the table of a version."""
        self._now = now
        self.holdings.on_answer(number, version, now)
        self._take_committed()

    def tick(self, now: Instant) -> None:
        """Do what time asks for."""
        self._now = now
        for partition, command in self._expiry.due(now.unix_ms, _EXPIRIES_PER_TICK):
            self._propose(self._led[partition], None, _TIMER, command)
        self.holdings.tick(now)
        self._parked.tick(now.seconds)
        self._clients.tick(now)

    def next_deadline(self) -> float:
        """Return when to call `tick` next, in the clock of `Instant.seconds`; infinity if nothing waits for time."""
        due_ms = self._expiry.next_ms()
        expires_at_s = _NEVER
        if due_ms is not None:
            expires_at_s = self._now.seconds + min(max(due_ms - self._now.unix_ms, 0) / 1000, _LOOK_AGAIN_S)
        if not self.incarnation:
            return expires_at_s
        return -_NEVER if self.holdings.petition.is_due else min(expires_at_s, self.holdings.next_deadline())

    # -- requests ---------------------------------------------------------------------------------------------

    def _on_request(self, peer: bytes, request: Request, now: Instant) -> None:
        client = self._clients.seen(peer, now)
        client.on_receipt(request.receipt)
        self.counters["operations"] += len(request.operations)
        if request.destination not in (0, self.incarnation):
            self._refuse_all(peer, request, Refusal.MOVED, f"{self.name} is now incarnation {self.incarnation}")
            return
        self._parked.expires_at_s = now.seconds + min(request.milliseconds_left / 1000, limits.TIMEOUT_MAX_S)
        for operation in request.operations:
            if client.is_overloaded:
                text = f"{self.name} waits for you to read its answers"
                self._replies.refuse(peer, operation[0], Refusal.OVERLOADED, text)
            else:
                self._on_operation(peer, operation)

    def _on_operation(self, peer: bytes, operation: Operation) -> None:
        number, partition, epoch, session, floor, command = operation
        replica = self._led.get(partition)
        code = command[0]
        if replica is None or (epoch and epoch != replica.epoch):
            self._on_not_led(peer, operation)
        elif not (
            key_slot(command[1]) // self._slots_per_partition == partition
            if code in commands.ONE_KEY
            else self._are_at_home(partition, command)
        ):
            text = f"the key does not belong to partition {partition}"
            self._replies.refuse(peer, number, Refusal.INVALID, text)
        elif code >= commands.FIRST_WRITE:
            self._write(replica, (peer, number), (session, number, floor), command)
        elif code == commands.SCAN and not self._may_scan(command):
            self._replies.refuse(peer, number, Refusal.OVERLOADED, f"{self.name} has scans to do for others first")
        else:
            if replica.engine.keys.expires_at_ms and self._has_to_wait(replica, peer, operation):
                return
            if self._memory.tracks_use:
                self._memory.on_read(command)
            self._replies.add(peer, number, replica.read(command, self._now.unix_ms))

    def _on_not_led(self, peer: bytes, operation: Operation) -> None:
        """Let an operation wait for this node to know what is committed, or say that it does not lead."""
        number, partition, epoch, *_, command = operation
        replica = self.holdings.replicas.get(partition)
        if replica is None or (epoch and epoch != replica.epoch):
            self._refuse_moved(peer, number, partition)
        elif replica.leading is None:
            if epoch or command[0] >= commands.FIRST_WRITE or not replica.aligned_epoch or not self.incarnation:
                self._refuse_moved(peer, number, partition)
            else:
                self._replies.add(peer, number, replica.read(command, self._now.unix_ms))
        elif not replica.leading.can_commit:
            self._refuse_not_enough(replica, peer, number)
        elif not self._parked.add(partition, peer, operation):
            text = f"too much waits for {self.name} to take over what it leads now"
            self._replies.refuse(peer, number, Refusal.OVERLOADED, text)

    def _are_at_home(self, partition: int, command: Command) -> bool:
        """Say whether every key of a command belongs to the partition: else nobody would find it again."""
        slots = self._slots_per_partition
        return all(key_slot(key) // slots == partition for key in commands.keys_of(command))

    def _may_scan(self, command: Command) -> bool:
        """Say whether this turn has room for a page of a scan; the keys it skips cost time too."""
        if self._scan_budget <= 0:
            return False
        self._scan_budget -= min(command[2], self._footprint.entries) + limits.SCAN_EXAMINED_MAX
        return True

    def _has_to_wait(self, replica: Replica, peer: bytes, operation: Operation) -> bool:
        """Say whether a read would find something expired: it is answered when its EXPIRE, proposed here, committed."""
        keys = replica.engine.keys
        now_ms = max(self._now.unix_ms, replica.log.now_ms)  # what the log has seen as past stays past
        found = [expire_if_due(keys, key, now_ms) for key in commands.keys_of(operation[-1])]
        expiries = [command for command in found if command]
        for command in expiries[:-1]:
            self._propose(replica, None, _TIMER, command)
        if expiries:
            self._propose(replica, WaitingRead(peer, operation), _TIMER, expiries[-1])
        return bool(expiries)

    def _write(
        self, replica: Replica, ticket: tuple[bytes, int], origin: tuple[int, int, int], command: Command
    ) -> None:
        if self._memory.is_limited:
            refused = self._memory.why_refused(replica.engine.keys, command)
            if refused:
                peer, number = ticket
                self._replies.refuse(peer, number, Refusal.OUT_OF_MEMORY, f"{self.name}: {refused}")
                return
        if self._may_write(replica):
            self._propose(replica, ticket, origin, command)
        else:
            peer, number = ticket
            self._refuse_not_enough(replica, peer, number)

    def _may_write(self, replica: Replica) -> bool:
        """Say whether enough copies are in sync, and it is likely enough that this one still leads them."""
        leading = replica.leading
        return (
            leading is not None
            and leading.can_commit
            and (
                self._now.seconds < self.lease_until_s
                or self.holdings.heard_at_s(replica) > self._now.seconds - _LEASE_S
            )
        )

    def _propose(self, replica: Replica, ticket: Any, origin: tuple[int, int, int], command: Command) -> None:
        for fact in self.holdings.propose(replica, ticket, origin, command, self._now.unix_ms):
            self._on_committed(*fact)

    def _on_committed(self, replica: Replica, ticket: Any, command: Command, result: Any) -> None:
        partition = replica.partition
        if partition not in self._led:  # what comes before the no-op is nobody's here
            if replica.is_ready:
                self._lead(replica)
            return
        if ticket is None or type(ticket) is WaitingRead:
            if result:
                self.counters[commands.NAMES[command[0]]] += 1
            if ticket is not None:
                self._on_operation(*ticket)
        else:
            peer, number = ticket
            if type(result) is Refused:
                self._replies.refuse(peer, number, result.refusal, result.text)
            else:
                self._replies.add(peer, number, result)
        if replica.engine.keys.expires_at_ms:
            self._expiry.on_committed(partition, command)
        if self._memory.tracks_use:
            self._memory.on_committed(partition, command)
            if ticket is not None:
                for other, evict in self._memory.victims():
                    self._propose(self._led[other], None, _TIMER, evict)

    # -- answers ----------------------------------------------------------------------------------------------

    def header(self) -> tuple[bytes, int, int, int]:
        """Return the header of what leaves for clients."""
        if self.table is None:
            return b"", self.incarnation, 0, 0
        return self.table.cluster, self.incarnation, 0, self.table.version

    def _refuse_moved(self, peer: bytes, number: int, partition: int) -> None:
        self.counters["moved"] += 1
        self._replies.refuse(peer, number, Refusal.MOVED, f"{self.name} does not lead partition {partition}")

    def _refuse_not_enough(self, replica: Replica, peer: bytes, number: int) -> None:
        view = replica.view
        assert view is not None, "who leads has a view"
        text = (
            f"{len(view.in_sync)} copies of partition {replica.partition} are in sync, and {view.least} must be"
            if len(view.in_sync) < view.least
            else f"{self.name} is cut off from the copies of partition {replica.partition}"
        )
        self._replies.refuse(peer, number, Refusal.NOT_ENOUGH_REPLICAS, text)

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
        since = message.table_version if message.cluster == table.cluster else 0
        tree = None
        if since < table.version:
            tree = table.to_wire(since)
            client.on_sent(_TABLE_ROW_BYTES * (len(tree[-1]) + len(tree[-2])))
        self._outbox.append((peer, TableRows(*self.header(), tree)))

    def facts(self) -> dict[str, int | str]:
        """Return what this plane says of itself in a node's status."""
        return {
            "partitions_led": len(self._led),
            "partitions_held": len(self.holdings.replicas),
            "entries": self._footprint.entries,
            "memory_bytes": self._footprint.size_bytes,
            **{name: self.counters[name] for name in ("operations", "moved", "protocol_errors")},
            "expired": self.counters[commands.NAMES[commands.EXPIRE]],
            "evicted": self.counters[commands.NAMES[commands.EVICT]],
        }
