"""What clients are owed at the end of a turn: results and refusals collect per client and leave as one Reply each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from gimmal.node.clients import Clients
from gimmal.wire import limits
from gimmal.wire.messages import Refusal, Reply

ANSWER_BYTES: Final = 24
"""About what an answer without a value takes in a reply."""

Header: TypeAlias = tuple[bytes, int, int, int]


@dataclass(slots=True)
class Answers:
    """What one client is owed."""

    numbers: list[int] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    refusals: list[tuple[int, int, str]] = field(default_factory=list)
    size_bytes: int = 0


class Replies:
    """What all clients are owed. `header` gives the header of what leaves."""

    def __init__(self, clients: Clients, header: Callable[[], Header]) -> None:
        self._clients = clients
        self._header = header
        self._answers_by_peer: dict[bytes, Answers] = {}
        self._outbox: list[tuple[bytes, Reply]] = []

    def to(self, peer: bytes) -> Answers:
        """Return what a client is owed by now, to be added to before anything else is."""
        answers = self._answers_by_peer.get(peer)
        if answers is None:
            answers = self._answers_by_peer[peer] = Answers()
        return answers

    def add(self, peer: bytes, number: int, result: Any) -> None:
        """Owe a client the result of an operation, or a refusal if it is larger than an answer may be."""
        size_bytes = size_of(result) if type(result) is tuple else len(result) if type(result) is bytes else 0
        if size_bytes > limits.REPLY_BYTES_MAX:
            self.refuse(peer, number, Refusal.TOO_LARGE, f"an answer of {size_bytes} bytes; ask for fewer keys")
            return
        answers = self._answers_by_peer.get(peer) or self.to(peer)
        answers.numbers.append(number)
        answers.results.append(result)
        answers.size_bytes += size_bytes + ANSWER_BYTES
        if answers.size_bytes > limits.PLAIN_FRAME_BYTES_MAX:
            self._close(peer)

    def refuse(self, peer: bytes, number: int, refusal: int, text: str) -> None:
        """Owe a client the reason why an operation has no result."""
        answers = self.to(peer)
        answers.refusals.append((number, int(refusal), text))
        answers.size_bytes += len(text) + ANSWER_BYTES

    def drain(self) -> list[tuple[bytes, Reply]]:
        """Return (client, reply) pairs to be sent, and forget them."""
        for peer in list(self._answers_by_peer):
            self._close(peer)
        outbox, self._outbox = self._outbox, []
        return outbox

    def _close(self, peer: bytes) -> None:
        """Put what a client is owed into the outbox, as one reply."""
        answers = self._answers_by_peer.pop(peer)
        if answers.numbers or answers.refusals:
            receipt = self._clients.on_reply(peer, answers.size_bytes)
            parts = (tuple(answers.numbers), tuple(answers.results), tuple(answers.refusals))
            self._outbox.append((peer, Reply(*self._header(), receipt, *parts)))


def size_of(result: tuple[Any, ...]) -> int:
    """Return about how many bytes a result with parts takes."""
    total = 0
    for part in result:
        if type(part) is bytes:
            total += len(part) + 5
        elif type(part) is tuple:
            total += size_of(part)
    return total
