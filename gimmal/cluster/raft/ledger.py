"""One node's copy of the group's log, with its two marks: what is committed, and what is durable.

Here it is decided how a follower's log becomes its leader's. Terms, votes and roles are the machine's business.

Invariants: `log.snapshot.index <= commit_index <= log.last_index`; nothing committed is ever replaced; each entry
behind the snapshot is told as `Committed` once, in order.
"""

from typing import NamedTuple

from gimmal.cluster.raft.durability import Durability
from gimmal.cluster.raft.facts import Committed, Fact, HardState, Installed, Unsaved
from gimmal.cluster.raft.log import Entry, Log, Snapshot, Stored
from gimmal.wire.messages import Wire


class Answer(NamedTuple):
    """What a follower tells its leader: the logs agree up to an entry, or they may agree up to there at best."""

    is_accepted: bool
    upto_index: int
    upto_term: int


class Ledger:
    """The log of one node and what of it is committed and saved."""

    def __init__(self, stored: Stored) -> None:
        self.log = Log(stored.snapshot, stored.entries)
        self.commit_index = stored.snapshot.index
        self._durability = Durability(stored)

    @property
    def saved_index(self) -> int:
        """Up to where the entries are durable."""
        return self._durability.index

    # -- what a leader sent

    def write_after(self, prev_index: int, prev_term: int, entries: tuple[Entry, ...]) -> Answer:
        """Make the log hold these entries behind (`prev_index`, `prev_term`), if it holds that one."""
        if prev_index < self.commit_index:
            return self._agreed(self.commit_index)  # what is committed is in the log of every later leader
        if self.log.term_at(prev_index) != prev_term:
            agreed = max(self.log.last_not_after(prev_index, prev_term), self.commit_index)
            return self._agreed(agreed)._replace(is_accepted=False)
        for index, entry in enumerate(entries, prev_index + 1):
            if self.log.term_at(index) != entry.term:
                self._put(index, entry)
        return self._agreed(prev_index + len(entries))

    def _put(self, index: int, entry: Entry) -> None:
        """Write an entry at or behind the end; what is there gives way, with all behind it."""
        if index <= self.log.last_index:
            assert index > self.commit_index, f"entry {index} is committed and would be replaced"
            self.log.truncate_from(index)
            self._durability.on_changed_from(index)
        self.log.append(entry)

    def install(self, snapshot: Snapshot) -> tuple[Answer, list[Fact]]:
        """Take a snapshot in place of the log, unless the log holds what it stands for; return what became true."""
        facts: list[Fact] = []
        if self.log.term_at(snapshot.index) == snapshot.term:
            facts += self.commit_up_to(snapshot.index)
        elif snapshot.index > self.commit_index:
            self.log = Log(snapshot)
            self.commit_index = snapshot.index
            self._durability.on_changed_from(snapshot.index)
            facts.append(Installed(snapshot))
        return self._agreed(self.commit_index), facts

    def _agreed(self, index: int) -> Answer:
        term = self.log.term_at(index)
        assert term is not None, f"entry {index} is not in the log"
        return Answer(is_accepted=True, upto_index=index, upto_term=term)

    # -- commit

    def commit_up_to(self, index: int) -> list[Fact]:
        """Take entries as decided, up to an index in the log; return those that were not."""
        committed: list[Fact] = [Committed(at, self.log.entry(at)) for at in range(self.commit_index + 1, index + 1)]
        self.commit_index += len(committed)
        return committed

    def compact(self, index: int, state: Wire, kept: int) -> None:
        """Take the state after a committed entry as the new snapshot; keep so many entries before it."""
        assert index <= self.commit_index, f"entry {index} is not committed: commit is {self.commit_index}"
        if index > self.log.snapshot.index:
            self.log.compact(index, state, kept)

    # -- durability

    def may_be_told(self, hard_state: HardState) -> bool:
        """Say whether the entries and this hard state are durable."""
        return self._durability.may_be_told(hard_state, self.log)

    def unsaved(self, hard_state: HardState) -> Unsaved | None:
        """Return what is not durable, or None."""
        return self._durability.unsaved(hard_state, self.log)

    def on_saved(self, hard_state: HardState) -> None:
        """Note that the log and this hard state are durable."""
        self._durability.on_saved(hard_state, self.log)
