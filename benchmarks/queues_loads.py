"""The timed loops of the queue rows, and the book of what must be in each queue.

Every message has 100 bytes and a number, and every message that is consumed must be one that was produced and not
acknowledged yet: a benchmark that loses messages, or gets one twice, fails. Drawing up and checking a payload costs
about the same for all systems, some 0.5 us.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from statistics import quantiles
from time import perf_counter

from benchmarks.queues_clients import QueueClient
from benchmarks.queues_rows import BATCH, RATE_PER_S, WINDOW, Load
from benchmarks.workload import VALUE_BYTES, WrongAnswerError

WAIT_S = 10.0
TAIL = b"." * (VALUE_BYTES - 16)


class Book:
    """What must be in one queue of one system: messages that were produced and are not acknowledged."""

    def __init__(self, system: str, queue: str) -> None:
        self.system = system
        self.queue = queue
        self.there: set[bytes] = set()
        self._made_count = 0

    def make(self) -> bytes:
        """Return a new payload, and expect it to come out of the queue."""
        self._made_count += 1
        payload = b"%016d" % self._made_count + TAIL
        self.there.add(payload)
        return payload

    def take(self, payload: bytes) -> None:
        """Strike out a message that was consumed.

        Raises:
            WrongAnswerError: there can be no such message.
        """
        try:
            self.there.remove(payload)
        except KeyError:
            raise self._wrong(payload, "a message that is there") from None

    def must_be_there(self, got: object) -> None:
        """Check that a consume brought something, because the queue cannot be empty.

        Raises:
            WrongAnswerError: it brought nothing.
        """
        if not got:
            raise self._wrong(got, f"one of {len(self.there)} messages, within {WAIT_S:.0f} s")

    def _wrong(self, got: object, expected: object) -> WrongAnswerError:
        return WrongAnswerError(self.system, self.queue, got, expected)


async def run_load(client: QueueClient, book: Book, load: Load, deadline: float) -> int:
    """Drive a queue until the deadline, or until it is empty; return the number of messages."""
    drive: dict[Load, Callable[[QueueClient, Book, float], Awaitable[int]]] = {
        Load.PRODUCE: produce_one,
        Load.PRODUCE_WINDOW: produce_window,
        Load.PRODUCE_MANY: produce_batches,
        Load.CONSUME: consume_one,
        Load.CONSUME_MANY: consume_batches,
    }
    return await drive[load](client, book, deadline)


async def produce_one(client: QueueClient, book: Book, deadline: float) -> int:
    """Produce one message after another."""
    produce, make = client.produce, book.make
    count = 0
    while perf_counter() < deadline:
        await produce(make())
        count += 1
    return count


async def produce_window(client: QueueClient, book: Book, deadline: float) -> int:
    """Keep as many messages under way as the window has."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(produce_one(client, book, deadline)) for _ in range(WINDOW)]
    return sum(task.result() for task in running)


async def produce_batches(client: QueueClient, book: Book, deadline: float) -> int:
    """Produce one batch after another."""
    count = 0
    while perf_counter() < deadline:
        await client.produce_many([book.make() for _ in range(BATCH)])
        count += BATCH
    return count


async def consume_one(client: QueueClient, book: Book, deadline: float) -> int:
    """Consume and acknowledge one message after another."""
    consume, payload_of, ack, take, there = client.consume, client.payload_of, client.ack, book.take, book.there
    count = 0
    while there and perf_counter() < deadline:
        message = await consume(WAIT_S)
        if message is None:
            book.must_be_there(message)
        take(payload_of(message))
        await ack(message)
        count += 1
    return count


async def consume_batches(client: QueueClient, book: Book, deadline: float) -> int:
    """Consume and acknowledge one batch after another."""
    count = 0
    while book.there and perf_counter() < deadline:
        messages = await client.consume_many(min(BATCH, len(book.there)), WAIT_S)
        if not messages:
            book.must_be_there(messages)
        for message in messages:
            book.take(client.payload_of(message))
        await client.ack_many(messages)
        count += len(messages)
    return count


async def fill(client: QueueClient, book: Book, count: int) -> None:
    """Produce until so many messages are there."""
    while (missing := count - len(book.there)) > 0:
        await client.produce_many([book.make() for _ in range(min(BATCH, missing))])


async def drain(client: QueueClient, book: Book) -> None:
    """Consume everything that must be there, and tidy up."""
    await consume_batches(client, book, float("inf"))
    await client.tidy()


async def run_latency(producer: QueueClient, consumer: QueueClient, book: Book, seconds: float) -> list[float]:
    """Produce at a fixed rate, consume with one consumer that waits; return the seconds from call to message.

    The producer waits for no answer before it goes on, and the consumer acknowledges while it waits for the next one.
    When the event loop wakes up late, what is due goes out at once; its time counts from its own call.
    """
    total = int(seconds * RATE_PER_S)
    called_at: dict[bytes, float] = {}
    latencies: list[float] = []

    async def consume(group: asyncio.TaskGroup) -> None:
        while len(latencies) < total:
            message = await consumer.consume(WAIT_S)
            now = perf_counter()
            book.must_be_there(message)
            payload = consumer.payload_of(message)
            book.take(payload)
            latencies.append(now - called_at[payload])
            group.create_task(consumer.ack(message))

    async with asyncio.TaskGroup() as group:
        group.create_task(consume(group))
        started = perf_counter()
        for index in range(total):
            await asyncio.sleep(max(0.0, started + index / RATE_PER_S - perf_counter()))
            payload = book.make()
            called_at[payload] = perf_counter()
            group.create_task(producer.produce(payload))
    return latencies


def percentiles_ms(latencies: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p99, in milliseconds."""
    cuts = quantiles(latencies, n=100, method="inclusive")
    return cuts[49] * 1000, cuts[98] * 1000
