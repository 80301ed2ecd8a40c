"""The log of one copy of a partition: entries behind a base, which is what has been forgotten of it.

    base            entries ...                        last
     |  base+1  base+2   ...   commit  ...               |
     `- its epoch is kept: two logs can still be compared there

Two logs that have an entry of the same epoch at the same place are equal up to there: an epoch has one leader, which
writes each place once. So where two logs part is found by comparing how far each epoch reaches in both (`history`,
`last_common`), as Kafka does since KIP-101, and never by looking at entries.

Invariants: epochs do not go back along the log; nothing at or below the base is ever asked for or cut off.
"""

from gimmal.types import Entry
from gimmal.wire.commands import size_of

History = tuple[tuple[int, int], ...]
"""`(epoch, sequence number of its last entry)` of each epoch of a log, in order; the base counts as an entry."""


class LogMemory:
    """About how many bytes the entries of all logs of a node take."""

    __slots__ = ("size_bytes",)

    def __init__(self) -> None:
        self.size_bytes = 0


class Log:
    """Entries `base + 1` to `last`, which is of `last_epoch`; `size_bytes` is about what they take in memory.

    `now_ms` is the highest time stamped on any entry there ever was. All of these are for others to read only. What
    the entries take is counted in `memory`, too, which the logs of a node share.
    """

    __slots__ = (
        "_ends",
        "base",
        "base_epoch",
        "entries",
        "last",
        "last_epoch",
        "memory",
        "now_ms",
        "size_bytes",
        "sizes",
    )

    def __init__(self, base: int = 0, base_epoch: int = 0, now_ms: int = 0, memory: LogMemory | None = None) -> None:
        self.base = self.last = base
        self.base_epoch = self.last_epoch = base_epoch
        self.entries: list[Entry] = []
        self.sizes: list[int] = []
        self.size_bytes = 0
        self.memory = memory if memory is not None else LogMemory()
        self.now_ms = now_ms
        self._ends: dict[int, int] = {}  # of all epochs but the last

    def epoch_at(self, seq: int) -> int | None:
        """Return the epoch of an entry or of the base; None for what is forgotten or not there yet."""
        if seq == self.last:
            return self.last_epoch
        if seq == self.base:
            return self.base_epoch
        return self.entries[seq - self.base - 1][0] if self.base < seq < self.last else None

    def append(self, entry: Entry) -> int:
        """Add an entry; return its sequence number."""
        size_bytes = size_of(entry[5])
        self.entries.append(entry)
        self.sizes.append(size_bytes)
        self.size_bytes += size_bytes
        self.memory.size_bytes += size_bytes
        if entry[0] != self.last_epoch:
            self._ends[self.last_epoch] = self.last
            self.last_epoch = entry[0]
        if entry[1] > self.now_ms:
            self.now_ms = entry[1]
        self.last += 1
        return self.last

    def portion(self, first: int, bytes_max: int) -> tuple[tuple[Entry, ...], int]:
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
        return (*self._ends.items(), (self.last_epoch, self.last))

    def last_common(self, history: History) -> int | None:
        """Return the last place where this log and one with that history agree; None if it may be below the base."""
        own_ends = dict(self.history())
        for epoch, end in reversed(history):
            own_end = own_ends.get(epoch)
            if own_end is not None:
                common = min(end, own_end)
                return common if common >= self.base else None
        return None

    def truncate(self, last: int) -> None:
        """Forget all entries behind `last`."""
        assert last >= self.base, f"entry {last} is forgotten: the log begins behind {self.base}"
        count = last - self.base
        self._uncount(self.sizes[count:])
        del self.entries[count:], self.sizes[count:]
        self.last = last
        self.last_epoch = self.entries[-1][0] if self.entries else self.base_epoch
        self._ends = {epoch: end for epoch, end in self._ends.items() if epoch < self.last_epoch}

    def forget(self, upto: int) -> None:
        """Move the base up to an entry: everything up to it is in the state of whoever keeps this log."""
        count = upto - self.base
        if count <= 0:
            return
        self.base_epoch = self.entries[count - 1][0]
        self.base = upto
        self._uncount(self.sizes[:count])
        del self.entries[:count], self.sizes[:count]
        self._ends = {epoch: end for epoch, end in self._ends.items() if epoch >= self.base_epoch}

    def _uncount(self, sizes: list[int]) -> None:
        size_bytes = sum(sizes)
        self.size_bytes -= size_bytes
        self.memory.size_bytes -= size_bytes
