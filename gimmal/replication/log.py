"""The log of one copy of a partition: entries behind a base, which is what has been forgotten of it.

    base            entries ...                        last
     |  base+1  base+2   ...   commit  ...               |
     `- its epoch is kept: two logs can still be compared there

Two logs that have an entry of the same epoch at the same place are equal up to there: an epoch has one leader, which
writes each place once. So where two logs part is found by comparing how far each epoch reaches in both (`history`,
`last_common`), as Kafka does since KIP-101, and never by looking at entries.

Invariants: epochs do not go back along the log; nothing at or below the base is ever asked for or cut off.
"""

from collections.abc import Sequence

from gimmal.types import Entry
from gimmal.wire.commands import size_of

History = tuple[tuple[int, int], ...]
"""`(epoch, sequence number of its last entry)` of each epoch of a log, in order; the base counts as an entry."""


class Log:
    """Entries `base + 1` to `last`; `size_bytes` is about what they take in memory.

    `now_ms` is the highest time stamped on any entry there ever was. All of these are for others to read only.
    """

    __slots__ = ("_ends", "base", "base_epoch", "entries", "now_ms", "size_bytes", "sizes")

    def __init__(self, base: int = 0, base_epoch: int = 0, now_ms: int = 0) -> None:
        self.base = base
        self.base_epoch = base_epoch
        self.entries: list[Entry] = []
        self.sizes: list[int] = []
        self.size_bytes = 0
        self.now_ms = now_ms
        self._ends: dict[int, int] = {base_epoch: base}

    @property
    def last(self) -> int:
        """The sequence number of the last entry."""
        return self.base + len(self.entries)

    @property
    def last_epoch(self) -> int:
        """The epoch of the last entry."""
        return self.entries[-1][0] if self.entries else self.base_epoch

    def epoch_at(self, seq: int) -> int | None:
        """Return the epoch of an entry or of the base; None for what is forgotten or not there yet."""
        if seq == self.base:
            return self.base_epoch
        return self.entries[seq - self.base - 1][0] if self.base < seq <= self.last else None

    def append(self, entry: Entry) -> int:
        """Add an entry; return its sequence number."""
        size_bytes = size_of(entry[5])
        self.entries.append(entry)
        self.sizes.append(size_bytes)
        self.size_bytes += size_bytes
        if entry[1] > self.now_ms:
            self.now_ms = entry[1]
        last = self._ends[entry[0]] = self.base + len(self.entries)
        return last

    def portion(self, first: int, bytes_max: int) -> tuple[Sequence[Entry], int]:
        """Return entries from `first` on, one at least if there is one, and about how many bytes they take."""
        start, sizes = first - self.base - 1, self.sizes
        end, total = len(sizes), 0
        if end - start > 1:
            size_bytes = sum(sizes[start:])
            if size_bytes > bytes_max:
                for end in range(start, len(sizes)):
                    if total + sizes[end] > bytes_max and end > start:
                        break
                    total += sizes[end]
                return tuple(self.entries[start:end]), total
            return tuple(self.entries[start:]), size_bytes
        if end == start:
            return (), 0
        return (self.entries[start],), sizes[start]

    def history(self) -> History:
        """Return how far each epoch reaches."""
        return tuple(self._ends.items())

    def last_common(self, history: History) -> int | None:
        """Return the last place where this log and one with that history agree; None if it may be below the base."""
        for epoch, end in reversed(history):
            own_end = self._ends.get(epoch)
            if own_end is not None:
                common = min(end, own_end)
                return common if common >= self.base else None
        return None

    def truncate(self, last: int) -> None:
        """Forget all entries behind `last`."""
        assert last >= self.base, f"entry {last} is forgotten: the log begins behind {self.base}"
        count = last - self.base
        self.size_bytes -= sum(self.sizes[count:])
        del self.entries[count:], self.sizes[count:]
        self._ends = {epoch: end for epoch, end in self._ends.items() if end <= last}
        self._ends[self.last_epoch] = last

    def forget(self, upto: int) -> None:
        """Move the base up to an entry: everything up to it is in the state of whoever keeps this log."""
        count = upto - self.base
        if count <= 0:
            return
        self.base_epoch = self.entries[count - 1][0]
        self.base = upto
        self.size_bytes -= sum(self.sizes[:count])
        del self.entries[:count], self.sizes[:count]
        self._ends = {epoch: end for epoch, end in self._ends.items() if end > upto or epoch == self.base_epoch}
        self._ends[self.base_epoch] = max(upto, self._ends[self.base_epoch])
