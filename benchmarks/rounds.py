"""Timed rounds that take turns: gimmal, Redis, floor, then the next round starts with another of them.

One row keeps one client per system connected for all its rounds. Before each timed round the same load runs
for a moment uncounted, so that connections and caches are there; then garbage is collected and the clock
starts. A round ends when the last operation that was started before its deadline has been answered.

CPU time of a round is that of this process (the client with its threads, the loop of the benchmark included)
and of the system's nodes. The other systems' nodes idle meanwhile; what they used is kept as `idle_cpu_s`, to
show that it does not matter. Network time in the kernel counts for the process on whose behalf it ran. Where all
keys have one leader, its CPU time and that of its followers are kept too; they are a part of the nodes'.
"""

import asyncio
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Self

from benchmarks.loads import reread, reread_async, run_async, run_sync
from benchmarks.processes import cpu_seconds
from benchmarks.rows import Load, Row
from benchmarks.stores import Roles, Running, System
from benchmarks.workload import Ledger

Announce = Callable[[Row, str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds, and how long: seconds counted per round, and before it uncounted."""

    rounds: int
    round_s: float
    run_in_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """The raw figures of one counted round of one system."""

    row: str
    system: str
    index: int
    operations: int
    elapsed_s: float
    client_cpu_s: float
    node_cpu_s: float
    idle_cpu_s: float
    leader_cpu_s: float = 0.0
    followers_cpu_s: float = 0.0


class Meter:
    """Measures elapsed time and CPU time of the `with` block it is used in."""

    def __init__(self, system: Running, everyone: Sequence[Running], roles: Roles | None = None) -> None:
        self._pids = (
            [os.getpid()],
            system.node_pids,
            [pid for other in everyone if other is not system for pid in other.node_pids],
            *([[roles.leader], roles.followers] if roles is not None else []),
        )
        self.elapsed_s = 0.0
        self.cpu_s: list[float] = []

    def __enter__(self) -> Self:
        gc.collect()
        self._cpu_before = [cpu_seconds(pids) for pids in self._pids]
        self._started = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed_s = perf_counter() - self._started
        after = [cpu_seconds(pids) for pids in self._pids]
        self.cpu_s = [end - start for start, end in zip(self._cpu_before, after, strict=True)]

    def round(self, row: Row, system: Running, index: int, operations: int) -> Round:
        """Return the round that was measured."""
        return Round(row.name, system.name, index, operations, self.elapsed_s, *self.cpu_s)


@dataclass(frozen=True, slots=True)
class Bench:
    """The running systems, what each must hold (by its name, and whether the keys are tagged), and the plan."""

    systems: Sequence[System]
    ledgers: dict[tuple[str, bool], Ledger]
    plan: Plan
    announce: Announce

    def run_row(self, row: Row) -> list[Round]:
        """Run all rounds of one row."""
        if row.tasks:
            return asyncio.run(self._run_async_row(row))
        return self._run_sync_row(row)

    def _meter(self, row: Row, system: System, ledger: Ledger) -> Meter:
        return Meter(system, self.systems, system.roles_of(ledger.keys[0]) if row.is_tagged else None)

    def _turns(self) -> list[tuple[int, System]]:
        """Return who runs when; each round starts with another system."""
        count = len(self.systems)
        return [
            (index, self.systems[(index + place) % count])
            for index in range(self.plan.rounds)
            for place in range(count)
        ]

    async def _run_async_row(self, row: Row) -> list[Round]:
        rounds = []
        stores = {}
        try:
            for system in self.systems:
                stores[system.name] = await system.connect_async()
            for index, system in self._turns():
                self.announce(row, system.name)
                store, ledger = stores[system.name], self.ledgers[system.name, row.is_tagged]
                await run_async(store, ledger, row.load, row.tasks, perf_counter() + self.plan.run_in_s)
                with self._meter(row, system, ledger) as meter:
                    deadline = perf_counter() + self.plan.round_s
                    operations = await run_async(store, ledger, row.load, row.tasks, deadline)
                rounds.append(meter.round(row, system, index, operations))
                if row.load is Load.ASYNC_SET:
                    await reread_async(store, ledger, row.tasks)
        finally:
            for store in stores.values():
                await store.close()
        return rounds

    def _run_sync_row(self, row: Row) -> list[Round]:
        rounds = []
        stores = {}
        try:
            for system in self.systems:
                stores[system.name] = system.connect()
            for index, system in self._turns():
                self.announce(row, system.name)
                store, ledger = stores[system.name], self.ledgers[system.name, row.is_tagged]
                run_sync(store, ledger, row.load, perf_counter() + self.plan.run_in_s)
                with self._meter(row, system, ledger) as meter:
                    operations = run_sync(store, ledger, row.load, perf_counter() + self.plan.round_s)
                rounds.append(meter.round(row, system, index, operations))
                if row.load in (Load.SET, Load.SET_HELD, Load.SET_MANY):
                    reread(store, ledger)
        finally:
            for store in stores.values():
                store.close()
        return rounds
