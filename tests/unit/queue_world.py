"""Clients of queues over the network that is only a list: plans carried out in virtual time, against real nodes.

world = QueueWorld()                     three nodes with three copies of everything
client = world.client()                  a client that has its table, and says every second that it lives
queue = client.queue("q", shards=4)      a handle; its methods start plans
trip = queue.consume(timeout=5.0)        a `Trip`: `result()` when `world.run` has let enough time pass
"""

import random
from binascii import crc_hqx
from typing import Any

from gimmal.client import inspecting, producing, settling
from gimmal.client.attendance import Attendance
from gimmal.client.calls import Call
from gimmal.client.consuming import Consume, Wish
from gimmal.client.queue_arguments import Place, place_of, settings_of
from gimmal.client.shards import Book, Shards
from gimmal.client.steps import Aside, Plan
from gimmal.client.values import Values
from gimmal.types import Operation
from gimmal.wire import queue_commands as wire
from gimmal.wire.messages import FetchTable, KeepAlive, Message, Request
from tests.unit.fake_network import End
from tests.unit.replicated_network import Trio

VALUES = Values()


class Trip:
    """A plan under way: what comes of it, and when."""

    def __init__(self, end: "QueueEnd", plan: Plan[Any], timeout: float) -> None:
        self.end = end
        self.ended_at: float | None = None
        self.call: Call[Any] | None = None
        self._plan = plan
        self._timeout = timeout
        self._result: Any = None
        self._error: BaseException | None = None
        self._go(lambda: next(plan))

    @property
    def is_done(self) -> bool:
        return self.ended_at is not None

    def result(self) -> Any:
        assert self.is_done, "it is under way"
        if self._error is not None:
            raise self._error
        return self._result

    @property
    def failed(self) -> BaseException | None:
        return self._error

    def error(self) -> BaseException:
        assert self._error is not None, f"expected an error, got {self._result!r}"
        return self._error

    def proceed(self) -> None:
        call, self.call = self.call, None
        assert call is not None
        try:
            outcome = call.outcome()
        except Exception as error:  # noqa: BLE001
            self.interrupt(error)
        else:
            self._go(lambda: self._plan.send(outcome))

    def interrupt(self, error: BaseException) -> None:
        """Throw an error into the plan, as a signal or a cancelled task would."""
        self.end.trips.pop(self.call, None)
        self._go(lambda: self._plan.throw(error))

    def _go(self, step: Any) -> None:
        try:
            found = step()
            while isinstance(found, Aside):
                if found.ended is not None:
                    self.end.session.forget(found.ended)
                self.end.session.start(found.call, 30.0, self.end.world.now)
                found = self._plan.send(None)
        except StopIteration as end:
            self._result, self.ended_at = end.value, self.end.world.now
        except BaseException as error:  # noqa: BLE001
            self._error, self.ended_at = error, self.end.world.now
        else:
            self.call = found
            self.end.trips[found] = self
            self.end.session.start(found, self._timeout + found.waits_s, self.end.world.now)


class Handle:
    """One queue of a client."""

    def __init__(self, end: "QueueEnd", place: Place, settings: Any) -> None:
        self.end = end
        self.shards = Shards(place, settings, end.book)

    def begin(self, plan: Plan[Any], timeout: float = 5.0) -> Trip:
        return Trip(self.end, plan, timeout)

    def produce(
        self, payload: Any, delay: float = 0.0, group_key: Any = None, dedup_id: Any = None, timeout: float = 5.0
    ) -> Trip:
        delay_ms, message = producing.one(VALUES, payload, delay, group_key, dedup_id)
        return self.begin(producing.produce(self.shards, self.end.at, delay_ms, message), timeout)

    def produce_many(self, payloads: Any, delay: float = 0.0, group_key: Any = None) -> Trip:
        delay_ms, messages = producing.many(VALUES, payloads, delay, group_key)
        return self.begin(producing.produce_many(self.shards, self.end.at, delay_ms, messages))

    def consume(self, timeout: float = 0.0, most: int = 1, group: str = "default", lease: float = 0.0) -> Trip:
        wish = Wish(b"me", group.encode(), most, timeout, int(lease * 1000))
        return self.begin(Consume(self.shards, self.end.at, wish, self.end.values).steps())

    def settle(self, code: int, message: Any, *details: Any) -> Trip:
        receipt = settling.receipt_of(self.shards, self.end.at, message)
        return self.begin(settling.settle_one(self.shards, self.end.at, code, receipt, *details))

    def ack(self, message: Any) -> Trip:
        return self.settle(wire.ACK, message)

    def nack(self, message: Any, requeue: bool = True, delay_ms: int | None = None, reason: bytes = b"") -> Trip:
        return self.settle(wire.NACK, message, (requeue, delay_ms), reason)

    def ack_many(self, messages: Any) -> Trip:
        receipts = settling.receipts_of(self.shards, self.end.at, messages)
        return self.begin(settling.ack_many(self.shards, self.end.at, receipts))

    def stats(self, group: str = "default") -> Trip:
        return self.begin(inspecting.stats(self.shards, self.end.at, group.encode()))

    # -- at once: a tenth of a second passes

    def now(self, trip: Trip) -> Any:
        self.end.world.run(0.1)
        return trip.result()

    def counts(self, group: str = "default") -> tuple[int, int, int, int]:
        found = self.now(self.stats(group))
        return found["pending"], found["in_progress"], found["completed"], found["dead_letter"]


class QueueEnd(End):
    """A client that has queues."""

    def __init__(self, world: "QueueWorld", number: int, client: bytes) -> None:
        super().__init__(world, number, ["h1:1"], None)
        self.values: Any = VALUES
        self.at = Attendance(len(world.table.partitions), client, clock=lambda: world.now)
        self.book = Book(random.Random(number))
        self.trips: dict[Call[Any] | None, Trip] = {}
        self.told: list[str] = []
        self.is_alive = True

    def queue(
        self,
        name: Any,
        *,
        shards: int | None = None,
        max_length: int | None = None,
        max_retries: int | None = None,
        lease: float | None = None,
        backoff: float | None = None,
    ) -> Handle:
        place = place_of(name)
        return Handle(self, place, settings_of(place, (max_retries, shards, max_length), (lease, backoff, None)))

    def finished(self, calls: list[Call[Any]]) -> None:
        for call in calls:
            trip = self.trips.pop(call, None)
            if trip is not None:
                trip.proceed()
            elif call in self.outcomes:
                super().finished([call])

    def beat(self) -> None:
        """Do every second what the thread for it would do."""
        table = self.session.table
        if table is not None and self.is_alive:
            self.told = self.session.addresses_of_copies(self.at.partitions())
            for address in self.told:
                core = self.world.cores.get(address)
                if core is not None and address not in self.world.unplugged:
                    core.receive(
                        b"beat", KeepAlive(table.cluster, 0, 0, table.version, self.at.client), self.world.instant()
                    )
            self.world.post(1.0, self.beat)

    # -- what was sent

    def sent_operations(self, *codes: int) -> list[tuple[str, Operation]]:
        """All operations that were sent, in order, but for keepalives of sessions; of some kinds, if they are named."""
        found = []
        for address, message in self.requests:
            if isinstance(message, Request):
                found += [(address, op) for op in message.operations if op[5][0] in (codes or wire.CODES)]
        return found

    def names(self) -> list[str]:
        """The names of the queue commands that were sent, in order."""
        return [wire.NAMES[operation[5][0]] for _, operation in self.sent_operations()]

    def trips_made(self) -> int:
        """How often something was sent after the time had moved: no more than messages to one node."""
        return len([message for _, message in self.requests if isinstance(message, Request)])

    def questions(self) -> list[Message]:
        return self.sent(FetchTable)


class QueueWorld(Trio):
    """Three nodes, and clients that have queues."""

    def client(self) -> QueueEnd:
        end = QueueEnd(self, len(self.ends), bytes([len(self.ends)]) * 16)
        self.ends.append(end)
        self.run(1.0)
        assert end.session.table is not None
        end.beat()
        end.requests.clear()
        return end

    def home(self, shard: bytes) -> int:
        return self.ends_at().partition_of(shard)

    def ends_at(self) -> Attendance:
        return next(end.at for end in self.ends if isinstance(end, QueueEnd))

    def lose(self, *shards: bytes) -> None:
        """Let shards lose all they have, everywhere."""
        for core in self.cores.values():
            for shard in shards:
                queues = core.serving.holdings.replicas[self.home(shard)].engine.queues
                queues.shards.pop(shard, None)


def payloads(messages: Any) -> list[Any]:
    return [message.payload for message in messages]


def fill(queue: Handle, shard: int, count: int) -> None:
    """Put messages into one shard."""
    known = queue.now(queue.begin(queue.shards.declared(queue.end.at)))
    ids = (b"%d" % index for index in range(100_000))
    chosen = [one for one in ids if crc_hqx(one, 0) % known.count == shard][:count]
    for index, dedup_id in enumerate(chosen):
        queue.now(queue.produce(index, dedup_id=dedup_id))


class Interrupt(BaseException):
    """What a signal handler or a cancelled task throws into a plan."""
