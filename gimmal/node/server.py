"""The shell of a node: one asyncio loop that feeds the core and carries out what it asks for.

A turn: drain the socket, read the clocks (after the drain: what is handled now was there by then), let the core
receive each message, tick, drain, send, and arm one timer for the core's next deadline. Nothing waits inside.
"""

import asyncio
import logging
import signal
import time
from random import SystemRandom
from typing import Any, Final

import zmq

from gimmal.cluster.table import Table
from gimmal.errors import ConfigError, RemoteProtocolError
from gimmal.leader.memory import MemoryLimits
from gimmal.node.core import NodeCore
from gimmal.node.transport import ClientSocket
from gimmal.types import Instant
from gimmal.wire.codec import FOR_NODES, decode, frames

logger = logging.getLogger("gimmal.node")

_SAFETY_TICK_S: Final = 0.1
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def read_clocks() -> Instant:
    """Return the two clocks of this machine; `seconds` goes on while the machine is suspended."""
    return Instant(time.clock_gettime(_CLOCK), time.time_ns() // 1_000_000)


class Server:
    """One running node. `run` returns after SIGTERM, SIGINT or `stop`."""

    def __init__(self, name: str, address: str, table: Table, memory_limits: MemoryLimits) -> None:
        self._name = name
        self._address = address
        self._core = NodeCore(name, table, memory_limits, SystemRandom(), read_clocks())
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._socket = ClientSocket(self._context, address)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ConfigError(
                f"node {name} cannot listen on {address}: {error.strerror}. "
                f"{'Is another node running there? ' if error.errno == zmq.EADDRINUSE else ''}"
                "Give it another address with --client"
            ) from None
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s: float | None = None
        self._broken_by: BaseException | None = None
        self.missed_signals = 0

    async def run(self) -> None:
        """Serve until told to stop."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
        self._loop.set_exception_handler(self._on_broken)
        descriptor = self._socket.fileno()
        self._loop.add_reader(descriptor, self._turn)
        self._loop.call_soon(self._turn)
        safety = self._loop.call_later(_SAFETY_TICK_S, self._look_for_missed_signals)
        logger.info("node %s serves clients on %s", self._name, self._address)
        try:
            await self._stopped.wait()
        finally:
            self._loop.remove_reader(descriptor)
            for timer in (safety, self._timer):
                if timer is not None:
                    timer.cancel()
            self._socket.close()
            self._context.term()
        if self._broken_by is not None:
            raise self._broken_by
        logger.info("node %s has stopped", self._name)

    def _on_broken(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Stop at an error nobody foresaw: a node whose state may be wrong must not go on serving it."""
        self._broken_by = context.get("exception") or RuntimeError(context["message"])
        self.stop(f"internal error: {self._broken_by!r}")

    def stop(self, cause: str = "stop()") -> None:
        """End `run` after the current turn."""
        logger.info("node %s is stopping: %s", self._name, cause)
        self._stopped.set()

    def _turn(self) -> None:
        if self._stopped.is_set():
            return
        received, has_more = self._socket.receive()
        now = read_clocks()
        core = self._core
        for peer, frame in received:
            try:
                if frame is None:
                    raise RemoteProtocolError("a message is one frame")
                message = decode(frame, FOR_NODES)
            except RemoteProtocolError as error:
                core.reject(peer, error, now)
                continue
            core.receive(peer, message, now)
        core.tick(now)
        outgoing = core.drain()
        for peer, text in core.complaints():
            logger.warning("client %s sent a bad message: %s", peer.hex(), text)
        for peer, answer in outgoing:
            for _, part in frames(answer):
                self._socket.send(peer, part)
        if has_more or (outgoing and self._socket.has_more()):
            self._loop.call_soon(self._turn)
        self._arm_timer()

    def _arm_timer(self) -> None:
        at_s = self._core.next_deadline()
        if at_s == self._timer_at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = None
        if at_s is not None:
            self._timer = self._loop.call_later(max(0.0, at_s - read_clocks().seconds), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = self._timer_at_s = None
        self._turn()

    def _look_for_missed_signals(self) -> None:
        """Find work that the descriptor did not announce: a detector of bugs, which should count nothing."""
        if self._stopped.is_set():
            return
        if self._socket.has_more():
            self.missed_signals += 1
            logger.debug("node %s found frames that were not announced", self._name)
            self._turn()
        self._loop.call_later(_SAFETY_TICK_S, self._look_for_missed_signals)
