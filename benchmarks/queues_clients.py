"""What every measured system offers to the queue rows: one queue, and a client that produces and consumes.

Everything is a coroutine, so that one loop drives all systems. Where a library has a blocking client, and that is
the faster one for a caller who waits for each answer, its calls are wrapped (`answered`): such a coroutine never
waits in the event loop, and costs some 0.1 us more than the call itself.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

from benchmarks.processes import LOOPBACK
from benchmarks.stores import Running

P = ParamSpec("P")
T = TypeVar("T")

POLL_S = 0.1


class ProgramMissingError(RuntimeError):
    """A program that a peer needs is not on this machine."""


class NotStartedError(RuntimeError):
    """A peer did not start in time."""


async def nothing() -> None:
    """Do nothing: for clients that have nothing to tidy up."""


@dataclass(frozen=True, slots=True)
class QueueClient:
    """A connected client of one queue. A delivery is whatever its library gives out, and takes back in `ack`.

    `produce` and `produce_many` return when everything is confirmed as the system promises it. `consume` takes how many
    seconds it may wait, `consume_many` how many messages at most and how long. `tidy` is called when the queue is
    empty, outside of what is timed.
    """

    produce: Callable[[bytes], Coroutine[Any, Any, object]]
    produce_many: Callable[[Sequence[bytes]], Awaitable[object]]
    consume: Callable[[float], Awaitable[Any]]
    consume_many: Callable[[int, float], Awaitable[Sequence[Any]]]
    payload_of: Callable[[Any], bytes]
    ack: Callable[[Any], Coroutine[Any, Any, object]]
    ack_many: Callable[[Sequence[Any]], Awaitable[object]]
    close: Callable[[], Awaitable[object]]
    tidy: Callable[[], Awaitable[object]] = nothing


class QueueSystem(Running, Protocol):
    """A running system of one kind."""

    @property
    def note(self) -> str:
        """Return what a reader of the table has to know, or nothing."""

    async def connect(self, queue: str, *, batch: int, is_serial: bool) -> QueueClient:
        """Connect a client, and create the queue if need be.

        It consumes `batch` messages at a time. With `is_serial` one caller uses it, who waits for each answer.
        """

    def idle(self, queue: str, count: int) -> AbstractAsyncContextManager[int]:
        """Let so many consumers wait for messages that never come; give the process id of the queue's owner."""


def answered(call: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a blocking call as a coroutine that has its answer when it is awaited."""

    async def answer(*arguments: P.args, **named: P.kwargs) -> T:
        return call(*arguments, **named)

    return answer


async def end_all(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def listens(port: int) -> bool:
    """Tell whether somebody takes connections at a port of loopback."""
    with socket.socket() as trial:
        return trial.connect_ex((LOOPBACK, port)) == 0


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Poll until the condition holds.

    Raises:
        NotStartedError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotStartedError(f"after {timeout_s:.0f} s still waiting until {what}")
        time.sleep(POLL_S)
