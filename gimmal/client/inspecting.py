"""Looking at a queue, and what is done to it as a whole: counts, dead letters, consumer groups."""

from collections.abc import Callable
from typing import Any, Final

from gimmal.client.attendance import Attendance
from gimmal.client.queue_arguments import name_text
from gimmal.client.queue_types import DeadLetter, Failure
from gimmal.client.shards import Known, Shards
from gimmal.client.steps import Plan
from gimmal.client.verdicts import NoGroup
from gimmal.errors import GimmalError
from gimmal.types import Command
from gimmal.wire import limits
from gimmal.wire import queue_commands as wire

_COUNTS: Final = ("pending", "in_progress", "completed", "dead_letter", "delayed", "redelivered")
LETTERS_MAX: Final = 400
"""Dead letters that one shard is asked for at once: with all that is told of them they fit into one message."""


def _in_group(shards: Shards, at: Attendance, known: Known, group: bytes, *rest: Any) -> Plan[list[Any]]:
    """Ask all shards about a group, (code, details...), and return the results."""
    code, *details = rest
    command: Command = (code, group, *details)
    answers = yield from shards.survey(at, known, [(shard, command) for shard in range(known.count)], group)
    for answer in answers:
        if isinstance(answer, NoGroup):
            raise shards.no_group(group) from None
        if isinstance(answer, GimmalError):
            raise answer
    return answers


def stats(shards: Shards, at: Attendance, group: bytes) -> Plan[dict[str, Any]]:
    """Return the counts of a group over all shards, and the age of its oldest message in seconds."""
    known = yield from shards.declared(at)
    answers = yield from _in_group(shards, at, known, group, wire.QUEUE_STATS)
    found: dict[str, Any] = {name: sum(answer[index] for answer in answers) for index, name in enumerate(_COUNTS)}
    return found | {"oldest_age": max(answer[len(_COUNTS)] for answer in answers) / 1000}


def dead_letters(
    shards: Shards, at: Attendance, group: bytes, limit: int, decode: Callable[[bytes], Any]
) -> Plan[list[DeadLetter]]:
    """Return dead letters of a group, those first that died first."""
    known = yield from shards.declared(at)
    answers = yield from _in_group(shards, at, known, group, wire.DEAD_LETTERS, min(limit, LETTERS_MAX))
    letters = [_letter(shard, row, decode) for shard, answer in enumerate(answers) for row in answer]
    return sorted(letters, key=lambda letter: letter.last_failure)[:limit]


def _letter(shard: int, row: Any, decode: Callable[[bytes], Any]) -> DeadLetter:
    number, payload, created_ms, attempts, retries, failures = row
    history = tuple(Failure(_text(consumer), cause, _text(text), ms / 1000) for consumer, cause, text, ms in failures)
    first, last = history[0], history[-1]
    return DeadLetter(
        id=f"{shard}-{number}",
        payload=decode(payload),
        created_at=created_ms / 1000,
        attempts=attempts,
        retry_count=retries,
        reason=last.reason,
        error=last.error,
        first_failure=first.at,
        last_failure=last.at,
        consumer=last.consumer,
        history=history,
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def redrive(shards: Shards, at: Attendance, group: bytes, limit: int | None) -> Plan[int]:
    """Let dead letters be ready again; return how many. With a limit shards are asked one after the other."""
    known = yield from shards.declared(at)
    if limit is None:
        return sum((yield from _in_group(shards, at, known, group, wire.REDRIVE, limits.INTEGER_MAX)))
    yield from _in_group(shards, at, known, group, wire.QUEUE_STATS)  # is there such a group?
    count = 0
    for shard in range(known.count):
        if count < limit:
            (moved,) = yield from shards.ask(at, known, [(shard, (wire.REDRIVE, group, limit - count))])
            count += moved
    return count


def purge(shards: Shards, at: Attendance, group: bytes) -> Plan[int]:
    """Drop all dead letters of a group; return how many there were."""
    known = yield from shards.declared(at)
    return sum((yield from _in_group(shards, at, known, group, wire.PURGE, limits.INTEGER_MAX)))


# -- groups -------------------------------------------------------------------------------------------------------


def groups(shards: Shards, at: Attendance) -> Plan[list[str]]:
    """Return the names of the groups there are."""
    known = yield from shards.declared(at)
    (names,) = yield from shards.ask(at, known, [(0, (wire.QUEUE_GROUPS,))])
    return [name_text(name) for name in names]


def create_group(shards: Shards, at: Attendance, group: bytes) -> Plan[bool]:
    """Create a group in all shards; return whether it is new."""
    known = yield from shards.declared(at)
    command: Command = (wire.CREATE_GROUP, group)
    answers = yield from shards.ask(at, known, [(shard, command) for shard in range(known.count)])
    known.groups.add(group)
    return any(answers)


def delete_group(shards: Shards, at: Attendance, group: bytes) -> Plan[bool]:
    """Delete a group in all shards; return whether it was there."""
    known = yield from shards.declared(at)
    known.groups.discard(group)
    command: Command = (wire.DELETE_GROUP, group)
    answers = yield from shards.ask(at, known, [(shard, command) for shard in range(known.count)])
    return any(answers)
