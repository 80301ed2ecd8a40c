"""Random walks of a Raft group through loss, disorder, doubled messages, crashes and changes of who votes.

One seed draws everything of a walk. After each step the four properties of the paper (section 5, figure 3) are checked
over all that has ever happened, not over what is there at the moment:

- election safety: one leader in a term;
- log matching: two logs with the same term at an index are equal up to there;
- leader completeness: who is elected has everything that was committed before;
- state machine safety: what is committed under an index is the same everywhere, for ever.

At the end the faults stop, and the group must get on: one leader, equal states. A rule of the protocol that is taken
away must be caught, else the walk proves nothing: `ABLATIONS`. Two rules that chance needs too rarely have schedules of
their own, in `tests/unit/test_raft_safety.py`.

    pytest tests/properties/test_raft.py -k "walk and 17"     replays seed 17
"""

import random
from collections.abc import Callable

import pytest

from gimmal.cluster.raft import (
    BecameLeader,
    Committed,
    Configuration,
    Entry,
    Fact,
    JournalCorrupt,
    Raft,
    RaftParameters,
)
from gimmal.cluster.raft.durability import Durability
from tests.unit.raft_group import Group, Letter, Voter

NAMES = ("n1", "n2", "n3", "n4", "n5")
STEPS = 600
PARAMETERS = RaftParameters(entries_per_append_max=3, append_bytes_max=200, in_flight_max=3, entries_kept=4)


class Violation(AssertionError):
    """A property of Raft does not hold."""


class Walk:
    """One group and everything that was ever true of it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        count = self.dice.choice((1, 2, 3, 3, 3, 4, 5))
        self.group = Group(NAMES[:count], NAMES[count:], PARAMETERS, lambda number: random.Random(f"{seed}/{number}"))
        self.loss = self.dice.choice((0.0, 0.05, 0.3))
        self.crash_rate = self.dice.choice((0.0, 0.3, 1.0))
        self.leader_by_term: dict[int, str] = {}
        self.committed: dict[int, Entry] = {}
        self.proposed = 0
        self.cut_off: str | None = None

    # -- steps

    def run(self) -> None:
        actions: list[tuple[float, Callable[[], None]]] = [
            (60, self.deliver_one),
            (8, self.pass_time),
            (8, self.propose),
            (2, self.reconfigure),
            (2, self.compact),
            (1, self.cut_or_join),
            (self.crash_rate, self.crash),
            (self.crash_rate, self.crash_in_save),
            (2 * self.crash_rate, self.restart),
        ]
        weights, steps = zip(*((weight, action) for weight, action in actions), strict=True)
        for number in range(STEPS):
            self.dice.choices(steps, weights)[0]()
            if not number % 10:
                self.check_logs()
        self.check_logs()
        self.heal()

    def up(self) -> list[Voter]:
        return [voter for voter in self.group.voters.values() if voter.raft]

    def receive(self, letter: Letter) -> None:
        self.note(letter.target, self.group.turn(letter.target, letter.message))

    def deliver_one(self) -> None:
        """Deliver some message: the oldest mostly, sometimes any; lose some, deliver some twice."""
        in_flight = self.group.in_flight
        if not in_flight:
            self.pass_time()
            return
        place = self.dice.randrange(len(in_flight)) if self.dice.random() < 0.2 else 0
        letter = in_flight.pop(place)
        if self.dice.random() < 0.05:
            in_flight.append(letter)
        is_lost = self.dice.random() < self.loss or self.cut_off in (letter.source, letter.target)
        if self.group.voters[letter.target].raft and not is_lost:
            self.receive(letter)

    def pass_time(self) -> None:
        self.group.now += self.dice.choice((0.02, 0.1, 0.3, 1.0))
        for voter in self.up():
            if self.dice.random() < 0.8:  # the others are paused
                self.note(voter.name, self.group.tick(voter.name))

    def propose(self) -> None:
        for voter in self.up():
            for _ in range(self.dice.choice((1, 1, 4))):
                if voter.live.propose((self.proposed, "x" * self.dice.randrange(90)), self.group.now):
                    self.proposed += 1
            if self.dice.random() < 0.7:
                self.note(voter.name, self.group.finish(voter.name))

    def reconfigure(self) -> None:
        for voter in self.up():
            voters, learners = voter.live.configuration
            name = self.dice.choice(NAMES)
            changes = (
                Configuration(tuple(v for v in voters if v != name), tuple(n for n in learners if n != name)),
                Configuration((*voters, name), tuple(n for n in learners if n != name)),
                Configuration(tuple(v for v in voters if v != name), (*(n for n in learners if n != name), name)),
            )
            change = self.dice.choice(changes)
            if len(set(change.members)) == len(change.members):
                voter.live.propose_configuration(change, self.group.now)

    def compact(self) -> None:
        voter = self.dice.choice(self.up() or [None])
        if voter:
            voter.live.compact(voter.applied_index, voter.state)

    def cut_or_join(self) -> None:
        self.cut_off = self.dice.choice((None, None, *NAMES))

    def crash(self) -> None:
        if voter := self.dice.choice(self.up() or [None]):
            self.group.crash(voter.name)

    def crash_in_save(self) -> None:
        """Crash after some messages, while what they changed is being written."""
        if not (voter := self.dice.choice(self.up() or [None])):
            return
        for letter in [letter for letter in self.group.in_flight if letter.target == voter.name][:3]:
            self.group.in_flight.remove(letter)
            self.group.note(voter, voter.live.receive(letter.message, self.group.now))
        self.group.note(voter, voter.live.tick(self.group.now))
        self.note(voter.name, [fact for fact in voter.facts if isinstance(fact, Committed)])
        self.group.save(voter, torn=lambda data: data[: self.dice.randint(0, len(data))])
        self.group.crash(voter.name)

    def restart(self) -> None:
        down = [voter.name for voter in self.group.voters.values() if not voter.raft]
        if down:
            self.group.start(self.dice.choice(down))

    def heal(self) -> None:
        """Everything works from now on: within some seconds there is one leader, and everybody has its state."""
        for voter in self.group.voters.values():
            if not voter.raft:
                self.group.start(voter.name)
        self.cut_off = None
        for _ in range(200):
            self.group.now += 0.1
            for name in NAMES:
                self.note(name, self.group.tick(name))
            for _ in range(30):
                letters, self.group.in_flight = self.group.in_flight, []
                for letter in letters:
                    self.receive(letter)
            self.propose()
            if self.is_well():
                self.check_logs()
                return
        states = {name: (self.group[name].role, self.group[name].configuration) for name in NAMES}
        raise Violation(f"20 seconds without a fault, and no progress: {states}")

    def is_well(self) -> bool:
        leaders = [self.group[name] for name in self.group.leaders]
        if len(leaders) != 1 or not leaders[0].has_committed_in_term or leaders[0].is_change_pending:
            return False
        leader = leaders[0]
        states = [self.group.voters[name] for name in leader.configuration.members]
        return all(voter.state[:-8] == self.group.voters[leader.me].state[:-8] for voter in states)

    # -- properties

    def note(self, name: str, facts: list[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, BecameLeader):
                if self.leader_by_term.setdefault(fact.term, name) != name:
                    raise Violation(f"term {fact.term} is led by {self.leader_by_term[fact.term]} and by {name}")
                self.check_completeness(self.group[name])
            if isinstance(fact, Committed) and self.committed.setdefault(fact.index, fact.entry) != fact.entry:
                raise Violation(f"{fact} at {name}, but {self.committed[fact.index]} was committed before")

    def check_completeness(self, leader: Raft) -> None:
        log = leader.log
        for index, entry in self.committed.items():
            if index > log.last_index or (index > log.base_index and log.entry(index) != entry):
                raise Violation(f"{leader.me} leads term {leader.term} without entry {index}: {entry}")

    def check_logs(self) -> None:
        logs = [voter.live.log for voter in self.up()]
        for number, log in enumerate(logs):
            for other in logs[:number]:
                base = max(log.base_index, other.base_index)
                common = range(min(log.last_index, other.last_index), base, -1)
                agreed = next((index for index in common if log.term_at(index) == other.term_at(index)), base)
                if any(log.entry(index) != other.entry(index) for index in range(base + 1, agreed + 1)):
                    raise Violation(f"logs part before entry {agreed}, where their terms are the same")


@pytest.mark.parametrize("seed", range(80))
def test_walk(seed: int) -> None:
    walk = Walk(seed)
    walk.run()
    assert walk.committed, "nothing was ever committed"


# -- what the walks catch


def no_durable_vote(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Durability, "_changed", lambda self, hard_state: None)


def no_look_at_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Raft, "_is_up_to_date", lambda self, request: True)


def two_votes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Raft, "_may_vote", lambda self, request: self._is_up_to_date(request))


ABLATIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    no_durable_vote,
    no_look_at_the_log,
    two_votes,
]


@pytest.mark.parametrize("ablate", ABLATIONS)
def test_a_rule_that_is_taken_away_is_missed(ablate: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ablate(patch)
        for seed in range(200):
            try:
                Walk(seed).run()
            except (AssertionError, JournalCorrupt):
                print(f"{ablate.__name__}: caught by seed {seed}")
                return
    pytest.fail(f"{ablate.__name__} was not caught")
