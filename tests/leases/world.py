"""Four nodes that hold copies of a few partitions, three of which vote: whole cores, in a time that none of them knows.

Each has a clock of its own. Messages take a moment, or are lost, or lie in a link or in a socket's buffer until it is
much later. Processes hang, also between two lines of a turn. Voters believe that their leader is gone, and the leader
that a node is; leaders hand over. What must hold all the while is looked at by `witness`.
"""

import heapq
from collections.abc import Callable, Iterable
from math import inf
from random import Random
from typing import Any, Final, NamedTuple

from gimmal.node import meta_share
from gimmal.node.leaving import successors
from gimmal.wire.messages import Reply
from gimmal.wire.peer_messages import Heartbeat, HeartbeatReply, PeerMessage, RaftMessage
from tests.leases import plan as kinds
from tests.leases.host import PARTITIONS, Host, Socket
from tests.leases.plan import NAMES, Plan
from tests.leases.witness import Witness
from tests.sim.clocks import HostClock
from tests.sim.museum import Change
from tests.small.trace import Trace, described

HASTY: Final[Change] = (
    meta_share,
    "StewardParameters",
    lambda original: lambda: original(steady_for_s=0.3, settles_after_s=0.3),
)
"""A steward that takes nodes back soon, so that there is something to take from them again. Sooner than two heartbeats
follow each other it takes back nobody: a longer gap is none that it calls steady."""

_CALM_S: Final = 2.0
_READ_EVERY_S: Final = 0.05
_RELEASE_S: Final = 0.05
"""What a link kept back comes in any order within this time: it was on several ways."""
_READS_AT_RELEASE: Final = 8
_NESTED_MAX: Final = 2
_QUIET: Final = ("AppendEntries", "AppendReply", "Append", "AppendAck")


class Cut(NamedTuple):
    """Until when a link loses, or keeps back, which messages."""

    until: float
    concerns: Callable[[PeerMessage], bool]
    is_lost: bool


def _any(message: PeerMessage) -> bool:
    return True


def _of_raft(message: PeerMessage) -> bool:
    return isinstance(message, RaftMessage)


def _but_of_leases(message: PeerMessage) -> bool:
    return not isinstance(message, Heartbeat | HeartbeatReply)


CONCERNS: Final = {"all": _any, "of-raft": _of_raft, "but-leases": _but_of_leases}


class World:
    """What happens in one schedule. `trace` may be None."""

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan = plan
        self.dice = Random(f"leases world {plan.seed}")
        self.time = 0.0
        self._trace = trace
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._nested = 0
        self.cuts: dict[tuple[str, str], Cut] = {}
        self._arrives_at: dict[tuple[str, str], float] = {}
        self._timers: dict[str, float] = {}
        self.hosts = [
            Host(name, HostClock(origin_s, 0, rate), plan.seed)
            for name, origin_s, rate in zip(NAMES, plan.origins_s, plan.rates, strict=True)
        ]
        self.keep: Callable[[Host, Host, PeerMessage], None] = lambda *_: None  # what is kept back for good
        self.on_answers: Callable[[Host, bytes, Reply], None] = lambda *_: None
        self.host_by_address = {host.address: host for host in self.hosts}
        self.witness = Witness(
            self.hosts, lambda after_s, partition: self.later(after_s, lambda: self._read_old(partition))
        )
        self._faults = {
            kinds.REFUSE: self._refuse,
            kinds.ELECT: self._elect,
            kinds.PAUSE: self._pause,
            kinds.CUT: self._cut_off,
            kinds.CUT_TABLES: self._cut_tables,
            kinds.DEPOSE: self._depose,
            kinds.HAND_OVER: self._hand_over,
            kinds.DRIFT: self._drift,
            kinds.STALL: self._stall,
        }

    # -- time ----------------------------------------------------------------------------------------------------

    def later(self, after_s: float, what: Callable[[], None]) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._events, (self.time + after_s, self._count, what))

    def run(self) -> None:
        """Play the schedule."""
        for host in self.hosts:
            self.turn(host, host.on_timer)
        self.later(_CALM_S, self._fault)
        self.later(_CALM_S, self._read)
        self.run_until(self.plan.lasts_s)

    def run_until(self, end: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= end:
            at, _, what = heapq.heappop(self._events)
            self.time = max(self.time, at)
            what()
        self.time = max(self.time, end)

    def tell(self, text: str) -> None:
        """Put a line into the trace."""
        if self._trace is not None:
            self._trace.add(self.time, text)

    def turn(self, host: Host, kind: Callable[..., None], *arguments: Any) -> None:
        """Let a host have a turn, if it does not hang."""
        if host.hangs:
            return
        host.time = self.time
        kind(*arguments)
        host.time = self.time
        sent, host.sent = host.sent, []
        for address, message in sent:
            self._send(host, address, message)
        for peer, answer in host.answers:
            self.tell(f"{host.name} answers a client: {answer}")
            if isinstance(answer, Reply):
                self.on_answers(host, peer, answer)
        self.witness.on_turn(host)
        if host.from_clients.waiting:
            self.later(0.0, lambda: self.look(host, host.from_clients))
        self._arm(host)

    def _arm(self, host: Host) -> None:
        at = host.wakes_at()
        if at < self._timers.get(host.name, float("inf")):
            self._timers[host.name] = at
            self.later(max(0.0, at - self.time), lambda: self._on_timer(host, at))

    def _on_timer(self, host: Host, at: float) -> None:
        if self._timers.get(host.name) == at:
            del self._timers[host.name]
            host.time = self.time
            if not host.hangs:
                if host.wakes_at() <= self.time + 3e-6:
                    self.turn(host, host.on_timer)
                else:
                    self._arm(host)

    def look(self, host: Host, socket: Socket) -> None:
        """Let a host look at a socket, if something waits there."""
        if socket.waiting:
            self.turn(host, host.on_nodes if socket is host.from_nodes else host.on_clients)

    # -- network --------------------------------------------------------------------------------------------------

    def _send(self, sender: Host, address: str, message: PeerMessage) -> None:
        target = self.host_by_address[address]
        link = (sender.name, target.name)
        cut = self.cuts.get(link)
        plan, at = self.plan, self.time
        if cut is not None and cut.until > self.time and cut.concerns(message):
            if cut.is_lost:
                return
            if cut.until == inf:
                self.keep(sender, target, message)
                return
            at = cut.until + self.dice.uniform(0, _RELEASE_S)
        if self.dice.random() < plan.loss:
            return
        is_kept_back = at > self.time
        at += plan.delay_least_s + (self.dice.expovariate(1 / plan.delay_mean_s) if plan.delay_mean_s else 0.0)
        if is_kept_back:
            self.later(at - self.time, lambda: self.arrive(sender, target, message))
            return
        at = self._arrives_at[link] = max(self._arrives_at.get(link, 0.0), at)
        self.later(at - self.time, lambda: self.arrive(sender, target, message))

    def arrive(self, sender: Host, target: Host, message: PeerMessage) -> None:
        if self._trace is not None and type(message).__name__ not in _QUIET:
            self.tell(f"{sender.name} -> {target.name}: {described(message)}")
        target.from_nodes.waiting.append(message)
        self.look(target, target.from_nodes)

    # -- what goes wrong ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        host, partition = self.dice.choice(self.hosts), self.dice.randrange(PARTITIONS)
        if host.core.data.serving.serves(partition):
            host.time = self.time
            self.witness.read(host, partition)
            self.look(host, host.from_clients)
        self._read_old()
        self.later(_READ_EVERY_S, self._read)

    def _fault(self) -> None:
        weights = self.plan.weights
        kind = self.dice.choices(list(weights), list(weights.values()))[0]
        self.witness.counts[kind] += 1
        self._faults[kind]()
        self.later(self.dice.expovariate(1 / self.plan.fault_every_s), self._fault)

    def leader(self) -> Host:
        """A host that leads the meta group, the latest if several believe to; any if none does."""
        leaders = [host for host in self.hosts if host.core.control.meta.is_leader]
        return max(leaders or self.hosts, key=lambda host: host.core.control.meta.group.raft.term)

    def _refuse(self) -> None:
        """The leader believes that a node's process has ended, preferably one that leads partitions."""
        leader = self.leader()
        others = [host for host in self.hosts if host is not leader]
        victim = self.dice.choice([host for host in others if host.core.data.leads_any] or others)
        self._refuse_this(victim)
        if self.dice.random() < 0.6:
            self._cut(self._links_to(victim), _any, self.dice.uniform(0.9, 1.6), is_lost=self.dice.random() < 0.7)

    def _refuse_this(self, victim: Host) -> None:
        leader = self.leader()
        if leader is not victim:
            self.tell(f"{leader.name} believes that {victim.name} is gone")
            self.turn(leader, leader.on_refused, victim.address)

    def _elect(self) -> None:
        """The others believe that the leader's process has ended."""
        leader = self.leader()
        self.tell(f"the others believe that {leader.name} is gone")
        for host in self.hosts:
            if host is not leader:
                self.turn(host, host.on_refused, leader.address)

    def _pause(self) -> None:
        host = self.dice.choice(self.hosts)
        for_s, sleeps = self.dice.uniform(0.2, 2.2), self.dice.random() < 0.5
        if not host.hangs:
            self.tell(f"{host.name} {'sleeps' if sleeps else 'hangs'} for {for_s:.3f} s")
            host.hangs = True
            self.later(for_s, lambda: self.resume(host, for_s if sleeps else 0.0))

    def resume(self, host: Host, slept_s: float, sockets: Iterable[Socket] = ()) -> None:
        """Let a host go on; it reads its sockets in that order, or in any."""
        self.tell(f"{host.name} goes on")
        host.hangs = False
        host.slept_s += host.clock.seconds(self.time) - host.clock.seconds(self.time - slept_s)
        any_order = [host.from_nodes, host.from_clients]
        self.dice.shuffle(any_order)
        for socket in sockets or any_order:
            self.look(host, socket)
        self.turn(host, host.on_timer)

    def _stall(self) -> None:
        """A process hangs when it is about to read a socket next; then somebody who leads is believed to be gone."""
        leader = self.leader()
        is_voter = self.dice.random() < 0.4
        host = leader if is_voter else self._any_leading()
        socket = host.from_nodes if is_voter else host.from_clients
        for_s = self.dice.uniform(0.2, 0.7) if is_voter else self.dice.uniform(0.8, 2.2)

        def then() -> None:
            if is_voter:
                self.later(for_s + self.dice.uniform(0.0, 0.2), self._refuse)
            else:
                self.later(self.dice.uniform(0.0, 0.1), lambda: self._refuse_this(host))

        self.stall(host, socket, for_s, then)

    def stall(self, host: Host, socket: Socket, for_s: float, then: Callable[[], None] = lambda: None) -> None:
        """Let a process hang when it is about to read a socket next, and something happen meanwhile."""

        def hang() -> None:
            socket.on_read = lambda: None
            if self._nested < _NESTED_MAX:
                self.tell(f"{host.name} hangs for {for_s:.3f} s, about to read a socket")
                self._nested += 1
                host.hangs = True
                then()
                self.run_until(self.time + for_s)
                host.hangs = False
                host.time = self.time
                self._nested -= 1

        socket.on_read = hang

    def _any_leading(self) -> Host:
        return self.dice.choice([host for host in self.hosts if host.core.data.leads_any] or self.hosts)

    def _links_to(self, host: Host) -> list[tuple[str, str]]:
        return [(other.name, host.name) for other in self.hosts if other is not host]

    def _links_from(self, host: Host) -> list[tuple[str, str]]:
        return [(host.name, other.name) for other in self.hosts if other is not host]

    def _cut(
        self, links: list[tuple[str, str]], concerns: Callable[[PeerMessage], bool], lasts_s: float, *, is_lost: bool
    ) -> None:
        names = " ".join(map("->".join, links))
        self.tell(f"{names} {'lose' if is_lost else 'keep back'} {concerns.__name__} for {lasts_s:.3f} s")
        for link in links:
            self.cuts[link] = Cut(self.time + lasts_s, concerns, is_lost)
        for step in range(_READS_AT_RELEASE):
            self.later(lasts_s + step * _RELEASE_S / _READS_AT_RELEASE, self._read_old)

    def _read_old(self, *partitions: int) -> None:
        """Read from whoever may not have heard yet that another leads: in some partitions, or in all."""
        for host in self.hosts:
            host.time = self.time
        for partition in partitions or range(PARTITIONS):
            self.witness.read_old(partition)
        for host in self.hosts:
            self.look(host, host.from_clients)

    def _cut_off(self) -> None:
        """A node is cut off, or only does not hear, or is not heard."""
        host = self.dice.choice(self.hosts)
        to, of = self._links_to(host), self._links_from(host)
        lasts_s, is_lost = self.dice.uniform(0.1, 1.5), self.dice.random() < 0.5
        self._cut(self.dice.choice((to, to, of, to + of)), _any, lasts_s, is_lost=is_lost)

    def _cut_tables(self) -> None:
        """A node hears the answers to its heartbeats and nothing else, while it is fenced and taken back."""
        leader = self.leader()
        others = [host for host in self.hosts if host is not leader]
        victim = self.dice.choice([host for host in others if host.core.data.leads_any] or others)
        self._cut(self._links_to(victim), _but_of_leases, self.dice.uniform(1.5, 3.0), is_lost=True)
        self._refuse_this(victim)

    def _depose(self) -> None:
        """Voters and their leader do not hear each other; another is elected, and has somebody fenced.

        Whoever has no vote goes on asking the old leader, and is cut off from the others; or it is the old leader.
        """
        leader, dice = self.leader(), self.dice
        lasts_s = dice.uniform(0.1, 0.7)
        links = self._links_to(leader) + self._links_from(leader)
        if dice.random() < 0.3:  # it hears the third voter
            other = dice.choice([host.name for host in self.hosts[:3] if host is not leader])
            links = [link for link in links if other in link]
        self._cut(links, _of_raft, max(lasts_s, dice.choice((0.0, 0.9))), is_lost=dice.random() < 0.3)
        if dice.random() < 0.4 and not leader.hangs:
            leader.hangs = True
            self.later(lasts_s, lambda: self.resume(leader, 0.0))
        self._elect()
        victim = dice.choice((leader, self.hosts[-1], self.hosts[-1]))
        for _ in range(2):
            self.later(dice.uniform(0.05, 0.6), lambda: self._refuse_this(victim))
        deaf = [link for link in self._links_to(victim) if link[0] != leader.name]
        if victim is not leader:
            self._cut(deaf, _any, dice.uniform(1.2, 2.0), is_lost=True)
        elif dice.random() < 0.7:
            at = lasts_s + dice.uniform(0.0, 0.1)
            self.later(at, lambda: self._cut(deaf, _any, dice.uniform(0.9, 1.4), is_lost=True))

    def _hand_over(self) -> None:
        """A node hands over what it leads. Then it may hear nothing for a while, or the one that has taken over."""
        for host in self.hosts:
            serving = host.core.data.serving
            for replica, names in list(successors(serving.holdings)):
                view = replica.view
                if serving.serves(replica.partition) and view is not None and not host.hangs:
                    target = self.dice.choice(names)
                    self.tell(f"{host.name} hands over partition {replica.partition} to {target}")
                    host.core.data.relieve([(replica.partition, view.epoch, view.version, target)])
                    self.turn(host, host.on_timer)
                    self._make_deaf_after_hand_over(host, self.host_by_address[f"{target}:7701"])
                    return

    def _make_deaf_after_hand_over(self, giver: Host, taker: Host) -> None:
        lasts_s, kind = self.dice.uniform(0.3, 1.2), self.dice.random()
        if kind < 0.5:
            self._cut(self._links_to(giver), _any, lasts_s, is_lost=True)
        elif kind < 0.8:
            at = self.dice.uniform(0.05, 0.3)
            self.later(at, lambda: self._cut(self._links_to(taker), _any, lasts_s, is_lost=True))

    def _drift(self) -> None:
        host = self.dice.choice(self.hosts)
        host.clock.set_rate(self.time, self.dice.choice(self.plan.rates))
