"""Reads that any copy may answer: spread over all, and passed on when one cannot answer."""

from collections import Counter

import pytest

from gimmal.client.commands import Commands
from gimmal.wire import commands
from gimmal.wire.codec import encode
from gimmal.wire.messages import Message, Refusal, Reply, Request
from tests.unit.fake_network import CLUSTER, DROP
from tests.unit.replicated_network import Trio, warmed

SEEDS = ["h1:1", "h2:1", "h3:1"]


@pytest.fixture
def trio() -> Trio:
    return Trio()


def test_reads_of_any_copy_are_spread_over_all_that_are_ready(trio: Trio) -> None:
    end = warmed(trio, "key")
    outcomes = [end.get_any("key") for _ in range(300)]
    trio.run(0.1)
    assert {outcome.result() for outcome in outcomes} == {1}
    asked = Counter(address for address, _ in end.operations(commands.GET))
    assert set(asked.values()) == {100}
    assert {operation[2] for _, operation in end.operations(commands.GET)} == {0}
    end.requests.clear()
    trio.unplugged = {"h2:1"}
    end.session.on_unready("h2:1")
    calls = [
        end.call(Commands.exists, "key", "any"),
        end.call(Commands.ttl, "key", "any"),
        end.call(Commands.get_many, ["key", *map(str, range(50))], "any"),
    ]
    trio.run(0.1)
    assert [outcome.result() for outcome in calls] == [True, -1.0, {"key": 1}]
    assert {address for address, _ in end.requests} == {"h1:1", "h3:1"}


def test_a_copy_that_cannot_answer_is_passed_over_and_in_the_end_the_leader_is_asked(trio: Trio) -> None:
    end = warmed(trio, "key")
    refused: list[str] = []

    def fate(address: str, message: Message) -> float | None:
        if isinstance(message, Request) and message.operations[0][2] == 0:
            refused.append(address)
            number = message.operations[0][0]
            reply = Reply(CLUSTER, 1, 0, 1, 0, (), (), ((number, int(Refusal.MOVED), "not ready"),))
            trio.post(0.001, lambda: end.receive(address, encode(reply)))
            return DROP
        return 0.001

    trio.fate = fate
    outcome = end.get_any("key")
    trio.run(1.0)
    assert outcome.result() == 1
    assert sorted(refused) == SEEDS
    assert end.operations(commands.GET)[-1][0] == trio.owner("key")
    assert end.operations(commands.GET)[-1][1][2] == 1


def test_a_copy_that_hangs_is_passed_over(trio: Trio) -> None:
    end = warmed(trio, "key")
    del trio.cores["h1:1"]
    outcomes = [end.get_any("key") for _ in range(30)]
    trio.run(3.5)
    assert [outcome.result() for outcome in outcomes] == [1] * 30
