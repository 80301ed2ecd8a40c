"""A write is carried out once, whoever leads: sessions, numbers and floors against nodes that replicate."""

import random

import pytest

from gimmal.client.retries import ATTEMPTS_MAX
from gimmal.errors import NotEnoughReplicas, OperationTimeout, Overloaded, Unavailable
from gimmal.wire import commands
from gimmal.wire.messages import FetchTable, Refusal, Reply, Request, TableRows
from tests.unit.fake_network import CLUSTER, DROP, End, Outcome, only_towards
from tests.unit.replicated_network import Trio, warmed

SEEDS = ["h1:1", "h2:1", "h3:1"]


@pytest.fixture
def trio() -> Trio:
    return Trio()


def other_leader(trio: Trio, key: str) -> dict[int, str]:
    """Somebody else than now, for the partition of a key."""
    row = trio.table.partitions[trio.partition(key)]
    return {trio.partition(key): next(member.name for member in row.in_sync if member.name != row.leader)}


def refuse(trio: Trio, end: End, outcome: Outcome, refusal: Refusal, address: str = "") -> None:
    """Let a node refuse the last attempt of an operation."""
    number = outcome.call.first
    reply = Reply(CLUSTER, 1, 0, 1, 0, (), (), ((number, int(refusal), "because"),))
    end.finished(end.session.receive(address or trio.owner("key"), reply, trio.now))


# -- sessions -----------------------------------------------------------------------------------------------


def test_all_sessions_are_opened_in_one_round_trip_and_once(trio: Trio) -> None:
    end = trio.connect()
    keys = [f"key{i}" for i in range(200)]
    partitions = {trio.partition(key) for key in keys}
    outcomes = [end.incr(key) for key in keys] + [end.get("other")]
    trio.run(0.5)
    assert [outcome.result() for outcome in outcomes] == [1] * 200 + [None]
    opened = end.operations(commands.OPEN_SESSION)
    assert {operation[1] for _, operation in opened} == partitions
    assert len(opened) == len(partitions) == end.session.counters["sessions_opened"]
    assert len(end.sent(Request)) == 3 + 3
    end.requests.clear()
    outcomes = [end.incr(key) for key in keys]
    trio.run(0.5)
    assert [outcome.result() for outcome in outcomes] == [2] * 200
    assert end.operations(commands.OPEN_SESSION) == []


def test_reads_need_no_session(trio: Trio) -> None:
    end = trio.connect()
    end.get("key"), end.get_any("key")
    trio.run(0.5)
    assert [operation[3:5] for _, operation in end.operations(commands.GET)] == [(0, 0)] * 2
    assert end.operations(commands.OPEN_SESSION) == []


def test_an_opening_whose_answer_is_lost_is_sent_again_and_a_late_one_counts(trio: Trio) -> None:
    end = trio.connect()
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    trio.run(0.5)
    trio.fate = lambda address, message: 0.001
    trio.run(1.0)
    assert outcome.result() == 1
    assert len({operation[0] for _, operation in end.operations(commands.OPEN_SESSION)}) == 1
    end = trio.connect()
    trio.fate = only_towards(Reply, 2.0)
    outcome = end.incr("key")
    trio.run(10.0)
    assert outcome.result() == 2
    assert outcome.ended_at == [pytest.approx(outcome.started_at + 4.0, abs=0.1)]
    (sent,) = {operation[3] for _, operation in end.operations(commands.INCR)}  # by the first answer, not the second
    assert sent == min(
        trio.cores[trio.owner("key")].serving.holdings.replicas[trio.partition("key")].engine.sessions.windows,
        key=lambda session: (session != sent, session),
    )
    assert end.session.counters["sessions_opened"] == 1


def test_an_opening_follows_its_partition(trio: Trio) -> None:
    end = trio.connect()
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    trio.run(0.1)
    trio.become(trio.led_by(other_leader(trio, "key")))
    trio.fate = lambda address, message: 0.001
    end.look()
    trio.run(0.2)
    assert outcome.result() == 1
    assert len({address for address, _ in end.operations(commands.OPEN_SESSION)}) == 2


def test_what_waits_for_a_session_was_surely_not_sent(trio: Trio) -> None:
    end = trio.connect()
    trio.fate = only_towards(Request, DROP)
    outcome = end.incr("key", timeout=2.0)
    trio.run(3.0)
    error = outcome.error()
    assert isinstance(error, OperationTimeout)
    assert not error.maybe_applied
    assert "first write to a partition, so it was not sent" in str(error)
    trio.fate = lambda address, message: 0.001
    later = end.incr("key", timeout=2.0)
    trio.run(1.0)
    assert later.result() == 1


def test_why_a_session_was_not_opened_is_what_its_writes_say(trio: Trio) -> None:
    end = trio.connect()
    for refusal, kind in (
        (Refusal.NOT_ENOUGH_REPLICAS, NotEnoughReplicas),
        (Refusal.OVERLOADED, Overloaded),
        (Refusal.SESSION_EXPIRED, Unavailable),
    ):
        trio.refuse = lambda number, refusal=refusal: refusal  # type: ignore[misc]
        outcome = end.incr("key", timeout=3.0)
        trio.run(4.0)
        assert type(outcome.error()) is kind
        assert "incr 'key' (partition" in str(outcome.error())
        assert outcome.ended_at == [pytest.approx(outcome.started_at + 3.0)]
    assert len(end.operations(commands.OPEN_SESSION)) < 40
    trio.refuse = lambda number: None
    trio.run(100.0)
    count = len(end.operations(commands.OPEN_SESSION))
    trio.run(100.0)
    assert len(end.operations(commands.OPEN_SESSION)) == count  # nobody waits


def test_a_session_that_expired_is_followed_by_another_one(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.close_sessions("key")
    outcomes = [end.incr("key") for _ in range(10)]
    trio.run(0.5)
    assert [outcome.result() for outcome in outcomes] == list(range(2, 12))
    assert end.session.counters["sessions_expired"] == 1
    assert end.session.counters["sessions_opened"] == 2


def test_a_write_that_was_sent_before_its_session_expired_is_never_carried_out_again(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    trio.run(0.5)
    trio.close_sessions("key")
    trio.fate = lambda address, message: 0.001
    trio.run(1.0)  # it is sent again after a second
    error = outcome.error()
    assert isinstance(error, OperationTimeout)
    assert error.maybe_applied
    assert outcome.ended_at[0] - outcome.started_at < 1.1
    after = end.incr("key")
    trio.run(1.0)
    assert after.result() == 3


def test_an_uncertain_write_that_waits_when_its_session_expires_is_not_sent_any_more(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    uncertain = end.incr("key")
    trio.run(0.5)
    assert trio.value("key") == 2
    trio.fate = lambda address, message: 0.001
    trio.refuse = lambda number: Refusal.UNDECIDED if number == uncertain.call.first else None
    trio.run(0.6)  # it was sent again and refused, and waits
    trio.close_sessions("key")
    second = end.incr("key")
    trio.run(0.02)
    assert second.result() == 3
    error = uncertain.error()
    assert isinstance(error, OperationTimeout)
    assert error.maybe_applied
    trio.refuse = lambda number: None
    trio.run(5.0)
    assert trio.value("key") == 3


def test_what_is_in_flight_when_its_session_expires_is_not_sent_under_the_next(trio: Trio) -> None:
    """The answer of the first is lost, the second learns that the session has expired."""
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    lost = end.incr("key")
    trio.run(0.5)
    trio.close_sessions("key")
    trio.fate = lambda address, message: 0.001
    second = end.incr("key")
    trio.run(0.2)
    assert second.result() == 3
    trio.run(3.0)
    assert isinstance(lost.error(), OperationTimeout)
    assert trio.value("key") == 3


def test_a_late_word_about_an_old_session_does_not_end_the_new_one(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.close_sessions("key")
    trio.fate = only_towards(Request, DROP)
    slow = end.incr("key")
    trio.run(0.0)
    trio.fate = lambda address, message: 0.001
    fast = end.incr("key")
    trio.run(0.2)
    assert fast.result() == 2
    refuse(trio, end, slow, Refusal.SESSION_EXPIRED)
    trio.run(0.2)
    assert slow.result() == 3
    assert end.session.counters["sessions_expired"] == 1


# -- numbers and floors -------------------------------------------------------------------------------------


def test_at_most_256_writes_of_a_partition_are_on_their_way_and_the_rest_waits(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    outcomes = [end.incr("key") for _ in range(1_000)]
    trio.run(0.5)
    assert len(end.operations(commands.INCR)) == 256
    other = end.incr("elsewhere")
    trio.fate = lambda address, message: 0.001
    trio.run(3.0)
    assert other.result() == 1
    assert [outcome.result() for outcome in outcomes] == list(range(2, 1_002))
    assert end.session.counters["overloaded"] == 0


def test_what_never_had_its_turn_says_so(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    outcomes = [end.incr("key", timeout=2.0) for _ in range(300)]
    trio.run(3.0)
    errors = [outcome.error() for outcome in outcomes]
    assert [getattr(error, "maybe_applied", None) for error in errors] == [True] * 256 + [False] * 44
    assert "to 256 writes before it, so it was not sent" in str(errors[-1])


@pytest.mark.parametrize("seed", range(10))
def test_the_floor_is_never_above_an_open_number_and_rises(seed: int) -> None:
    trio = Trio(seed)
    end = trio.connect()
    dice = random.Random(seed)
    trio.fate = lambda address, message: DROP if dice.random() < 0.2 else dice.uniform(0, 0.3)
    outcomes: list[Outcome] = []
    for _ in range(100):
        outcomes += [end.incr("key") for _ in range(dice.randint(0, 9))]
        since = len(end.requests)
        trio.run(dice.uniform(0.0, 0.05))
        for request in end.sent(Request, since):
            is_open = [outcome.call.first for outcome in outcomes if not outcome.is_done]
            for number, _, _, session, floor, command in request.operations:
                if command[0] == commands.INCR:
                    assert session > 0
                    assert 0 < floor <= number
                    assert floor <= min(is_open, default=floor)
    trio.fate = lambda address, message: 0.001
    trio.run(10.0)
    last = end.incr("key")
    trio.run(1.0)
    assert last.is_done
    (_, operation) = end.operations(commands.INCR)[-1]
    assert operation[4] == operation[0]


# -- sent again ---------------------------------------------------------------------------------------------


def test_a_write_whose_answer_is_lost_is_sent_again_and_gets_the_answer_it_had(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    trio.run(0.5)
    assert trio.value("key") == 2
    trio.fate = lambda address, message: 0.001
    trio.run(0.6)
    assert outcome.result() == 2
    assert trio.value("key") == 2
    first, second = (operation for _, operation in end.operations(commands.INCR))
    assert first == second
    assert end.session.counters["resent_writes"] == 1


def test_a_duplicate_of_an_answer_is_ignored(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, 1.5)
    outcome = end.incr("key")
    trio.run(5.0)
    assert outcome.result() == 2
    trio.fate = lambda address, message: 0.001
    after = end.incr("key")
    trio.run(0.5)
    assert after.result() == 3


def test_a_write_follows_its_partition_with_the_same_number(trio: Trio) -> None:
    end = warmed(trio, "key")
    old = trio.owner("key")
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    trio.run(0.1)
    assert trio.value("key") == 2
    trio.become(trio.led_by(other_leader(trio, "key")))
    trio.fate = lambda address, message: 0.001
    end.look()
    trio.run(0.1)
    assert outcome.result() == 2
    assert trio.value("key") == 2
    (first_to, first), (second_to, second) = end.operations(commands.INCR)
    assert (first_to, second_to) == (old, trio.owner("key"))
    assert first_to != second_to
    assert first[0] == second[0]
    assert first[3] == second[3] > 0


def test_a_client_looks_for_another_leader_long_before_it_gives_an_answer_up(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.kill(trio.table.partitions[trio.partition("key")].leader or "", noticed_after_s=0.1)
    outcome = end.incr("key")
    trio.run(1.0)
    assert outcome.result() == 2
    assert outcome.ended_at[0] - outcome.started_at < 0.95
    count = len(end.sent(FetchTable))
    trio.run(60.0)
    assert len(end.sent(FetchTable)) == count


def test_what_a_deposed_leader_could_not_decide_is_asked_of_the_next(trio: Trio) -> None:
    end = warmed(trio, "key")
    old, name = trio.owner("key"), trio.table.partitions[trio.partition("key")].leader
    trio.cut = {old}
    outcome = end.incr("key")
    trio.run(0.1)
    assert not outcome.is_done
    newer = trio.led_by(other_leader(trio, "key"))
    trio.become(newer, tuple({"n1", "n2", "n3"} - {name}))
    trio.cut = set()
    trio.become(newer)
    trio.run(0.7)
    assert outcome.result() == 2
    assert trio.value("key") == 2
    assert end.session.counters["redirects"] == 1


def test_a_write_survives_the_death_of_its_leader(trio: Trio) -> None:
    keys = [f"key{i}" for i in range(100)]
    end = warmed(trio, *keys)
    outcomes = [end.incr(key) for key in keys]
    trio.run(0.0)
    trio.kill("n2")
    trio.unplugged = {"h2:1"}
    end.session.on_unready("h2:1")
    outcomes += [end.incr(key) for key in keys]
    trio.run(3.0)
    assert [outcome.result() for outcome in outcomes] == [2] * 100 + [3] * 100
    assert {trio.value(key) for key in keys} == {3}


def test_a_write_is_sent_ten_times_at_most(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key", timeout=60.0)
    trio.run(61.0)
    error = outcome.error()
    assert isinstance(error, OperationTimeout)
    assert error.maybe_applied
    assert outcome.ended_at == [pytest.approx(outcome.started_at + 60.0)]
    assert 5 < len(end.operations(commands.INCR)) <= ATTEMPTS_MAX
    assert f"in {len(end.operations(commands.INCR))} attempts; it was sent and may have been applied" in str(error)
    assert trio.value("key") == 2


def test_a_write_whose_leader_changes_all_the_time_is_sent_ten_times_at_most(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key", timeout=60.0)
    for _ in range(30):
        trio.run(0.1)
        trio.become(trio.led_by(other_leader(trio, "key")))
        end.session.receive("h1:1", TableRows(CLUSTER, 1, 0, trio.table.version, trio.table.to_wire()), trio.now)
    trio.run(60.0)
    assert isinstance(outcome.error(), OperationTimeout)
    assert len(end.operations(commands.INCR)) == ATTEMPTS_MAX
    assert trio.value("key") == 2


# -- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_write", [True, False])
def test_not_enough_replicas_is_asked_until_the_deadline(*, is_write: bool, trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.refuse = lambda number: Refusal.NOT_ENOUGH_REPLICAS
    outcome = end.incr("key") if is_write else end.get("key")
    trio.run(6.0)
    error = outcome.error()
    assert type(error) is NotEnoughReplicas
    assert "nothing was done: ask again" in str(error)
    assert 3.0 < outcome.ended_at[0] - outcome.started_at <= 5.0
    assert len(end.sent(Request)) == ATTEMPTS_MAX
    trio.refuse = lambda number: None
    after = end.incr("key")
    trio.run(1.0)
    assert after.result() == 2


def test_not_enough_replicas_is_no_last_word_if_an_attempt_is_of_unknown_outcome(trio: Trio) -> None:
    end = warmed(trio, "key")
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    trio.run(0.5)
    trio.fate = lambda address, message: 0.001
    trio.refuse = lambda number: Refusal.NOT_ENOUGH_REPLICAS
    trio.run(5.0)
    error = outcome.error()
    assert isinstance(error, OperationTimeout)
    assert error.maybe_applied
    assert "the last word was: incr 'key'" in str(error)
    assert outcome.ended_at == [pytest.approx(outcome.started_at + 5.0)]


@pytest.mark.parametrize(
    ("refusal", "alone", "uncertain"),
    [
        (Refusal.DATA_LOST, "DataLost", "DataLost"),
        (Refusal.OUT_OF_MEMORY, "OutOfMemory", "OperationTimeout"),
        (Refusal.WRONG_CLUSTER, "RemoteProtocolError", "OperationTimeout"),
        (Refusal.TOO_OLD, "OperationTimeout", "OperationTimeout"),
        (Refusal.NOT_AN_INTEGER, "NotAnInteger", "NotAnInteger"),
        (Refusal.MOVED, "NoRoute", "OperationTimeout"),
        (Refusal.UNDECIDED, "OperationTimeout", "OperationTimeout"),
    ],
)
def test_a_refusal_tells_of_one_attempt_only(trio: Trio, refusal: Refusal, alone: str, uncertain: str) -> None:
    end = warmed(trio, "key")
    trio.refuse = lambda number: refusal
    outcome = end.incr("key")
    trio.run(6.0)
    assert type(outcome.error()).__name__ == alone
    trio.refuse = lambda number: None
    trio.fate = only_towards(Reply, DROP)
    outcome = end.incr("key")
    trio.run(0.5)
    trio.fate = lambda address, message: 0.001
    trio.refuse = lambda number: refusal
    trio.run(6.0)
    error = outcome.error()
    assert type(error).__name__ == uncertain
    assert getattr(error, "maybe_applied", True)
