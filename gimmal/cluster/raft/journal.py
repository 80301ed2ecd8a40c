"""How everything that a voter must not forget is written down: records to bytes and back. Files are the shell's.

A record is `length u32, CRC-32 u32, payload` (big-endian); the length and the CRC are the payload's, which is a msgpack
array that begins with its kind:

    IDENTITY    cluster id, voter id            whose journal this is; the first record
    HARD_STATE  term, vote
    SNAPSHOT    index, term, configuration, state
    ENTRY       index, term, kind, payload      at or below the last index: it replaces that entry and all behind it

A journal grows by appending. A new snapshot replaces the whole file, in one step, by what is still needed.

Reading back: a crash may leave any part of the beginning of what was appended last. So a record that is incomplete or
whose CRC is wrong is the end, *if nothing readable follows*; everything from there on is cut. If a good record follows,
something that was durable has changed, perhaps a vote: the node must not start. To find out, every place behind the bad
record is tried, because its length may be what is wrong. A record whose CRC is right and which still makes no sense
was written so, and is never cut.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

from gimmal.cluster.raft.configuration import read_configuration
from gimmal.cluster.raft.facts import HardState, Unsaved
from gimmal.cluster.raft.log import Entry, Log, Snapshot, Stored, read_entries
from gimmal.errors import ConfigError, RemoteProtocolError
from gimmal.wire import checks, limits
from gimmal.wire.codec import pack_tree, unpack_tree
from gimmal.wire.messages import Wire

IDENTITY: Final = 1
HARD_STATE: Final = 2
ENTRY: Final = 3
SNAPSHOT: Final = 4

_HEADER: Final = struct.Struct(">II")
_PAYLOAD_STARTS: Final = re.compile(rb"[\x93-\x95][\x01-\x04]")
"""How every payload begins: an array of three to five items, of which the first is a kind."""


class JournalCorrupt(ConfigError):
    """A journal has changed behind this node's back: it cannot be known any more what the node promised."""


class Save(NamedTuple):
    """What to do to the journal's file: append these bytes, or replace all of it by them. Then sync it."""

    data: bytes
    replaces: bool


class Identity(NamedTuple):
    """Whose journal it is: the cluster's 16-byte id and the voter's id."""

    cluster: bytes
    voter: str


class Journal(NamedTuple):
    """What a journal held. Behind `length` bytes comes what a crash left, to be cut off before anything is appended."""

    identity: Identity | None
    stored: Stored
    length: int


# -- writing


def save_of(identity: Identity, unsaved: Unsaved) -> Save:
    """Return how to save what a `Raft` has not saved; a snapshot replaces everything before it."""
    parts = []
    if unsaved.snapshot is not None:
        parts += [encode_identity(identity), encode_snapshot(unsaved.snapshot)]
    if unsaved.hard_state is not None:
        parts.append(encode_hard_state(unsaved.hard_state))
    parts += [encode_entry(index, entry) for index, entry in enumerate(unsaved.entries, unsaved.first_index)]
    return Save(b"".join(parts), replaces=unsaved.snapshot is not None)


def rewritten(identity: Identity, stored: Stored) -> Save:
    """Return a whole journal that holds just this: how a voter that is new, or a founder, begins."""
    hard_state = HardState(stored.term, stored.vote)
    return save_of(identity, Unsaved(hard_state, stored.snapshot, stored.snapshot.index + 1, stored.entries))


def encode_identity(identity: Identity) -> bytes:
    """Return the record of an identity."""
    return _record((IDENTITY, *identity))


def encode_hard_state(hard_state: HardState) -> bytes:
    """Return the record of a hard state."""
    return _record((HARD_STATE, *hard_state))


def encode_entry(index: int, entry: Entry) -> bytes:
    """Return the record of an entry."""
    return _record((ENTRY, index, *entry))


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the record of a snapshot."""
    return _record((SNAPSHOT, *snapshot))


def _record(tree: Wire) -> bytes:
    payload = pack_tree(tree)
    return _HEADER.pack(len(payload), crc32(payload)) + payload


# -- reading


def read_journal(data: bytes) -> Journal:
    """Return what a journal's bytes hold, without what a crash may have left at their end.

    Raises:
        JournalCorrupt: a record in the middle is damaged, or a record contradicts the ones before it.
    """
    reader = _Reader()
    length = 0
    for start, payload in _records(data):
        try:
            reader.take(unpack_tree(payload))
        except (ValueError, TypeError, LookupError, RemoteProtocolError) as reason:
            raise JournalCorrupt(f"the journal's record at byte {start} makes no sense: {reason}") from None
        length = start + _HEADER.size + len(payload)
    follower = _first_good_record(data, length)
    if follower is not None:
        raise JournalCorrupt(
            f"the journal is damaged at byte {length}, and not at its end: a good record follows at byte {follower}"
        )
    return reader.journal(length)


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the place and payload of each record up to the first that is not good."""
    start = 0
    while (payload := _payload_at(data, start)) is not None:
        yield start, payload
        start += _HEADER.size + len(payload)


def _payload_at(data: bytes, start: int) -> bytes | None:
    """Return the payload of the record at `start`, or None if there is no good one."""
    begin = start + _HEADER.size
    if begin > len(data):
        return None
    length, crc = _HEADER.unpack_from(data, start)
    if not 0 < length <= len(data) - begin:  # zeros are not a record
        return None
    payload = data[begin : begin + length]
    return payload if crc32(payload) == crc else None


def _first_good_record(data: bytes, start: int) -> int | None:
    """Return the place of the first good record from `start` on, or None."""
    for match in _PAYLOAD_STARTS.finditer(data, start + _HEADER.size):
        place = match.start() - _HEADER.size
        if _payload_at(data, place) is not None:
            return place
    return None


class _Reader:
    """Puts records together; each raises ValueError or TypeError if it does not fit."""

    def __init__(self) -> None:
        self._identity: Identity | None = None
        self._hard_state = HardState(0, None)
        self._log = Log(Stored().snapshot)
        self._take: dict[Any, Callable[..., None]] = {
            IDENTITY: self._take_identity,
            HARD_STATE: self._take_hard_state,
            ENTRY: self._take_entry,
            SNAPSHOT: self._take_snapshot,
        }

    def take(self, tree: Any) -> None:
        """Take the next record."""
        kind, *fields = tree
        self._take[kind](*fields)

    def journal(self, length: int) -> Journal:
        """Return what was taken."""
        snapshot = self._log.snapshot
        stored = Stored(*self._hard_state, snapshot, self._log.entries_from(snapshot.index + 1))
        return Journal(self._identity, stored, length)

    def _take_identity(self, cluster: Any, voter: Any) -> None:
        if not (checks.is_uuid(cluster) and checks.is_name(voter)):
            raise ValueError("an identity is a cluster's 16 bytes and a voter")
        if self._identity not in (None, (cluster, voter)):
            raise ValueError("it belongs to somebody else than the records before it")
        self._identity = Identity(cluster, voter)

    def _take_hard_state(self, term: Any, vote: Any) -> None:
        if not (checks.is_natural(term) and (vote is None or checks.is_name(vote))):
            raise ValueError("a hard state is a term and a vote")
        if term < self._hard_state.term:
            raise ValueError(f"term {term} after term {self._hard_state.term}")
        self._hard_state = HardState(term, vote)

    def _take_entry(self, index: Any, term: Any, kind: Any, payload: Any) -> None:
        if not (checks.is_natural(index) and checks.is_natural(term)):
            raise ValueError("an entry has an index and a term")
        if not self._log.snapshot.index < index <= self._log.last_index + 1:
            raise ValueError(f"entry {index} after entry {self._log.last_index}")
        prev_term = self._log.term_at(index - 1)
        assert prev_term is not None
        (entry,) = read_entries([(term, kind, payload)], prev_term, limits.INTEGER_MAX)
        if index <= self._log.last_index:
            self._log.truncate_from(index)
        self._log.append(entry)

    def _take_snapshot(self, index: Any, term: Any, configuration: Any, state: Any) -> None:
        if not (checks.is_natural(index) and checks.is_natural(term)):
            raise ValueError("a snapshot has an index and a term")
        if index < self._log.snapshot.index:
            raise ValueError(f"snapshot {index} after snapshot {self._log.snapshot.index}")
        self._log = Log(Snapshot(index, term, read_configuration(configuration), state))
