"""Resident memory per key: how much the nodes of a fresh cluster grow while 1,000,000 keys are written.

Keys of 16 bytes, values of 100, one copy. The figure is the growth of the nodes' resident sets after a short
rest, divided by the number of keys; it contains everything that a node keeps for a key, and what the
allocator keeps for itself. A sample of the keys is read back. Peaks while loading are not looked at.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.processes import resident_bytes
from benchmarks.stores import SyncStore, System
from benchmarks.workload import WrongAnswerError, key_name, value_of

LOAD_BATCH = 500
SAMPLE_EVERY = 101
REST_S = 2.0
LOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Memory:
    """The raw figures of one system."""

    system: str
    keys: int
    before_bytes: int
    after_bytes: int
    load_s: float

    @property
    def bytes_per_key(self) -> float:
        """Return the growth per key."""
        return (self.after_bytes - self.before_bytes) / self.keys


def measure_memory(system: System, keys: int, advance: Callable[[int], None]) -> Memory:
    """Fill a fresh cluster and return its growth; `advance` is told how many keys were written."""
    store = system.connect()
    try:
        before_bytes = resident_bytes(system.node_pids)
        started = time.perf_counter()
        load(store, system.name, keys, advance)
        load_s = time.perf_counter() - started
        time.sleep(REST_S)
        after_bytes = resident_bytes(system.node_pids)
        check_sample(store, system.name, keys)
    finally:
        store.close()
    return Memory(system.name, keys, before_bytes, after_bytes, load_s)


def load(store: SyncStore, name: str, keys: int, advance: Callable[[int], None]) -> None:
    """Write all keys in batches.

    Raises:
        WrongAnswerError: the system did not store a whole batch.
        TimeoutError: it takes too long.
    """
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    for start in range(0, keys, LOAD_BATCH):
        batch = [key_name(number) for number in range(start, min(start + LOAD_BATCH, keys))]
        stored = store.set_many({key: value_of(key, 1) for key in batch})
        if stored != len(batch):
            raise WrongAnswerError(name, batch[0], f"{stored} stored", f"{len(batch)} stored")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} stored only {start} of {keys} keys in {LOAD_TIMEOUT_S:.0f} s")
        advance(len(batch))


def check_sample(store: SyncStore, name: str, keys: int) -> None:
    """Read some of the keys back.

    Raises:
        WrongAnswerError: one of them has another value than was written.
    """
    sample = [key_name(number) for number in range(0, keys, SAMPLE_EVERY)]
    for start in range(0, len(sample), LOAD_BATCH):
        batch = sample[start : start + LOAD_BATCH]
        for key, got in zip(batch, store.get_many(batch), strict=True):
            if got != value_of(key, 1):
                raise WrongAnswerError(name, key, got, value_of(key, 1))
