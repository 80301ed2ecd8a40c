"""A record of what clients asked of a store and what they were told: the evidence for `check_linearizability`.

A row of the record is an operation on one key: who asked, what, from when to when, and how it ended:

- `end`: it was answered, and the answer is evidence.
- `fail`: it was surely not executed. It is not evidence of anything.
- `leave_open`, or nothing at all: nobody knows. It may take effect at any time after it began, or never.

`now` is in seconds, of one clock for the whole history that does not run backwards (`time.monotonic`, or the virtual
time of a simulation). Read it *before* an operation is sent and *after* its answer has come: the interval may be too
long, which weakens the evidence, and never too short, which would make it false. Where times are equal, the order of
the calls to this object decides.

Rows lie in columns, about 70 bytes each besides keys and values, and no object of its own for the garbage collector to
visit. The columns grow together under a lock, so threads may share a history, with or without a GIL; processes may not.

Not recorded: expiry and eviction. A key that may go away by itself has no history that could be checked.
"""

from array import array
from collections.abc import Hashable, Iterator
from enum import IntEnum
from threading import Lock
from typing import Any, Final, NamedTuple

from gimmal.errors import CommandError, DataLost, InvalidArgument, OperationTimeout, Unavailable

_NEVER: Final = float("inf")


class Kind(IntEnum):
    """What an operation does."""

    GET = 0
    GET_VERSIONED = 1
    EXISTS = 2
    SET = 3
    SET_NX = 4
    SET_XX = 5
    SET_IF_VERSION = 6
    DELETE = 7
    INCR = 8


class Ending(IntEnum):
    """How an operation ended, as far as is known."""

    OPEN = 0
    ENDED = 1
    FAILED = 2


class Operation(NamedTuple):
    """One operation on one key, with the parameters and results of the client's method of that name.

    Values are hashable and not None, which as a result means that there is no such key. They are compared as Python
    compares them: 1 equals True. A version is opaque: only whether two are equal counts, and 0 means absent.
    """

    kind: Kind
    key: Hashable
    argument: Any = None
    """The value of a set, (value, version) of one with `if_version`, the amount of an increment."""

    @staticmethod
    def get(key: Hashable) -> "Operation":
        """Ends with the value, or None."""
        return Operation(Kind.GET, key)

    @staticmethod
    def get_versioned(key: Hashable) -> "Operation":
        """Ends with (value, version), or None."""
        return Operation(Kind.GET_VERSIONED, key)

    @staticmethod
    def exists(key: Hashable) -> "Operation":
        """Ends with True or False."""
        return Operation(Kind.EXISTS, key)

    @staticmethod
    def set(
        key: Hashable, value: Hashable, *, nx: bool = False, xx: bool = False, if_version: Hashable = None
    ) -> "Operation":
        """Ends with True, or with False when its condition was not met. At most one condition.

        Raises:
            InvalidArgument: more than one condition, or a value that is None or not hashable.
        """
        if value is None:
            raise InvalidArgument("None cannot be a value of a history: there it means that there is no such key")
        _check_hashable(value)
        if nx + xx + (if_version is not None) > 1:
            raise InvalidArgument("a set in a history has one condition: nx, xx or if_version")
        if if_version is not None:
            return Operation(Kind.SET_IF_VERSION, key, (value, if_version))
        return Operation(Kind.SET_NX if nx else Kind.SET_XX if xx else Kind.SET, key, value)

    @staticmethod
    def delete(key: Hashable) -> "Operation":
        """Ends with True, or with False when there was no such key."""
        return Operation(Kind.DELETE, key)

    @staticmethod
    def incr(key: Hashable, amount: int = 1) -> "Operation":
        """Ends with the new number; a missing key counts as 0."""
        return Operation(Kind.INCR, key, amount)

    def __str__(self) -> str:
        match self.kind:
            case Kind.SET_IF_VERSION:
                value, version = self.argument
                return f"set {value!r} if_version={version!r}"
            case Kind.SET | Kind.SET_NX | Kind.SET_XX:
                return f"set {self.argument!r}{self.kind.name[3:].replace('_', ' ').lower()}"
            case Kind.INCR:
                return f"incr {self.argument}"
            case _:
                return self.kind.name.lower()


class Row(NamedTuple):
    """One operation of a history, as `History.row` returns it. `ended_at` is infinite while it is open."""

    client: Hashable
    operation: Operation
    begun_at: float
    ended_at: float
    ending: Ending
    result: Any


class History:
    """What was asked and answered, in the order in which it began. `len` counts operations.

    A token is the number of the operation's row.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients: list[Hashable] = []
        self._kinds = array("b")
        self._keys: list[Hashable] = []
        self._arguments: list[Any] = []
        self._begun_at = array("d")
        self._ended_at = array("d")
        self._begun_before_end = array("q")  # how many operations had begun when this one ended: settles equal times
        self._endings = array("b")
        self._results: list[Any] = []

    def begin(self, client: Hashable, operation: Operation, now: float) -> int:
        """Record that a client is about to send an operation, and return its token. `client` is any name for it."""
        kind, key, argument = operation
        with self._lock:
            token = len(self._keys)
            self._clients.append(client)
            self._kinds.append(kind)
            self._keys.append(key)
            self._arguments.append(argument)
            self._begun_at.append(now)
            self._ended_at.append(_NEVER)
            self._begun_before_end.append(0)
            self._endings.append(Ending.OPEN)
            self._results.append(None)
        return token

    def end(self, token: int, result: Hashable, now: float) -> None:
        """Record the answer to an operation: what the client's method returned.

        Raises:
            InvalidArgument: the operation has ended before, ends before it began, or the result is not hashable.
        """
        _check_hashable(result)
        with self._lock:
            self._close(token, Ending.ENDED, now)
            self._ended_at[token] = now
            self._results[token] = result

    def fail(self, token: int, now: float) -> None:
        """Record that an operation was surely not executed, and never will be.

        Raises:
            InvalidArgument: the operation has ended before, or ends before it began.
        """
        with self._lock:
            self._close(token, Ending.FAILED, now)
            self._ended_at[token] = now

    def leave_open(self, token: int) -> None:
        """Say that nobody knows how an operation ended. It is the same as saying nothing.

        Raises:
            InvalidArgument: the operation has ended before.
        """
        if self._endings[token] != Ending.OPEN:
            raise InvalidArgument(f"operation {token} has ended before: {self.row(token)}")

    def end_with_error(self, token: int, error: BaseException, now: float) -> None:
        """Record what a gimmal client raised: a refusal is a `fail`, all else leaves the operation open.

        So does `DataLost`: an attempt before it may have been carried out by a copy that was made to lead again.
        """
        refused = isinstance(error, CommandError | Unavailable) and not isinstance(error, DataLost)
        if refused or (isinstance(error, OperationTimeout) and not error.maybe_applied):
            self.fail(token, now)
        else:
            self.leave_open(token)

    def _close(self, token: int, ending: Ending, now: float) -> None:
        if self._endings[token] != Ending.OPEN:
            raise InvalidArgument(f"operation {token} has ended before: {self.row(token)}")
        if now < self._begun_at[token]:
            raise InvalidArgument(f"operation {token} cannot end at {now}, before it began: {self.row(token)}")
        self._endings[token] = ending
        self._begun_before_end[token] = len(self._keys)

    # -- reading --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, range(len(self)))

    def row(self, token: int) -> Row:
        """Return the row of a token."""
        operation = Operation(Kind(self._kinds[token]), self._keys[token], self._arguments[token])
        times = (self._begun_at[token], self._ended_at[token])
        return Row(self._clients[token], operation, *times, Ending(self._endings[token]), self._results[token])

    def by_key(self) -> dict[Hashable, list[int]]:
        """Return the tokens of each key's operations, in the order in which they were recorded."""
        tokens: dict[Hashable, list[int]] = {}
        for token, key in enumerate(self._keys):
            tokens.setdefault(key, []).append(token)
        return tokens

    def begun(self, token: int) -> tuple[float, int]:
        """Return when an operation began, comparable with `begun` and `ended` of others: never equal."""
        return self._begun_at[token], 2 * token + 1

    def ended(self, token: int) -> tuple[float, int]:
        """Return when an operation ended, comparable with `begun` of others: never equal."""
        return self._ended_at[token], 2 * self._begun_before_end[token]


def _check_hashable(value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        raise InvalidArgument(f"values in a history are hashable, such as str or int, not {value!r}") from None
