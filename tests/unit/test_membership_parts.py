"""The pure parts of membership, each on its own: rumors, suspicion, health, dissemination, the view, the parameters."""

import random
from typing import Any

import pytest

from gimmal.cluster.membership.dissemination import Dissemination
from gimmal.cluster.membership.health import LocalHealth
from gimmal.cluster.membership.members import Member, Members
from gimmal.cluster.membership.parameters import MembershipParameters
from gimmal.cluster.membership.rumor import REFUTATION_MAX, Profile, Rumor, State, read_rumor
from gimmal.cluster.membership.suspicion import Suspicion, Terms, length_s
from gimmal.cluster.table import Addresses
from gimmal.hashing import WEIGHT_MAX
from gimmal.wire import limits
from gimmal.wire.codec import pack_tree, unpack_tree

PROFILE = Profile("10.0.0.1:7702", "a", 1, (("default", Addresses("10.0.0.1:7700", "10.0.0.1:7701")),))


def rumor(name: str = "n1", state: State = State.ALIVE, **fields: Any) -> Rumor:
    return Rumor(name, 1, 0, state, "", 0, None)._replace(**fields)


# -- rumors ---------------------------------------------------------------------------------------------------


def test_a_rumor_survives_the_wire() -> None:
    told = rumor("n1", State.SUSPECT, refutation=3, accuser="n2", health=2, profile=PROFILE)
    assert read_rumor(unpack_tree(pack_tree(told))) == told


@pytest.mark.parametrize(
    "profile",
    [
        (),
        ("10.0.0.1:7702", "a", 1),
        (1, "a", 1, ()),
        ("x" * 5_000, "a", 1, ()),
        ("x", b"a", 1, ()),
        ("x", "a", True, ()),
        ("x", "a", 0, ()),
        ("x", "a", WEIGHT_MAX + 1, ()),
        ("x", "a", 1, None),
        ("x", "a", 1, ((),)),
        ("x", "a", 1, (("default", ("one",)),)),
        ("x", "a", 1, (("default", ("one", 2)),)),
        ("x", "a", 1, ((None, ("one", "two")),)),
        ("x", "a", 1, (("default", ("one", "two")),) * (limits.NETWORKS_MAX + 1)),
        ("x" * 257, "a", 1, ()),
        ("x", "a", 1, (("default", ("one", "x" * 257)),)),
        ("x", "a", 1, tuple((f"n{number}", ("o" * 256, "t" * 256)) for number in range(limits.NETWORKS_MAX))),
    ],
)
def test_a_rumor_with_a_malformed_profile_is_none(profile: Any) -> None:
    assert read_rumor(rumor(profile=profile)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"refutation": REFUTATION_MAX + 1},
        {"refutation": REFUTATION_MAX, "state": State.DEAD},
        {"incarnation": limits.INDEX_MAX + 1},
        {"state": 3},
    ],
)
def test_a_rumor_that_nobody_could_have_told_is_none(fields: dict[str, Any]) -> None:
    assert read_rumor(rumor()._replace(**fields)) is None


def test_a_new_life_beats_a_statement_and_a_statement_beats_an_accusation() -> None:
    in_order = [
        rumor(state=State.ALIVE),
        rumor(state=State.SUSPECT),
        rumor(state=State.DEAD),
        rumor(refutation=1),
        rumor(state=State.DEAD, refutation=1),
        rumor(incarnation=2),
    ]
    assert [told[1:4] for told in in_order] == sorted(told[1:4] for told in in_order)


# -- suspicion ------------------------------------------------------------------------------------------------

TERMS = Terms(least_s=2.0, most_s=8.0, confirmations=3, calls=2, hearsay_calls=3, interval_s=0.5)


def test_a_suspicion_shrinks_with_the_logarithm_of_its_confirmations() -> None:
    lengths = [length_s(confirmed, TERMS) for confirmed in range(6)]
    assert lengths[:4] == pytest.approx([8.0, 5.0, 3.245, 2.0], abs=0.001)
    assert lengths[4:] == [2.0, 2.0]
    assert length_s(0, TERMS._replace(confirmations=0)) == 2.0


def course(suspicion: Suspicion) -> tuple[list[float], float]:
    """Let a suspicion run out; return when the member was called, and when it was given up."""
    calls = []
    while not suspicion.is_over(suspicion.due_at):
        calls.append(suspicion.due_at)
        suspicion.on_called(suspicion.due_at)
    return calls, suspicion.due_at


def test_an_accuser_calls_before_the_end_and_others_after_it() -> None:
    assert course(Suspicion("n2", TERMS, 10.0, is_own=True)) == ([17.0, 17.5], 18.0)
    assert course(Suspicion("n2", TERMS, 10.0, is_own=False)) == ([18.0, 18.5, 19.0], 19.5)


def test_who_becomes_an_accuser_waits_no_longer_than_one() -> None:
    suspicion = Suspicion("n2", TERMS, 10.0, is_own=False)
    assert suspicion.confirm("n3", 10.5, is_own=True)
    assert course(suspicion) == ([14.0, 14.5], 15.0)


def test_an_accuser_counts_once_and_only_as_many_as_make_a_difference() -> None:
    suspicion = Suspicion("n2", TERMS, 10.0, is_own=True)
    assert not suspicion.confirm("n2", 10.0, is_own=False)
    assert [suspicion.confirm(name, 10.0, is_own=False) for name in ("n3", "n4", "n3", "n5", "n6")] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert suspicion.accusers == ("n2", "n3", "n4", "n5")
    assert course(suspicion) == ([11.0, 11.5], 12.0)


def test_nobody_is_given_up_unheard_even_if_the_time_is_over_all_at_once() -> None:
    suspicion = Suspicion("n2", TERMS, 10.0, is_own=True)
    for name in ("n3", "n4", "n5"):
        suspicion.confirm(name, 16.0, is_own=False)
    assert suspicion.due_at == 16.0
    assert course(suspicion) == ([16.0, 16.5], 17.0)


def test_time_in_which_nobody_could_be_heard_does_not_count() -> None:
    suspicion = Suspicion("n2", TERMS, 10.0, is_own=True)
    suspicion.on_called(17.0)
    suspicion.postpone(3.0)
    assert course(suspicion) == ([20.5], 21.0)


# -- health ---------------------------------------------------------------------------------------------------


def test_health_stays_within_its_bounds_and_stretches_waiting() -> None:
    health = LocalHealth(8)
    health.improve()
    assert (health.score, health.stretch(0.2)) == (0, 0.2)
    health.worsen(3)
    health.worsen()
    assert (health.score, health.stretch(0.2)) == (4, 1.0)
    health.worsen(100)
    assert health.score == 8
    health.improve()
    assert health.score == 7


# -- parameters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "least_s", "copies"), [(1, 1.5, 3), (2, 1.5, 3), (10, 1.5, 6), (100, 3.0, 9)])
def test_doubt_and_retransmissions_grow_with_the_logarithm_of_the_cluster(
    size: int, least_s: float, copies: int
) -> None:
    parameters = MembershipParameters()
    assert parameters.suspicion_least_s(size) == pytest.approx(least_s)
    assert parameters.retransmissions(size) == copies


# -- dissemination --------------------------------------------------------------------------------------------


def test_a_rumor_is_sent_as_often_as_it_may_and_then_forgotten() -> None:
    news = Dissemination(1_200)
    news.add(rumor())
    assert [len(news.take(f"n{number}", 3, may_repeat=True)) for number in range(5)] == [1, 1, 1, 0, 0]
    assert not news


def test_a_rumor_rides_once_to_each_member_but_gossip_may_repeat_it() -> None:
    news = Dissemination(1_200)
    news.add(rumor())
    assert news.take("n2", 9, may_repeat=False) == (rumor(),)
    assert news.take("n2", 9, may_repeat=False) == ()
    assert news.take("n2", 9, may_repeat=True) == (rumor(),)
    assert news.take("n3", 9, may_repeat=False) == (rumor(),)


def test_newer_news_of_a_member_takes_the_place_of_older() -> None:
    news = Dissemination(1_200)
    news.add(rumor("n1", State.SUSPECT, accuser="n2"))
    news.add(rumor("n2"))
    news.add(rumor("n1", refutation=1))
    assert set(news.take("n3", 9, may_repeat=True)) == {rumor("n1", refutation=1), rumor("n2")}


def test_accusations_stand_side_by_side_until_they_are_refuted() -> None:
    news = Dissemination(1_200)
    accusations = [rumor("n1", State.SUSPECT, accuser=accuser) for accuser in ("n2", "n3", "n2")]
    for accusation in accusations:
        news.add(accusation)
    assert len(news) == 2
    news.add(rumor("n1", State.SUSPECT, refutation=1, accuser="n4"))
    assert len(news) == 1
    news.add(rumor("n1", State.DEAD, refutation=1, accuser="n2"))
    assert [told.state for told in news.take("n5", 9, may_repeat=True)] == [State.DEAD]


def test_a_profile_that_is_not_told_yet_rides_with_newer_news_of_the_same_life() -> None:
    news = Dissemination(1_200)
    news.add(rumor(profile=PROFILE))
    news.add(rumor(state=State.SUSPECT, accuser="n2"))
    news.add(rumor(refutation=1))
    assert news.take("n3", 9, may_repeat=True) == (rumor(refutation=1, profile=PROFILE),)
    news.add(rumor(incarnation=2))
    assert news.take("n3", 9, may_repeat=True) == (rumor(incarnation=2),)


def test_what_was_sent_least_goes_first_and_a_message_stays_within_its_budget() -> None:
    size = len(pack_tree(rumor("n00")))
    news = Dissemination(4 * size + size // 2)
    names = [f"n{number:02}" for number in range(10)]
    for name in names:
        news.add(rumor(name))
    rounds = [[told.name for told in news.take("n99", 99, may_repeat=True)] for _ in range(5)]
    assert [len(told) for told in rounds] == [4] * 5
    told_of = [name for told in rounds for name in told]
    assert {told_of.count(name) for name in names} == {2}


def test_a_rumor_longer_than_the_budget_goes_alone() -> None:
    news = Dissemination(40)
    news.add(rumor("n1", profile=PROFILE))
    news.add(rumor("n2"))
    messages = [news.take("n9", 1, may_repeat=True) for _ in range(3)]
    assert sorted(told.name for message in messages for told in message) == ["n1", "n2"]
    assert max(map(len, messages)) == 1


# -- the view -------------------------------------------------------------------------------------------------


def view(*names: str, seed: int = 1) -> Members:
    members = Members(Member("me", 1, 0, State.ALIVE, 0, PROFILE), random.Random(seed))
    for name in names:
        members.put(Member(name, 1, 0, State.ALIVE, 0, PROFILE))
    return members


def test_members_are_probed_in_turn_each_once_in_a_round_and_in_another_order_each_time() -> None:
    names = [f"n{number}" for number in range(8)]
    members = view(*names)
    rounds = [tuple(members.next_to_probe() or "" for _ in names) for _ in range(20)]
    members.next_to_probe()
    assert all(sorted(one) == names for one in rounds[1:])
    assert len(dict.fromkeys(rounds)) > 10


def test_nobody_is_skipped_or_asked_twice_in_a_round_when_others_come_and_go() -> None:
    members = view("n0", "n1", "n2", "n3", "n4")
    while members.next_to_probe() != members.reachable[-1]:
        pass  # to the end of a round
    asked = [members.next_to_probe(), members.next_to_probe()]
    gone = asked[0] or ""
    members.put(members.all[gone]._replace(state=State.DEAD))
    members.put(Member("n5", 1, 0, State.ALIVE, 0, PROFILE))
    while len(asked) < 5:
        asked.append(members.next_to_probe())
    assert {"n0", "n1", "n2", "n3", "n4"} <= {*asked, *members.reachable}
    assert len(dict.fromkeys(asked)) == 5


def test_the_dead_and_those_without_an_address_are_not_probed() -> None:
    members = view("n1")
    members.put(Member("n2", 1, 0, State.ALIVE, 0, None))
    members.put(Member("n3", 1, 0, State.DEAD, 0, PROFILE))
    members.put(Member("n4", 1, 0, State.DEAD, 0, None))
    members.put(Member("n5", 1, 0, State.SUSPECT, 0, PROFILE))
    assert sorted(members.reachable) == ["n1", "n5"]
    assert members.dead == ["n3", "n4"]
    members.put(Member("n2", 1, 0, State.ALIVE, 0, PROFILE))
    members.put(Member("n3", 1, 1, State.ALIVE, 0, PROFILE))
    assert sorted(members.reachable) == ["n1", "n2", "n3", "n5"]
    assert members.dead == ["n4"]


def test_some_are_chosen_without_the_one_that_is_not_wanted() -> None:
    members = view("n1", "n2", "n3")
    assert sorted(members.some(3, "n2")) == ["n1", "n3"]
    assert len(members.some(2)) == 2
    assert view().some(3) == []
    assert view().next_to_probe() is None


def test_the_digest_tells_apart_what_matters_and_nothing_else() -> None:
    members, other = view("n1", "n2", seed=1), view("n2", "n1", seed=2)
    assert members.digest() == other.digest()
    assert len(members.digest()) == 8
    seen = [members.digest()]
    for changes in ({"refutation": 1}, {"state": State.SUSPECT}, {"incarnation": 2}, {"profile": None}):
        members.put(members.all["n1"]._replace(**changes))
        seen.append(members.digest())
    assert len(dict.fromkeys(seen)) == len(seen)
