"""Links between nodes over real sockets: what arrives, what is dropped, and what is said of an address."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import zmq

from gimmal.node import knocking, peer_transport
from gimmal.node.peer_transport import PeerLinks
from gimmal.node.transport import ClientSocket, ListeningSocket
from tests.cluster.waiting import PATIENCE_S

Context = zmq.Context[zmq.Socket[bytes]]

LISTENER = """
import sys
import zmq
from gimmal.node.transport import ListeningSocket

socket = ListeningSocket(zmq.Context(), f"127.0.0.1:{sys.argv[1]}")
print("listening", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.term()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


class Receiver:
    """A listening socket that keeps what it received."""

    def __init__(self, context: Context, address: str) -> None:
        self.socket = ListeningSocket(context, address)
        self.frames: list[bytes | None] = []

    def received(self) -> list[bytes | None]:
        self.frames += [frame for _, frame in self.socket.receive()[0]]
        return self.frames

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()


def run_with_links(context: Context, scenario: "Callable[[PeerLinks, list[str]], Awaitable[None]]") -> None:
    """Run a scenario with links and the list of the addresses that they report as refused."""

    async def run() -> None:
        broken: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, error: broken.append(error))
        refused: list[str] = []
        links = PeerLinks(context, refused.append)
        try:
            await scenario(links, refused)
        finally:
            links.close()
        assert broken == []

    asyncio.run(run())


def start_listener(address: str) -> "subprocess.Popen[str]":
    port = address.rpartition(":")[2]
    command = [sys.executable, "-c", LISTENER, port]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


# --- what arrives


def test_frames_arrive_in_order_from_the_first_on(context: Context) -> None:
    address = free_address()
    frames = [b"%d" % number for number in range(250)]

    async def scenario(links: PeerLinks, refused: list[str]) -> None:
        with Receiver(context, address) as receiver:
            for frame in frames:
                links.send(address, frame)
            await until(lambda: receiver.received() == frames)
        assert links.undelivered == 0
        assert refused == []

    run_with_links(context, scenario)


def test_frames_for_a_name_wait_until_it_is_looked_up(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    address = free_address()
    nobody, somebody = knocking.numeric(free_address()), knocking.numeric(address)
    assert nobody is not None
    assert somebody is not None

    async def resolve(_address: str) -> list[knocking.Endpoint]:
        await asyncio.sleep(0.05)
        return [nobody, somebody]

    monkeypatch.setattr(peer_transport, "resolve", resolve)

    async def scenario(links: PeerLinks, _refused: list[str]) -> None:
        with Receiver(context, address) as receiver:
            # Of two endpoints the second is the right one, so the first attempt fails with all that waits for it.
            links.send("name.invalid:1", b"early")
            await until(lambda: links._peer_by_address["name.invalid:1"].attempts == 1)
            await asyncio.sleep(0.2)
            links.send("name.invalid:1", b"first")
            links.send("name.invalid:1", b"second")
            await until(lambda: receiver.received() == [b"first", b"second"])

    run_with_links(context, scenario)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "no-such-host.invalid:7701",
            f"{'a' * 64}.invalid:7701",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "",
            ":",
            "a",
        ),
        *(
            "127.0.0.1:0",
            "127.0.0.1:-1",
            "127.0.0.1:65536",
            f"127.0.0.1:{9**99}",
            "a\0b:1",
            "tcp://a:1",
            "é:1",
            "\ud800:1",
        ),
        *("[::1:1", "inproc://a", "0.0.0.0:1", "255.255.255.255:1", "*:1", " :1", "[]:1", f"{'9' * 5_000}:1", "a:²"),
    ],
)
def test_what_makes_no_sense_as_an_address_is_dropped_and_never_the_end(context: Context, address: str) -> None:
    async def scenario(links: PeerLinks, _refused: list[str]) -> None:
        for _ in range(3):
            links.send(address, b"frame")
        await until(lambda: not links._tasks and links._peer_by_address[address].link is None)

    run_with_links(context, scenario)


# --- outages


def test_a_process_that_was_killed_is_reported_and_another_one_is_reached_without_old_news(context: Context) -> None:
    address = free_address()

    async def scenario(links: PeerLinks, refused: list[str]) -> None:
        process = start_listener(address)
        links.send(address, b"to the first")
        link = links._peer_by_address[address].link
        await asyncio.sleep(0.2)
        process.kill()
        process.communicate()
        await until(lambda: refused == [address])
        assert link is not None
        assert link.socket.closed
        for _ in range(5):  # nobody is there, and nothing of this may arrive later
            links.send(address, b"to nobody")
            await asyncio.sleep(0.1)
        with Receiver(context, address) as receiver:

            def has_arrived() -> bool:
                links.send(address, b"to the second")
                return bool(receiver.received())

            await until(has_arrived)
            assert set(receiver.received()) == {b"to the second"}

    run_with_links(context, scenario)


def test_refusals_are_reported_again_but_not_all_the_time(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    address = free_address()

    async def scenario(links: PeerLinks, refused: list[str]) -> None:
        def has_tried(attempts: int) -> bool:
            links.send(address, b"frame")
            return links._peer_by_address[address].attempts >= attempts

        await until(lambda: has_tried(1) and len(refused) == 2)
        monkeypatch.setattr(peer_transport, "_REFUSAL_EVERY_S", 1_000.0)
        await until(lambda: has_tried(1) and len(refused) == 3)
        attempts = links._peer_by_address[address].attempts
        await until(lambda: has_tried(attempts + 5))
        assert refused == [address] * 3

    run_with_links(context, scenario)


def test_a_process_that_hangs_is_not_reported(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts connections, as a stopped process does, and says nothing."""
    monkeypatch.setattr(peer_transport, "_HANDSHAKE_TIMEOUT_MS", 100)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        async def scenario(links: PeerLinks, refused: list[str]) -> None:
            links.send(address, b"frame")
            await until(lambda: links._peer_by_address[address].link is None)
            await until(lambda: not links._tasks)
            assert refused == []

        run_with_links(context, scenario)


def timeouts_ms_of_all_connections() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        path = Path("/proc/self/fd", name)
        if not (path.exists() and path.is_socket()):
            continue
        with socket.socket(fileno=os.dup(int(name))) as one:
            if one.type == socket.SOCK_STREAM and one.family in (socket.AF_INET, socket.AF_INET6):
                found.add(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    return found


def test_who_speaks_something_else_ends_the_link_and_is_tried_again(context: Context) -> None:
    """libzmq gives up for good after a broken protocol, and says no more than that it has disconnected."""
    pull = context.socket(zmq.PULL)
    port = pull.bind_to_random_port("tcp://127.0.0.1")
    address = f"127.0.0.1:{port}"

    async def scenario(links: PeerLinks, refused: list[str]) -> None:
        def has_tried_twice() -> bool:
            links.send(address, b"frame")
            return links._peer_by_address[address].attempts > 1

        with pull:
            await until(has_tried_twice)
            await until(lambda: not links._tasks)
            assert refused == []

    run_with_links(context, scenario)


def test_only_a_machine_that_refuses_is_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        somebody, nobody = f"127.0.0.1:{server.getsockname()[1]}", free_address()
        cannot_be_reached = "[fe80::1]:7701"  # it says on no network which
        assert asyncio.run(knocking.is_refused(nobody))
        assert not asyncio.run(knocking.is_refused(somebody))
        assert not asyncio.run(knocking.is_refused(cannot_be_reached))
        assert not asyncio.run(knocking.is_refused("no-such-host.invalid:7701"))

        ends = [end for end in map(knocking.numeric, (nobody, somebody, cannot_be_reached)) if end is not None]
        for endpoints, refused in ((ends[:1], True), (ends[:2], False), (ends[::2], False), (ends[:1] * 2, True)):

            async def resolve(_address: str, found: list[knocking.Endpoint] = endpoints) -> list[knocking.Endpoint]:
                return found

            monkeypatch.setattr(knocking, "resolve", resolve)
            assert asyncio.run(knocking.is_refused("name:1")) == refused


def test_numbers_are_not_looked_up_and_become_what_zeromq_takes() -> None:
    for address, url in (("127.0.0.1:1", "tcp://127.0.0.1:1"), ("[::1]:7701", "tcp://[::1]:7701")):
        endpoint = knocking.numeric(address)
        assert endpoint is not None
        assert endpoint.url == url
        assert asyncio.run(knocking.resolve(address)) == [endpoint]
    assert knocking.numeric("localhost:7701") is None


def test_a_connection_that_is_not_acknowledged_ends_by_a_timer_of_the_kernel(context: Context) -> None:
    address = free_address()

    async def scenario(links: PeerLinks, _refused: list[str]) -> None:
        with Receiver(context, address) as receiver:
            links.send(address, b"frame")
            await until(lambda: receiver.received() == [b"frame"])
            assert peer_transport._UNACKNOWLEDGED_MS in timeouts_ms_of_all_connections()

    run_with_links(context, scenario)


def test_a_full_link_drops_what_it_cannot_take(context: Context) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        async def scenario(links: PeerLinks, _refused: list[str]) -> None:
            for _ in range(peer_transport.WAITING_FRAMES_MAX + 7):
                links.send(address, b"frame")
            assert links.undelivered == 7

        run_with_links(context, scenario)


def test_what_waits_for_a_connection_is_bounded_in_bytes_too(context: Context) -> None:
    mebibyte = bytes(1024 * 1024)
    room = peer_transport.WAITING_BYTES_MAX // len(mebibyte)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        async def scenario(links: PeerLinks, _refused: list[str]) -> None:
            for _ in range(room + 3):
                links.send(address, mebibyte)
            assert links.undelivered == 3

        run_with_links(context, scenario)


def test_what_a_connection_takes_is_not_counted_as_waiting(context: Context) -> None:
    address = free_address()
    mebibyte = bytes(1024 * 1024)

    async def scenario(links: PeerLinks, _refused: list[str]) -> None:
        with Receiver(context, address) as receiver:
            for _ in range(peer_transport.WAITING_BYTES_MAX // len(mebibyte) + 3):
                receiver.frames.clear()
                links.send(address, mebibyte)
                await until(lambda: receiver.received() == [mebibyte])
            assert links.undelivered == 0
            assert links._peer_by_address[address].waiting_bytes == 0

    run_with_links(context, scenario)


# --- who answers, and how many there are


def test_who_answers_is_no_node_and_is_named_once(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    address = free_address()
    listening = ClientSocket(context, address)

    async def scenario(links: PeerLinks, refused: list[str]) -> None:
        def answer() -> bool:
            links.send(address, b"frame")
            for peer, _ in listening.receive()[0]:
                listening.send(peer, b"what do you want?")
            return links._peer_by_address[address].attempts > 2

        with caplog.at_level(logging.WARNING), contextlib.closing(listening):
            await until(answer)
        assert [f"what listens at {address} is no other node" in line for line in caplog.messages] == [True]
        assert refused == []

    run_with_links(context, scenario)


def test_there_are_never_more_links_than_the_limit_and_unused_ones_go_first(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_transport, "LINKS_MAX", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        addresses = [f"127.0.0.{number}:{port}" for number in range(1, 6)]

        async def scenario(links: PeerLinks, _refused: list[str]) -> None:
            for address in addresses[:3]:
                links.send(address, b"frame")
            links._sweep()
            links.send(addresses[0], b"frame")
            links.send(addresses[3], b"frame")
            assert list(links._peer_by_address) == [addresses[0], addresses[2], addresses[3]]
            links._sweep()
            assert list(links._peer_by_address) == [addresses[0], addresses[3]]
            links._sweep()
            assert links._peer_by_address == {}

        run_with_links(context, scenario)


def test_no_room_for_another_socket_is_an_outage_and_not_the_end(context: Context) -> None:
    address = free_address()
    small: Context = zmq.Context()
    small.set(zmq.MAX_SOCKETS, 1)

    async def scenario(links: PeerLinks, refused: list[str]) -> None:
        links.send(address, b"frame")
        assert links.undelivered == 1
        assert refused == []

    run_with_links(small, scenario)
    small.term()
