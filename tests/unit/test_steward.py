"""What the leader of the meta group sees to: who is fenced and taken back, and who votes."""

import random
from collections.abc import Iterable
from math import inf

import pytest

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.steward import Steward, StewardParameters, View, voters_wanted
from gimmal.cluster.raft import Configuration, Raft, RaftParameters, Snapshot, Stored
from gimmal.types import Incarnation
from tests.unit.meta_states import Meta

PARAMETERS = StewardParameters()
SILENCE, DOUBT, STEADY = PARAMETERS.fence_after_s, PARAMETERS.doubt_after_s, PARAMETERS.steady_for_s


class Gossip:
    """What is suspected, and by whom."""

    def __init__(self, **accusers: str) -> None:
        self._accusers = accusers

    def accusers(self, name: str) -> tuple[str, ...]:
        return tuple(self._accusers.get(name, ""))

    def is_well(self, name: str) -> bool:
        return name not in self._accusers


class Watch:
    """A steward on node a of a cluster, whose verdicts are carried out at once; a leads all there is."""

    def __init__(self, names: str = "abc") -> None:
        self.meta = Meta(names, (names[:3],))
        self.steward = Steward(PARAMETERS)
        self.now = 50.0
        self.steward.start(self.now)

    def wait(self, seconds: float, hearing: str = "", gossip: Gossip | None = None) -> list[str]:
        """Let time pass while some nodes send heartbeats; return the verdicts, such as "fence b"."""
        found = []
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            for name in hearing:
                self.steward.on_heartbeat(name, self.meta.incarnation(name), self.now)
            found += self.look(gossip)
        return found

    def look(self, gossip: Gossip | None = None) -> list[str]:
        found = []
        view = View(Incarnation("a", 1), self.meta.table, is_settled=True)
        for verdict in self.steward.verdicts(view, gossip or Gossip(), self.now):
            self.meta.do(*verdict)
            found.append(f"{'fence' if verdict[0] == commands.FENCE else 'unfence'} {verdict[1]}")
        return found


def test_who_is_heard_is_left_alone() -> None:
    watch = Watch()
    assert watch.wait(20, hearing="bc") == []


def test_who_is_silent_is_fenced_once() -> None:
    watch = Watch()
    watch.wait(5, hearing="bc")
    assert watch.wait(SILENCE - 0.25, hearing="c") == []
    assert watch.wait(10, hearing="c") == ["fence b"]


def test_who_has_just_been_registered_is_given_time_to_be_heard() -> None:
    watch = Watch()
    watch.wait(20, hearing="bc")
    watch.meta.register("d")
    assert watch.wait(SILENCE - 0.5, hearing="bc", gossip=Gossip(d="")) == []
    assert watch.wait(3, hearing="bc") == ["fence d"]


def test_the_leader_hears_itself() -> None:
    watch = Watch()
    assert watch.wait(5, hearing="bc") == []


def test_silence_is_counted_from_the_election() -> None:
    watch = Watch()
    watch.wait(5, hearing="bc")
    watch.steward.stop()
    watch.now += 60
    watch.steward.start(watch.now)
    assert watch.look() == []
    assert watch.wait(SILENCE + 0.5, hearing="b") == ["fence c"]


def test_two_accusers_make_it_sooner_and_one_does_not() -> None:
    watch = Watch()
    watch.wait(5, hearing="bc")
    assert watch.wait(DOUBT + 0.25, hearing="c", gossip=Gossip(b="c")) == []
    watch = Watch()
    watch.wait(5, hearing="bc")
    assert watch.wait(DOUBT + 0.25, hearing="c", gossip=Gossip(b="ac")) == ["fence b"]


def test_gossip_alone_fences_nobody_who_is_heard() -> None:
    watch = Watch()
    assert watch.wait(10, hearing="bc", gossip=Gossip(b="ac")) == []


def test_who_does_not_listen_any_more_is_fenced_at_once() -> None:
    watch = Watch()
    watch.wait(5, hearing="bc")
    watch.steward.on_gone("b", watch.meta.incarnation("b"), watch.now)
    assert watch.look() == ["fence b"]


def test_who_is_heard_but_refuses_connections_stays_out() -> None:
    watch = Watch()
    watch.wait(5, hearing="bc")
    found = []
    for _ in range(20):
        watch.steward.on_gone("b", watch.meta.incarnation("b"), watch.now)
        found += watch.look() + watch.wait(0.5, hearing="bc")
    assert found == ["fence b"]
    assert watch.wait(5, hearing="bc") == ["unfence b"], "the way is free again"


def test_a_life_that_is_over_does_not_count_against_the_next() -> None:
    watch = Watch()
    watch.wait(5, hearing="bc")
    watch.meta.fence("b")
    watch.meta.register("b", life=2)
    watch.steward.on_gone("b", 1, watch.now)
    assert watch.wait(1, hearing="bc") == []
    watch.steward.on_heartbeat("b", 1, watch.now)  # a late one
    assert watch.wait(5, hearing="bc") == []


def test_a_leader_that_slept_accuses_nobody_for_that() -> None:
    watch = Watch()
    watch.wait(5, hearing="bc")
    watch.now += 30
    assert watch.look() == []
    assert watch.wait(SILENCE + 0.5, hearing="b") == ["fence c"]


def test_who_is_heard_steadily_is_taken_back() -> None:
    watch = Watch()
    watch.wait(SILENCE + 0.5, hearing="c")
    assert watch.wait(STEADY - 0.25, hearing="bc") == []
    assert watch.wait(1, hearing="bc") == ["unfence b"]


def test_one_heartbeat_is_not_steady() -> None:
    watch = Watch()
    watch.wait(SILENCE + 0.5, hearing="c")
    watch.wait(0.25, hearing="bc")
    assert watch.wait(10, hearing="c") == []


def test_whom_others_suspect_is_not_taken_back() -> None:
    watch = Watch()
    watch.wait(SILENCE + 0.5, hearing="c")
    assert watch.wait(5, hearing="bc", gossip=Gossip(b="c")) == []


def test_whom_gossip_takes_for_dead_is_not_taken_back_though_it_is_heard() -> None:
    watch = Watch()
    watch.wait(SILENCE + 0.5, hearing="c")
    assert watch.wait(5, hearing="bc", gossip=Gossip(b="")) == [], "nobody reaches it, though it reaches us"


# -- leaders -----------------------------------------------------------------------------


def test_leaders_are_spread_when_the_table_has_stood_for_a_while() -> None:
    meta = Meta("abc", ("abc",) * 4)
    steward = Steward(PARAMETERS)
    steward.start(0.0)
    pause = PARAMETERS.settles_after_s
    assert steward.advice(meta.table, 10.0) == ()
    assert steward.advice(meta.table, 10.0 + pause - 0.1) == ()
    advice = steward.advice(meta.table, 10.0 + pause)
    assert sorted(target for _, target in advice) == ["b", "c"]
    assert steward.advice(meta.table, 10.1 + pause) == (), "leaders are given time"
    assert steward.advice(meta.table, 10.0 + 2 * pause) == advice, "and told again"
    for partition, target in advice:
        meta.hand_over(partition, target, number=meta.index)
        assert steward.advice(meta.table, 10.1 + 2 * pause) == (), "nothing while things change"
    assert steward.advice(meta.table, 20.0 + 2 * pause) == ()
    assert [row.leader for row in meta.table.partitions].count("a") == 2


# -- voters ------------------------------------------------------------------------------


def test_how_many_should_vote() -> None:
    assert [voters_wanted(nodes) for nodes in (1, 2, 3, 9, 10, 1000)] == [1, 1, 3, 3, 5, 5]


class Group:
    """A steward of node a, which leads; followers have everything unless they are lagging."""

    def __init__(self, names: str, voters: str) -> None:
        self.meta = Meta(names, (names[:1],))
        self.steward = Steward(PARAMETERS)
        self.steward.start(0.0)
        self.configuration = Configuration(tuple(f"{name}/1" for name in voters), ())
        self.lagging: set[str] = set()
        self.silent: set[str] = set()

    def step(self, now: float = 0.0) -> str:
        """Make the next step, if there is one, and return who votes and who learns."""
        raft = _Leading(self.configuration, self.lagging, self.silent)
        self.steward.verdicts(View(Incarnation("a", 1), self.meta.table, is_settled=True), Gossip(), now)
        found = self.steward.next_configuration(raft, self.meta.table, now)
        if found is not None:
            self.configuration = found
        return self.shown()

    def shown(self) -> str:
        return "+".join(" ".join(members) for members in self.configuration if members)

    def steps(self, now: float = 0.0) -> list[str]:
        found: list[str] = []
        while (shown := self.step(now)) not in found:
            found.append(shown)
        return found


class _Leading(Raft):
    """A leader, as far as the steward can see."""

    def __init__(self, configuration: Configuration, lagging: Iterable[str], silent: Iterable[str]) -> None:
        stored = Stored(1, None, Snapshot(1, 1, configuration, ()), ())
        super().__init__("a/1", stored, RaftParameters(), random.Random(1), 0.0)
        self._lagging, self._silent = frozenset(lagging), frozenset(silent)

    def heard_at(self, member: str) -> float:
        return -inf if member in self._silent else inf

    def match_index(self, member: str) -> int:
        return 0 if member in self._lagging else self.commit_index


def test_a_third_node_makes_three_voters_step_by_step() -> None:
    group = Group("ab", "a")
    assert group.steps() == ["a/1"]
    group.meta.register("c")
    assert group.steps() == ["a/1+b/1", "a/1+b/1 c/1", "a/1 b/1+c/1", "a/1 b/1 c/1"]


def test_one_voter_waits_for_two_others_before_it_shares_its_vote() -> None:
    group = Group("abc", "a")
    group.lagging = {"c/1"}
    assert group.steps() == ["a/1+b/1", "a/1+b/1 c/1"], "with two voters, the loss of either would be the end"


def test_a_learner_votes_only_when_it_has_caught_up() -> None:
    group = Group("abc", "ab")
    group.lagging = {"c/1"}
    assert group.steps() == ["a/1 b/1+c/1"]
    group.lagging = set()
    assert group.steps() == ["a/1 b/1 c/1"]


def test_ten_nodes_have_five_voters() -> None:
    group = Group("abcdefghi", "abc")
    assert group.steps() == ["a/1 b/1 c/1"]
    group.meta.register("j")
    assert group.steps()[-1] == "a/1 b/1 c/1 d/1 e/1"


def test_a_fenced_voter_is_replaced_after_a_while() -> None:
    group = Group("abcd", "abc")
    group.meta.fence("c")
    group.silent = {"c/1"}
    assert group.steps(0.0) == ["a/1 b/1 c/1"]
    assert group.steps(PARAMETERS.replace_after_s - 0.1) == ["a/1 b/1 c/1"]
    assert group.steps(PARAMETERS.replace_after_s) == ["a/1 b/1 c/1+d/1", "a/1 b/1+d/1", "a/1 b/1 d/1"]


def test_a_fenced_voter_stays_when_nobody_could_replace_it() -> None:
    group = Group("abc", "abc")
    group.meta.fence("c")
    assert group.steps(0.0) == group.steps(100.0) == ["a/1 b/1 c/1"]
    assert group.steps(PARAMETERS.forget_after_s)[-1] == "a/1", "of two nodes, one votes"


def test_a_voter_without_its_disk_is_another_voter() -> None:
    group = Group("abc", "abc")
    group.meta.fence("c")
    group.meta.register("c", life=2)
    group.silent = {"c/1"}
    assert group.steps() == ["a/1 b/1 c/1+c/2", "a/1 b/1+c/2", "a/1 b/1 c/2"]


def test_a_voter_that_still_answers_leaves_after_its_successor_has_come() -> None:
    group = Group("abc", "abc")
    group.meta.fence("c")
    group.meta.register("c", life=2)
    assert group.steps() == ["a/1 b/1 c/1+c/2", "a/1 b/1 c/1 c/2", "a/1 b/1 c/2"]


def test_the_group_is_never_left_to_voters_who_do_not_answer() -> None:
    group = Group("abcd", "abc")
    group.silent = {"c/1"}
    group.meta.fence("c")
    group.meta.fence("b")
    group.meta.register("b", life=2)  # b's process votes on, though its name belongs to another now
    later = PARAMETERS.replace_after_s
    assert group.steps(0.0) == ["a/1 b/1 c/1+b/2", "a/1 b/1 c/1 b/2", "a/1 c/1 b/2"]
    assert group.steps(later) == ["a/1 c/1 b/2+d/1", "a/1 b/2+d/1", "a/1 b/2 d/1"]


def test_a_voter_that_has_not_answered_in_this_term_does_not_count_as_answering() -> None:
    group = Group("abcd", "abc")
    group.lagging = {"c/1"}  # it was heard "at the election", as everybody was, and never since
    group.meta.fence("b")
    group.meta.register("b", life=2)
    group.lagging |= {"b/2"}
    assert group.steps(0.0) == ["a/1 b/1 c/1+b/2"]


def test_a_learner_that_never_catches_up_makes_way_for_another() -> None:
    group = Group("abcd", "ab")
    group.lagging = {"c/1"}
    assert group.steps(0.0) == ["a/1 b/1+c/1"]
    patience = PARAMETERS.learns_within_s
    assert group.steps(patience - 0.1) == ["a/1 b/1+c/1"]
    assert group.steps(patience) == ["a/1 b/1", "a/1 b/1+d/1", "a/1 b/1 d/1"]


def test_names_that_are_long_gone_do_not_count() -> None:
    group = Group("abc", "a")
    group.meta.fence("c")
    group.lagging = {"b/1"}
    assert group.step(0.0) == "a/1+b/1", "three nodes want three voters"
    assert group.steps(PARAMETERS.forget_after_s)[-1] == "a/1"


def test_a_learner_that_dies_is_dropped() -> None:
    group = Group("abc", "ab")
    group.lagging = {"c/1"}
    group.step()
    group.meta.fence("c")
    assert group.steps()[0] == "a/1 b/1"


@pytest.mark.parametrize("voters", ["abcd", "abcde"])
def test_voters_too_many_are_dropped_but_never_the_leader(voters: str) -> None:
    group = Group("abcde", voters)
    assert group.steps()[-1] == "a/1 b/1 c/1"


def test_voters_are_taken_from_other_zones_first() -> None:
    group = Group("a", "a")
    for name, zone in (("b", ""), ("c", ""), ("d", "east"), ("e", "west")):
        group.meta.register(name, zone=zone)
    assert group.steps()[-1] == "a/1 d/1 e/1"


def test_the_leaders_own_earlier_life_is_fenced_like_any_other() -> None:
    watch = Watch()
    for _ in range(20):
        watch.now += 0.25
        watch.steward.on_heartbeat("b", 1, watch.now)
        watch.steward.on_heartbeat("c", 1, watch.now)
        verdicts = watch.steward.verdicts(
            View(Incarnation("a", 0), watch.meta.table, is_settled=True), Gossip(), watch.now
        )
        if verdicts:
            break
    assert verdicts == [(commands.FENCE, "a", 1)]
