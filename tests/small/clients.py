"""Clients of the small world: they number what they want, and try every number again, anywhere, until it is answered.

Unlike the product's client they also repeat what is in flight, at another node and while the first attempt may still
arrive: that is what sessions are for. Sometimes one gives an operation up, as if its deadline had passed.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

from gimmal.store.kv import Refused
from gimmal.types import Command
from gimmal.wire import commands
from gimmal.wire.codec import pack_value
from gimmal.wire.messages import Refusal
from tests.sim.violation import Violation, require

SHARED: Final = b"n"
_WAITING_MAX: Final = 4


class Request(NamedTuple):
    """One attempt at an operation, on its way to a node. `op` is 0 for the opening of a session."""

    client: "Client"
    partition: int
    session: int
    number: int
    floor: int
    op: int
    command: Command


@dataclass(eq=False)
class Session:
    """What a client knows of its session in one partition; `waiting` are (op, command) by number."""

    id: int = 0
    number: int = 0
    waiting: dict[int, tuple[int, Command]] = field(default_factory=dict)


class Ops:
    """All operations there ever were. An op is counted here once, however often it is tried."""

    def __init__(self) -> None:
        self.count = 0
        self.by_origin: dict[tuple[int, int, int], int] = {}  # (partition, session, number) -> op

    def new(self, partition: int, session: int, number: int, dice: Random) -> tuple[int, Command]:
        op = self.count = self.count + 1
        self.by_origin[partition, session, number] = op
        kind = dice.randrange(3)
        if kind == 0:
            return op, (commands.INCR, SHARED, 1)
        if kind == 1:
            return op, (commands.INCR, b"op%d" % op, 1)
        return op, (commands.SET, b"s%d" % (op % 3), pack_value(op), 0, 0, None)


class Client:
    """One client, with a session in each partition."""

    def __init__(self, name: str, partitions: int, ops: Ops) -> None:
        self._name = name
        self._ops = ops
        self.sessions = [Session() for _ in range(partitions)]

    def __repr__(self) -> str:
        return self._name

    def attempt(self, partition: int, dice: Random) -> Request:
        """Return something to send: a new operation, or one that is not answered yet, once more."""
        session = self.sessions[partition]
        if not session.id:
            return Request(self, partition, 0, 0, 0, 0, (commands.OPEN_SESSION,))
        waiting = session.waiting
        if waiting and dice.random() < 0.1:
            del waiting[dice.choice(list(waiting))]  # given up
        if not waiting or (len(waiting) < _WAITING_MAX and dice.random() < 0.5):
            session.number += 1
            waiting[session.number] = self._ops.new(partition, session.id, session.number, dice)
            number = session.number
        else:
            number = dice.choice(list(waiting))
        op, command = waiting[number]
        return Request(self, partition, session.id, number, min(waiting), op, command)

    def on_reply(self, request: Request, reply: Any) -> None:
        """Take an answer to an attempt."""
        session = self.sessions[request.partition]
        if not request.op:
            if not session.id:
                session.id, session.number = reply, 0
            return
        if request.session != session.id:
            return
        if not isinstance(reply, Refused):
            session.waiting.pop(request.number, None)
        elif reply.refusal == Refusal.SESSION_EXPIRED:
            session.id, session.waiting = 0, {}  # what waited has an unknown outcome, and is never tried again
        elif reply.refusal == Refusal.TOO_OLD:
            is_over = request.number not in session.waiting
            require(is_over, "floor", f"op {request.op} is too old, and its client still waits for it")
        else:
            raise Violation("replies", f"op {request.op} was refused: {reply}")
