"""One partition's state machine: `apply` changes it, `read` looks, nothing else touches it.

`apply` is the pure function of the replicated log: the same entries in the same order give the same state and
the same results on every replica. It makes every choice when it is called, from the state, the entry's sequence
number and what the entry says; it has no clock, no dice, no limit on memory and no idea of who used what last.
Only committed entries are applied.

The state is the keys (`kv`), the queues (`queues`) and the sessions (`sessions`). A command is about one of them;
`WRITES` says which, and who carries it out. Sessions stand before all of it: whether an entry of a session is carried
out is theirs to say.

A copy of the state is taken by `freeze` and travels as trees (`snapshot`); `digest` tells whether two states differ.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from gimmal.store import kv, queues, sessions, snapshot
from gimmal.store.footprint import Footprint
from gimmal.store.queues.frozen import freeze as freeze_queues
from gimmal.types import Command, Entry
from gimmal.wire import commands
from gimmal.wire.codec import pack_tree
from gimmal.wire.messages import Wire

_DIGEST_BYTES: Final = 8
_DIGEST_CHUNK_BYTES: Final = 64 * 1024  # part of the digest's definition: cut otherwise, equal states would differ


def _do_nothing(keys: kv.Keys, seq: int, now_ms: int, command: Command) -> None:
    """Apply NOOP: what counts about it is where it stands in the log."""


_KEYS: Final = 0
_SESSIONS: Final = 1
_QUEUES: Final = 2

WRITES: Final[dict[int, tuple[int, sessions.Write]]] = {
    commands.NOOP: (_KEYS, _do_nothing),
    **{code: (_KEYS, write) for code, write in kv.WRITES.items()},
    **{code: (_SESSIONS, write) for code, write in sessions.WRITES.items()},
    **{code: (_QUEUES, write) for code, write in queues.WRITES.items()},
}
"""For each command of a log: the part of the state it is about, and the function that carries it out."""


class Engine:
    """The state of one partition. `footprint` is shared by all engines of a node; it does not count sessions."""

    __slots__ = ("_parts", "keys", "queues", "sessions")

    def __init__(self, footprint: Footprint) -> None:
        self.keys = kv.Keys(footprint)
        self.sessions = sessions.Sessions()
        self.queues = queues.Queues(footprint)
        self._parts = (self.keys, self.sessions, self.queues)

    def apply(self, seq: int, entry: Entry) -> Any:
        """Carry out the committed entry with sequence number `seq`; return its result, a plain value or a `Refused`."""
        part, write = WRITES[entry[5][0]]
        if entry[2]:
            return self.sessions.apply(write, self._parts[part], seq, entry)
        return write(self._parts[part], seq, entry[1], entry[5])

    def read(self, now_ms: int, command: Command) -> Any:
        """Return the answer to a command that only reads."""
        code = command[0]
        if code in kv.READS:
            return kv.READS[code](self.keys, now_ms, command)
        return queues.READS[code](self.queues, now_ms, command)

    def freeze(self) -> snapshot.Frozen:
        """Return a copy of the state as it is now, for `snapshot.chunks`; what is applied later does not change it."""
        keys = self.keys
        queue_shards = freeze_queues(self.queues)
        return snapshot.Frozen(
            keys.records.copy(), keys.expires_at_ms.copy(), keys.removals, self._windows(), queue_shards
        )

    @classmethod
    def from_chunks(cls, footprint: Footprint, trees: Iterable[Wire]) -> "Engine":
        """Return an engine in the state whose chunks these are, counted in `footprint`.

        Raises:
            ValueError, TypeError: they are not all the chunks of one snapshot, in their order; nothing was counted.
        """
        assembly = snapshot.Assembly()
        for tree in trees:
            assembly.take(tree)
        frozen, engine_queues = assembly.finish(footprint)
        engine = cls(footprint)
        engine.keys.load(frozen.records, frozen.expires_at_ms, frozen.removals)
        engine.sessions.windows.update(frozen.windows)
        engine.queues = engine_queues
        engine._parts = (engine.keys, engine.sessions, engine_queues)
        return engine

    def digest(self) -> bytes:
        """Return 8 bytes that are equal iff two states are, in all that can ever be seen of them.

        They depend on nothing else, so replicas may compare them. It takes time in proportion to the state.
        """
        keys = self.keys
        queue_shards = freeze_queues(self.queues)
        state = snapshot.Frozen(keys.records, keys.expires_at_ms, keys.removals, self._windows(), queue_shards)
        digest = blake2b(digest_size=_DIGEST_BYTES)
        for tree in snapshot.chunks(state, _DIGEST_CHUNK_BYTES):
            digest.update(pack_tree(tree))
        return digest.digest()

    def discard(self) -> None:
        """Drop the whole state, and take it off the footprint."""
        self.keys.discard()
        self.queues.discard()
        self.sessions.windows.clear()

    def _windows(self) -> dict[int, sessions.Window]:
        return {session: window.copy() for session, window in self.sessions.windows.items()}
