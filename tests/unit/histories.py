"""For tests of the checkers: histories from tables, from a real register, and a checker that tries every order."""

import random
from collections.abc import Hashable, Sequence
from itertools import permutations
from typing import Any, TypeAlias

from gimmal.testing.history import Ending, History, Kind, Operation, Row

Line: TypeAlias = tuple[str, Operation, Any, float, float | None]
"""Client, operation, result, begun at, ended at (None: nobody knows)."""


def history_of(*lines: Line) -> History:
    """Record a table; its lines may be in any order of time."""
    history = History()
    for client, operation, result, begun_at, ended_at in sorted(lines, key=lambda line: line[3]):
        token = history.begin(client, operation, begun_at)
        if ended_at is not None:
            history.end(token, result, ended_at)
    return history


class Register:
    """The keys of a store, as plainly as they can be written down: key -> (value, version)."""

    def __init__(self) -> None:
        self.records: dict[Hashable, tuple[Any, int]] = {}
        self._sequence = 0

    def run(self, operation: Operation) -> Any:
        """Carry an operation out and return its result; None for an increment of what is no integer."""
        kind, key, argument = operation
        record = self.records.get(key)
        match kind:
            case Kind.GET:
                return record[0] if record else None
            case Kind.GET_VERSIONED:
                return record
            case Kind.EXISTS:
                return record is not None
            case Kind.DELETE:
                return self.records.pop(key, None) is not None
            case Kind.INCR:
                before = record[0] if record else 0
                if type(before) is not int:
                    return None
                self._put(key, before + argument)
                return before + argument
        value = argument
        holds = kind == Kind.SET or (record is None if kind == Kind.SET_NX else record is not None)
        if kind == Kind.SET_IF_VERSION:
            value, version = argument
            holds = version == (record[1] if record else 0)
        if holds:
            self._put(key, value)
        return holds

    def _put(self, key: Hashable, value: Any) -> None:
        self._sequence += 1
        self.records[key] = (value, 100 + self._sequence)


def random_operation(dice: random.Random, key: Hashable, values: int, versions: Sequence[int]) -> Operation:
    """Return any operation, with one of so many values and one of some versions."""
    value = dice.randrange(1, values + 1)
    match dice.randrange(10):
        case 0 | 1:
            return Operation.set(key, value)
        case 2 | 3:
            return Operation.get(key)
        case 4:
            return Operation.get_versioned(key)
        case 5:
            return Operation.exists(key) if dice.random() < 0.5 else Operation.delete(key)
        case 6:
            return Operation.incr(key, dice.choice((1, 1, 2)))
        case 7:
            return Operation.set(key, value, nx=True)
        case 8:
            return Operation.set(key, value, xx=True)
        case _:
            return Operation.set(key, value, if_version=dice.choice(versions))


def plain_operation(dice: random.Random, key: Hashable, values: int, versions: Sequence[int]) -> Operation:
    """Return a set or a get."""
    return Operation.set(key, dice.randrange(1, values + 1)) if dice.random() < 0.5 else Operation.get(key)


def random_history(
    dice: random.Random, size: int, *, clients: int = 3, values: int = 3, unknown: float = 0.1, plain: bool = False
) -> History:
    """Return what clients of a real register see, each with one operation at a time, all on one key.

    So many of its operations, as a share, end with nobody knowing; half of these have happened, some long after.
    """
    history, register = History(), Register()
    choose = plain_operation if plain else random_operation
    free = list(range(clients))
    begun: list[tuple[int, int, Operation]] = []
    answered: list[tuple[int, int, Any]] = []
    late: list[Operation] = []
    now = 0.0
    while len(history) < size or begun or answered:
        now += dice.choice((0.0, 1.0))
        if late and dice.random() < 0.2:
            register.run(late.pop(dice.randrange(len(late))))
        if free and len(history) < size and dice.random() < 0.5:
            client = free.pop(dice.randrange(len(free)))
            operation = choose(dice, "k", values, (0, 101, 102, 103))
            begun.append((client, history.begin(client, operation, now), operation))
        elif begun and dice.random() < 0.5:
            client, token, operation = begun.pop(dice.randrange(len(begun)))
            if dice.random() < unknown:
                late += [operation] * (dice.random() < 0.5)
                free.append(client)
            else:
                answered.append((client, token, register.run(operation)))
        elif answered:
            client, token, result = answered.pop(dice.randrange(len(answered)))
            if result is None and history.row(token).operation.kind == Kind.INCR:
                history.fail(token, now)
            else:
                history.end(token, result, now)
            free.append(client)
    return history


def with_result(history: History, token: int, result: Any) -> History:
    """Return a copy in which one operation was answered otherwise."""
    copy = History()
    marks = [(history.begun(number), number, True) for number in range(len(history))]
    marks += [
        (history.ended(number), number, False)
        for number in range(len(history))
        if history.row(number).ending != Ending.OPEN
    ]
    tokens: dict[int, int] = {}
    for (now, _), number, begins in sorted(marks):
        row = history.row(number)
        if begins:
            tokens[number] = copy.begin(row.client, row.operation, now)
        elif row.ending == Ending.FAILED:
            copy.fail(tokens[number], now)
        else:
            copy.end(tokens[number], result if number == token else row.result, now)
    return copy


def is_linearizable_by_force(history: History) -> bool:
    """Try every order of every choice of the operations that may have happened. For one key, and small histories.

    Each write may have got any of the versions that are told, or none of them.
    """
    certain = [token for token in range(len(history)) if history.row(token).ending == Ending.ENDED]
    maybe = [
        token
        for token in range(len(history))
        if history.row(token).ending == Ending.OPEN and history.row(token).operation.kind > Kind.EXISTS
    ]
    for choice in range(1 << len(maybe)):
        chosen = certain + [token for place, token in enumerate(maybe) if choice >> place & 1]
        for order in permutations(chosen):
            if _keeps_time(history, order):
                rows = [history.row(token) for token in order]
                if _explains(rows, _told(rows)):
                    return True
    return False


def _keeps_time(history: History, order: Sequence[int]) -> bool:
    return all(
        history.ended(later) > history.begun(earlier)
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
        if history.row(later).ending == Ending.ENDED
    )


def _explains(
    rows: Sequence[Row], told: Sequence[int], record: tuple[Any, int] | None = None, given: frozenset[int] = frozenset()
) -> bool:
    """Run the rows on a key that holds `record`; each write gets a version that nobody else got: one that is told, or
    another."""
    if not rows:
        return True
    register = Register()
    if record is not None:
        register.records["k"] = record
    result = register.run(rows[0].operation)
    if rows[0].ending == Ending.ENDED and result != rows[0].result:
        return False
    after = register.records.get("k")
    if after is None or after is record:
        return _explains(rows[1:], told, after, given)
    versions = [*(version for version in told if version not in given), -len(rows)]
    return any(_explains(rows[1:], told, (after[0], version), given | {version}) for version in versions)


def _told(rows: Sequence[Row]) -> list[int]:
    told = {row.result[1] for row in rows if row.operation.kind == Kind.GET_VERSIONED and row.result}
    told |= {row.operation.argument[1] for row in rows if row.operation.kind == Kind.SET_IF_VERSION}
    return sorted(told - {0})
