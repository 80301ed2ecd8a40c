"""What operators ask of the meta group: by way of any node, answered once, and given up in time."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gimmal.cli import main
from gimmal.cli import operator as command
from gimmal.client import inquiry
from gimmal.client.overview import PartitionInfo
from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome
from gimmal.errors import NoRoute
from gimmal.wire import peer_messages as messages
from gimmal.wire.messages import Operate, Operated
from tests.unit.meta_states import Meta
from tests.unit.test_control_plane import Node, joined, lone
from tests.unit.test_status import CLUSTER

RECOVER = (commands.RECOVER, 1)


def answers(node: Node) -> list[tuple[bytes, Outcome, int, str]]:
    found = []
    for peer, message in node.core.drain():
        assert isinstance(message, Operated)
        found.append((peer, Outcome(message.outcome), message.value, message.text))
    return found


def ask(node: Node, what: tuple[Any, ...], peer: bytes = b"ops") -> list[tuple[bytes, Outcome, int, str]]:
    node.core.receive(peer, Operate(b"", 0, 0, 0, what), node.instant)
    node.turn()
    return answers(node)


def requests(node: Node) -> list[messages.MetaRequest]:
    """What the node asked the meta group for since the last time, but for being registered."""
    found = [message for _, message in node.sent if isinstance(message, messages.MetaRequest)]
    node.sent.clear()
    return [request for request in found if request.command[0] != commands.REGISTER]


def test_a_leader_decides_for_its_own_operator() -> None:
    node = lone()
    assert ask(node, RECOVER) == []
    node.wait(0.1)
    assert answers(node) == [(b"ops", Outcome.DONE, 0, "0 lost partitions start again, empty")]


def test_any_other_node_asks_the_leader_once_for_all_who_want_the_same() -> None:
    node = joined()
    node.sent.clear()
    assert ask(node, RECOVER, b"one") + ask(node, RECOVER, b"two") == []
    (request,) = {request.number: request for request in requests(node)}.values()
    assert request.command == RECOVER
    node.take(messages.MetaReply(*messages.BLANK, request.number, int(Outcome.DONE), 3, "done", "b:7701"))
    assert answers(node) == [(b"one", Outcome.DONE, 3, "done"), (b"two", Outcome.DONE, 3, "done")]
    node.wait(1)
    assert requests(node) == []
    assert answers(node) == []


def test_a_refusal_is_an_answer() -> None:
    node = joined()
    node.sent.clear()
    ask(node, (commands.UNSAFE_ELECT, 0, "z"))
    (request,) = requests(node)
    node.take(messages.MetaReply(*messages.BLANK, request.number, int(Outcome.REFUSED), 0, "no", "b:7701"))
    assert answers(node) == [(b"ops", Outcome.REFUSED, 0, "no")]


def test_who_is_not_answered_is_told_so_and_nothing_is_asked_for_later() -> None:
    node = joined()
    ask(node, RECOVER)
    node.wait(3)
    assert answers(node) == []
    node.wait(2)
    ((peer, outcome, _, text),) = answers(node)
    assert (peer, outcome, "ask again" in text) == (b"ops", Outcome.UNDECIDED, True)
    node.sent.clear()
    node.wait(10)
    assert requests(node) == [], "a loss is not accepted minutes after it was asked for"


def test_a_node_that_belongs_nowhere_says_why() -> None:
    node = Node(expect=3)
    ((_, outcome, _, text),) = ask(node, RECOVER)
    assert outcome == Outcome.NOT_LEADER
    assert "belongs to no cluster yet" in text


@pytest.mark.parametrize("what", [(), (99,), (commands.FENCE, "a", 1), (commands.RECOVER, "x"), (None,), ((),)])
def test_operators_cannot_ask_for_anything_else(what: tuple[Any, ...]) -> None:
    node = joined()
    assert [outcome for _, outcome, *_ in ask(node, what)] == [Outcome.MALFORMED]


def test_not_too_many_operators_wait() -> None:
    node = joined()
    told = [ask(node, RECOVER, b"%d" % number) for number in range(70)]
    assert [bool(answer) for answer in told] == [False] * 64 + [True] * 6


def test_what_is_lost_begins_again_when_an_operator_says_so() -> None:
    meta = Meta("ab", ("ab",))
    for name in "ab":
        meta.fence(name)
    for name in "ab":
        meta.register(name, life=2)
    assert meta.do(*(commands.RECOVER, meta.table.version)).value == 1


# -- the commands -----------------------------------------------------------------------------


class Cluster:
    """What the commands find, and what they ask for."""

    def __init__(self) -> None:
        self.lost: list[int] = []
        self.asked: list[tuple[Any, ...]] = []
        self.answer = Operated(b"", 0, 0, 0, int(Outcome.DONE), 0, "done")

    def fetch(self, seeds: str, timeout: float) -> Any:
        partitions = tuple(
            PartitionInfo(None if number in self.lost else "n1", ("n1",), (), number in self.lost)
            for number in range(4)
        )
        return replace(CLUSTER, partitions=partitions)

    def operate(self, addresses: tuple[str, ...], what: tuple[Any, ...], timeout: float) -> Operated:
        self.asked.append(what)
        return self.answer


def test_a_node_outside_the_cluster_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "a:1": Operated(b"", 0, 0, 0, int(Outcome.NOT_LEADER), 0, "it belongs to no cluster yet"),
        "b:1": Operated(b"", 0, 0, 0, int(Outcome.REFUSED), 0, "no"),
    }
    monkeypatch.setattr(inquiry, "ask_to_operate", lambda address, *_: answers[address])
    assert command._operate(("a:1", "b:1"), RECOVER, 1.0).text == "no"
    with pytest.raises(NoRoute, match="a:1: it belongs to no cluster yet"):
        command._operate(("a:1",), RECOVER, 1.0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(command, "_fetch", cluster.fetch)
    monkeypatch.setattr(command, "_operate", cluster.operate)
    return cluster


def test_recover_shows_and_does_nothing_until_the_loss_is_accepted(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recover"]) == 0
    assert capsys.readouterr().out == "no partition is lost\n"
    assert main(["recover", "--accept-loss"]) == 0
    cluster.lost = [1, 3]
    assert main(["recover"]) == 1
    assert capsys.readouterr().out.endswith(
        "lost: 1, 3. To let them begin again, empty: gimmal recover --accept-loss\n"
    )
    assert cluster.asked == []


def test_recover_accepts_what_it_has_seen(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.lost = [1, 3]
    cluster.answer.value = 2
    assert main(["recover", "--accept-loss", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"lost": [1, 3], "started": 2, "message": "done"}
    assert cluster.asked == [(commands.RECOVER, CLUSTER.table_version)]


@pytest.mark.parametrize(("outcome", "value"), [(Outcome.DONE, 1), (Outcome.UNDECIDED, 0), (Outcome.REFUSED, 0)])
def test_recover_says_when_something_stays_lost(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], outcome: Outcome, value: int
) -> None:
    cluster.lost = [1, 3]
    cluster.answer = Operated(b"", 0, 0, 0, int(outcome), value, "because")
    assert main(["recover", "--accept-loss"]) == 1
    assert capsys.readouterr().err == "because\n"


def test_unsafe_elect_names_a_partition_and_a_node(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unsafe-elect", "3", "n2"]) == 0
    assert capsys.readouterr().out == "done\n"
    cluster.answer.outcome = int(Outcome.REFUSED)
    assert main(["unsafe-elect", "3", "n2", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "partition": 3,
        "node": "n2",
        "elected": False,
        "message": "done",
    }
    assert cluster.asked == [(commands.UNSAFE_ELECT, 3, "n2")] * 2
    assert main(["unsafe-elect", "-1", "n2"]) == 2
    assert main(["unsafe-elect", "3"]) == 2
