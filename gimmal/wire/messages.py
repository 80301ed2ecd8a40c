"""The messages of gimmal, as typed values. How they become bytes is `gimmal.wire.codec`'s business.

Every message starts with the same header:

- `cluster`: 16 bytes that name the cluster, or empty while the sender belongs to none.
- `source`, `destination`: incarnations. Clients and nodes that have not registered are 0; a client that does not
  know the node yet sends `destination` 0. A node never acts on a message meant for another incarnation of itself.
- `table_version`: the newest cluster table the sender has; it only says "a newer one exists".

A `Request` carries many operations and a `Reply` many answers. They are matched by operation number, not by
message: one reply may answer parts of several requests, and a request may be answered in several replies.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, TypeAlias

from gimmal.types import Operation

Wire: TypeAlias = Any
"""A tree of tuples, strings, bytes, integers and None, as the codec packs it."""


class Refusal(IntEnum):
    """Why an operation has no result. But for UNDECIDED, it was not executed and has left no trace in the store."""

    MOVED = 1  # the node does not lead that partition under that epoch: fetch the table, ask again
    OVERLOADED = 2
    INVALID = 3
    NOT_AN_INTEGER = 4
    INTEGER_OVERFLOW = 5
    TOO_LARGE = 6
    OUT_OF_MEMORY = 7
    WRONG_CLUSTER = 8
    NOT_ENOUGH_REPLICAS = 9  # too few copies are in sync, or nobody can confirm that this one still leads
    UNDECIDED = 10  # its leader was replaced before it was committed: ask the new one, with the same number
    SESSION_EXPIRED = 11
    TOO_OLD = 12  # its number is below the floor of its session: it was given up, or answered, long ago
    DATA_LOST = 13
    NO_QUEUE = 14  # the shard has not been declared here
    NO_GROUP = 15
    SETTINGS_MISMATCH = 16
    QUEUE_FULL = 17


class Fault(IntEnum):
    """What was wrong with a whole message."""

    MALFORMED = 1
    WRONG_CLUSTER = 2
    UNEXPECTED = 3
    NOT_READY = 4  # this node belongs to no cluster yet: ask another one, or later


@dataclass(slots=True)
class Message:
    """The header that all messages share."""

    cluster: bytes
    source: int
    destination: int
    table_version: int


@dataclass(slots=True)
class Request(Message):
    """Client to node: operations, in the order they were started.

    `receipt` echoes the newest `Reply.receipt` this client has read from this node (0: none yet), which is how
    a node knows what has left its buffers. `milliseconds_left` is the longest time any of the operations may
    still take; a node need not keep them longer.
    """

    receipt: int
    milliseconds_left: int
    operations: tuple[Operation, ...]


@dataclass(slots=True)
class Reply(Message):
    """Node to client: `results[i]` answers operation `numbers[i]`; `refusals` are (number, Refusal, text)."""

    receipt: int
    numbers: tuple[int, ...]
    results: tuple[Any, ...]
    refusals: tuple[tuple[int, int, str], ...]


@dataclass(slots=True)
class FetchTable(Message):
    """Ask for the cluster table; the header's `table_version` says which one the asker has."""


@dataclass(slots=True)
class TableRows(Message):
    """A cluster table as `gimmal.cluster.table` writes it, or None when the asker's is the newest."""

    table: Wire


@dataclass(slots=True)
class FetchStatus(Message):
    """Ask a node how it is."""


@dataclass(slots=True)
class Status(Message):
    """How a node is: (name, value) pairs of its name, state and counters."""

    facts: tuple[tuple[str, int | str], ...]


@dataclass(slots=True)
class KeepAlive(Message):
    """Client to node: this client, 16 bytes that it has drawn, is there still, and works on what it has consumed.

    Nobody answers. A client of which nothing is heard for `limits.CLIENT_SILENCE_S` has vanished.
    """

    client: bytes


@dataclass(slots=True)
class FetchDigests(Message):
    """Ask a node for digests of its copies, from partition `first` on, as many as it likes to work out at once."""

    first: int


@dataclass(slots=True)
class Digests(Message):
    """(partition, epoch, commit, digest) of copies; `upcoming` is where to go on, or -1 if that was the last.

    A digest is 8 bytes over all of a copy's state after entry `commit`: copies that are equal there have equal ones.
    """

    upcoming: int
    digests: tuple[tuple[int, int, int, bytes], ...]


@dataclass(slots=True)
class Operate(Message):
    """Ask a node to have the meta group decide something for an operator (`gimmal.cluster.meta.commands`)."""

    command: tuple[Any, ...]


@dataclass(slots=True)
class Operated(Message):
    """What became of it: a `gimmal.cluster.meta.commands.Outcome`, a number that goes with it, and a text."""

    outcome: int
    value: int
    text: str


@dataclass(slots=True)
class Problem(Message):
    """The answer to a message that broke the protocol: a Fault and what was wrong, for people."""

    fault: int
    text: str


def halves(message: Message) -> tuple[Message, Message] | None:
    """Cut a message that is too long in two that say the same; None when it cannot be cut."""
    if isinstance(message, Request):
        middle = len(message.operations) // 2
        if not middle:
            return None
        return (
            replace(message, operations=message.operations[:middle]),
            replace(message, operations=message.operations[middle:]),
        )
    if not isinstance(message, Reply) or len(message.numbers) + len(message.refusals) < 2:
        return None
    middle, refused = (len(message.numbers) + 1) // 2, len(message.refusals) // 2
    return (
        replace(
            message,
            numbers=message.numbers[:middle],
            results=message.results[:middle],
            refusals=message.refusals[:refused],
        ),
        replace(
            message,
            numbers=message.numbers[middle:],
            results=message.results[middle:],
            refusals=message.refusals[refused:],
        ),
    )
