"""The sockets on which a node listens: ROUTERs that hand over frames, and the one for clients takes frames too.

One message is one frame behind the peer's identity. The identity only says where an answer goes; no authority
follows from it. A message of several frames is none of ours and is reported as such. Nothing here blocks.

The receive queue has no limit of ZeroMQ's (RCVHWM 0). With one, libzmq 4.3.5 aborts the process when a connection
breaks while its queue is full and a peer's heartbeat is among what was still to be read: any peer could bring that
about, and a node that hung for some seconds meets it with honest ones. So a flood is held off by reading it quickly.
"""

import select
from typing import Final

import zmq

from gimmal.wire import limits

_RECEIVE_FRAMES_MAX: Final = 256
_RECEIVE_BYTES_MAX: Final = 8 * 1024 * 1024
# Plain integers: arithmetic on pyzmq's enumerations costs more than a send.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_RCVMORE: Final = int(zmq.RCVMORE)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_NOBLOCK_SNDMORE: Final = int(zmq.NOBLOCK) | int(zmq.SNDMORE)


class ListeningSocket:
    """A bound ROUTER. Raises `zmq.ZMQError` when the address cannot be bound."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        self._socket = context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.MAXMSGSIZE, limits.MESSAGE_BYTES_MAX),
            (zmq.HANDSHAKE_IVL, 3_000),
            (zmq.BACKLOG, 1_024),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 30),
            (zmq.TCP_KEEPALIVE_INTVL, 10),
            (zmq.TCP_KEEPALIVE_CNT, 3),
            (zmq.SNDHWM, 1_000),
            (zmq.RCVHWM, 0),
            (zmq.IPV6, 1),
        ):
            self._socket.setsockopt(option, value)
        self._socket.bind(f"tcp://{address}")
        self._poller = select.poll()
        self._poller.register(self.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """Return the edge-triggered descriptor that signals a change of state."""
        return self._socket.getsockopt(zmq.FD)  # type: ignore[return-value] # pyzmq types it as int or bytes

    def is_signalled(self) -> bool:
        """Say whether the descriptor signals now."""
        return bool(self._poller.poll(0))

    def receive(self) -> tuple[list[tuple[bytes, bytes | None]], bool]:
        """Return (peer, frame) pairs, and whether the turn's budget ran out before the socket did.

        A frame of None stands for a message of more than one frame.
        """
        received: list[tuple[bytes, bytes | None]] = []
        receive, get = self._socket.recv, self._socket.getsockopt
        size_bytes = 0
        try:
            while len(received) < _RECEIVE_FRAMES_MAX and size_bytes < _RECEIVE_BYTES_MAX:
                peer = receive(_NOBLOCK)
                frame: bytes | None = receive(_NOBLOCK)  # a ROUTER always has one behind the identity
                while get(_RCVMORE):
                    receive(_NOBLOCK)
                    frame = None
                received.append((peer, frame))
                size_bytes += len(frame or b"")
        except zmq.Again:
            return received, False
        return received, True

    def has_more(self) -> bool:
        """Say whether frames wait. Sends eat the descriptor's signal, so this is asked after them."""
        return bool(self._socket.getsockopt(_EVENTS) & _POLLIN)  # type: ignore[operator] # likewise

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self._socket.close()


class ClientSocket(ListeningSocket):
    """The socket for clients: each gets its answers on the connection on which it asked."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
        super().__init__(context, address)
        self.undelivered = 0

    def send(self, peer: bytes, frame: bytes) -> None:
        """Send a frame, or drop and count it when the peer is gone or its queue is full."""
        try:
            self._socket.send(peer, _NOBLOCK_SNDMORE)
            self._socket.send(frame, _NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.undelivered += 1
