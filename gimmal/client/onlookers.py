"""Calls that ask for no key but for the cluster as a node knows it now: who is done when a table, or no news, arrives.

An onlooker is satisfied by an answer to a question that was asked after it began, whoever asked and whatever for; one
that was on its way already may be older than what the user has seen happen. When and whom to ask is decided by
`gimmal.client.table_search`.
"""

from collections.abc import Callable
from typing import Final

from gimmal.client.calls import Call
from gimmal.errors import GimmalError

_NEVER: Final = float("inf")


class Onlookers:
    """The calls of one client that wait for a look at the cluster. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Call[None]]] = []  # since when, in that order

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, call: Call[None], now: float) -> None:
        """Let a call wait."""
        self._waiting.append((now, call))

    def next_deadline(self) -> float:
        """Return the first deadline of those that wait; infinity if none does."""
        return min((call.deadline for _, call in self._waiting), default=_NEVER)

    def on_answer(self, asked_at: float) -> list[Call[None]]:
        """Take a node's answer to a question asked at `asked_at`; return the calls that are done now."""
        done = [call for since, call in self._waiting if since <= asked_at]
        for call in done:
            call.results[0] = None
            call.open_count = 0
        self._waiting = self._waiting[len(done) :]
        return done

    def fail(self, why: Callable[[Call[None]], GimmalError], now: float = _NEVER) -> list[Call[None]]:
        """End those whose deadline has come by `now`, or all; return them."""
        late = [call for _, call in self._waiting if call.deadline <= now]
        self._waiting = [(since, call) for since, call in self._waiting if call.deadline > now]
        return [call for call in late if call.fail(call.first, why(call))]
