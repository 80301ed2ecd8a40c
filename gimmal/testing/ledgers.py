"""Two ledgers: what must be in the store at the end, by what was acknowledged, refused, or never answered.

They need no search, so they check any number of operations by any number of clients at once, where linearizability
would cost too much; and they find what matters most: an acknowledged write that is gone. In both, `leave_open` is for
operations of which nobody knows whether they happened.

Threads may share a ledger: it changes under a lock.
"""

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final

from gimmal.errors import InvalidArgument
from gimmal.testing.violation import ConsistencyViolation

_SHOWN_MAX: Final = 8


@dataclass(frozen=True)
class CounterResult:
    """What `CounterLedger.check` found. Numbers are what was counted, not how often.

    `lost`: by how much the counter is below what was acknowledged. `phantoms`: by how much it is above that and all
    that could have happened besides. `duplicates`: totals that were returned for a step that another total includes.
    `impossible`: totals that were returned and lie outside of what the counter went through. `backwards`: pairs of
    totals, where the second was asked for after the first had been returned, and is not above it.
    """

    final: int
    least: int
    most: int
    lost: int
    phantoms: int
    duplicates: tuple[int, ...]
    impossible: tuple[int, ...]
    backwards: tuple[tuple[int, int], ...]

    def raise_if_wrong(self) -> None:
        """Return if the counter can be right.

        Raises:
            ConsistencyViolation: it cannot; the message says how it is wrong.
        """
        raise_for(
            f"the counter is {self.final}, and by what was answered it is from {self.least} to {self.most}",
            {
                "lost increments": self.lost,
                "increments that nobody asked for": self.phantoms,
                "totals returned that count the same step twice": self.duplicates,
                "totals returned that the counter never had": self.impossible,
                "totals returned and later not exceeded": self.backwards,
            },
        )


class CounterLedger:
    """The increments of one counter, each by 1 or more; it counts from `start`.

    Times are in seconds of one clock, as in `History`.
    """

    def __init__(self, start: int = 0) -> None:
        self._lock = Lock()
        self._start = start
        self._totals = array("q")
        self._amounts = array("q")
        self._begun_at = array("d")
        self._ended_at = array("d")
        self._open = 0

    def acknowledge(self, total: int, begun_at: float, ended_at: float, amount: int = 1) -> None:
        """Note an increment that was answered with the new total.

        Raises:
            InvalidArgument: the amount is less than 1.
        """
        _check_amount(amount)
        with self._lock:
            self._totals.append(total)
            self._amounts.append(amount)
            self._begun_at.append(begun_at)
            self._ended_at.append(ended_at)

    def leave_open(self, amount: int = 1) -> None:
        """Note an increment of which nobody knows whether it happened.

        Raises:
            InvalidArgument: the amount is less than 1.
        """
        _check_amount(amount)
        with self._lock:
            self._open += amount

    def check(self, final: int) -> CounterResult:
        """Compare with what the counter is at the end, when nothing that was left open can happen any more."""
        least = self._start + sum(self._amounts)
        most = least + self._open
        taken = self._start
        duplicates: list[int] = []
        impossible: list[int] = []
        for total, amount in sorted(zip(self._totals, self._amounts, strict=True)):
            if total - amount < self._start or total > max(final, least):
                impossible.append(total)
            elif total - amount < taken:
                duplicates.append(total)
            taken = max(taken, total)
        return CounterResult(
            final,
            least,
            most,
            max(0, least - final),
            max(0, final - most),
            tuple(dict.fromkeys(duplicates)),
            tuple(dict.fromkeys(impossible)),
            self._backwards(),
        )

    def _backwards(self) -> tuple[tuple[int, int], ...]:
        """Go through all beginnings in order, with the highest total returned before each."""
        count = len(self._totals)
        by_end = sorted(range(count), key=self._ended_at.__getitem__)
        by_begin = sorted(range(count), key=self._begun_at.__getitem__)
        found: list[tuple[int, int]] = []
        highest: int | None = None
        position = 0
        for number in by_begin:
            while position < count and self._ended_at[by_end[position]] < self._begun_at[number]:
                total = self._totals[by_end[position]]
                highest = total if highest is None else max(highest, total)
                position += 1
            if highest is not None and self._totals[number] <= highest:
                found.append((highest, self._totals[number]))
        return tuple(found)


@dataclass(frozen=True)
class SetResult:
    """What `SetLedger.check` found: elements, in the order in which they were noted or are there.

    `lost`: acknowledged, and not there. `phantoms`: there, and never written. `undead`: there, though every attempt
    to write them was refused. `duplicates`: there more than once.
    """

    elements: int
    lost: tuple[Hashable, ...]
    phantoms: tuple[Hashable, ...]
    undead: tuple[Hashable, ...]
    duplicates: tuple[Hashable, ...]

    def raise_if_wrong(self) -> None:
        """Return if the set can be right.

        Raises:
            ConsistencyViolation: it cannot; the message says how it is wrong.
        """
        raise_for(
            f"the set has {self.elements} elements",
            {
                "acknowledged and not there": self.lost,
                "there and never written": self.phantoms,
                "there though refused": self.undead,
                "there more than once": self.duplicates,
            },
        )


class SetLedger:
    """Elements that were written once each and never removed, such as keys set with `nx`.

    An element that was tried several times counts by its best answer: acknowledged, unknown, refused.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._acknowledged: dict[Hashable, None] = {}
        self._open: set[Hashable] = set()
        self._refused: set[Hashable] = set()

    def acknowledge(self, element: Hashable) -> None:
        """Note that an element was written."""
        with self._lock:
            self._acknowledged[element] = None

    def leave_open(self, element: Hashable) -> None:
        """Note that nobody knows whether an element was written."""
        with self._lock:
            self._open.add(element)

    def refuse(self, element: Hashable) -> None:
        """Note that an element was surely not written."""
        with self._lock:
            self._refused.add(element)

    def check(self, elements: Iterable[Hashable]) -> SetResult:
        """Compare with all elements that are there at the end."""
        counts = Counter(elements)
        unasked = [element for element in counts if element not in self._acknowledged and element not in self._open]
        return SetResult(
            counts.total(),
            tuple(element for element in self._acknowledged if element not in counts),
            tuple(element for element in unasked if element not in self._refused),
            tuple(element for element in unasked if element in self._refused),
            tuple(element for element, count in counts.items() if count > 1),
        )


def _check_amount(amount: int) -> None:
    if amount < 1:
        raise InvalidArgument(f"a counter ledger is for increments by 1 or more, not by {amount}")


def raise_for(summary: str, findings: Mapping[str, int | tuple[object, ...]]) -> None:
    """Raise a `ConsistencyViolation` that tells of all findings there are, if there are any."""
    lines = [f"  {what}: {_shown(found)}" for what, found in findings.items() if found]
    if lines:
        raise ConsistencyViolation("\n".join([summary, *lines]))


def _shown(found: int | tuple[object, ...]) -> str:
    if isinstance(found, int):
        return str(found)
    more = f", and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
    return f"{len(found)}: " + ", ".join(map(repr, found[:_SHOWN_MAX])) + more
