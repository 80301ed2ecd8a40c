"""One node of the floor: a ROUTER, a dict and nothing else. Run as `python -m benchmarks.floor_node`.

A request is a flat msgpack list key, value, key, value, ...; a nil value asks for the key. The reply is a
list with one result per pair: the value, nil or true. Prints its port, then serves until it is stopped.

With arguments (a port for the nodes that it follows, then the ports of its followers) it keeps copies:
`floor_copies` says how.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import zmq

from benchmarks.floor_copies import Follower, Leader, answer, bare_socket
from benchmarks.processes import LOOPBACK


def single(router: Any) -> Callable[[], None]:
    """Return what drains the socket of a node without followers."""
    store: dict[bytes, bytes] = {}
    receive, send, option = router.recv, router.send, router.getsockopt
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb

    def drain() -> None:
        while option(zmq.EVENTS) & zmq.POLLIN:  # also after the last send, which may have eaten the edge
            peer = receive(zmq.DONTWAIT)
            request = unpack(receive(zmq.DONTWAIT))
            send(peer, zmq.SNDMORE | zmq.DONTWAIT)
            send(pack(answer(store, request)), zmq.DONTWAIT)

    return drain


async def serve(ports: Sequence[int]) -> None:
    """Drain each socket whenever the loop says that its edge-triggered descriptor moved."""
    loop = asyncio.get_running_loop()
    context = zmq.Context()
    router = bare_socket(context, zmq.ROUTER)
    port = router.bind_to_random_port(f"tcp://{LOOPBACK}")
    if ports:
        peer_port, *follower_ports = ports
        peers = bare_socket(context, zmq.ROUTER)
        peers.bind(f"tcp://{LOOPBACK}:{peer_port}")
        dealers = []
        for follower_port in follower_ports:
            dealer = bare_socket(context, zmq.DEALER)
            dealer.connect(f"tcp://{LOOPBACK}:{follower_port}")
            dealers.append(dealer)
        leader = Leader(loop, router, dealers)
        loop.add_reader(peers.getsockopt(zmq.FD), Follower(peers).drain)
        for index, dealer in enumerate(dealers):
            loop.add_reader(dealer.getsockopt(zmq.FD), leader.drain_acks, index)
        drain = leader.drain
    else:
        drain = single(router)
    loop.add_reader(router.getsockopt(zmq.FD), drain)
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve([int(port) for port in sys.argv[1:]]))
