"""Consumers that run by themselves, in threads and in tasks, against real nodes."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import gimmal
from gimmal.errors import ClientClosed
from gimmal.testing import LocalCluster
from tests.cluster.waiting import wait_until

LONG_S = 60.0  # the longest timeout: for calls that are to succeed on a machine however slow


@pytest.fixture
def db(gimmal_cluster: LocalCluster) -> Iterator[gimmal.Client]:
    with gimmal_cluster.connect(timeout=LONG_S) as client:
        yield client


@pytest.fixture
def name(gimmal_prefix: str) -> str:
    return f"{gimmal_prefix}tasks"


def counts(queue: gimmal.Queue) -> tuple[int, int, int, int]:
    found = queue.stats()
    return found["pending"] + found["delayed"], found["in_progress"], found["completed"], found["dead_letter"]


def test_a_consumer_handles_what_comes(db: gimmal.Client, name: str) -> None:
    queue = db.queue(name, shards=2)
    seen: list[Any] = []
    consumer = queue.start_consumer("me", seen.append, concurrency=3)
    queue.produce_many(range(100))
    wait_until(lambda: counts(queue) == (0, 0, 100, 0), "the counts are right")
    assert sorted(seen) == list(range(100))
    assert consumer.stop(10.0)
    queue.produce("late")
    time.sleep(0.2)
    assert counts(queue) == (1, 0, 100, 0)


def test_what_a_handler_raises_is_the_error_of_its_message(
    db: gimmal.Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = db.queue(name, backoff=0.0, max_retries=2)

    def handle(message: gimmal.Message) -> None:
        if message.payload == "exit":
            raise SystemExit(3)
        if message.payload == "interrupt":
            raise KeyboardInterrupt
        raise ValueError(f"no such user: {message.payload}")

    consumer = queue.start_consumer("me", handle, pass_message=True)
    queue.produce_many(["ada", "exit", "interrupt"])
    wait_until(lambda: counts(queue) == (0, 0, 0, 3), "the counts are right")
    assert consumer.stop(10.0)
    errors = {letter.payload: letter.error for letter in queue.dead_letters()}
    assert errors == {
        "ada": "ValueError: no such user: ada",
        "exit": "SystemExit: 3",
        "interrupt": "KeyboardInterrupt: ",
    }
    logged = Counter(record.message.split()[-1] for record in caplog.records if "handler of queue" in record.message)
    assert logged == {"SystemExit": 2, "KeyboardInterrupt": 2}


def test_the_lease_is_renewed_while_a_handler_works(db: gimmal.Client, name: str) -> None:
    queue = db.queue(name, lease=0.6, backoff=0.0)
    attempts: list[int] = []

    def handle(message: gimmal.Message) -> None:
        attempts.append(message.attempts)
        time.sleep(2.0)

    consumer = queue.start_consumer("me", handle, pass_message=True)
    queue.produce("slow")
    wait_until(lambda: counts(queue) == (0, 0, 1, 0), "the counts are right")
    assert consumer.stop(10.0)
    assert attempts == [1]


def test_a_consumer_may_have_a_lease_of_its_own(db: gimmal.Client, name: str) -> None:
    queue = db.queue(name, lease=3_600.0)
    begun, over = threading.Event(), threading.Event()

    def handle(payload: Any) -> None:
        begun.set()
        over.wait(10.0)

    consumer = queue.start_consumer("me", handle, lease=0.5)
    queue.produce("a")
    assert begun.wait(10.0)
    (renewal,) = consumer._renewals._due.values()
    assert renewal - time.monotonic() <= 0.5 / 3
    over.set()
    assert consumer.stop(10.0)


def test_an_ack_that_comes_too_late_is_logged(
    gimmal_cluster: LocalCluster, db: gimmal.Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = db.queue(name)
    taken, over = threading.Event(), threading.Event()

    def handle(message: gimmal.Message) -> None:
        queue.release(message)  # as if its lease had run out
        with gimmal_cluster.connect() as other:
            theirs = other.queue(name).consume()
            assert theirs is not None
            taken.set()
            other.queue(name).ack(theirs)
        over.set()

    consumer = queue.start_consumer("me", handle, pass_message=True)
    with caplog.at_level(logging.WARNING, "gimmal"):
        queue.produce("a")
        assert over.wait(10.0)
        assert consumer.stop(10.0)
    assert taken.is_set()
    assert [record.levelname for record in caplog.records if "not yours any more" in record.message] == ["WARNING"]


def test_stop_lets_the_handler_finish_and_takes_nothing_new(db: gimmal.Client, name: str) -> None:
    queue = db.queue(name)
    begun, may_end = threading.Event(), threading.Event()
    seen: list[Any] = []

    def handle(payload: Any) -> None:
        begun.set()
        may_end.wait(30.0)
        seen.append(payload)

    consumer = queue.start_consumer("me", handle)
    queue.produce_many(["a", "b"])
    assert begun.wait(10.0)
    assert not consumer.stop()
    assert not consumer.join(0.1)
    may_end.set()
    assert consumer.join(10.0)
    assert seen == ["a"]
    assert counts(queue) == (1, 0, 1, 0)
    assert "stopped" in repr(consumer)


def test_a_handler_may_stop_its_own_consumer(db: gimmal.Client, name: str) -> None:
    queue = db.queue(name)
    consumers: list[gimmal.Consumer] = []
    ready = threading.Event()

    def handle(payload: Any) -> None:
        ready.wait(10.0)
        consumers[0].stop(10.0)

    consumers.append(queue.start_consumer("me", handle, concurrency=2))
    ready.set()
    queue.produce("a")
    assert consumers[0].join(20.0)
    assert counts(queue) == (0, 0, 1, 0)


def test_an_idle_consumer_stops_at_once_and_leaves_nobody_waiting(db: gimmal.Client, name: str) -> None:
    for shards in (1, 4):
        queue = db.queue(f"{name}{shards}", shards=shards)
        consumer = queue.start_consumer("me", print, concurrency=4)
        wait_until(lambda: bool(db._exchange.attendance.partitions()), "a consume waits")
        started_at = time.monotonic()
        assert consumer.stop(10.0)
        assert time.monotonic() - started_at < 2.0
        queue.produce("a")
        time.sleep(0.1)
        assert counts(queue) == (1, 0, 0, 0)


def test_closing_a_client_stops_its_consumers(gimmal_cluster: LocalCluster, db: gimmal.Client, name: str) -> None:
    begun = threading.Event()
    seen: list[Any] = []

    def handle(payload: Any) -> None:
        begun.set()
        time.sleep(0.5)
        seen.append(payload)

    with gimmal_cluster.connect(timeout=10.0) as client:
        consumer = client.queue(name).start_consumer("me", handle)
        db.queue(name).produce("a")
        assert begun.wait(10.0)
    assert seen == ["a"]
    assert consumer.join(1.0)
    assert counts(db.queue(name)) == (0, 0, 1, 0)


def test_no_thread_outlives_its_client(gimmal_cluster: LocalCluster, name: str) -> None:
    before = set(threading.enumerate())
    with gimmal_cluster.connect(timeout=10.0) as client:
        client.queue(name, shards=3).start_consumer("me", print, concurrency=2)
        client.queue(name).consume(timeout=0.2)
        assert set(threading.enumerate()) - before
    wait_until(lambda: set(threading.enumerate()) <= before, "the threads have ended")


# -- asyncio ----------------------------------------------------------------------------------------------------


class Indirect:
    """Something callable of which nobody can tell that it returns a coroutine."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __call__(self, payload: Any) -> Any:
        return self._handle(payload)


@pytest.mark.parametrize("kind", ["coroutine", "function", "callable that returns a coroutine"])
def test_an_async_consumer_takes_any_handler(gimmal_cluster: LocalCluster, name: str, kind: str) -> None:
    async def check() -> None:
        seen: list[Any] = []
        names: set[str] = set()

        async def handle(payload: Any) -> None:
            await asyncio.sleep(0)
            seen.append(payload)
            if payload == 3:
                raise ValueError("three")

        def plain(payload: Any) -> None:
            names.add(threading.current_thread().name)
            seen.append(payload)
            if payload == 3:
                raise SystemExit("three")

        handler: Any = {"coroutine": handle, "function": plain}.get(kind, Indirect(handle))
        async with gimmal_cluster.connect_async(timeout=LONG_S) as db:
            queue = db.queue(name, shards=2, max_retries=1)
            consumer = await queue.start_consumer("me", handler, concurrency=3)
            await queue.produce_many(range(50))
            async with asyncio.timeout(30.0):
                while (await queue.stats())["completed"] < 49:
                    await asyncio.sleep(0.02)
            assert await consumer.stop(10.0)
            assert sorted(seen) == list(range(50))
            (letter,) = await queue.dead_letters()
            assert letter.error in ("ValueError: three", "SystemExit: three")
            assert all(name.startswith("gimmal-handler") for name in names)
            assert bool(names) == (kind == "function")

    asyncio.run(check())


def test_an_async_consumer_renews_leases_and_finishes_what_it_has_begun(
    gimmal_cluster: LocalCluster, name: str
) -> None:
    async def check() -> None:
        attempts: list[int] = []

        async def handle(message: gimmal.Message) -> None:
            attempts.append(message.attempts)
            await asyncio.sleep(1.5)

        async with gimmal_cluster.connect_async(timeout=LONG_S) as db:
            queue = db.queue(name, lease=0.5, backoff=0.0)
            consumer = await queue.start_consumer("me", handle, pass_message=True)
            await queue.produce_many(["a", "b"])
            while not attempts:
                await asyncio.sleep(0.01)
            assert not await consumer.stop()
            assert await consumer.join(10.0)
            stats = await queue.stats()
            assert (attempts, stats["pending"], stats["in_progress"], stats["completed"]) == ([1], 1, 0, 1)

    asyncio.run(check())


def test_closing_an_async_client_stops_its_consumers(
    gimmal_cluster: LocalCluster, db: gimmal.Client, name: str
) -> None:
    async def check() -> None:
        seen: list[Any] = []

        async def handle(payload: Any) -> None:
            await asyncio.sleep(0.3)
            seen.append(payload)

        async with gimmal_cluster.connect_async(timeout=LONG_S) as client:
            queue = client.queue(name)
            consumer = await queue.start_consumer("me", handle, concurrency=2)
            await queue.produce("a")
            await asyncio.sleep(0.1)
        assert seen == ["a"]
        assert await consumer.join(1.0)
        with pytest.raises(ClientClosed):
            await queue.consume()

    asyncio.run(check())
    assert counts(db.queue(name)) == (0, 0, 1, 0)


def test_a_loop_that_ends_with_a_consumer_running_gives_its_message_back(
    gimmal_cluster: LocalCluster, db: gimmal.Client, name: str
) -> None:
    async def check() -> None:
        async with gimmal_cluster.connect_async(timeout=1.0) as client:
            queue = client.queue(name)
            begun = asyncio.Event()

            async def handle(payload: Any) -> None:
                begun.set()
                await asyncio.sleep(60.0)

            consumer = await queue.start_consumer("me", handle)
            await queue.produce("a")
            await begun.wait()
            for worker in consumer._workers:
                worker.cancel()
            await asyncio.sleep(0.2)

    asyncio.run(check())
    wait_until(lambda: counts(db.queue(name)) == (1, 0, 0, 0), "the counts are right")
