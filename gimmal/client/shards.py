"""The shards of one queue as a client knows them, and how they are asked: declared first, and again if they are lost.

Shard 0 knows the settings of a queue, among them how many shards there are, so it is declared first. The others get
the full settings, all at once. What was declared by any handle of a client need not be declared by another one that
does not ask for other settings. A shard that says it knows no such queue has lost everything: it is declared again with
the settings that are known, and asked again. In the same way a consumer group comes back that a shard does not know.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from gimmal.client.attendance import Attendance
from gimmal.client.calls import Survey
from gimmal.client.queue_arguments import DEFAULT_GROUP, Place, Settings, name_text
from gimmal.client.steps import Plan
from gimmal.client.verdicts import NoGroup, NoQueue
from gimmal.errors import GimmalError, InvalidArgument, QueueSettingsMismatch, Unavailable
from gimmal.types import Command
from gimmal.wire import queue_commands as wire

if TYPE_CHECKING:
    from random import Random

_REPEATS_MAX: Final = 5
_LEASE_MS: Final = 1
_SHARDS: Final = 4
_DEFAULT_GROUP: Final = DEFAULT_GROUP.encode()


class Known:
    """What a client knows of a queue: its full settings, which shards it has declared, which groups it has created.

    `next_turn` says where the next message without a key goes, `starts` from which shard a group is consumed next.
    """

    def __init__(self, settings: tuple[int, ...], turn: int) -> None:
        self.settings = settings
        self.shards: set[int] = set()
        self.groups: set[bytes] = {_DEFAULT_GROUP}
        self.starts: dict[bytes, int] = {}
        self.first_start = turn
        self.next_turn = count(turn).__next__

    @property
    def count(self) -> int:
        """The number of shards."""
        return self.settings[_SHARDS]

    @property
    def lease_s(self) -> float:
        """How long a message is given to a consumer, unless it says otherwise; in seconds."""
        return self.settings[_LEASE_MS] / 1000


class Book:
    """What one client knows of queues, by name."""

    def __init__(self, dice: "Random") -> None:
        self.known_by_name: dict[bytes, Known] = {}
        self._dice = dice

    def enter(self, name: bytes, settings: tuple[int, ...]) -> Known:
        """Take in a queue that has been declared."""
        known = self.known_by_name[name] = Known(settings, self._dice.randrange(settings[_SHARDS]))
        known.shards.add(0)
        return known


class Shards:
    """The shards of the queue at a place, for a handle with the settings `given`."""

    def __init__(self, place: Place, given: Settings, book: Book) -> None:
        self.place = place
        self._given = given
        self._book = book

    @property
    def name(self) -> Any:
        """The queue's name, as users know it."""
        return name_text(self.place.name)

    @property
    def lease_s(self) -> float:
        """How long the queue gives a message to a consumer, in seconds; it has been declared."""
        return self._book.known_by_name[self.place.name].lease_s

    def part(self, at: Attendance, shard: int, command: Command) -> tuple[int, Command]:
        """Return a part of a call for a shard; the command is without the shard's key."""
        key = self.place.key(shard)
        return at.partition_of(key), (command[0], key, *command[1:])

    def partitions(self, at: Attendance, known: Known) -> list[int]:
        """Return the partitions of all shards."""
        return [at.partition_of(self.place.key(shard)) for shard in range(known.count)]

    # -- declaring ------------------------------------------------------------------------------------------------

    def declared(self, at: Attendance) -> Plan[Known]:
        """Return what is known of the queue, with all shards declared.

        Raises:
            QueueSettingsMismatch: the queue has other settings than those given.
        """
        known = self._book.known_by_name.get(self.place.name)
        if known is None or not self._agrees(known):
            (settings,) = yield from _results(Survey([self.part(at, 0, (wire.DECLARE, self._given))]))
            known = self._book.enter(self.place.name, settings)
        missing = [shard for shard in range(known.count) if shard not in known.shards]
        if missing:
            yield from self._declare(at, known, missing)
        return known

    def _agrees(self, known: Known) -> bool:
        return all(given in (None, stored) for given, stored in zip(self._given, known.settings, strict=True))

    def _declare(self, at: Attendance, known: Known, shards: Iterable[int]) -> Plan[None]:
        shards = list(shards)
        yield from _results(Survey([self.part(at, shard, (wire.DECLARE, known.settings)) for shard in shards]))
        known.shards.update(shards)

    def grouped(self, at: Attendance, known: Known, group: bytes) -> Plan[None]:
        """Have a consumer group in all shards before its first consume."""
        if group not in known.groups:
            yield from self._create(at, known, group, range(known.count))
            known.groups.add(group)

    def _create(self, at: Attendance, known: Known, group: bytes, shards: Iterable[int]) -> Plan[None]:
        yield from self.ask(at, known, [(shard, (wire.CREATE_GROUP, group)) for shard in shards])

    # -- asking ---------------------------------------------------------------------------------------------------

    def ask(self, at: Attendance, known: Known, wanted: Sequence[tuple[int, Command]]) -> Plan[list[Any]]:
        """Ask shards, (shard, command without its key), and return the results; raises the first error."""
        answers = yield from self.survey(at, known, wanted)
        for answer in answers:
            if isinstance(answer, GimmalError):
                raise answer
        return answers

    def survey(
        self, at: Attendance, known: Known, wanted: Sequence[tuple[int, Command]], group: bytes | None = None
    ) -> Plan[list[Any]]:
        """Ask shards, and return a result or an error for each.

        A group that only some shards know is created in the others, which are asked again.
        """
        answers: list[Any] = [None] * len(wanted)
        left = list(range(len(wanted)))
        for _ in range(_REPEATS_MAX):
            call = Survey([self.part(at, *wanted[index]) for index in left])
            yield call
            for index, answer in zip(left, call.outcome(), strict=True):
                answers[index] = answer
            lost = {wanted[index][0] for index in left if type(answers[index]) is NoQueue}
            groupless = {wanted[index][0] for index in left if type(answers[index]) is NoGroup}
            if group is None or groupless == {shard for shard, _ in wanted}:
                groupless = set()
            yield from self.repair(at, known, lost, groupless, group or b"")
            left = [
                index
                for index in left
                if type(answers[index]) is NoQueue or (type(answers[index]) is NoGroup and groupless)
            ]
            if not left:
                return answers
        raise Unavailable(f"queue {self.name!r} was declared {_REPEATS_MAX} times, and lost each time: ask again later")

    def repair(
        self, at: Attendance, known: Known, lost: Iterable[int], groupless: Iterable[int] = (), group: bytes = b""
    ) -> Plan[None]:
        """Declare shards again that have lost everything, and create a group again where it is not known."""
        lost, groupless = sorted(lost), sorted(groupless)
        if lost:
            known.shards.difference_update(lost)
            known.groups.intersection_update([_DEFAULT_GROUP])
            try:
                yield from self._declare(at, known, lost)
            except QueueSettingsMismatch:  # somebody else was faster, and wanted something else
                self._book.known_by_name.pop(self.place.name, None)
                raise
        if groupless:
            yield from self._create(at, known, group, groupless)

    def no_group(self, group: bytes) -> InvalidArgument:
        """Return the error for a group that does not exist."""
        return InvalidArgument(
            f"queue {self.name!r} has no consumer group {name_text(group)!r}: create it, or consume from it, first"
        )


def _results(call: Survey) -> Plan[list[Any]]:
    yield call
    answers = call.outcome()
    for answer in answers:
        if isinstance(answer, GimmalError):
            raise answer
    return answers
