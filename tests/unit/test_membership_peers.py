"""What one membership machine makes of what its peers send it: exchanges of views, answers, nonsense."""

from typing import Any

from gimmal.cluster.membership import MemberJoined, Rumor, State
from gimmal.wire import limits
from gimmal.wire.peer_messages import BLANK, Ack, Gossip, Nack, Ping, PingRequest, View, ViewDigest
from tests.unit.membership_cluster import Cluster, accusation, profile_of

# -- the full exchange ----------------------------------------------------------------------------------------


def test_equal_views_are_not_exchanged_and_different_ones_are_in_both_directions() -> None:
    cluster = Cluster("n1", "n2", "n3")
    cluster.run(2)
    one, other = cluster.machines["n1"], cluster.machines["n2"]
    digest = ViewDigest(*BLANK, b"")
    one.adopt([("n8", 1, profile_of("n8"))], cluster.now)
    other.adopt([("n9", 1, profile_of("n9"))], cluster.now)
    one.drain()
    other.drain()
    cluster.tell("n2", digest, sender="n1")
    [(receiver, view)] = other.drain()
    assert isinstance(view, View)
    assert (receiver, view.is_answer, len(view.rumors)) == ("n1", False, 4)
    assert cluster.tell("n1", view, sender="n2") == [MemberJoined("n9", 1)]
    [(receiver, answer)] = one.drain()
    assert isinstance(answer, View)
    assert (receiver, answer.is_answer) == ("n2", True)
    assert [rumor[0] for rumor in answer.rumors] == ["n8"]
    assert cluster.tell("n2", answer, sender="n1") == [MemberJoined("n8", 1)]
    assert other.drain() == []
    digest.digest = one._members.digest()
    cluster.tell("n2", digest, sender="n1")
    assert other.drain() == []


# -- what peers choose ----------------------------------------------------------------------------------------


def test_what_is_no_rumor_is_counted_and_the_others_are_heard() -> None:
    cluster = Cluster("n1", "n2")
    rumors: tuple[Any, ...] = (
        ("n7", 1, 0, 0, "", 0, ("half a profile",)),
        ("n7", 1, 0, 9, "", 0, None),
        ("", 1, 0, 0, "", 0, None),
        ("n8", 1, 0, 0, "", 0, profile_of("n8")),
    )
    assert cluster.tell("n1", Gossip(*BLANK, rumors)) == [MemberJoined("n8", 1)]
    assert cluster.machines["n1"].counters["malformed rumors"] == 3


def test_the_view_grows_by_rumors_only_within_a_bound_and_the_table_always_finds_room() -> None:
    cluster = Cluster("n1", "n2")
    machine = cluster.machines["n1"]
    rumors = tuple(Rumor(f"x{number}", 1, 0, State.ALIVE, "", 0, None) for number in range(limits.NODES_MAX))
    cluster.tell("n1", Gossip(*BLANK, rumors))
    assert len(machine.members) == 2 + limits.HEARSAY_MAX
    assert machine.counters["members beyond the limit"] == limits.NODES_MAX - limits.HEARSAY_MAX
    machine.adopt([(f"n{number}", 1, profile_of(f"n{number}")) for number in range(3, 103)], cluster.now)
    assert len(machine.members) == 102 + limits.HEARSAY_MAX
    machine.adopt([("x0", 1, profile_of("x0"))], cluster.now)
    assert cluster.tell("n1", Gossip(*BLANK, (Rumor("late", 1, 0, State.ALIVE, "", 0, None),))) != []
    assert cluster.tell("n1", Gossip(*BLANK, (Rumor("later", 1, 0, State.ALIVE, "", 0, None),))) == []


def test_nobody_is_given_another_life_by_a_rumor() -> None:
    cluster = Cluster("n1", "n2", "n3")
    rumors = tuple(Rumor("n3", life, 0, state, "n2", 0, None) for life in (2, 2**40, 2**53) for state in State)
    assert cluster.tell("n1", Gossip(*BLANK, rumors)) == []
    assert cluster.machines["n1"].members["n3"].incarnation == 1
    assert cluster.machines["n1"].counters["lives that are not in the table"] == len(rumors)
    cluster.run(3)
    assert cluster.agree_that_all_live()


def test_what_the_table_says_of_a_name_takes_the_place_of_every_rumor() -> None:
    cluster = Cluster("n1", "n2")
    machine = cluster.machines["n1"]
    rumors = (
        Rumor("n8", 2**40, 9, State.DEAD, "n2", 0, None),
        Rumor("n9", 5, 9, State.ALIVE, "", 0, profile_of("elsewhere")),
    )
    cluster.tell("n1", Gossip(*BLANK, rumors))
    rows = [("n8", 7, profile_of("n8")), ("n9", 5, profile_of("n9"))]
    assert machine.adopt(rows, cluster.now) == [MemberJoined("n8", 7)]
    assert (machine.members["n8"].state, machine.peer_of("n8"), machine.peer_of("n9")) == (
        State.ALIVE,
        "n8:7702",
        "n9:7702",
    )


def test_no_rumor_moves_a_member_to_another_address() -> None:
    cluster = Cluster("n1", "n2", "n3")
    cluster.tell("n1", Gossip(*BLANK, (Rumor("n3", 1, 5, State.ALIVE, "", 0, profile_of("elsewhere")),)))
    assert cluster.machines["n1"].members["n3"].refutation == 5
    assert cluster.machines["n1"].peer_of("n3") == "n3:7702"


def test_a_node_can_answer_every_accusation() -> None:
    cluster = Cluster("n1", "n2")
    cluster.tell("n1", Gossip(*BLANK, (accusation("n1", 2**32),)))
    own = cluster.machines["n1"].members["n1"]
    assert (own.state, own.refutation) == (State.ALIVE, 2**32 + 1)
    cluster.run(3)
    assert cluster.agree_that_all_live()


def test_a_refutation_that_nobody_can_have_made_is_not_believed() -> None:
    cluster = Cluster("n1", "n2", "n3")
    cluster.run(2)
    lies = tuple(accusation("n1", 2**53 - back) for back in range(3))
    for listener, teller in (("n1", "n3"), ("n2", "n3"), ("n3", "n2")):
        cluster.tell(listener, Gossip(*BLANK, lies), sender=teller)
        assert cluster.machines[listener].members["n1"].refutation < 10
        assert cluster.machines[listener].counters["refutations that nobody made"] == 2
    cluster.paused.add("n1")
    cluster.run(15)
    assert cluster.states("n2")["n1"] is State.DEAD
    cluster.paused.clear()
    cluster.run(40)
    assert cluster.agree_that_all_live()


def test_a_member_is_sent_a_view_at_most_once_a_second_and_a_stranger_none() -> None:
    cluster = Cluster("n1", "n2", "n3")
    machine = cluster.machines["n1"]
    machine.drain()
    for _ in range(100):
        cluster.tell("n1", ViewDigest(*BLANK, b"different"))
        cluster.tell("n1", View(*BLANK, False, ()))
        cluster.tell("n1", ViewDigest(*BLANK, b"different"), sender="stranger")
    assert [receiver for receiver, _ in machine.drain()] == ["n2"]
    cluster.tell("n1", View(*BLANK, False, ()), sender="n3")
    cluster.now += 1
    cluster.tell("n1", ViewDigest(*BLANK, b"different"))
    assert [receiver for receiver, _ in machine.drain()] == ["n3", "n2"]


def test_a_ping_request_for_somebody_unknown_is_not_heard_and_their_number_is_bounded() -> None:
    cluster = Cluster("n1", "n2", "n3")
    machine = cluster.machines["n1"]
    machine.drain()
    cluster.tell("n1", PingRequest(*BLANK, 1, "nobody", ()))
    cluster.tell("n1", PingRequest(*BLANK, 1, "n1", ()))
    assert machine.drain() == []
    for number in range(3_000):
        cluster.tell("n1", PingRequest(*BLANK, number, "n3", ()))
    assert len(machine.drain()) == 1_024


def test_an_answer_counts_only_from_the_member_or_its_helpers() -> None:
    cluster = Cluster("n1", "n2", "n3", "n4")
    machine = cluster.machines["n1"]
    pings: list[tuple[str, Ping]] = []
    while not pings:
        machine.tick(machine.next_deadline())
        pings = [(receiver, message) for receiver, message in machine.drain() if isinstance(message, Ping)]
    [(target, ping)] = pings
    impostor = next(name for name in ("n2", "n3", "n4") if name != target)
    due_at = machine.next_deadline()
    cluster.tell("n1", Ack(*BLANK, ping.number, ()), sender=impostor)
    cluster.tell("n1", Ack(*BLANK, ping.number + 1, ()), sender=target)
    assert machine.next_deadline() == due_at
    cluster.tell("n1", Ack(*BLANK, ping.number, ()), sender=target)
    assert machine.next_deadline() > due_at


def test_a_helper_says_either_way_what_it_found() -> None:
    cluster = Cluster("n1", "n2", "n3", "n4")
    machine = cluster.machines["n1"]
    machine.tick(cluster.now)
    machine.drain()
    cluster.tell("n1", PingRequest(*BLANK, 7, "n3", ()))
    cluster.tell("n1", PingRequest(*BLANK, 8, "n4", ()))
    [(_, answered), (_, unanswered)] = machine.drain()
    assert isinstance(answered, Ping)
    assert isinstance(unanswered, Ping)
    cluster.tell("n1", Ack(*BLANK, unanswered.number, ()), sender="n3")
    assert machine.drain() == []
    cluster.tell("n1", Ack(*BLANK, answered.number, ()), sender="n3")
    [(receiver, ack)] = machine.drain()
    assert isinstance(ack, Ack)
    assert (receiver, ack.number) == ("n2", 7)
    machine.tick(cluster.now + 0.201)
    nacks = [(receiver, nack.number) for receiver, nack in machine.drain() if isinstance(nack, Nack)]
    assert nacks == [("n2", 8)]


def test_a_helper_that_slept_does_not_claim_to_be_well() -> None:
    cluster = Cluster("n1", "n2", "n3")
    machine = cluster.machines["n1"]
    cluster.tell("n1", PingRequest(*BLANK, 7, "n3", ()))
    machine.tick(cluster.now + 5)
    assert not any(isinstance(message, Nack) for _, message in machine.drain())


def test_nacks_of_all_helpers_keep_us_well() -> None:
    cluster = Cluster("n1", "n2", "n3", "n4", "n5")
    cluster.paused.add("n5")
    cluster.run(1.9)
    assert any(machine.counters["failed probes"] for machine in cluster.machines.values())
    assert [machine.health for machine in cluster.machines.values()] == [0] * 5
