"""Calls that need several trips: the steps of a plan, which both clients carry out in the same way.

A plan is a generator without I/O. It yields a `Call`, and is sent the outcome of it, or the error is thrown in; or it
yields an `Aside`, which is started and not waited for. What it returns is what the user gets. An error that
ends a plan may be answered with a last `Aside`: so what was begun is undone even by an interrupt or a cancelled task.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from gimmal.client.calls import Call
from gimmal.errors import GimmalError

T = TypeVar("T")

ASIDE_TIMEOUT_S: Final = 30.0
_LEAST_TIMEOUT_S: Final = 0.001


class Aside(NamedTuple):
    """A call for which nobody waits, tried for `ASIDE_TIMEOUT_S`. `ended` is one that is forgotten with it."""

    call: Call[Any]
    ended: Call[Any] | None = None


Plan: TypeAlias = Generator[Call[Any] | Aside, Any, T]


class Budget:
    """How long each call of a plan may take: all together `timeout` seconds, or each of them, if one of them waits."""

    def __init__(self, timeout: float, *, is_for_each: bool) -> None:
        self._timeout = timeout
        self._give_up_at = None if is_for_each else time.monotonic() + timeout

    def timeout_of(self, call: Call[Any]) -> float:
        """Return the timeout of the next call, in seconds."""
        if self._give_up_at is None:
            return self._timeout + call.waits_s
        return max(_LEAST_TIMEOUT_S, self._give_up_at - time.monotonic())


class Interrupted(GimmalError):
    """A consumer is to stop, so its consume ends without a message."""


class Stopper:
    """What ends a plan from another thread: the call that is under way is interrupted, and no other is started."""

    def __init__(self) -> None:
        self.is_stopped = False
        self.why = "the consumer was stopped"
        self._watched: tuple[Call[Any], Callable[[Call[Any], GimmalError], None]] | None = None

    def watch(self, call: Call[Any], interrupt: Callable[[Call[Any], GimmalError], None]) -> None:
        """Learn which call is next.

        Who starts it looks once more at `is_stopped`, where no interrupt can come between.
        """
        call.stopper = self
        self._watched = call, interrupt

    def stop(self) -> None:
        """Let the plan end with `Interrupted`."""
        self.is_stopped = True
        if self._watched is not None:
            call, interrupt = self._watched
            interrupt(call, Interrupted(self.why))
