"""Both clients while nodes hang, die and come back, and while they are closed in the middle of it.

Most clusters here keep one copy of each key, so that nobody takes over and calls have to wait; for what happens when
somebody does, see `test_client_failover.py`.

"In time" below is the deadline of the call plus `SLACK_S`: the promise is the deadline, the slack is for machines
that stall, and a call that has lost its timer would exceed both.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import gimmal
from gimmal.errors import ClientClosed, GimmalError, NoRoute, OperationTimeout
from gimmal.testing import LocalCluster
from tests.cluster.waiting import wait_until

TIMEOUT_S = 2.0
LONG_S = 60.0
SLACK_S = 10.0


@pytest.fixture(scope="module")
def trio() -> Iterator[LocalCluster]:
    """Three nodes for this module, with one copy of each key: they hang now and then, and go on."""
    with LocalCluster(nodes=3, replicas=1) as cluster:
        yield cluster


@pytest.fixture
def db(trio: LocalCluster) -> Iterator[gimmal.Client]:
    with trio.connect(timeout=LONG_S) as client:
        client.set_many({f"warm{i}": i for i in range(100)})  # every node is connected
        yield client


def keys_of(cluster: LocalCluster, name: str, count: int, prefix: str) -> list[str]:
    cluster.wait_healthy()  # a node that hung before may not have been taken back yet
    candidates = (f"{prefix}{i}" for i in range(1_000_000))
    mine = (key for key in candidates if cluster.owner_of(key) == name)
    return [next(mine) for _ in range(count)]


def kind_of_error(call: Any) -> str:
    """Run a call that must fail in time; return the name of its error."""
    started_at_s = time.monotonic()
    try:
        call()
    except GimmalError as error:
        assert time.monotonic() - started_at_s < TIMEOUT_S + SLACK_S
        may = f" {error.maybe_applied}" if isinstance(error, OperationTimeout) else ""
        return type(error).__name__ + may
    return "no error"


# -- a node that hangs --------------------------------------------------------------------------------------


def test_1000_tasks_wait_for_a_node_that_hangs(trio: LocalCluster, gimmal_prefix: str) -> None:
    hanging, well = keys_of(trio, "n1", 1_000, gimmal_prefix), keys_of(trio, "n2", 100, gimmal_prefix)

    async def use() -> None:
        async with trio.connect_async(timeout=LONG_S) as db:
            await asyncio.gather(db.set_many(dict.fromkeys(hanging, 0)), db.set_many(dict.fromkeys(well, 0)))
            trio.pause("n1")
            try:
                started_at_s = time.monotonic()
                reads = [asyncio.create_task(db.get(key, timeout=TIMEOUT_S)) for key in hanging[:500]]
                writes = [asyncio.create_task(db.incr(key, timeout=TIMEOUT_S)) for key in hanging[500:]]
                for i in range(10):
                    assert await asyncio.gather(*map(db.incr, well)) == [i + 1] * 100
                errors = await asyncio.gather(*reads, *writes, return_exceptions=True)
                assert time.monotonic() - started_at_s < TIMEOUT_S + SLACK_S
            finally:
                trio.resume("n1")
            # The node may be declared dead meanwhile. What is on its way to it stays so; a read is not sent again then.
            assert {type(error) for error in errors[:500]} <= {OperationTimeout, NoRoute}
            assert not any(getattr(error, "maybe_applied", False) for error in errors[:500])
            assert all(isinstance(error, OperationTimeout) and error.maybe_applied for error in errors[500:])
            for key, error in zip(hanging, errors, strict=True):
                assert f"{key!r} (partition " in str(error)
                assert "node n1 at " in str(error) or "only copy is on node n1, which was declared dead" in str(error)
            totals = await db.get_many(
                hanging[500:]
            )  # it is taken back, with its keys; the writes arrived before or not
            assert set(totals.values()) <= {0, 1}
            assert await asyncio.gather(*map(db.incr, hanging[:500])) == [1] * 500

    asyncio.run(use())


def test_50_threads_wait_for_a_node_that_hangs(trio: LocalCluster, db: gimmal.Client, gimmal_prefix: str) -> None:
    hanging, well = keys_of(trio, "n1", 50, gimmal_prefix), keys_of(trio, "n2", 10, gimmal_prefix)

    def wait_for(i: int) -> str:
        if i % 2:
            return kind_of_error(lambda: db.get(hanging[i], timeout=TIMEOUT_S))
        return kind_of_error(lambda: db.incr(hanging[i], timeout=TIMEOUT_S))

    db.set_many(dict.fromkeys(hanging, 0))
    with ThreadPoolExecutor(50) as pool:
        trio.pause("n1")
        try:
            waiting = [pool.submit(wait_for, i) for i in range(50)]
            for i in range(100):
                assert [db.incr(key) for key in well] == [i + 1] * 10
            kinds = Counter(future.result() for future in waiting)
        finally:
            trio.resume("n1")
    assert kinds["OperationTimeout True"] == 25
    assert kinds["OperationTimeout False"] + kinds["NoRoute"] == 25  # NoRoute if it is declared dead meanwhile
    assert set(db.get_many(hanging).values()) <= {0, 1}
    assert [db.incr(key) for key in hanging[1::2]] == [1] * 25


def test_a_hang_longer_than_the_heartbeat_ends_as_if_nothing_had_been(
    trio: LocalCluster, db: gimmal.Client, gimmal_prefix: str
) -> None:
    """After three seconds ZeroMQ gives the connection up; what is asked then is not sent, and waits."""
    (key,) = keys_of(trio, "n1", 1, gimmal_prefix)
    trio.pause("n1")
    try:
        wait_until(
            lambda: kind_of_error(lambda: db.incr(key, timeout=0.2)) == "NoRoute",
            "the connection to the hanging node is given up",
        )
        with ThreadPoolExecutor(1) as pool:
            patient = pool.submit(db.get, key, timeout=LONG_S)
            trio.resume("n1")
            assert patient.result() is None or isinstance(patient.result(), int)
    finally:
        trio.resume("n1")
    before = db.get(key) or 0
    assert db.incr(key) == before + 1


# -- a node that dies ---------------------------------------------------------------------------------------


def test_keys_of_a_dead_node_have_no_route_and_others_are_served(gimmal_prefix: str) -> None:
    with LocalCluster(nodes=3, replicas=1) as cluster, cluster.connect(timeout=LONG_S) as db:
        mapping = {f"{gimmal_prefix}{i}": i for i in range(300)}
        dead = {key for key in mapping if cluster.owner_of(key) == "n3"}
        assert db.set_many(mapping) == 300
        cluster.kill("n3")
        wait_until(
            lambda: kind_of_error(lambda: db.set(min(dead), 1, timeout=0.2)) == "NoRoute",
            "the client has noticed that the node is dead",
        )
        wait_until(
            lambda: {node.name: node.state for node in db.cluster().nodes}["n3"] == "fenced",
            "the cluster has declared the node dead",
        )
        last_seen = r"led by nobody: its only copy is on node n3, which was declared dead\)"
        with pytest.raises(NoRoute, match=rf"'{min(dead)}' \(partition \d+, {last_seen}"):
            db.get(min(dead), timeout=0.2)
        with pytest.raises(NoRoute) as caught:
            db.get_many(mapping, timeout=TIMEOUT_S)
        assert set(caught.value.failed) == dead
        assert caught.value.done == {key: i for key, i in mapping.items() if key not in dead}
        with pytest.raises(NoRoute) as caught:
            db.set_many(mapping, timeout=0.5)
        assert set(caught.value.done) == set(mapping) - dead

        async def use() -> None:
            async with cluster.connect_async() as other:  # n3 is a dead seed now
                calls = (other.get(key, timeout=TIMEOUT_S) for key in mapping)
                for key, outcome in zip(mapping, await asyncio.gather(*calls, return_exceptions=True), strict=True):
                    assert isinstance(outcome, NoRoute) if key in dead else outcome == mapping[key]

        asyncio.run(use())
        assert {node.name: node.state for node in db.cluster().nodes} == {
            "n1": "alive",
            "n2": "alive",
            "n3": "fenced",
        }


def test_clients_that_are_idle_see_the_cluster_as_it_is() -> None:
    async def use(cluster: LocalCluster, db: gimmal.Client) -> None:
        async with cluster.connect_async() as other:
            cluster.kill("n3")
            cluster.wait_healthy()
            for view in (db.cluster(), await other.cluster()):
                assert {node.name: node.state for node in view.nodes}["n3"] == "fenced"
                assert {row.leader for row in view.partitions} == {"n1", "n2", None}
            for hanging in ("n1", "n2"):  # the other one is asked
                cluster.pause(hanging)
                for view in (db.cluster(), await other.cluster()):
                    assert len(view.nodes) == 3
                cluster.resume(hanging)
            for name in ("n1", "n2"):
                cluster.kill(name)
            with pytest.raises((NoRoute, OperationTimeout), match=r"cluster: no answer within 0\.5 s"):
                db.cluster(timeout=0.5)
            with pytest.raises((NoRoute, OperationTimeout), match=r"cluster: no answer within 0\.5 s"):
                await other.cluster(timeout=0.5)

    with LocalCluster(nodes=3, replicas=1) as cluster, cluster.connect() as db:
        asyncio.run(use(cluster, db))


def test_a_call_under_way_when_its_node_dies_ends_in_time(gimmal_prefix: str) -> None:
    with LocalCluster(nodes=2, replicas=1) as cluster, cluster.connect() as db:
        read, write, *_ = keys_of(cluster, "n1", 2, gimmal_prefix)
        db.set_many({read: 1, write: 1})
        cluster.pause("n1")
        with ThreadPoolExecutor(2) as pool:
            reading = pool.submit(kind_of_error, lambda: db.get(read, timeout=TIMEOUT_S))
            writing = pool.submit(kind_of_error, lambda: db.incr(write, timeout=TIMEOUT_S))
            wait_until(db._exchange.session.has_in_flight, "the calls are under way")
            cluster.kill("n1")
            assert reading.result() in ("NoRoute", "OperationTimeout False")
            assert writing.result() in ("NoRoute", "OperationTimeout True")


# -- the end while others wait ------------------------------------------------------------------------------


def test_close_ends_the_waiting_of_50_threads(trio: LocalCluster, gimmal_prefix: str) -> None:
    hanging = keys_of(trio, "n1", 50, gimmal_prefix)
    db = trio.connect(timeout=LONG_S)
    has_started = threading.Semaphore(0)

    def wait_for(i: int) -> str:
        has_started.release()
        try:
            db.get(hanging[i]) if i % 2 else db.incr(hanging[i])
        except ClientClosed as error:
            return str(error)
        return "no error"

    with ThreadPoolExecutor(50) as pool:
        trio.pause("n1")
        try:
            waiting = [pool.submit(wait_for, i) for i in range(50)]
            for _ in range(50):
                has_started.acquire()
            wait_until(lambda: len(db._exchange._waiting) == 49, "49 threads wait and one reads")
            started_at_s = time.monotonic()
            db.close()
            texts = {future.result() for future in waiting}
            assert time.monotonic() - started_at_s < SLACK_S  # promptly: not only at the deadline of 60 s
        finally:
            trio.resume("n1")
    assert texts == {"this client was closed: connect a new one"}
    with pytest.raises(ClientClosed):
        db.get("a")


def test_close_ends_the_waiting_of_tasks(trio: LocalCluster, gimmal_prefix: str) -> None:
    hanging = keys_of(trio, "n1", 100, gimmal_prefix)

    async def use() -> list[Any]:
        db = await trio.connect_async(timeout=LONG_S)
        await db.set_many(dict.fromkeys(hanging, 1))
        trio.pause("n1")
        try:
            tasks = [asyncio.create_task(db.incr(key)) for key in hanging]
            await asyncio.sleep(0)
            started_at_s = time.monotonic()
            await db.close()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert time.monotonic() - started_at_s < SLACK_S
            return outcomes
        finally:
            trio.resume("n1")

    assert {type(outcome) for outcome in asyncio.run(use())} == {ClientClosed}
