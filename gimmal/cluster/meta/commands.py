"""What the meta group can be asked to decide, and how it answers.

A command is a tuple `(code, *arguments)`, as it travels and as the log keeps it:

    FOUND      cluster id, copies, on total loss, registrations, holders     the first entry of a log, and only that
    REGISTER   registration                                                  -> incarnation
    FENCE      name, incarnation
    UNFENCE    name, incarnation
    ALTER_ISR  name, incarnation, request number, changes                    -> how many changes were made

`holders` has for each partition the indexes, into the registrations, of the nodes that hold it, its leader first: the
plan is part of the entry, so that it does not depend on who reads it with which version of the planner. A change is
(partition, epoch, version, in_sync), under the epoch and version that the leader saw.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from gimmal.cluster.table import Addresses, NodeRow
from gimmal.hashing import WEIGHT_MAX
from gimmal.wire import limits

FOUND: Final = 1
REGISTER: Final = 2
FENCE: Final = 3
UNFENCE: Final = 4
ALTER_ISR: Final = 5

NAMES: Final = {
    FOUND: "found",
    REGISTER: "register",
    FENCE: "fence",
    UNFENCE: "unfence",
    ALTER_ISR: "alter in-sync set",
}

START_EMPTY: Final = "empty"
REFUSE: Final = "refuse"
"""What becomes of a partition of which nobody has anything left."""


class Outcome(IntEnum):
    """What became of a request. Numbers travel: a new one is appended, an old one never changes."""

    DONE = 0
    REFUSED = 1  # the text says why; the same request may be accepted later
    NOT_LEADER = 2  # ask the leader that is named, or somebody else
    MALFORMED = 3
    UNDECIDED = 4  # the leader was deposed before the entry committed: it may or may not be; ask again


class Result(NamedTuple):
    """What applying a command gave: an outcome, a number that goes with it, and a text for people."""

    outcome: Outcome
    value: int = 0
    text: str = ""


class Registration(NamedTuple):
    """A node as it introduces itself; the fields are those of `gimmal.cluster.table.NodeRow`."""

    name: str
    uuid: bytes
    voter: str
    zone: str
    weight: int
    peer: str
    networks: tuple[tuple[str, Addresses], ...]


def addresses_of(node: Registration | NodeRow) -> frozenset[tuple[str, str]]:
    """Return every address of a node, each with what it is for and the network in which it means something."""
    return frozenset(
        [
            ("peer", node.peer),
            *((f"client ({name})", addresses.client) for name, addresses in node.networks),
            *((f"pub/sub ({name})", addresses.pubsub) for name, addresses in node.networks),
        ]
    )


def read_registration(tree: Any) -> Registration:
    """Return the registration that a tree from the wire holds; raises ValueError or TypeError if it is none."""
    name, uuid, voter, zone, weight, peer, networks = tree
    if not all(type(text) is str and len(text) <= limits.NAME_BYTES_MAX for text in (name, voter, zone, peer)):
        raise ValueError("names and addresses are text")
    if not (name and peer and voter.rpartition("/")[0] == name):
        raise ValueError("a node has a name, a peer address, and a voter's identity that begins with its name")
    if not (type(uuid) is bytes and len(uuid) == 16):
        raise ValueError("a uuid is 16 bytes")
    if not (type(weight) is int and 1 <= weight <= WEIGHT_MAX):
        raise ValueError(f"a weight is 1 to {WEIGHT_MAX}")
    if not (type(networks) is tuple and 0 < len(networks) <= limits.NETWORKS_MAX):
        raise ValueError("a node has addresses in one network at least")
    named = tuple((network, Addresses(*addresses)) for network, addresses in networks)
    for network, addresses in named:
        if not all(type(text) is str and len(text) <= limits.NAME_BYTES_MAX for text in (network, *addresses)):
            raise ValueError("networks and addresses are text")
    return Registration(name, uuid, voter, zone, weight, peer, named)


def _is_register(command: tuple[Any, ...]) -> bool:
    _, registration = command
    read_registration(registration)
    return True


def _names_a_life(command: tuple[Any, ...]) -> bool:
    _, name, incarnation = command
    return type(name) is str and type(incarnation) is int


def _is_alter_isr(command: tuple[Any, ...]) -> bool:
    _, name, incarnation, number, changes = command
    return (
        type(name) is str
        and type(incarnation) is type(number) is int
        and type(changes) is tuple
        and all(
            type(partition) is type(epoch) is type(version) is int
            and type(in_sync) is tuple
            and all(type(member) is str and type(life) is int for member, life in in_sync)
            for partition, epoch, version, in_sync in changes
        )
    )


_CHECKS: Final[dict[int, Callable[[tuple[Any, ...]], bool]]] = {
    REGISTER: _is_register,
    FENCE: _names_a_life,
    UNFENCE: _names_a_life,
    ALTER_ISR: _is_alter_isr,
}

FROM_NODES: Final = frozenset([REGISTER, ALTER_ISR])
"""What nodes may ask for; the others are the leader's own."""


def is_well_formed(command: tuple[Any, ...]) -> bool:
    """Say whether a command has its shape; FOUND is made by founders only and never asked for."""
    try:
        return _CHECKS[command[0]](command)
    except (ValueError, TypeError, LookupError):
        return False
