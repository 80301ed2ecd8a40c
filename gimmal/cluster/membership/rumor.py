"""Rumors: what one node says of another, and which of two rumors wins.

A rumor is about one life of a node (`incarnation`, which the meta group gave it) and about one of its own statements in
that life (`refutation`, which only the node itself raises). Who knows of two rumors believes the one that is higher
by (incarnation, refutation, state): a new life beats everything said of the old one; a node that is suspected, or was
called dead, silences that by speaking up under a higher refutation; under the same refutation the worse news wins,
because only the node itself can take it back. That is a total order, so nodes that heard the same rumors, in whatever
order and however often, believe the same (after SWIM, Das, Gupta and Motivala 2002, section 4.2; there both numbers
are one).

What is fixed for a life, the `Profile`, travels only with news of that life; what changes in it, the node's health,
belongs to a refutation. Both are therefore functions of the numbers beside them, and no rumor is needed twice for them.

On the wire a rumor is a plain tuple of these fields. What arrives is not trusted: what is none is read as None.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple

from gimmal.cluster.table import Addresses
from gimmal.hashing import WEIGHT_MAX
from gimmal.wire import checks, limits
from gimmal.wire.codec import pack_tree

REFUTATION_MAX: Final = 2**53
"""A node that counts its own refutations up from 0 never gets here. No accusation does: it would leave no answer."""


class State(IntEnum):
    """What a node is believed to be; of two rumors with equal numbers, the one with the higher state wins."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2


_STATES: Final = tuple(State)


class Profile(NamedTuple):
    """What is fixed for one life of a node.

    `peer` is the address (`host:port`) at which other nodes reach it; `networks` are (name, addresses) pairs, as in
    the cluster's table.
    """

    peer: str
    zone: str
    weight: int
    networks: tuple[tuple[str, Addresses], ...]


class Rumor(NamedTuple):
    """What is said of a node. `accuser` is who found it silent (SUSPECT) or gave it up (DEAD), else empty.

    `health` is the node's own local health score as it stated it with that refutation (0: well). `profile` is None when
    the teller expects that everybody knows it.
    """

    name: str
    incarnation: int
    refutation: int
    state: State
    accuser: str
    health: int
    profile: Profile | None


def read_rumor(tree: tuple[Any, ...]) -> Rumor | None:
    """Return the rumor that a tuple from the wire holds, or None when it holds none.

    The codec has checked that it has these fields, and the types of all but the profile (`wire.checks.are_rumors`).
    """
    name, incarnation, refutation, state, accuser, health, profile = tree
    if not name or incarnation > limits.INDEX_MAX or state >= len(_STATES):
        return None
    if refutation > REFUTATION_MAX or (state and refutation == REFUTATION_MAX):
        return None
    try:
        known = None if profile is None else _read_profile(profile)
    except (ValueError, TypeError):
        return None
    return Rumor(name, incarnation, refutation, _STATES[state], accuser, health, known)


def _read_profile(tree: tuple[Any, ...]) -> Profile:
    peer, zone, weight, trees = tree
    if not (
        checks.is_name(peer)
        and checks.is_name(zone)
        and type(weight) is int
        and 0 < weight <= WEIGHT_MAX
        and type(trees) is tuple
        and len(trees) <= limits.NETWORKS_MAX
    ):
        raise ValueError("not a profile")
    networks = tuple((name, Addresses(*addresses)) for name, addresses in trees)
    if not all(checks.is_name(name) and all(map(checks.is_name, addresses)) for name, addresses in networks):
        raise ValueError("not networks")
    if len(pack_tree(networks)) > limits.REGISTRATION_BYTES_MAX:
        raise ValueError("more addresses than a node can have registered")
    return Profile(peer, zone, weight, networks)
