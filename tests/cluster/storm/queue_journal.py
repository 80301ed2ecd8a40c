"""What one process of a storm over queues did, line by line: written so that `kill -9` loses nothing of it.

A line is a word and what belongs to it, with spaces between. Times are of `time.monotonic`, which all processes of a
machine share. A delivery is `element:id:token:attempts:retries`, and later only `element:token`.

    PRODUCED   group key or -   element:id ...     answered
    OPEN       element ...                         nobody knows whether it was produced
    REFUSED    element ...                         surely not produced
    DELIVERED  asked at   got at   delivery ...
    ACKING     element:token ...                   an ack is under way from now on
    ACKED      element:token ...                   it counted
    STALE      element:token ...                   it did not
    NACKING    element:token ...                   a nack is under way from now on
    SLEPT      from   to                           the process was not run meanwhile
    ERROR      name of the error                   an operation that ended so
    WRONG      text                                what must not be
"""

import os
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple


class Word(StrEnum):
    """What a line says."""

    PRODUCED = "P"
    OPEN = "O"
    REFUSED = "R"
    DELIVERED = "D"
    ACKING = "A"
    ACKED = "K"
    STALE = "S"
    NACKING = "N"
    SLEPT = "Z"
    ERROR = "E"
    WRONG = "W"


NO_GROUP_KEY: Final = "-"


class Given(NamedTuple):
    """A message as a consumer got it."""

    element: int
    message_id: str
    token: int
    attempts: int
    retries: int

    def __str__(self) -> str:
        return ":".join(map(str, self))


class Journal:
    """A new journal. A line is one write, so nothing of it is ever missing, nor between it."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, word: Word, *items: object) -> None:
        """Write a line."""
        line = " ".join((word, *map(str, items))).replace("\n", " | ")
        os.write(self._file, f"{line}\n".encode())

    def delivered(self, asked_at: float, got_at: float, messages: Iterable[Given]) -> None:
        """Write what a consume gave."""
        self.write(Word.DELIVERED, f"{asked_at:.3f}", f"{got_at:.3f}", *messages)


def lines_of(file: Path) -> Iterator[tuple[Word, list[str]]]:
    """Yield the lines of a journal: the word, and what belongs to it."""
    if not file.exists():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            word, _, rest = line.rstrip("\n").partition(" ")
            yield Word(word), [rest] if word == Word.WRONG else rest.split()


def given_of(text: str) -> Given:
    """Return a delivery as it was written."""
    element, message_id, token, attempts, retries = text.split(":")
    return Given(int(element), message_id, int(token), int(attempts), int(retries))


def pair_of(text: str) -> tuple[int, int]:
    """Return element and token."""
    element, _, token = text.partition(":")
    return int(element), int(token)
