"""Mail: the messages on their way out, each with as much news as it may carry.

Whoever is not believed alive hears that first of all, in every message that carries rumors: the sooner it knows, the
sooner it can take it back (Lifeguard, "buddy system"). That is also how two halves of a healed partition, each dead to
the other, come together. And whoever says so of us hears from us, each time, what we say.
"""

from gimmal.cluster.membership.dissemination import Dissemination
from gimmal.cluster.membership.members import Members
from gimmal.cluster.membership.parameters import MembershipParameters
from gimmal.cluster.membership.rumor import Rumor, State
from gimmal.wire.peer_messages import BLANK, Ack, Gossip, Nack, PeerMessage, Ping, PingRequest, View, ViewDigest

UNAWAITED = 0
"""The number of a ping that is only meant to be heard."""


class Mail:
    """The outbox of one node, and the news that rides along."""

    __slots__ = ("_members", "_outbox", "_parameters", "news")

    def __init__(self, members: Members, parameters: MembershipParameters) -> None:
        self._members = members
        self._parameters = parameters
        self.news = Dissemination(parameters.rumor_bytes_max)
        self._outbox: list[tuple[str, PeerMessage]] = []

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (name, message) for all that is to be sent, and forget it."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def ping(self, name: str, number: int) -> None:
        """Ask a member whether it is there."""
        self._outbox.append((name, Ping(*BLANK, number, name, self._rumors_for(name))))

    def ping_request(self, name: str, number: int, target: str) -> None:
        """Ask one member to ask another."""
        self._outbox.append((name, PingRequest(*BLANK, number, target, self._rumors_for(name))))

    def ack(self, name: str, number: int, *, with_own: bool = False) -> None:
        """Answer a ping of `name`'s, or tell `name` that the member of its ping request has answered."""
        self._outbox.append((name, Ack(*BLANK, number, self._rumors_for(name, with_own=with_own))))

    def nack(self, name: str, number: int) -> None:
        """Tell `name` that the member of its ping request has not answered."""
        self._outbox.append((name, Nack(*BLANK, number)))

    def gossip(self, name: str, *, with_own: bool = False) -> None:
        """Tell a member what is new, if anything is."""
        rumors = self._rumors_for(name, with_own=with_own, may_repeat=True)
        if rumors:
            self._outbox.append((name, Gossip(*BLANK, rumors)))

    def view_digest(self, name: str) -> None:
        """Let a member compare its view with ours."""
        self._outbox.append((name, ViewDigest(*BLANK, self._members.digest())))

    def view(self, name: str, rumors: tuple[Rumor, ...], *, is_answer: bool) -> None:
        """Send a view, or what a view lacked."""
        self._outbox.append((name, View(*BLANK, is_answer, rumors)))

    def _rumors_for(self, name: str, *, with_own: bool = False, may_repeat: bool = False) -> tuple[Rumor, ...]:
        rumors: tuple[Rumor, ...] = ()
        if self.news:
            copies_max = self._parameters.retransmissions(len(self._members.all))
            rumors = self.news.take(name, copies_max, may_repeat=may_repeat)
        member = self._members.all.get(name)
        if member is not None and member.state is not State.ALIVE:
            rumors = (member.rumor(with_profile=False), *rumors)
        if with_own:
            rumors = (self._members.own.rumor(with_profile=False), *rumors)
        return rumors
