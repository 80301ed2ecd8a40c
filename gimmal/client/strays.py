"""Answers that come for a consume that has ended: the messages in them must not stay in flight for nobody.

A consume that was sent twice may be answered twice. Mostly both answers say the same, and then there is nothing to do.
But if the first one was that there is nothing, or if all that it brought was settled before the second attempt arrived,
the second answer may bring messages of its own. And the word that a consume was given up may overtake the consume, when
connections change. What comes in these ways is given back, which is no failure of the messages.

Only numbers to which that may happen are remembered, for as long as an answer may come.
"""

from typing import Any, Final

from gimmal.client.calls import UNANSWERED, Call
from gimmal.wire import limits, queue_commands

_KEPT_FOR_S: Final = 10.0


class Strays:
    """The consumes of one client that were sent more than once, or given up, by number. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._call_by_number: dict[int, tuple[Call[Any], float]] = {}

    def on_resent(self, number: int, call: Call[Any]) -> None:
        """Learn that an operation was sent again."""
        self._keep(number, call, call.deadline + limits.TIMEOUT_MAX_S)

    def on_given_up(self, call: Call[Any], now: float) -> None:
        """Learn that nobody waits for what is open of a call, or has failed."""
        until = max(now, call.waits_until) + _KEPT_FOR_S
        for number in [*call.open_numbers(), *(call.first + index for index in call.errors or ())]:
            self._keep(number, call, until)

    def _keep(self, number: int, call: Call[Any], until: float) -> None:
        if call.parts[number - call.first][1][0] == queue_commands.CONSUME:
            _, known_until = self._call_by_number.get(number, (call, until))
            self._call_by_number[number] = call, max(until, known_until)

    def on_answer(self, number: int, result: Any) -> Call[Any] | None:
        """Take an answer that nobody waits for; return the call that gives back what it brought."""
        call, _ = self._call_by_number.get(number, (None, 0.0))
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
            known = self._call_by_number.items()
            self._call_by_number = {number: (call, until) for number, (call, until) in known if until > now}
