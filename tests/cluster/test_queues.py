"""Queues against real nodes, by hand and while nodes die."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import gimmal
from gimmal.errors import ClientClosed, InvalidArgument, QueueSettingsMismatch, StaleLease
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


# -- by hand ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 4])
def test_everything_that_can_be_said_of_a_message(db: gimmal.Client, name: str, shards: int) -> None:
    queue = db.queue(name, shards=shards, backoff=0.0)
    first = queue.produce({"n": 1})
    assert queue.produce("once", dedup_id="d") == queue.produce("twice", dedup_id="d")
    more = queue.produce_many(["a", "b", "c"])
    assert len({first, *more}) == 4
    messages = queue.consume_many(10, "me", 0.0)
    assert {message.id for message in messages} >= {first, *more}
    assert all(message.status is gimmal.MessageStatus.IN_PROGRESS for message in messages)
    one, two, three, four, five = messages
    queue.ack(one)
    queue.ack(one)
    queue.nack(two, reason="try again")
    queue.nack(three.id, requeue=False, reason="never")
    queue.release(four)
    queue.extend(five, 60.0)
    (letter,) = queue.dead_letters()
    assert isinstance(letter, gimmal.DeadLetter)
    assert (letter.id, letter.reason, letter.error, letter.consumer) == (three.id, "rejected", "never", "me")
    assert queue.redrive() == 1
    again = {message.id: message for message in queue.consume_many(10)}
    assert (again[two.id].attempts, again[two.id].retry_count) == (2, 1)
    assert (again[four.id].attempts, again[four.id].retry_count) == (2, 0)
    assert again[three.id].retry_count == 0
    with pytest.raises(StaleLease):
        queue.ack(two)
    queue.ack_many([*again, five])
    assert counts(queue) == (0, 0, 5, 0)
    assert queue.purge() == 0
    assert queue.create_group("other")
    assert queue.groups() == ["default", "other"]
    assert queue.delete_group("other")
    with pytest.raises(InvalidArgument, match="no consumer group 'other'"):
        queue.stats("other")
    with pytest.raises(QueueSettingsMismatch):
        db.queue(name, lease=1.0).stats()


@pytest.mark.parametrize("shards", [1, 5])
def test_a_consume_waits_until_another_client_produces(
    gimmal_cluster: LocalCluster, db: gimmal.Client, name: str, shards: int
) -> None:
    queue = db.queue(name, shards=shards)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(queue.consume(timeout=LONG_S)))
    waiting.start()
    wait_until(lambda: bool(db._exchange.attendance.partitions()), "a consume waits")
    with gimmal_cluster.connect() as other:
        other.queue(name).produce("a")
    waiting.join()
    assert found[0].payload == "a"
    queue.ack(found[0])
    wait_until(lambda: counts(queue) == (0, 0, 1, 0), "the counts are right")


def test_a_consume_that_times_out_is_none(db: gimmal.Client, name: str) -> None:
    for shards in (1, 3):
        queue = db.queue(f"{name}{shards}", shards=shards)
        started_at = time.monotonic()
        assert queue.consume(timeout=0.3) is None
        assert queue.consume_many(3, timeout=0.0) == []
        assert time.monotonic() - started_at >= 0.29


def test_an_interrupted_consume_gives_back_what_it_was_given(db: gimmal.Client, name: str) -> None:
    class Struck(Exception):
        pass

    def strike(*_: object) -> None:
        raise Struck

    queue = db.queue(name, shards=3)
    queue.stats()
    before = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Struck):
            queue.consume(timeout=LONG_S)
    finally:
        signal.signal(signal.SIGALRM, before)
    queue.produce_many(range(6))
    wait_until(lambda: counts(queue) == (6, 0, 0, 0), "the counts are right")


def test_many_threads_share_a_queue_and_each_message_is_handled_once(db: gimmal.Client, name: str) -> None:
    queue = db.queue(name, shards=4)
    ids = queue.produce_many(range(400))
    seen: list[str] = []

    def work() -> None:
        while (message := queue.consume(timeout=0.5)) is not None:
            queue.ack(message)
            seen.append(message.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(ids)
    assert counts(queue) == (0, 0, 400, 0)


def test_a_child_process_consumes_as_a_client_of_its_own(db: gimmal.Client, name: str) -> None:
    queue = db.queue(name)
    queue.produce_many(["a", "b"])
    mine = queue.consume()
    assert mine is not None
    pid = os.fork()
    if not pid:
        status = 1
        try:
            theirs = queue.consume()
            assert theirs is not None
            assert theirs.payload == "b"
            try:
                queue.ack(mine.id)
            except InvalidArgument:
                queue.ack(theirs)
                status = 0
            db.close()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    queue.ack(mine.id)
    assert counts(queue) == (0, 0, 2, 0)


def test_a_cancelled_task_gives_back_what_it_was_given(gimmal_cluster: LocalCluster, name: str) -> None:
    async def check() -> None:
        async with gimmal_cluster.connect_async(timeout=LONG_S) as db:
            queue = db.queue(name, shards=3)
            for _ in range(20):
                await queue.produce("x")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        while True:
                            await queue.consume(timeout=LONG_S)
            ids: set[str] = set()
            while message := await queue.consume(timeout=1.0):
                ids.add(message.id)
                await queue.ack(message)
            stats = await queue.stats()
            exchange = db._exchange
            assert exchange is not None
            held = len(exchange.attendance._held)
            assert len(ids) + held == 20, "a message is either consumed, or this client knows that it holds it"
            assert (stats["pending"], stats["in_progress"]) == (0, held)

    asyncio.run(check())


def test_consume_after_close_is_client_closed(gimmal_cluster: LocalCluster, name: str) -> None:
    client = gimmal_cluster.connect()
    queue = client.queue(name)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            queue.consume(timeout=LONG_S)
        except ClientClosed as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: bool(client._exchange.attendance.partitions()), "a consume waits")
    client.close()
    waiting.join()
    assert len(errors) == 1
    with pytest.raises(ClientClosed):
        queue.consume()
    with pytest.raises(ClientClosed):
        queue.produce("a")


@pytest.mark.parametrize("shards", [1, 4])
def test_a_client_that_closes_while_it_waits_leaves_nobody_waiting(
    gimmal_cluster: LocalCluster, db: gimmal.Client, name: str, shards: int
) -> None:
    async def close_at_once() -> None:
        async with gimmal_cluster.connect_async() as client:
            waiting = asyncio.ensure_future(client.queue(name).consume(timeout=LONG_S))
            await asyncio.sleep(0.3)
        with pytest.raises(ClientClosed):
            await waiting

    queue = db.queue(name, shards=shards)
    queue.stats()
    with gimmal_cluster.connect() as client:

        def wait() -> None:
            with contextlib.suppress(ClientClosed):
                client.queue(name).consume(timeout=LONG_S)

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: bool(client._exchange.attendance.partitions()), "a consume waits")
        time.sleep(0.2)
    waiting.join()
    asyncio.run(close_at_once())
    queue.produce_many(range(8))
    time.sleep(0.2)
    assert counts(queue) == (8, 0, 0, 0)


# -- faults -----------------------------------------------------------------------------------------------------


def test_a_consumer_survives_the_death_of_a_leader() -> None:
    with LocalCluster(3, partitions=64) as cluster, cluster.connect(timeout=30.0) as db, cluster.connect() as maker:
        queue = db.queue("tasks", shards=4)
        seen: Counter[Any] = Counter()

        def handle(payload: Any) -> None:
            time.sleep(0.01)
            seen[payload] += 1

        consumer = queue.start_consumer("me", handle, concurrency=4)
        made = 0
        for turn in range(10):
            maker.queue("tasks").produce_many(range(made, made + 20), timeout=30.0)
            made += 20
            if turn == 4:
                cluster.kill(cluster.owner_of("tasks/0"))
        wait_until(lambda: len(seen) == made, "all were handled")
        wait_until(lambda: counts(queue)[:2] == (0, 0), "the counts are right")
        assert consumer.stop(10.0)
        assert counts(queue)[3] == 0


def test_a_wait_at_a_leader_that_dies_ends_soon_with_a_message() -> None:
    with LocalCluster(3, partitions=64) as cluster, cluster.connect(timeout=30.0) as db, cluster.connect() as maker:
        queue = db.queue("tasks")
        queue.stats()
        found: list[Any] = []
        waiting = threading.Thread(target=lambda: found.append(queue.consume(timeout=LONG_S)))
        waiting.start()
        wait_until(lambda: bool(db._exchange.attendance.partitions()), "a consume waits")
        time.sleep(0.2)
        cluster.kill(cluster.owner_of("tasks/0"))
        maker.queue("tasks").produce("a", timeout=30.0)
        produced_at = time.monotonic()
        waiting.join()
        assert time.monotonic() - produced_at < 5.0, "it did not wait for its time to be over"
        assert found[0].payload == "a"
        queue.ack(found[0])


def test_messages_stay_with_a_client_that_works_on_them_while_their_leader_dies() -> None:
    with LocalCluster(3, partitions=64) as cluster, cluster.connect(timeout=30.0) as db:
        queue = db.queue("tasks")
        queue.produce("a")
        message = queue.consume()
        assert message is not None
        cluster.kill(cluster.owner_of("tasks/0"))
        time.sleep(8.0)  # nobody else uses this client, so only its thread for keepalives can say that it is there
        with cluster.connect(timeout=30.0) as other:
            assert other.queue("tasks").stats()["in_progress"] == 1
        queue.ack(message)
        assert counts(queue) == (0, 0, 1, 0)


def test_messages_of_a_client_that_is_gone_go_to_others() -> None:
    with LocalCluster(1, partitions=64) as cluster, cluster.connect() as db:
        queue = db.queue("tasks", backoff=0.0)
        queue.produce("a")
        with cluster.connect() as other:
            assert other.queue("tasks").consume() is not None
        message = queue.consume(timeout=20.0)
        assert message is not None
        assert (message.attempts, message.retry_count) == (2, 1)
