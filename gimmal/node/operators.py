"""What operators ask of the meta group by way of any node, and the answers they get.

A client's `Operate` names a command of the meta group; the node asks the leader in its stead (`Contact`), under its own
name. Operators who ask for the same at once get the same answer. Whoever is not answered in `_PATIENCE_S` is told that
nothing is known: the command may still be decided, and can safely be asked for again.
"""

from typing import Any, Final, NamedTuple

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome, Result, is_well_formed
from gimmal.cluster.meta.contact import Contact

_PATIENCE_S: Final = 4.0
_WAITING_MAX: Final = 64
_NEVER: Final = float("inf")


class _Asking(NamedTuple):
    peer: bytes
    command: tuple[Any, ...]
    until: float


class Operators:
    """The operators who wait for an answer. `peer` is whatever the caller wants back with it."""

    def __init__(self, contact: Contact) -> None:
        self._contact = contact
        self._waiting: list[_Asking] = []
        self._outbox: list[tuple[bytes, Result]] = []

    def ask(self, peer: bytes, command: tuple[Any, ...], trouble: str, now: float) -> None:
        """Ask for a command; `trouble` says why another node has to be asked, empty if this one can."""
        if not (is_well_formed(command) and command[0] in commands.FROM_OPERATORS):
            self._outbox.append((peer, Result(Outcome.MALFORMED, 0, "operators cannot ask for that")))
        elif trouble:
            self._outbox.append((peer, Result(Outcome.NOT_LEADER, 0, trouble)))
        elif len(self._waiting) >= _WAITING_MAX:
            self._outbox.append((peer, Result(Outcome.REFUSED, 0, f"{_WAITING_MAX} operators wait already")))
        else:
            self._waiting.append(_Asking(peer, command, now + _PATIENCE_S))
            self._contact.request(command, now)

    def on_answered(self, command: tuple[Any, ...], result: Result) -> None:
        """Take the leader's answer to a command."""
        self._outbox += [(asking.peer, result) for asking in self._waiting if asking.command == command]
        self._waiting = [asking for asking in self._waiting if asking.command != command]

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        return self._waiting[0].until if self._waiting else _NEVER

    def tick(self, now: float) -> None:
        """Give up what has taken too long."""
        while self._waiting and self._waiting[0].until <= now:
            peer, command, _ = self._waiting.pop(0)
            if all(asking.command != command for asking in self._waiting):
                self._contact.withdraw(command)
            text = f"no answer from the leader of the meta group within {_PATIENCE_S:g} s: ask again"
            self._outbox.append((peer, Result(Outcome.UNDECIDED, 0, text)))

    def drain(self) -> list[tuple[bytes, Result]]:
        """Return answers, each with whom it goes to, and forget them."""
        outbox, self._outbox = self._outbox, []
        return outbox
