"""One node of the floor: a ROUTER, a dict and nothing else. Run as `python -m benchmarks.floor_node`.

A request is a flat msgpack list key, value, key, value, ...; a nil value asks for the key. The reply is a
list with one result per pair: the value, nil or true. Prints its port, then serves until it is stopped.
"""

import asyncio
from typing import Any

import msgpack
import zmq

from benchmarks.processes import LOOPBACK


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


async def serve() -> None:
    """Drain the socket whenever the loop says that its edge-triggered descriptor moved."""
    context = zmq.Context()
    router: Any = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.setsockopt(zmq.SNDHWM, 0)
    router.setsockopt(zmq.RCVHWM, 0)
    port = router.bind_to_random_port(f"tcp://{LOOPBACK}")
    store: dict[bytes, bytes] = {}
    receive, send, option = router.recv, router.send, router.getsockopt
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb

    def drain() -> None:
        while option(zmq.EVENTS) & zmq.POLLIN:  # also after the last send, which may have eaten the edge
            peer = receive(zmq.DONTWAIT)
            request = unpack(receive(zmq.DONTWAIT))
            send(peer, zmq.SNDMORE | zmq.DONTWAIT)
            send(pack(answer(store, request)), zmq.DONTWAIT)

    asyncio.get_running_loop().add_reader(option(zmq.FD), drain)
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
