"""Random walks of copies through loss, silence, false fences, restarts, and changes of who leads and who is in sync.

One seed draws everything of a walk. Nodes hear of the table, and of what became of their requests, late and each in its
own time. After each step it is checked, over all that has ever happened:

- what is committed at a place is the same everywhere, for ever, and so is the state there;
- what was acknowledged is committed, and is known to whoever leads by the newest table and says that it is ready;
- no copy cuts off what it has committed (an assertion of the product).

At the end the faults stop, and the copies must get on: all in sync, equal states. A rule that is taken away must be
caught, else the walk proves nothing: `ABLATIONS`. Rules that chance needs too rarely have schedules of their own, in
`tests/unit/test_holdings.py`.

    pytest tests/properties/test_copies.py -k "walk and 17"     replays seed 17
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from gimmal.errors import RemoteProtocolError
from gimmal.replication import transfer
from gimmal.replication.leading import Leading
from gimmal.replication.log import Log
from gimmal.replication.petition import Petition
from gimmal.replication.progress import Progress
from gimmal.replication.replica import Replica
from gimmal.replication.transfer import Incoming
from gimmal.replication.view import View
from gimmal.types import Entry, Incarnation
from tests.unit.holdings_group import Copies, Decision

NAMES = ("n1", "n2", "n3", "n4")
STEPS = 600


class Violation(AssertionError):
    """Copies are not what they must be."""


class Walk:
    """A few nodes, one partition, and everything that was ever true of it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        names = NAMES[: self.dice.choice((2, 3, 3, 3, 3, 4))]
        self.copies = Copies(*names, log_bytes=self.dice.choice((0, 2_000, 10**9)))
        self.loss = self.dice.choice((0.0, 0.05, 0.3))
        self.trouble = self.dice.choice((0.3, 1.0, 2.0))
        self.committed: dict[int, Entry] = {}
        self.digests: dict[int, bytes] = {}
        self.seen: dict[Incarnation, int] = {}
        self.acknowledged = 0
        self.written = 0
        self.unheard: list[tuple[Incarnation, Decision]] = []
        self.silent: set[str] = set()

    # -- steps

    def run(self) -> None:
        trouble = self.trouble
        actions: list[tuple[float, Callable[[], None]]] = [
            (80, self.deliver_one),
            (20, self.write),
            (8, self.pass_time),
            (16, self.tell_one),
            (8, self.decide),
            (8, self.answer),
            (trouble, self.elect),
            (trouble, self.fence),
            (4 * trouble, self.unfence),
            (trouble / 4, self.restart),
            (trouble, self.silence),
            (6 * trouble, self.silent.clear),
        ]
        weights, steps = zip(*((weight, action) for weight, action in actions), strict=True)
        for _ in range(STEPS):
            self.dice.choices(steps, weights)[0]()
            self.check()
            if self.copies.rows[0].is_lost:
                return  # everybody who had everything has come back with nothing: there is nothing left to check
        self.heal()

    def a_name(self) -> str:
        return self.dice.choice(list(self.copies.lives))

    def deliver_one(self) -> None:
        """Links keep their order, and lose what they lose."""
        copies = self.copies
        copies.flush()
        links = list(dict.fromkeys((letter.source, letter.target) for letter in copies.in_flight))
        links = [link for link in links if not self.silent.intersection(link)]
        if links:
            link = self.dice.choice(links)
            letter = next(letter for letter in copies.in_flight if (letter.source, letter.target) == link)
            copies.in_flight.remove(letter)
            if self.dice.random() >= self.loss:
                copies.hand_over(letter)

    def write(self) -> None:
        replicas = {name: holdings.replicas.get(0) for name, holdings in self.copies.holdings.items()}
        names = [name for name, replica in replicas.items() if replica is not None and replica.is_ready]
        names = [name for name in names if name not in self.silent]
        if names:
            self.written += 1
            self.copies.write(self.dice.choice(names), f"k{self.written}")

    def pass_time(self) -> None:
        copies = self.copies
        copies.now += self.dice.choice((0.01, 0.01, 0.06, 0.06, 0.31, 1.0))
        for name, holdings in copies.holdings.items():
            if name not in self.silent:
                holdings.tick(copies.instant())

    def tell_one(self) -> None:
        name = self.a_name()
        if name not in self.silent:
            self.copies.tell(name)

    def decide(self) -> None:
        name = self.a_name()
        decision = self.copies.decide(name) if name not in self.silent else None
        if decision is not None:
            self.unheard.append((self.copies.lives[name], decision))

    def answer(self) -> None:
        if self.unheard:
            life, decision = self.unheard.pop(self.dice.randrange(len(self.unheard)))
            if life in self.copies.lives.values():
                self.copies.answer(life.name, decision)

    def elect(self) -> None:
        members = [member for member in self.copies.rows[0].in_sync if member.name not in self.copies.fenced]
        if members:
            self.copies.elect(self.dice.choice(members).name)

    def fence(self) -> None:
        if not self.copies.fenced:
            self.copies.fence(self.a_name())

    def unfence(self) -> None:
        for name in list(self.copies.fenced):
            self.copies.unfence(name)

    def restart(self) -> None:
        self.copies.restart(self.a_name())

    def silence(self) -> None:
        """A process hangs: what is under way from and to it waits."""
        self.silent.add(self.a_name())

    def heal(self) -> None:
        self.silent.clear()
        self.unfence()
        for _ in range(20):
            while self.unheard:
                self.answer()
            self.copies.tell()
            self.copies.run(1.0)
            self.check()
            for name in self.copies.lives:
                decision = self.copies.decide(name)
                if decision is not None:
                    self.unheard.append((self.copies.lives[name], decision))
        row = self.copies.rows[0]
        assert row.leader is not None
        self.copies.write(row.leader, "last")
        self.copies.run(1.0)
        self.check()
        if self.copies.answers.get("last") is not True:
            raise Violation("they do not get on")
        if set(row.in_sync) != set(self.copies.lives.values()):
            raise Violation(f"only {row.in_sync} are in sync")
        if len({self.copies.replica(name).commit for name in self.copies.lives}) != 1:
            raise Violation("not everybody has been told what is committed")

    # -- what must hold

    def check(self) -> None:
        copies = self.copies
        for name, holdings in copies.holdings.items():
            replica = holdings.replicas.get(0)
            if replica is None:
                continue
            before = max(self.seen.get(replica.me, 0), replica.log.base)
            for seq in range(before + 1, replica.commit + 1):
                entry = replica.log.entries[seq - replica.log.base - 1]
                if self.committed.setdefault(seq, entry) != entry:
                    raise Violation(f"{name} has committed {entry} at {seq}, and {self.committed[seq]} was before")
            if replica.commit != self.seen.get(replica.me):
                self.seen[replica.me] = replica.commit
                digest = replica.engine.digest()
                if self.digests.setdefault(replica.commit, digest) != digest:
                    raise Violation(f"{name} has another state at {replica.commit}")
        self.check_acknowledged()

    def check_acknowledged(self) -> None:
        by_key = {ticket for ticket, result in self.copies.answers.items() if result is True}
        row = self.copies.rows[0]
        replica = self.copies[row.leader].replicas.get(0) if row.leader is not None else None
        if replica is None or replica.epoch != row.epoch or not replica.is_ready:
            return
        missing = by_key - {key.decode() for key in replica.engine.keys.records}
        if missing:
            raise Violation(f"{row.leader} leads epoch {row.epoch} without {sorted(missing)}")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 60)
    monkeypatch.setattr(transfer, "CHUNKS_AHEAD", 2)


@pytest.mark.parametrize("seed", range(150))
def test_walk(seed: int) -> None:
    Walk(seed).run()


# -- every rule is needed


def _commits_below_least(patch: pytest.MonkeyPatch) -> None:
    count_on = Leading._count_on

    def counted(self: Leading) -> None:
        count_on(self)
        self.can_commit = True

    patch.setattr(Leading, "_count_on", counted)


def _reads_before_noop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replica, "is_ready", property(lambda self: self.leading is not None))


def _counts_on_the_row_only(patch: pytest.MonkeyPatch) -> None:
    propose = Leading.propose

    def proposed(self: Leading, in_sync: tuple[Incarnation, ...]) -> None:
        must_have = self.must_have
        propose(self, in_sync)
        self.must_have = must_have

    patch.setattr(Leading, "propose", proposed)


def _forgets_a_proposal_on_any_answer(patch: pytest.MonkeyPatch) -> None:
    settled = Petition.settled
    patch.setattr(Petition, "settled", lambda self, version: settled(self, 2**60))


def _appends_of_any_epoch(patch: pytest.MonkeyPatch) -> None:
    def follows(self: Replica, leader: Incarnation, epoch: int) -> bool:
        return self.view is not None and self.leading is None

    patch.setattr(Replica, "follows", follows)


def _keeps_match_over_epochs(patch: pytest.MonkeyPatch) -> None:
    kept: dict[Any, dict[Incarnation, Progress]] = {}
    see = Leading.see

    def seen(self: Leading, view: View) -> None:
        owner = self._stream_to.__self__  # type: ignore[attr-defined]
        self.followers_by_member = self.followers_by_member or kept.get(owner, {})
        see(self, view)
        kept[owner] = self.followers_by_member

    patch.setattr(Leading, "see", seen)


def _amnesia_keeps_its_place(patch: pytest.MonkeyPatch) -> None:
    def restart(self: Copies, name: str) -> None:
        self.holdings[name] = self._new(name)

    patch.setattr(Copies, "restart", restart)


def _cuts_back_to_any_epoch(patch: pytest.MonkeyPatch) -> None:
    """What counts is where entries stand, not under which epoch they were written."""
    patch.setattr(Log, "last_common", lambda self, history: min(history[-1][1], self.last))


def _mixes_chunks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Incoming, "is_of", lambda self, chunk: True)
    patch.setattr(Incoming, "is_before", lambda self, chunk: False)


def _aligns_without_epochs(patch: pytest.MonkeyPatch) -> None:
    align = Replica.align

    def aligned(self: Replica, seq: int, epoch: int) -> bool:
        known = self.log.epoch_at(seq)
        return align(self, seq, epoch if known is None else known)

    patch.setattr(Replica, "align", aligned)


Ablation = Callable[[pytest.MonkeyPatch], None]

ABLATIONS: dict[str, tuple[Ablation, int]] = {
    "commit below the least number of copies": (_commits_below_least, 0),
    "read before the no-op has committed": (_reads_before_noop, 0),
    "count on the in-sync set of the row only": (_counts_on_the_row_only, 0),
    "forget a proposal on any answer": (_forgets_a_proposal_on_any_answer, 0),
    "append under any epoch": (_appends_of_any_epoch, 0),
    "keep what was acknowledged over epochs": (_keeps_match_over_epochs, 0),
    "amnesia keeps its place": (_amnesia_keeps_its_place, 0),
    "cut back to a place without its epoch": (_cuts_back_to_any_epoch, 0),
    "align at a place without its epoch": (_aligns_without_epochs, 0),
    "mix the chunks of snapshots": (_mixes_chunks, 0),
}
"""What takes a rule away, and a seed near one that misses it."""
SEEDS_PER_ABLATION = 200


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_rule_that_is_taken_away_is_missed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away, first = ABLATIONS[name]
    take_away(monkeypatch)
    for seed in range(first, first + SEEDS_PER_ABLATION):
        try:
            Walk(seed).run()
        except (AssertionError, RemoteProtocolError):
            return
    raise AssertionError(f"{SEEDS_PER_ABLATION} walks are fine without it")
