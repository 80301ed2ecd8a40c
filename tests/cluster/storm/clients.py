"""The clients of a storm: threads with the sync client, tasks with the one for asyncio. They run scripts."""

import asyncio
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

from gimmal.client.aio import AsyncClient
from gimmal.client.sync import Client
from gimmal.errors import GimmalError
from gimmal.testing import LocalCluster
from tests.cluster.storm import scripts
from tests.cluster.storm.record import Record, key_of_partition
from tests.cluster.storm.scripts import Script

THREADS: Final = 4
TASKS: Final = 48
_THREAD_RESTS_S: Final = 0.004
_TASK_RESTS_S: Final = 0.03
_PROBE_RESTS_S: Final = 0.2
_END_WITHIN_S: Final = 30.0


class Clients:
    """All clients of a storm; they run from `start` to `stop`."""

    def __init__(self, cluster: LocalCluster, seed: int, record: Record) -> None:
        self._cluster = cluster
        self._seed = seed
        self._record = record
        self._sync = [cluster.connect() for _ in range(2)]
        self._threads = [
            threading.Thread(target=self._guard, args=(f"thread {number}", self._run_thread, number), daemon=True)
            for number in range(THREADS)
        ]
        self._threads.append(threading.Thread(target=self._guard, args=("tasks", self._run_loop), daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client end what it has begun, and wait for that."""
        self._record.is_over = True
        give_up_at = time.monotonic() + _END_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
            if thread.is_alive():
                self._record.complain(f"{thread.name} did not end: an operation takes longer than its timeout")
        for client in self._sync:
            client.close()

    def _guard(self, who: str, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException:  # noqa: BLE001 - whatever it is goes into the record, and the storm fails by it
            self._record.crashed(who)

    # -- threads --------------------------------------------------------------------------------------------

    def _run_thread(self, number: int) -> None:
        client = self._sync[number % len(self._sync)]
        name = f"t{number}"
        if number == 0:
            script = scripts.counter("c-sync", self._seed, self._record, _THREAD_RESTS_S)
        else:
            script = scripts.registers(name, self._seed, self._record, _THREAD_RESTS_S)
        _drive(client, script)

    # -- tasks ----------------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.run(self._run_tasks())

    async def _run_tasks(self) -> None:
        record, seed = self._record, self._seed
        some = [scripts.registers(f"a{number}", seed, record, _TASK_RESTS_S) for number in range(TASKS)]
        some += [scripts.elements(f"e{number}.", record, _TASK_RESTS_S) for number in range(TASKS // 4)]
        for partition in range(record.partitions):
            key = key_of_partition("c", partition, record.partitions)
            some.append(scripts.counter(key, seed, record, _TASK_RESTS_S))
        probes = [scripts.probe(partition, record, _PROBE_RESTS_S) for partition in range(record.partitions)]
        async with self._cluster.connect_async() as one, self._cluster.connect_async() as other:
            await asyncio.gather(*_driven(one, some[::2]), *_driven(other, some[1::2]), *_driven(other, probes))


def _drive(client: Client, script: Script) -> None:
    try:
        step = next(script)
        while True:
            try:
                outcome = getattr(client, step.method)(*step.arguments, **step.options)
            except GimmalError as error:
                outcome = error
            time.sleep(step.rest_s)
            step = script.send(outcome)
    except StopIteration:
        return


async def _drive_async(client: AsyncClient, script: Script) -> None:
    try:
        step = next(script)
        while True:
            try:
                outcome = await getattr(client, step.method)(*step.arguments, **step.options)
            except GimmalError as error:
                outcome = error
            step = script.send(outcome)
            await asyncio.sleep(step.rest_s)
    except StopIteration:
        return


def _driven(client: AsyncClient, all_scripts: Iterable[Script]) -> list[Any]:
    return [_drive_async(client, script) for script in all_scripts]
