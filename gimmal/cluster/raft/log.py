"""The log of one node: a snapshot, and entries behind a base.

        base_index      snapshot.index            last_index
             |                |                        |
    (gone)   [ kept for       ][ entries                ]
             [ laggards       ]

Invariants:

- `base_index <= snapshot.index <= last_index`. Entries exist for every index after the base; of the base itself the
  term is known, so that an entry can be checked against the one before it. Index 0 of term 0 is before everything.
- Terms never decrease along the log.
- The configuration in force is the newest in the log, or that of the snapshot. It is looked up, never stored twice:
  a truncation takes back the configuration that it cuts off.

What is durable, committed or sent is not known here.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gimmal.cluster.raft.configuration import NOBODY, Configuration, read_configuration
from gimmal.types import Command
from gimmal.wire.codec import pack_tree
from gimmal.wire.messages import Wire

NOOP: Final = 0
"""The first entry of every leader: what its predecessors left behind commits with it."""

COMMAND: Final = 1
CONFIGURATION: Final = 2


class Entry(NamedTuple):
    """One entry: the term of the leader that appended it, its kind, and a payload that Raft does not look into.

    The payload of a `CONFIGURATION` is one; that of a `NOOP` is empty.
    """

    term: int
    kind: int
    payload: Command


class Snapshot(NamedTuple):
    """The owner's state after entry `index`, that entry's term, and the configuration as of there."""

    index: int  # type: ignore[assignment]  # hides a method of tuples that nobody needs
    term: int
    configuration: Configuration
    state: Wire


EMPTY: Final = Snapshot(0, 0, NOBODY, ())
"""Before the first entry."""


class Stored(NamedTuple):
    """Everything of a node that has to survive a crash; without arguments, that of a voter that is new."""

    term: int = 0
    vote: str | None = None
    snapshot: Snapshot = EMPTY
    entries: tuple[Entry, ...] = ()


def read_entries(trees: Sequence[tuple[int, int, Wire]], prev_term: int, term: int) -> tuple[Entry, ...]:
    """Return the entries of an `AppendEntries` of a term, that follow one of `prev_term`.

    Raises:
        ValueError, TypeError: an entry is of no known kind, its payload is not of that kind, or terms decrease.
    """
    entries = tuple(Entry(*tree) for tree in trees)
    for entry in entries:
        if not prev_term <= entry.term <= term or entry.term < 1:
            raise ValueError("terms rise along a log, up to that of the leader")
        if entry.kind not in (NOOP, COMMAND, CONFIGURATION) or type(entry.payload) is not tuple:
            raise ValueError("an entry is a no-op, a command or a configuration")
        if entry.kind == CONFIGURATION:
            read_configuration(entry.payload)
        prev_term = entry.term
    return entries


class Log:
    """A snapshot and the entries behind a base."""

    def __init__(self, snapshot: Snapshot, entries: Iterable[Entry] = ()) -> None:
        self.snapshot = snapshot
        self.base_index = snapshot.index
        self._base_term = snapshot.term
        self._entries: list[Entry] = []
        self._configurations = [(snapshot.index, snapshot.configuration)]  # the first is in force at the base
        for entry in entries:
            self.append(entry)

    @property
    def last_index(self) -> int:
        """The index of the last entry."""
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self._entries[-1].term if self._entries else self._base_term

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """The index of the entry that brought the configuration in force."""
        return self._configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """Return the configuration as of an entry that is not before the base."""
        return self.configurations_from(index)[0]

    def configurations_from(self, index: int) -> list[Configuration]:
        """Return the configuration as of an entry that is not before the base, and those that came after it."""
        assert self.base_index <= index <= self.last_index, f"entry {index} is not in the log"
        if self._configurations[-1][0] <= index:
            return [self._configurations[-1][1]]  # as nearly always
        first = bisect_right(self._configurations, index, key=lambda since: since[0]) - 1
        return [configuration for _, configuration in self._configurations[first:]]

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, or None if it is not there: gone, or not yet written."""
        position = index - self.base_index
        if not 0 <= position <= len(self._entries):
            return None
        return self._entries[position - 1].term if position else self._base_term

    def entry(self, index: int) -> Entry:
        """Return the entry of an index behind the base."""
        assert self.base_index < index <= self.last_index, f"entry {index} is not in the log"
        return self._entries[index - self.base_index - 1]

    def entries_from(self, index: int) -> tuple[Entry, ...]:
        """Return all entries from an index behind the base on."""
        assert index > self.base_index, f"entry {index} is gone"
        return tuple(self._entries[index - self.base_index - 1 :])

    def portion_from(self, index: int, count_max: int, bytes_max: int) -> tuple[Entry, ...]:
        """Return the entries from an index on that one message may carry: within both limits, but one at least."""
        assert index > self.base_index, f"entry {index} is gone"
        position = index - self.base_index - 1
        portion = self._entries[position : position + count_max]
        room = bytes_max
        for count, entry in enumerate(portion):
            room -= len(pack_tree(entry.payload))
            if room < 0 and count:
                return tuple(portion[:count])
        return tuple(portion)

    def last_not_after(self, index: int, term: int) -> int:
        """Return the last index, up to `index`, whose entry is of `term` or an older one; before the base if none is.

        Two logs that differ at some entry can agree only before it, and only on entries that neither has in a later
        term than the other: this skips, in one step, all that cannot agree (Raft, section 5.3, the end).
        """
        if index < self.base_index or self._base_term > term:
            return self.base_index - 1
        end = min(index, self.last_index) - self.base_index
        return self.base_index + bisect_right(self._entries, term, hi=end, key=lambda entry: entry.term)

    def append(self, entry: Entry) -> int:
        """Write an entry behind the last one and return its index."""
        assert entry.term >= self.last_term, f"an entry of term {entry.term} after one of term {self.last_term}"
        self._entries.append(entry)
        if entry.kind == CONFIGURATION:
            self._configurations.append((self.last_index, read_configuration(entry.payload)))
        return self.last_index

    def truncate_from(self, index: int) -> None:
        """Cut off an entry and all behind it, and with them the configurations they brought."""
        assert index > self.snapshot.index, f"entry {index} is part of the snapshot"
        del self._entries[index - self.base_index - 1 :]
        while self.configuration_index >= index:
            self._configurations.pop()

    def compact(self, index: int, state: Wire, kept: int) -> None:
        """Take the state after an entry as the new snapshot, and drop the entries up to there but the last `kept`."""
        term = self.term_at(index)
        assert term is not None, f"entry {index} is not in the log"
        self.snapshot = Snapshot(index, term, self.configuration_at(index), state)
        base_index = max(self.base_index, index - kept)
        base_term = self.term_at(base_index)
        assert base_term is not None
        at_base = (base_index, self.configuration_at(base_index))
        self._configurations = [at_base, *(since for since in self._configurations if since[0] > base_index)]
        del self._entries[: base_index - self.base_index]
        self.base_index, self._base_term = base_index, base_term
