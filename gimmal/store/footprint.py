"""How much the copies on one node hold, counted as they change.

A node's engines share one `Footprint`. It only counts; what to do about the count is the leader's business
(`gimmal.leader.memory`).

Only keys count: what a user gave the node to hold. The windows of sessions do not, neither as entries nor as bytes:
they have bounds of their own (`gimmal.store.sessions`), and nobody could make room by evicting them.
"""

from dataclasses import dataclass
from typing import Final

RECORD_OVERHEAD_BYTES: Final = 152
"""Two bytes objects (33 bytes each and rounding to 16) and their share of a hash table between 1/3 and 2/3 full."""

EXPIRY_OVERHEAD_BYTES: Final = 152
"""An expiry time: its integer (32), its share of a hash table, and its tuple in the leader's heap (80 and 8)."""


@dataclass(slots=True)
class Footprint:
    """Entries held, and the bytes of memory they cost, overheads included."""

    entries: int = 0
    size_bytes: int = 0
