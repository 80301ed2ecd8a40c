"""Snapshots: how a copy that is too far behind gets the state instead of the log.

The leader takes the state as it is when it starts (`Outgoing`), tagged with the epoch, the entry it stands after, and
the epoch of that entry. It leaves in numbered, checksummed chunks, a few ahead of the acknowledgements, while the
leader goes on serving; what is written meanwhile waits in the log. The follower collects the chunks of one snapshot
(`Incoming`) and puts the state in the place of its own only when it has all of them. A chunk of another epoch or
another snapshot starts the collection anew: chunks are never mixed.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final

from gimmal.replication.progress import Progress
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.snapshot import chunks
from gimmal.wire.codec import pack_tree
from gimmal.wire.messages import Wire
from gimmal.wire.peer_messages import BLANK, SnapshotAck, SnapshotChunk

CHUNK_BYTES: Final = 128 * 1024
CHUNKS_AHEAD: Final = 8
RESEND_AFTER_S: Final = 0.3
_NEVER: Final = float("inf")

Tag = tuple[int, int, int, int, int]
"""(partition, epoch, base, epoch of the entry there, time of the log there)."""


def checksum(chunk: Wire) -> int:
    """Return the CRC-32 of a chunk as it is packed."""
    return zlib.crc32(pack_tree(chunk))


class Outgoing:
    """One snapshot on its way to a follower."""

    def __init__(self, tag: Tag, engine: Engine, progress: Progress, now: float) -> None:
        self.tag = tag
        self.progress = progress
        self._chunks: Iterator[Wire] = chunks(engine.freeze(), CHUNK_BYTES)
        self._ahead: dict[int, SnapshotChunk] = {}
        self._upcoming: Wire | None = next(self._chunks)
        self._next_index = 0
        self._moved_at_s = now

    def messages(self, now: float) -> Iterator[SnapshotChunk]:
        """Yield the chunks that are due; after a silence, those that are not acknowledged once more."""
        if self.next_deadline() <= now:
            self._moved_at_s = now
            yield from map(self._stamped, self._ahead.values())
        while self._upcoming is not None and len(self._ahead) < CHUNKS_AHEAD:
            chunk, self._upcoming = self._upcoming, next(self._chunks, None)
            index = self._next_index
            self._next_index += 1
            message = SnapshotChunk(*BLANK, *self.tag, index, self._upcoming is None, checksum(chunk), chunk)
            self._ahead[index] = message
            yield self._stamped(message)

    def _stamped(self, message: SnapshotChunk) -> SnapshotChunk:
        message.destination = self.progress.member.number
        return message

    def on_ack(self, ack: SnapshotAck, now: float) -> None:
        """Note how many chunks the follower has."""
        for index in [index for index in self._ahead if index < ack.index]:
            del self._ahead[index]
            self._moved_at_s = now

    def next_deadline(self) -> float:
        """Return when to ask for `messages` again, if nothing is heard."""
        return self._moved_at_s + RESEND_AFTER_S if self._ahead else _NEVER


class Incoming:
    """The chunks of one snapshot, as far as they have come."""

    def __init__(self, chunk: SnapshotChunk) -> None:
        self._tag = _tag(chunk)
        self._chunks: list[Any] = []
        self._is_complete = False

    def is_of(self, chunk: SnapshotChunk) -> bool:
        """Say whether a chunk belongs to this snapshot."""
        return self._tag == _tag(chunk)

    @property
    def count(self) -> int:
        """How many chunks are here, from the first on without a gap."""
        return len(self._chunks)

    def take(self, chunk: SnapshotChunk) -> bool:
        """Take a chunk, if it is the next one and whole; True if that was the last."""
        if chunk.index == len(self._chunks) and checksum(chunk.chunk) == chunk.checksum:
            self._chunks.append(chunk.chunk)
            return chunk.is_last
        return False

    def engine(self, footprint: Footprint) -> Engine:
        """Return the state that the chunks make. Raises ValueError or TypeError if they make none."""
        return Engine.from_chunks(footprint, self._chunks)


def _tag(chunk: SnapshotChunk) -> Tag:
    return (chunk.partition, chunk.epoch, chunk.base, chunk.base_epoch, chunk.now_ms)
