"""The shell of a node: one asyncio loop that feeds the core and carries out what it asks for.

A turn: drain the socket that has something, read the clocks (after the drain: what is handled now was there by then),
let the core receive each message, tick, save what the core has to save, and only then send what it has to say. So
nothing leaves before that for which it answers is on the disk. Then one timer for the core's next deadline is armed.
Nothing waits inside, but for the disk.
"""

import asyncio
import logging
import signal
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import zmq

from gimmal.errors import ConfigError, GimmalError, LocalProtocolError, RemoteProtocolError
from gimmal.node.clocks import drained, read_clocks
from gimmal.node.core import NodeCore
from gimmal.node.fault_injection import FaultFile, FaultyLinks
from gimmal.node.journal_file import JournalFile
from gimmal.node.peer_transport import PeerLinks
from gimmal.node.transport import ClientSocket, ListeningSocket
from gimmal.types import Instant
from gimmal.wire.codec import decode, frames
from gimmal.wire.kinds import FROM_CLIENTS, FROM_NODES
from gimmal.wire.messages import Message
from gimmal.wire.peer_messages import PeerMessage

logger = logging.getLogger("gimmal.node")

_SAFETY_TICK_S: Final = 0.1
_COMPLAIN_EVERY_S: Final = 60.0
_LEAVES_WITHIN_S: Final = 3.0
_FAREWELL_S: Final = 0.3
"""For how long a node that has handed over tells its clients so."""
_SAVES_PER_TURN_MAX: Final = 1_000
_NEVER: Final = float("inf")
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_Socket = TypeVar("_Socket", bound=ListeningSocket)


class Server:
    """One running node that listens for clients and for other nodes. `run` returns after SIGTERM, SIGINT or `stop`.

    Without a `journal` nothing is saved. `faults` are for tests: a node that others rely on has none.

    Raises:
        ConfigError: an address cannot be listened on.
    """

    def __init__(
        self, core: NodeCore, client: str, peer: str, journal: JournalFile | None, faults: FaultFile | None = None
    ) -> None:
        self._core = core
        self._journal = journal
        self._faults = faults
        self._addresses = client, peer
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._clients = self._listen(ClientSocket, client, "--client")
            self._nodes = self._listen(ListeningSocket, peer, "--peer")
        except ConfigError:
            self._context.destroy(linger=0)
            raise
        links = PeerLinks(self._context, self._on_refused)
        self._links = links if faults is None else FaultyLinks(links, faults)
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = _NEVER
        self._broken_by: BaseException | None = None
        self._leaving_because = ""
        self._has_left = False
        self._bad_node_frames = 0
        self._complains_at_s = 0.0
        self._grumbles_at_s = 0.0
        self.unsendable = 0
        self.missed_signals = 0

    def _listen(self, kind: type[_Socket], address: str, flag: str) -> _Socket:
        try:
            return kind(self._context, address)
        except zmq.ZMQError as error:
            raise ConfigError(
                f"node {self._core.name} cannot listen on {address}: {error.strerror}. "
                f"{'Is another node running there? ' if error.errno == zmq.EADDRINUSE else ''}"
                f"Give it another address with {flag}"
            ) from None

    async def run(self) -> None:
        """Serve until told to stop."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._leave, signal.Signals(number).name)
        self._loop.set_exception_handler(self._on_broken)
        readers = ((self._clients, self._on_clients), (self._nodes, self._on_nodes))
        for socket, handler in readers:
            self._loop.add_reader(socket.fileno(), handler)
            self._loop.call_soon(handler)
        safety = self._loop.call_later(_SAFETY_TICK_S, self._look_for_missed_signals)
        logger.info("node %s serves clients on %s and other nodes on %s", self._core.name, *self._addresses)
        try:
            await self._stopped.wait()
        finally:
            for socket, _ in readers:
                self._loop.remove_reader(socket.fileno())
                socket.close()
            for timer in (safety, self._timer):
                if timer is not None:
                    timer.cancel()
            self._links.close()
            self._context.term()
            for file in (self._journal, self._faults):
                if file is not None:
                    file.close()
        if self._broken_by is not None:
            raise self._broken_by
        logger.info("node %s has stopped", self._core.name)

    def _on_broken(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Stop at an error nobody foresaw: a node whose state may be wrong must not go on serving it."""
        error = self._broken_by = context.get("exception") or RuntimeError(context["message"])
        self.stop(str(error) if isinstance(error, GimmalError) else f"internal error: {error!r}")

    def stop(self, cause: str = "stop()") -> None:
        """End `run` after the current turn."""
        if self._stopped.is_set():
            return
        logger.info("node %s is stopping: %s", self._core.name, cause)
        self._stopped.set()

    def _leave(self, cause: str) -> None:
        """Hand over what this node leads, and then stop; asked a second time, or after a while, stop at once."""
        if self._leaving_because:
            self.stop(cause)
            return
        self._leaving_because = cause
        self._loop.call_later(_LEAVES_WITHIN_S, self._stop_late)
        now = read_clocks()
        self._core.leave(now)
        self._end_turn(now)

    def _stop_late(self) -> None:
        if not self._stopped.is_set():
            logger.warning("node %s could not hand over all it leads in %g s", self._core.name, _LEAVES_WITHIN_S)
            self.stop(self._leaving_because)

    # -- turns ------------------------------------------------------------------------------------------------

    def _on_clients(self) -> None:
        if self._stopped.is_set():
            return
        received, has_more, now = drained(self._clients.receive, read_clocks)
        if self._faults is not None and self._faults.filter().loses_clients:
            received = []
        core = self._core
        for peer, frame in received:
            try:
                if frame is None:
                    raise RemoteProtocolError("a message is one frame")
                message = decode(frame, FROM_CLIENTS)
            except RemoteProtocolError as error:
                core.reject(peer, error, now)
                continue
            core.receive(peer, message, now)
        self._end_turn(now, clients_have_more=has_more)

    def _on_nodes(self) -> None:
        if self._stopped.is_set():
            return
        received, has_more, now = drained(self._nodes.receive, read_clocks)
        faults = self._faults.filter() if self._faults is not None else None
        for _, frame in received:
            try:
                if frame is None:
                    raise RemoteProtocolError("a message is one frame")
                message = decode(frame, FROM_NODES)
            except RemoteProtocolError as error:
                self._on_bad_node_frame(error, now)
                continue
            assert isinstance(message, PeerMessage), "so are all kinds that come from nodes"
            if faults is not None and faults.loses_from(message.sender):
                continue
            self._core.receive_from_node(message, now)
        if has_more:
            self._loop.call_soon(self._on_nodes)
        self._end_turn(now)

    def _on_refused(self, address: str) -> None:
        if self._stopped.is_set() or (self._faults is not None and not self._faults.filter().refuses(address)):
            return
        now = read_clocks()
        self._core.on_refused(address, now)
        self._end_turn(now)

    def _on_timer(self) -> None:
        self._timer, self._timer_at_s = None, _NEVER
        if not self._stopped.is_set():
            self._end_turn(read_clocks())

    def _end_turn(self, now: Instant, *, clients_have_more: bool = False) -> None:
        core = self._core
        core.tick(now)
        self._save(now)
        answers = core.drain()
        if self._faults is not None and self._faults.filter().loses_clients:
            answers = []
        for peer, answer in answers:
            for part in self._frames_of(answer, now):
                self._clients.send(peer, part)
        for address, message in core.drain_for_nodes():
            for part in self._frames_of(message, now):
                self._links.send(address, part)
        for level, text in core.complaints():
            logger.log(_LEVELS[level], text)
        if clients_have_more or (answers and self._clients.has_more()):  # sending eats the signal
            self._loop.call_soon(self._on_clients)
        self._arm_timer()
        if self._leaving_because and not self._has_left and core.has_left:
            self._has_left = True
            self._loop.call_later(_FAREWELL_S if core.had_to_leave else 0.0, self.stop, self._leaving_because)

    def _save(self, now: Instant) -> None:
        """Save until the core has nothing more to save: what it hears of one save may bring about the next."""
        for _ in range(_SAVES_PER_TURN_MAX):
            save = self._core.unsaved()
            if save is None:
                return
            if self._journal is not None:
                (self._journal.replace if save.replaces else self._journal.append)(save.data)
                now = read_clocks()  # a disk may take its time
            self._core.on_saved(now)
        raise AssertionError(f"the core had more to save {_SAVES_PER_TURN_MAX} times in one turn")

    def _arm_timer(self) -> None:
        at_s = self._core.next_deadline()
        if at_s == self._timer_at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = None
        if at_s < _NEVER:
            self._timer = self._loop.call_later(max(0.0, at_s - read_clocks().seconds), self._on_timer)

    def _frames_of(self, message: Message, now: Instant) -> Iterator[bytes]:
        """Yield the frames of a message. One that is too long is lost, as on the way: others may have made it so."""
        try:
            for _, frame in frames(message):
                yield frame
        except LocalProtocolError as error:
            self.unsendable += 1
            if now.seconds >= self._grumbles_at_s:
                self._grumbles_at_s = now.seconds + _COMPLAIN_EVERY_S
                logger.error("a message is dropped (%d so far): %s", self.unsendable, error)

    # -- what should not be -----------------------------------------------------------------------------------

    def _on_bad_node_frame(self, error: RemoteProtocolError, now: Instant) -> None:
        """Count what is no message of a node. Nobody is answered: who sent it is not known."""
        self._bad_node_frames += 1
        if now.seconds >= self._complains_at_s:
            self._complains_at_s = now.seconds + _COMPLAIN_EVERY_S
            logger.warning("bad message on the address for other nodes (%d so far): %s", self._bad_node_frames, error)

    def _look_for_missed_signals(self) -> None:
        """Find work that the descriptors did not announce: a detector of bugs, which should count nothing."""
        if self._stopped.is_set():
            return
        for socket, handler in ((self._clients, self._on_clients), (self._nodes, self._on_nodes)):
            if not socket.is_signalled() and socket.has_more():  # else the loop just has not come to it yet
                self.missed_signals += 1
                logger.debug("node %s found frames that were not announced", self._core.name)
                handler()
        self._loop.call_later(_SAFETY_TICK_S, self._look_for_missed_signals)
