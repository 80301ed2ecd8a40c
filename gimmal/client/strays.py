"""Answers that come for a consume that has ended: the messages in them must not stay in flight for nobody.

A consume that was sent twice may be answered twice. Mostly both answers say the same, and then there is nothing to do.
But if the first one was that there is nothing, or if all that it brought was settled before the second attempt arrived,
the second answer may bring messages of its own. They are given back, which is no failure of theirs.

Only numbers that were sent more than once are remembered, for as long as an answer may come.
"""

from typing import Any, Final

from gimmal.client.calls import UNANSWERED, Call
from gimmal.wire import limits, queue_commands

_KEPT_AFTER_S: Final = limits.TIMEOUT_MAX_S


class Strays:
    """The consumes of one client that were sent more than once, by number."""

    def __init__(self) -> None:
        self._call_by_number: dict[int, Call[Any]] = {}

    def on_resent(self, number: int, call: Call[Any]) -> None:
        """Learn that an operation was sent again."""
        if call.parts[number - call.first][1][0] == queue_commands.CONSUME:
            self._call_by_number[number] = call

    def on_answer(self, number: int, result: Any) -> Call[Any] | None:
        """Take an answer that nobody waits for; return the call that gives back what it brought."""
        call = self._call_by_number.get(number)
        if call is None or type(result) is not tuple:
            return None
        taken = call.results[number - call.first]
        known = {(row[0], row[1]) for row in taken} if taken is not UNANSWERED and taken else set()
        deliveries = tuple((row[0], row[1]) for row in result if (row[0], row[1]) not in known)
        if not deliveries:
            return None
        partition, (_, shard, group, *_) = call.parts[number - call.first]
        return Call(((partition, (queue_commands.RELEASE, shard, group, deliveries)),), list)

    def forget_old(self, now: float) -> None:
        """Drop those to which no answer will come any more."""
        if self._call_by_number:
            self._call_by_number = {
                number: call for number, call in self._call_by_number.items() if call.deadline + _KEPT_AFTER_S > now
            }
