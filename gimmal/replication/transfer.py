"""Snapshots: how a copy that is too far behind gets the state instead of the log.

The leader takes the state as it is when it starts (`Outgoing`), tagged with the epoch, the entry it stands after, and
the epoch of that entry. It leaves in numbered, checksummed chunks, a few ahead of the acknowledgements, while the
leader goes on serving; what is written meanwhile waits in the log (`retention`). The follower collects the chunks of
one snapshot (`Incoming`) and puts the state in the place of its own only when it has all of them. Chunks are never
mixed: another epoch, or a snapshot of a later place in the log, starts the collection anew, and a chunk of an earlier
one that comes late is left out (its leader does not send that any more, nor again what was acknowledged of the later
one, which is why nothing else may throw chunks away).
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final

from gimmal.replication.progress import Progress
from gimmal.replication.replica import Replica
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.snapshot import chunks
from gimmal.types import Incarnation
from gimmal.wire.codec import pack_tree
from gimmal.wire.messages import Wire
from gimmal.wire.peer_messages import BLANK, SnapshotAck, SnapshotChunk

CHUNK_BYTES: Final = 128 * 1024
CHUNKS_AHEAD: Final = 8
RESEND_AFTER_S: Final = 0.3
TRANSFERS_MAX: Final = 16
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


class Transfers:
    """The snapshots that one node sends, a few at a time; other followers wait. `sent` counts those that arrived."""

    def __init__(self) -> None:
        self.sent = 0
        self._waiting: dict[Progress, Replica] = {}
        self._outgoing: dict[Progress, tuple[Replica, Outgoing]] = {}
        self._begun: list[tuple[Replica, Progress, int]] = []

    def add(self, replica: Replica, progress: Progress) -> None:
        """Let a follower of a partition that is led here have a snapshot."""
        progress.is_installing = True
        self._waiting[progress] = replica

    def messages(self, now: float) -> list[tuple[Incarnation, SnapshotChunk]]:
        """Return the chunks that are due, and to whom they go."""
        if not self._waiting and not self._outgoing:
            return []
        self._end()  # first: no timer reminds of those that are to begin anew
        self._begin(now)
        return [
            (progress.member, chunk)
            for progress, (_, outgoing) in self._outgoing.items()
            for chunk in outgoing.messages(now)
        ]

    def _end(self) -> None:
        """Give up snapshots that are of no use any more: nobody waits for them, or what follows them is forgotten."""
        for progress, (replica, outgoing) in list(self._outgoing.items()):
            leading = replica.leading
            if leading is None or progress not in leading.followers or replica.log.base > outgoing.tag[2]:
                del self._outgoing[progress]
                self._waiting[progress] = replica  # it takes another one, if it still waits

    def _begin(self, now: float) -> None:
        """Begin as many as there is room for."""
        for progress, replica in list(self._waiting.items()):
            leading = replica.leading
            if leading is None or progress not in leading.followers:
                del self._waiting[progress]
            elif len(self._outgoing) < TRANSFERS_MAX and _may_be_copied(replica):
                del self._waiting[progress]
                epoch = replica.log.epoch_at(replica.commit)
                assert epoch is not None, "what was applied last is never forgotten"
                tag = (replica.partition, leading.view.epoch, replica.commit, epoch, replica.log.now_ms)
                self._outgoing[progress] = (replica, Outgoing(tag, replica.engine, progress, now))
                self._begun.append((replica, progress, replica.commit))

    def take_begun(self) -> list[tuple[Replica, Progress, int]]:
        """Return (leader's copy, follower, the entry it stands after) of snapshots that have begun, and forget them."""
        begun, self._begun = self._begun, []
        return begun

    def on_ack(self, message: SnapshotAck, progress: Progress, now: float) -> bool:
        """Take what a follower says of its snapshot; True if it has it."""
        found = self._outgoing.get(progress)
        if found is None:
            return False
        _, outgoing = found
        partition, epoch, base, *_ = outgoing.tag
        if (partition, epoch, base) != (message.partition, message.epoch, message.base):
            return False
        outgoing.on_ack(message, now)
        if message.is_complete:
            self.sent += 1
            del self._outgoing[progress]
        return message.is_complete

    def next_deadline(self) -> float:
        """Return when to ask for `messages` again, if nothing is heard."""
        return min((outgoing.next_deadline() for _, outgoing in self._outgoing.values()), default=_NEVER)


def _may_be_copied(replica: Replica) -> bool:
    """Say whether a leader may send its state: when it knows what is committed, or cannot learn it without doing so.

    With too few copies in sync its no-op does not commit before others have joined, and these may need what it has
    forgotten. What it has applied is committed, only perhaps not all; and whoever acknowledged more needs no snapshot.
    """
    return replica.is_ready or (replica.leading is not None and not replica.leading.can_commit)


class Incoming:
    """The chunks of one snapshot, as far as they have come.

    Which one it is say epoch and base: one leader's state after one entry is always cut in the same way.
    """

    def __init__(self, chunk: SnapshotChunk) -> None:
        self._place = (chunk.epoch, chunk.base)
        self._chunks: list[Any] = []

    def is_of(self, chunk: SnapshotChunk) -> bool:
        """Say whether a chunk belongs to this snapshot."""
        return self._place == (chunk.epoch, chunk.base)

    def is_before(self, chunk: SnapshotChunk) -> bool:
        """Say whether a chunk belongs to a snapshot that its leader has taken after this one."""
        return self._place < (chunk.epoch, chunk.base)

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
