"""The floor: bare pyzmq + msgpack of the same shape as gimmal, the honest speed limit of its approach.

Three node processes hold a dict each; a client has one DEALER per node and finds the node of a key by its
CRC16 slot. The asyncio client puts all operations that were started in one turn of the loop into one message
per node. There are no retries, deadlines, versions, validation, errors or reconnects: whatever gimmal adds to
this is the price of its features. Replies come in the order of requests, so they need no ids.

With copies, the followers of a node are the next ones in the circle, and a node holds a SET until all of its
followers have acknowledged it (`floor_copies`). Nobody takes over when a node dies.
"""

import asyncio
import binascii
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import msgpack
import zmq

from benchmarks.processes import LOOPBACK, free_ports, start_child, stop_children
from benchmarks.stores import AsyncStore, Roles, SyncStore

NODES = 3
SLOTS = 16384
NODE_OF_SLOT = bytes(slot * NODES // SLOTS for slot in range(SLOTS))

Pending = list["asyncio.Future[Any]"]


def node_of(key: bytes) -> int:
    """Return the number of the node that holds the key."""
    return NODE_OF_SLOT[binascii.crc_hqx(key, 0) & 16383]


def connect_dealers(context: Any, ports: Sequence[int]) -> list[Any]:
    """Connect one DEALER to each node (pyzmq types every socket option as int | bytes, hence Any)."""
    dealers = []
    for port in ports:
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RCVHWM, 0)
        dealer.connect(f"tcp://{LOOPBACK}:{port}")
        dealers.append(dealer)
    return dealers


class FloorClient:
    """Blocking client: one round trip per call, or one per node and batch."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._context = zmq.Context()
        self._dealers = connect_dealers(self._context, ports)
        self._pack = msgpack.Packer().pack

    def get(self, key: str) -> bytes | None:
        """Return the value of the key."""
        name = key.encode()
        dealer = self._dealers[node_of(name)]
        dealer.send(self._pack((name, None)))
        result: list[bytes | None] = msgpack.unpackb(dealer.recv())
        return result[0]

    def set(self, key: str, value: bytes) -> bool:
        """Store the value."""
        name = key.encode()
        dealer = self._dealers[node_of(name)]
        dealer.send(self._pack((name, value)))
        result: list[bool] = msgpack.unpackb(dealer.recv())
        return result[0]

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values in the order of the keys."""
        requests: list[list[bytes | None]] = [[] for _ in self._dealers]
        nodes = []
        for key in keys:
            name = key.encode()
            node = NODE_OF_SLOT[binascii.crc_hqx(name, 0) & 16383]
            requests[node] += (name, None)
            nodes.append(node)
        following = [iter(results).__next__ for results in self._exchange(requests)]
        return [following[node]() for node in nodes]

    def set_many(self, items: Mapping[str, bytes]) -> int:
        """Store all values; return how many."""
        requests: list[list[bytes | None]] = [[] for _ in self._dealers]
        for key, value in items.items():
            name = key.encode()
            requests[NODE_OF_SLOT[binascii.crc_hqx(name, 0) & 16383]] += (name, value)
        return sum(len(results) for results in self._exchange(requests))

    def _exchange(self, requests: Sequence[list[bytes | None]]) -> list[list[Any]]:
        """Send to every node that has something to do, then collect the replies; results per node."""
        asked = [(dealer, request) for dealer, request in zip(self._dealers, requests, strict=True) if request]
        for dealer, request in asked:
            dealer.send(self._pack(request))
        return [
            msgpack.unpackb(dealer.recv()) if request else []
            for dealer, request in zip(self._dealers, requests, strict=True)
        ]

    def close(self) -> None:
        """Close the sockets."""
        self._context.destroy(linger=0)


class FloorLink:
    """The asyncio client's side of one node: what waits to be sent and what waits for a reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dealer: Any) -> None:
        self.operations: list[bytes | None] = []
        self.futures: Pending = []
        self._in_flight: deque[Pending] = deque()
        self._dealer = dealer
        self._pack = msgpack.Packer().pack
        loop.add_reader(dealer.getsockopt(zmq.FD), self.drain)

    def flush(self) -> None:
        """Send everything that this turn of the loop started, as one message, and look for replies once.

        The look is needed: a send may eat the signal of the edge-triggered descriptor.
        """
        self._dealer.send(self._pack(self.operations), zmq.DONTWAIT)
        self._in_flight.append(self.futures)
        self.operations = []
        self.futures = []
        self.drain()

    def drain(self) -> None:
        """Hand out the results of all replies that are there."""
        dealer = self._dealer
        while dealer.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            results = msgpack.unpackb(dealer.recv(zmq.DONTWAIT))
            for future, result in zip(self._in_flight.popleft(), results, strict=True):
                if not future.done():  # it is done when its task was cancelled
                    future.set_result(result)


class FloorAsyncClient:
    """Asyncio client: operations started in one turn of the loop travel as one message per node."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._dealers = connect_dealers(self._context, ports)
        links = [FloorLink(self._loop, dealer) for dealer in self._dealers]
        self._link_of_slot = [links[node] for node in NODE_OF_SLOT]

    def get(self, key: str) -> "asyncio.Future[bytes | None]":
        """Return the value of the key."""
        return self._start(key.encode(), None)

    def set(self, key: str, value: bytes) -> "asyncio.Future[Any]":
        """Store the value."""
        return self._start(key.encode(), value)

    def _start(self, key: bytes, value: bytes | None) -> "asyncio.Future[Any]":
        link = self._link_of_slot[binascii.crc_hqx(key, 0) & 16383]
        if not link.futures:
            self._loop.call_soon(link.flush)
        link.operations += (key, value)
        future = self._loop.create_future()
        link.futures.append(future)
        return future

    async def close(self) -> None:
        """Close the sockets."""
        for dealer in self._dealers:
            self._loop.remove_reader(dealer.getsockopt(zmq.FD))
        self._context.destroy(linger=0)


class Floor:
    """The running floor: its nodes, and how to connect to them."""

    name = "floor"

    def __init__(self, nodes: Sequence[subprocess.Popen[bytes]], ports: Sequence[int], copies: int) -> None:
        self.node_pids = [node.pid for node in nodes]
        self._ports = ports
        self._copies = copies

    def roles_of(self, key: str) -> Roles:
        """Return who serves a key."""
        leader = node_of(key.encode())
        return Roles(self.node_pids[leader], [self.node_pids[node] for node in followers_of(leader, self._copies)])

    def connect(self) -> SyncStore:
        """Connect a blocking client."""
        client = FloorClient(self._ports)
        return SyncStore(client.get, client.set, client.set, client.get_many, client.set_many, client.close)

    async def connect_async(self) -> AsyncStore:
        """Connect an asyncio client."""
        client = FloorAsyncClient(self._ports)
        return AsyncStore(client.get, client.set, client.close)


def followers_of(node: int, copies: int) -> list[int]:
    """Return the numbers of the nodes that hold the other copies of what a node leads."""
    return [(node + step) % NODES for step in range(1, copies)]


@contextmanager
def open_floor(copies: int = 1) -> Iterator[Floor]:
    """Start the nodes, and stop them at the end whatever happens."""
    with ExitStack() as stack:
        nodes: list[subprocess.Popen[bytes]] = []
        stack.callback(stop_children, nodes)
        peer_ports = free_ports(NODES)
        for node in range(NODES):
            command = [sys.executable, "-m", "benchmarks.floor_node"]
            if copies > 1:
                command += map(str, [peer_ports[node], *(peer_ports[other] for other in followers_of(node, copies))])
            nodes.append(start_child(command, stdout=subprocess.PIPE))
        yield Floor(nodes, [read_port(node) for node in nodes], copies)


def read_port(node: subprocess.Popen[bytes]) -> int:
    """Return the port that a node printed."""
    assert node.stdout is not None
    line = node.stdout.readline()
    if not line:
        raise RuntimeError(f"a floor node ended while starting, with exit status {node.wait()}")
    return int(line)
