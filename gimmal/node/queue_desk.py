"""Where consumers and the queues that one life of a node leads meet. No protocol rules live here.

    CONSUME ──> waits (`leader.waiting`) ── something is ready ──> GRANT ── committed ──> answered with the messages
                                                                     └── nobody wants it any more ──> GIVE_BACK

and the clock's part of it: the time of a consume is up, a lease is over (LEASE_END), a delayed message is due (the next
GRANT takes it), a client is gone (VANISH). What this room wants logged it yields as `(partition, ticket, command)`; the
owner proposes each before it asks for the next, and comes back with `on_committed`.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from gimmal.leader.leases import Leases
from gimmal.leader.presence import Presence
from gimmal.leader.waiting import WAITERS_MAX, Line, Waiter, Waiting
from gimmal.node.replies import Replies
from gimmal.store.kv import Refused
from gimmal.store.queues import Queues
from gimmal.store.queues.group import Group
from gimmal.store.queues.shard import Shard
from gimmal.types import Command, Instant, Operation
from gimmal.wire import queue_commands
from gimmal.wire.limits import CONSUME_MAX
from gimmal.wire.messages import Refusal
from gimmal.wire.queue_commands import Outcome

Wish: TypeAlias = tuple[int, Any, Command]
"""What is to be logged: (partition, ticket, command)."""

_PUT_OFF_S: Final = 0.2
_LOOK_AGAIN_S: Final = 1.0  # when delayed messages are due is wall clock; timers are not, and the two may drift
_NEVER: Final = float("inf")


class QueueDesk:
    """What consumers get. `led` maps each partition led to its queues, `now` is that of the turn."""

    def __init__(self, led: Mapping[int, Queues], replies: Replies) -> None:
        self.now = Instant(0.0, 0)
        self._led = led
        self._replies = replies
        self._waiting = Waiting()
        self._leases = Leases(led)
        self._presence = Presence(led)
        self._due: list[tuple[int, Line]] = []  # when a delayed message is due for which somebody waits
        self._due_ms_by_line: dict[Line, int] = {}
        self._stalled: dict[Line, None] = {}  # where something could be given if the partition could be written to
        self._look_at_stalled_s = _NEVER

    # -- partitions -----------------------------------------------------------------------------------------------

    def on_led(self, partition: int) -> None:
        """Look after a partition whose state is there already: it is led from now on."""
        if self._led[partition].shards:
            self._leases.on_led(partition, self.now.seconds)
            self._presence.on_led(partition, self.now.seconds)

    def on_not_led(self, partition: int) -> list[Waiter]:
        """Return those who wait for something of a partition that is led no more, and forget them."""
        waiters = [waiter for line in self._waiting.lines_of(partition) for waiter in self._waiting.all_in(line)]
        for waiter in waiters:
            self._waiting.remove(waiter)
        return [waiter for waiter in waiters if not waiter.is_cancelled]

    # -- consumers ------------------------------------------------------------------------------------------------

    def on_sign(self, client: bytes) -> None:
        """Hear of a client."""
        self._presence.on_sign(client, self.now.seconds)

    def on_operation(
        self, peer: bytes, operation: Operation, gives_up_at_s: float, *, may_write: bool
    ) -> Iterator[Wish]:
        """Take a CONSUME or CANCEL."""
        number, partition, *_, command = operation
        line = Line(partition, command[1], command[2])
        found = self._find(line)
        if isinstance(found, Refused):
            self._replies.refuse(peer, number, found.refusal, found.text)
            return
        if command[0] == queue_commands.CANCEL:
            yield from self._cancel(line, peer, number, command)
            return
        (client, consumer), request, (most, wait_ms, lease_ms) = command[3:]
        self._presence.on_consumer(client, partition, line.shard, self.now.seconds)
        before = found[1].by_request.get((client, request))
        if before is not None:  # it has its answer; that was lost
            self._answer(peer, number, found, before)
            return
        waiter = self._waiting.find(line, client, request)
        if waiter is None:
            if len(self._waiting) >= WAITERS_MAX:
                self._replies.refuse(peer, number, Refusal.OVERLOADED, f"{WAITERS_MAX} consumers wait here already")
                return
            waiter = Waiter(line, client, consumer, request)
            self._waiting.add(waiter)
        waiter.peer, waiter.number, waiter.most, waiter.lease_ms = peer, number, most, lease_ms
        waiter.until_s, waiter.gives_up_at_s = self.now.seconds + wait_ms / 1000, gives_up_at_s
        yield from self._give(line, found[1], may_write=may_write)
        if waiter.share or self._waiting.find(line, client, request) is not waiter:
            return
        if wait_ms:
            self._waiting.watch(waiter)
            self._watch_delays(line, found[1])
        else:
            self._waiting.remove(waiter)
            self._replies.add(peer, number, ())

    def _cancel(self, line: Line, peer: bytes, number: int, command: Command) -> Iterator[Wish]:
        """Let a consume end: what it was given goes back, also what it will have been given by a GRANT under way."""
        _, shard, group, client, request = command
        waiter = self._waiting.find(line, client, request)
        if waiter is not None and not waiter.share:
            self._waiting.remove(waiter)
            self._replies.add(peer, number, 0)
            return
        if waiter is not None:
            waiter.is_cancelled = True
        yield line.partition, (peer, number), (queue_commands.GIVE_BACK, shard, group, client, request)

    def _give(self, line: Line, group: Group, *, may_write: bool) -> Iterator[Wish]:
        """Propose to give what is ready to those who wait for it."""
        if not self._waiting.has_line(line):
            return
        if not may_write and self._available(line, group) > self._waiting.promised[line]:
            self._stall(line)
            return
        while waiter := self._waiting.promise(line, self._available(line, group)):
            who = waiter.client, waiter.consumer
            wanted = waiter.most, waiter.lease_ms
            yield (
                line.partition,
                waiter,
                (queue_commands.GRANT, line.shard, line.group, who, waiter.request, wanted),
            )

    def _stall(self, line: Line) -> None:
        if not self._stalled:
            self._look_at_stalled_s = self.now.seconds + _PUT_OFF_S
        self._stalled[line] = None

    def _available(self, line: Line, group: Group) -> int:
        """Return how many messages a GRANT could take now: all of them, or more than are promised already."""
        ready, due_ms = group.ready_count, group.next_due_ms
        if due_ms is None or due_ms > self.now.unix_ms:
            return ready
        return ready + group.due_count(self.now.unix_ms, self._waiting.promised[line] + CONSUME_MAX)

    def _watch_delays(self, line: Line, group: Group) -> None:
        """Look again when the next delayed message is due; those that are due already, a GRANT under way takes."""
        due_ms = group.next_due_ms
        if due_ms is not None and self.now.unix_ms < due_ms < self._due_ms_by_line.get(line, _NEVER):
            self._due_ms_by_line[line] = due_ms
            heapq.heappush(self._due, (due_ms, line))

    # -- what has committed ---------------------------------------------------------------------------------------

    def on_committed(
        self, partition: int, ticket: Any, command: Command, result: Any, *, may_write: bool
    ) -> Iterator[Wish]:
        """Look at a queue command that was applied: who waits for what it made ready, which lease began or changed."""
        code = command[0]
        if code == queue_commands.GRANT:
            yield from self._on_granted(Line(partition, command[1], command[2]), ticket, result, may_write=may_write)
            return
        shard = self._led[partition].shards.get(command[1])
        if shard is None or isinstance(result, Refused):
            return
        if code == queue_commands.EXTEND:
            line = Line(partition, command[1], command[2])
            for (number, token), outcome in zip(command[3], result, strict=True):
                if outcome == Outcome.DONE:
                    self._leases.extend(line, number, token, self.now.seconds + command[4] / 1000)
            return
        if not len(self._waiting):
            return
        for name, group in shard.groups.items():
            line = Line(partition, command[1], name)
            if self._waiting.has_line(line):
                yield from self._give(line, group, may_write=may_write)
                self._watch_delays(line, group)

    def _on_granted(
        self, line: Line, ticket: Any, deliveries: tuple[tuple[int, int], ...], *, may_write: bool
    ) -> Iterator[Wish]:
        """Answer whom a GRANT was for. What was applied with it may have ended some of the deliveries again."""
        found = self._find(line)
        if isinstance(found, Refused) or type(ticket) is not Waiter:
            return
        waiter, group = ticket, found[1]
        if deliveries:
            self._waiting.remove(waiter)
            self._leases.start(line, deliveries, self.now.seconds)
            if waiter.is_cancelled:
                return  # the GIVE_BACK is on its way
            if self.now.seconds >= waiter.gives_up_at_s:
                back = queue_commands.GIVE_BACK, line.shard, line.group, waiter.client, waiter.request
                yield line.partition, None, back
                return
            numbers = [number for number, token in deliveries if group.holds(number, token)]
            self._answer(waiter.peer, waiter.number, found, numbers)
        elif waiter.is_cancelled or self.now.seconds >= waiter.until_s:
            self._waiting.remove(waiter)
            if not waiter.is_cancelled:
                self._replies.add(waiter.peer, waiter.number, ())
        else:
            self._waiting.wait_again(waiter)
            self._waiting.watch(waiter)
        yield from self._give(line, group, may_write=may_write)
        self._watch_delays(line, group)

    def _answer(self, peer: bytes, number: int, found: tuple[Shard, Group], numbers: Iterable[int]) -> None:
        """Answer a consume with what it was given."""
        shard, group = found
        rows = []
        for given in numbers:
            message, delivery = shard.messages[given], group.held[given]
            counts = delivery.token, delivery.attempts, delivery.retries
            rows.append((given, *counts, message.created_ms, message.payload))
        self._replies.add(peer, number, tuple(rows))

    # -- time -----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when to call `tick` next, in seconds; infinity if nothing waits for time."""
        due_s = self._look_at_stalled_s
        if self._due:
            due_ms = self._due[0][0]
            due_s = min(due_s, self.now.seconds + min(max(due_ms - self.now.unix_ms, 0) / 1000, _LOOK_AGAIN_S))
        return min(due_s, self._waiting.next_end_s(), self._leases.next_end_s(), self._presence.next_look_s())

    def tick(self, writable: Mapping[int, bool]) -> Iterator[Wish]:
        """Do what time asks for; `writable` says of a partition led whether it may be written to."""
        for waiter in self._waiting.take_ended(self.now.seconds):
            self._replies.add(waiter.peer, waiter.number, ())
        yield from self._end_leases(writable)
        yield from self._miss_the_gone(writable)
        for line in self._take_due_lines():
            found = self._find(line)
            if not isinstance(found, Refused):
                yield from self._give(line, found[1], may_write=writable[line.partition])
                self._watch_delays(line, found[1])

    def _end_leases(self, writable: Mapping[int, bool]) -> Iterator[Wish]:
        for partition, command in self._leases.due(self.now.seconds):
            if writable[partition]:
                yield partition, None, command
            else:
                self._leases.put_off(command, partition, self.now.seconds + _PUT_OFF_S)

    def _miss_the_gone(self, writable: Mapping[int, bool]) -> Iterator[Wish]:
        for client, is_counted, places in self._presence.take_gone(self.now.seconds):
            for waiter in self._waiting.of_client(client):
                self._waiting.remove(waiter)
            for partition, shard in places:
                if writable[partition]:
                    yield partition, None, (queue_commands.VANISH, shard, client, is_counted)
                else:
                    again_at_s = self.now.seconds + _PUT_OFF_S
                    self._presence.put_off(client, partition, shard, again_at_s, is_counted=is_counted)

    def _take_due_lines(self) -> Iterable[Line]:
        """Return where it is time to look: something delayed is due, or it could not be written for a while."""
        lines: dict[Line, None] = {}
        if self._look_at_stalled_s <= self.now.seconds:
            lines, self._stalled, self._look_at_stalled_s = self._stalled, {}, _NEVER
        while self._due and self._due[0][0] <= self.now.unix_ms:
            _, line = heapq.heappop(self._due)
            self._due_ms_by_line.pop(line, None)
            lines[line] = None
        return lines

    def _find(self, line: Line) -> tuple[Shard, Group] | Refused:
        queues = self._led.get(line.partition)
        shard = queues.shards.get(line.shard) if queues is not None else None
        if shard is None:
            return Refused(Refusal.NO_QUEUE, "there is no such queue here: declare it first")
        group = shard.groups.get(line.group)
        if group is None:
            return Refused(Refusal.NO_GROUP, "there is no such consumer group: create it first")
        return shard, group
