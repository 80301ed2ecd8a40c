"""What the meta group can be asked to decide, and how it answers.

A command is a tuple `(code, *arguments)`, as it travels and as the log keeps it:

    FOUND      cluster id, copies, on total loss, registrations, holders     the first entry of a log, and only that
    REGISTER   registration                                                  -> incarnation
    FENCE      name, incarnation
    UNFENCE    name, incarnation
    ALTER_ISR  name, incarnation, request number, changes                    -> how many changes were made
    HANDOVER   name, incarnation, request number, changes                    -> how many were handed over
    RECOVER    version of the table                                          -> how many partitions start again
    UNSAFE_ELECT  partition, name                                            -> the epoch in which it leads

`holders` has for each partition the indexes, into the registrations, of the nodes that hold it, its leader first: the
plan is part of the entry, so that it does not depend on who reads it with which version of the planner. A change is
(partition, epoch, version, in_sync), or (partition, epoch, version, name of the new leader), under the epoch and
version that the leader saw. Both kinds of requests of one leader share one row of numbers.

RECOVER and UNSAFE_ELECT are for operators: they give up what is lost, or may be. RECOVER starts again what the table of
the version that the operator saw calls lost, and that a node which is there holds; whatever is lost later, or has no
holder now, is asked for again when it has one. Nobody accepts a loss in advance.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from gimmal.cluster.table import Addresses, NodeRow
from gimmal.hashing import SLOTS, WEIGHT_MAX, check_partitions
from gimmal.wire import checks, limits
from gimmal.wire.checks import are_handovers
from gimmal.wire.codec import pack_tree

FOUND: Final = 1
REGISTER: Final = 2
FENCE: Final = 3
UNFENCE: Final = 4
ALTER_ISR: Final = 5
HANDOVER: Final = 6
RECOVER: Final = 7
UNSAFE_ELECT: Final = 8

NAMES: Final = {
    FOUND: "found",
    REGISTER: "register",
    FENCE: "fence",
    UNFENCE: "unfence",
    ALTER_ISR: "alter in-sync set",
    HANDOVER: "hand over",
    RECOVER: "accept loss",
    UNSAFE_ELECT: "elect in spite of loss",
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
    if not all(map(_is_short, (name, voter, zone, peer))):
        raise ValueError(f"names and addresses are text of at most {limits.NAME_BYTES_MAX} bytes")
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
        if not all(map(_is_short, (network, *addresses))):
            raise ValueError(f"networks and addresses are text of at most {limits.NAME_BYTES_MAX} bytes")
    node = Registration(name, uuid, voter, zone, weight, peer, named)
    if len(pack_tree(node)) > limits.REGISTRATION_BYTES_MAX:
        raise ValueError(f"a node with all its addresses takes at most {limits.REGISTRATION_BYTES_MAX} bytes")
    return node


def _is_short(text: Any) -> bool:
    return type(text) is str and len(text.encode()) <= limits.NAME_BYTES_MAX


def _is_founding(command: tuple[Any, ...]) -> bool:
    code, cluster, copies, on_total_loss, registrations, holders = command
    if not (
        type(code) is int
        and code == FOUND
        and checks.is_uuid(cluster)
        and _is_number_of_copies(copies)
        and on_total_loss in (START_EMPTY, REFUSE)
        and type(registrations) is type(holders) is tuple
        and len(registrations) <= limits.NODES_MAX
    ):
        return False
    names = [read_registration(tree).name for tree in registrations]
    numbers = range(len(names))
    check_partitions(len(holders))
    return len(dict.fromkeys(names)) == len(names) and all(
        type(indexes) is tuple
        and _is_number_of_copies(len(indexes))
        and len(dict.fromkeys(indexes)) == len(indexes)
        and all(type(index) is int and index in numbers for index in indexes)
        for indexes in holders
    )


def _is_number_of_copies(number: object) -> bool:
    return type(number) is int and 1 <= number <= limits.COPIES_MAX


def _is_register(command: tuple[Any, ...]) -> bool:
    _, registration = command
    read_registration(registration)
    return True


def _names_a_life(command: tuple[Any, ...]) -> bool:
    _, name, incarnation = command
    return _is_short(name) and checks.is_index(incarnation)


def _is_alter_isr(command: tuple[Any, ...]) -> bool:
    _, name, incarnation, number, changes = command
    if not (
        _is_short(name)
        and checks.is_index(incarnation)
        and checks.is_natural(number)
        and type(changes) is tuple
        and len(changes) <= SLOTS
        and all(
            checks.are_numbers((partition, epoch, version))
            and type(in_sync) is tuple
            and len(in_sync) <= limits.COPIES_MAX
            and all(_is_short(member) and checks.is_index(life) for member, life in in_sync)
            for partition, epoch, version, in_sync in changes
        )
    ):
        return False
    members = sum(len(in_sync) for _, _, _, in_sync in changes)
    return members <= limits.CHANGED_MEMBERS_MAX and len(pack_tree(changes)) <= limits.CHANGES_BYTES_MAX


def _is_handover(command: tuple[Any, ...]) -> bool:
    _, name, incarnation, number, changes = command
    return (
        _is_short(name)
        and checks.is_index(incarnation)
        and checks.is_natural(number)
        and are_handovers(changes)
        and len(pack_tree(changes)) <= limits.CHANGES_BYTES_MAX
    )


def _is_recover(command: tuple[Any, ...]) -> bool:
    _, version = command
    return checks.is_index(version)


def _is_unsafe_elect(command: tuple[Any, ...]) -> bool:
    _, partition, name = command
    return type(partition) is int and 0 <= partition < SLOTS and _is_short(name)


_CHECKS: Final[dict[int, Callable[[tuple[Any, ...]], bool]]] = {
    REGISTER: _is_register,
    FENCE: _names_a_life,
    UNFENCE: _names_a_life,
    ALTER_ISR: _is_alter_isr,
    HANDOVER: _is_handover,
    RECOVER: _is_recover,
    UNSAFE_ELECT: _is_unsafe_elect,
}

FROM_OPERATORS: Final = frozenset([RECOVER, UNSAFE_ELECT])
"""What operators may ask for, of any node, which asks the leader."""

FROM_NODES: Final = frozenset([REGISTER, ALTER_ISR, HANDOVER]) | FROM_OPERATORS
"""What nodes may ask for; the others are the leader's own."""


def is_well_formed(command: tuple[Any, ...]) -> bool:
    """Say whether a command has its shape and is within its bounds; a FOUND is none of those that may follow one."""
    try:
        return _CHECKS[command[0]](command)
    except (ValueError, TypeError, LookupError):
        return False


def is_founding(command: tuple[Any, ...]) -> bool:
    """Say whether a command is a FOUND from which a cluster can begin."""
    try:
        return _is_founding(command)
    except (ValueError, TypeError, LookupError):
        return False
