"""One partition's state machine: `apply` changes it, `read` looks, nothing else touches it.

`apply` is the pure function of the replicated log: the same entries in the same order give the same state and
the same results on every replica. It makes every choice when it is called, from the state, the entry's sequence
number and what the entry says; it has no clock, no dice, no limit on memory and no idea of who used what last.
Only committed entries are applied.

The state is the keys (`kv`) and the sessions (`sessions`). A command is about one of them; `WRITES` says which, and
who carries it out. Sessions stand before all of it: whether an entry of a session is carried out is theirs to say.
"""

from typing import Any, Final

from gimmal.store import kv, sessions
from gimmal.store.footprint import Footprint
from gimmal.types import Command, Entry
from gimmal.wire import commands


def _do_nothing(keys: kv.Keys, seq: int, now_ms: int, command: Command) -> None:
    """Apply NOOP: what counts about it is where it stands in the log."""


_KEYS: Final = 0
_SESSIONS: Final = 1

WRITES: Final[dict[int, tuple[int, sessions.Write]]] = {
    commands.NOOP: (_KEYS, _do_nothing),
    **{code: (_KEYS, write) for code, write in kv.WRITES.items()},
    **{code: (_SESSIONS, write) for code, write in sessions.WRITES.items()},
}
"""For each command of a log: the part of the state it is about, and the function that carries it out."""


class Engine:
    """The state of one partition. `footprint` is shared by all engines of a node; it counts keys, not sessions."""

    __slots__ = ("_parts", "keys", "sessions")

    def __init__(self, footprint: Footprint) -> None:
        self.keys = kv.Keys(footprint)
        self.sessions = sessions.Sessions()
        self._parts = (self.keys, self.sessions)

    def apply(self, seq: int, entry: Entry) -> Any:
        """Carry out the committed entry with sequence number `seq`; return its result, a plain value or a `Refused`."""
        part, write = WRITES[entry[5][0]]
        if entry[2]:
            return self.sessions.apply(write, self._parts[part], seq, entry)
        return write(self._parts[part], seq, entry[1], entry[5])

    def read(self, now_ms: int, command: Command) -> Any:
        """Return the answer to a command that only reads."""
        return kv.READS[command[0]](self.keys, now_ms, command)
