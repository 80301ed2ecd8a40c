"""Membership as a story: small clusters of real machines on a tiny network, in virtual time."""

from math import inf

import pytest

from gimmal.cluster.membership import (
    LaterLifeRumored,
    MemberAlive,
    MemberDead,
    MemberJoined,
    MemberSuspected,
    Rumor,
    State,
)
from gimmal.wire.codec import encode
from gimmal.wire.peer_messages import BLANK, Ack, Gossip, Ping
from tests.unit.membership_cluster import Cluster, accusation, profile_of

FIVE = ("n1", "n2", "n3", "n4", "n5")


# -- at rest --------------------------------------------------------------------------------------------------


def test_a_lone_node_is_silent() -> None:
    machine = Cluster("n1").machines["n1"]
    assert machine.next_deadline() == inf
    assert machine.tick(1_000.0) == []
    assert machine.drain() == []


def test_at_rest_each_node_pings_once_per_interval_and_nothing_else_happens() -> None:
    cluster = Cluster(*FIVE)
    cluster.run(10)
    cluster.sent.clear()
    cluster.facts.clear()
    cluster.run(100)
    kinds = cluster.kinds_sent()
    assert kinds.pop("ViewDigest") == pytest.approx(5 * 100 / 30, abs=8)
    assert kinds == {"Ack": pytest.approx(1_000, abs=5), "Ping": pytest.approx(1_000, abs=5)}
    assert cluster.facts == []
    assert all(not machine.counters for machine in cluster.machines.values())


def test_a_tick_before_the_deadline_does_nothing_and_one_at_the_deadline_something() -> None:
    machine = Cluster("n1", "n2").machines["n1"]
    machine.drain()
    deadline = machine.next_deadline()
    machine.tick(deadline - 0.000001)
    assert machine.drain() == []
    assert machine.next_deadline() == deadline
    machine.tick(deadline)
    assert machine.drain() != []
    assert machine.next_deadline() > deadline


def test_one_seed_gives_one_trace() -> None:
    def trace(seed: int) -> list[tuple[float, str, str, bytes]]:
        cluster = Cluster(*FIVE, seed=seed)
        cluster.run(3)
        cluster.paused.add("n3")
        cluster.run(10)
        return [(at, source, receiver, encode(message)) for at, source, receiver, message in cluster.sent]

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


# -- death ----------------------------------------------------------------------------------------------------


def test_a_silent_death_is_suspected_then_known_to_all() -> None:
    cluster = Cluster(*FIVE)
    cluster.run(2)
    cluster.facts.clear()
    cluster.paused.add("n3")
    cluster.run(2.5)
    assert len(cluster.machines["n1"].accusers("n3")) >= 2
    cluster.run(5)
    for name in ("n1", "n2", "n4", "n5"):
        assert cluster.facts_of(name, MemberDead) == [MemberDead("n3", 1)]
        kinds = [type(fact) for observer, fact in cluster.facts if observer == name]
        assert kinds[0] is MemberSuspected
        assert kinds[-1] is MemberDead
        assert cluster.machines[name].accusers("n3") == ()
        assert cluster.machines[name].peer_of("n3") == "n3:7702"


def test_a_refused_connection_is_an_accusation_at_once_and_the_member_is_told() -> None:
    cluster = Cluster(*FIVE)
    cluster.run(2)
    machine = cluster.machines["n1"]
    assert machine.on_refused("n3", cluster.now) == [MemberSuspected("n3", 1)]
    assert machine.accusers("n3") == ("n1",)
    [(receiver, ping)] = machine.drain()
    assert receiver == "n3"
    assert isinstance(ping, Ping)
    assert ping.rumors[0][:4] == ("n3", 1, 0, State.SUSPECT)
    assert machine.on_refused("n3", cluster.now) == []
    assert machine.on_refused("unknown", cluster.now) == []
    assert machine.on_refused("n1", cluster.now) == []


def test_the_dead_are_called_now_and_then_with_what_is_said_of_them() -> None:
    cluster = Cluster("n1", "n2")
    cluster.paused.add("n2")
    cluster.run(10)
    cluster.sent.clear()
    cluster.run(20)
    assert {receiver for _, _, receiver, _ in cluster.sent} == {"n2"}
    assert len(cluster.sent) == pytest.approx(10, abs=1)
    last = cluster.sent[-1][3]
    assert isinstance(last, Ping)
    assert last.rumors[0][:4] == ("n2", 1, 0, State.DEAD)


# -- false alarms ---------------------------------------------------------------------------------------------


def test_a_broken_link_between_two_is_no_death_because_others_ask() -> None:
    cluster = Cluster(*FIVE)
    cluster.cut |= {("n1", "n2"), ("n2", "n1")}
    cluster.run(60)
    assert cluster.kinds_sent()["PingRequest"] > 10
    assert [fact for _, fact in cluster.facts if not isinstance(fact, MemberJoined)] == []


def test_a_pause_of_a_second_is_refuted() -> None:
    cluster = Cluster(*FIVE)
    for _ in range(20):
        cluster.run(5)
        cluster.paused.add("n3")
        cluster.run(1)
        cluster.resume("n3")
    cluster.run(2)
    assert cluster.machines["n3"].counters["refutations"] > 5
    assert cluster.machines["n3"].counters["lags"] == 20
    assert not any(isinstance(fact, MemberDead) for _, fact in cluster.facts)
    assert cluster.agree_that_all_live()
    refutations = {machine.members["n3"].refutation for machine in cluster.machines.values()}
    assert len(refutations) == 1


def test_a_node_that_was_paused_blames_nobody() -> None:
    cluster = Cluster(*FIVE)
    cluster.run(1.8)
    machine = cluster.machines["n1"]
    cluster.tell("n1", Gossip(*BLANK, (accusation("n3"), accusation("n3", accuser="n4"))))
    cluster.paused.add("n1")
    cluster.now += 30
    facts = machine.tick(cluster.now)
    assert facts == []
    assert machine.health == 1
    assert cluster.states("n1")["n3"] is State.SUSPECT


def test_a_lag_that_the_tick_noticed_is_not_counted_again() -> None:
    cluster = Cluster("n1", "n2")
    machine = cluster.machines["n1"]
    machine.tick(cluster.now + 3)
    machine.on_lag(2.9, cluster.now + 3.01)
    assert (machine.health, machine.counters["lags"]) == (1, 1)
    machine.on_lag(0.3, cluster.now + 3.5)
    assert (machine.health, machine.counters["lags"]) == (2, 2)


def test_a_node_that_is_cut_off_doubts_itself_and_slows_down() -> None:
    cluster = Cluster(*FIVE)
    cluster.run(2)
    cluster.isolate("n1")
    cluster.run(2)
    assert cluster.machines["n1"].health > 2
    assert all(cluster.machines[name].health == 0 for name in ("n2", "n3"))


def test_a_sick_node_says_so_and_says_when_it_is_well() -> None:
    cluster = Cluster(*FIVE)
    cluster.run(2)
    cluster.machines["n1"].on_lag(1.0, cluster.now)
    cluster.run(0.9)
    assert [machine.members["n1"].health for machine in cluster.machines.values()] == [1] * 5
    cluster.run(2)
    assert [machine.members["n1"].health for machine in cluster.machines.values()] == [0] * 5
    assert [machine.members["n1"].refutation for machine in cluster.machines.values()] == [2] * 5


def test_whoever_accuses_us_hears_our_refutation_each_time() -> None:
    cluster = Cluster(*FIVE)
    cluster.run(5)
    machine = cluster.machines["n1"]
    for number in range(30):
        cluster.tell("n1", Ping(*BLANK, number, "n1", (accusation("n1"),)))
        [(receiver, ack)] = machine.drain()
        assert receiver == "n2"
        assert isinstance(ack, Ack)
        assert ack.number == number
        assert ack.rumors[0][:4] == ("n1", 1, 1, State.ALIVE)
    cluster.tell("n1", Gossip(*BLANK, (accusation("n1"),)))
    [(receiver, gossip)] = machine.drain()
    assert isinstance(gossip, Gossip)
    assert gossip.rumors[0][:4] == ("n1", 1, 1, State.ALIVE)
    assert machine.counters["refutations"] == 1


def test_two_halves_that_think_each_other_dead_come_together() -> None:
    cluster = Cluster("n1", "n2", "n3", "n4", "n5", "n6")
    cluster.run(2)
    cluster.isolate("n1", "n2", "n3")
    cluster.run(40)
    assert cluster.states("n1")["n4"] is cluster.states("n4")["n1"] is State.DEAD
    cluster.cut.clear()
    cluster.facts.clear()
    cluster.run(10)
    assert cluster.agree_that_all_live()
    assert {fact.name for fact in cluster.facts_of("n1", MemberAlive) if isinstance(fact, MemberAlive)} == {
        "n4",
        "n5",
        "n6",
    }


# -- lives ----------------------------------------------------------------------------------------------------


def test_a_newcomer_that_knows_one_member_is_soon_known_to_all() -> None:
    cluster = Cluster("n1", "n2", "n3", "n4")
    cluster.run(2)
    cluster.start("n5")
    cluster.adopt("n5", "n1")
    cluster.run(2)
    for name, machine in cluster.machines.items():
        assert sorted(machine.members) == [*FIVE]
        assert machine.peer_of("n5") == "n5:7702"
        if name != "n5":
            assert cluster.facts_of(name, MemberJoined)[-1] == MemberJoined("n5", 1)
    assert machine.peer_of("n6") is None


def test_a_later_life_takes_the_place_of_a_dead_one_when_the_table_names_it() -> None:
    cluster = Cluster("n1", "n2", "n3")
    cluster.run(2)
    cluster.paused.add("n3")
    cluster.run(10)
    assert cluster.states("n1")["n3"] is State.DEAD
    zombie = cluster.machines["n3"]
    cluster.paused.clear()
    cluster.start("n3", incarnation=7)
    cluster.adopt("n3", "n1", "n2")
    cluster.run(0.5)
    assert cluster.machines["n1"].members["n3"].incarnation == 1
    assert cluster.machines["n1"].counters["lives that are not in the table"] > 0
    cluster.adopt("n1", "n3")
    cluster.adopt("n2", "n3")
    assert cluster.facts_of("n1", MemberJoined)[-1] == MemberJoined("n3", 7)
    assert cluster.states("n1")["n3"] is State.ALIVE
    cluster.run(3)
    assert cluster.agree_that_all_live()
    news = cluster.machines["n2"].members["n3"]
    later = Rumor("n3", news.incarnation, news.refutation, State.ALIVE, "", 0, None)
    gossip = Gossip(*BLANK, (later,))
    gossip.sender = "n2"
    assert zombie.receive(gossip, cluster.now) == [LaterLifeRumored(7)]
    assert zombie.receive(gossip, cluster.now) == []
    assert zombie.adopt([("n3", 8, profile_of("n3"))], cluster.now) == []
    assert zombie.members["n3"].incarnation == 1, "who this node is, others decide by the table"


def test_a_message_of_an_older_life_changes_nothing() -> None:
    cluster = Cluster("n1", "n2", "n3")
    cluster.machines["n1"].adopt([("n2", 4, profile_of("n2"))], cluster.now)
    assert cluster.tell("n1", Gossip(*BLANK, (accusation("n3"),)), source=3) == []
    assert cluster.tell("n1", Gossip(*BLANK, (accusation("n3"),)), sender="n1") == []
    assert cluster.machines["n1"].counters["messages of an older life"] == 2
    assert cluster.tell("n1", Gossip(*BLANK, (accusation("n3"),)), source=4) == [MemberSuspected("n3", 1)]


def test_the_table_does_not_bring_back_an_older_life_nor_take_back_an_accusation() -> None:
    cluster = Cluster("n1", "n2", "n3")
    machine = cluster.machines["n1"]
    cluster.tell("n1", Gossip(*BLANK, (accusation("n3"),)))
    assert machine.adopt([("n3", 1, profile_of("n3")), ("n2", 0, profile_of("n2"))], cluster.now) == []
    assert cluster.states("n1")["n3"] is State.SUSPECT
    assert machine.members["n2"].incarnation == 1


def test_a_member_without_an_address_is_not_pinged_until_the_table_knows_it() -> None:
    cluster = Cluster("n1")
    cluster.tell("n1", Gossip(*BLANK, (Rumor("n9", 2, 0, State.ALIVE, "", 0, None),)))
    machine = cluster.machines["n1"]
    assert machine.next_deadline() == inf
    machine.adopt([("n9", 2, profile_of("n9"))], cluster.now)
    assert machine.peer_of("n9") == "n9:7702"
    assert machine.next_deadline() < inf
