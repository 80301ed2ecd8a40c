"""How a node reaches the leader of the meta group: heartbeats, requests, and finding out who leads.

Any node can be asked who leads: it answers with the leader's peer address if it knows one. So a contact asks whoever it
believes to lead, follows what it is told, and after an answer that does not help or none at all it asks somebody else,
at random among the addresses it was given. What it tells others it has from the leader itself, and of late: else nodes
without a vote could keep a rumor of a dead leader alive among themselves. A request is repeated until it is answered
for good; every command of the meta group can safely be asked for twice. A refused one is given up, unless it was to
persist: what hinders a registration may go away.

An answer to a heartbeat may grant the lease of this node (`gimmal.cluster.lease`), which is kept here.

Answers are matched by number. Numbers start at a random place, so that an answer to an earlier life of this node is
not taken for one to this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gimmal.cluster.lease import Lease
from gimmal.cluster.meta.commands import Outcome, Result
from gimmal.wire.peer_messages import BLANK, Heartbeat, HeartbeatReply, MetaReply, MetaRequest, PeerMessage

if TYPE_CHECKING:
    from random import Random

HEARTBEAT_EVERY_S: Final = 0.25
"""A few go into one lease, so that a lost one costs nothing."""

_LOST_AFTER_S: Final = 1.2
_REPEAT_AFTER_S: Final = 0.4
_REFUSED_PAUSE_S: Final = 1.0
_FOLLOW_AFTER_S: Final = 0.02  # two nodes that name each other must not keep us busy
_NEVER: Final = float("inf")
_UNDECIDED: Final = (Outcome.NOT_LEADER, Outcome.UNDECIDED)


class Answered(NamedTuple):
    """A request has its answer, if not for good: one that persists is asked for again until it is done."""

    command: tuple[Any, ...]
    result: Result


@dataclass(slots=True)
class _Request:
    command: tuple[Any, ...]
    send_at: float
    persists: bool


class Contact:
    """One node's way to the meta group. `addresses` returns the peer addresses that may be asked."""

    def __init__(self, addresses: Callable[[], Sequence[str]], dice: "Random", now: float) -> None:
        self.lease = Lease()
        self._addresses = addresses
        self._dice = dice
        self._request_by_number: dict[int, _Request] = {}
        self._next_number = dice.getrandbits(32)
        self._leader = ""
        self._heard_at = now
        self._confirmed_at = -_NEVER
        self._beat_at = _NEVER
        self._outbox: list[tuple[str, PeerMessage]] = []

    def leader(self, now: float) -> str:
        """Return the peer address of the node that said of late that it leads; empty if none did."""
        return self._leader if now - self._confirmed_at <= _LOST_AFTER_S else ""

    @property
    def believed(self) -> str:
        """The peer address that this node would ask first, be it hearsay; empty if there is none."""
        return self._leader

    def on_hearsay(self, address: str, now: float) -> None:
        """Be told by somebody who leads."""
        self._leader, self._heard_at = address, now

    def on_leader(self, address: str, now: float) -> None:
        """Learn for certain who leads: this node votes, and knows."""
        self.on_hearsay(address, now)
        self._confirmed_at = now
        for request in self._request_by_number.values():
            request.send_at = min(request.send_at, now)

    def silence(self, now: float) -> float:
        """Return for how long nobody has said who leads, in seconds."""
        return now - self._heard_at

    def start_beating(self, now: float) -> None:
        """Send heartbeats from now on: this node is registered, in a life that has no lease yet."""
        self.lease.forget()
        self._beat_at = min(self._beat_at, now)

    def stop_beating(self) -> None:
        """Send none: this node is nobody at the moment."""
        self.lease.forget()
        self._beat_at = _NEVER

    def request(self, command: tuple[Any, ...], now: float, *, persists: bool = False) -> None:
        """Ask for a command until it is answered, or done if it `persists`; the same is not asked for twice at once."""
        if all(request.command != command for request in self._request_by_number.values()):
            self._request_by_number[self._number()] = _Request(command, now, persists)

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        if not self._request_by_number:
            return self._beat_at
        return min(self._beat_at, *(request.send_at for request in self._request_by_number.values()))

    def tick(self, now: float) -> None:
        """Send what is due."""
        if self._beat_at <= now:
            self._beat_at = now + HEARTBEAT_EVERY_S
            if now - self._heard_at > _LOST_AFTER_S:
                self._leader = ""
            number = self._number()
            self.lease.on_sent(number, now)
            self._send(Heartbeat(*BLANK, number))
        for number, request in self._request_by_number.items():
            if request.send_at <= now:
                request.send_at = now + self._dice.uniform(_REPEAT_AFTER_S / 2, _REPEAT_AFTER_S)
                if now - self._heard_at > _LOST_AFTER_S:
                    self._leader = ""
                self._send(MetaRequest(*BLANK, number, request.command))

    def receive(self, message: MetaReply | HeartbeatReply, source: str, now: float) -> list[Answered]:
        """Take an answer from the node with peer address `source`."""
        is_decided = isinstance(message, MetaReply) and message.outcome not in _UNDECIDED
        if message.leader:
            if message.leader == source or is_decided:
                self._confirmed_at = now
            is_news = message.leader != self._leader
            self._leader, self._heard_at = message.leader, now
        else:
            is_news = bool(source) and self._leader == source
            self._leader = "" if is_news else self._leader
        if isinstance(message, HeartbeatReply):
            if message.is_granted:
                self.lease.on_granted(message.number, message.table_version)
            if is_news:
                self._beat_at = min(self._beat_at, now + _FOLLOW_AFTER_S)
            return []
        request = self._request_by_number.get(message.number)
        if request is None:
            return []
        if not is_decided:
            if is_news:
                request.send_at = now + _FOLLOW_AFTER_S
            return []
        answer = Answered(request.command, Result(_outcome(message.outcome), message.value, message.text))
        if message.outcome == Outcome.DONE or not request.persists:
            del self._request_by_number[message.number]
        else:
            request.send_at = now + self._dice.uniform(_REFUSED_PAUSE_S / 2, _REFUSED_PAUSE_S)
        return [answer]

    def withdraw(self, command: tuple[Any, ...]) -> None:
        """Ask for a command no more; it may be decided all the same."""
        found = [number for number, request in self._request_by_number.items() if request.command == command]
        for number in found:
            del self._request_by_number[number]

    def forget_requests(self) -> None:
        """Ask for nothing any more."""
        self._request_by_number.clear()

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (peer address, message) pairs to be sent."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number

    def _send(self, message: PeerMessage) -> None:
        addresses = [self._leader] if self._leader else list(self._addresses())
        if addresses:
            self._outbox.append((self._dice.choice(addresses), message))


def _outcome(number: int) -> Outcome:
    return Outcome(number) if number in Outcome._value2member_map_ else Outcome.MALFORMED
