"""How nodes that belong to nothing become one cluster, and never two."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from gimmal.cluster.founding import Born, ClusterFound, Fact, Founding, Ready
from gimmal.errors import RemoteProtocolError
from gimmal.wire.peer_messages import BLANK, Belonging, Genesis, Hello, Lock, Locked, PeerMessage, Release
from tests.unit.meta_states import registration

CLUSTER = b"cluster of tests"


class Street:
    """Newcomers a, b, c ... that all know each other's address, and messages that take no time unless they are lost."""

    def __init__(self, names: str, expects: dict[str, int], seeds: str | None = None) -> None:
        self.now = 10.0
        self.seeds = names if seeds is None else seeds
        self.expects = expects
        self.newcomers: dict[str, Founding] = {}
        self.facts: list[tuple[str, Fact]] = []
        self.is_lost: Callable[[str, str, PeerMessage], bool] = lambda sender, to, message: False
        self.sent: list[tuple[str, str, PeerMessage]] = []
        for name in names:
            self.start(name)

    def start(self, name: str, life: int = 1, **changes: Any) -> Founding:
        seeds = [f"{seed}:7701" for seed in self.seeds]
        me = registration(name, life, **changes)
        newcomer = Founding(me, seeds, self.expects.get(name, 0), random.Random(f"{name}{life}"), self.now)
        self.newcomers[name] = newcomer
        return newcomer

    def deliver(self, to: str, sender: str, message: PeerMessage) -> None:
        message.sender = sender
        newcomer = self.newcomers.get(to)
        if newcomer is not None:
            self.facts += [(to, fact) for fact in newcomer.receive(message, self.now)]

    def flush(self) -> None:
        for _ in range(100):
            posted = [
                (name, address.partition(":")[0], message)
                for name, newcomer in self.newcomers.items()
                for address, message in newcomer.drain()
            ]
            if not posted:
                return
            self.sent += posted
            for sender, to, message in posted:
                if not self.is_lost(sender, to, message):
                    self.deliver(to, sender, message)
        raise AssertionError("they never stop talking")

    def run(self, seconds: float) -> list[tuple[str, Fact]]:
        """Let time pass; return what became true meanwhile."""
        before = len(self.facts)
        end = self.now + seconds
        while self.now < end:
            self.now += 0.05
            for name, newcomer in list(self.newcomers.items()):
                if newcomer.next_deadline() <= self.now:
                    self.facts += [(name, fact) for fact in newcomer.tick(self.now)]
            self.flush()
            for name, fact in self.facts[before:]:
                if isinstance(fact, Ready):
                    self.newcomers.pop(name, None)  # it belongs to a cluster now
        return self.facts[before:]

    def is_bound(self, name: str) -> bool:
        return self.newcomers[name]._promise is not None

    def ready(self) -> list[tuple[str, str]]:
        """Who may found, and with whom."""
        return [
            (name, "".join(member.name for member in fact.members))
            for name, fact in self.facts
            if isinstance(fact, Ready)
        ]


def test_a_lone_node_founds_when_it_expects_nobody_else() -> None:
    street = Street("a", {"a": 1})
    street.run(0.1)
    assert street.ready() == [("a", "a")]


def test_a_lone_node_founds_nothing_when_it_was_told_to_expect_three() -> None:
    street = Street("a", {"a": 3}, seeds="abc")
    street.run(600)
    assert street.ready() == []
    assert street.newcomers["a"].why() == "waiting for 2 more nodes (--expect 3)"


def test_two_of_three_found_nothing() -> None:
    street = Street("ab", {"a": 3, "b": 3}, seeds="abc")
    street.run(600)
    assert street.ready() == []
    assert street.newcomers["b"].why() == "waiting for 1 more node (--expect 3)"


@pytest.mark.parametrize("founders", ["a", "b", "abc", "bc"])
def test_three_found_once_they_have_met(founders: str) -> None:
    street = Street("abc", dict.fromkeys(founders, 3))
    street.run(2)
    (ready,) = street.ready()
    assert ready == (founders[0], founders[0] + "".join(sorted({*"abc"} - {founders[0]})))


def test_they_need_not_know_each_other_if_all_know_one() -> None:
    street = Street("abc", {"b": 3}, seeds="b")
    street.run(2)
    assert street.ready() == [("b", "bac")]


def test_nobody_founds_before_seeds_had_time_to_answer() -> None:
    street = Street("a", {"a": 1}, seeds="az")
    street.run(1.5)
    assert street.ready() == []
    street.run(1)
    assert street.ready() == [("a", "a")]


def test_a_founder_that_finds_a_cluster_joins_it() -> None:
    street = Street("abc", {"a": 3, "b": 3})
    street.deliver("a", "z", Belonging(CLUSTER, 1, 0, 5, "z", "z:7701", ("y:7701", "z:7701")))
    assert street.facts == [("a", ClusterFound(CLUSTER, ("z:7701", "y:7701")))]


def test_a_promise_binds() -> None:
    """Two founders that do not hear each other: whoever is promised to the one is not promised to the other."""
    street = Street("abcd", {"a": 3, "d": 3})
    street.is_lost = lambda sender, to, message: {sender, to} == {"a", "d"}
    street.run(10)
    assert street.ready() in ([("a", "abc")], [("d", "dbc")])


def test_a_founder_yields_to_a_smaller_name_and_releases_first() -> None:
    street = Street("bc", {"a": 3, "b": 2}, seeds="abc")
    street.is_lost = lambda sender, to, message: isinstance(message, Locked) and to == "b"
    street.run(2.5)
    assert street.newcomers["c"].why() == "waiting for node b to found the cluster"
    street.sent.clear()
    street.start("a")
    street.run(3)
    assert street.ready() == [("a", "abc")]
    kinds = [(sender, to, type(message)) for sender, to, message in street.sent]
    assert kinds.index(("b", "c", Release)) < kinds.index(("b", "a", Locked))


def test_a_promise_made_to_a_process_that_is_gone_does_not_count() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked) and sender == "c"
    street.run(1.5)
    attempt = street.newcomers["a"]._attempt
    assert attempt is not None
    street.deliver("a", "c", Locked(*BLANK, attempt.founding, registration("c", 2).uuid))
    assert street.ready() == []
    street.deliver("a", "c", Locked(*BLANK, attempt.founding, registration("c").uuid))
    assert street.ready() == [("a", "abc")]


def test_only_the_process_that_was_met_can_ask_for_a_promise() -> None:
    street = Street("abc", {"a": 4}, seeds="abc")
    street.run(0.5)
    del street.newcomers["a"]
    b = street.newcomers["b"]
    street.now += 2
    street.deliver("b", "a", Lock(*BLANK, bytes(16), registration("a", 2).uuid))
    assert b._promise is None
    b.tick(street.now + 2)
    assert "a" not in [newcomer.registration.name for newcomer in b._fresh()], "and keeps nobody alive"
    street.deliver("b", "a", Lock(*BLANK, bytes(16), registration("a").uuid))
    assert b._promise is not None


def test_a_founder_that_hung_begins_anew() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked)
    street.run(1)
    a = street.newcomers["a"]
    attempt = a._attempt
    assert attempt is not None
    a.drain()
    for name in "bc":
        locked = Locked(*BLANK, attempt.founding, registration(name).uuid)
        locked.sender = name
        assert a.receive(locked, street.now + 60) == []
    assert [type(message) for _, message in a.drain()].count(Release) >= 2


def test_newcomers_that_are_not_heard_of_any_more_are_forgotten() -> None:
    street = Street("a", {"a": 3})
    for number in range(3_000):
        stranger = registration(f"s{number}")
        street.deliver("a", stranger.name, Hello(*BLANK, tuple(stranger), 0, is_answer=True, trouble=""))
    assert len(street.newcomers["a"]._others) <= 1_024
    street.is_lost = lambda sender, to, message: True
    street.run(20)
    assert street.newcomers["a"]._others == {}


def test_a_promise_to_another_founding_does_not_count() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked)
    street.run(1.5)
    for name in "bc":
        street.deliver("a", name, Locked(*BLANK, bytes(16), registration(name).uuid))
    assert street.ready() == []


def test_an_attempt_that_lacks_a_promise_is_given_up_and_begun_anew() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked) and sender == "c"
    street.run(10)
    foundings = {message.founding for _, _, message in street.sent if isinstance(message, Lock)}
    released = {message.founding for _, _, message in street.sent if isinstance(message, Release)}
    assert len(foundings) >= 3
    assert released < foundings
    street.is_lost = lambda sender, to, message: False
    street.run(4)
    assert [members for _, members in street.ready()] == ["abc"]


def test_a_release_that_was_lost_is_repeated() -> None:
    street = Street("bc", {"a": 3, "b": 2})
    street.is_lost = lambda sender, to, message: (
        isinstance(message, Release) or (isinstance(message, Locked) and to == "b")
    )
    street.run(2)
    street.start("a")
    street.run(3)  # b has heard of a, and has given up; c does not know
    promise = street.newcomers["c"]._promise
    assert promise is not None
    assert promise.founder.name == "b"
    assert street.ready() == []
    street.is_lost = lambda sender, to, message: False
    street.run(6)
    assert street.ready() == [("a", "abc")]


def test_a_promise_to_a_silent_founder_binds_until_its_process_is_known_to_be_gone() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked)
    street.run(1)
    del street.newcomers["a"]
    street.run(600)
    assert street.is_bound("b")
    assert street.is_bound("c")
    assert "counts on this one" in street.newcomers["b"].why()
    assert "silent for 600 s" in street.newcomers["b"].why()
    street.newcomers["b"].on_refused("c:7701", street.now)
    street.newcomers["b"].on_refused("a:7701", street.now)
    street.run(1)
    assert not street.is_bound("b")
    assert street.is_bound("c")


def test_a_founder_whose_address_refuses_is_waited_for_a_minute() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked)
    street.run(1)
    del street.newcomers["a"]
    street.run(1)
    street.newcomers["b"].on_refused("a:7701", street.now)
    street.run(55)
    assert street.is_bound("b")
    street.run(5)
    assert not street.is_bound("b")


def test_a_promise_ends_when_another_process_has_its_founders_name() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked)
    street.run(1)
    street.start("a", life=2)
    street.run(2.5)
    assert street.ready() == [], "for three seconds it could still be a second node of that name"
    street.is_lost = lambda sender, to, message: False
    street.run(6)
    assert street.ready() == [("a", "abc")]


def test_who_is_bound_tells_its_founder_of_a_cluster_that_exists() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked) and sender == "c"
    street.run(1)
    street.deliver("b", "z", Belonging(CLUSTER, 1, 0, 5, "z", "z:7701", ()))
    street.flush()
    assert street.facts == [("a", ClusterFound(CLUSTER, ("z:7701",)))]
    assert street.newcomers["b"]._promise is None, "it has been released"


def test_who_is_bound_waits_no_longer_when_its_founder_belongs_to_a_cluster() -> None:
    street = Street("abc", {"a": 3})
    street.is_lost = lambda sender, to, message: isinstance(message, Locked) and sender == "c"
    street.run(1)
    assert street.newcomers["b"]._promise is not None
    street.deliver("b", "a", Belonging(CLUSTER, 1, 0, 5, "a", "a:7701", ()))
    assert street.facts == [("b", ClusterFound(CLUSTER, ("a:7701",)))]


# -- the news ---------------------------------------------------------------------------------


def genesis(founding: bytes) -> Genesis:
    return Genesis(CLUSTER, 1, 0, 1, "a", founding, (("a/1",), ()), ())


def test_a_genesis_is_for_who_promised_itself_to_it_or_to_nobody() -> None:
    street = Street("abc", {"a": 3})
    message = genesis(CLUSTER)
    street.deliver("b", "a", message)
    assert street.facts == [("b", Born(message))]
    street.facts.clear()
    street.is_lost = lambda sender, to, message: isinstance(message, Locked)
    street.run(1)
    street.deliver("b", "z", message)
    assert street.facts == [], "b is bound to another founding"
    (mine,) = {message.founding for _, _, message in street.sent if isinstance(message, Lock)}
    street.deliver("b", "a", genesis(mine))
    assert len(street.facts) == 1


# -- names and addresses ----------------------------------------------------------------------


def test_two_nodes_of_one_name_are_a_clear_error() -> None:
    street = Street("ab", {"a": 3}, seeds="abz")
    street.run(1)
    street.newcomers["z"] = Founding(registration("b", 2, peer="z:7701"), ["a:7701"], 0, random.Random(1), street.now)
    street.run(2)
    assert street.ready() == []
    assert street.newcomers["a"].why() == (
        "the node at b:7701 and the one at z:7701 are both called 'b': give one another name"
    )


def test_two_nodes_of_one_address_are_a_clear_error() -> None:
    street = Street("ab", {"a": 3}, seeds="ab")
    street.run(1)
    networks = registration("b").networks
    street.newcomers["z"] = Founding(registration("z", networks=networks), ["a:7701"], 0, random.Random(1), street.now)
    street.run(2)
    assert street.ready() == []
    assert street.newcomers["a"].why() == "nodes 'b' and 'z' both have the client (default) address b:7700"


def test_a_seed_that_is_the_node_itself_is_nobody_else() -> None:
    street = Street("a", {"a": 2}, seeds="a")
    me = registration("a")
    street.deliver("a", "a", Hello(*BLANK, tuple(me), 2, is_answer=False, trouble=""))
    street.run(5)
    assert street.ready() == []


@pytest.mark.parametrize(
    "profile", [(), (1,), tuple(registration("b"))[:-1], tuple(registration("b")._replace(weight=0))]
)
def test_who_introduces_itself_badly_is_not_met(profile: Any) -> None:
    street = Street("a", {"a": 2})
    with pytest.raises(RemoteProtocolError, match="as no node"):
        street.deliver("a", "b", Hello(*BLANK, profile, 0, is_answer=False, trouble=""))
    street.run(5)
    assert street.ready() == []


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_lost_nobody_is_promised_twice(seed: int) -> None:
    """With any loss, every founding has the promise of all its nodes, and no process is in two."""
    dice = random.Random(seed)
    street = Street("abcde", {name: 3 for name in "abcde" if dice.random() < 0.6} or {"a": 3})
    loss = dice.choice([0.2, 0.5])
    street.is_lost = lambda sender, to, message: dice.random() < loss
    bound: dict[bytes, tuple[str, ...]] = {}
    for _ in range(20):
        for _, fact in street.run(0.5):
            assert isinstance(fact, Ready)
            members = tuple(member.name for member in fact.members)
            assert len(members) >= 3
            for other in bound.values():
                assert not {*members} & {*other}, f"{members} and {other}"
            bound[fact.founding] = members
