"""The history of one key, made ready for the search: a list of events, and what is under way at each.

An **event** is the number of an operation when it begins, and its complement (`~number`) when its answer comes. An
operation that was never answered has no second event; if it only reads, it is left out altogether.

What holds of unanswered writes keeps the search small:

- Two that do the same are interchangeable once both have begun, so they form an `OpenGroup`, used up in order.
- One need not take effect before somebody is about to see it. In a key's history that has nothing but unconditional
  sets and deletes, and reads of values (it is then **plain**), only who reads the value can see it.
- In other histories the key's being there may be seen too, or a number by what was added to it. A value that nobody
  was told is as good as any other.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from gimmal.testing import register
from gimmal.testing.history import Ending, History, Kind
from gimmal.testing.register import OBSERVING, PURE, Step, answered, named_version, unanswered

RESTLESS: Final = 0
QUIET: Final = 1
SETTLED: Final = 2

_READING: Final = (Kind.GET, Kind.GET_VERSIONED, Kind.EXISTS)
_VERSIONED: Final = frozenset((register.read_version, register.write_version, register.other_version))
_SEEING_PRESENCE: Final = frozenset(
    (
        *(register.present, register.remove, register.write_present),
        *(register.other_version, register.write_version),
    )
)
_PLAIN: Final = frozenset((register.write, register.remove, register.read, register.read_version, register.impossible))


class _Unseen:
    """Stands for all values that nobody was told."""

    def __repr__(self) -> str:
        return "(a value that nobody was told)"


_UNSEEN: Final = _Unseen()


class OpenGroup(NamedTuple):
    """Unanswered writes that do the same: the event at which each began, and its bit, in order."""

    step: Step
    members: list[tuple[int, int]]


class Timeline:
    """The events of one key. Lists are by number of operation, or by event where the name ends in `_at`."""

    def __init__(self, history: History, tokens: Iterable[int]) -> None:
        self.tokens: list[int] = []
        self.steps: list[Step] = []
        self.is_open: list[bool] = []
        for token in tokens:
            row = history.row(token)
            kind, _, argument = row.operation
            if row.ending == Ending.ENDED:
                self._add(token, answered(kind, argument, row.result), is_open=False)
            elif row.ending == Ending.OPEN and kind not in _READING:
                self._add(token, unanswered(kind, argument), is_open=True)
        self._forget_unseen_values()
        self.is_pure = [step.effect in PURE for step in self.steps]
        self.named = [named_version(step) for step in self.steps]
        self.has_versions = any(step.effect in _VERSIONED for step in self.steps)
        self.is_plain = all(
            step.effect in _PLAIN and not (step.effect is register.remove and not is_open)
            for step, is_open in zip(self.steps, self.is_open, strict=True)
        )
        seen = {step.argument for step in self.steps if step.effect in OBSERVING}
        self.is_idle = [
            self.is_plain and step.effect is register.write and step.argument not in seen for step in self.steps
        ]
        """An answered set that nobody saw the value of: in a plain history any place among the others will do."""
        marks = [(history.begun(token), number) for number, token in enumerate(self.tokens)]
        marks += [
            (history.ended(token), ~number) for number, token in enumerate(self.tokens) if not self.is_open[number]
        ]
        marks.sort()
        self.events = [event for _, event in marks]
        self.bits = [0] * len(self.tokens)
        self.others_at: list[tuple[int, ...]] = [()] * len(self.events)
        """At an answer: the other operations under way that will be answered."""
        self.rest_at = bytearray(len(self.events))
        """RESTLESS, or QUIET when nothing that will be answered is under way any more, or SETTLED when moreover the
        last operation was alone and says what the state is, so that all before it is of no importance."""
        self.first_open_at = len(self.events)
        self.first_told: dict[Hashable, int] = {}
        """Version -> the first event at which somebody who had named it was answered."""
        self._lay_out()
        self.open_groups: dict[Step, OpenGroup] = {}
        amounts = [step.argument for step in self.steps if step.effect is register.add]
        self._open_sums = (
            sum(amount for amount in amounts if amount < 0),
            sum(amount for amount in amounts if amount > 0),
        )
        self.open_named: dict[Hashable, int] = {}
        """Version -> the bits of unanswered writes that name it."""
        self._group_open()

    def _add(self, token: int, step: Step, *, is_open: bool) -> None:
        self.tokens.append(token)
        self.steps.append(step)
        self.is_open.append(is_open)

    def _forget_unseen_values(self) -> None:
        seen: dict[Any, None] = {}
        for step in self.steps:
            if step.effect in OBSERVING:
                seen[step.argument] = None
            elif step.effect in (register.add, register.add_to):
                return  # a value may be seen through what was added to it
        for number, step in enumerate(self.steps):
            if self.is_open[number] and step.effect is not register.remove and step.argument not in seen:
                self.steps[number] = step._replace(argument=_UNSEEN)

    def _lay_out(self) -> None:
        """Walk the events: give each operation a bit that is its own while it is under way."""
        active: dict[int, None] = {}
        free: list[int] = []
        for at, event in enumerate(self.events):
            number = event if event >= 0 else ~event
            if self.is_open[number]:
                self.first_open_at = min(self.first_open_at, at)
            elif event >= 0:
                self.bits[number] = free.pop() if free else 1 << len(active)
                active[number] = None
            else:
                del active[number]
                free.append(self.bits[number])
                self.others_at[at] = tuple(active)
                if not active:
                    self.rest_at[at] = SETTLED if self._settles(at, number) else QUIET
                if self.named[number] is not None:
                    self.first_told.setdefault(self.named[number], at)

    def _settles(self, at: int, number: int) -> bool:
        alone = self.events[at - 1] == number and (at < 2 or self.rest_at[at - 2] != RESTLESS)
        told = not self.is_pure[number] or (self.steps[number].effect is register.read and not self.has_versions)
        return alone and told

    def _group_open(self) -> None:
        bit = 1
        for at, event in enumerate(self.events):
            if event >= 0 and self.is_open[event]:
                step = self.steps[event]
                self.open_groups.setdefault(step, OpenGroup(step, [])).members.append((at, bit))
                if self.named[event] is not None:
                    self.open_named[self.named[event]] = self.open_named.get(self.named[event], 0) | bit
                bit <<= 1

    def needed_until(self, until: int) -> dict[Hashable, int]:
        """Return, for each value that is written just once, the event at which its last reader began.

        Only readers count that are answered before event `until`.
        """
        if any(step.effect is register.add for step in self.steps):
            return {}  # its outcome could be any number
        writes = Counter(step.answer if step.effect is register.add_to else step.argument for step in self._writes())
        begun_at: dict[int, int] = {}
        needed: dict[Hashable, int] = {}
        for at, event in enumerate(self.events[:until]):
            if event >= 0:
                begun_at[event] = at
            elif (value := _wanted_value(self.steps[~event])) not in (None, 0) and writes[value] == 1:
                needed[value] = max(begun_at[~event], needed.get(value, 0))
        return needed

    def first_invention(self) -> int | None:
        """Return the event at which somebody was answered with a value that nobody wrote, if there is one."""
        if any(step.effect is register.add for step in self.steps):
            return None
        written = {
            None,
            0,
            *(step.answer if step.effect is register.add_to else step.argument for step in self._writes()),
        }
        for at, event in enumerate(self.events):
            if event < 0 and _wanted_value(self.steps[~event]) not in written:
                return at
        return None

    def _writes(self) -> Iterator[Step]:
        return (step for step in self.steps if step.effect not in PURE and step.effect is not register.remove)

    def wanted(self, waiting: Sequence[Step]) -> list[OpenGroup]:
        """Return the unanswered writes that could matter to the next of these steps, also by way of each other."""
        values = dict.fromkeys(_wanted_value(step) for step in waiting)
        if self.is_plain:
            steps = (Step(register.remove) if value is None else Step(register.write, value) for value in values)
            return [self.open_groups[step] for step in steps if step in self.open_groups]
        least, most = self._open_sums
        numbers = [value for value in values if type(value) is int]

        def is_wanted(step: Step) -> bool:
            value = step.argument
            if step.effect in (register.add, register.remove) or value in values:
                return True
            return type(value) is int and any(least <= number - value <= most for number in numbers)

        groups = list(self.open_groups.values())
        found = [group for group in groups if is_wanted(group.step)]
        presence = any(step.effect in _SEEING_PRESENCE for step in waiting)
        if presence or any(group.step.effect in _SEEING_PRESENCE - {register.remove} for group in found):
            return groups
        return found


def _wanted_value(step: Step) -> Hashable:
    """Return the value that a step asks for, if any."""
    value: Hashable = None
    if step.effect in OBSERVING:
        value = step.argument
    elif step.effect is register.add_to:
        value = step.answer - step.argument
    return value
