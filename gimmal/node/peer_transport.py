"""How frames reach other nodes: one link for each address that this node sends to.

A link goes one way. Frames for a node leave on the link to its address, and what that node has to say comes to our
listening socket on its own link to us; who sends is named in the message. Everything that travels here may be lost:
the protocols above see to that. So nothing blocks, and nothing is kept for long:

- A link lives as long as one connection does. It opens at the first frame for its address, and what is sent until the
  connection stands waits in it. When the connection fails or breaks, the link closes and what waited is dropped:
  nobody wants to hear old news after an outage. For a moment (50 ms, doubled each time up to 0.2 s, and jittered)
  frames for that address are dropped too; then the next one tries again. An address that nobody sends to is not tried.
- A connection that the other side does not acknowledge breaks after 5 s, by a timer of the kernel. There are no
  ZeroMQ heartbeats: gossip finds who is gone, and libzmq 4.3.5 is better off without (`gimmal.node.transport`).
- A link that is not used for a minute or two closes. There are at most `LINKS_MAX`.
- Nobody answers on a link. Who does is no node, or none at that address: the link is given up.

A broken connection makes us knock once at the address. If the machine refuses us there, the process is gone, and that
is reported: it is the fastest news of a death that there is. libzmq does not tell refused from unreachable.
"""

import asyncio
import itertools
import logging
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any, Final

import zmq

from gimmal.node.knocking import Endpoint, is_refused, numeric, resolve
from gimmal.wire import limits

logger = logging.getLogger("gimmal.node")

LINKS_MAX: Final = 256
WAITING_FRAMES_MAX: Final = 256
WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
"""What may wait for a connection. Once it stands, libzmq does not say what has left: then only frames are counted."""

_OUTAGE_MIN_S: Final = 0.05
_OUTAGE_MAX_S: Final = 0.2
_REFUSAL_EVERY_S: Final = 0.25
_SWEEP_EVERY_S: Final = 60.0
_CONNECT_TIMEOUT_MS: Final = 2_000
_HANDSHAKE_TIMEOUT_MS: Final = 3_000
_UNACKNOWLEDGED_MS: Final = 5_000
_NEVER_MS: Final = 3_600_000
# Plain integers: arithmetic on pyzmq's enumerations costs more than a send.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_HANDSHAKE_SUCCEEDED: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_WATCHED_EVENTS: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
"""Whatever becomes of a connection is one of these: libzmq wants to try again after every failure, but for a broken
protocol, and then it has disconnected."""


class Link:
    """One connection to another node, or the attempt at one.

    Raises:
        zmq.ZMQError: there is no room for another socket.
    """

    _numbers = itertools.count()

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint) -> None:
        self.socket = context.socket(zmq.DEALER)
        try:
            self.monitor = context.socket(zmq.PAIR)
        except zmq.ZMQError:
            self.socket.close()
            raise
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.MAXMSGSIZE, limits.MESSAGE_BYTES_MAX),
            (zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS),
            (zmq.HANDSHAKE_IVL, _HANDSHAKE_TIMEOUT_MS),
            (zmq.RECONNECT_IVL, _NEVER_MS),  # without one, libzmq is silent about some failures
            (zmq.TCP_MAXRT, _UNACKNOWLEDGED_MS),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 30),
            (zmq.TCP_KEEPALIVE_INTVL, 10),
            (zmq.TCP_KEEPALIVE_CNT, 3),
            (zmq.SNDHWM, WAITING_FRAMES_MAX),
            (zmq.RCVHWM, 0),  # see gimmal.node.transport; the first frame that comes ends the link
            (zmq.IPV6, 1),
        ):
            self.socket.setsockopt(option, value)
        name = f"inproc://link-{next(self._numbers)}"
        try:
            self.monitor.setsockopt(zmq.LINGER, 0)
            self.socket.monitor(name, _WATCHED_EVENTS)
            self.monitor.connect(name)
            self.socket.connect(endpoint.url)
        except zmq.ZMQError:
            self.close()
            raise

    def descriptors(self) -> tuple[int, int]:
        """Return the edge-triggered descriptors of the monitor and of the socket itself."""
        return self.monitor.getsockopt(zmq.FD), self.socket.getsockopt(zmq.FD)  # type: ignore[return-value]

    def events(self) -> list[int]:
        """Return what has become of the connection since the last call."""
        events = []
        try:
            while True:
                event, *_ = self.monitor.recv_multipart(_NOBLOCK)
                events.append(int.from_bytes(event[:2], sys.byteorder))
        except zmq.Again:
            return events

    def is_answered(self) -> bool:
        """Say whether the other side has sent something, which no node does."""
        return bool(self.socket.getsockopt(_EVENTS) & _POLLIN)  # type: ignore[operator] # pyzmq: int or bytes

    def close(self) -> None:
        """Drop what waits, and the connection."""
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()


@dataclass(slots=True)
class Peer:
    """What is known of one address.

    `waiting` are frames that came while its name is being looked up; `waiting_bytes` is what waits there or in the link
    until it `is_connected`. `outage_s` is how long the next outage will be at
    most; the present one ends at `opens_at_s`. Whether somebody listens is asked again from `asks_at_s` on. Times are
    those of the loop.
    """

    address: str
    link: Link | None = None
    was_used: bool = True
    attempts: int = 0
    is_being_looked_up: bool = False
    waiting: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0
    is_connected: bool = False
    outage_s: float = _OUTAGE_MIN_S
    opens_at_s: float = 0.0
    is_being_asked: bool = False
    asks_at_s: float = 0.0
    has_answered: bool = False


class PeerLinks:
    """The links of a node. `on_refused(address)` is called, inside the loop, when nobody listens at an address."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], on_refused: Callable[[str], None]) -> None:
        self._context = context
        self._on_refused = on_refused
        self._peer_by_address: dict[str, Peer] = {}
        self._dice = SystemRandom()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.undelivered = 0

    # -- sending ----------------------------------------------------------------------------------------------

    def send(self, address: str, frame: bytes) -> None:
        """Send a frame to the node at `host:port`, or drop and count it; only inside the running loop."""
        peer = self._peer_by_address.get(address)
        if peer is None:
            peer = self._new_peer(address)
        peer.was_used = True
        if peer.waiting_bytes + len(frame) > WAITING_BYTES_MAX:
            self.undelivered += 1
            return
        if peer.link is None and not self._try_to_open(peer, frame):
            return
        try:
            assert peer.link is not None
            peer.link.socket.send(frame, _NOBLOCK)
        except zmq.Again:
            self.undelivered += 1
        else:
            peer.waiting_bytes += 0 if peer.is_connected else len(frame)

    def close(self) -> None:
        """Close all links; what was not sent is dropped."""
        self._is_closed = True
        for peer in self._peer_by_address.values():
            self._close_link(peer)
        for task in self._tasks:
            task.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()

    # -- links ------------------------------------------------------------------------------------------------

    def _new_peer(self, address: str) -> Peer:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_EVERY_S, self._sweep)
        if len(self._peer_by_address) >= LINKS_MAX:
            peers = list(self._peer_by_address.values())
            self._forget(next((peer for peer in peers if not peer.was_used), peers[0]))
        peer = self._peer_by_address[address] = Peer(address)
        return peer

    def _try_to_open(self, peer: Peer, frame: bytes) -> bool:
        """Say whether the link is open, after opening it if it may be; keep the frame while a name is looked up."""
        if peer.is_being_looked_up:
            if len(peer.waiting) < WAITING_FRAMES_MAX:
                peer.waiting.append(frame)
                peer.waiting_bytes += len(frame)
                return False
        elif asyncio.get_running_loop().time() >= peer.opens_at_s:
            endpoint = numeric(peer.address)
            if endpoint is not None:
                self._open(peer, endpoint)
            else:
                peer.is_being_looked_up = True
                peer.waiting.append(frame)
                peer.waiting_bytes += len(frame)
                self._start(self._look_up(peer))
                return False
        if peer.link is None:
            self.undelivered += 1
        return peer.link is not None

    async def _look_up(self, peer: Peer) -> None:
        endpoints = await resolve(peer.address)
        peer.is_being_looked_up = False
        waiting, peer.waiting, peer.waiting_bytes = peer.waiting, [], 0
        if self._peer_by_address.get(peer.address) is not peer:
            return
        if endpoints:  # a name may have several, of which one works: each attempt takes another one
            self._open(peer, endpoints[peer.attempts % len(endpoints)])
        else:
            self._begin_outage(peer)
        if peer.link is None:
            self.undelivered += len(waiting)
            return
        for frame in waiting:
            self.send(peer.address, frame)

    def _open(self, peer: Peer, endpoint: Endpoint) -> None:
        peer.attempts += 1
        try:
            link = peer.link = Link(self._context, endpoint)
        except zmq.ZMQError as error:
            logger.debug("no link to %s: %s", peer.address, error.strerror)
            self._begin_outage(peer)
            return
        loop = asyncio.get_running_loop()
        for descriptor, handler in zip(link.descriptors(), (self._on_event, self._on_answer), strict=True):
            loop.add_reader(descriptor, handler, peer)
            loop.call_soon(handler, peer)  # a descriptor signals only what comes after the first look

    def _close_link(self, peer: Peer) -> None:
        if peer.link is not None:
            for descriptor in peer.link.descriptors():
                asyncio.get_running_loop().remove_reader(descriptor)
            peer.link.close()
            peer.link = None

    def _begin_outage(self, peer: Peer) -> None:
        self._close_link(peer)
        peer.waiting_bytes, peer.is_connected = 0, False
        now_s = asyncio.get_running_loop().time()
        peer.opens_at_s = now_s + peer.outage_s * self._dice.uniform(0.5, 1.0)
        peer.outage_s = min(2 * peer.outage_s, _OUTAGE_MAX_S)

    def _forget(self, peer: Peer) -> None:
        self._close_link(peer)
        del self._peer_by_address[peer.address]

    def _sweep(self) -> None:
        for peer in list(self._peer_by_address.values()):
            if not peer.was_used:
                self._forget(peer)
            peer.was_used = False
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_EVERY_S, self._sweep)

    # -- what becomes of them ---------------------------------------------------------------------------------

    def _on_event(self, peer: Peer) -> None:
        events = peer.link.events() if peer.link is not None else []
        for event in events:
            if event == _HANDSHAKE_SUCCEEDED:
                peer.outage_s = _OUTAGE_MIN_S
                peer.waiting_bytes, peer.is_connected = 0, True
            else:
                self._begin_outage(peer)
                self._ask_whether_refused(peer)
                return

    def _on_answer(self, peer: Peer) -> None:
        if peer.link is None or not peer.link.is_answered():
            return
        if not peer.has_answered:
            peer.has_answered = True
            logger.warning(
                "what listens at %s is no other node: it answers. Nodes reach each other by their peer addresses, "
                "not by those for clients",
                peer.address,
            )
        self._begin_outage(peer)

    def _ask_whether_refused(self, peer: Peer) -> None:
        if not peer.is_being_asked and asyncio.get_running_loop().time() >= peer.asks_at_s:
            peer.is_being_asked = True
            self._start(self._ask(peer))

    async def _ask(self, peer: Peer) -> None:
        refused = await is_refused(peer.address)
        peer.is_being_asked = False
        if refused and not self._is_closed:
            peer.asks_at_s = asyncio.get_running_loop().time() + _REFUSAL_EVERY_S
            logger.debug("nobody listens at %s", peer.address)
            self._on_refused(peer.address)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()  # an error nobody foresaw goes to the loop's exception handler
