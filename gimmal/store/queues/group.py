"""Where each message of a shard stands for one consumer group.

    ready ──GRANT──> in flight ──ACK──────────────────────────────> gone
      ^                │  │  │
      │                │  │  └─ failed for the last time ──> dead ──redrive──> ready
      │                │  └─ failed ──> delayed ── due ──> ready
      └─── released ───┘

A message is ready, delayed, waiting behind another one, in flight or dead. Ready messages are given away oldest first:
`fresh` are those that never were anything else, in the order of their numbers, and `returned` all others, a heap. What
is delayed becomes ready when a GRANT comes whose entry is stamped with a later time, so time is the log's. Of what is
due, a GRANT lets in as many as it asks for, those that were due first: a million that are due at once hold up nobody.

Messages with one group key stand in a *lane*: only the first is ready, delayed or in flight; the next one follows when
it is settled.

A delivery ends with its token. An ACK whose lease has ended counts as long as nobody else was given the message: it
lies in a heap then, where only the head can be removed, so `taken_back` says that it is to be passed over. No head of a
heap is ever one of those, and they are never more than half of what lies in both.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

from gimmal.store.queues.message import Delivery, Failure, Message
from gimmal.wire import limits

FINISHED_MAX: Final = 10_000
_DOUBLINGS_MAX: Final = 40
_SPREAD: Final = 2_654_435_761  # 2**32 by the golden ratio: the checksums of neighbours are neighbours, these are not


class Wish(NamedTuple):
    """What a consume asks for: at most so many messages, for `lease_ms` (0: as long as the queue says)."""

    client: bytes
    consumer: bytes
    request: int
    most: int
    lease_ms: int


class Group:
    """One consumer group of a shard. `messages` are the shard's, by number.

    `deliveries` has those that were given away and are not settled, `held` which of them are in flight, in the order in
    which they were granted, and `by_request` what a consume, (client, request), has got of them. `finished` has the
    last token of messages that were given away more than once and are settled, so that an older one is known as such;
    of those that died and were purged it has 0, nobody's token.
    """

    __slots__ = (
        "_messages",
        "_taken_back_delayed",
        "by_request",
        "completed",
        "dead",
        "delayed",
        "deliveries",
        "finished",
        "fresh",
        "held",
        "lanes",
        "redelivered",
        "returned",
        "taken_back",
        "waiting_in_lanes",
    )

    def __init__(self, messages: dict[int, Message]) -> None:
        self._messages = messages
        self.fresh: deque[int] = deque()
        self.returned: list[int] = []
        self.delayed: list[tuple[int, int]] = []
        self.lanes: dict[bytes, deque[int] | None] = {}  # those that wait; often there are none, and a deque is large
        self.waiting_in_lanes = 0
        self.deliveries: dict[int, Delivery] = {}
        self.held: dict[int, Delivery] = {}
        self.by_request: dict[tuple[bytes, int], list[int]] = {}
        self.taken_back: set[int] = set()
        self._taken_back_delayed = 0
        self.dead: dict[int, Delivery] = {}
        self.finished: OrderedDict[int, int] = OrderedDict()
        self.completed = 0
        self.redelivered = 0

    # -- what there is --------------------------------------------------------------------------------------------

    @property
    def ready_count(self) -> int:
        """How many messages a GRANT could take now, but for those that have become due."""
        return len(self.fresh) + len(self.returned) - len(self.taken_back) + self._taken_back_delayed

    @property
    def next_due_ms(self) -> int | None:
        """When the next delayed message is due, in Unix milliseconds, or None."""
        return self.delayed[0][0] if self.delayed else None

    def due_count(self, now_ms: int, enough: int | None = None) -> int:
        """Count the delayed messages that are due, in time proportional to their number; no more than `enough`."""
        heap, found, places = self.delayed, 0, [0]
        while places and found != enough:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= now_ms:
                found += heap[place][1] not in self.taken_back
                places += (2 * place + 1, 2 * place + 2)
        return found

    def counts(self, now_ms: int) -> tuple[int, ...]:
        """Return (pending, in progress, completed, dead letters, delayed, redelivered, age of the oldest in ms).

        The oldest is that of the pending ones: those that are ready, due, or wait in a lane.
        """
        due: list[int] = []
        if self.delayed and self.delayed[0][0] <= now_ms:
            due = [number for due_ms, number in self.delayed if due_ms <= now_ms and number not in self.taken_back]
        heads = [*self.returned[:1], *([self.fresh[0]] if self.fresh else []), *due]
        heads += [min(lane) for lane in self.lanes.values() if lane]
        return (
            self.ready_count + len(due) + self.waiting_in_lanes,
            len(self.held),
            self.completed,
            len(self.dead),
            len(self.delayed) - self._taken_back_delayed - len(due),
            self.redelivered,
            max(0, now_ms - self._messages[min(heads)].created_ms) if heads else 0,
        )

    # -- coming in, and back --------------------------------------------------------------------------------------

    def add(self, message: Message) -> None:
        """Take a new message, the youngest of all."""
        if message.group_key and self._must_wait(message):
            return
        if message.due_ms:
            heapq.heappush(self.delayed, (message.due_ms, message.number))
        else:
            self.fresh.append(message.number)

    def _must_wait(self, message: Message) -> bool:
        """Let a message stand in its lane; return whether it waits behind another one."""
        key = message.group_key
        if key not in self.lanes:
            self.lanes[key] = None
            return False
        lane = self.lanes[key]
        if lane is None:
            lane = self.lanes[key] = deque()
        lane.append(message.number)
        self.waiting_in_lanes += 1
        return True

    def _put_back(self, number: int, due_ms: int) -> None:
        delivery = self.deliveries.get(number)
        if due_ms:
            heapq.heappush(self.delayed, (due_ms, number))
        else:
            heapq.heappush(self.returned, number)
        if delivery is not None:
            delivery.is_delayed = due_ms > 0

    def _promote(self, most: int, now_ms: int) -> None:
        """Let what is due be ready, at most so many."""
        delayed = self.delayed
        while delayed and delayed[0][0] <= now_ms and most:
            _, number = heapq.heappop(delayed)
            if self.taken_back:
                self._drop_heads()
            heapq.heappush(self.returned, number)
            delivery = self.deliveries.get(number)
            if delivery is not None:
                delivery.is_delayed = False
            most -= 1

    def _take_back(self, number: int, delivery: Delivery) -> None:
        """Let a message that lies in a heap be passed over."""
        gone = self.taken_back
        gone.add(number)
        self._taken_back_delayed += delivery.is_delayed
        if 2 * len(gone) <= len(self.returned) + len(self.delayed):
            self._drop_heads()
            return
        self.returned = [number for number in self.returned if number not in gone]
        self.delayed = [at for at in self.delayed if at[1] not in gone]
        heapq.heapify(self.returned)
        heapq.heapify(self.delayed)
        gone.clear()
        self._taken_back_delayed = 0

    def _drop_heads(self) -> None:
        """Drop what was taken back from the heads of both heaps."""
        returned, delayed, gone = self.returned, self.delayed, self.taken_back
        while returned and returned[0] in gone:
            gone.discard(heapq.heappop(returned))
        while delayed and delayed[0][1] in gone:
            gone.discard(heapq.heappop(delayed)[1])
            self._taken_back_delayed -= 1

    # -- given away -----------------------------------------------------------------------------------------------

    def grant(self, wish: Wish, token: int, now_ms: int) -> tuple[int, ...]:
        """Give the oldest ready messages to a consume, and return their numbers.

        A consume that has got something before gets the same again: it was sent twice.
        """
        client, consumer, request, most, lease_ms = wish
        before = self.by_request.get((client, request))
        if before is not None:
            return tuple(before)
        self._promote(most, now_ms)
        numbers: list[int] = []
        size_bytes = 0
        while len(numbers) < most and size_bytes < limits.GRANT_BYTES_MAX:
            number = self._next_ready()
            if not number:
                break
            size_bytes += len(self._messages[number].payload)
            numbers.append(number)
            delivery = self.deliveries.get(number)
            if delivery is None:
                delivery = self.deliveries[number] = Delivery()
            elif delivery.attempts:
                self.redelivered += 1
            delivery.attempts += 1
            delivery.token, delivery.is_held, delivery.lease_ms = token, True, lease_ms
            delivery.client, delivery.consumer, delivery.request = client, consumer, request
            self.held[number] = delivery
        if numbers:
            self.by_request[client, request] = numbers.copy()
        return tuple(numbers)

    def _next_ready(self) -> int:
        """Take the oldest ready message and return its number, 0 if there is none."""
        fresh, returned = self.fresh, self.returned
        if returned and (not fresh or returned[0] < fresh[0]):
            number = heapq.heappop(returned)
            if self.taken_back:
                self._drop_heads()
            return number
        return fresh.popleft() if fresh else 0

    # -- settled --------------------------------------------------------------------------------------------------

    def ack(self, number: int, token: int, now_ms: int) -> tuple[bool, bool]:
        """Settle a delivery; return whether its token counts, and whether its message is settled by it."""
        delivery = self.deliveries.get(number)
        if delivery is None:
            return self.finished.get(number, token) == token and number not in self.dead, False
        if delivery.token != token:
            return False, False
        if delivery.is_held:
            self._end(number, delivery)
        else:
            self._take_back(number, delivery)
        self.completed += 1
        self._settle(number, delivery, now_ms)
        return True, True

    def fail(self, number: int, failure: Failure, due_ms: int | None) -> bool:
        """Count a failure of what is in flight: it is ready again at a time (0: now), or a dead letter (None).

        Return whether its message is settled by that.
        """
        delivery = self.held[number]
        self._end(number, delivery)
        delivery.failed(failure)
        if due_ms is not None:
            self._put_back(number, due_ms)
            return False
        self._settle(number, delivery, failure.at_ms)
        self.dead[number] = delivery
        return True

    def release(self, number: int) -> None:
        """Let what is in flight be ready again, as if it had not been given away but for the count of attempts."""
        self._end(number, self.held[number])
        self._put_back(number, 0)

    def _end(self, number: int, delivery: Delivery) -> None:
        delivery.is_held = False
        del self.held[number]
        request = delivery.client, delivery.request
        numbers = self.by_request[request]
        numbers.remove(number)
        if not numbers:
            del self.by_request[request]

    def _settle(self, number: int, delivery: Delivery, now_ms: int) -> None:
        del self.deliveries[number]
        if delivery.attempts > 1:
            self._finish(number, delivery.token)
        group_key = self._messages[number].group_key
        if group_key:
            self._advance(group_key, now_ms)

    def _finish(self, number: int, token: int) -> None:
        self.finished[number] = token
        if len(self.finished) > FINISHED_MAX:
            self.finished.popitem(last=False)

    def _advance(self, group_key: bytes, now_ms: int) -> None:
        """Let the next message of a lane come forward, or end the lane."""
        lane = self.lanes[group_key]
        if not lane:
            del self.lanes[group_key]
            return
        number = lane.popleft()
        self.waiting_in_lanes -= 1
        due_ms = self._messages[number].due_ms
        self._put_back(number, due_ms if due_ms > now_ms else 0)

    # -- who holds what -------------------------------------------------------------------------------------------

    def holds(self, number: int, token: int) -> bool:
        """Say whether a delivery is in flight."""
        delivery = self.held.get(number)
        return delivery is not None and delivery.token == token

    def held_by(self, client: bytes) -> list[int]:
        """Return the numbers of what a client has in flight."""
        return [number for number, delivery in self.held.items() if delivery.client == client]

    # -- dead letters ---------------------------------------------------------------------------------------------

    def redrive(self, count: int) -> list[int]:
        """Let the oldest dead letters be ready again, their failures forgotten; return their numbers.

        That they were given away is not: who had one then is still too late when another one has settled it.
        """
        numbers = self._oldest_dead(count)
        for number in numbers:
            delivery = self.deliveries[number] = self.dead.pop(number)
            delivery.token = delivery.retries = 0  # nobody's token: what was given away before has ended
            delivery.failures = ()
            self.finished.pop(number, None)
            message = self._messages[number]
            if not message.group_key or not self._must_wait(message):
                self._put_back(number, 0)
        return numbers

    def purge(self, count: int) -> list[int]:
        """Drop the oldest dead letters; return their numbers."""
        numbers = self._oldest_dead(count)
        for number in numbers:
            del self.dead[number]
            self.finished.pop(number, None)
            self._finish(number, 0)
        return numbers

    def _oldest_dead(self, count: int) -> list[int]:
        return [number for number, _ in zip(self.dead, range(count), strict=False)]

    def unsettled(self) -> Iterator[int]:
        """Yield the numbers of all messages that are not settled here."""
        yield from self.fresh
        for number in (*self.returned, *(number for _, number in self.delayed)):
            if number not in self.taken_back:
                yield number
        for lane in self.lanes.values():
            yield from lane or ()
        yield from self.held


def backoff_ms(first_ms: int, most_ms: int, retries: int, number: int) -> int:
    """Return how long a message waits after its failure number `retries`: doubling, with a jitter of its own.

    Between half of the whole pause and all of it, by a hash of the message and the failure: every replica finds the
    same, and messages that failed together do not come back together.
    """
    pause_ms = min(most_ms, first_ms << min(retries - 1, _DOUBLINGS_MAX))
    mixed = crc32(b"%d %d" % (number, retries)) * _SPREAD & 0xFFFF_FFFF
    jitter = mixed / 0xFFFF_FFFF
    return int(pause_ms * (0.5 + jitter / 2))
