"""One call of a user while it is under way: the commands it became, and what has come back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from gimmal.errors import GimmalError
from gimmal.types import Command
from gimmal.wire import commands, queue_commands

T = TypeVar("T")

_OPEN: Any = object()

UNANSWERED: Final[Any] = _OPEN
"""What a `Survey` has for a part that nobody has answered yet."""


class Call(Generic[T]):
    """A call: one command per partition it touches, numbered from `first` on by the session.

    `decode` turns the results, in the order of `parts`, into what the user gets. `user_keys` (key on the wire ->
    key as given, part by part; None for calls on one key) is for errors. `is_any` says that every copy may answer,
    with what it has. `open_count` is the number of `results` still open; the session counts it down, in the one loop
    where a method call per answer would show. `late_count` is how often its answers were looked for in vain. `waits_s`
    is how long a node may take with its answer, because it waits for something itself; until `waits_until` no answer
    is late.
    """

    __slots__ = (
        "deadline",
        "decode",
        "errors",
        "first",
        "is_any",
        "is_write",
        "late_count",
        "open_count",
        "parts",
        "resend_at",
        "results",
        "stopper",
        "timeout",
        "user_keys",
        "waiter",
        "waits_s",
        "waits_until",
    )

    def __init__(
        self,
        parts: Sequence[tuple[int, Command]],
        decode: Callable[[list[Any]], T],
        user_keys: Iterable[Mapping[bytes, Any]] | None = None,
    ) -> None:
        self.parts = parts
        self.decode = decode
        self.user_keys = user_keys
        self.is_write: bool = bool(parts) and parts[0][1][0] >= commands.FIRST_WRITE
        self.results: list[Any] = [_OPEN] * len(parts)
        self.open_count = len(parts)
        self.errors: dict[int, GimmalError] | None = None
        self.is_any = False
        self.late_count = 0
        self.first = 0
        self.waits_s = self.waits_until = 0.0
        self.timeout = self.deadline = self.resend_at = 0.0
        self.waiter: Any = None
        self.stopper: Any = None

    @classmethod
    def of_onlooker(cls) -> "Call[None]":
        """Return a call for no key: it is done when a node has said what is new in the cluster."""
        call: Call[None] = Call((), lambda results: None)
        call.results, call.open_count = [_OPEN], 1
        return call

    @property
    def name(self) -> str:
        """The call's name, as users know it."""
        return commands.NAMES[self.parts[0][1][0]] if self.parts else "cluster"

    @property
    def is_done(self) -> bool:
        """Whether every part has its result or its error."""
        return self.open_count <= 0

    def fail(self, number: int, error: GimmalError) -> bool:
        """Take the error of operation `number`; True when that was the last one open."""
        if self.errors is None:
            self.errors = {}
        self.errors[number - self.first] = error
        self.results[number - self.first] = None
        self.open_count -= 1
        return self.open_count == 0

    def open_numbers(self) -> list[int]:
        """Return the numbers that still wait for an answer."""
        return [self.first + index for index, result in enumerate(self.results) if result is _OPEN]

    def outcome(self) -> T:
        """Return what the user gets, or raise the first error with `done` and `failed` filled in."""
        if self.errors is None:
            return self.decode(self.results)
        error = self.errors[min(self.errors)]
        if self.user_keys is not None:
            user_keys = {data: key for group in self.user_keys for data, key in group.items()}
            error.failed = {
                user_keys[key]: part_error
                for index, part_error in self.errors.items()
                for key in commands.keys_of(self.parts[index][1])
            }
            error.done = self._done(self.errors, user_keys)
        raise error

    def _done(self, errors: Mapping[int, GimmalError], user_keys: Mapping[bytes, Any]) -> Any:
        """Return what was achieved: found values of a read, the keys of a write."""
        if not self.is_write:
            return self.decode(self.results)
        return [
            user_keys[key]
            for index, (_, command) in enumerate(self.parts)
            if index not in errors
            for key in commands.keys_of(command)
        ]


class Survey(Call[list[Any]]):
    """A call of which each part succeeds or fails for itself: its outcome has a result or an error for each.

    With `is_race` it is done as soon as one part is; the others are `UNANSWERED`, unless their answers come along. Who
    started it then tells the session to forget it.
    """

    __slots__ = ()

    def __init__(self, parts: Sequence[tuple[int, Command]], waits_s: float = 0.0, *, is_race: bool = False) -> None:
        super().__init__(parts, list)
        self.waits_s = waits_s
        if is_race:
            self.open_count = min(1, len(parts))

    def cancellation(self) -> "Survey":
        """Return the call that ends the consumes of this one that are open."""
        parts = []
        for number in self.open_numbers():
            partition, (_, shard, group, (client, _), request, _) = self.parts[number - self.first]
            parts.append((partition, (queue_commands.CANCEL, shard, group, client, request)))
        return Survey(parts)

    def outcome(self) -> list[Any]:
        """Return what has come back so far, in the order of the parts."""
        errors = self.errors or {}
        return [errors.get(index, result) for index, result in enumerate(self.results)]


def with_wait(command: Command, wait_s: float) -> Command:
    """Return a CONSUME that waits for so many seconds; any other command as it is."""
    if command[0] != queue_commands.CONSUME:
        return command
    *before, (count, _, lease_ms) = command
    return (*before, (count, max(0, int(wait_s * 1000)), lease_ms))
