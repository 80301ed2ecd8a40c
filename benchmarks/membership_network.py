"""A virtual network of membership machines, and nothing else: one heap of events, one seed, no real time.

A message takes 0.2 to 2 ms or is lost. A node that stalls handles nothing while its clock goes on; what arrives
meanwhile waits, and when it goes on it reads all of that and then ticks, as the node's loop does. A node that is killed
is silent from then on: its address does not even refuse.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import Any

from gimmal.cluster.membership import Fact, MemberDead, Membership, MembershipParameters, Profile
from gimmal.cluster.table import Addresses
from gimmal.wire.codec import encode
from gimmal.wire.peer_messages import PeerMessage, View, ViewDigest

DELAY_LEAST_S, DELAY_SPREAD_S = 0.0002, 0.0018
PARAMETERS = MembershipParameters()
CLUSTER, TABLE_VERSION = bytes(16), 1_000
EXCHANGE = (ViewDigest, View)


@dataclass(slots=True)
class Node:
    """One machine, and what the network knows of it; `armed_at` is when its next timer fires."""

    name: str
    incarnation: int
    profile: Profile
    machine: Membership
    is_up: bool = True
    armed_at: float = inf
    stalled_until: float = -inf
    waiting: list[PeerMessage] = field(default_factory=list)


@dataclass(slots=True)
class Meter:
    """Messages and bytes sent: probes and gossip apart from full exchanges."""

    messages: int = 0
    size_bytes: int = 0
    exchange_messages: int = 0
    exchange_bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def count(self, message: PeerMessage) -> None:
        """Count one message as it would be encoded."""
        message.cluster, message.destination, message.table_version = CLUSTER, 1, TABLE_VERSION
        size_bytes = len(encode(message))
        self.kinds[type(message).__name__] += 1
        if isinstance(message, EXCHANGE):
            self.exchange_messages += 1
            self.exchange_bytes += size_bytes
        else:
            self.messages += 1
            self.size_bytes += size_bytes


class Network:
    """`size` nodes that know each other from the table, at virtual time `now`."""

    def __init__(self, size: int, seed: int, loss: float = 0.0) -> None:
        self.now = 0.0
        self.messages = 0
        self.meter: Meter | None = None
        self.on_fact: Callable[[Node, Fact], None] = self._note_false_death
        self.false_deaths: Counter[tuple[str, int, int]] = Counter()
        self.stalls = 0
        self._seed = seed
        self._loss = loss
        self.dice = random.Random(f"network {seed}")
        self._events: list[tuple[float, int, Node | None, Any]] = []
        self._event_number = 0
        self.nodes: dict[str, Node] = {}
        for number in range(size):
            self._add(f"node-{number:04}", 1)
        table = self.table()
        for node in self.nodes.values():
            node.machine.adopt(table, 0.0)
            self._send(node)

    def table(self) -> list[tuple[str, int, Profile]]:
        """Return what the cluster's table says of all nodes."""
        return [(node.name, node.incarnation, node.profile) for node in self.nodes.values()]

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a certain time."""
        self._push(when, None, action)

    def run(self, until: float) -> None:
        """Let time pass."""
        events = self._events
        while events and events[0][0] <= until:
            now, _, node, what = heappop(events)
            self.now = now
            if node is None:
                what()
            elif node.stalled_until > now:
                if what is not None:
                    node.waiting.append(what)
            elif not node.is_up:
                continue
            elif what is not None:
                facts = node.machine.receive(what, now)
                self._send(node)
                if facts:
                    self._report(node, facts)
            elif node.armed_at == now:
                node.armed_at = inf
                facts = node.machine.tick(now)
                self._send(node)
                if facts:
                    self._report(node, facts)
        self.now = until

    def kill(self, node: Node) -> None:
        """Silence a node for good."""
        node.is_up = False

    def restart(self, node: Node) -> None:
        """Start a new life of a node, and let everybody know it from the table."""
        reborn = self._add(node.name, node.incarnation + 1)
        reborn.machine.adopt(self.table(), self.now)
        self._send(reborn)
        row = [(reborn.name, reborn.incarnation, reborn.profile)]
        for other in self.nodes.values():
            if other.is_up and other is not reborn:
                other.machine.adopt(row, self.now)
                self._send(other)

    def stall(self, node: Node, seconds: float) -> None:
        """Let a node handle nothing for some time."""
        self.stalls += 1
        node.stalled_until = self.now + seconds
        self.at(node.stalled_until, lambda: self._wake(node))

    def stall_often(self, names: Iterable[str], seconds: float, every_s: float) -> None:
        """Let nodes stall again and again, after a random time of `every_s` on average."""
        for name in names:
            self._stall_later(self.nodes[name], seconds, every_s)

    def _stall_later(self, node: Node, seconds: float, every_s: float) -> None:
        def stall() -> None:
            self.stall(node, seconds)
            self.at(node.stalled_until, lambda: self._stall_later(node, seconds, every_s))

        self.at(self.now + self.dice.expovariate(1 / every_s), stall)

    def _wake(self, node: Node) -> None:
        facts: list[Fact] = []
        waiting, node.waiting = node.waiting, []
        for message in waiting:
            facts += node.machine.receive(message, self.now)
        facts += node.machine.tick(self.now)
        node.armed_at = inf
        self._send(node)
        self._report(node, facts)

    def _add(self, name: str, incarnation: int) -> Node:
        number = len(self.nodes) if name not in self.nodes else list(self.nodes).index(name)
        address = f"10.0.{number // 250}.{number % 250}"
        networks = (("default", Addresses(f"{address}:7700", f"{address}:7701")),)
        profile = Profile(f"{address}:7702", "abc"[number % 3], 1, networks)
        dice = random.Random(f"{name} {incarnation} {self._seed}")
        machine = Membership(name, incarnation, profile, PARAMETERS, dice, self.now)
        node = self.nodes[name] = Node(name, incarnation, profile, machine)
        return node

    def _send(self, node: Node) -> None:
        """Send what a node has to send, and arm its timer."""
        machine, chance = node.machine, self.dice.random
        for name, message in machine.drain():
            message.sender = node.name
            message.source = node.incarnation
            self.messages += 1
            if self.meter is not None:
                self.meter.count(message)
            if chance() >= self._loss:
                self._push(self.now + DELAY_LEAST_S + DELAY_SPREAD_S * chance(), self.nodes[name], message)
        deadline = machine.next_deadline()
        if deadline < node.armed_at:
            node.armed_at = deadline
            self._push(deadline, node, None)

    def _push(self, when: float, node: Node | None, what: Any) -> None:
        self._event_number += 1
        heappush(self._events, (when, self._event_number, node, what))

    def _report(self, node: Node, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self.on_fact(node, fact)

    def _note_false_death(self, node: Node, fact: Fact) -> None:
        """Count who calls a living node dead, by what the node had last stated."""
        if isinstance(fact, MemberDead):
            accused = self.nodes[fact.name]
            if accused.is_up and accused.incarnation == fact.incarnation:
                self.false_deaths[fact.name, fact.incarnation, node.machine.members[fact.name].refutation] += 1
