"""Digests are asked for page by page, and again when a node had no time for them."""

from typing import Any

import pytest

from gimmal.client import inquiry
from gimmal.errors import NoRoute, RemoteProtocolError
from gimmal.wire.messages import Digests, Message

HEADER = (b"", 1, 0, 1)
FIRST = Digests(*HEADER, 5, ((0, 1, 7, b"a" * 8),))
NOT_NOW = Digests(*HEADER, 5, ())
LAST = Digests(*HEADER, -1, ((5, 1, 9, b"b" * 8),))


def answers(monkeypatch: pytest.MonkeyPatch, *given: Message) -> list[int]:
    """Let a node give these answers, the last one for ever; return where it is asked to begin."""
    asked: list[int] = []

    def ask(address: str, question: Any, timeout: float) -> Message:
        asked.append(question.first)
        return given[min(len(asked), len(given)) - 1]

    monkeypatch.setattr(inquiry, "_ask", ask)
    return asked


def test_pages_and_one_that_was_not_to_be_had_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, FIRST, NOT_NOW, NOT_NOW, LAST)
    assert inquiry.ask_digests("here", 5.0) == {0: (7, b"a" * 8), 5: (9, b"b" * 8)}
    assert asked == [0, 5, 5, 5]


def test_a_node_that_never_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, FIRST, NOT_NOW)
    with pytest.raises(NoRoute, match="no time"):
        inquiry.ask_digests("here", 0.05)


@pytest.mark.parametrize("page", [FIRST, Digests(*HEADER, 3, ())])
def test_pages_that_do_not_go_on(monkeypatch: pytest.MonkeyPatch, page: Digests) -> None:
    answers(monkeypatch, FIRST, page)
    with pytest.raises(RemoteProtocolError):
        inquiry.ask_digests("here", 5.0)
