"""Both clients while nodes that lead what they write to die, hang and come back: all goes on, and counts exactly."""

import asyncio
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import gimmal
from gimmal.errors import OperationTimeout
from gimmal.testing import LocalCluster
from tests.cluster.waiting import wait_until

LONG_S = 60.0


@pytest.fixture
def trio() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3) as cluster:
        yield cluster


def check(cluster: LocalCluster, acknowledged: dict[str, int], unknown: dict[str, int]) -> None:
    """What was acknowledged was counted exactly once."""
    with cluster.connect(timeout=LONG_S) as db:
        for key, count in acknowledged.items():
            assert count <= db.get(key) <= count + unknown[key], key
    assert min(acknowledged.values()) > 0


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_threads_go_on_counting_when_a_leader_is_gone(trio: LocalCluster, fault: str) -> None:
    keys = [f"key{i}" for i in range(12)]
    acknowledged, unknown = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0)
    enough = threading.Event()

    with trio.connect(timeout=LONG_S) as db, ThreadPoolExecutor(4) as pool:

        def work(number: int) -> None:
            mine = keys[number::4]  # each key is one thread's
            last = dict.fromkeys(mine, 0)
            while not enough.is_set() or min(last.values()) < 3:
                for key in mine:
                    count = db.incr(key)
                    assert count == last[key] + 1, key
                    last[key] = count
                    acknowledged[key] += 1

        workers = [pool.submit(work, number) for number in range(4)]
        wait_until(lambda: min(acknowledged.values()) >= 3, "all count")
        victim = trio.owner_of(keys[0])
        getattr(trio, fault)(victim)
        before = dict(acknowledged)
        try:
            wait_until(lambda: min(acknowledged[key] - before[key] for key in keys) >= 3, "all count again")
        finally:
            enough.set()
        for worker in workers:
            worker.result(LONG_S)
        counters = db.counters()
        trio.resume(victim) if fault == "pause" else trio.restart(victim)
    assert counters["sessions_opened"] == len(keys)  # each key has a partition of its own
    assert "sessions_expired" not in counters
    check(trio, acknowledged, unknown)


def test_tasks_with_short_deadlines_say_what_may_have_been_done(trio: LocalCluster) -> None:
    keys = [f"key{i}" for i in range(50)]
    acknowledged, unknown = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0)

    async def work(db: gimmal.AsyncClient, dice: random.Random) -> None:
        for _ in range(200):
            key = dice.choice(keys)
            try:
                await db.incr(key, timeout=0.2)
                acknowledged[key] += 1
            except OperationTimeout as error:
                unknown[key] += error.maybe_applied
            except gimmal.errors.Unavailable:
                pass

    async def use() -> None:
        async with trio.connect_async(timeout=LONG_S) as db:
            await asyncio.gather(*(db.set(key, 0) for key in keys))
            tasks = [asyncio.create_task(work(db, random.Random(i))) for i in range(50)]
            await asyncio.sleep(0.05)
            trio.kill(trio.owner_of(keys[0]))
            await asyncio.gather(*tasks)

    asyncio.run(use())
    check(trio, acknowledged, unknown)


def test_any_copy_answers_while_there_is_no_leader(trio: LocalCluster) -> None:
    keys = [f"key{i}" for i in range(100)]
    with trio.connect(timeout=LONG_S) as db:
        db.set_many(dict.fromkeys(keys, 1))
        wait_until(
            lambda: all(db.get_many(keys, consistency="any") == dict.fromkeys(keys, 1) for _ in range(6)),
            "all copies know what was written",
        )
        trio.kill("n2")
        trio.kill("n3")  # with one of three copies nothing can be written, and nobody can say that it is the newest
        for key in keys:
            assert db.get(key, consistency="any", timeout=5.0) == 1
        assert db.get_many(keys, consistency="any") == dict.fromkeys(keys, 1)
        assert db.exists(keys[0], consistency="any")
        assert db.ttl(keys[0], consistency="any") == -1
