"""Heartbeats that wait for a lease, on the leader of the meta group.

A lease says that nobody else can have been given what a node leads. Only a leader that was still the leader after the
heartbeat arrived can say so: hence a heartbeat waits until a quorum has answered a round that began later than it
arrived. Rounds are numbered in the order in which they begin, so all that has to be kept of one is its number.

No round is begun for this: the next regular one, at most a Raft heartbeat away, does for everybody who waits. A lease
lives through several of them, so asking sooner would cost messages and give nobody anything.

Who may be granted what is asked when the grant goes out (`MetaShare`): a node that was fenced, replaced or condemned
while it waited gets nothing. A deposed leader grants nothing any more: whoever waits is told to look for the next.
"""

from typing import Final, NamedTuple

from gimmal.types import Incarnation
from gimmal.wire import limits

_WAITING_MAX: Final = 2 * limits.NODES_MAX


class Waiting(NamedTuple):
    """A heartbeat: of whom, its number, where its answer goes, and the newest round that had begun when it arrived."""

    node: Incarnation
    number: int
    address: str
    round: int


class Grants:
    """The heartbeats that wait, in the order in which they arrived."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def on_heartbeat(self, waiting: Waiting) -> None:
        """Let a heartbeat wait for a later round than the one it names."""
        if len(self._waiting) < _WAITING_MAX:  # whoever is not answered asks again
            self._waiting.append(waiting)

    def due(self, confirmed_round: int) -> list[Waiting]:
        """Return, and forget, the heartbeats that arrived before the round began that a quorum has answered."""
        if not self._waiting or self._waiting[0].round >= confirmed_round:
            return []
        due = [waiting for waiting in self._waiting if waiting.round < confirmed_round]
        self._waiting = [waiting for waiting in self._waiting if waiting.round >= confirmed_round]
        return due

    def give_up(self) -> list[Waiting]:
        """Return, and forget, everybody who waits: this node leads no more."""
        waiting, self._waiting = self._waiting, []
        return waiting
