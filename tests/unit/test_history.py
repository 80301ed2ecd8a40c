"""The record of operations."""

import threading
from typing import Any

import pytest

from gimmal.errors import ClientClosed, DataLost, InvalidArgument, NoRoute, OperationTimeout, OutOfMemory
from gimmal.testing import History, Operation
from gimmal.testing.history import Ending, Row


def test_a_row_is_what_was_recorded() -> None:
    history = History()
    operation = Operation.set("k", 1, if_version=7)
    token = history.begin("ada", operation, 1.5)
    history.end(token, True, 2.5)
    assert list(history) == [Row("ada", operation, 1.5, 2.5, Ending.ENDED, True)]
    assert len(history) == 1


def test_keys_keep_their_order() -> None:
    history = History()
    for key in ("b", "a", "b"):
        history.begin("ada", Operation.get(key), 0.0)
    assert history.by_key() == {"b": [0, 2], "a": [1]}


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (NoRoute("nobody"), Ending.FAILED),
        (OutOfMemory("full"), Ending.FAILED),
        (DataLost("gone"), Ending.OPEN),
        (OperationTimeout("late", maybe_applied=False), Ending.FAILED),
        (OperationTimeout("late", maybe_applied=True), Ending.OPEN),
        (ClientClosed("closed"), Ending.OPEN),
        (RuntimeError("what?"), Ending.OPEN),
    ],
)
def test_errors_of_a_client(error: Exception, ending: Ending) -> None:
    history = History()
    token = history.begin("ada", Operation.incr("k"), 0.0)
    history.end_with_error(token, error, 1.0)
    assert history.row(token).ending == ending


MISUSE: dict[str, list[tuple[str, Any]]] = {
    "ends twice": [("end", (1, 2.0)), ("end", (1, 3.0))],
    "ends and fails": [("end", (1, 2.0)), ("fail", (3.0,))],
    "fails and is open": [("fail", (2.0,)), ("leave_open", ())],
    "ends before it began": [("end", (1, 0.5))],
    "a list as result": [("end", ([1], 2.0))],
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_refused(name: str) -> None:
    history = History()
    token = history.begin("ada", Operation.get("k"), 1.0)
    *steps, (last, arguments) = MISUSE[name]
    for method, earlier in steps:
        getattr(history, method)(token, *earlier)
    with pytest.raises(InvalidArgument):
        getattr(history, last)(token, *arguments)


@pytest.mark.parametrize(
    ("value", "conditions"), [({}, {}), (None, {}), (1, {"nx": True, "xx": True}), (1, {"nx": True, "if_version": 7})]
)
def test_what_cannot_be_recorded_is_refused(value: Any, conditions: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Operation.set("k", value, **conditions)


def test_a_refused_end_changes_nothing() -> None:
    history = History()
    token = history.begin("ada", Operation.get("k"), 1.0)
    with pytest.raises(InvalidArgument):
        history.end(token, 1, 0.5)
    history.end(token, 1, 2.0)
    assert history.row(token).ended_at == 2.0


def test_threads_share_a_history() -> None:
    history = History()

    def work(client: int) -> None:
        for number in range(2_000):
            token = history.begin(client, Operation.set(client, number), float(number))
            history.end(token, True, float(number))

    threads = [threading.Thread(target=work, args=(client,)) for client in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history) == 8_000
    for client, tokens in history.by_key().items():
        rows = [history.row(token) for token in tokens]
        assert {row.client for row in rows} == {client}
        assert [row.operation.argument for row in rows] == list(range(2_000))


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (Operation.get("k"), "get"),
        (Operation.get_versioned("k"), "get_versioned"),
        (Operation.exists("k"), "exists"),
        (Operation.delete("k"), "delete"),
        (Operation.incr("k", 3), "incr 3"),
        (Operation.set("k", "v"), "set 'v'"),
        (Operation.set("k", "v", nx=True), "set 'v' nx"),
        (Operation.set("k", "v", xx=True), "set 'v' xx"),
        (Operation.set("k", "v", if_version=4), "set 'v' if_version=4"),
    ],
)
def test_an_operation_is_shown_as_it_is_called(operation: Operation, text: str) -> None:
    assert str(operation) == text
