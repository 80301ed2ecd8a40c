"""The I/O that both clients share: one DEALER socket per node, moved by the session's decisions.

A `Pump` is not thread-safe and never waits; its owner says when to look and which thread does. The descriptor of
a ZeroMQ socket is edge-triggered and every call on the socket may eat the edge: after `flush` the owner looks
once at `with_news`.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable
from itertools import repeat
from random import SystemRandom
from typing import Any, Final

import zmq

from gimmal.client.calls import Call
from gimmal.client.routing import Link
from gimmal.client.session import Session
from gimmal.errors import InvalidArgument, NoRoute, RemoteProtocolError
from gimmal.wire import limits
from gimmal.wire.codec import decode, frames
from gimmal.wire.kinds import TO_CLIENTS

logger = logging.getLogger("gimmal.client")

_FRAMES_PER_LOOK: Final = 256
_WAIT_MS: Final = 2
_LINGER_MS: Final = 100
# Plain integers: arithmetic on pyzmq's enumerations costs more than a send.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_COMPLAIN_EVERY_S: Final = 60.0


class Pump:
    """Sockets to all nodes of a session. `now` is `time.monotonic`."""

    def __init__(self, seeds: Iterable[str], network: str | None) -> None:
        self.session = Session(seeds, network, SystemRandom(), time.monotonic())
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket_by_address: dict[str, zmq.Socket[bytes]] = {}
        self._received_by_address: dict[str, deque[bytes]] = {}
        self._links: object = None
        self._complained_at_s = float("-inf")

    # -- sockets ----------------------------------------------------------------------------------------------

    def update_sockets(self) -> tuple[dict[str, int], list[int]] | None:
        """Open and close sockets as the session's links want; return (opened by address, closed) descriptors.

        None when nothing changed.
        """
        links = self.session.links
        if links is self._links:
            return None
        self._links = links
        opened = {}
        for address in links:
            if address not in self._socket_by_address:
                try:
                    opened[address] = self._open(address)
                except NoRoute as error:
                    if self.session.table is None:
                        raise
                    logger.warning("the cluster table has an address that is none: %s", error)
        closed = []
        for address in [address for address in self._socket_by_address if address not in links]:
            socket = self._socket_by_address.pop(address)
            del self._received_by_address[address]
            closed.append(_descriptor(socket))
            socket.close()
        return opened, closed

    def _open(self, address: str) -> int:
        socket = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.IPV6, 1),
            (zmq.MAXMSGSIZE, limits.MESSAGE_BYTES_MAX),
            (zmq.HANDSHAKE_IVL, 3_000),
            (zmq.HEARTBEAT_IVL, 1_000),
            (zmq.HEARTBEAT_TIMEOUT, 3_000),
            (zmq.RCVHWM, 0),  # bounded by what was asked for; see gimmal.node.transport for what a limit does
            (zmq.RECONNECT_IVL, 100),
            (zmq.RECONNECT_IVL_MAX, 5_000),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.RCVTIMEO, _WAIT_MS),
        ):
            socket.setsockopt(option, value)
        try:
            socket.connect(f"tcp://{address}")
        except zmq.ZMQError as error:
            socket.close()
            raise NoRoute(f"cannot connect to {address}: {error.strerror}") from None
        self._socket_by_address[address] = socket
        self._received_by_address[address] = deque()
        return _descriptor(socket)

    def abort(self, why: str) -> list[Call[Any]]:
        """End everything under way with `ClientClosed`, and tell nodes where a consume waits that it does not."""
        if self.session.cancel_waits(time.monotonic()):
            self.flush()
            for socket in self._socket_by_address.values():
                socket.setsockopt(zmq.LINGER, _LINGER_MS)
        return self.session.abort(why)

    def close(self) -> None:
        """Close all sockets; what was not sent is dropped, but for what `abort` says."""
        for socket in self._socket_by_address.values():
            socket.close()
        self._socket_by_address = {}
        self._context.term()

    # -- out --------------------------------------------------------------------------------------------------

    def flush(self) -> list[str]:
        """Send what the session has for sockets that take it; return the addresses that were sent to."""
        sent_to = []
        for address, message in self.session.drain():
            socket = self._socket_by_address.get(address)
            if socket is None:
                continue  # a question for a table, to a node that has left since
            for part, frame in frames(message):
                try:
                    socket.send(frame, _NOBLOCK)
                except zmq.Again:
                    self.session.on_blocked(address, part)
            sent_to.append(address)
        return sent_to

    def with_news(self, addresses: Iterable[str]) -> list[str]:
        """Return those of the nodes whose socket has frames to read, or takes messages again."""
        links = self.session.links
        found = []
        for address in addresses:
            events = _events(self._socket_by_address[address])
            link = links.get(address)
            if events & _POLLIN or (link is not None and _has_changed(link, events)):
                found.append(address)
        return found

    def update_readiness(self) -> None:
        """Tell the session which sockets would take a message now; like a send, this eats signals."""
        for address, socket in self._socket_by_address.items():
            if _events(socket) & _POLLOUT:
                self.session.on_ready(address)
            else:
                self.session.on_unready(address)

    # -- in ---------------------------------------------------------------------------------------------------

    def look(self, address: str) -> tuple[list[Call[Any]], bool]:
        """Read what a node sent; return the calls that are done, and whether the look ended before the frames did."""
        socket = self._socket_by_address.get(address)
        if socket is None:
            return [], False
        has_more = True
        try:
            # One call, so that no frame is in nobody's hands if a signal handler raises, but for an instant in pyzmq.
            self._received_by_address[address].extend(map(socket.recv, repeat(_NOBLOCK, _FRAMES_PER_LOOK)))
        except zmq.Again:
            has_more = False
        link = self.session.links.get(address)
        if link is not None and (link.is_watched or not link.is_ready) and _has_changed(link, _events(socket)):
            on_change = self.session.on_unready if link.is_ready else self.session.on_ready
            on_change(address)
        return self._take(address), has_more

    def wait(self, address: str) -> list[Call[Any]] | None:
        """Block for a moment until a node sends something; None when it did not.

        Sleeping inside ZeroMQ is the shortest way to an answer, but while it lasts nobody else may use the socket.
        """
        try:
            self._received_by_address[address].append(self._socket_by_address[address].recv())
        except zmq.Again:
            return None
        return self._take(address)

    def _take(self, address: str) -> list[Call[Any]]:
        """Deal with the frames that were received; one that is interrupted is dealt with again."""
        now = time.monotonic()
        finished: list[Call[Any]] = []
        received = self._received_by_address[address]
        while received:
            try:
                finished += self.session.receive(address, decode(received[0], TO_CLIENTS), now)
            except RemoteProtocolError as error:
                self._complain(address, error, now)
            received.popleft()
        return finished

    def _complain(self, address: str, error: RemoteProtocolError, now: float) -> None:
        self.session.counters["protocol_errors"] += 1
        if now - self._complained_at_s >= _COMPLAIN_EVERY_S:
            self._complained_at_s = now
            logger.warning("node at %s sent a bad message: %s", address, error)


def _has_changed(link: Link, events: int) -> bool:
    """Say whether a socket takes messages again, or takes none any more and somebody has to know."""
    return bool(events & _POLLOUT) if not link.is_ready else link.is_watched and not events & _POLLOUT


def _events(socket: zmq.Socket[bytes]) -> int:
    return socket.getsockopt(_EVENTS)  # type: ignore[return-value] # pyzmq types every option as int or bytes


def _descriptor(socket: zmq.Socket[bytes]) -> int:
    return socket.getsockopt(zmq.FD)  # type: ignore[return-value] # pyzmq types every option as int or bytes


def parse_seeds(seeds: str | Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of `"host:port,host:port"` or of an iterable of such.

    Raises:
        InvalidArgument: there is none, or one is not `host:port`.
    """
    given = seeds.split(",") if isinstance(seeds, str) else list(seeds)
    if not all(isinstance(address, str) for address in given):
        raise TypeError(f"seeds are text such as '127.0.0.1:7700', not {seeds!r}")
    addresses = [address.strip() for address in given]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if (
            not host
            or not host.isprintable()
            or " " in host
            or not port.isascii()
            or not port.isdigit()
            or not 0 < int(port) < 65_536
        ):
            raise InvalidArgument(f"a seed is host:port, such as 127.0.0.1:7700, not {address!r}")
    if not addresses:
        raise InvalidArgument("no seed was given: name the client address of one node at least")
    return tuple(dict.fromkeys(addresses))


def check_timeout(timeout: float) -> float:
    """Return a timeout in seconds if it is above 0 and at most 60; raises InvalidArgument or TypeError."""
    if not isinstance(timeout, int | float):
        raise TypeError(f"timeout is a number of seconds, not {type(timeout).__name__}")
    if isinstance(timeout, bool) or not 0 < timeout <= limits.TIMEOUT_MAX_S:
        raise InvalidArgument(
            f"timeout is a number of seconds above 0 and at most {limits.TIMEOUT_MAX_S:g}, not {timeout!r}"
        )
    return timeout


def no_table(session: Session, seeds: tuple[str, ...], timeout: float) -> NoRoute:
    """Return the error of a client that found no cluster."""
    if session.why_not_ready:
        return NoRoute(f"no cluster table from {', '.join(seeds)} within {timeout:g} s: {session.why_not_ready}")
    reached = [address for address, link in session.links.items() if link.is_ready]
    who = f"{', '.join(reached)} took the question but did not answer" if reached else "none accepts connections"
    return NoRoute(
        f"no cluster table from {', '.join(seeds)} within {timeout:g} s: {who}. Check that the nodes run and "
        "that these are their client addresses"
    )
