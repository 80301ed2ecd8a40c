"""`gimmal queue ...`: the calls on queues, from a shell."""

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gimmal.cli.app import (
    DEFAULT_ADDRESS,
    DONE,
    FAILED,
    Json,
    Seeds,
    Timeout,
    app,
    jsonable,
    print_json,
    print_problem,
    print_text,
)
from gimmal.cli.keys import TakesNegativeNumbers, given, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimmal.client.queue_types import DeadLetter, Message
    from gimmal.client.queues import Queue

_TIMEOUT_S: Final = 5.0
_GROUP: Final = "default"

queue = typer.Typer(name="queue", help="Work with queues of messages.", rich_markup_mode=None)
app.add_typer(queue)

Name = Annotated[str, typer.Argument(metavar="QUEUE")]
Group = Annotated[str, typer.Option(metavar="GROUP", help="Which consumer group.")]


@contextmanager
def _opened(name: str, seeds: str, timeout: float, shards: int | None = None) -> "Iterator[Queue]":
    from gimmal.client.sync import connect  # noqa: PLC0415 - see gimmal.cli

    with connect(seeds, timeout=timeout) as client:
        yield client.queue(given(name), shards=shards)


def _print_value(value: Any) -> None:
    """Print a payload: text and bytes as they are, anything else as JSON."""
    if isinstance(value, bytes):
        sys.stdout.buffer.write(value + b"\n")
        sys.stdout.buffer.flush()
    else:
        print_text(value if isinstance(value, str) else json.dumps(jsonable(value)))


@queue.command(cls=TakesNegativeNumbers)
def produce(
    name: Name,
    payloads: Annotated[list[str], typer.Argument(metavar="PAYLOAD")],
    *,
    delay: Annotated[float, typer.Option(metavar="SECONDS", help="Let nobody have them before that time.")] = 0.0,
    group_key: Annotated[str | None, typer.Option(metavar="KEY", help="Have them delivered in order.")] = None,
    dedup_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Put nothing in if that was used within 5 minutes; one PAYLOAD.")
    ] = None,
    shards: Annotated[int | None, typer.Option(metavar="NUMBER", help="How many shards the queue has.")] = None,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Put messages into a queue and print their ids.

    A decimal PAYLOAD such as 42 or -7 is an integer (of up to 64 bits), anything else text.
    """
    if dedup_id is not None and len(payloads) > 1:
        raise typer.BadParameter("--dedup-id is for one PAYLOAD")
    values = [value_of(word) for word in payloads]
    key = None if group_key is None else given(group_key)
    with _opened(name, seeds, timeout, shards) as opened:
        if len(values) == 1:
            dedup = None if dedup_id is None else given(dedup_id)
            ids = [opened.produce(values[0], delay=delay, group_key=key, dedup_id=dedup)]
        else:
            ids = opened.produce_many(values, delay=delay, group_key=key)
    if as_json:
        print_json({"queue": given(name), "ids": ids})
    else:
        for message_id in ids:
            print_text(message_id)


@queue.command()
def consume(
    name: Name,
    *,
    count: Annotated[int, typer.Option("--count", "-n", metavar="NUMBER", help="Up to so many messages.")] = 1,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the first one.")] = 0.0,
    group: Group = _GROUP,
    consumer: Annotated[str | None, typer.Option(metavar="NAME", help="Who it is that consumes.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Give them back instead of acknowledging them.")] = False,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> int:
    """Take messages out of a queue and print their payloads; exit status 1 if there are none.

    They are acknowledged when they have been printed, or given back with --keep.
    """
    who = None if consumer is None else given(consumer)
    with _opened(name, seeds, timeout) as opened:
        messages = opened.consume_many(count, who, wait, group=given(group))
        if as_json:
            print_json({"queue": given(name), "messages": [_fields(message) for message in messages]})
        for message in messages if not as_json else ():
            _print_value(message.payload)
        if keep:
            for message in messages:
                opened.release(message)
        else:
            opened.ack_many(messages)
    if not messages and not as_json:
        print_problem(f"there is no message in queue {name!r}")
    return DONE if messages else FAILED


def _fields(message: "Message | DeadLetter") -> dict[str, Any]:
    return {
        "id": message.id,
        "payload": message.payload,
        "created_at": message.created_at,
        "attempts": message.attempts,
        "retry_count": message.retry_count,
    }


@queue.command()
def stats(
    name: Name,
    *,
    group: Group = _GROUP,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Print how many messages of a queue are where, and the age of the oldest in seconds."""
    with _opened(name, seeds, timeout) as opened:
        found = opened.stats(given(group))
    if as_json:
        print_json({"queue": given(name), "group": given(group), **found})
    else:
        for what, count in found.items():
            print_text(f"{what:<12} {count:g}" if isinstance(count, float) else f"{what:<12} {count}")


@queue.command("dead-letters")
def dead_letters(
    name: Name,
    *,
    limit: Annotated[int, typer.Option(metavar="NUMBER", help="No more than that.")] = 100,
    group: Group = _GROUP,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Print the messages that failed too often, those first that died first: id, attempts, reason, error, payload."""
    with _opened(name, seeds, timeout) as opened:
        letters = opened.dead_letters(limit, given(group))
    if as_json:
        fields = [
            _fields(letter)
            | {
                "reason": letter.reason,
                "error": letter.error,
                "consumer": letter.consumer,
                "first_failure": letter.first_failure,
                "last_failure": letter.last_failure,
                "history": [failure._asdict() for failure in letter.history],
            }
            for letter in letters
        ]
        print_json({"queue": given(name), "group": given(group), "dead_letters": fields})
        return
    for letter in letters:
        shown = json.dumps(jsonable(letter.payload))
        print_text(f"{letter.id}  {letter.attempts}  {letter.reason}  {letter.error!r}  {shown}")


@queue.command()
def redrive(
    name: Name,
    *,
    limit: Annotated[int | None, typer.Option(metavar="NUMBER", help="No more than that.")] = None,
    group: Group = _GROUP,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Let dead letters be delivered again, and print how many."""
    with _opened(name, seeds, timeout) as opened:
        count = opened.redrive(limit, given(group))
    _print_count(name, "redriven", count, as_json=as_json)


@queue.command()
def purge(
    name: Name,
    *,
    group: Group = _GROUP,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Drop all dead letters, and print how many there were."""
    with _opened(name, seeds, timeout) as opened:
        count = opened.purge(given(group))
    _print_count(name, "purged", count, as_json=as_json)


@queue.command()
def groups(name: Name, *, seeds: Seeds = DEFAULT_ADDRESS, timeout: Timeout = _TIMEOUT_S, as_json: Json = False) -> None:
    """Print the names of the consumer groups."""
    with _opened(name, seeds, timeout) as opened:
        names = opened.groups()
    if as_json:
        print_json({"queue": given(name), "groups": names})
    else:
        for group in names:
            _print_value(group)


def _print_count(name: str, what: str, count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"queue": given(name), what: count})
    else:
        print_text(str(count))
