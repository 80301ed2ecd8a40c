"""What must hold of membership for any rumors in any order, any suspicion, any nonsense, and any trouble that ends."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gimmal.cluster.membership import Profile, Rumor, State
from gimmal.cluster.membership.dissemination import Dissemination
from gimmal.cluster.membership.suspicion import Suspicion, Terms
from gimmal.cluster.table import Addresses
from gimmal.wire.codec import pack_tree
from gimmal.wire.peer_messages import BLANK, Ack, Gossip, Nack, PeerMessage, Ping, PingRequest, View, ViewDigest
from tests.unit.membership_cluster import Cluster, profile_of

examples = settings(max_examples=60, deadline=None, print_blob=True, database=None)
few_examples = settings(max_examples=12, deadline=None, print_blob=True, database=None)

NAMES = ("n2", "n3", "n4")
names = st.sampled_from(NAMES)
numbers = st.integers(0, 3)


def told(name: str, incarnation: int, refutation: int, state: State, accuser: str, *, with_profile: bool) -> Rumor:
    """Make a rumor as nodes make them: the profile is that of the life, the health that of the refutation."""
    address = f"{name}.{incarnation}"
    profile = Profile(address, "a", 1, (("default", Addresses(address, address)),)) if with_profile else None
    return Rumor(name, incarnation, refutation, state, accuser, refutation % 3, profile)


rumors = st.builds(
    told,
    names,
    numbers,
    numbers,
    st.sampled_from(list(State)),
    st.sampled_from(("n1", "n5", "n6")),
    with_profile=st.booleans(),
)


def believed_after(heard: list[Rumor], batch: int) -> list[tuple[Any, ...]]:
    cluster = Cluster("n1")
    for start in range(0, len(heard), batch):
        cluster.tell("n1", Gossip(*BLANK, tuple(heard[start : start + batch])), sender="n9")
    members = cluster.machines["n1"].members
    return [(name, *members[name]) for name in sorted(members) if name != "n1"]


@examples
@given(st.lists(rumors, max_size=30), st.randoms(use_true_random=False), st.integers(1, 8))
def test_who_heard_the_same_rumors_believes_the_same(heard: list[Rumor], dice: random.Random, batch: int) -> None:
    again = heard + dice.sample(heard, len(heard) // 2)
    dice.shuffle(again)
    assert believed_after(heard, 1) == believed_after(again, batch)


@examples
@given(st.lists(rumors, min_size=1, max_size=30))
def test_the_highest_rumor_of_each_member_is_believed(heard: list[Rumor]) -> None:
    highest = {name: max((one[1:4] for one in heard if one.name == name), default=None) for name in NAMES}
    for name, *believed in believed_after(heard, 5):
        assert tuple(believed[1:4]) == highest.pop(name)
    assert set(highest.values()) <= {None}


@examples
@given(st.lists(rumors, max_size=40), st.integers(1, 9), st.integers(60, 300), st.randoms(use_true_random=False))
def test_dissemination_is_bounded(told_of: list[Rumor], copies_max: int, budget: int, dice: random.Random) -> None:
    news = Dissemination(budget)
    sent: dict[Rumor, int] = {}
    for rumor in told_of:
        news.add(rumor)
        riding = news.take(dice.choice(NAMES), copies_max, may_repeat=dice.random() < 0.5)
        assert len(riding) <= 1 or sum(len(pack_tree(one)) for one in riding) <= budget
        for one in riding:
            sent[one] = sent.get(one, 0) + 1
        assert len(news) <= len(NAMES) * 3
    for _ in range(copies_max * len(NAMES) * 3):
        news.take("n7", copies_max, may_repeat=True)
    assert not news
    times_told = {rumor: told_of.count(rumor) for rumor in told_of}
    for rumor, count in sent.items():
        assert count <= copies_max * sum(
            times for other, times in times_told.items() if other._replace(profile=None) == rumor._replace(profile=None)
        )


@examples
@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=6),
    st.integers(0, 3),
    st.booleans(),
)
def test_a_suspicion_is_never_shorter_than_its_least_and_nobody_is_given_up_unheard(
    wanted: int, confirmations: list[tuple[float, bool]], calls: int, is_own: bool
) -> None:
    terms = Terms(1.5, 6.0, wanted, calls, calls + 2, 0.5)
    suspicion = Suspicion("n0", terms, 0.0, is_own=is_own)
    now, called, called_at = 0.0, 0, -1.0
    coming = sorted(confirmations)
    while not suspicion.is_over(now):
        if suspicion.due_at <= now:
            suspicion.on_called(now)
            called, called_at = called + 1, now
            continue
        number = len(suspicion.accusers)
        if coming and coming[0][0] <= suspicion.due_at:
            now, is_ours = coming.pop(0)
            due_at = suspicion.due_at
            if suspicion.confirm(f"n{number}", now, is_own=is_ours):
                assert suspicion.due_at <= max(due_at, now)
        else:
            now = suspicion.due_at
    assert now >= terms.least_s
    assert called >= calls
    assert not called or now - called_at >= 0.499
    assert now <= terms.most_s + (calls + 2) * 0.5 + 0.001


trees = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)
odd_rumors = st.lists(
    st.tuples(
        st.sampled_from(["", "n1", *NAMES, "new"]),
        st.sampled_from([0, 1, 2, 2**63 - 1]),
        st.sampled_from([0, 1, 2**53, 2**63 - 1]),
        st.integers(0, 4),
        st.sampled_from(["", "n1", "n2", "nobody"]),
        st.sampled_from([0, 1, 2**63 - 1]),
        st.none() | trees.filter(lambda tree: type(tree) is tuple) | st.just(tuple(profile_of("n2"))),
    ),
    max_size=4,
).map(tuple)
ping_numbers = st.integers(0, 5)
targets = st.sampled_from(["n1", "n2", "nobody"])
odd_messages: st.SearchStrategy[PeerMessage] = st.one_of(
    st.builds(Ping, *map(st.just, BLANK), ping_numbers, targets, odd_rumors),
    st.builds(PingRequest, *map(st.just, BLANK), ping_numbers, targets, odd_rumors),
    st.builds(Ack, *map(st.just, BLANK), ping_numbers, odd_rumors),
    st.builds(Nack, *map(st.just, BLANK), ping_numbers),
    st.builds(Gossip, *map(st.just, BLANK), odd_rumors),
    st.builds(ViewDigest, *map(st.just, BLANK), st.binary(min_size=8, max_size=8)),
    st.builds(View, *map(st.just, BLANK), st.booleans(), odd_rumors),
)
senders = st.sampled_from(["n1", *NAMES, "nobody", ""])


@examples
@given(st.lists(st.tuples(odd_messages, senders, st.integers(0, 3), st.floats(0, 3)), max_size=20))
def test_no_message_that_the_codec_lets_pass_hurts(course: list[tuple[PeerMessage, str, int, float]]) -> None:
    """Whatever comes, the machine goes on, and what it says in turn passes the codec."""
    cluster = Cluster("n1", *NAMES)
    cluster.paused.update(NAMES)
    for message, sender, source, seconds in course:
        cluster.tell("n1", message, sender, source)
        cluster.run(seconds)
    cluster.run(0)
    machine = cluster.machines["n1"]
    assert machine.members["n1"].state is State.ALIVE
    assert machine.members["n1"].incarnation == 1
    assert cluster.now < machine.next_deadline() <= cluster.now + 40


troubles = st.lists(
    st.tuples(st.sampled_from(["pause", "isolate", "one way", "refuse"]), st.integers(0, 4), st.floats(0.1, 9)),
    min_size=1,
    max_size=6,
)


@few_examples
@given(troubles, st.integers(0, 2**32))
def test_when_trouble_ends_all_agree_that_all_are_alive(course: list[tuple[str, int, float]], seed: int) -> None:
    everybody = tuple(f"n{number}" for number in range(5))
    cluster = Cluster(*everybody, seed=seed)
    cluster.run(1)
    for kind, number, seconds in course:
        name, other = everybody[number], everybody[(number + 1) % 5]
        if kind == "pause":
            cluster.paused.add(name)
        elif kind == "isolate":
            cluster.isolate(name, other)
        elif kind == "one way":
            cluster.cut |= {(name, one) for one in everybody}
        elif name not in cluster.paused:
            cluster.machines[name].on_refused(other, cluster.now)
        cluster.run(seconds)
        if kind != "isolate":
            for paused in sorted(cluster.paused):
                cluster.resume(paused)
    cluster.cut.clear()
    for paused in sorted(cluster.paused):
        cluster.resume(paused)
    cluster.run(45)
    assert cluster.agree_that_all_live()
    digests = [machine._members.digest() for machine in cluster.machines.values()]
    assert len(set(digests)) == 1
