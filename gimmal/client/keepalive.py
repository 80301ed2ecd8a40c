"""A thread that tells nodes once a second that this client lives, whatever its other threads are doing.

A node that hears nothing of a client for 5 s gives its messages to others, which counts as a failure of theirs. So the
thread has sockets of its own, and needs nobody's lock for longer than a look at what the client holds: it goes on while
a handler works. Only a handler that keeps the interpreter to itself (the GIL, in one long call of an extension that
does not release it) silences this thread too, and its client is taken for gone after 5 s.

It tells all nodes that hold copies of the partitions concerned, for each of them may be the next leader.
"""

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import zmq

from gimmal.client.attendance import Attendance
from gimmal.wire import limits
from gimmal.wire.codec import encode
from gimmal.wire.messages import KeepAlive

if TYPE_CHECKING:
    from gimmal.client.session import Session

EVERY_S: Final = 1.0
_FRAMES_KEPT: Final = 2


class Keepalive:
    """The keepalives of one client. The thread begins with the first `start`, and ends with `stop` or its client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._watched: tuple[weakref.ref[Attendance], weakref.ref[Session]] | None = None

    def watch(self, attendance: Attendance, session: "Session") -> None:
        """Say what the client holds, and what it knows of the cluster."""
        self._watched = weakref.ref(attendance), weakref.ref(session)

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is None and self._watched is not None:
            with self._lock:
                if self._thread is None:
                    arguments = self._stopped, *self._watched
                    self._thread = threading.Thread(target=_tell, args=arguments, name="gimmal-keepalive", daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        """End within a moment."""
        self._stopped.set()


def _tell(
    stopped: threading.Event, find_attendance: "weakref.ref[Attendance]", find_session: "weakref.ref[Session]"
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets: dict[str, zmq.Socket[bytes]] = {}
    try:
        while not stopped.is_set():
            attendance, session = find_attendance(), find_session()
            if attendance is None or session is None:
                return
            partitions = attendance.partitions()
            addresses = session.addresses_of_copies(partitions) if partitions else []
            table = session.table
            if table is not None:
                _connect(context, sockets, addresses)
                frame = encode(KeepAlive(table.cluster, 0, 0, table.version, attendance.client))
                for socket in sockets.values():
                    _send(socket, frame)
            del attendance, session
            stopped.wait(EVERY_S)
    finally:
        for socket in sockets.values():
            socket.close()
        context.term()


def _connect(context: "zmq.Context[Any]", sockets: "dict[str, zmq.Socket[bytes]]", addresses: list[str]) -> None:
    """Have sockets to these addresses and no others."""
    for address in [address for address in sockets if address not in addresses]:
        sockets.pop(address).close()
    for address in addresses:
        if address not in sockets:
            socket = context.socket(zmq.DEALER)
            for option, value in (
                (zmq.LINGER, 0),
                (zmq.IPV6, 1),
                (zmq.SNDHWM, _FRAMES_KEPT),
                (zmq.RCVHWM, _FRAMES_KEPT),
                (zmq.MAXMSGSIZE, limits.PLAIN_FRAME_BYTES_MAX),
                (zmq.HEARTBEAT_IVL, 1_000),
                (zmq.HEARTBEAT_TIMEOUT, 3_000),
                (zmq.RECONNECT_IVL, 100),
                (zmq.RECONNECT_IVL_MAX, 1_000),
            ):
                socket.setsockopt(option, value)
            try:
                socket.connect(f"tcp://{address}")
            except zmq.ZMQError:  # the table has an address that is none
                socket.close()
                continue
            sockets[address] = socket


def _send(socket: "zmq.Socket[bytes]", frame: bytes) -> None:
    with contextlib.suppress(zmq.Again):
        while True:
            socket.recv(zmq.NOBLOCK)  # nobody answers a keepalive; what comes is a complaint
    with contextlib.suppress(zmq.Again):
        socket.send(frame, zmq.NOBLOCK)
