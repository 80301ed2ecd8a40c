"""One question to one node, without a client: is it there, and how is it? What does the meta group say to this?

The first is what health checks ask: it needs no cluster table and no other node. The second is for operators: the node
passes it on.
"""

import time
from typing import Any, Final

import zmq

from gimmal.errors import NoRoute, RemoteProtocolError
from gimmal.wire import limits
from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import TO_CLIENTS
from gimmal.wire.messages import Digests, FetchDigests, FetchStatus, Message, Operate, Operated, Status

_ASK_AGAIN_S: Final = 0.02


def ask_status(address: str, timeout: float) -> dict[str, int | str]:
    """Return what a node says of itself: its name, state and counters.

    Raises:
        NoRoute: the node did not answer within `timeout` seconds.
        RemoteProtocolError: what answered is no gimmal node of this version.
    """
    message = _ask(address, FetchStatus(b"", 0, 0, 0), timeout)
    if isinstance(message, Status):
        return dict(message.facts)
    raise RemoteProtocolError(f"{address} answered a status question with {message}")


def ask_digests(address: str, timeout: float) -> dict[int, tuple[int, bytes]]:
    """Return for each copy that a node holds, by partition, up to where it is committed, and a digest of its state.

    Raises:
        NoRoute: the node did not answer within `timeout` seconds.
        RemoteProtocolError: what answered is no gimmal node of this version.
    """
    found: dict[int, tuple[int, bytes]] = {}
    upcoming = 0
    give_up_at = time.monotonic() + timeout
    while upcoming >= 0:
        message = _ask(address, FetchDigests(b"", 0, 0, 0, upcoming), timeout)
        if not isinstance(message, Digests) or 0 <= message.upcoming < upcoming + bool(message.digests):
            raise RemoteProtocolError(f"{address} answered a question for digests with {message}")
        if message.digests:
            found |= {partition: (commit, digest) for partition, _, commit, digest in message.digests}
            give_up_at = time.monotonic() + timeout
        elif message.upcoming >= 0:  # it was asked for too many at once, by others
            if time.monotonic() > give_up_at:
                raise NoRoute(f"the node at {address} has had no time for digests for {timeout:g} s: ask again")
            time.sleep(_ASK_AGAIN_S)
        upcoming = message.upcoming
    return found


def ask_to_operate(address: str, command: tuple[Any, ...], timeout: float) -> Operated:
    """Have the meta group decide a command, and return what became of it.

    Raises:
        NoRoute: the node did not answer within `timeout` seconds.
        RemoteProtocolError: what answered is no gimmal node of this version.
    """
    message = _ask(address, Operate(b"", 0, 0, 0, command), timeout)
    if isinstance(message, Operated):
        return message
    raise RemoteProtocolError(f"{address} answered an operator's command with {message}")


def _ask(address: str, question: Message, timeout: float) -> Message:
    give_up_at = time.monotonic() + timeout
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, limits.MESSAGE_BYTES_MAX)
        socket.connect(f"tcp://{address}")
        socket.send(encode(question))
        if socket.poll(max(0, int((give_up_at - time.monotonic()) * 1000))):
            return decode(socket.recv(), TO_CLIENTS)
        raise NoRoute(f"the node at {address} did not answer within {timeout:g} s: check that it runs")
    except zmq.ZMQError as error:
        raise NoRoute(f"cannot ask {address}: {error.strerror}") from None
    finally:
        socket.close()
        context.term()
