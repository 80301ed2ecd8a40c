"""A tiny network of membership machines in virtual time, for the tests of membership.

Every message passes the codec, so that what a machine says is what another one can read.
"""

import random
from heapq import heappop, heappush
from math import inf

from gimmal.cluster.membership import Fact, Membership, MembershipParameters, Profile, Rumor, State
from gimmal.cluster.table import Addresses
from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import FROM_NODES
from gimmal.wire.peer_messages import PeerMessage

PARAMETERS = MembershipParameters()
DELAY_S = 0.001


def profile_of(name: str) -> Profile:
    return Profile(f"{name}:7702", "a", 1, (("default", Addresses(f"{name}:7700", f"{name}:7701")),))


class Cluster:
    """Machines by name. `cut` holds (from, to) links that lose everything; who is in `paused` handles nothing."""

    def __init__(self, *names: str, seed: int = 1, knowing: bool = True) -> None:
        self.now = 100.0
        self.cut: set[tuple[str, str]] = set()
        self.paused: set[str] = set()
        self.facts: list[tuple[str, Fact]] = []
        self.sent: list[tuple[float, str, str, PeerMessage]] = []
        self._seed = seed
        self._wire: list[tuple[float, int, str, bytes]] = []
        self._waiting: list[tuple[str, bytes]] = []
        self.machines: dict[str, Membership] = {}
        for name in names:
            self.start(name)
        if knowing:
            for name in names:
                self.adopt(name, *names)

    def start(self, name: str, incarnation: int = 1) -> Membership:
        dice = random.Random(f"{name} {incarnation} {self._seed}")
        machine = Membership(name, incarnation, profile_of(name), PARAMETERS, dice, self.now)
        self.machines[name] = machine
        return machine

    def adopt(self, name: str, *others: str) -> None:
        """Let a machine learn from the table of others, in the life they are in."""
        rows = [(other, self.machines[other].members[other].incarnation, profile_of(other)) for other in others]
        self._note(name, self.machines[name].adopt(rows, self.now))

    def tell(self, name: str, message: PeerMessage, sender: str = "n2", source: int = 1) -> list[Fact]:
        """Hand a message to a machine as if it came from another node."""
        message.sender, message.source = sender, source
        facts = self.machines[name].receive(message, self.now)
        self._note(name, facts)
        return facts

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            self._send()
            ticks = [(machine.next_deadline(), name) for name, machine in self.machines.items() if self._runs(name)]
            at = min([*(tick for tick, _ in ticks), *(one[0] for one in self._wire[:1])], default=inf)
            if at > until:
                break
            self.now = max(self.now, at)
            while self._wire and self._wire[0][0] <= self.now:
                _, _, name, frame = heappop(self._wire)
                if self._runs(name):
                    self._deliver(name, frame)
                else:
                    self._waiting.append((name, frame))
            for tick, name in ticks:
                if tick <= self.now:
                    self._note(name, self.machines[name].tick(self.now))
        self.now = until

    def resume(self, name: str) -> None:
        """A paused node goes on: it reads what has arrived, then ticks."""
        self.paused.discard(name)
        waiting, self._waiting = self._waiting, []
        for receiver, frame in waiting:
            if receiver == name:
                self._deliver(name, frame)
            else:
                self._waiting.append((receiver, frame))
        self._note(name, self.machines[name].tick(self.now))

    def isolate(self, *names: str) -> None:
        self.cut |= {
            (one, other) for one in self.machines for other in self.machines if (one in names) != (other in names)
        }

    def states(self, name: str) -> dict[str, State]:
        return {member.name: member.state for member in self.machines[name].members.values()}

    def agree_that_all_live(self) -> bool:
        return all(set(self.states(name).values()) == {State.ALIVE} for name in self.machines)

    def facts_of(self, name: str, kind: type[Fact]) -> list[Fact]:
        return [fact for observer, fact in self.facts if observer == name and isinstance(fact, kind)]

    def kinds_sent(self) -> dict[str, int]:
        kinds = [type(message).__name__ for _, _, _, message in self.sent]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def _runs(self, name: str) -> bool:
        return name not in self.paused

    def _send(self) -> None:
        for name, machine in self.machines.items():
            if not self._runs(name):
                continue
            for receiver, message in machine.drain():
                message.sender, message.source = name, machine.members[name].incarnation
                self.sent.append((self.now, name, receiver, message))
                if receiver in self.machines and (name, receiver) not in self.cut:
                    heappush(self._wire, (self.now + DELAY_S, len(self.sent), receiver, encode(message)))

    def _deliver(self, name: str, frame: bytes) -> None:
        message = decode(frame, FROM_NODES)
        assert isinstance(message, PeerMessage)
        self._note(name, self.machines[name].receive(message, self.now))

    def _note(self, name: str, facts: list[Fact]) -> None:
        self.facts += [(name, fact) for fact in facts]


def accusation(name: str, refutation: int = 0, accuser: str = "n2") -> Rumor:
    return Rumor(name, 1, refutation, State.SUSPECT, accuser, 0, None)
