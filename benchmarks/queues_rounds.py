"""Timed rounds of the queue rows, which take turns: gimmal and its peers, then the next round starts with another one.

Each row has a queue of its own, and one client per system for all its rounds. What is timed is preceded by the same
load for a moment, uncounted. A row that consumes finds enough messages for a round, produced before; should they not
last, the round ends when the queue is empty. What a row produced is consumed, and checked, after each round. CPU time
is counted as in `rounds`. The row about consumers that wait is measured once per system.
"""

import asyncio
import gc
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter

from benchmarks.processes import TICKS_PER_S, cpu_seconds
from benchmarks.queues_clients import NotStartedError, QueueClient, QueueSystem
from benchmarks.queues_loads import Book, drain, fill, percentiles_ms, run_latency, run_load
from benchmarks.queues_rows import IDLE_CONSUMERS, Load, QueueRow, Unit
from benchmarks.rounds import Meter, Plan

Announce = Callable[[QueueRow, str], None]

BACKLOG_PER_S = {Load.CONSUME: 4_000, Load.CONSUME_MANY: 40_000}
"""How many messages are made ready for each second of a round; one that uses them all up ends early."""
SETTLE_S = 3.0
LATENCY_FACTOR = 2.0
"""How much longer than other rounds those are that measure latency: a p99 needs some messages."""


@dataclass(frozen=True, slots=True)
class QueueRound:
    """The raw figures of one counted round of one system; `figures` are those of the lines of its row."""

    row: str
    system: str
    index: int
    figures: tuple[float, ...]
    messages: int
    elapsed_s: float
    client_cpu_s: float
    node_cpu_s: float


@dataclass(frozen=True, slots=True)
class QueueBench:
    """The running systems, the plan, and for how long consumers that wait are watched."""

    systems: Sequence[QueueSystem]
    plan: Plan
    idle_s: float
    announce: Announce
    warn: Callable[[str], None]

    async def run_row(self, row: QueueRow) -> list[QueueRound]:
        """Run all rounds of one row."""
        systems = [each for each in self.systems if each.name != "jetstream-sent" or row.consumes]
        if row.load is Load.IDLE:
            watched = [await self._watch_idle(row, system) for system in systems]
            return [each for each in watched if each is not None]
        rounds = []
        async with AsyncExitStack() as stack:
            sides = {system.name: await open_side(stack, system, row) for system in systems}
            for index in range(self.plan.rounds):
                for place in range(len(systems)):
                    system = systems[(index + place) % len(systems)]
                    self.announce(row, system.name)
                    rounds.append(await self._run_round(row, system, index, sides[system.name]))
        return rounds

    async def _run_round(self, row: QueueRow, system: QueueSystem, index: int, side: "Side") -> QueueRound:
        plan = self.plan
        meter = Meter(system, [])
        figures: tuple[float, ...]
        if row.load is Load.LATENCY:
            await run_latency(side.client, side.consumer, side.book, plan.run_in_s)
            with meter:
                latencies = await run_latency(side.client, side.consumer, side.book, LATENCY_FACTOR * plan.round_s)
            messages, figures = len(latencies), percentiles_ms(latencies)
            await side.client.tidy()
        else:
            backlog = int(BACKLOG_PER_S.get(row.load, 0) * plan.round_s)
            await fill(side.client, side.book, backlog)
            await run_load(side.client, side.book, row.load, perf_counter() + plan.run_in_s)
            await fill(side.client, side.book, backlog)
            with meter:
                messages = await run_load(side.client, side.book, row.load, perf_counter() + plan.round_s)
            figures = (figure_of(row, messages, meter.elapsed_s),)
            if not row.consumes:
                await drain(side.client, side.book)
        client_cpu_s, node_cpu_s = meter.cpu_s[:2]
        return QueueRound(row.name, system.name, index, figures, messages, meter.elapsed_s, client_cpu_s, node_cpu_s)

    async def _watch_idle(self, row: QueueRow, system: QueueSystem) -> QueueRound | None:
        """Watch consumers that wait; where so many cannot, that is said, and the other rows stay."""
        self.announce(row, system.name)
        try:
            async with system.idle(queue_of(row, system), IDLE_CONSUMERS) as owner:
                await asyncio.sleep(SETTLE_S)
                before_s, started = cpu_seconds([owner]), perf_counter()
                await asyncio.sleep(self.idle_s)
                elapsed_s, cpu_s = perf_counter() - started, cpu_seconds([owner]) - before_s
        except (NotStartedError, OSError) as error:
            self.warn(f"{system.name}: LEFT OUT of {row.name!r}. {error}.")
            return None
        gc.collect()
        figure = 100 * max(cpu_s, 1 / TICKS_PER_S) / elapsed_s
        return QueueRound(row.name, system.name, 0, (figure,), 0, elapsed_s, 0.0, cpu_s)


@dataclass(frozen=True, slots=True)
class Side:
    """What one system needs for a row: who produces (and consumes), who only consumes, and the book."""

    client: QueueClient
    consumer: QueueClient
    book: Book


async def open_side(stack: AsyncExitStack, system: QueueSystem, row: QueueRow) -> Side:
    """Connect what a row needs; the stack closes it."""
    queue = queue_of(row, system)
    client = consumer = await system.connect(queue, batch=row.batch, is_serial=row.is_serial)
    stack.push_async_callback(client.close)
    if row.load is Load.LATENCY:
        consumer = await system.connect(queue, batch=row.batch, is_serial=row.is_serial)
        stack.push_async_callback(consumer.close)
    return Side(client, consumer, Book(system.name, queue))


def queue_of(row: QueueRow, system: QueueSystem) -> str:
    """Return the name of the queue of a row; systems that share servers do not share queues."""
    return f"{row.name}-{system.name}"


def figure_of(row: QueueRow, messages: int, elapsed_s: float) -> float:
    """Return what the row prints for one round."""
    if row.unit is Unit.US_PER_MESSAGE:
        return elapsed_s / messages * 1e6
    return messages / elapsed_s
