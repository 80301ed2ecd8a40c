"""Reads without a lease: a leader may answer when every copy of MaxISR says that it knows no later one.

    ask -> one Confirm per copy and turn, for all partitions -> Confirmed by every copy that counts -> the read is due

Why this is enough: a later leader commits nothing before every copy of its in-sync set has acknowledged its no-op, and
has therefore seen its row; and one of those is in the MaxISR that was asked. So if all of them, asked after the read
arrived, know no later epoch, nothing that this leader lacks can have been acknowledged before the read began.

Each round has a number of its own, which is never used again: an answer to an earlier question says nothing about now.
A round that is not answered by all within `PATIENCE_S` is given up; whoever asked is told so, and asks anew.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from gimmal.replication.replica import Replica
from gimmal.types import Incarnation
from gimmal.wire.peer_messages import BLANK, Confirm, Confirmed

PATIENCE_S: Final = 0.5
_NEVER: Final = float("inf")


@dataclass(slots=True)
class _Question:
    """One partition in a round: who must confirm its epoch still, and who waits for that."""

    replica: Replica
    epoch: int
    missing: dict[Incarnation, None]
    tickets: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class _Round:
    until_s: float
    questions: dict[int, _Question]


class Confirming:
    """The reads of one node that wait for a confirmation. Times are seconds of the machine's clock."""

    def __init__(self) -> None:
        self._upcoming: dict[int, _Question] = {}
        self._rounds: dict[int, _Round] = {}
        self._number = 0
        self._confirmed: list[Any] = []
        self._refused: list[Any] = []

    def ask(self, replica: Replica, ticket: Any) -> None:
        """Let a read of a partition that is led here wait until it is certain that it still is."""
        question = self._upcoming.get(replica.partition)
        leading = replica.leading
        assert leading is not None, "only a leader asks whether it is one"
        if question is not None and question.epoch != replica.epoch:
            self._refused += question.tickets
            question = None
        if question is None:
            missing = dict.fromkeys(progress.member for progress in leading.must_have)
            question = self._upcoming[replica.partition] = _Question(replica, replica.epoch, missing)
        question.tickets.append(ticket)

    def messages(self, now: float) -> list[tuple[Incarnation, Confirm]]:
        """Return what is to be asked now, of whom."""
        if not self._upcoming:
            return []
        self._number += 1
        questions, self._upcoming = self._upcoming, {}
        self._rounds[self._number] = _Round(now + PATIENCE_S, questions)
        epochs_by_member: dict[Incarnation, list[tuple[int, int]]] = {}
        for partition, question in questions.items():
            for member in question.missing:
                epochs_by_member.setdefault(member, []).append((partition, question.epoch))
        found = []
        for member, epochs in epochs_by_member.items():
            confirm = Confirm(*BLANK, self._number, tuple(epochs))
            confirm.destination = member.number
            found.append((member, confirm))
        return found

    def on_confirmed(self, message: Confirmed, member: Incarnation) -> None:
        """Take an answer."""
        asked = self._rounds.get(message.number)
        if asked is None:
            return
        refused = dict.fromkeys(message.refused)
        for partition, question in list(asked.questions.items()):
            if partition in refused:
                self._refused += question.tickets
                del asked.questions[partition]
            elif member in question.missing:
                del question.missing[member]
                if not question.missing:
                    leads_still = question.replica.leading is not None and question.replica.epoch == question.epoch
                    (self._confirmed if leads_still else self._refused).extend(question.tickets)
                    del asked.questions[partition]
        if not asked.questions:
            del self._rounds[message.number]

    def take(self) -> tuple[list[Any], list[Any]]:
        """Return the tickets of reads that may be answered now, and of those that may not, and forget them."""
        taken = self._confirmed, self._refused
        if self._confirmed or self._refused:
            self._confirmed, self._refused = [], []
        return taken

    def tick(self, now: float) -> None:
        """Give up what has not been answered in time."""
        for number in [number for number, asked in self._rounds.items() if asked.until_s <= now]:
            for question in self._rounds.pop(number).questions.values():
                self._refused += question.tickets

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        for asked in self._rounds.values():
            return asked.until_s
        return _NEVER


def answer(message: Confirm, replicas: dict[int, Replica]) -> Confirmed:
    """Return what a node with these copies says to a leader that asks whether it is one still."""
    refused = []
    for partition, epoch in message.epochs:
        replica = replicas.get(partition)
        if replica is not None and replica.epoch > epoch:
            refused.append(partition)
    return Confirmed(*BLANK, message.number, tuple(refused))
