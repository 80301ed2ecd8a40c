"""Whether a history could come from a store in which every operation takes effect at one instant while it runs.

Such a history is *linearizable* (Herlihy and Wing 1990), and it is so when the history of each key is. So keys are
checked one by one, which is what makes checking feasible: the cost can double with each operation under way at once.

- A key is absent before its first operation: record the write that prepares it.
- `timeline` says what is left out and cut, `search` how orders are tried, `register` what is right.
- A budget ends a search that takes too long. Its key is then listed as undecided, and that never passes for right.

Sources: M. Herlihy and J. Wing, "Linearizability: A Correctness Condition for Concurrent Objects", ACM TOPLAS 12
(1990). A. Horn and D. Kroening, "Faster Linearizability Checking via P-Compositionality", FORTE 2015 (keys one by one).
Those of the search are in `search`.
"""

from collections.abc import Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from gimmal.testing.history import History, Row
from gimmal.testing.search import START, Configuration, Search
from gimmal.testing.timeline import RESTLESS, Timeline
from gimmal.testing.violation import ConsistencyViolation, Undecided

STEPS_MAX: Final = 1_000_000
_WINDOW_MAX: Final = 12
_EARLIER_MAX: Final = 3
_OPEN_SHOWN_MAX: Final = 8
_VIOLATIONS_SHOWN_MAX: Final = 3


@dataclass(frozen=True)
class KeyViolation:
    """Why one key's history is not linearizable: no order of its operations up to `culprit`'s answer explains all.

    `window` is the shortest piece of the history that shows it: from the last instant before `culprit` at which
    nothing was under way, or, where that is long ago, what was under way with it. Before the window the key could hold
    one of `possible` (None: absent), which is empty when that took too long to find out. `earlier` are the last
    operations before the window, and `unknown` are the writes before its end whose outcome nobody knows.
    """

    key: Hashable
    culprit: Row
    window: tuple[Row, ...]
    possible: tuple[Hashable, ...]
    earlier: tuple[Row, ...]
    unknown: tuple[Row, ...]

    def __str__(self) -> str:
        lines = [f"key {self.key!r}: no order of its operations explains {_line(self.culprit).strip()}"]
        if self.earlier:
            lines += ["  before that, at last:", *map(_line, self.earlier)]
        if self.possible:
            values = ("nothing" if value is None else repr(value) for value in self.possible)
            lines.append(f"  so the key could hold: {' or '.join(values)}; then:")
        else:
            lines.append("  what the key could hold then is not known; then:")
        lines += map(_line, self.window)
        if self.unknown:
            lines += ["  and of these writes nobody knows the outcome:", *map(_line, self.unknown[-_OPEN_SHOWN_MAX:])]
            if len(self.unknown) > _OPEN_SHOWN_MAX:
                lines.append(f"    ... and of {len(self.unknown) - _OPEN_SHOWN_MAX} earlier ones")
        return "\n".join(lines)


@dataclass(frozen=True)
class Linearizability:
    """What `check_linearizability` found. It is right when there is neither a violation nor an undecided key."""

    operations: int
    keys: int
    violations: tuple[KeyViolation, ...]
    undecided: tuple[Hashable, ...]

    def raise_if_wrong(self) -> None:
        """Return if every key's history is linearizable.

        Raises:
            ConsistencyViolation: one is not; the message shows why.
            Undecided: for some the budget was too small.
        """
        if self.violations:
            shown = "\n".join(map(str, self.violations[:_VIOLATIONS_SHOWN_MAX]))
            count = f"{len(self.violations)} of {self.keys} keys are not linearizable"
            raise ConsistencyViolation(f"{count} ({self.operations} operations)\n{shown}")
        if self.undecided:
            keys = ", ".join(map(repr, self.undecided[:_OPEN_SHOWN_MAX]))
            raise Undecided(
                f"{len(self.undecided)} of {self.keys} keys took more than the budget: {keys}. Raise max_steps, or "
                "let fewer operations on one key be under way at once"
            )


def check_linearizability(history: History, *, max_steps: int = STEPS_MAX) -> Linearizability:
    """Check every key of a history.

    `max_steps` bounds the search for each key: so many configurations beyond the one that each of its events needs. A
    million take from five to twenty seconds, and some 300 MB.
    """
    violations = []
    undecided = []
    by_key = history.by_key()
    for key, tokens in by_key.items():
        timeline = Timeline(history, tokens)
        try:
            failure = _first_failure(timeline, max_steps)
            if failure is not None:
                violations.append(_explain(history, key, timeline, failure, max_steps))
        except Undecided:
            undecided.append(key)
    return Linearizability(len(history), len(by_key), tuple(violations), tuple(undecided))


class _Failure(NamedTuple):
    """The event that cannot be passed, and a configuration to start from on the way there."""

    at: int
    settled: Configuration


def _first_failure(timeline: Timeline, max_steps: int) -> _Failure | None:
    """Return the first event up to which there is no order, or None."""
    invention = timeline.first_invention()
    end = len(timeline.events) if invention is None else invention
    search = Search(timeline, max_steps, end)
    try:
        if search.succeeds():
            return None if invention is None else _Failure(invention, search.settled)
    except Undecided:
        if invention is None:
            raise
        return _Failure(invention, search.settled)
    # The search looks ahead, so it may have failed long before people would see why.
    passed, failed, stride = search.furthest, end, 1
    with suppress(Undecided):  # then what is shown is longer than it need be
        while failed - passed > 1:
            until = min(passed + stride, (passed + failed) // 2)
            if Search(timeline, max_steps, until, search.settled).succeeds():
                passed = until
                stride *= 2
            else:
                failed = until
    return _Failure(failed - 1, search.settled)


def _explain(history: History, key: Hashable, timeline: Timeline, failure: _Failure, max_steps: int) -> KeyViolation:
    """Show a failure to people."""
    failed_at, settled = failure
    culprit = ~timeline.events[failed_at]
    begun_at = timeline.events.index(culprit, 0, failed_at)
    start = begun_at
    while start and timeline.rest_at[start - 1] == RESTLESS:
        start -= 1
    if failed_at - start > 2 * _WINDOW_MAX:
        start = begun_at
    before, during = timeline.events[:start], timeline.events[start : failed_at + 1]
    known = [number for number in range(len(timeline.tokens)) if not timeline.is_open[number]]
    ended = {~event for event in before if event < 0}
    begun = {event for event in (*before, *during) if event >= 0}
    earlier = [~event for event in before if event < 0][-_EARLIER_MAX:]
    unknown = [number for number in range(len(timeline.tokens)) if timeline.is_open[number] and number in begun]
    try:
        states = Search(timeline, max_steps, start, settled if settled[0] <= start else START).last_states()
    except Undecided:
        states = []

    def rows(numbers: Iterable[int]) -> tuple[Row, ...]:
        return tuple(history.row(timeline.tokens[number]) for number in numbers)

    return KeyViolation(
        key,
        history.row(timeline.tokens[culprit]),
        rows(number for number in known if number in begun and number not in ended),
        tuple(dict.fromkeys(value for value, _ in states)),
        rows(earlier),
        rows(unknown),
    )


def _line(row: Row) -> str:
    until = f"{row.ended_at:.6f}" if row.ended_at < float("inf") else "open"
    answer = f" -> {row.result!r}" if row.ended_at < float("inf") else ""
    return f"    {row.begun_at:.6f} to {until}  {row.client}: {row.operation}{answer}"
