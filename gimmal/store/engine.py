"""One partition's state machine: `apply` changes it, `read` looks, nothing else touches it.

`apply` is the pure function of the replicated log: the same entries in the same order give the same state and
the same results on every replica. It makes every choice when it is called, from the state, the entry's sequence
number and the time stamped on the entry; it has no clock, no dice, no limit and no idea of who used what last.
Only committed entries are applied.
"""

from typing import Any

from gimmal.store import kv
from gimmal.store.footprint import Footprint
from gimmal.types import Command


class Engine:
    """The state of one partition. `footprint` is shared by all engines of a node."""

    __slots__ = ("keys",)

    def __init__(self, footprint: Footprint) -> None:
        self.keys = kv.Keys(footprint)

    def apply(self, seq: int, now_ms: int, command: Command) -> Any:
        """Carry out one committed write and return its result, a plain value or a `Refused`."""
        return kv.WRITES[command[0]](self.keys, seq, now_ms, command)

    def read(self, now_ms: int, command: Command) -> Any:
        """Return the answer to a command that only reads."""
        return kv.READS[command[0]](self.keys, now_ms, command)
