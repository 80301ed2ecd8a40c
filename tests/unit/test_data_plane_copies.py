"""What clients get of partitions with several copies: when a leader is new, deposed, or alone."""

import pytest

from gimmal.leader.memory import MemoryLimits
from gimmal.node.parked import PARKED_MAX
from gimmal.wire import commands, limits
from gimmal.wire.messages import Refusal, Request
from tests.unit.planes import CLUSTER, Planes, home
from tests.unit.test_data_plane import ONE, get, incr, set_

TWO = b"\0" * 7 + b"\2"  # the version that follows the no-op


@pytest.fixture
def planes() -> Planes:
    """Three nodes; n1 leads, and knows what is committed."""
    planes = Planes()
    planes.run(0.1)
    return planes


# -- a leader that is new


def test_what_comes_before_the_no_op_has_committed_waits_for_it() -> None:
    planes = Planes()
    numbers = planes.ask("n1", incr(b"k"), get(b"k"), incr(b"k"))
    assert planes.answers == {}
    planes.settle()
    assert [planes.answers.get(number) for number in numbers] == [1, None, 2], "a read waits for nobody but the no-op"


def test_a_read_that_waited_sees_what_the_last_leader_acknowledged(planes: Planes) -> None:
    assert planes.answered("n1", set_(b"k")) == [True]
    planes.change(leader="n2")
    planes.adopt()
    (number,) = planes.ask("n2", get(b"k"))
    assert number not in planes.answers
    planes.settle()
    assert planes.answers[number] == TWO + ONE


def test_what_asks_for_another_epoch_does_not_wait() -> None:
    planes = Planes()
    (number,) = planes.ask("n1", get(b"k"), epoch=2)
    assert planes.answers == {number: Refusal.MOVED}
    planes.ask("n1", get(b"k"), epoch=1)
    assert len(planes.answers) == 1


def test_only_so_much_may_wait() -> None:
    planes = Planes()
    for _ in range(PARKED_MAX // limits.OPERATIONS_MAX):
        planes.ask("n1", *[get(b"k")] * limits.OPERATIONS_MAX)
    (number,) = planes.ask("n1", get(b"k"))
    assert planes.answers == {number: Refusal.OVERLOADED}


def test_what_its_client_has_given_up_is_not_answered_any_more() -> None:
    planes = Planes()
    planes.cuts = {"n2", "n3"}
    planes.ask("n1", incr(b"k"))
    planes.run(7)
    planes.cuts = set()
    planes.run(3)
    assert planes.answers == {}
    assert planes.answered("n1", get(b"k")) == [None]


# -- a leader that is deposed


def test_who_is_deposed_does_not_know_of_writes_and_sends_away_what_waits(planes: Planes) -> None:
    planes.cuts = {"n1"}
    written = planes.ask("n1", incr(b"k"), incr(b"k"))
    planes.change(leader="n2")
    planes.adopt()
    assert [planes.answers[number] for number in written] == [Refusal.UNDECIDED] * 2
    waiting = planes.ask("n2", get(b"k"), incr(b"k"))
    planes.change(leader="n3")
    planes.adopt()
    assert [planes.answers[number] for number in waiting] == [Refusal.MOVED] * 2
    assert planes["n1"].facts()["moved"] == 0
    assert planes["n2"].facts()["moved"] == 2


def test_who_leads_again_in_a_later_epoch_does_not_know_of_writes_either(planes: Planes) -> None:
    planes.cuts = {"n1"}
    written = planes.ask("n1", incr(b"k"))
    planes.change(leader="n1")
    planes.adopt()
    assert [planes.answers[number] for number in written] == [Refusal.UNDECIDED]
    planes.cuts = set()
    assert planes.answered("n1", get(b"k")) == [TWO + b"\x01"], "it was decided in the end"


def test_another_life_knows_nothing_of_writes_and_says_so(planes: Planes) -> None:
    planes.cuts = {"n1"}
    (number,) = planes.ask("n1", incr(b"k"))
    planes["n1"].adopt(planes.table, 77, planes.instant())
    planes._collect("n1")
    assert planes.answers == {number: Refusal.UNDECIDED}


def test_a_read_that_waits_for_an_expiry_is_sent_away(planes: Planes) -> None:
    planes.answered("n1", set_(b"k", ttl_ms=100))
    planes.cuts = {"n1"}
    planes.now += 0.2
    (number,) = planes.ask("n1", get(b"k"))
    planes.change(leader="n2")
    planes.adopt()
    assert planes.answers[number] == Refusal.MOVED


# -- a leader that is alone


def test_too_few_copies_in_sync_refuse_writes_before_they_are_appended(planes: Planes) -> None:
    planes.answered("n1", set_(b"k"))
    planes.fence("n2")
    planes.fence("n3")
    planes.change(in_sync=planes.in_sync("n1"))
    planes.adopt()
    last = planes.replica("n1", b"k").log.last
    assert planes.answered("n1", set_(b"k"), incr(b"k")) == [Refusal.NOT_ENOUGH_REPLICAS] * 2
    assert planes.replica("n1", b"k").log.last == last
    assert planes.answered("n1", get(b"k")) == [TWO + ONE], "what is committed can be read"


def test_a_new_leader_that_is_alone_refuses_everything(planes: Planes) -> None:
    planes.fence("n2")
    planes.fence("n3")
    planes.change(leader="n1", in_sync=planes.in_sync("n1"))
    planes.adopt()
    assert planes.answered("n1", get(b"k"), set_(b"k")) == [Refusal.NOT_ENOUGH_REPLICAS] * 2


def test_reads_of_what_has_expired_do_not_fill_the_log_of_a_leader_that_is_alone(planes: Planes) -> None:
    planes.answered("n1", set_(b"k", ttl_ms=100))
    planes.fence("n2")
    planes.fence("n3")
    planes.change(in_sync=planes.in_sync("n1"))
    planes.adopt()
    planes.now += 1
    last = planes.replica("n1", b"k").log.last
    assert planes.answered("n1", *[get(b"k")] * 5, epoch=1) == [Refusal.NOT_ENOUGH_REPLICAS] * 5
    planes.answered("n1", get(b"k"))  # any copy may answer that
    assert planes.replica("n1", b"k").log.last == last


def test_reads_of_what_has_expired_do_not_fill_the_log_while_a_copy_hangs(
    planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would log that the key has expired, for as long as the meta group takes to find the copy dead."""
    monkeypatch.setattr(limits, "UNCOMMITTED_BYTES_MAX", 10 * commands.ENTRY_BYTES)
    planes.answered("n1", set_(b"k", ttl_ms=100))
    planes.cuts = {"n2"}
    planes.now += 1
    last = planes.replica("n1", b"k").log.last
    answers = planes.answered("n1", *[get(b"k")] * 100, epoch=1)
    assert answers == ["nothing"] * 11 + [Refusal.OVERLOADED] * 89
    assert planes.answered("n1", get(b"k")) != ["nothing"], "any copy may answer that"
    assert planes.replica("n1", b"k").log.last == last + 11


# -- expiry and eviction


def test_a_read_of_what_has_expired_is_answered_when_that_has_committed(planes: Planes) -> None:
    planes.answered("n1", set_(b"k", ttl_ms=100))
    planes.now += 0.2
    (number,) = planes.ask("n1", get(b"k"))
    assert number not in planes.answers
    planes.settle()
    assert planes.answers[number] is None
    assert planes["n1"].facts()["expired"] == 1
    planes.run(0.1)
    assert [planes[name].facts()["entries"] for name in ("n1", "n2", "n3")] == [0, 0, 0]


def test_only_the_leader_expires(planes: Planes) -> None:
    planes.answered("n1", set_(b"k", ttl_ms=500))
    planes.run(0.1)
    planes.cuts = {"n1"}
    planes.run(2)
    assert planes["n2"].facts()["entries"] == 1
    assert planes["n2"].facts()["expired"] == 0


def test_a_new_leader_expires_what_it_took_over(planes: Planes) -> None:
    planes.answered("n1", set_(b"k", ttl_ms=500))
    planes.change(leader="n2")
    planes.adopt()
    planes.run(2)
    assert planes["n2"].facts()["expired"] == 1
    assert [planes[name].facts()["entries"] for name in ("n1", "n2", "n3")] == [0, 0, 0]


def test_no_more_is_evicted_than_has_to_be() -> None:
    planes = Planes(memory=MemoryLimits(max_entries=10, policy="lru"))
    planes.run(0.1)
    for turn in range(5):
        assert planes.answered("n1", *(set_(b"%d-%d" % (turn, number)) for number in range(6))) == [True] * 6
    facts = planes["n1"].facts()
    assert (facts["entries"], facts["evicted"]) == (10, 20)
    planes.run(0.1)
    assert [planes[name].facts()["entries"] for name in ("n2", "n3")] == [10, 10]


def test_many_writes_of_one_turn_evict_as_many() -> None:
    planes = Planes(memory=MemoryLimits(max_entries=10, policy="lru"))
    planes.run(0.1)
    planes.answered("n1", *(set_(b"k%d" % number) for number in range(100)))
    facts = planes["n1"].facts()
    assert (facts["entries"], facts["evicted"]) == (10, 90)


# -- any copy


def test_any_copy_answers_reads_under_epoch_0(planes: Planes) -> None:
    planes.answered("n1", set_(b"k"))
    planes.run(0.1)
    for name in ("n2", "n3"):
        assert planes.answered(name, get(b"k"), (commands.EXISTS, b"k")) == [TWO + ONE, True]
        assert planes.answered(name, get(b"k"), epoch=1) == [Refusal.MOVED]
        assert planes.answered(name, incr(b"k")) == [Refusal.MOVED]


def test_a_copy_that_has_never_been_aligned_has_nothing_to_say() -> None:
    planes = Planes()
    assert planes.answered("n2", get(b"k")) == [Refusal.MOVED]


def test_a_copy_answers_only_for_its_own_keys(planes: Planes) -> None:
    elsewhere = (home(get(b"k")) + 1) % 4
    for name in ("n1", "n2"):
        operations = ((1, elsewhere, 0, 0, 0, get(b"k")), (2, elsewhere, 0, 0, 0, (commands.GET_MANY, (b"k",))))
        planes[name].receive(b"peer", Request(CLUSTER, 0, 0, 1, 0, 5_000, operations), planes.instant())
        planes._collect(name)
        assert planes.answers == dict.fromkeys((1, 2), Refusal.INVALID)
        planes.answers.clear()


def test_scans_of_a_copy_have_a_budget_too(planes: Planes) -> None:
    scan = (commands.SCAN, b"", 0, 0)
    answers = planes.answered("n2", *[scan] * 8_000)
    assert 7_000 < answers.count(Refusal.OVERLOADED) < 8_000
    assert planes.answered("n2", scan) == [(-1, 0, ())]


# -- what a node asks the meta group for


def test_a_node_that_was_nobody_for_a_moment_asks_again(planes: Planes) -> None:
    planes.cuts = {"n3"}
    planes.ask("n1", set_(b"k"))
    planes.run(0.5)
    request = planes["n1"].take_request()
    assert request is not None
    planes["n1"].adopt(planes.table, 0, planes.instant())
    assert planes["n1"].take_request() is None
    planes.adopt("n1")
    assert planes["n1"].take_request() == request
    assert planes["n1"].take_request() is None


def test_a_leader_that_can_commit_nothing_logs_no_ends_of_sessions() -> None:
    """It would do so every ten seconds anew, and forget none of it, for as long as the others are away."""
    planes = Planes()
    planes.run(0.1)
    assert planes.answered("n1", *[(commands.OPEN_SESSION,)] * 50)[0]
    for name in ("n2", "n3"):
        planes.fence(name)
    planes.change(in_sync=planes.in_sync("n1"), eligible=planes.in_sync("n2", "n3"))
    planes.cuts |= {"n2", "n3"}
    planes.adopt("n1")
    before = planes["n1"].facts()["log_bytes"]
    planes.now += limits.SESSION_IDLE_MS_MAX / 1000
    for _ in range(10):
        planes.now += 11.0
        planes.run(0.1)
    assert planes["n1"].facts()["log_bytes"] == before
    for name in ("n2", "n3"):
        planes.unfence(name)
    planes.cuts.clear()
    planes.adopt()
    planes.run(0.5)
    planes.change(in_sync=planes.in_sync("n1", "n2", "n3"), eligible=())
    planes.adopt()
    planes.now += 11.0
    planes.run(0.5)
    assert not planes.replica("n1", b"k").engine.sessions.windows


# -- a node that is told to stop


def test_who_alone_has_everything_waits_for_those_that_catch_up_and_hands_over_then(planes: Planes) -> None:
    planes.change(in_sync=planes.in_sync("n1"), eligible=planes.in_sync("n2"))
    planes.cuts |= {"n2", "n3"}
    planes.adopt()
    planes["n1"].leave(planes.instant())
    planes.run(0.2)
    assert not planes["n1"].has_left, "what it has would be lost with it"
    planes.cuts.clear()
    planes.run(1.0)
    request = planes["n1"].take_request()
    assert request is not None
    assert not request.is_handover, "first, the others have to be in sync"
    planes.change(in_sync=planes.in_sync("n1", "n2", "n3"), eligible=())
    planes["n1"].on_request_answered(request.number, planes.table.version, planes.instant())
    planes.adopt()
    planes.run(0.2)
    assert not planes["n1"].has_left
    request = planes["n1"].take_request()
    assert request is not None
    assert {change[3] for change in request.changes} == {"n2", "n3"}
    planes.change(leader="n2")
    planes.adopt()
    assert planes["n1"].has_left


def test_who_is_alone_waits_for_nobody(planes: Planes) -> None:
    for name in ("n2", "n3"):
        planes.fence(name)
    planes.change(in_sync=planes.in_sync("n1"), eligible=planes.in_sync("n2", "n3"))
    planes.adopt("n1")
    planes["n1"].leave(planes.instant())
    assert planes["n1"].has_left


def test_the_only_copy_serves_under_a_lease_and_else_refuses() -> None:
    """Its name may belong to another process by now, which began again with nothing, or was told to."""
    planes = Planes("n1")
    planes.run(0.1)
    assert planes.answered("n1", set_(b"k"), get(b"k"), epoch=1)[0] is True
    planes["n1"].on_lease(planes.now)
    assert planes.answered("n1", set_(b"k"), get(b"k"), epoch=1) == [Refusal.NOT_ENOUGH_REPLICAS] * 2
    assert planes.answered("n1", get(b"k")) == [TWO + ONE], "any copy may answer that"
    planes["n1"].on_lease(planes.now + 1)
    assert planes.answered("n1", set_(b"k"), epoch=1) == [True]
