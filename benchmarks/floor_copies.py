"""The floor with copies: the bare minimum by which a node holds a SET until its followers have it.

Whatever requests with writes a leader finds in one turn go to each follower as one message, as the very bytes that the
client sent; a follower carries them out and acknowledges the message with an empty one. When all followers have
acknowledged a turn, the leader carries it out too and replies. Links are in order, so messages and acknowledgements
need no numbers: they are counted. There are no epochs, logs, retries or repairs.

All copies of a node's own keys and those that it follows lie in dicts of their own; a node is both.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack
import zmq


class Turn(NamedTuple):
    """What arrived together: (client, request), and up to which message the followers must have acknowledged it."""

    requests: list[tuple[bytes, list[Any]]]
    messages_count: int


def answer(store: dict[bytes, bytes], request: list[Any]) -> list[Any]:
    """Carry out one request and return its results in order."""
    results: list[Any] = []
    append = results.append
    pairs = iter(request)
    for key, value in zip(pairs, pairs, strict=True):
        if value is None:
            append(store.get(key))
        else:
            store[key] = value
            append(True)
    return results


def bare_socket(context: Any, kind: int) -> Any:
    """Return a socket without limits (pyzmq types every socket option as int | bytes, hence Any)."""
    socket = context.socket(kind)
    for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
        socket.setsockopt(option, 0)
    return socket


def has_write(request: list[Any]) -> bool:
    """Tell whether a request sets a key: not all of its values are nil."""
    return request[1::2].count(None) * 2 != len(request)


class Leader:
    """The side of a node that clients talk to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, router: Any, followers: Sequence[Any]) -> None:
        self._loop = loop
        self._router = router
        self._followers = followers
        self._acknowledged = [0] * len(followers)
        self._messages_count = 0
        self._turns: deque[Turn] = deque()
        self._store: dict[bytes, bytes] = {}
        self._pack = msgpack.Packer().pack

    def drain(self) -> None:
        """Take all requests that are there: reads are answered, writes go to the followers first."""
        receive, option, unpack = self._router.recv, self._router.getsockopt, msgpack.unpackb
        requests: list[tuple[bytes, list[Any]]] = []
        writes: list[bytes] = []
        while option(zmq.EVENTS) & zmq.POLLIN:
            client = receive(zmq.DONTWAIT)
            frame = receive(zmq.DONTWAIT)
            request = unpack(frame)
            requests.append((client, request))
            if has_write(request):
                writes.append(frame)
        if writes:
            message = self._pack(writes)
            self._messages_count += 1
            for follower in self._followers:
                follower.send(message, zmq.DONTWAIT)
        if requests:
            self._turns.append(Turn(requests, self._messages_count))
            self._settle()
        if writes:
            for index, follower in enumerate(self._followers):
                if follower.getsockopt(zmq.EVENTS) & zmq.POLLIN:  # the send may have eaten the edge
                    self._loop.call_soon(self.drain_acks, index)

    def drain_acks(self, index: int) -> None:
        """Count the acknowledgements of a follower, and reply to what all have now."""
        follower = self._followers[index]
        while follower.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            follower.recv(zmq.DONTWAIT)
            self._acknowledged[index] += 1
        self._settle()

    def _settle(self) -> None:
        """Carry out and answer all turns that the followers have, in order; a read waits for what came before it."""
        acknowledged, turns, send = min(self._acknowledged), self._turns, self._router.send
        has_sent = False
        while turns and turns[0].messages_count <= acknowledged:
            for client, request in turns.popleft().requests:
                send(client, zmq.SNDMORE | zmq.DONTWAIT)
                send(self._pack(answer(self._store, request)), zmq.DONTWAIT)
                has_sent = True
        if has_sent and self._router.getsockopt(zmq.EVENTS) & zmq.POLLIN:  # the send may have eaten the edge
            self._loop.call_soon(self.drain)


class Follower:
    """The side of a node that holds the copies of others."""

    def __init__(self, router: Any) -> None:
        self._router = router
        self._store: dict[bytes, bytes] = {}

    def drain(self) -> None:
        """Carry out all messages that are there, and acknowledge each."""
        receive, send, option, unpack = (
            self._router.recv,
            self._router.send,
            self._router.getsockopt,
            msgpack.unpackb,
        )
        while option(zmq.EVENTS) & zmq.POLLIN:  # also after the last send, which may have eaten the edge
            leader = receive(zmq.DONTWAIT)
            for frame in unpack(receive(zmq.DONTWAIT)):
                answer(self._store, unpack(frame))
            send(leader, zmq.SNDMORE | zmq.DONTWAIT)
            send(b"", zmq.DONTWAIT)
