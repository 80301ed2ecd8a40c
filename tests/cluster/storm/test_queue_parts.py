"""The parts of a storm over queues that decide something: journals, and what the account makes of them."""

import subprocess
from itertools import islice
from pathlib import Path
from typing import cast

import pytest

from gimmal.testing import ConsistencyViolation
from tests.cluster.storm.plan import Kind, episodes
from tests.cluster.storm.queue_account import HUNG, KILLED, LEASE, NACKED, NODE_KINDS, Account
from tests.cluster.storm.queue_herd import Life
from tests.cluster.storm.queue_journal import Given, Journal, Word, lines_of
from tests.cluster.storm.stalls import Spell

LEASE_S = 12.0
FIRST = Given(1, "0-1", 5, 1, 0)
SECOND = Given(1, "0-1", 9, 2, 1)


@pytest.fixture
def lives(tmp_path: Path) -> list[Life]:
    """A producer that has produced message 1, and two consumers, whose journals are empty."""
    nobody = cast("subprocess.Popen[bytes]", None)
    some = [Life(name, "one", tmp_path / f"{name}.journal", nobody) for name in ("p0", "c0.1", "c1.1")]
    Journal(some[0].journal).write(Word.PRODUCED, "-", "1:0-1")
    return some


def journal_of(life: Life) -> Journal:
    return Journal(life.journal)


def come_back(lives: list[Life], at: float) -> None:
    """Let the first consumer get the message at 100 s, and the second one later, which acknowledges it."""
    journal_of(lives[1]).delivered(99.5, 100.0, [FIRST])
    other = journal_of(lives[2])
    other.delivered(at - 0.1, at, [SECOND])
    other.write(Word.ACKING, "1:9")
    other.write(Word.ACKED, "1:9")


def account_of(lives: list[Life], *spells: Spell) -> Account:
    return Account(lives, list(spells), LEASE_S)


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.write(Word.PRODUCED, "p6.3", "1:0-1", "2:0-2")
    journal.delivered(1.5, 2.25, [FIRST, SECOND])
    journal.write(Word.WRONG, "two words")
    assert list(lines_of(tmp_path / "journal")) == [
        (Word.PRODUCED, ["p6.3", "1:0-1", "2:0-2"]),
        (Word.DELIVERED, ["1.500", "2.250", "1:0-1:5:1:0", "1:0-1:9:2:1"]),
        (Word.WRONG, ["two words"]),
    ]
    assert list(lines_of(tmp_path / "of nobody")) == []


def test_a_plan_may_have_some_kinds_of_faults_alone() -> None:
    planned = list(islice(episodes(7, ("n1", "n2", "n3", "n4", "n5"), NODE_KINDS), 40))
    assert {fault.kind for episode in planned for fault in episode.faults} == set(NODE_KINDS)


def test_a_message_that_is_acknowledged_is_in_order(lives: list[Life]) -> None:
    journal = journal_of(lives[1])
    journal.delivered(99.5, 100.0, [FIRST])
    journal.write(Word.ACKING, "1:5")
    journal.write(Word.ACKED, "1:5")
    account = account_of(lives)
    result = account.ledger.check()
    result.raise_if_wrong()
    assert (account.wrong, account.elements, account.acked, result.acknowledged) == ([], {1}, 1, 1)


def test_a_message_that_nobody_acknowledged_is_lost(lives: list[Life]) -> None:
    journal_of(lives[1]).delivered(99.5, 100.0, [FIRST])
    with pytest.raises(ConsistencyViolation, match="lost"):
        account_of(lives).ledger.check().raise_if_wrong()


def test_an_ack_without_an_answer_may_have_counted(lives: list[Life]) -> None:
    journal = journal_of(lives[1])
    journal.delivered(99.5, 100.0, [FIRST])
    journal.write(Word.ACKING, "1:5")
    account_of(lives).ledger.check().raise_if_wrong()


def test_an_ack_that_came_too_late_did_not_count(lives: list[Life]) -> None:
    journal = journal_of(lives[1])
    journal.delivered(99.5, 100.0, [FIRST])
    journal.write(Word.ACKING, "1:5")
    journal.write(Word.STALE, "1:5")
    account = account_of(lives)
    assert (account.stale, account.ledger.check().lost) == (1, (1,))


def test_a_delivery_after_an_ack_is_noticed(lives: list[Life]) -> None:
    come_back(lives, 120.0)
    journal = journal_of(lives[1])
    journal.write(Word.ACKING, "1:5")
    journal.write(Word.ACKED, "1:5")
    assert account_of(lives).ledger.check().after_ack == (1,)


@pytest.mark.parametrize(("at", "reason"), [(111.4, ""), (111.6, LEASE)])
def test_a_message_comes_again_when_its_lease_is_over_and_not_before(lives: list[Life], at: float, reason: str) -> None:
    come_back(lives, at)
    account = account_of(lives)
    assert account.reasons == {reason or "unexplained": 1}
    assert account.ledger.check().unexplained == (() if reason else (1,))
    assert bool(account.wrong) is not bool(reason)


def test_a_nack_explains_what_comes_again(lives: list[Life]) -> None:
    come_back(lives, 101.0)
    journal_of(lives[1]).write(Word.NACKING, "1:5")
    account = account_of(lives)
    assert (account.reasons, account.returns) == ({NACKED: 1}, [])


def test_a_consumer_that_was_killed_explains_what_comes_again_and_how_long_that_took(lives: list[Life]) -> None:
    come_back(lives, 105.5)
    lives[1].killed_at = 100.25
    account = account_of(lives)
    assert account.reasons == {KILLED: 1}
    longest = account.longest_return(KILLED, is_alone=True)
    assert longest is not None
    assert (longest.seconds, longest.life) == (5.25, "c0.1")
    assert account.longest_return(HUNG, is_alone=False) is None


def test_a_consumer_that_was_killed_later_explains_nothing(lives: list[Life]) -> None:
    come_back(lives, 105.5)
    lives[1].killed_at = 106.0
    assert account_of(lives).reasons == {"unexplained": 1}


def test_what_takes_long_near_a_fault_of_a_node_is_told_apart(lives: list[Life]) -> None:
    come_back(lives, 110.0)
    lives[1].killed_at = 100.25
    account = account_of(lives, Spell(Kind.KILL, ("n1",), 101.0, 102.0))
    assert account.longest_return(KILLED, is_alone=True) is None
    assert account.longest_return(KILLED, is_alone=False) is not None


@pytest.mark.parametrize(("hung_s", "reason"), [(3.0, "unexplained"), (9.0, HUNG)])
def test_a_consumer_that_hung_for_long_explains_what_comes_again(lives: list[Life], hung_s: float, reason: str) -> None:
    come_back(lives, 106.0)
    lives[1].stops.append((100.5, 100.5 + hung_s))
    account = account_of(lives)
    assert account.reasons == {reason: 1}
    assert [found.seconds for found in account.returns] == ([5.5] if reason == HUNG else [])


def test_a_process_that_was_not_run_by_the_machine_hung_as_well(lives: list[Life]) -> None:
    come_back(lives, 106.0)
    journal_of(lives[1]).write(Word.SLEPT, "100.500", "105.900")
    account = account_of(lives)
    assert (account.reasons, account.returns) == ({HUNG: 1}, [])


def test_a_next_consumer_that_hangs_itself_measures_nothing(lives: list[Life]) -> None:
    come_back(lives, 109.0)
    lives[1].killed_at = 100.25
    lives[2].stops.append((104.0, 108.9))
    assert account_of(lives).returns == []


def test_messages_of_a_group_key_are_judged_in_the_order_of_the_queue(lives: list[Life]) -> None:
    producer = journal_of(lives[0])
    producer.write(Word.PRODUCED, "p0.1", "3:0-30")
    producer.write(Word.PRODUCED, "p0.1", "2:0-20")
    journal = journal_of(lives[1])
    for element, number, token in ((2, 20, 6), (3, 30, 7), (1, 1, 8)):
        journal.delivered(99.5, 100.0, [Given(element, f"0-{number}", token, 1, 0)])
        journal.write(Word.ACKED, f"{element}:{token}")
    account_of(lives).ledger.check().raise_if_wrong()


def test_what_a_producer_does_not_know_or_was_refused_is_told(lives: list[Life]) -> None:
    producer = journal_of(lives[0])
    producer.write(Word.OPEN, 2)
    producer.write(Word.REFUSED, 3)
    producer.write(Word.ERROR, "QueueFull")
    journal = journal_of(lives[1])
    for element, token in ((1, 5), (2, 6), (3, 7)):
        journal.delivered(99.5, 100.0, [Given(element, f"0-{element}", token, 1, 0)])
        journal.write(Word.ACKED, f"{element}:{token}")
    account = account_of(lives)
    assert account.ledger.check().undead == (3,)
    assert (account.errors, account.elements) == ({"QueueFull": 1}, {1, 2, 3})


def test_the_gaps_of_each_shard_are_measured(lives: list[Life]) -> None:
    journal = journal_of(lives[1])
    for element, got_at in ((1, 100.0), (2, 102.5)):
        journal.delivered(got_at - 0.1, got_at, [Given(element, f"0-{element}", element, 1, 0)])
    spells = [Spell(Kind.KILL, ("n1",), 101.0, 102.0)]
    account = account_of(lives, *spells)
    assert account.gaps.longest_s(Kind.KILL, spells, is_alone=True) == 2.5
    assert account.gaps.longest_s(Kind.PAUSE, spells, is_alone=False) == 0
    assert "longest time without a delivery of a shard" in account.gaps.text(spells, 100.0)
