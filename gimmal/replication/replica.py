"""One copy of one partition: the single way by which a write reaches the state.

    leader      propose -> append, stamped with epoch and time -> acknowledged by all of MaxISR -> commit -> apply
    follower    align to the leader's log -> append -> acknowledge -> commit, as far as the leader says -> apply

A write is never carried out when it arrives. When it is committed, every copy applies it with the same pure function,
and the leader answers with what apply returned. So the state is always that of the committed log, and a deposed leader
cuts back its log, never its state.

Who leads, who holds and who is in sync says the table (`see`); this machine elects nobody. Rules:

- A new leader begins its epoch with a no-op. Until that has committed it does not know what is committed, and so
  answers no reads (`is_ready`).
- A follower takes entries only under the epoch of its own view, from the leader that its view names, if the view lists
  it as a holder, and only after it has been aligned in this epoch: told up to where its log is the leader's, and cut
  back to there. That point is never below what it knows to be committed.
- A copy whose log may contain what does not count any more (`View.reset_epoch`) starts again from nothing. Whoever
  leads first after that numbers its entries from where no earlier leader can have come, as numbers are names: of
  sessions, and of versions.

Invariants: a sequence number is committed once; commit, epoch and the log's time never go back; what is applied is
committed.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from gimmal.replication.leading import Leading
from gimmal.replication.log import History, Log, LogMemory
from gimmal.replication.stream import Portion, Stream
from gimmal.replication.view import View
from gimmal.store.engine import Engine
from gimmal.types import Command, Entry, Incarnation
from gimmal.wire import commands

_UNFOLLOWED_BYTES: Final = 32 * 1024
_NUMBERS_PER_EPOCH: Final = 2**40

Committed: TypeAlias = tuple["Replica", Any, Command, Any]
"""A fact for the node, `(replica, ticket, command, result)`: its leader committed and applied this, with this result.

A ticket is whatever the caller wanted back with the result; None when nobody waits.
"""


class Replica:
    """The copy of `partition` on `me`. All attributes are for others to read only.

    `source` is the life of a node that it takes entries from: the leader of its view, if the view lists it as a holder.
    """

    __slots__ = (
        "_tickets",
        "aligned_epoch",
        "commit",
        "engine",
        "epoch",
        "is_dirty",
        "leading",
        "log",
        "me",
        "partition",
        "source",
        "view",
    )

    def __init__(self, partition: int, me: Incarnation, engine: Engine, memory: LogMemory | None = None) -> None:
        self.partition = partition
        self.me = me
        self.engine = engine
        self.log = Log(memory=memory)
        self.commit = 0
        self.view: View | None = None
        self.epoch = 0
        self.source: Incarnation | None = None
        self.leading: Leading | None = None
        self.aligned_epoch = 0
        self.is_dirty = False
        self._tickets: dict[int, Any] = {}

    @property
    def is_ready(self) -> bool:
        """Whether this copy leads and knows everything that is committed."""
        leading = self.leading
        return leading is not None and self.commit > leading.leso

    @property
    def is_alone(self) -> bool:
        """Whether this copy leads, and nobody follows."""
        return self.leading is not None and not self.leading.followers

    # -- the table --------------------------------------------------------------------------------------------------

    def see(self, view: View, stream_to: Callable[[Incarnation], Stream], now_ms: int) -> list[Any]:
        """Go by a newer row; return the tickets of proposals that this copy cannot answer for any more."""
        before, self.view = self.view, view
        if before is not None and view.version < before.version:
            self.view = before
            return []
        assert before is None or view.epoch >= before.epoch, f"the epoch of partition {self.partition} went back"
        is_new_epoch = before is None or view.epoch > before.epoch
        self.epoch = view.epoch
        self.source = view.leader if self.me in view.holders else None
        self._drop_what_does_not_count(view)
        abandoned = self.depose() if is_new_epoch or view.leader != self.me else []
        if view.leader == self.me:
            if self.leading is None:
                if view.reset_epoch > self.log.last_epoch and view.survivor == self.me.name:
                    self._start_again_with_all_of_it(view.reset_epoch)
                self.leading = Leading(self.me, view, self.log.last, stream_to)
                self.log.append((view.epoch, max(self.log.now_ms, now_ms), 0, 0, 0, (commands.NOOP,)))
                self.aligned_epoch = view.epoch
            self.leading.see(view)
        return abandoned

    def _drop_what_does_not_count(self, view: View) -> None:
        """Start again if a loss was accepted."""
        if view.reset_epoch <= self.log.last_epoch or view.survivor == self.me.name:
            return
        base = 0 if view.survivor else view.reset_epoch * _NUMBERS_PER_EPOCH
        if (self.log.base, self.log.last) != (base, base):
            self.reset(Engine(self.engine.keys.footprint), base, 0, self.log.now_ms)
            self.aligned_epoch = 0

    def _start_again_with_all_of_it(self, epoch: int) -> None:
        """Take all that is here for committed, as there is nothing else, and go on with numbers of another range.

        Others had entries that this copy lacks: clients know sessions and versions by the numbers of these.
        """
        log, apply = self.log, self.engine.apply
        for seq in range(self.commit + 1, log.last + 1):
            apply(seq, log.entries[seq - log.base - 1])
        log.forget(log.last)
        self.log = Log(epoch * _NUMBERS_PER_EPOCH, epoch, log.now_ms, log.memory)  # so that it is seen to count
        self.commit = self.log.base

    def depose(self) -> list[Any]:
        """Lead no more; return the tickets of proposals that this copy cannot answer for any more."""
        abandoned = list(self._tickets.values())
        self._tickets.clear()
        self.leading = None
        return abandoned

    # -- leading ----------------------------------------------------------------------------------------------------

    def propose(self, ticket: Any, origin: tuple[int, int, int], command: Command, now_ms: int) -> Sequence[Committed]:
        """Append a command of (session, number, floor), stamped with the leader's time; return what that committed."""
        leading, log = self.leading, self.log
        assert leading is not None, "only a leader proposes"
        seq = log.append((leading.view.epoch, max(now_ms, log.now_ms), *origin, command))
        if ticket is not None:
            self._tickets[seq] = ticket
        return () if leading.must_have else self.advance()

    def advance(self) -> list[Committed]:
        """Commit, as the leader, what has been acknowledged by now; return it with its results."""
        leading, log = self.leading, self.log
        if leading is None:
            return []
        commit = leading.committed(log.last)
        if commit <= self.commit:
            return []
        found: list[Committed] = []
        entries, base, apply, tickets = log.entries, log.base, self.engine.apply, self._tickets
        for seq in range(self.commit + 1, commit + 1):
            entry = entries[seq - base - 1]
            found.append((self, tickets.pop(seq, None), entry[5], apply(seq, entry)))
        self.commit = commit
        return found

    def portion(self, first: int, bytes_max: int) -> Portion | None:
        """Return what a follower is sent from an entry on, one at least if there is one; None if that is forgotten."""
        log, prev = self.log, first - 1
        prev_epoch = log.epoch_at(prev)
        if prev_epoch is None:
            return None
        entries, size_bytes = log.portion(first, bytes_max)
        section = (self.partition, self.epoch, prev, prev_epoch, self.commit, entries)
        return Portion(section, first, prev + len(entries), size_bytes)

    def forget_if_long(self) -> None:
        """Forget what a log that nobody follows has kept."""
        log = self.log
        if log.size_bytes > _UNFOLLOWED_BYTES and self.is_alone:
            log.forget(self.commit)

    def read(self, command: Command, now_ms: int) -> Any:
        """Answer from committed state, at a time that is never before the log's."""
        return self.engine.read(max(now_ms, self.log.now_ms), command)

    # -- following --------------------------------------------------------------------------------------------------

    def follows(self, leader: Incarnation, epoch: int) -> bool:
        """Say whether this copy takes anything from a leader: by its own view that one leads, and it holds."""
        return epoch == self.epoch and leader == self.source

    def align(self, seq: int, epoch: int) -> bool:
        """Cut the log back to where it is the leader's; False if it is not, and `history` has to tell what it is.

        Once aligned in an epoch, it is the leader's as far as it goes. A leader that has begun anew with this copy,
        which was fenced meanwhile, may not know how far that is.
        """
        assert self.view is not None, "only who follows is aligned"
        if self.aligned_epoch == self.view.epoch:
            return seq <= self.log.last
        if self.log.epoch_at(seq) != epoch:
            return False
        assert seq >= self.commit, (
            f"partition {self.partition} would lose entries behind {seq}: {self.commit} is committed"
        )
        self.log.truncate(seq)
        self.aligned_epoch = self.view.epoch
        return True

    def follow(self, prev: int, prev_epoch: int, entries: Sequence[Entry], commit: int) -> bool:
        """Append what the leader sent behind entry `prev`, and apply what is committed; False if it does not fit."""
        log = self.log
        assert self.view is not None, "only who follows appends"
        if self.aligned_epoch != self.view.epoch or prev > log.last:
            return False
        if prev == log.last:
            if prev_epoch != log.last_epoch:
                return False
        elif prev >= log.base and log.epoch_at(prev) != prev_epoch:
            return False
        known = log.last - prev  # this copy does not cut back within an epoch: what it has is what was sent
        for entry in entries[known:] if known else entries:
            log.append(entry)
        commit = min(commit, log.last)
        if commit > self.commit:
            own, base, apply = log.entries, log.base, self.engine.apply
            for seq in range(self.commit + 1, commit + 1):
                apply(seq, own[seq - base - 1])
            self.commit = commit
        return True

    def history(self) -> History:
        """Return how far each epoch reaches in the log."""
        return self.log.history()

    def reset(self, engine: Engine, base: int, base_epoch: int, now_ms: int) -> None:
        """Take another state, that after entry `base`, in place of what is here."""
        self.discard()
        self.engine = engine
        self.log = Log(base, base_epoch, now_ms, self.log.memory)
        self.commit = base

    def discard(self) -> None:
        """Drop state and log."""
        self.engine.discard()
        self.log.forget(self.log.last)
