"""What clients get: requests to replicas, answers back. No protocol rules live here.

How one request travels: `receive` finds the partition's replica; a read is answered from committed state, a write
is proposed and answered when it comes back committed; answers collect per client and leave as one `Reply` each at
`drain`. After each commit the leader's rooms look at what was written (when it expires, who was used last) and
may propose further commands of their own.

The table says which partitions this node leads (`adopt`). A copy whose leadership goes away is kept, and served again
when it comes back to the same life of this node; another life starts from nothing.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gimmal.cluster.table import PartitionRow, Table
from gimmal.errors import RemoteProtocolError
from gimmal.hashing import SLOTS, key_slot
from gimmal.leader.expiry import Expiry, expire_if_due
from gimmal.leader.memory import Memory, MemoryLimits
from gimmal.node.chronicle import Level
from gimmal.node.clients import Clients
from gimmal.replication.replica import Replica
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Keys, Refused
from gimmal.types import Command, Incarnation, Instant
from gimmal.wire import commands, limits
from gimmal.wire.messages import (
    Fault,
    FetchTable,
    Message,
    Problem,
    Refusal,
    Reply,
    Request,
    TableRows,
)

if TYPE_CHECKING:
    from random import Random

_EXPIRIES_PER_TICK: Final = 512
_ANSWER_BYTES: Final = 24  # about what an answer without a value takes in a reply
_TABLE_ROW_BYTES: Final = 64  # about what a partition takes in a table
_NEVER: Final = float("inf")
_LOOK_AGAIN_S: Final = 1.0  # expiry times are wall clock; timers are not, and the two may drift


@dataclass(slots=True)
class Answers:
    """What one client is owed at the end of this turn."""

    numbers: list[int] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    refusals: list[tuple[int, int, str]] = field(default_factory=list)
    size_bytes: int = 0


class DataPlane:
    """The store side of a node, led by messages, tables and time alone."""

    def __init__(self, name: str, memory_limits: MemoryLimits, dice: "Random", now: Instant) -> None:
        self.name = name
        self.incarnation = 0
        self._life = 0  # whose copies these are
        self.table: Table | None = None
        self.counters: Counter[str] = Counter()
        self._memory_limits = memory_limits
        self._now = now
        self._clients = Clients(dice)
        self._answers: dict[bytes, Answers] = {}
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
        self._footprint = Footprint()
        self._slots_per_partition = SLOTS
        self._held: dict[int, Replica] = {}
        self._led: dict[int, Replica] = {}
        self._led_keys: dict[int, Keys] = {}
        self._expiry = Expiry(self._led_keys)
        self._memory = Memory(self._memory_limits, self._footprint, self._led_keys)

    # -- the table ----------------------------------------------------------------------------------------------

    def adopt(self, table: Table | None, incarnation: int) -> None:
        """Serve by a newer table, as this incarnation (0: as nobody)."""
        if incarnation not in (0, self._life):  # 0 may be the same life again, once the meta group has said so
            if self._life:
                self._forget_everything()
            self._life = incarnation
        self.incarnation = incarnation
        self.table = table
        if table is None:
            return
        self._slots_per_partition = SLOTS // len(table.partitions)
        me = Incarnation(self.name, incarnation)
        for partition, row in enumerate(table.partitions):
            if row.leader == self.name and me in row.in_sync:
                self._lead(partition, row)
            elif partition in self._led:
                del self._led[partition], self._led_keys[partition]

    @property
    def leads_any(self) -> bool:
        """Whether this node leads any partition now."""
        return bool(self._led)

    def _lead(self, partition: int, row: PartitionRow) -> None:
        replica = self._held.get(partition)
        if replica is None:
            replica = self._held[partition] = Replica(partition, row.epoch, Engine(self._footprint))
        replica.epoch = row.epoch
        if partition not in self._led:
            self._led[partition] = replica
            self._led_keys[partition] = replica.engine.keys
            self._expiry.on_led(partition)
            self._memory.on_led(partition)

    # -- the four verbs ---------------------------------------------------------------------------------------

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

    def tick(self, now: Instant) -> None:
        """Do what time asks for."""
        self._now = now
        for partition, command in self._expiry.due(now.unix_ms, _EXPIRIES_PER_TICK):
            self._propose(self._led[partition], None, command)
        self._clients.tick(now)

    def next_deadline(self) -> float:
        """Return when to call `tick` next, in the clock of `Instant.seconds`; infinity if nothing waits for time."""
        due_ms = self._expiry.next_ms()
        if due_ms is None:
            return _NEVER
        return self._now.seconds + min(max(due_ms - self._now.unix_ms, 0) / 1000, _LOOK_AGAIN_S)

    def drain(self) -> list[tuple[bytes, Message]]:
        """Return what is to be sent, and forget it."""
        for peer in list(self._answers):
            self._send_answers(peer)
        self._scan_budget = limits.SCAN_TURN_MAX
        outbox, self._outbox = self._outbox, []
        return outbox

    # -- requests ---------------------------------------------------------------------------------------------

    def _on_request(self, peer: bytes, request: Request, now: Instant) -> None:
        client = self._clients.seen(peer, now)
        client.on_receipt(request.receipt)
        self.counters["operations"] += len(request.operations)
        if request.destination not in (0, self.incarnation):
            self._refuse_all(peer, request, Refusal.MOVED, f"{self.name} is now incarnation {self.incarnation}")
            return
        led, slots, memory = self._led, self._slots_per_partition, self._memory
        needs_care = memory.tracks_use
        answers = self._answers_to(peer)
        answers.size_bytes += _ANSWER_BYTES * len(request.operations)
        for number, partition, epoch, _session, _floor, command in request.operations:
            replica = led.get(partition)
            code = command[0]
            if client.is_overloaded:
                self._refuse(peer, number, Refusal.OVERLOADED, f"{self.name} waits for you to read its answers")
            elif replica is None or (epoch and epoch != replica.epoch):
                self._refuse(peer, number, Refusal.MOVED, f"{self.name} does not lead partition {partition}")
            elif not (
                key_slot(command[1]) // slots == partition
                if code in commands.ONE_KEY
                else self._are_at_home(partition, command)
            ):
                self._refuse(peer, number, Refusal.INVALID, f"the key does not belong to partition {partition}")
            elif code >= commands.FIRST_WRITE:
                self._write(replica, peer, number, command)
            elif code == commands.SCAN and not self._may_scan(command):
                self._refuse(peer, number, Refusal.OVERLOADED, f"{self.name} has scans to do for others first")
            else:
                if needs_care or replica.engine.keys.expires_at_ms:
                    self._prepare_read(replica, command)
                result = replica.read(command, now.unix_ms)
                size_bytes = (
                    _size_bytes(result) if type(result) is tuple else len(result) if type(result) is bytes else 0
                )
                if size_bytes > limits.REPLY_BYTES_MAX:
                    text = f"an answer of {size_bytes} bytes; ask for fewer keys"
                    self._refuse(peer, number, Refusal.TOO_LARGE, text)
                    continue
                answers.numbers.append(number)
                answers.results.append(result)
                answers.size_bytes += size_bytes
                if answers.size_bytes > limits.PLAIN_FRAME_BYTES_MAX:
                    self._send_answers(peer)
                    answers = self._answers_to(peer)

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

    def _prepare_read(self, replica: Replica, command: Command) -> None:
        """Commit the EXPIRE of what a read would find expired, before it is answered; note what is used."""
        keys = replica.engine.keys
        now_ms = max(self._now.unix_ms, replica.now_ms)  # what the log has seen as past stays past
        for key in commands.keys_of(command):
            expire = expire_if_due(keys, key, now_ms)
            if expire:
                self._propose(replica, None, expire)
        if self._memory.tracks_use:
            self._memory.on_read(command)

    def _write(self, replica: Replica, peer: bytes, number: int, command: Command) -> None:
        if self._memory.is_limited:
            refused = self._memory.why_refused(replica.engine.keys, command)
            if refused:
                self._refuse(peer, number, Refusal.OUT_OF_MEMORY, f"{self.name}: {refused}")
                return
        self._propose(replica, (peer, number), command)

    def _propose(self, replica: Replica, ticket: tuple[bytes, int] | None, command: Command) -> None:
        for committed in replica.propose(ticket, command, self._now.unix_ms):
            self._on_committed(replica, *committed)

    def _on_committed(self, replica: Replica, ticket: tuple[bytes, int] | None, command: Command, result: Any) -> None:
        if ticket is None:
            if result:
                self.counters[commands.NAMES[command[0]]] += 1
        elif type(result) is Refused:
            self._refuse(*ticket, result.refusal, result.text)
        else:
            peer, number = ticket
            answers = self._answers.get(peer) or self._answers_to(peer)
            answers.numbers.append(number)
            answers.results.append(result)
        if replica.engine.keys.expires_at_ms:
            self._expiry.on_committed(replica.partition, command)
        if self._memory.tracks_use:
            self._memory.on_committed(replica.partition, command)
            if ticket is not None:
                for partition, evict in self._memory.victims():
                    self._propose(self._led[partition], None, evict)

    # -- answers ----------------------------------------------------------------------------------------------

    def header(self) -> tuple[bytes, int, int, int]:
        """Return the header of what leaves for clients."""
        if self.table is None:
            return b"", self.incarnation, 0, 0
        return self.table.cluster, self.incarnation, 0, self.table.version

    def _answers_to(self, peer: bytes) -> Answers:
        answers = self._answers.get(peer)
        if answers is None:
            answers = self._answers[peer] = Answers()
        return answers

    def _send_answers(self, peer: bytes) -> None:
        """Put what a client is owed into the outbox, as one reply."""
        answers = self._answers.pop(peer)
        if not (answers.numbers or answers.refusals):
            return
        receipt = self._clients.on_reply(peer, answers.size_bytes)
        reply = Reply(*self.header(), receipt, tuple(answers.numbers), tuple(answers.results), tuple(answers.refusals))
        self._outbox.append((peer, reply))

    def _refuse(self, peer: bytes, number: int, refusal: Refusal, text: str) -> None:
        if refusal == Refusal.MOVED:
            self.counters["moved"] += 1
        answers = self._answers_to(peer)
        answers.refusals.append((number, int(refusal), text))
        answers.size_bytes += len(text)

    def _refuse_all(self, peer: bytes, request: Request, refusal: Refusal, text: str) -> None:
        for operation in request.operations:
            self._refuse(peer, operation[0], refusal, text)

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
            "partitions_held": len(self._held),
            "entries": self._footprint.entries,
            "memory_bytes": self._footprint.size_bytes,
            **{name: self.counters[name] for name in ("operations", "moved", "protocol_errors")},
            "expired": self.counters[commands.NAMES[commands.EXPIRE]],
            "evicted": self.counters[commands.NAMES[commands.EVICT]],
        }


def _size_bytes(result: tuple[Any, ...]) -> int:
    total = 0
    for part in result:
        if type(part) is bytes:
            total += len(part) + 5
        elif type(part) is tuple:
            total += _size_bytes(part)
    return total
