"""Suspicion: how long a member that somebody found silent has to speak up.

A single accuser may be the slow one, so his word alone gives the member long; each further member that found it silent
by its own probe shortens that (Lifeguard, Dadgar, Phillips and Currey 2017, "LHA-Suspicion"). The time shrinks with
the logarithm of their number: the first confirmation counts most.

Nobody is given up unheard. Before the end the member is called, several times, one interval apart, with the accusation
in the call; and after the last call there is always an interval for its answer, even if a confirmation has
shortened the suspicion to nothing. So a refutation that was lost on its way to one node costs some pings, not a false
death.

Accusers come first. A node that has only heard of a suspicion waits longer, and all its calls come after the time at
which an accuser would have given the member up: if the member is dead, it hears so from them, and if it is not, many
more messages must be lost before it errs. Of n nodes that all run a clock, only the few that saw something decide.

Pure: it is told the time and says when it wants to be looked at.
"""

from math import inf, log
from typing import NamedTuple


class Terms(NamedTuple):
    """How long a suspicion lasts: `least_s` when `confirmations` have come, `most_s` with none.

    An accuser calls the member `calls` times before that ends, others `hearsay_calls` times after; `interval_s` is the
    time from a call to the next, or to the end.
    """

    least_s: float
    most_s: float
    confirmations: int
    calls: int
    hearsay_calls: int
    interval_s: float


def length_s(confirmed: int, terms: Terms) -> float:
    """Return how long a suspicion lasts that `confirmed` members beyond the first accuser share."""
    if confirmed >= terms.confirmations:
        return terms.least_s
    return terms.most_s - (terms.most_s - terms.least_s) * log(confirmed + 1) / log(terms.confirmations + 1)


class Suspicion:
    """The suspicion of one statement of one member. `accusers` is never empty and has no name twice.

    `is_own` says whether we found the member silent ourselves.
    """

    __slots__ = ("_began_at", "_called_at", "_calls_left", "_is_own", "_terms", "accusers", "due_at")

    def __init__(self, accuser: str, terms: Terms, now: float, *, is_own: bool) -> None:
        self.accusers: tuple[str, ...] = (accuser,)
        self.due_at = now
        self._terms = terms
        self._is_own = is_own
        self._began_at = now
        self._called_at = -inf
        self._calls_left = terms.calls if is_own else terms.hearsay_calls
        self._schedule()

    def confirm(self, accuser: str, now: float, *, is_own: bool) -> bool:
        """Count an accuser; False when that is no news, or more than makes a difference."""
        if accuser in self.accusers or len(self.accusers) > self._terms.confirmations:
            return False
        self.accusers += (accuser,)
        if is_own:
            self._is_own = True
            self._calls_left = min(self._calls_left, self._terms.calls)
        self._schedule()
        self.due_at = max(self.due_at, now)
        return True

    def is_over(self, now: float) -> bool:
        """Say whether the member is to be given up now."""
        return not self._calls_left and now >= self.due_at

    def on_called(self, now: float) -> None:
        """Note that the member has been called."""
        self._called_at = now
        self._calls_left = max(0, self._calls_left - 1)
        self._schedule()

    def postpone(self, seconds: float) -> None:
        """Leave out some time in which we could not have heard the member."""
        self._began_at += seconds
        self._called_at += seconds
        self._schedule()

    def _schedule(self) -> None:
        """Set `due_at`: when the member is to be called next, or given up."""
        terms = self._terms
        ends_at = self._began_at + length_s(len(self.accusers) - 1, terms)
        if not self._is_own:
            ends_at += terms.hearsay_calls * terms.interval_s
        self.due_at = max(ends_at - self._calls_left * terms.interval_s, self._called_at + terms.interval_s)
