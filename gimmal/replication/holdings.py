"""All copies that a node holds, and what they say to those on other nodes.

    Replica   one copy: its log, its state, what it knows as a leader
    Stream    what goes to one other node, for all partitions that are led here
    Transfers  snapshots for copies that are too far behind
    Retention  how much of their logs copies keep, for those that are not
    Following  what copies here take from those who lead them
    Petition  what the meta group is asked for: other in-sync sets
    Confirming  reads that wait for the other copies to say that this leader is still the leader

How one write travels: `propose` appends it to the log of its partition, which is put down as dirty; at the end of the
turn `drain` makes one Append per follower of all that is new. Each follower appends, and acknowledges the whole message
with one number (`receive` there); the leader counts, commits and applies (`receive` here): `take_committed`.
What committed reaches the followers with the next Append of that partition, or alone after `COMMIT_AFTER_S`.

A message counts only if it comes from the life of a node that the table names, and is for this life: the header says so
and the control plane drops the others; from which leader, this room checks.
"""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final, NamedTuple

from gimmal.replication.confirming import Confirming, answer
from gimmal.replication.following import Following
from gimmal.replication.petition import Petition
from gimmal.replication.progress import Progress
from gimmal.replication.replica import Committed, Replica
from gimmal.replication.retention import Retention
from gimmal.replication.stream import Portion, Stream
from gimmal.replication.transfer import Transfers
from gimmal.replication.view import View
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.types import Command, Incarnation, Instant
from gimmal.wire.peer_messages import (
    Append,
    AppendAck,
    Confirm,
    Confirmed,
    Histories,
    PeerMessage,
    SnapshotAck,
    SnapshotChunk,
)

COMMIT_AFTER_S: Final = 0.05
LOG_BYTES: Final = 64 * 1024 * 1024
_LOOK_EVERY_S: Final = 0.1
_NEVER: Final = float("inf")


class Deposed(NamedTuple):
    """A copy does not lead any more, or in another epoch: nobody here knows what becomes of these proposals."""

    replica: Replica
    tickets: list[Any]


class Holdings:
    """The copies on one life of a node. For those that fall behind, up to `log_bytes` of their logs are kept.

    Behind snapshots that are under way as much again is kept.

    `uncommitted_bytes` is about how much has been proposed here and waits for followers.
    """

    def __init__(self, me: Incarnation, footprint: Footprint, log_bytes: int = LOG_BYTES) -> None:
        self.me = me
        self.replicas: dict[int, Replica] = {}
        self.petition = Petition()
        self.confirming = Confirming()
        self.footprint = footprint
        self.uncommitted_bytes = 0
        self._retention = Retention(log_bytes)
        self._streams: dict[Incarnation, Stream] = {}
        self._numbers = count(1)
        self._transfers = Transfers()
        self._dirty: list[Replica] = []
        self._untold: dict[Replica, None] = {}  # committed, and not said to all followers
        self._tell_at_s = _NEVER
        self._look_at_s = 0.0
        self._is_touched = True  # whether there is anything to be done before the next deadline
        self._wakes_at_s = _NEVER
        self._table_version = 0
        self._leaving: dict[Replica, None] = {}  # stopped, and not yet all committed
        self._committed: list[Committed] = []
        self._outbox: list[tuple[Incarnation, PeerMessage]] = []
        self._following = Following(me, self.replicas, footprint, self._outbox)
        self._handlers: dict[type[PeerMessage], Callable[[Any, Incarnation, Instant], None]] = {
            Append: lambda message, sender, now: self._following.on_append(message, sender),
            AppendAck: self._on_append_ack,
            Histories: self._on_histories,
            SnapshotChunk: lambda message, sender, now: self._following.on_snapshot_chunk(message, sender),
            SnapshotAck: self._on_snapshot_ack,
            Confirm: self._on_confirm,
            Confirmed: lambda message, sender, now: self.confirming.on_confirmed(message, sender),
        }

    # -- the table --------------------------------------------------------------------------------------------------

    def see(self, partition: int, view: View, now: Instant) -> list[Deposed]:
        """Go by a newer row of a partition that this node holds; return what has lost its leader here."""
        self._is_touched = True
        replica = self.replicas.get(partition)
        if replica is None:
            replica = self.replicas[partition] = Replica(
                partition, self.me, Engine(self.footprint), self._retention.memory
            )
        epoch = replica.view.epoch if replica.view is not None else -1
        self.uncommitted_bytes -= _tail_bytes(replica)
        abandoned = replica.see(view, self._stream_to, now.unix_ms)
        self.uncommitted_bytes += _tail_bytes(replica)
        if replica.leading is not None:
            self._advance(replica, now.seconds)  # what a smaller in-sync set has all acknowledged
            self._touch(replica)
        self._following.see(replica, view, now.seconds, is_new_epoch=view.epoch > epoch)
        return [Deposed(replica, abandoned)] if abandoned else []

    def drop(self, partition: int) -> list[Deposed]:
        """Forget a copy that this node is not to hold any more; return it if proposals were under way."""
        replica = self.replicas.pop(partition)
        self.uncommitted_bytes -= _tail_bytes(replica)
        self._following.drop(replica)
        self._untold.pop(replica, None)
        replica.discard()
        abandoned = replica.depose()
        return [Deposed(replica, abandoned)] if abandoned else []

    def on_table(self, version: int, now: Instant) -> None:
        """Learn that all rows of a table have been seen."""
        self._table_version = version
        self._is_touched = True
        self._settle_petition(now.seconds)
        for member in [member for member, stream in self._streams.items() if stream.is_idle]:
            if not any(
                replica.leading is not None and member in replica.leading.followers_by_member
                for replica in self.replicas.values()
            ):
                del self._streams[member]

    def on_answer(self, number: int, version: int, now: Instant) -> None:
        """Learn that the meta group has decided about a request of this node's, by the table of a version."""
        self._is_touched = True
        self.petition.on_answer(number, version)
        self._settle_petition(now.seconds)

    def _settle_petition(self, now: float) -> None:
        for partition, row_version in self.petition.settled(self._table_version):
            replica = self.replicas.get(partition)
            if replica is not None and replica.leading is not None:
                replica.leading.on_refused(row_version)
                self._advance(replica, now)
                self._touch(replica)

    def _stream_to(self, member: Incarnation) -> Stream:
        stream = self._streams.get(member)
        if stream is None:
            stream = self._streams[member] = Stream(member, self._numbers)
        return stream

    # -- leading ----------------------------------------------------------------------------------------------------

    def propose(
        self, replica: Replica, ticket: Any, origin: tuple[int, int, int], command: Command, now_ms: int
    ) -> "Iterable[Committed]":
        """Append a command to a copy that leads; return what that committed at once: with one copy, itself."""
        self._is_touched = True
        committed = replica.propose(ticket, origin, command, now_ms)
        if committed and replica.is_alone:
            replica.forget_if_long()
            return committed
        if not committed:
            self.uncommitted_bytes += replica.log.sizes[-1]
        if not replica.is_dirty:
            replica.is_dirty = True
            self._dirty.append(replica)
        return committed

    def hand_over(self, replica: Replica, target: str) -> None:
        """Stop leading a partition, and let a member of its in-sync set lead as soon as everything has committed."""
        assert replica.leading is not None, "only a leader hands over"
        self._is_touched = True
        replica.leading.leaves_to = target
        self._leaving[replica] = None

    def _hand_over_what_is_complete(self) -> None:
        for replica in list(self._leaving):
            leading = replica.leading
            if leading is None or not leading.leaves_to:
                del self._leaving[replica]
            elif replica.commit == replica.log.last and leading.proposal is None:
                del self._leaving[replica]
                view = leading.view
                self.petition.want_leader(replica.partition, view.epoch, view.version, leading.leaves_to)

    def _touch(self, replica: Replica) -> None:
        """Look at a copy at the end of the turn: it may have something to say to its followers."""
        if not replica.is_dirty:
            replica.is_dirty = True
            self._dirty.append(replica)

    @property
    def behind_count(self) -> int:
        """How many copies here are not in sync, or not known to be: until they are, others must not be stopped."""
        return sum(replica.view is None or self.me not in replica.view.in_sync for replica in self.replicas.values())

    def facts(self) -> dict[str, int]:
        """Return what a node's status says of its copies: bytes of logs and of what waits for followers, snapshots."""
        return {
            "log_bytes": self._retention.memory.size_bytes,
            "uncommitted_bytes": self.uncommitted_bytes,
            "snapshots_sent": self._transfers.sent,
            "snapshots_taken": self._following.snapshots_taken,
        }

    def heard_at_s(self, replica: Replica) -> float:
        """Return up to when all others of MaxISR are known to have followed this leader, in seconds.

        That is never if there are none: nobody would have told a leader that is alone of another.
        """
        leading = replica.leading
        if leading is None:
            return -_NEVER
        return min((progress.stream.heard_at_s for progress in leading.must_have), default=-_NEVER)

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive(self, message: PeerMessage, sender: Incarnation, now: Instant) -> None:
        """Take a message of a life of another node's.

        Raises:
            RemoteProtocolError: it brings a snapshot that is none.
        """
        self._is_touched = True
        self._handlers[type(message)](message, sender, now)

    def confirm(self, replica: Replica, ticket: Any) -> None:
        """Let a read of a partition that is led here wait until it is certain that it still is (`confirming.take`)."""
        self._is_touched = True
        self.confirming.ask(replica, ticket)

    def take_committed(self) -> list[Committed]:
        """Return what has committed here since the last call, but for what `propose` returned, and forget it."""
        committed, self._committed = self._committed, []
        return committed

    def _on_append_ack(self, message: AppendAck, sender: Incarnation, now: Instant) -> None:
        stream = self._streams.get(sender)
        if stream is None:
            return
        for replica, progress, seq in stream.on_ack(message, now.seconds):
            if progress.on_acknowledged(seq):
                self._on_progress(replica, progress, now.seconds)

    def _advance(self, replica: Replica, now: float) -> None:
        """Commit what can be."""
        before = replica.commit
        found = replica.advance()
        if found:
            self._committed += found
            self.uncommitted_bytes -= _bytes_between(replica, before)
            if replica.leading is not None and replica.leading.followers:
                if not self._untold:
                    self._tell_at_s = now + COMMIT_AFTER_S
                self._untold[replica] = None

    def _on_progress(self, replica: Replica, progress: Progress, now: float) -> None:
        leading = replica.leading
        if leading is None:
            return
        if leading.committed(replica.log.last) > replica.commit:
            self._advance(replica, now)
        if progress not in leading.must_have and leading.may_join(progress, replica.commit):
            self._petition(replica, (*leading.view.in_sync, progress.member))

    def _petition(self, replica: Replica, in_sync: tuple[Incarnation, ...]) -> None:
        leading = replica.leading
        assert leading is not None, "only a leader asks for another in-sync set"
        leading.propose(in_sync)
        self.petition.want_in_sync(replica.partition, leading.view.epoch, leading.view.version, in_sync)

    def _on_confirm(self, message: Confirm, sender: Incarnation, now: Instant) -> None:
        confirmed = answer(message, self.replicas)
        confirmed.destination = sender.number
        self._outbox.append((sender, confirmed))

    # -- alignment --------------------------------------------------------------------------------------------------

    def _on_histories(self, message: Histories, sender: Incarnation, now: Instant) -> None:
        for partition, epoch, history in message.histories:
            replica = self.replicas.get(partition)
            leading = replica.leading if replica is not None else None
            if replica is None or leading is None or leading.view.epoch != epoch:
                continue
            progress = leading.followers_by_member.get(sender)
            if progress is None or progress.match >= 0 or progress.is_installing:
                continue  # it is aligned already: this was said before
            common = replica.log.last_common(history)
            if common is None:
                self._transfers.add(replica, progress)
            else:
                progress.align(common)
                progress.stream.hurry(progress)
                progress.stream.offer(replica, progress)

    # -- snapshots --------------------------------------------------------------------------------------------------

    def _on_snapshot_ack(self, message: SnapshotAck, sender: Incarnation, now: Instant) -> None:
        replica = self.replicas.get(message.partition)
        leading = replica.leading if replica is not None else None
        progress = leading.followers_by_member.get(sender) if leading is not None else None
        if replica is not None and progress is not None and self._transfers.on_ack(message, progress, now.seconds):
            progress.on_installed(message.base)
            progress.stream.hurry(progress)
            progress.stream.offer(replica, progress)
            self._on_progress(replica, progress, now.seconds)

    # -- time, out --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when to call `tick` next, in the clock of `Instant.seconds`."""
        return self._next_deadline() if self._is_touched else self._wakes_at_s

    def _next_deadline(self) -> float:
        streams = min((stream.next_deadline() for stream in self._streams.values()), default=_NEVER)
        transfers = self._transfers.next_deadline()
        is_watching = any(stream.owes_since_s < _NEVER for stream in self._streams.values())
        looks_at_s = self._look_at_s if is_watching else _NEVER
        confirms_at_s = self.confirming.next_deadline()
        return min(streams, transfers, confirms_at_s, self._tell_at_s, self._following.next_deadline(), looks_at_s)

    def tick(self, now: Instant) -> None:
        """Do what time asks for."""
        if now.seconds < self._wakes_at_s and not self._is_touched:
            return
        self._is_touched = True
        if self._tell_at_s <= now.seconds:
            self._tell_commits()
        self.confirming.tick(now.seconds)
        for stream in self._streams.values():
            stream.tick(now.seconds)
        if self._look_at_s <= now.seconds:
            self._look_at_s = now.seconds + _LOOK_EVERY_S
            for member, stream in self._streams.items():
                if now.seconds - stream.owes_since_s > stream.slow_after_s():
                    self._drop_from_in_sync_sets(member)

    def _tell_commits(self) -> None:
        """Let followers know of what committed and that no Append has told them."""
        untold, self._untold, self._tell_at_s = self._untold, {}, _NEVER
        for replica in untold:
            for progress in replica.leading.followers if replica.leading is not None else ():
                if progress.told_commit < replica.commit:
                    progress.stream.offer(replica, progress)

    def _drop_from_in_sync_sets(self, member: Incarnation) -> None:
        """Ask for all in-sync sets without a node that is behind."""
        for replica in self.replicas.values():
            leading = replica.leading
            if leading is not None and leading.may_drop(member):
                self._petition(replica, tuple(other for other in leading.view.in_sync if other != member))

    def drain(self, now: Instant) -> list[tuple[Incarnation, PeerMessage]]:
        """Return (life of a node, message) pairs to be sent, and forget them."""
        if not self._is_touched and now.seconds < self._wakes_at_s:
            return []  # most turns are about something else
        dirty, self._dirty = self._dirty, []
        for replica in dirty:
            replica.is_dirty = False
            leading = replica.leading
            if leading is not None:
                last = replica.log.last
                for progress in leading.followers:
                    if progress.next <= last or progress.aligns_at is not None:
                        progress.stream.offer(replica, progress)
                    if progress not in leading.must_have and leading.may_join(progress, replica.commit):
                        self._petition(replica, (*leading.view.in_sync, progress.member))
        if self._retention.is_exceeded(self.uncommitted_bytes):
            self._retention.shorten(self.replicas.values(), self.uncommitted_bytes)
        if self._leaving:
            self._hand_over_what_is_complete()
        self._following.tell(now.seconds)
        made: dict[Replica, Portion] = {}
        for member, stream in self._streams.items():
            self._outbox += [(member, append) for append in stream.messages(now.seconds, made)]
            for progress, replica in stream.take_needy():
                self._transfers.add(replica, progress)
        self._outbox += self.confirming.messages(now.seconds)
        self._outbox += self._transfers.messages(now.seconds)
        for replica, progress, base in self._transfers.take_begun():
            self._retention.keep(replica, progress, base)
        self._is_touched = False
        self._wakes_at_s = self._next_deadline()
        outbox = self._outbox.copy()
        self._outbox.clear()
        return outbox


def _tail_bytes(replica: Replica) -> int:
    """Return the bytes of what a copy that leads has appended and not committed."""
    if replica.leading is None:
        return 0
    return sum(replica.log.sizes[replica.commit - replica.log.base :])


def _bytes_between(replica: Replica, before: int) -> int:
    """Return the bytes of a copy's entries that were committed since `before`."""
    base = replica.log.base
    return sum(replica.log.sizes[before - base : replica.commit - base])
