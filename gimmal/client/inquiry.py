"""One question to one node, without a client: is it there, and how is it?

This is what health checks ask. It needs no cluster table and no other node.
"""

import time

import zmq

from gimmal.errors import NoRoute, RemoteProtocolError
from gimmal.wire import limits
from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import TO_CLIENTS
from gimmal.wire.messages import FetchStatus, Status


def ask_status(address: str, timeout: float) -> dict[str, int | str]:
    """Return what a node says of itself: its name, state and counters.

    Raises:
        NoRoute: the node did not answer within `timeout` seconds.
        RemoteProtocolError: what answered is no gimmal node of this version.
    """
    give_up_at = time.monotonic() + timeout
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, limits.MESSAGE_BYTES_MAX)
        socket.connect(f"tcp://{address}")
        socket.send(encode(FetchStatus(b"", 0, 0, 0)))
        while socket.poll(max(0, int((give_up_at - time.monotonic()) * 1000))):
            message = decode(socket.recv(), TO_CLIENTS)
            if isinstance(message, Status):
                return dict(message.facts)
            raise RemoteProtocolError(f"{address} answered a status question with {message}")
        raise NoRoute(f"the node at {address} did not answer within {timeout:g} s: check that it runs")
    except zmq.ZMQError as error:
        raise NoRoute(f"cannot ask {address}: {error.strerror}") from None
    finally:
        socket.close()
        context.term()
