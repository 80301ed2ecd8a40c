"""The floor with copies: a SET is held until all followers have it, and no longer."""

import asyncio
from collections import deque
from typing import Any

import msgpack
import zmq

from benchmarks.floor import followers_of
from benchmarks.floor_copies import Follower, Leader, answer, has_write


class FakeSocket:
    """What a socket holds to be read, and what was sent through it."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.sent: list[bytes] = []

    def getsockopt(self, option: int) -> int:
        assert option == zmq.EVENTS
        return zmq.POLLIN if self.waiting else 0

    def recv(self, _flags: int) -> bytes:
        return self.waiting.popleft()

    def send(self, frame: bytes, _flags: int) -> None:
        self.sent.append(frame)


class Stage:
    """A leader with some followers, and a client named `c`."""

    def __init__(self, followers: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.router = FakeSocket()
        self.dealers = [FakeSocket() for _ in range(followers)]
        self.leader = Leader(self.loop, self.router, self.dealers)

    def ask(self, *requests: list[Any]) -> None:
        for request in requests:
            self.router.waiting += (b"c", msgpack.packb(request))
        self.leader.drain()

    def acknowledge(self, index: int) -> None:
        self.dealers[index].waiting.append(b"")
        self.leader.drain_acks(index)

    def replies(self) -> list[Any]:
        frames, self.router.sent = self.router.sent, []
        assert set(frames[::2]) <= {b"c"}
        return [msgpack.unpackb(frame) for frame in frames[1::2]]


def test_a_set_is_answered_when_the_last_follower_has_it() -> None:
    stage = Stage(followers=2)
    stage.ask([b"a", b"1", b"b", b"2"])
    assert stage.replies() == []
    stage.acknowledge(1)
    assert stage.replies() == []
    stage.acknowledge(0)
    assert stage.replies() == [[True, True]]
    stage.ask([b"a", None, b"x", None])
    assert stage.replies() == [[b"1", None]]
    assert [len(dealer.sent) for dealer in stage.dealers] == [1, 1]
    stage.loop.close()


def test_what_arrives_in_one_turn_is_one_message_to_each_follower_and_one_acknowledgement() -> None:
    stage = Stage(followers=1)
    stage.ask([b"a", b"1"], [b"a", None], [b"b", b"2"])
    (message,) = stage.dealers[0].sent
    assert stage.replies() == []
    peers = FakeSocket()
    follower = Follower(peers)
    peers.waiting += (b"leader", message)
    follower.drain()
    assert peers.sent == [b"leader", b""]
    stage.acknowledge(0)
    assert stage.replies() == [[True], [b"1"], [True]]
    stage.loop.close()


def test_replies_keep_the_order_of_requests() -> None:
    stage = Stage(followers=1)
    stage.ask([b"a", b"1"])
    stage.ask([b"a", None])
    assert stage.replies() == []
    stage.acknowledge(0)
    assert stage.replies() == [[True], [b"1"]]
    stage.loop.close()


def test_a_request_is_a_read_only_if_all_of_it_is() -> None:
    assert has_write([b"a", None, b"b", b"1"])
    assert not has_write([b"a", None, b"b", None])
    assert answer({b"a": b"1"}, [b"a", None, b"b", b""]) == [b"1", True]


def test_followers_are_the_next_nodes_in_the_circle() -> None:
    assert [followers_of(2, copies) for copies in (1, 2, 3)] == [[], [0], [0, 1]]
