"""Both clients against real nodes that are well: many tasks, many threads, large values, ends of all kinds."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import gimmal
from gimmal.client.inquiry import ask_status
from gimmal.errors import ClientClosed, ConfigError, GimmalError, NoRoute, OperationTimeout
from gimmal.testing import LocalCluster
from tests.cluster.waiting import wait_until

LARGE = 8 * 1024 * 1024 - 5  # with msgpack's header the largest value there can be
LONG_S = 60.0  # the longest timeout: for calls that are to succeed on a machine however slow


@pytest.fixture
def db(gimmal_cluster: LocalCluster) -> Iterator[gimmal.Client]:
    with gimmal_cluster.connect(timeout=LONG_S) as client:
        yield client


def moved(cluster: LocalCluster) -> int:
    return sum(int(ask_status(address, 5.0)["moved"]) for address in cluster.addresses.values())


# -- many at once -------------------------------------------------------------------------------------------


def test_100_tasks_count_exactly(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    async def count() -> tuple[list[Any], dict[str, int]]:
        async with gimmal_cluster.connect_async(timeout=LONG_S) as db:

            async def work(task: int) -> None:
                for i in range(1_000):
                    await db.incr(f"{gimmal_prefix}{(task + i) % 10}")

            await asyncio.gather(*map(work, range(100)))
            return [await db.get(f"{gimmal_prefix}{i}") for i in range(10)], await db.counters()

    moved_before = moved(gimmal_cluster)
    totals, counters = asyncio.run(count())
    assert totals == [10_000] * 10
    assert set(counters) == {"sessions_opened"}
    assert moved(gimmal_cluster) == moved_before


def test_16_threads_count_exactly_on_one_client(db: gimmal.Client, gimmal_prefix: str) -> None:
    def work(thread: int) -> None:
        for i in range(1_000):
            db.incr(f"{gimmal_prefix}{(thread + i) % 4}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert db.get_many([f"{gimmal_prefix}{i}" for i in range(4)]) == {f"{gimmal_prefix}{i}": 4_000 for i in range(4)}
    assert set(db.counters()) == {"sessions_opened"}


def test_10_000_keys_in_one_call(db: gimmal.Client, gimmal_prefix: str) -> None:
    mapping = {f"{gimmal_prefix}{i}": i for i in range(10_000)}
    assert db.set_many(mapping) == 10_000
    assert db.get_many([*mapping, f"{gimmal_prefix}absent"]) == mapping
    assert set(db.scan(gimmal_prefix)) == set(mapping)
    assert db.delete_many(list(mapping)[:9_999]) == 9_999
    assert list(db.scan(gimmal_prefix)) == [f"{gimmal_prefix}9999"]
    assert set(db.counters()) == {"sessions_opened"}


def test_a_scan_finds_what_is_there_throughout(db: gimmal.Client, gimmal_prefix: str) -> None:
    stays = {f"{gimmal_prefix}stays{i}" for i in range(5_000)}
    db.set_many(dict.fromkeys(stays, 1))
    is_over = threading.Event()

    def disturb(number: int) -> None:
        while not is_over.is_set():
            keys = [f"{gimmal_prefix}{number}:{i}" for i in range(500)]
            db.set_many(dict.fromkeys(keys, 1))
            db.delete_many(keys)

    with ThreadPoolExecutor(2) as pool:
        disturbances = [pool.submit(disturb, number) for number in range(2)]
        try:
            for _ in range(3):
                assert set(db.scan(gimmal_prefix)) >= stays
        finally:
            is_over.set()
        for disturbance in disturbances:
            disturbance.result()

    async def scan() -> set[Any]:
        async with gimmal.connect_async(str(db.cluster().nodes[0].addresses["default"].client)) as other:
            return {key async for key in other.scan(gimmal_prefix.encode())}

    assert asyncio.run(scan()) == {key.encode() for key in stays}


def test_a_map_is_a_mapping(db: gimmal.Client, gimmal_prefix: str) -> None:
    view = db.map(gimmal_prefix)
    assert dict(view) == {}
    view["a"] = 1
    view.update(b=[2], c=None)
    assert dict(view) == {"a": 1, "b": [2], "c": None}
    assert len(view) == 3
    assert view["c"] is None
    assert "c" in view
    assert "d" not in view
    assert [5 in view] == [False]  # type: ignore[comparison-overlap]
    assert view.get("d", 7) == 7
    assert view.pop("a") == 1
    assert view.setdefault("b", 9) == [2]
    with pytest.raises(KeyError, match="'a'"):
        view["a"]
    with pytest.raises(KeyError, match="'a'"):
        del view["a"]
    assert db.get(f"{gimmal_prefix}b") == [2]
    assert gimmal_prefix in repr(view)
    view.clear()
    assert list(view) == []


# -- large values -------------------------------------------------------------------------------------------


def test_the_largest_values(gimmal_cluster: LocalCluster, db: gimmal.Client, gimmal_prefix: str) -> None:
    key, value = f"{gimmal_prefix}large", os.urandom(LARGE)
    assert db.set(key, value)
    assert db.get(key) == value

    async def both() -> list[Any]:
        async with gimmal_cluster.connect_async(timeout=LONG_S) as other:
            await asyncio.gather(*(other.set(f"{key}{i}", value) for i in range(4)))
            return await asyncio.gather(*(other.get(f"{key}{i}") for i in range(4)))

    assert asyncio.run(both()) == [value] * 4
    assert db.delete_many([key, *(f"{key}{i}" for i in range(4))]) == 5


def test_200_mib_in_one_call(gimmal_cluster: LocalCluster, db: gimmal.Client, gimmal_prefix: str) -> None:
    """More than a node sends ahead of what was read: the client reads, and asks again for the rest by itself."""
    value = bytes(1024 * 1024)
    keys = [f"{gimmal_prefix}{{one node}}{i}" for i in range(100)] + [f"{gimmal_prefix}{i}" for i in range(100)]
    for i in range(0, 200, 10):
        db.set_many(dict.fromkeys(keys[i : i + 10], value))
    assert db.get_many(keys[100:]) == dict.fromkeys(keys[100:], value)

    async def all_at_once() -> bool:
        async with gimmal_cluster.connect_async(timeout=LONG_S) as other:
            found = await asyncio.gather(*map(other.get, keys))
            return found == [value] * 200

    assert asyncio.run(all_at_once())
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(db.get, keys)) == [value] * 200
    assert db.delete_many(keys) == 200


# -- the end of a client ------------------------------------------------------------------------------------


def test_a_client_ends_with_its_block(gimmal_cluster: LocalCluster) -> None:
    with gimmal_cluster.connect() as db:
        assert db.get("nothing") is None
    calls: list[Callable[[], Any]] = [
        lambda: db.get("a"),
        lambda: db.get_many([]),
        lambda: db.set("a", 1),
        lambda: list(db.scan()),
        lambda: db.map()["a"],
        db.cluster,
        db.counters,
    ]
    for call in calls:
        with pytest.raises(ClientClosed, match="closed"):
            call()
    db.close()


def test_an_async_client_ends_with_its_block(gimmal_cluster: LocalCluster) -> None:
    async def use() -> None:
        unconnected = gimmal_cluster.connect_async()
        with pytest.raises(ClientClosed, match="not connected"):
            await unconnected.get("a")
        async with gimmal_cluster.connect_async() as db:
            assert await db.get("nothing") is None
        for call in (db.get("a"), db.get_many([]), db.set("a", 1), db.cluster(), db.counters()):
            with pytest.raises(ClientClosed, match="closed"):
                await call
        with pytest.raises(ClientClosed, match="closed"):
            [key async for key in db.scan()]
        await db.close()
        awaited = await gimmal_cluster.connect_async()
        assert await awaited.get("nothing") is None
        await awaited.close()

    asyncio.run(use())


def test_an_async_client_belongs_to_its_loop(gimmal_cluster: LocalCluster) -> None:
    async def connect() -> gimmal.AsyncClient:
        return await gimmal_cluster.connect_async()

    async def elsewhere(db: gimmal.AsyncClient) -> None:
        with pytest.raises(ClientClosed, match="another event loop"):
            await db.get("a")
        await db.close()

    db = asyncio.run(connect())
    asyncio.run(elsewhere(db))  # its own loop is closed

    async def meanwhile() -> None:
        async with gimmal_cluster.connect_async() as db:
            await asyncio.to_thread(asyncio.run, elsewhere(db))
            while True:  # the other thread's close arrives with a turn of this loop
                try:
                    await db.get("a")
                except ClientClosed:
                    break

    asyncio.run(asyncio.wait_for(meanwhile(), LONG_S))


def test_cancelled_tasks_leave_nothing_behind(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    complaints: list[Any] = []

    async def use() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with gimmal_cluster.connect_async(timeout=LONG_S) as db:
            for turns in range(8):  # cancelled before it was sent, while it is under way, when it is answered
                tasks = [asyncio.create_task(db.incr(f"{gimmal_prefix}{i}")) for i in range(100)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(one, asyncio.CancelledError | int) for one in outcomes)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await db.get(gimmal_prefix)
            totals = await db.get_many([f"{gimmal_prefix}{i}" for i in range(100)])
            assert set(totals.values()) <= set(range(9))
            assert db._exchange is not None
            while db._exchange.session.has_in_flight():  # a write takes longer than a read that came later
                await asyncio.sleep(0.01)

    asyncio.run(use())
    assert complaints == []


class Alarm(Exception):
    """What a signal handler raises, as that of Ctrl-C does."""


def test_a_signal_handler_that_raises_stops_no_other_thread(db: gimmal.Client, gimmal_prefix: str) -> None:
    is_over = threading.Event()
    lost: list[OperationTimeout] = []

    def work(number: int) -> int:
        count = 0
        while not is_over.is_set():
            count += 1
            try:
                assert db.incr(f"{gimmal_prefix}{number}", timeout=2.0) == count
            except OperationTimeout as error:  # struck inside pyzmq, which then loses the frame: rare, and it says so
                lost.append(error)
                count = db.get(f"{gimmal_prefix}{number}")
        return count

    def on_alarm(number: int, frame: object) -> None:
        raise Alarm

    def interrupt_calls(times: int) -> None:
        for i in range(times):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + i % 30 / 20_000)
                while True:
                    db.get(f"{gimmal_prefix}x")
            except Alarm:
                continue

    previous = signal.signal(signal.SIGALRM, on_alarm)
    try:
        interrupt_calls(500)  # alone, a thread waits inside ZeroMQ
        with ThreadPoolExecutor(3) as pool:  # with others, it waits for them or reads for them
            others = [pool.submit(work, number) for number in range(3)]
            interrupt_calls(500)
            is_over.set()
            assert all(other.result(LONG_S) > 0 for other in others)
        assert len(lost) < 10  # of 500
        assert all(error.maybe_applied for error in lost)
        assert all(error.maybe_applied for error in lost)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        is_over.set()
    assert db.incr(f"{gimmal_prefix}after") == 1


# -- forks --------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """Fork, do the work, and return the child's exit status."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_may_use_its_parents_client(db: gimmal.Client, gimmal_prefix: str) -> None:
    is_over = threading.Event()

    def work(number: int) -> int:
        count = 0
        while not is_over.is_set():
            count += 1
            assert db.incr(f"{gimmal_prefix}{number}") == count
        return count

    def child(number: int) -> None:
        with ThreadPoolExecutor(4) as pool:  # several threads at once may find that they were forked
            counts = list(pool.map(lambda i: db.incr(f"{gimmal_prefix}child{number}"), range(20)))
        assert sorted(counts) == list(range(1, 21))
        if number % 2:
            db.close()

    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(work, number) for number in range(3)]
        assert [in_child(lambda number=number: child(number)) for number in range(5)] == [0] * 5  # type: ignore[misc]
        is_over.set()
        totals = [thread.result() for thread in threads]
    assert [db.get(f"{gimmal_prefix}{i}") for i in range(3)] == totals


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_cannot_use_or_hurt_its_parents_async_client(gimmal_cluster: LocalCluster) -> None:
    async def connect() -> gimmal.AsyncClient:
        return await gimmal_cluster.connect_async(timeout=LONG_S)

    async def try_it(db: gimmal.AsyncClient) -> None:
        with pytest.raises(ClientClosed, match="another event loop or process"):
            await db.get("a")
        await db.close()

    async def go_on(db: gimmal.AsyncClient) -> None:
        for i in range(100):
            await db.set(f"fork{i}", i)
        await db.close()

    with asyncio.Runner() as runner:
        db = runner.run(connect())
        assert in_child(lambda: asyncio.run(try_it(db))) == 0
        runner.run(go_on(db))  # what its loop listens to, the child's loop shares with it


# -- connecting ---------------------------------------------------------------------------------------------


def test_a_dead_seed_next_to_a_live_one_does_no_harm(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    for seeds in (f"127.0.0.1:9,{gimmal_cluster.addresses['n2']}", f"no-such-host.invalid:1,{gimmal_cluster.seeds}"):
        with gimmal.connect(seeds, timeout=LONG_S) as db:
            assert db.set_many({f"{gimmal_prefix}{i}": i for i in range(100)}) == 100

        async def use(seeds: str = seeds) -> int:
            async with gimmal.connect_async(seeds, timeout=LONG_S) as db:
                return await db.set_many({f"{gimmal_prefix}{i}": i for i in range(100)})

        assert asyncio.run(use()) == 100


def test_without_a_seed_that_answers_there_is_no_route(gimmal_cluster: LocalCluster) -> None:
    seeds = "127.0.0.1:9,localhost:8"

    async def use() -> None:
        await gimmal.connect_async(seeds, timeout=0.5)

    for attempt in (lambda: gimmal.connect(seeds, timeout=0.5), lambda: asyncio.run(use())):
        started_at_s = time.monotonic()
        with pytest.raises(NoRoute, match=r"127\.0\.0\.1:9, localhost:8 within 0\.5 s: none accepts connections"):
            attempt()
        assert time.monotonic() - started_at_s < 10  # half a second, and slack for a machine that stalls


def test_a_network_that_does_not_exist_is_a_configuration_error(gimmal_cluster: LocalCluster) -> None:
    async def use() -> None:
        await gimmal_cluster.connect_async(network="moon")

    for attempt in (lambda: gimmal_cluster.connect(network="moon"), lambda: asyncio.run(use())):
        with pytest.raises(ConfigError, match=r"'moon'; known: default"):
            attempt()
    with gimmal_cluster.connect(network="default") as db:
        assert db.get("nothing") is None


def test_a_serializer_that_raises_hurts_only_its_call(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    class Picky:
        @staticmethod
        def dumps(value: Any) -> bytes:
            return str(value).encode()

        @staticmethod
        def loads(data: bytes) -> Any:
            if data == b"stop":
                raise StopIteration
            if data == b"bad":
                raise LookupError("a bad value")
            return data.decode()

    async def use() -> list[Any]:
        async with gimmal_cluster.connect_async(serializer=Picky) as db:
            for value in ("good", "bad", "stop"):
                await db.set(f"{gimmal_prefix}{value}", value)
            keys = [f"{gimmal_prefix}{value}" for value in ("bad", "stop", "good", "bad", "good")]
            return await asyncio.gather(*map(db.get, keys), return_exceptions=True)

    bad, stop, *others = asyncio.run(use())
    assert isinstance(bad, LookupError)
    assert isinstance(stop, RuntimeError)
    assert [str(other) for other in others] == ["good", "a bad value", "good"]
    with gimmal_cluster.connect(serializer=Picky) as client:
        with pytest.raises(LookupError, match="a bad value"):
            client.get(f"{gimmal_prefix}bad")
        assert client.get(f"{gimmal_prefix}good") == "good"


def test_clients_that_come_and_go_leave_no_descriptors(gimmal_cluster: LocalCluster) -> None:
    async def use() -> None:
        async with gimmal_cluster.connect_async() as db:
            await db.get("nothing")

    def come_and_go() -> int:
        for _ in range(5):
            with gimmal_cluster.connect() as db:
                db.get("nothing")
            asyncio.run(use())
        with pytest.raises(GimmalError):
            gimmal.connect("127.0.0.1:9", timeout=0.01)
        return len(os.listdir("/proc/self/fd"))

    before = come_and_go()
    wait_until(lambda: come_and_go() <= before, "no more descriptors are open than before")
