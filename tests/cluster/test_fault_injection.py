"""One node that was started for testing, run inside the test: what it drops, what it delays, what it is not told."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import zmq

from gimmal.node.clocks import read_clocks
from gimmal.node.core import NodeCore
from gimmal.node.fault_injection import FaultFile, FaultyLinks
from gimmal.node.peer_transport import PeerLinks
from gimmal.node.server import Server
from gimmal.testing.faults import FaultLog
from gimmal.types import Instant
from gimmal.wire.codec import encode
from gimmal.wire.messages import FetchStatus, Message, Status
from gimmal.wire.peer_messages import Gossip, PeerMessage
from tests.cluster.test_peer_transport import Receiver, free_address, until
from tests.unit.test_control_plane import settings

Context = zmq.Context[zmq.Socket[bytes]]


def gossip_of(sender: str) -> Gossip:
    return Gossip(b"", 0, 0, 0, sender, ())


class Recorder(NodeCore):
    """A core that says what it is told to say, and keeps what it hears."""

    def __init__(self) -> None:
        super().__init__(settings("a"), b"", random.Random(1), read_clocks())
        self.heard: list[str] = []
        self.refused: list[str] = []
        self.to_say: list[tuple[str, PeerMessage]] = []
        self.asked_by: list[bytes] = []
        self.to_answer: list[tuple[bytes, Message]] = []

    def receive_from_node(self, message: PeerMessage, now: Instant) -> None:
        self.heard.append(message.sender)

    def receive(self, peer: bytes, message: Message, now: Instant) -> None:
        self.asked_by.append(peer)

    def drain(self) -> list[tuple[bytes, Message]]:
        answers, self.to_answer = self.to_answer, []
        return answers

    def on_refused(self, address: str, now: Instant) -> None:
        self.refused.append(address)

    def drain_for_nodes(self) -> list[tuple[str, PeerMessage]]:
        said, self.to_say = self.to_say, []
        return said


@pytest.fixture
def log(tmp_path: Path) -> FaultLog:
    return FaultLog(tmp_path / "faults")


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.term()


def dealer(context: Context, address: str) -> zmq.Socket[bytes]:
    made = context.socket(zmq.DEALER)
    made.setsockopt(zmq.LINGER, 0)
    made.connect(f"tcp://{address}")
    return made


def run_node(log: FaultLog, scenario: Callable[[Server, Recorder], Awaitable[None]]) -> None:
    """Run a scenario with a node `a` and its core."""
    core = Recorder()
    server = Server(core, free_address(), free_address(), None, FaultFile("a", log.file))

    async def run() -> None:
        running = asyncio.ensure_future(server.run())
        await asyncio.sleep(0)  # it begins
        try:
            await scenario(server, core)
        finally:
            server.stop()
            await running

    asyncio.run(run())


def test_what_was_on_its_way_when_the_cut_began_is_dropped_by_the_receiver(log: FaultLog, context: Context) -> None:

    async def scenario(server: Server, core: Recorder) -> None:
        with dealer(context, server._addresses[1]) as others:
            log.partition(("b",), ("a",), one_way=True)
            for heard in (["c"], ["b", "c"]):
                for name in ("b", "c"):
                    others.send(encode(gossip_of(name)))
                await until(lambda: "c" in core.heard)
                assert core.heard == heard
                core.heard.clear()
                log.heal()

    run_node(log, scenario)


def test_an_answer_that_was_not_sent_when_the_cut_began_is_lost(log: FaultLog, context: Context) -> None:
    async def scenario(server: Server, core: Recorder) -> None:
        def answer(text: str) -> None:
            core.to_answer.append((core.asked_by[0], Status(b"", 0, 0, 0, (("text", text),))))
            server._on_timer()

        with dealer(context, server._addresses[0]) as client:
            client.send(encode(FetchStatus(b"", 0, 0, 0)))
            await until(lambda: len(core.asked_by) == 1)
            log.isolate("a", clients=True)
            answer("lost")
            log.heal()
            answer("sent")
            await until(lambda: client.poll(0) != 0)
            assert b"sent" in client.recv()

    run_node(log, scenario)


def test_a_node_is_not_told_of_a_death_behind_a_cut_and_is_when_it_is_healed(
    log: FaultLog, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    other = free_address()
    log.add_node("b", other)

    async def scenario(server: Server, core: Recorder) -> None:
        def say_something() -> None:
            core.to_say.append((other, gossip_of("a")))
            server._on_timer()

        with Receiver(context, other) as receiver:
            say_something()
            await until(lambda: len(receiver.received()) == 1)
            log.partition(("b",), ("a",), one_way=True)
            say_something()
            await until(lambda: len(receiver.received()) == 2)
        await until(lambda: f"nobody listens at {other}" in caplog.messages)
        assert core.refused == [], "the refusal would not have come through"
        log.heal()

        def is_told() -> bool:
            say_something()
            return core.refused != []

        await until(is_told)
        assert core.refused == [other]

    with caplog.at_level(logging.DEBUG, "gimmal.node"):
        run_node(log, scenario)


def test_a_slow_link_delivers_in_order_after_the_delay_and_at_once_when_it_is_healed(
    log: FaultLog, context: Context
) -> None:
    other = free_address()
    log.add_node("b", other)
    frames = [b"%d" % number for number in range(20)]

    async def scenario() -> None:
        links = FaultyLinks(PeerLinks(context, lambda _: None), faults)
        try:
            with Receiver(context, other) as receiver:
                log.slow("a", "b", 0.3)
                began_at = time.monotonic()
                for frame in frames[:10]:
                    links.send(other, frame)
                await until(lambda: len(receiver.received()) > 0)
                assert time.monotonic() - began_at >= 0.3
                log.slow("a", "b", 60.0)
                for frame in frames[10:19]:
                    links.send(other, frame)
                log.heal()
                links.send(other, frames[19])
                await until(lambda: receiver.received() == frames)
        finally:
            links.close()

    faults = FaultFile("a", log.file)
    asyncio.run(scenario())
    faults.close()


def test_a_node_for_production_has_links_without_a_filter() -> None:
    server = Server(Recorder(), free_address(), free_address(), None)
    assert type(server._links) is PeerLinks
    server._context.destroy(linger=0)
