"""What the leader of the meta group waits for before it takes a leadership from a node, and whom it grants nothing."""

from gimmal.cluster.lease import LEASE_S, MARGIN_S
from gimmal.cluster.meta import commands
from gimmal.cluster.meta.steward import Steward, StewardParameters, View
from gimmal.types import Incarnation
from tests.unit.meta_states import Meta
from tests.unit.test_steward import Gossip

PARAMETERS = StewardParameters()
WAIT_S = LEASE_S + MARGIN_S
TINY = 1e-6
FENCE_B = [(commands.FENCE, "b", 1)]


class Watch:
    """A steward on node a; node b leads a partition, and node c leads nothing."""

    def __init__(self) -> None:
        self.meta = Meta("abc", ("abc", "bca"))
        self.steward = Steward(PARAMETERS)
        self.now = 50.0
        self.is_settled = True
        self.steward.start(self.now)

    def beat(self, name: str) -> bool:
        """A heartbeat arrives: may it be answered by a lease?"""
        incarnation = self.meta.incarnation(name)
        self.steward.on_heartbeat(name, incarnation, self.now)
        return self.steward.accept(name, incarnation, self.now)

    def look(self, gossip: Gossip | None = None) -> list[tuple[object, ...]]:
        """Return the verdicts of this moment; whoever has a deadline has it looked at."""
        self.steward.on_gone("nobody", 1, self.now)  # so that it looks, whenever it did last
        view = View(Incarnation("a", 1), self.meta.table, self.is_settled)
        return self.steward.verdicts(view, gossip or Gossip(), self.now)

    def pass_on(self, seconds: float, hearing: str = "") -> None:
        """Let time pass while some nodes are heard."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            for name in hearing:
                self.beat(name)
            assert self.look() == []


def established() -> Watch:
    """A watch whose election is long ago."""
    watch = Watch()
    watch.pass_on(5, hearing="bc")
    return watch


def test_who_leads_and_is_gone_is_fenced_when_its_lease_is_over() -> None:
    watch = established()
    heard_at = watch.now
    watch.now += 0.1
    watch.steward.on_gone("b", 1, watch.now)
    assert watch.look() == []
    watch.now = heard_at + WAIT_S - TINY
    assert watch.look() == []
    watch.now = heard_at + WAIT_S
    assert watch.look() == FENCE_B


def test_it_is_looked_at_when_its_lease_is_over() -> None:
    watch = established()
    heard_at = watch.now
    watch.steward.on_gone("b", 1, watch.now)
    while watch.steward.next_deadline() < heard_at + WAIT_S:
        watch.now = watch.steward.next_deadline()
        assert watch.steward.verdicts(View(Incarnation("a", 1), watch.meta.table, True), Gossip(), watch.now) == []
    assert watch.steward.next_deadline() == heard_at + WAIT_S


def test_who_leads_and_is_suspected_is_fenced_when_its_lease_is_over() -> None:
    watch = established()
    heard_at = watch.now
    watch.pass_on(1.0, hearing="c")
    assert watch.now - heard_at >= PARAMETERS.doubt_after_s
    watch.now = heard_at + WAIT_S - TINY
    assert watch.look(Gossip(b="ac")) == []
    watch.now = heard_at + WAIT_S
    assert watch.look(Gossip(b="ac")) == FENCE_B


def test_who_leads_nothing_is_fenced_at_once() -> None:
    watch = established()
    watch.steward.on_gone("c", 1, watch.now)
    assert watch.look() == [(commands.FENCE, "c", 1)]


def test_but_not_while_an_entry_is_under_way_that_may_make_it_a_leader() -> None:
    watch = established()
    heard_at = watch.now
    watch.is_settled = False
    watch.steward.on_gone("c", 1, watch.now)
    assert watch.look() == []
    watch.now = heard_at + WAIT_S
    assert watch.look() == [(commands.FENCE, "c", 1)]


def test_a_new_leader_waits_from_its_election_for_what_an_earlier_one_granted() -> None:
    watch = Watch()
    watch.steward.on_gone("b", 1, watch.now)
    watch.now = 50.0 + WAIT_S - TINY
    assert watch.look() == []
    watch.now = 50.0 + WAIT_S
    assert watch.look() == FENCE_B


def test_what_was_heard_before_the_election_does_not_shorten_the_wait() -> None:
    watch = established()
    watch.steward.stop()
    watch.now += 10
    elected_at = watch.now
    watch.steward.start(watch.now)
    watch.steward.on_gone("b", 1, watch.now)
    watch.now = elected_at + WAIT_S - TINY
    assert watch.look() == []


def test_of_a_node_that_is_gone_nothing_is_accepted() -> None:
    watch = established()
    assert watch.steward.may_be_granted("b", 1)
    watch.steward.on_gone("b", 1, watch.now)
    assert not watch.steward.may_be_granted("b", 1), "not even what waits already"
    heard_at = watch.now
    watch.now += 0.5
    assert not watch.beat("b")
    watch.now = heard_at + WAIT_S
    assert watch.look() == FENCE_B, "what was not accepted is not waited for"


def test_while_a_fence_is_under_way_nothing_is_granted() -> None:
    watch = established()
    watch.steward.on_gone("b", 1, watch.now)
    watch.now += WAIT_S
    (verdict,) = watch.look()
    watch.steward.on_proposed(verdict)
    watch.now += 0.1
    assert not watch.beat("b")
    assert verdict not in watch.look(), "it is proposed once"
    watch.now += WAIT_S
    watch.steward.on_heartbeat("b", 1, watch.now)
    assert not watch.beat("b"), "it is heard again, and its FENCE may be applied any moment"
    watch.steward.on_decided(verdict)  # it came to nothing
    assert watch.beat("b")


def test_silence_ends_with_a_heartbeat() -> None:
    watch = established()
    watch.now += PARAMETERS.doubt_after_s - 0.1
    assert watch.beat("b")
    watch.now += 0.5
    assert watch.look(Gossip(b="ac")) == []


def test_a_refusal_is_forgotten_when_a_node_is_heard_for_longer_than_a_lease() -> None:
    watch = established()
    watch.steward.on_gone("b", 1, watch.now)
    watch.now += WAIT_S + 0.1
    assert watch.beat("b")
    assert FENCE_B[0] not in watch.look()


def test_an_unknown_life_is_granted_nothing() -> None:
    watch = established()
    assert not watch.steward.accept("b", 2, watch.now)
    assert not watch.steward.may_be_granted("z", 1)


# -- nodes that ask for it ---------------------------------------------------------------------------------------------


def test_who_leads_and_asks_to_be_fenced_is_waited_for_like_anybody() -> None:
    watch = established()
    heard_at = watch.now
    watch.now += 0.1
    watch.steward.on_leaving("b", 1, watch.now)
    assert watch.steward.next_deadline() <= watch.now, "it is looked at in the same turn"
    assert watch.look() == []
    watch.now = heard_at + WAIT_S - TINY
    assert not watch.beat("b"), "from then on it is granted nothing, or it would never end"
    assert watch.look() == []
    watch.now = heard_at + WAIT_S
    assert watch.look() == FENCE_B


def test_who_has_handed_over_everything_leaves_at_once() -> None:
    watch = established()
    watch.steward.on_leaving("c", 1, watch.now)
    assert watch.look() == [(commands.FENCE, "c", 1)]
    watch.is_settled = False
    assert watch.look() == [], "an entry that is under way may make it a leader"


def test_one_look_fences_a_node_once_however_many_reasons_there_are() -> None:
    watch = established()
    watch.steward.on_gone("b", 1, watch.now)
    watch.steward.on_leaving("b", 1, watch.now)
    watch.steward.on_leaving("b", 1, watch.now)
    watch.now += 5.0
    (verdict,) = [verdict for verdict in watch.look(Gossip(b="ac")) if verdict[1] == "b"]
    watch.steward.on_proposed(verdict)
    watch.steward.on_leaving("b", 1, watch.now)
    assert verdict not in watch.look(Gossip(b="ac"))


def test_who_left_is_not_taken_back_but_its_next_life_is_granted_leases() -> None:
    watch = established()
    watch.steward.on_leaving("b", 1, watch.now)
    watch.meta.fence("b")
    watch.pass_on(5, hearing="bc")
    watch.meta.register("b", life=2)
    assert watch.meta.incarnation("b") > 1
    watch.steward.on_heartbeat("b", watch.meta.incarnation("b"), watch.now)
    assert watch.beat("b")
