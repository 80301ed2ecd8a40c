"""A few nodes with the product's replicas, around a meta group that decides at once: one seed, one schedule.

What is real: `Holdings` with all below it, the state of the meta group with its rows, and what a node makes of a table.
What is not: the meta group is one object, to which commands are applied as they come; its tables reach nodes late, and
with versions left out; messages between nodes are objects in a list, from which they are delivered, lost, doubled and
overtaken. A message names its sender's life and is for one life of its receiver, as the header of real ones does.

A crash takes a node's memory; it comes back under another incarnation. There are never two copies on their way back at
the same time, so everything acknowledged is always somewhere, and the checks (`ledger`) hold without exception.
"""

from collections import Counter
from random import Random
from typing import Any, Final, NamedTuple

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome
from gimmal.cluster.table import ALIVE, Table
from gimmal.replication.replica import Replica
from gimmal.types import Incarnation
from gimmal.wire.commands import CLOSE_SESSION, GET
from tests.sim.violation import require
from tests.small import front_door, plan
from tests.small.clients import SHARED, Client, Ops, Request
from tests.small.ledger import Forgotten, Ledger
from tests.small.node import Node
from tests.small.trace import Trace, described
from tests.unit.meta_states import Meta

_NET_MAX: Final = 60
_NEAR: Final = 12
_TABLES_KEPT: Final = 6
_LIVES_MAX: Final = 200
META: Final = Incarnation("the meta group", 0)


class Packet(NamedTuple):
    """A message on its way. Clients are nobody, and reach whichever life of a node is there."""

    source: Incarnation | None
    target: Incarnation
    content: Any


class Ask(NamedTuple):
    """A request for other in-sync sets or leaders, on its way to the meta group."""

    number: int
    is_handover: bool
    changes: tuple[tuple[Any, ...], ...]


class Answer(NamedTuple):
    """The decision about it, by the table of a version."""

    number: int
    version: int


class Read(NamedTuple):
    """A read that a leader was asked for when so many entries of its partition had been acknowledged."""

    replica: Replica
    acknowledged: int


class World:
    """The schedule of a plan. `run` raises `Violation`, or returns what was counted."""

    def __init__(self, a_plan: plan.Plan, forgotten: Forgotten, trace: Trace | None = None) -> None:
        self.plan = a_plan
        self.dice = Random(a_plan.seed)
        self.trace = trace
        self.now_s = 0.0
        self.counts: Counter[str] = Counter()
        self.net: list[Packet] = []
        self.names = a_plan.names
        self.meta = Meta(self.names, a_plan.holders)
        self.tables = [self.meta.table]
        self.partitions = range(len(a_plan.holders))
        self.ops = Ops()
        self.ledger = Ledger(len(a_plan.holders), self.ops, forgotten)
        self.clients = [Client(name, len(a_plan.holders), self.ops) for name in ("one", "two")]
        self.nodes = {name: self._born(name, 1) for name in self.names}
        self.unrecovered: str | None = None
        self.cut_off: str | None = None
        self.is_calm = False
        for node in self.nodes.values():
            self.learn_table(node, self.meta.table)

    def _born(self, name: str, life: int) -> Node:
        me = Incarnation(name, self.meta.incarnation(name))
        return Node(me, life, self.plan.log_bytes, self.dice.randrange(-500, 500))

    def run(self) -> Counter[str]:
        """Play the storm."""
        actions = {
            plan.WRITE: self._write,
            plan.DELIVER: self._deliver,
            plan.TURN: self._turn_of_somebody,
            plan.LEARN: self._learn,
            plan.READ: self._read,
            plan.FENCE: self._fence,
            plan.CRASH: self._crash,
            plan.CUT: self._cut,
            plan.CLOSE: self._close_session,
            plan.AUDIT: self.audit,
        }
        weights = self.plan.weights
        for name in self.dice.choices(list(weights), list(weights.values()), k=self.plan.steps):
            actions[name]()
        self.audit()
        return self.counts

    def happened(self, text: str) -> None:
        if self.trace is not None:
            self.trace.add(self.now_s, text)

    def _somebody(self) -> Node:
        return self.nodes[self.dice.choice(self.names)]

    # -- nodes --------------------------------------------------------------------------------------------------------

    def turn(self, node: Node) -> None:
        """Let a node do what time asks for, and send what it has to say."""
        now = node.at(self.now_s)
        node.holdings.tick(now)
        self._look_at(node)
        for target, message in node.holdings.drain(now):
            self.send(Packet(node.me, target, message))
        if node.asked is None:
            node.asked = node.holdings.petition.take()
            again = 1.0
        else:
            again = 0.1
        if node.asked is not None and self.dice.random() < again:
            self.send(Packet(node.me, META, Ask(*node.asked)))

    def _turn_of_somebody(self) -> None:
        self.now_s += self.dice.expovariate(1 / self.plan.pace_s)
        node = self._somebody()
        if node.is_up:
            self.turn(node)

    def _look_at(self, node: Node) -> None:
        """See what a node has committed, and give its answers to clients."""
        answered = dict(node.seen)
        self.ledger.check_commits(node.holdings, node.seen)
        for replica, ticket, _, result in node.holdings.take_committed():
            seq = answered[replica.partition] = answered.get(replica.partition, 0) + 1
            self.ledger.check_result(replica, seq, result)
            self.counts["commits"] += 1
            if ticket is not None:
                self._answer(node, ticket, result)
        confirmed, refused = node.holdings.confirming.take()
        for read in confirmed:
            self._answer_read(node, read)
        self.counts["reads refused"] += len(refused)

    def _answer(self, node: Node, request: Request, result: Any) -> None:
        front_door.on_result(node.remembered, request, result)
        if self.dice.random() < 0.7:
            request.client.on_reply(request, result)
            self.counts["answers"] += 1

    def learn_table(self, node: Node, table: Table) -> None:
        """Let a node go by a newer table."""
        self.happened(f"{node.me.name} learns table {table.version}")
        for _, tickets in node.learn(table, node.at(self.now_s)):
            self.counts["undecided"] += len(tickets)
        for replica in node.holdings.replicas.values():
            self.ledger.check_leader(replica)
        self._look_at(node)

    def _learn(self) -> None:
        node = self._somebody()
        known = node.table.version if node.table is not None else 0
        tables = [table for table in self.tables if table.version > known and _knows(table, node.me)]
        if node.is_up and tables:
            self.learn_table(node, self.dice.choice(tables))

    # -- messages -----------------------------------------------------------------------------------------------------

    def send(self, packet: Packet) -> None:
        """Put a message on its way; of too many the oldest are lost, if anything may be."""
        self.net.append(packet)
        if len(self.net) > _NET_MAX and not self.is_calm:
            del self.net[0]

    def calm(self) -> None:
        """Lose and leave nothing any more."""
        self.is_calm, self.cut_off = True, None

    def _deliver(self) -> None:
        self.now_s += self.dice.expovariate(4 / self.plan.pace_s)
        count = len(self.net)
        if not count:
            return
        random = self.dice.random
        oldest = 0 if random() < 0.1 else max(0, count - _NEAR)
        at = self.dice.randrange(oldest, count)
        packet = self.net[at]
        if self.plan.is_fifo:
            at = next(i for i, p in enumerate(self.net) if p.source == packet.source and p.target == packet.target)
            packet = self.net[at]
        if random() >= self.plan.duplicates:
            del self.net[at]
        if random() >= self.plan.loss and not self._is_cut(packet):
            self.arrive(packet)

    def _is_cut(self, packet: Packet) -> bool:
        """Say whether a message passes between somebody who is cut off and the others; clients reach everybody."""
        source, target, _ = packet
        return source is not None and self.cut_off in (source.name, target.name)

    def _cut(self) -> None:
        """Cut somebody off from all others, or end that."""
        self.cut_off = self.dice.choice(self.names) if self.cut_off is None else None
        self.counts["cuts"] += self.cut_off is not None
        self.happened(f"{self.cut_off or 'nobody'} is cut off")

    def arrive(self, packet: Packet) -> None:
        """Let a message arrive, if there is still somebody whom it is for."""
        source, target, content = packet
        if self.trace is not None:
            name = source.name if source is not None else "client"
            self.happened(f"{name} > {target.name}@{target.number} {described(content)}")
        if target is META:
            assert source is not None
            self._decide(source, content)
            return
        node = self.nodes[target.name]
        if not node.is_up or (source is not None and node.me != target):
            return
        if source is None:
            self._on_request(node, content)
        elif type(content) is Answer:
            if node.asked is not None and node.asked.number == content.number:
                node.asked = None
                node.holdings.on_answer(content.number, content.version, node.at(self.now_s))
        else:
            node.holdings.receive(content, source, node.at(self.now_s))
            self.counts[type(content).__name__] += 1
        self._look_at(node)
        if self.is_calm or self.dice.random() < self.plan.turn_after:
            self.turn(node)

    # -- clients ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        client = self.dice.choice(self.clients)
        partition = self.dice.choice(self.partitions)
        request = client.attempt(partition, self.dice)
        leader = self.meta.row(partition).leader
        name = leader if leader is not None and self.dice.random() < 0.6 else self.dice.choice(self.names)
        self.send(Packet(None, Incarnation(name, 0), request))

    def _on_request(self, node: Node, request: Request) -> None:
        replica = node.holdings.replicas.get(request.partition)
        leading = replica.leading if replica is not None else None
        if replica is None or leading is None or not replica.is_ready or not leading.can_commit:
            return  # refused, and tried again by its client
        known = front_door.known_reply(node.remembered, replica, request)
        if known is not front_door.NOTHING:
            if known is not front_door.SILENCE:
                request.client.on_reply(request, known)
            return
        origin = (request.session, request.number, request.floor)
        node.holdings.propose(replica, request, origin, request.command, node.at(self.now_s).unix_ms)

    def _close_session(self) -> None:
        """Let a leader find a session idle for too long."""
        node = self._somebody()
        for replica in node.holdings.replicas.values() if node.is_up else ():
            if replica.is_ready and replica.engine.sessions.windows:
                session, window = self.dice.choice(list(replica.engine.sessions.windows.items()))
                command = (CLOSE_SESSION, session, window.highest)
                node.holdings.propose(replica, None, (0, 0, 0), command, node.at(self.now_s).unix_ms)

    def _read(self) -> None:
        """Let a leader without a lease be asked for something: the other copies have to confirm that it is one."""
        node = self._somebody()
        for replica in node.holdings.replicas.values() if node.is_up else ():
            leading = replica.leading
            if leading is None or not replica.is_ready or not leading.can_commit:
                continue
            read = Read(replica, self.ledger.acknowledged(replica.partition))
            if leading.must_have:
                node.holdings.confirm(replica, read)
            else:
                self._answer_read(node, read)
        self._look_at(node)

    def _answer_read(self, node: Node, read: Read) -> None:
        if read.replica.is_ready:
            self.counts["reads"] += 1
            self.ledger.check_read(read.replica, read.acknowledged)
            read.replica.read((GET, SHARED), node.at(self.now_s).unix_ms)

    # -- the meta group -----------------------------------------------------------------------------------------------

    def _decide(self, source: Incarnation, ask: Ask) -> None:
        code = commands.HANDOVER if ask.is_handover else commands.ALTER_ISR
        result = self.do(code, source.name, source.number, ask.number, ask.changes)
        if result == Outcome.DONE:
            self.counts["in-sync sets asked for"] += 1
        self.send(Packet(META, source, Answer(ask.number, self.meta.state.version)))

    def do(self, *command: Any) -> Outcome:
        """Apply a command at once, and look at what it did."""
        result = self.meta.do(*command)
        table = self.meta.table
        if table is not self.tables[-1]:
            before = self.tables[-1]
            self.tables = [*self.tables[1 - _TABLES_KEPT :], table]
            for old, new in zip(before.partitions, table.partitions, strict=True):
                self.counts["elections"] += new.epoch > old.epoch and new.leader is not None
                self.counts["in-sync changes"] += new.in_sync != old.in_sync
            if self.trace is not None:
                rows = ", ".join(self.meta.shown(partition) for partition in self.partitions)
                self.happened(f"table {table.version} by {commands.NAMES[command[0]]} {command[1]}: {rows}")
            self.check_candidates()
        return result.outcome

    def check_candidates(self) -> None:
        alive = {node.me: node.holdings for node in self.nodes.values() if node.is_up}
        self.ledger.check_candidates(self.meta.table, alive)

    def _fence(self) -> None:
        """Fence somebody, dead or not, or take back who is alive after all."""
        fenced = [row.name for row in self.meta.table.nodes if row.status != ALIVE]
        leader = self.meta.row(self.dice.choice(self.partitions)).leader
        whom = leader if leader is not None and self.dice.random() < 0.3 else self.dice.choice(self.names)
        name = self.dice.choice(fenced) if fenced and self.dice.random() < 0.75 else whom
        if name not in fenced:
            self.counts["fences"] += 1
            self.meta_fence(name)
        elif self.nodes[name].is_up:
            self.do(commands.UNFENCE, name, self.meta.incarnation(name))

    def meta_fence(self, name: str) -> None:
        self.do(commands.FENCE, name, self.meta.incarnation(name))

    def _crash(self) -> None:
        node = self._somebody()
        if not node.is_up:
            self.restart(node)
        elif self._may_crash(node) and node.life < _LIVES_MAX:
            self.counts["crashes"] += 1
            self.happened(f"{node.me.name} crashes")
            node.is_up = False
            self.unrecovered = node.me.name

    def _may_crash(self, node: Node) -> bool:
        """Say whether nobody else is on the way back: what crashed counts again when it is in sync everywhere."""
        if self.unrecovered is None or self.unrecovered == node.me.name:
            return True
        other = self.nodes[self.unrecovered]
        rows = [row for row in self.meta.table.partitions if other.me.name in row.replicas]
        return other.is_up and all(other.me in row.in_sync for row in rows)

    def restart(self, node: Node) -> None:
        """Bring a node back, with nothing, as another life."""
        name, life = node.me.name, node.life + 1
        row = self.meta.table.node(name)
        assert row is not None
        if row.status == ALIVE:
            self.meta_fence(name)
        self.do(commands.REGISTER, front_door.registration(name, life))
        self.nodes[name] = self._born(name, life)
        self.happened(f"{name} is back as {self.nodes[name].me}")
        require(self.nodes[name].me != node.me, "one incarnation per life", f"{name} is {node.me} again")

    # -- audits -------------------------------------------------------------------------------------------------------

    def audit(self) -> None:
        """Look at everything that is to hold at any time."""
        self.check_candidates()
        for node in self.nodes.values():
            for replica in node.holdings.replicas.values() if node.is_up else ():
                self.ledger.check_state(replica)


def _knows(table: Table, me: Incarnation) -> bool:
    row = table.node(me.name)
    return row is not None and row.incarnation == me.number
