"""What becomes of operations on the partitions that one life of a node holds. No protocol rules live here.

A read is answered from committed state, under a lease at once, else when the other copies have confirmed that this one
leads still. A write is proposed and answered when it comes back committed. After each commit the leader's rooms look at
what was written (when it expires, who was used last) and may propose commands of their own, which go the same way.

    led       this copy leads and knows what is committed: served
    leading   it leads and does not know yet: operations wait (`Parked`) until it does
    held      it follows: refused with MOVED, but for reads of clients who take what any copy has
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from gimmal.cluster.table import Table
from gimmal.hashing import SLOTS, key_slot
from gimmal.leader.expiry import Expiry, expire_if_due
from gimmal.leader.idle_sessions import IdleSessions
from gimmal.leader.memory import Memory, MemoryLimits
from gimmal.leader.steady_clock import SteadyClock
from gimmal.node import leaving
from gimmal.node.parked import Parked
from gimmal.node.queue_desk import QueueDesk, Wish
from gimmal.node.replies import Replies
from gimmal.node.views import views
from gimmal.replication.holdings import Holdings
from gimmal.replication.replica import Replica
from gimmal.store.kv import Keys, Refused
from gimmal.store.queues import Queues
from gimmal.store.sessions import Sessions
from gimmal.types import Command, Incarnation, Instant, Operation
from gimmal.wire import commands, limits, queue_commands
from gimmal.wire.messages import Refusal
from gimmal.wire.peer_messages import PeerMessage

_EXPIRIES_PER_TICK: Final = 512
_LEASE_S: Final = 1.0
_NEVER: Final = float("inf")
_LOOK_AGAIN_S: Final = 1.0  # expiry times are wall clock; timers are not, and the two may drift
_TIMER: Final = (0, 0, 0)


class WaitingRead(NamedTuple):
    """The ticket of a command that has to commit before a read can be answered, or of a read to be confirmed."""

    peer: bytes
    operation: Operation


class Serving:
    """The copies of one life of a node, and what clients get of them by way of `replies`.

    `now` is that of the turn, set by the owner before anything else is called. `lease_until_s` is until when the meta
    group has promised that nobody else leads what this node leads. `is_open` is False while it is not certain that this
    life still is the node's. With `is_leaving`, all that is led here and others can lead is handed over.
    """

    def __init__(
        self,
        holdings: Holdings,
        memory_limits: MemoryLimits,
        replies: Replies,
        counters: Counter[str],
        clock: SteadyClock,
    ) -> None:
        self.me = holdings.me
        self.now = Instant(0.0, 0)
        self.lease_until_s = -_NEVER  # before somebody has promised anything, nothing is promised
        self.is_open = False
        self.is_leaving = False
        self.holdings = holdings
        self.footprint = holdings.footprint
        self.parked = Parked()
        self._replies = replies
        self._counters = counters
        self._clock = clock
        self.table: Table | None = None  # by which the copies go
        self._slots_per_partition = SLOTS
        self._scan_budget = limits.SCAN_TURN_MAX
        self._digest_budget = limits.DIGEST_TURN_MAX
        self._led: dict[int, Replica] = {}
        self._led_keys: dict[int, Keys] = {}
        self._led_sessions: dict[int, Sessions] = {}
        self._expiry = Expiry(self._led_keys)
        self._idle_sessions = IdleSessions(self._led_sessions)
        self._memory = Memory(memory_limits, self.footprint, self._led_keys)
        self._led_queues: dict[int, Queues] = {}
        self.queue_desk = QueueDesk(self._led_queues, replies)

    # -- the table ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Serve nothing until a table is adopted again: this life may be over."""
        self.is_open = False
        for partition in list(self._led):
            self._stop_serving(partition)

    def adopt(self, table: Table) -> None:
        """Go by a newer table, in which this life is named."""
        was_closed, self.is_open = not self.is_open, True
        self._slots_per_partition = SLOTS // len(table.partitions)
        before, self.table = self.table, table
        for partition, view in views(table, self.me, before):
            if view is None:
                self._drop(partition)
                continue
            for replica, tickets in self.holdings.see(partition, view, self.now):
                self._abandon(replica, tickets)
            if self.holdings.replicas[partition].leading is None:
                self._follow(partition)
            else:
                self._lead(self.holdings.replicas[partition])
        if was_closed:  # and may be the life again that it was
            self.holdings.petition.on_lost()
            for replica in self.holdings.replicas.values():
                if replica.leading is not None:
                    self._lead(replica)
        self.holdings.on_table(table.version, self.now)
        self._take_committed()

    @property
    def led_count(self) -> int:
        """How many partitions are led and served here."""
        return len(self._led)

    def serves(self, partition: int) -> bool:
        """Say whether this node answers for a partition as its leader."""
        return partition in self._led

    def _lead(self, replica: Replica) -> None:
        """Serve a partition that this node leads, if it knows what is committed."""
        partition = replica.partition
        leading = replica.leading
        if not replica.is_ready or (leading is not None and leading.leaves_to):
            self._stop_serving(partition)
        elif partition not in self._led:
            self._led[partition] = replica
            self._clock.raise_to(replica.log.now_ms)
            self._led_keys[partition] = replica.engine.keys
            self._led_sessions[partition] = replica.engine.sessions
            self._led_queues[partition] = replica.engine.queues
            self._expiry.on_led(partition)
            self._memory.on_led(partition)
            self.queue_desk.on_led(partition)
            for peer, operation in self.parked.take(partition):
                self.on_operation(peer, operation)

    def _drop(self, partition: int) -> None:
        """Hold a partition no more, and say so to everybody who waits for something of it."""
        for replica, tickets in self.holdings.drop(partition):
            self._abandon(replica, tickets)
        self._follow(partition)

    def _follow(self, partition: int) -> None:
        """Serve a partition no more that this node does not lead."""
        self._stop_serving(partition)
        for peer, operation in self.parked.take(partition):
            self._refuse_moved(peer, operation[0], partition)

    def hand_over(self, partition: int, epoch: int, version: int, target: str) -> None:
        """Stop serving a partition, if its row is the one that was meant, and let another member lead it."""
        replica = self._led.get(partition)
        view = replica.view if replica is not None else None
        if replica is None or view is None or (view.epoch, view.version) != (epoch, version):
            return
        if target in [member.name for member in view.in_sync if member in view.holders and member != self.me]:
            self._stop_serving(partition)
            self.holdings.hand_over(replica, target)

    @property
    def has_left(self) -> bool:
        """Whether nothing is led here that others can lead now, or soon."""
        return leaving.has_left(self.holdings)

    def _leave(self) -> None:
        """Hand over all that is served here."""
        for handover in leaving.handovers(self.holdings):
            self.hand_over(*handover)

    def _stop_serving(self, partition: int) -> None:
        if self._led.pop(partition, None) is not None:
            del self._led_keys[partition], self._led_sessions[partition], self._led_queues[partition]
            self._memory.on_not_led(partition)
            for waiter in self.queue_desk.on_not_led(partition):
                self._refuse_moved(waiter.peer, waiter.number, partition)

    def _abandon(self, replica: Replica, tickets: list[Any]) -> None:
        """Say of what was proposed and not committed that another leader has to be asked."""
        text = f"{self.me.name} was replaced as the leader of partition {replica.partition} before this was decided"
        for ticket in tickets:
            if type(ticket) is WaitingRead:
                self._refuse_moved(ticket.peer, ticket.operation[0], replica.partition)
            elif type(ticket) is tuple:  # a consumer hears of it as all do who wait
                peer, number = ticket
                self._replies.refuse(peer, number, Refusal.UNDECIDED, text)

    def end(self) -> None:
        """End with this life: say so to everybody who waits for something."""
        for partition in list(self.holdings.replicas):
            self._drop(partition)

    # -- nodes, time --------------------------------------------------------------------------------------------

    def receive(self, message: PeerMessage) -> None:
        """Take a message about copies from another node of this cluster, to this life of this one.

        Raises:
            RemoteProtocolError: it brings something that is not what it should be.
        """
        self.holdings.receive(message, Incarnation(message.sender, message.source), self.now)
        self._take_committed()

    def on_request_answered(self, number: int, version: int) -> None:
        """Learn that the meta group has decided about a request, by the table of a version."""
        self.holdings.on_answer(number, version, self.now)
        self._take_committed()

    def tick(self) -> None:
        """Do what time asks for."""
        now_ms = self.now.unix_ms
        due_ms = self._expiry.next_ms()
        if due_ms is not None and due_ms <= now_ms:
            for partition, command in self._expiry.due(now_ms, _EXPIRIES_PER_TICK):
                self._propose(self._led[partition], None, _TIMER, command)
        if self._idle_sessions.is_due(now_ms):
            for partition, command in tuple(self._idle_sessions.due(now_ms)):
                if self._may_write(self._led[partition]):  # else the next look would log them all again
                    self._propose(self._led[partition], None, _TIMER, command)
        if self.queue_desk.next_deadline() <= self.now.seconds:
            writable = {
                number: self._may_write(self._led[number]) for number, led in self._led_queues.items() if led.shards
            }
            self._carry_out(self.queue_desk.tick(writable))
        if self.is_leaving:
            self._leave()
        self.holdings.tick(self.now)
        self._take_committed()
        self.parked.tick(self.now.seconds)

    def next_deadline(self) -> float:
        """Return when to call `tick` next, in the clock of `Instant.seconds`; infinity if nothing waits for time."""
        due_ms = self._expiry.next_ms()
        expires_at_s = _NEVER
        if due_ms is not None:
            expires_at_s = self.now.seconds + min(max(due_ms - self.now.unix_ms, 0) / 1000, _LOOK_AGAIN_S)
        expires_at_s = min(expires_at_s, self.queue_desk.next_deadline())
        if not self.is_open:
            return expires_at_s
        return -_NEVER if self.holdings.petition.is_due else min(expires_at_s, self.holdings.next_deadline())

    def end_turn(self) -> None:
        """Begin to count anew what one turn may cost."""
        self._scan_budget = limits.SCAN_TURN_MAX
        self._digest_budget = limits.DIGEST_TURN_MAX

    def _take_committed(self) -> None:
        for fact in self.holdings.take_committed():
            self._on_committed(*fact)
        confirmed, refused = self.holdings.confirming.take()
        for peer, operation in confirmed:
            replica = self._led.get(operation[1])
            if replica is not None:
                self._counters["reads_confirmed"] += 1
                self._read(replica, peer, operation)
            else:
                self._refuse_moved(peer, operation[0], operation[1])
        for peer, operation in refused:
            self._on_unconfirmed(peer, operation)

    def _on_unconfirmed(self, peer: bytes, operation: Operation) -> None:
        replica = self.holdings.replicas.get(operation[1])
        if replica is None or replica.leading is None:
            self._refuse_moved(peer, operation[0], operation[1])
        else:
            self._refuse_not_enough(replica, peer, operation[0])

    def digests(self, first: int) -> tuple[int, tuple[tuple[int, int, int, bytes], ...]]:
        """Return digests of copies from a partition on, and the partition at which to go on (-1: there are no more).

        There are none, and it is the same partition, when this turn has made enough of them for others.
        """
        found: list[tuple[int, int, int, bytes]] = []
        for partition in sorted(number for number in self.holdings.replicas if number >= first):
            if self._digest_budget <= 0:
                return partition if found else first, tuple(found)
            replica = self.holdings.replicas[partition]
            self._digest_budget -= 1 + len(replica.engine.keys.records) + len(replica.engine.sessions.windows)
            found.append((partition, replica.epoch, replica.commit, replica.engine.digest()))
        return -1, tuple(found)

    # -- operations ---------------------------------------------------------------------------------------------

    def on_operation(self, peer: bytes, operation: Operation) -> None:
        """Take one operation of a client's; it is answered now or later."""
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
            self._refuse_stray(peer, number, partition)
        elif code >= commands.FIRST_WRITE:
            self._write(replica, (peer, number), (session, number, floor), command)
        elif code >= queue_commands.CONSUME:
            gives_up_at_s, may_write = self.parked.expires_at_s, self._may_write(replica)
            self._carry_out(self.queue_desk.on_operation(peer, operation, gives_up_at_s, may_write=may_write))
        elif code == commands.SCAN and not self._may_scan(command):
            self._refuse_scan(peer, number)
        elif self.now.seconds < self.lease_until_s or not epoch:  # any copy may answer that, and this is one
            self._read(replica, peer, operation)
        else:
            self._confirm(replica, peer, operation)

    def _confirm(self, replica: Replica, peer: bytes, operation: Operation) -> None:
        """Answer a read without a lease: when the other copies have confirmed that this one leads still."""
        leading = replica.leading
        assert leading is not None, "what is served here is led here"
        if leading.can_commit and leading.must_have:
            self.holdings.confirm(replica, WaitingRead(peer, operation))
        else:  # with one copy nobody can confirm: its node may have been replaced, if the meta group cannot be asked
            self._refuse_not_enough(replica, peer, operation[0])

    def _read(self, replica: Replica, peer: bytes, operation: Operation) -> None:
        """Answer a read: it is certain that nobody has committed what is not here."""
        command = operation[-1]
        if replica.engine.keys.expires_at_ms and self._has_to_wait(replica, peer, operation):
            return
        if self._memory.tracks_use:
            self._memory.on_read(command)
        self._answer(peer, operation[0], replica.read(command, self.now.unix_ms))

    def _on_not_led(self, peer: bytes, operation: Operation) -> None:
        """Let an operation wait for this node to know what is committed, or say that it does not lead."""
        number, partition, epoch, *_, command = operation
        replica = self.holdings.replicas.get(partition)
        if replica is None or (epoch and epoch != replica.epoch):
            self._refuse_moved(peer, number, partition)
        elif replica.leading is None:
            if epoch or command[0] >= queue_commands.CONSUME or not replica.aligned_epoch or not self.is_open:
                self._refuse_moved(peer, number, partition)
            elif not self._are_at_home(partition, command):
                self._refuse_stray(peer, number, partition)
            elif command[0] == commands.SCAN and not self._may_scan(command):
                self._refuse_scan(peer, number)
            else:
                self._answer(peer, number, replica.read(command, self.now.unix_ms))
        elif not replica.leading.can_commit:
            self._refuse_not_enough(replica, peer, number)
        elif not self.parked.add(partition, peer, operation):
            text = f"too much waits for {self.me.name} to take over what it leads now"
            self._replies.refuse(peer, number, Refusal.OVERLOADED, text)

    def _are_at_home(self, partition: int, command: Command) -> bool:
        """Say whether every key of a command belongs to the partition: else nobody would find it again."""
        slots = self._slots_per_partition
        return all(key_slot(key) // slots == partition for key in commands.keys_of(command))

    def _may_scan(self, command: Command) -> bool:
        """Say whether this turn has room for a page of a scan; the keys it skips cost time too."""
        if self._scan_budget <= 0:
            return False
        self._scan_budget -= min(command[2], self.footprint.entries) + limits.SCAN_EXAMINED_MAX
        return True

    def _has_to_wait(self, replica: Replica, peer: bytes, operation: Operation) -> bool:
        """Say whether a read would find something expired: it is answered when its EXPIRE, proposed here, committed."""
        keys = replica.engine.keys
        now_ms = max(self.now.unix_ms, replica.log.now_ms)  # what the log has seen as past stays past
        found = [expire_if_due(keys, key, now_ms) for key in commands.keys_of(operation[-1])]
        expiries = [command for command in found if command]
        if not expiries:
            return False
        may_write = self._may_write(replica)
        if may_write and not self._is_congested:  # else what nobody confirms would fill the log
            for command in expiries[:-1]:
                self._propose(replica, None, _TIMER, command)
            self._propose(replica, WaitingRead(peer, operation), _TIMER, expiries[-1])
        elif not operation[2]:
            return False  # an old answer will do
        elif may_write:
            self._refuse_congested(peer, operation[0])
        else:
            self._refuse_not_enough(replica, peer, operation[0])
        return True

    def _write(
        self, replica: Replica, ticket: tuple[bytes, int], origin: tuple[int, int, int], command: Command
    ) -> None:
        if self._memory.is_limited:
            refused = self._memory.why_refused(replica.engine.keys, command)
            if refused and not replica.engine.sessions.is_over(*origin[:2]):  # else it needs no room, only its reply
                peer, number = ticket
                self._replies.refuse(peer, number, Refusal.OUT_OF_MEMORY, f"{self.me.name}: {refused}")
                return
        peer, number = ticket
        if not self._may_write(replica):
            self._refuse_not_enough(replica, peer, number)
        elif self._is_congested:
            self._refuse_congested(peer, number)
        else:
            self._propose(replica, ticket, origin, command)

    def _may_write(self, replica: Replica) -> bool:
        """Say whether enough copies are in sync, and it is likely enough that this one still leads them."""
        leading = replica.leading
        return (
            leading is not None
            and leading.can_commit
            and (
                self.now.seconds < self.lease_until_s or self.holdings.heard_at_s(replica) > self.now.seconds - _LEASE_S
            )
        )

    def _propose(self, replica: Replica, ticket: Any, origin: tuple[int, int, int], command: Command) -> None:
        for fact in self.holdings.propose(replica, ticket, origin, command, self.now.unix_ms):
            self._on_committed(*fact)

    def _carry_out(self, wishes: Iterable[Wish]) -> None:
        """Propose what the queues want logged, one after the other: each may change what is wanted next."""
        for partition, ticket, command in wishes:
            self._propose(self._led[partition], ticket, _TIMER, command)

    def _on_committed(self, replica: Replica, ticket: Any, command: Command, result: Any) -> None:
        partition = replica.partition
        if command[0] >= commands.FIRST_OWN and result:
            self._counters[commands.NAMES[command[0]]] += 1
        if ticket is None:
            pass
        elif type(ticket) is WaitingRead:
            self.on_operation(*ticket)
        elif type(ticket) is tuple:
            peer, number = ticket
            self._answer(peer, number, result)
        if partition not in self._led:
            self._lead(replica)
            return
        if command[0] in queue_commands.CODES:
            may_write = self._may_write(replica)
            self._carry_out(self.queue_desk.on_committed(partition, ticket, command, result, may_write=may_write))
        if replica.engine.keys.expires_at_ms:
            self._expiry.on_committed(partition, command)
        if self._memory.tracks_use:
            self._memory.on_committed(partition, command)
            if ticket is not None:
                for other, evict in self._memory.victims():
                    self._propose(self._led[other], None, _TIMER, evict)

    def _answer(self, peer: bytes, number: int, result: Any) -> None:
        if type(result) is Refused:
            self._replies.refuse(peer, number, result.refusal, result.text)
        else:
            self._replies.add(peer, number, result)

    @property
    def _is_congested(self) -> bool:
        return self.holdings.uncommitted_bytes > limits.UNCOMMITTED_BYTES_MAX

    def _refuse_congested(self, peer: bytes, number: int) -> None:
        text = f"{self.me.name} waits for other copies to take what was written before"
        self._replies.refuse(peer, number, Refusal.OVERLOADED, text)

    def _refuse_moved(self, peer: bytes, number: int, partition: int) -> None:
        rows = self.table.partitions if self.table is not None else ()
        if partition < len(rows) and rows[partition].is_lost:
            text = f"every copy of partition {partition} came back without what it held; see gimmal recover"
            self._replies.refuse(peer, number, Refusal.DATA_LOST, text)
            return
        self._counters["moved"] += 1
        self._replies.refuse(peer, number, Refusal.MOVED, f"{self.me.name} does not lead partition {partition}")

    def _refuse_stray(self, peer: bytes, number: int, partition: int) -> None:
        self._replies.refuse(peer, number, Refusal.INVALID, f"the key does not belong to partition {partition}")

    def _refuse_scan(self, peer: bytes, number: int) -> None:
        self._replies.refuse(peer, number, Refusal.OVERLOADED, f"{self.me.name} has scans to do for others first")

    def _refuse_not_enough(self, replica: Replica, peer: bytes, number: int) -> None:
        view = replica.view
        assert view is not None, "who leads has a view"
        text = (
            f"{len(view.in_sync)} copies of partition {replica.partition} are in sync, and {view.least} must be"
            if len(view.in_sync) < view.least
            else f"{self.me.name} is cut off, and may not lead partition {replica.partition} any more"
        )
        self._replies.refuse(peer, number, Refusal.NOT_ENOUGH_REPLICAS, text)
