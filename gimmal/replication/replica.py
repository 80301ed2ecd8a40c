"""One copy of one partition: the single way by which a write reaches the state.

    propose -> (append, stamped with sequence and time) -> commit -> apply -> Committed

A write is never carried out when it arrives. The leader stamps it and appends it; when it is committed, every
copy applies it with the same pure function; the leader answers with what apply returned. A commit needs every
in-sync copy: with one copy that is the leader itself, so `propose` returns the commit at once and nothing has to
be kept for anybody else.

Invariants: `seq` and `now_ms` never go back; an entry is applied exactly once, in order.
"""

from typing import Any, TypeAlias

from gimmal.store.engine import Engine
from gimmal.types import Command

Committed: TypeAlias = tuple[Any, Command, Any]
"""A fact for the node, `(ticket, command, result)`: this command was committed and applied, with this result."""


class Replica:
    """The copy of partition `partition` that leads it in epoch `epoch`.

    A ticket is whatever the caller wants back with the result; None when nobody waits (timers).
    """

    __slots__ = ("engine", "epoch", "now_ms", "partition", "seq")

    def __init__(self, partition: int, epoch: int, engine: Engine) -> None:
        self.partition = partition
        self.epoch = epoch
        self.engine = engine
        self.seq = 0
        self.now_ms = 0

    def propose(self, ticket: Any, command: Command, now_ms: int) -> tuple[Committed, ...]:
        """Append a command, stamped with the leader's time; return what that committed."""
        self.seq += 1
        if now_ms > self.now_ms:
            self.now_ms = now_ms
        entry = (self.epoch, self.now_ms, 0, 0, 0, command)
        return ((ticket, command, self.engine.apply(self.seq, entry)),)

    def read(self, command: Command, now_ms: int) -> Any:
        """Answer from committed state, at a time that is never before the log's."""
        return self.engine.read(now_ms if now_ms > self.now_ms else self.now_ms, command)
