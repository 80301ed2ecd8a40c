"""What of a node's hard state and log is durable: the difference is what has to be written before anything is sent."""

from gimmal.cluster.raft.facts import HardState, Unsaved
from gimmal.cluster.raft.log import Log, Stored


class Durability:
    """Keeps up to where everything is saved. It is asked with the present hard state and log, which it does not keep.

    `index` is the last entry that is saved, as such or in a snapshot.
    """

    def __init__(self, stored: Stored) -> None:
        self.index = stored.snapshot.index + len(stored.entries)
        self._hard_state = HardState(stored.term, stored.vote)
        self._snapshot_index = stored.snapshot.index

    def on_changed_from(self, index: int) -> None:
        """Note that the log has, or will have, other entries from an index on."""
        self.index = min(self.index, index - 1)

    def on_saved(self, hard_state: HardState, log: Log) -> None:
        """Note that everything is saved."""
        self.index = log.last_index
        self._hard_state = hard_state
        self._snapshot_index = log.snapshot.index

    def may_be_told(self, hard_state: HardState, log: Log) -> bool:
        """Say whether messages that stand for all this may leave. A snapshot of entries that are saved may wait."""
        return self.index == log.last_index and hard_state == self._hard_state

    def unsaved(self, hard_state: HardState, log: Log) -> Unsaved | None:
        """Return what is not saved, or None."""
        if log.snapshot.index > self._snapshot_index:
            first_index = log.snapshot.index + 1
            return Unsaved(hard_state, log.snapshot, first_index, log.entries_from(first_index))
        if self.may_be_told(hard_state, log):
            return None
        first_index = self.index + 1
        return Unsaved(self._changed(hard_state), None, first_index, log.entries_from(first_index))

    def _changed(self, hard_state: HardState) -> HardState | None:
        """Return the hard state if it is not the saved one: a vote that is not durable could be given twice."""
        return hard_state if hard_state != self._hard_state else None
