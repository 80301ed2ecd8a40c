"""How a node reaches the leader of the meta group, whoever that is at the moment."""

import random

import pytest

from gimmal.cluster.lease import DRIFT_MAX, LEASE_S
from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome, Result
from gimmal.cluster.meta.contact import HEARTBEAT_EVERY_S, Answered, Contact
from gimmal.wire.peer_messages import BLANK, Heartbeat, HeartbeatReply, MetaReply, MetaRequest, PeerMessage
from tests.unit.meta_states import registration

REGISTER = (commands.REGISTER, tuple(registration("a")))
ADDRESSES = ("b:1", "c:1")


class Asking:
    """A contact whose questions a test answers."""

    def __init__(self) -> None:
        self.now = 5.0
        self.contact = Contact(lambda: ADDRESSES, random.Random(7), self.now)
        self.answers: list[Answered] = []

    def wait(self, seconds: float) -> list[tuple[str, PeerMessage]]:
        sent = []
        end = self.now + seconds
        while self.contact.next_deadline() <= end:
            self.now = max(self.now, self.contact.next_deadline())
            self.contact.tick(self.now)
            sent += self.contact.drain()
        self.now = end
        return sent

    def reply(self, question: PeerMessage, source: str, outcome: Outcome, leader: str = "", value: int = 0) -> None:
        assert isinstance(question, MetaRequest)
        message = MetaReply(*BLANK, question.number, int(outcome), value, "because", leader)
        self.answers += self.contact.receive(message, source, self.now)

    def beat_reply(self, source: str, leader: str) -> None:
        self.contact.receive(HeartbeatReply(*BLANK, 1, leader, False), source, self.now)


@pytest.fixture
def asking() -> Asking:
    return Asking()


def test_it_is_silent_until_there_is_something_to_say(asking: Asking) -> None:
    assert asking.wait(100) == []


def test_a_request_is_repeated_until_it_is_answered(asking: Asking) -> None:
    asking.contact.request(REGISTER, asking.now, persists=True)
    sent = asking.wait(10)
    assert len(sent) > 20
    assert {address for address, _ in sent} == {*ADDRESSES}
    assert len({message.number for _, message in sent if isinstance(message, MetaRequest)}) == 1
    asking.reply(sent[-1][1], "b:1", Outcome.DONE, "b:1", value=9)
    assert asking.answers == [Answered(REGISTER, Result(Outcome.DONE, 9, "because"))]
    assert asking.wait(10) == []
    asking.reply(sent[-1][1], "b:1", Outcome.DONE, "b:1", value=9)
    assert len(asking.answers) == 1, "an answer counts once"


def test_the_same_request_is_asked_for_once(asking: Asking) -> None:
    asking.contact.request(REGISTER, asking.now, persists=True)
    asking.contact.request(REGISTER, asking.now, persists=True)
    assert len(asking.wait(0.1)) == 1


def test_it_follows_who_is_named(asking: Asking) -> None:
    asking.contact.request(REGISTER, asking.now, persists=True)
    ((_, question),) = asking.wait(0.01)
    asking.reply(question, "b:1", Outcome.NOT_LEADER, "z:1")
    sent = asking.wait(0.5)
    assert {address for address, _ in sent} == {"z:1"}


def test_nodes_that_name_each_other_do_not_keep_it_busy(asking: Asking) -> None:
    asking.contact.request(REGISTER, asking.now, persists=True)
    sent = asking.wait(0.01)
    end = asking.now + 10
    while asking.now < end and sent:
        address, question = sent[-1]
        asking.reply(question, address, Outcome.NOT_LEADER, "c:1" if address == "b:1" else "b:1")
        sent += asking.wait(0.05)
    assert len(sent) <= 10 / 0.02


def test_who_does_not_answer_is_given_up(asking: Asking) -> None:
    asking.contact.on_leader("z:1", asking.now)
    asking.contact.request(REGISTER, asking.now, persists=True)
    sent = asking.wait(4)
    assert sent[0][0] == "z:1"
    assert {address for address, _ in sent[-5:]} <= {*ADDRESSES}


def test_a_refused_registration_is_asked_for_again_more_slowly(asking: Asking) -> None:
    asking.contact.request(REGISTER, asking.now, persists=True)
    ((_, question),) = asking.wait(0.01)
    asking.reply(question, "b:1", Outcome.REFUSED, "b:1")
    assert asking.answers[0].result.outcome == Outcome.REFUSED
    assert asking.wait(0.4) == []
    assert len(asking.wait(0.7)) >= 1


def test_what_does_not_persist_ends_with_its_refusal(asking: Asking) -> None:
    asking.contact.request((commands.ALTER_ISR, "a", 1, 1, ()), asking.now)
    ((_, question),) = asking.wait(0.01)
    asking.reply(question, "b:1", Outcome.REFUSED, "b:1")
    assert len(asking.answers) == 1
    assert asking.wait(10) == []


@pytest.mark.parametrize("number", [3, 77])
def test_an_answer_nobody_understands_is_no_success(asking: Asking, number: int) -> None:
    asking.contact.request(REGISTER, asking.now, persists=True)
    ((_, question),) = asking.wait(0.01)
    assert isinstance(question, MetaRequest)
    message = MetaReply(*BLANK, question.number, number, 0, "", "b:1")
    (answer,) = asking.contact.receive(message, "b:1", asking.now)
    assert answer.result.outcome == Outcome.MALFORMED
    assert len(asking.wait(2)) >= 1


def test_an_answer_to_another_life_is_not_taken(asking: Asking) -> None:
    asking.contact.request(REGISTER, asking.now, persists=True)
    ((_, question),) = asking.wait(0.01)
    assert isinstance(question, MetaRequest)
    other = Contact(lambda: ADDRESSES, random.Random(8), asking.now)
    other.request(REGISTER, asking.now, persists=True)
    message = MetaReply(*BLANK, question.number, 0, 1, "", "b:1")
    assert other.receive(message, "b:1", asking.now) == []


def test_heartbeats_go_to_the_leader_at_their_pace(asking: Asking) -> None:
    asking.contact.on_leader("b:1", asking.now)
    asking.contact.start_beating(asking.now)
    sent = []
    for _ in range(20):
        sent += asking.wait(HEARTBEAT_EVERY_S)
        asking.beat_reply("b:1", "b:1")
    assert {(address, type(message)) for address, message in sent} == {("b:1", Heartbeat)}
    assert 19 <= len(sent) <= 21
    asking.contact.stop_beating()
    assert asking.wait(10) == []


def test_what_is_told_on_comes_from_the_leader_itself_and_of_late(asking: Asking) -> None:
    assert asking.contact.leader(asking.now) == ""
    asking.beat_reply("b:1", "z:1")
    assert asking.contact.leader(asking.now) == "", "hearsay is followed, not told on"
    asking.beat_reply("z:1", "z:1")
    assert asking.contact.leader(asking.now) == "z:1"
    assert asking.contact.leader(asking.now + 5) == ""


def test_a_leader_that_says_it_is_none_is_left(asking: Asking) -> None:
    asking.contact.on_leader("b:1", asking.now)
    asking.contact.start_beating(asking.now)
    assert [address for address, _ in asking.wait(0.1)] == ["b:1"]
    asking.beat_reply("b:1", "")
    assert {address for address, _ in asking.wait(20)} == {*ADDRESSES}


def grant(asking: Asking, question: PeerMessage, version: int = 3) -> None:
    assert isinstance(question, Heartbeat)
    reply = HeartbeatReply(*BLANK, question.number, "b:1", True)
    reply.table_version = version
    asking.contact.receive(reply, "b:1", asking.now)


def test_a_lease_counts_from_when_its_heartbeat_was_sent(asking: Asking) -> None:
    asking.contact.on_leader("b:1", asking.now)
    asking.contact.start_beating(asking.now)
    sent_at = asking.now
    ((_, beat),) = asking.wait(0.2)
    grant(asking, beat, version=3)
    assert asking.contact.lease.valid_until(3) == pytest.approx(sent_at + LEASE_S * (1 - DRIFT_MAX))
    assert not asking.contact.lease.is_valid(asking.now, 2)


def test_whoever_is_registered_anew_has_no_lease_yet(asking: Asking) -> None:
    asking.contact.on_leader("b:1", asking.now)
    asking.contact.start_beating(asking.now)
    ((_, beat),) = asking.wait(0.01)
    grant(asking, beat)
    assert asking.contact.lease.is_valid(asking.now, 3)
    asking.contact.start_beating(asking.now)
    assert not asking.contact.lease.is_valid(asking.now, 3)
    grant(asking, beat)
    assert not asking.contact.lease.is_valid(asking.now, 3), "what was sent before was another life's"
