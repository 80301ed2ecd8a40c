"""The thread that says that a client lives, with real sockets."""

import gc
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from gimmal.client.attendance import Attendance
from gimmal.client.keepalive import EVERY_S, Keepalive
from gimmal.client.queue_types import Receipt
from gimmal.wire.codec import decode
from gimmal.wire.kinds import FROM_CLIENTS
from gimmal.wire.messages import KeepAlive

CLIENT = b"c" * 16
CLUSTER = b"k" * 16


class FakeSession:
    """A session that knows where copies are."""

    def __init__(self, addresses: list[str]) -> None:
        self.table: Any = SimpleNamespace(cluster=CLUSTER, version=9)
        self.addresses = addresses
        self.asked: list[frozenset[int]] = []

    def addresses_of_copies(self, partitions: frozenset[int]) -> list[str]:
        self.asked.append(partitions)
        return self.addresses


@pytest.fixture
def router() -> Iterator[tuple[Any, str]]:
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield socket, f"127.0.0.1:{port}"
    socket.close(linger=0)
    context.term()


def heard(socket: Any, timeout_s: float) -> Any:
    if not socket.poll(timeout_s * 1000):
        return None
    _, frame = socket.recv_multipart()
    return decode(frame, FROM_CLIENTS)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gimmal-keepalive"]


def ends(thread: threading.Thread) -> bool:
    thread.join(3 * EVERY_S)
    return not thread.is_alive()


def test_a_client_that_holds_something_says_every_second_that_it_lives(router: tuple[Any, str]) -> None:
    socket, address = router
    keepalive, session = Keepalive(), FakeSession([address])
    at = Attendance(64, CLIENT, keepalive.start)
    keepalive.watch(at, session)  # type: ignore[arg-type]
    assert threads() == [], "it begins with the first consume"
    at.hold(Receipt(b"q", b"default", 0, 5, 7), b"{q/0}", 30.0)
    (thread,) = threads()
    assert heard(socket, 3.0) == KeepAlive(CLUSTER, 0, 0, 9, CLIENT)
    at_s = time.monotonic()
    assert heard(socket, 3.0) == KeepAlive(CLUSTER, 0, 0, 9, CLIENT)
    assert 0.5 < time.monotonic() - at_s < 2.0
    assert session.asked[0] == at.partitions()
    keepalive.stop()
    assert ends(thread)


def test_a_client_that_holds_nothing_is_silent(router: tuple[Any, str]) -> None:
    socket, address = router
    keepalive, session = Keepalive(), FakeSession([address])
    at = Attendance(64, CLIENT, keepalive.start)
    keepalive.watch(at, session)  # type: ignore[arg-type]
    at.on_waiting([3])
    at.on_waited([3])
    (thread,) = threads()
    heard(socket, 0.3)
    assert heard(socket, 1.5 * EVERY_S) is None
    keepalive.stop()
    assert ends(thread)


def test_a_node_that_is_not_there_does_not_matter(router: tuple[Any, str]) -> None:
    socket, address = router
    keepalive, session = Keepalive(), FakeSession(["127.0.0.1:1", "no address", address])
    at = Attendance(64, CLIENT, keepalive.start)
    keepalive.watch(at, session)  # type: ignore[arg-type]
    at.on_waiting([3])
    (thread,) = threads()
    assert heard(socket, 3.0) is not None
    session.addresses = []
    heard(socket, 1.2 * EVERY_S)
    assert heard(socket, 1.5 * EVERY_S) is None
    keepalive.stop()
    assert ends(thread)


def test_a_client_that_was_dropped_is_silent() -> None:
    keepalive, session = Keepalive(), FakeSession([])
    at = Attendance(64, CLIENT, keepalive.start)
    keepalive.watch(at, session)  # type: ignore[arg-type]
    at.on_waiting([3])
    (thread,) = threads()
    del at
    gc.collect()
    assert ends(thread)


def test_a_client_that_never_consumes_has_no_thread() -> None:
    keepalive = Keepalive()
    keepalive.start()
    keepalive.stop()
    assert threads() == []
