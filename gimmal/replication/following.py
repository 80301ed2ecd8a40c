"""What the copies on a node take from those who lead them: entries, alignment, snapshots.

In a new epoch a leader does not know how far a follower's log is its own, nor may a follower trust its own. The leader
guesses; a follower for which the guess is wrong tells its history, how far each epoch reaches in its log, until it is
aligned: told where to cut its log back to, or sent a snapshot.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gimmal.errors import RemoteProtocolError
from gimmal.replication.log import History
from gimmal.replication.replica import Replica
from gimmal.replication.transfer import RESEND_AFTER_S, Incoming
from gimmal.replication.view import View
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation
from gimmal.wire.peer_messages import BLANK, Append, AppendAck, Histories, PeerMessage, SnapshotAck, SnapshotChunk

_EPOCHS_MAX: Final = 8_192  # of all histories in one message
_NEVER: Final = float("inf")


class Following:
    """The following of all copies that a life `me` of a node holds. What it has to say is put into `outbox`.

    `snapshots_taken` counts the copies whose state was replaced.
    """

    def __init__(
        self,
        me: Incarnation,
        replicas: Mapping[int, Replica],
        footprint: Footprint,
        outbox: list[tuple[Incarnation, PeerMessage]],
    ) -> None:
        self._me = me
        self._replicas = replicas
        self._footprint = footprint
        self.snapshots_taken = 0
        self._outbox = outbox
        self._incoming: dict[int, Incoming] = {}
        self._unaligned: dict[Replica, bool] = {}  # whether its leader, known to lead by now, was told of its log
        self._tell_at_s = _NEVER

    # -- the table --------------------------------------------------------------------------------------------------

    def see(self, replica: Replica, view: View, now: float, *, is_new_epoch: bool) -> None:
        """Learn that a copy goes by a newer row."""
        if is_new_epoch:
            self._incoming.pop(replica.partition, None)
        if view.leader is not None and view.leader != self._me and replica.aligned_epoch != view.epoch:
            self._unaligned[replica] = False
            self._tell_at_s = now

    def drop(self, replica: Replica) -> None:
        """Forget a copy that this node is not to hold any more."""
        self._incoming.pop(replica.partition, None)
        self._unaligned.pop(replica, None)

    # -- entries ----------------------------------------------------------------------------------------------------

    def on_append(self, message: Append, sender: Incarnation) -> None:
        """Take what a leader has for the copies here, and acknowledge it."""
        refused: list[int] = []
        replicas = self._replicas
        for partition, epoch, seq, seq_epoch in message.alignments:
            replica = replicas.get(partition)
            if replica is not None and replica.follows(sender, epoch):
                self._align(replica, seq, seq_epoch)
        for partition, epoch, prev, prev_epoch, commit, entries in message.sections:
            replica = replicas.get(partition)
            if (
                replica is None
                or not replica.follows(sender, epoch)
                or not replica.follow(prev, prev_epoch, entries, commit)
            ):
                refused.append(partition)
        ack = AppendAck(*BLANK, message.number, tuple(refused))
        ack.destination = sender.number
        self._outbox.append((sender, ack))

    def _align(self, replica: Replica, seq: int, seq_epoch: int) -> None:
        """Take it that a leader, which does not know how far this copy is, guesses it to be there.

        It may have guessed before it found out, and sends a snapshot by now: chunks that are here it never sends again.
        """
        if replica.align(seq, seq_epoch):
            self._unaligned.pop(replica, None)
            return
        if not self._unaligned.get(replica, False):
            self._unaligned[replica] = True  # what was said before may have come before it led
            self._tell_at_s = -_NEVER

    # -- time -------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when to call `tell` next."""
        return self._tell_at_s

    def tell(self, now: float) -> None:
        """Tell leaders what is not known to have reached them."""
        if self._tell_at_s <= now:
            self._tell_histories(now)

    def _tell_histories(self, now: float) -> None:
        """Tell each leader of copies that are not aligned with it, or that it has forgotten, what they have."""
        self._tell_at_s = now + RESEND_AFTER_S if self._unaligned else _NEVER
        by_leader: dict[Incarnation, list[tuple[int, int, History]]] = {}
        for replica in list(self._unaligned):
            view = replica.view
            if view is None or view.leader in (None, self._me):
                del self._unaligned[replica]
                continue
            if replica.aligned_epoch == view.epoch:
                del self._unaligned[replica]  # once is enough: if it is lost, the leader guesses again
            if self._me in view.holders:
                assert view.leader is not None
                by_leader.setdefault(view.leader, []).append((replica.partition, view.epoch, replica.history()))
        for leader, histories in by_leader.items():
            for portion in _portions(histories):
                message = Histories(*BLANK, tuple(portion))
                message.destination = leader.number
                self._outbox.append((leader, message))

    # -- snapshots --------------------------------------------------------------------------------------------------

    def on_snapshot_chunk(self, message: SnapshotChunk, sender: Incarnation) -> None:
        """Take a part of the state of a copy that is too far behind."""
        replica = self._replicas.get(message.partition)
        if replica is None or not replica.follows(sender, message.epoch):
            return
        is_here = replica.aligned_epoch == message.epoch and replica.log.last >= message.base
        if replica.commit > message.base and not is_here:
            return
        incoming = self._incoming.get(message.partition)
        if not is_here and (incoming is None or incoming.is_before(message)):
            incoming = self._incoming[message.partition] = Incoming(message)
        if not is_here and incoming is not None and not incoming.is_of(message):
            return
        if not is_here and incoming is not None and incoming.take(message):
            is_here = True
            self._install(replica, incoming, message)
        received = incoming.count if incoming is not None else 0
        if is_here:
            self._incoming.pop(message.partition, None)
        ack = SnapshotAck(*BLANK, message.partition, message.epoch, message.base, received, is_here)
        ack.destination = sender.number
        self._outbox.append((sender, ack))

    def _install(self, replica: Replica, incoming: Incoming, message: SnapshotChunk) -> None:
        try:
            engine = incoming.engine(self._footprint)
        except (ValueError, TypeError) as reason:
            raise RemoteProtocolError(f"a snapshot of partition {replica.partition} that is none: {reason}") from None
        replica.reset(engine, message.base, message.base_epoch, message.now_ms)
        replica.aligned_epoch = message.epoch
        self.snapshots_taken += 1
        self._unaligned.pop(replica, None)


def _portions(histories: list[tuple[int, int, History]]) -> Iterator[list[tuple[int, int, History]]]:
    """Cut histories, which grow with every change of leader, so that each part fits into one message."""
    portion, count = list[tuple[int, int, History]](), 0
    for row in histories:
        if portion and count + len(row[2]) > _EPOCHS_MAX:
            yield portion
            portion, count = [], 0
        portion.append(row)
        count += len(row[2])
    if portion:
        yield portion
