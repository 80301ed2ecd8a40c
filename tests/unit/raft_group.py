"""Raft voters in one process: each with a disk of its own, and a network that does only what the test says.

Every message goes through the codec, and every restart through the journal's bytes.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gimmal.cluster.raft import (
    COMMAND,
    EMPTY,
    Committed,
    Configuration,
    Fact,
    Identity,
    Installed,
    Raft,
    RaftParameters,
    Role,
    Snapshot,
    Stored,
    read_journal,
    rewritten,
    save_of,
)
from gimmal.wire.codec import decode, encode
from gimmal.wire.peer_messages import RaftMessage

CLUSTER = b"a group of tests"


class Steady(random.Random):
    """Dice that always fall the same way, so that a test knows whose patience ends first."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


class Letter(NamedTuple):
    """A message under way."""

    source: str
    target: str
    message: RaftMessage


@dataclass
class Voter:
    """A process and its disk; `raft` is None while it is down. Its state is the list of commands applied."""

    name: str
    dice: random.Random
    disk: bytes = b""
    raft: Raft | None = None
    is_stalled: bool = False
    applied_index: int = 0
    state: tuple[Any, ...] = ()
    facts: list[Fact] = field(default_factory=list)

    @property
    def live(self) -> Raft:
        assert self.raft is not None, f"{self.name} is down"
        return self.raft


class Group:
    """Voters that start from the same snapshot, as founders do; `strangers` start empty."""

    def __init__(
        self,
        voters: Iterable[str],
        strangers: Iterable[str] = (),
        parameters: RaftParameters | None = None,
        dice_of: Callable[[int], random.Random] = lambda number: Steady(number / 10),
    ) -> None:
        founders = tuple(voters)
        self.parameters = parameters or RaftParameters()
        self.now = 0.0
        self.in_flight: list[Letter] = []
        self.voters: dict[str, Voter] = {}
        origin = Snapshot(1, 1, Configuration(founders, ()), ())
        for number, name in enumerate((*founders, *strangers), 1):
            snapshot, term = (origin, 1) if name in founders else (EMPTY, 0)
            disk = rewritten(Identity(CLUSTER, name), Stored(term, None, snapshot)).data
            self.voters[name] = Voter(name, dice_of(number), disk)
            self.start(name)

    def __getitem__(self, name: str) -> Raft:
        return self.voters[name].live

    @property
    def leaders(self) -> list[str]:
        return [name for name, voter in self.voters.items() if voter.raft and voter.raft.role is Role.LEADER]

    # -- processes

    def start(self, name: str) -> None:
        voter = self.voters[name]
        journal = read_journal(voter.disk)
        voter.disk = voter.disk[: journal.length]
        voter.raft = Raft(name, journal.stored, self.parameters, voter.dice, self.now)
        voter.state = journal.stored.snapshot.state
        voter.applied_index = journal.stored.snapshot.index
        voter.is_stalled = False

    def crash(self, name: str) -> None:
        self.voters[name].raft = None
        self.voters[name].facts.clear()

    def turn(self, name: str, *messages: RaftMessage) -> list[Fact]:
        """A turn of a node's loop in which messages came and no timer was due."""
        voter = self.voters[name]
        for message in messages:
            self.note(voter, voter.live.receive(message, self.now))
        return self.finish(name)

    def tick(self, name: str) -> list[Fact]:
        """A turn of a node's loop in which nothing came."""
        voter = self.voters[name]
        self.note(voter, voter.live.tick(self.now))
        return self.finish(name)

    def finish(self, name: str) -> list[Fact]:
        """The end of a turn: save and send. A stalled disk lets nothing out."""
        voter = self.voters[name]
        if not voter.is_stalled:
            self.save(voter)
            self.note(voter, voter.live.on_saved(self.now))
        for target, message in voter.live.drain():
            decoded = decode(encode(message))
            assert isinstance(decoded, RaftMessage)
            assert (decoded.voter, decoded.target) == (name, target)
            self.in_flight.append(Letter(name, target, decoded))
        facts, voter.facts = voter.facts, []
        return facts

    def save(self, voter: Voter, torn: Callable[[bytes], bytes] = lambda data: data) -> None:
        """Write what is unsaved; `torn` says how much of an append gets to the disk."""
        unsaved = voter.live.unsaved()
        if unsaved is not None:
            save = save_of(Identity(CLUSTER, voter.name), unsaved)
            voter.disk = save.data if save.replaces else voter.disk + torn(save.data)

    def note(self, voter: Voter, facts: list[Fact]) -> None:
        """Apply what is committed, as an owner does."""
        for fact in facts:
            if isinstance(fact, Committed):
                assert fact.index == voter.applied_index + 1, f"{fact} after {voter.applied_index}"
                voter.applied_index = fact.index
                if fact.entry.kind == COMMAND:
                    voter.state = (*voter.state, fact.entry.payload)
            elif isinstance(fact, Installed):
                assert fact.snapshot.index > voter.applied_index
                voter.applied_index, voter.state = fact.snapshot.index, fact.snapshot.state
        voter.facts += facts

    # -- what tests do all the time

    def deliver(self, may_pass: Callable[[Letter], bool] = lambda letter: True) -> list[tuple[Letter, list[Fact]]]:
        """Deliver what is in flight by now; what may not pass, or comes to a node that is down, is lost."""
        letters, self.in_flight = self.in_flight, []
        return [
            (letter, self.turn(letter.target, letter.message))
            for letter in letters
            if may_pass(letter) and letter.target in self.voters and self.voters[letter.target].raft
        ]

    def settle(self, may_pass: Callable[[Letter], bool] = lambda letter: True) -> None:
        """Deliver until nothing is in flight."""
        for _ in range(1_000):
            if not self.in_flight:
                return
            self.deliver(may_pass)
        raise AssertionError("the group never falls silent")

    def run(self, seconds: float, may_pass: Callable[[Letter], bool] = lambda letter: True) -> None:
        """Let time pass, in steps that are short against every timer; everything sent arrives within its step."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.01)
            for name, voter in self.voters.items():
                if voter.raft and voter.raft.next_deadline() <= self.now:
                    self.tick(name)
            self.settle(may_pass)

    def propose(self, name: str, *command: Any) -> int | None:
        index = self[name].propose(command, self.now)
        self.finish(name)
        return index

    def elect(self, name: str) -> None:
        """Make one of the voters leader, in peace."""
        self.now += 2 * self.parameters.election_timeout_s
        self.note(self.voters[name], self[name].campaign(self.now))
        self.finish(name)
        self.settle()
        assert self.leaders == [name]
