"""The timed loops: each drives one connected client until a deadline and returns the number of operations.

Every answer is checked and every write is booked inside the loop, at the same small cost for all systems.
Values are made before the clock starts. Reading back what a write loop left is `reread` and is not timed.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter

from benchmarks.rows import Load
from benchmarks.stores import AsyncStore, SyncStore
from benchmarks.workload import BATCH, Ledger, WrongAnswerError


async def run_async(store: AsyncStore, ledger: Ledger, load: Load, tasks: int, deadline: float) -> int:
    """Run `tasks` tasks that each call one operation after another on keys of their own."""
    values = ledger.expected if load is Load.ASYNC_GET else ledger.next_values()
    keys, expected, get, set_ = ledger.keys, ledger.expected, store.get, store.set

    async def read(indexes: range) -> int:
        count = 0
        while True:
            for index in indexes:
                if perf_counter() >= deadline:
                    return count
                got = await get(keys[index])
                if got != expected[index]:
                    ledger.check(index, got)
                count += 1

    async def write(indexes: range) -> int:
        count = 0
        while True:
            for index in indexes:
                if perf_counter() >= deadline:
                    return count
                if not await set_(keys[index], values[index]):
                    raise WrongAnswerError(ledger.system, keys[index], "not stored", "stored")
                expected[index] = values[index]
                count += 1

    drive = read if load is Load.ASYNC_GET else write
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(drive(range(first, len(keys), tasks))) for first in range(tasks)]
    return sum(task.result() for task in running)


def run_sync(store: SyncStore, ledger: Ledger, load: Load, deadline: float) -> int:
    """Call one operation, or one batch, after another from this thread."""
    drive = {
        Load.GET: read_one,
        Load.SET: write_one,
        Load.SET_HELD: write_one_held,
        Load.GET_MANY: read_batches,
        Load.SET_MANY: write_batches,
    }
    return drive[load](store, ledger, deadline)


def read_one(store: SyncStore, ledger: Ledger, deadline: float) -> int:
    """Serial GET."""
    get, expected = store.get, ledger.expected
    count = 0
    while True:
        for index, key in enumerate(ledger.keys):
            if perf_counter() >= deadline:
                return count
            got = get(key)
            if got != expected[index]:
                ledger.check(index, got)
            count += 1


def write_one(store: SyncStore, ledger: Ledger, deadline: float) -> int:
    """Serial SET."""
    return write_each(store.set, ledger, deadline)


def write_one_held(store: SyncStore, ledger: Ledger, deadline: float) -> int:
    """Serial SET that another copy has too."""
    return write_each(store.set_held, ledger, deadline)


def write_each(set_: Callable[[str, bytes], object], ledger: Ledger, deadline: float) -> int:
    """Write one key after another."""
    expected, values = ledger.expected, ledger.next_values()
    count = 0
    while True:
        for index, key in enumerate(ledger.keys):
            if perf_counter() >= deadline:
                return count
            if not set_(key, values[index]):
                raise WrongAnswerError(ledger.system, key, "not stored", "stored")
            expected[index] = values[index]
            count += 1


def read_batches(store: SyncStore, ledger: Ledger, deadline: float) -> int:
    """Read batches of 100."""
    count = 0
    while True:
        for start, keys in ledger.batches():
            if perf_counter() >= deadline:
                return count
            ledger.check_batch(start, store.get_many(keys))
            count += BATCH


def write_batches(store: SyncStore, ledger: Ledger, deadline: float) -> int:
    """Write batches of 100."""
    values = ledger.next_values()
    count = 0
    while True:
        for start, keys in ledger.batches():
            if perf_counter() >= deadline:
                return count
            items = dict(zip(keys, values[start : start + BATCH], strict=True))
            ledger.book_batch(start, items, store.set_many(items))
            count += BATCH


def preload(store: SyncStore, ledger: Ledger) -> None:
    """Write every key once, in batches."""
    for start, keys in ledger.batches():
        items = dict(zip(keys, ledger.expected[start : start + BATCH], strict=True))
        ledger.book_batch(start, items, store.set_many(items))


def reread(store: SyncStore, ledger: Ledger) -> None:
    """Check every key against the book."""
    for start, keys in ledger.batches():
        ledger.check_batch(start, store.get_many(keys))


async def reread_async(store: AsyncStore, ledger: Ledger, tasks: int) -> None:
    """Check every key against the book, with `tasks` tasks."""

    async def read(first: int) -> None:
        for index in range(first, len(ledger.keys), tasks):
            ledger.check(index, await store.get(ledger.keys[index]))

    async with asyncio.TaskGroup() as group:
        for first in range(tasks):
            group.create_task(read(first))
