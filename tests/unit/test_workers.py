"""Consumers that run by themselves, of a client that only plays one: what they do when the cluster is not there."""

import asyncio
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gimmal.client.aio_workers import AsyncConsumer
from gimmal.client.calls import Survey
from gimmal.client.queue_arguments import place_of
from gimmal.client.queue_types import Message, Receipt
from gimmal.client.shards import Book, Shards
from gimmal.client.steps import Interrupted, Stopper
from gimmal.client.workers import Consumer, Work, stop_all
from gimmal.errors import ClientClosed, CommandError, DataLost, NoRoute, OperationTimeout, StaleLease

PATIENCE_S = 10.0


def message(number: int) -> Message:
    receipt = Receipt(b"q", b"default", 0, number, 7)
    return Message(receipt.message_id, number, 0.0, 1, 0, _receipt=receipt)


def queue_shards() -> Shards:
    book = Book(random.Random(1))
    book.enter(b"q", (3, 30_000, 500, 300_000, 1, 0))
    return Shards(place_of("q"), (None,) * 6, book)


class Script:
    """What the calls of a consumer come to: `takes` are for consumes, `settles` for all others."""

    def __init__(self, takes: list[Any], settles: list[Any]) -> None:
        self.takes = takes
        self.settles = settles
        self.settled_count = 0
        self.is_over = threading.Event()

    def next_of(self, outcomes: list[Any]) -> Any:
        outcome = outcomes.pop(0) if outcomes else None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def settle(self) -> Any:
        try:
            return self.next_of(self.settles)
        finally:
            self.settled_count += 1
            if not self.settles and not self.takes:
                self.is_over.set()


class FakeClient:
    """Plays a client for threads."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._values = None
        self._consumers: dict[Any, None] = {}
        self._idle = threading.Event()

    def _carry_out(
        self,
        make: Callable[..., Any],
        timeout: float | None,
        *,
        is_waiting: bool = False,
        stopper: Stopper | None = None,
    ) -> Any:
        if not is_waiting:
            return self.script.settle()
        if self.script.takes:
            return self.script.next_of(self.script.takes)
        assert stopper is not None
        stopper.watch(Survey(()), lambda call, error: self._idle.set())
        if not stopper.is_stopped:
            assert self._idle.wait(PATIENCE_S)
        raise Interrupted("stopped")


class FakeAsyncClient:
    """Plays one for asyncio."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._values = None
        self._consumers: dict[Any, None] = {}

    async def _carry_out(self, make: Callable[..., Any], timeout: float | None, *, is_waiting: bool = False) -> Any:
        await asyncio.sleep(0)
        if not is_waiting:
            return self.script.settle()
        if self.script.takes:
            return self.script.next_of(self.script.takes)
        await asyncio.sleep(PATIENCE_S)
        return []


def run_threads(script: Script, handler: Callable[[Any], Any]) -> None:
    client: Any = FakeClient(script)
    consumer = Consumer(client, queue_shards(), Work("me", "default", 1, None, pass_message=False), handler)
    consumer.start()
    assert client._consumers == {consumer: None}
    assert script.is_over.wait(PATIENCE_S)
    stop_all([consumer], PATIENCE_S)
    assert client._consumers == {}
    assert consumer.join(0.0)


def run_tasks(script: Script, handler: Callable[[Any], Any]) -> None:
    async def run() -> None:
        client: Any = FakeAsyncClient(script)
        consumer = AsyncConsumer(client, queue_shards(), Work("me", "default", 1, None, pass_message=False), handler)
        consumer.start()
        async with asyncio.timeout(PATIENCE_S):
            while not script.is_over.is_set():
                await asyncio.sleep(0.01)
        assert await consumer.stop(PATIENCE_S)
        await asyncio.sleep(0)
        assert client._consumers == {}

    asyncio.run(run())


@pytest.fixture(params=[run_threads, run_tasks])
def run(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    with caplog.at_level(logging.INFO, "gimmal"):
        yield request.param


def levels(caplog: pytest.LogCaptureFixture) -> Counter[str]:
    return Counter(record.levelname for record in caplog.records if record.name.startswith("gimmal"))


def test_what_is_unavailable_is_logged_once_and_tried_until_it_works(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = [
        NoRoute("nobody leads it"),
        OperationTimeout("late", maybe_applied=False),
        DataLost("lost"),
        NoRoute("x"),
    ]
    seen: list[Any] = []
    run(Script([*troubles, [], [message(1)]], [None]), seen.append)
    assert seen == [1]
    assert levels(caplog) == {"WARNING": 1, "INFO": 1}
    assert "nobody leads it" in caplog.text
    assert "works again" in caplog.text


def test_an_ack_is_tried_until_it_works(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    script = Script([[message(1)]], [NoRoute("a"), OperationTimeout("b", maybe_applied=True), NoRoute("c"), None])
    seen: list[Any] = []
    run(script, seen.append)
    assert (seen, script.settled_count) == ([1], 4)
    assert levels(caplog)["WARNING"] == 1


@pytest.mark.parametrize(("error", "level"), [(StaleLease("not yours"), "WARNING"), (CommandError("no"), "ERROR")])
def test_an_ack_that_is_refused_is_logged_and_the_next_message_follows(
    run: Any, caplog: pytest.LogCaptureFixture, error: CommandError, level: str
) -> None:
    script = Script([[message(1)], [message(2)]], [error, None])
    seen: list[Any] = []
    run(script, seen.append)
    assert (seen, script.settled_count) == ([1, 2], 2)
    assert levels(caplog) == {level: 1}


def test_a_payload_that_cannot_be_read_does_not_end_a_consumer(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    run(Script([ValueError("not mine"), [message(1)]], [None]), seen.append)
    assert seen == [1]
    assert "not mine" in caplog.text


def test_a_client_that_is_closed_ends_its_consumer() -> None:
    client: Any = FakeClient(Script([ClientClosed("closed")], []))
    consumer = Consumer(client, queue_shards(), Work("me", "default", 1, None, pass_message=False), print)
    consumer.start()
    assert consumer.join(PATIENCE_S)


def test_a_message_that_was_granted_when_the_consumer_stopped_is_given_back() -> None:
    seen: list[Any] = []

    class Late(FakeClient):
        def _carry_out(self, make: Any, timeout: Any, *, is_waiting: bool = False, stopper: Any = None) -> Any:
            if is_waiting:
                consumers[0].stop()
                return [message(1)]
            self.script.settle()
            return None

    script = Script([], [])
    client: Any = Late(script)
    consumers = [Consumer(client, queue_shards(), Work("me", "default", 1, None, pass_message=False), seen.append)]
    consumers[0].start()
    assert consumers[0].join(PATIENCE_S)
    assert (seen, script.settled_count) == ([], 1)
