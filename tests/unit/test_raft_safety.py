"""The rules of Raft that chance rarely needs, each with the schedule that needs it.

Every schedule is run twice: as the code is, and with the rule taken away. Then two voters commit different entries
under one index; or, for trials and loyalty, one voter that hears nothing keeps all others from working.
"""

from collections.abc import Sequence

import pytest

from gimmal.cluster.raft import Committed, Configuration, Entry, Fact, Raft, RaftParameters
from gimmal.cluster.raft.leading import Leadership
from gimmal.wire.peer_messages import AppendEntries
from tests.unit.raft_group import Group, Letter, Voter

ONE_BY_ONE = RaftParameters(entries_per_append_max=1)


class Witness(Group):
    """A group that remembers who committed what."""

    def __init__(self, voters: Sequence[str], strangers: Sequence[str] = ()) -> None:
        self.committed: dict[str, dict[int, Entry]] = {}
        super().__init__(voters, strangers, ONE_BY_ONE)

    def note(self, voter: Voter, facts: list[Fact]) -> None:
        super().note(voter, facts)
        for fact in facts:
            if isinstance(fact, Committed):
                self.committed.setdefault(voter.name, {})[fact.index] = fact.entry

    def elect_with(self, name: str, *electors: str) -> None:
        """Make a voter leader by the votes of these; nothing else arrives, and nothing of the leader's does yet."""

        def is_vote(letter: Letter) -> bool:
            is_between = {letter.source, letter.target} <= {name, *electors}
            return is_between and not isinstance(letter.message, AppendEntries)

        self.in_flight.clear()
        self.now += 2 * self.parameters.election_timeout_s
        for _ in range(2):  # the first time it may only learn how far the others are
            self.note(self.voters[name], self[name].campaign(self.now))
            self.finish(name)
            for _ in range(4):
                self.deliver(is_vote)
        assert name in self.leaders
        self.now += self.parameters.heartbeat_s
        self.tick(name)

    def decided(self, index: int) -> set[Entry]:
        return {entries[index] for entries in self.committed.values() if index in entries}


def an_old_entry_on_a_majority() -> Witness:
    """Figure 8 of the Raft paper."""
    group = Witness(["n1", "n2", "n3", "n4", "n5"])
    group.elect_with("n1", "n2", "n3")
    group.deliver(lambda letter: letter.target == "n2")  # entry 2, of term 2, is on n1 and n2
    group.crash("n1")
    group.elect_with("n5", "n3", "n4")  # does not know it, and has an entry 2 of term 3
    group.crash("n5")
    group.start("n1")
    group.elect_with("n1", "n2", "n3")
    for _ in range(4):  # entry 2 comes to n3, and is now on three of five; the entry of n1's new term is on n1 only
        group.deliver(lambda letter: not any(entry[0] == 4 for entry in getattr(letter.message, "entries", ())))
    group.crash("n1")
    group.start("n5")
    group.elect_with("n5", "n2", "n3", "n4")  # has the newest term of those who are left
    group.settle()
    return group


def test_an_entry_of_an_older_term_is_not_committed_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [entry.term for entry in an_old_entry_on_a_majority().decided(2)] == [3]
    monkeypatch.setattr(Leadership, "_may_commit", lambda self, index: True)
    assert sorted(entry.term for entry in an_old_entry_on_a_majority().decided(2)) == [2, 3]


def two_changes_that_do_not_know_each_other() -> tuple[Witness, bool]:
    """Ongaro's correction of 2015: add n5 to four voters, and under another leader, remove n1."""
    group = Witness(["n1", "n2", "n3", "n4"], ["n5"])
    group.elect("n1")
    group.run(0.3)
    everybody = Configuration(("n1", "n2", "n3", "n4", "n5"), ())
    assert group["n1"].propose_configuration(everybody, group.now) == 3  # and it stays on n1
    group.finish("n1")
    group.crash("n1")
    group.elect_with("n2", "n3", "n4")
    is_proposed = group["n2"].propose_configuration(Configuration(("n2", "n3", "n4"), ()), group.now) is not None
    group.finish("n2")
    for _ in range(6):
        group.deliver(lambda letter: {letter.source, letter.target} == {"n2", "n3"})
    group.crash("n2")
    group.crash("n3")
    group.start("n1")
    group.elect_with("n1", "n4", "n5")
    group.settle()
    return group, is_proposed


def test_no_voter_changes_before_the_leader_has_committed_in_its_term(monkeypatch: pytest.MonkeyPatch) -> None:
    group, is_proposed = two_changes_that_do_not_know_each_other()
    assert not is_proposed
    assert len(group.decided(3)) == 1
    monkeypatch.setattr(Raft, "_is_current_term_committed", lambda self: True)
    group, is_proposed = two_changes_that_do_not_know_each_other()
    assert is_proposed
    assert len(group.decided(3)) == 2


def terms_under_a_voter_that_hears_nothing() -> tuple[int, int]:
    """The term before and after half a minute in which n3 is heard and hears nothing."""
    group = Group(["n1", "n2", "n3"])
    group.elect("n1")
    group.run(0.3)
    before = group["n1"].term
    group.run(30.0, lambda letter: letter.target != "n3")
    return before, max(group["n1"].term, group["n2"].term)


def test_a_voter_that_hears_nothing_deposes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = terms_under_a_voter_that_hears_nothing()
    assert after == before
    monkeypatch.setattr(Raft, "_needs_trial", lambda self: False)
    before, after = terms_under_a_voter_that_hears_nothing()
    assert after == before, "loyalty alone keeps it out while it is cut off"
    monkeypatch.setattr(Raft, "_is_loyal", lambda self, now: False)
    before, after = terms_under_a_voter_that_hears_nothing()
    assert after > before + 10
