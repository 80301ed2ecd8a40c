"""How much the copies on one node hold, counted as they change.

A node's engines share one `Footprint`. It only counts; what to do about the count is the leader's business
(`gimmal.leader.memory`).

What users gave the node to hold counts: keys, as entries and as bytes, and messages of queues, as bytes alone. Those
are *pinned*: nobody can make room by evicting them. The windows of sessions do not count: they have bounds of their own
(`gimmal.store.sessions`).
"""

from dataclasses import dataclass
from typing import Final

RECORD_OVERHEAD_BYTES: Final = 152
"""Two bytes objects (33 bytes each and rounding to 16) and their share of a hash table between 1/3 and 2/3 full."""

EXPIRY_OVERHEAD_BYTES: Final = 152
"""An expiry time: its integer (32), its share of a hash table, and its tuple in the leader's heap (80 and 8)."""


@dataclass(slots=True)
class Footprint:
    """Keys held, and the bytes of memory that everything costs; `pinned_bytes` of them are not the keys'."""

    entries: int = 0
    size_bytes: int = 0
    pinned_bytes: int = 0

    def pin(self, size_bytes: int) -> None:
        """Count bytes that cannot be evicted; below 0, count them no more."""
        self.size_bytes += size_bytes
        self.pinned_bytes += size_bytes
