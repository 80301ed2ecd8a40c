"""Sees calls through for which no thread of the user waits: so that they are sent again, if need be, and answered.

The thread begins with the first of them, and ends with its exchange.
"""

import logging
import threading
import weakref
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from gimmal.client.calls import Call
from gimmal.errors import GimmalError

if TYPE_CHECKING:
    from gimmal.client.exchange import Exchange

logger = logging.getLogger("gimmal.client")


class Chores:
    """The calls of one exchange that are under way in the background."""

    def __init__(self, exchange: "Exchange") -> None:
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._exchange = weakref.ref(exchange, lambda _: self._calls.put(None))
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, call: Call[Any]) -> None:
        """Take on a call that was sent."""
        self._calls.put(call)
        with self._lock:
            if self._thread is None:
                arguments = self._calls, self._exchange
                self._thread = threading.Thread(target=_see_through, args=arguments, name="gimmal-chores", daemon=True)
                self._thread.start()

    def finish(self, timeout: float) -> None:
        """End the thread when it has seen the others through, and wait up to `timeout` seconds for that."""
        self._calls.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)


def _see_through(calls: "SimpleQueue[Call[Any] | None]", find: "weakref.ref[Exchange]") -> None:
    while (call := calls.get()) is not None:
        exchange = find()
        if exchange is None:
            return
        try:
            exchange.see_through(call)
        except GimmalError as error:
            logger.debug("nobody waits for this call, and it failed: %s", error)
        del exchange
