"""Sessions and nodes over a network that is only a list: time is a number, and every fault is a choice.

A `World` holds the data planes of real nodes, which go by the table that the test gives them, and any number of
`End`s, each a real `Session` with sockets that exist in name only. Every message passes the codec. Tests say what
happens to messages with `World.fate`, cut connections with `World.unplug`, and let time pass with `World.run`.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, TypeVar

from gimmal.client.calls import Call
from gimmal.client.commands import Commands
from gimmal.client.session import Session
from gimmal.client.values import Values
from gimmal.cluster.table import Table
from gimmal.errors import GimmalError, RemoteProtocolError
from gimmal.leader.memory import MemoryLimits
from gimmal.node.data_plane import DataPlane
from gimmal.types import Instant, Operation
from gimmal.wire.codec import decode, frames
from gimmal.wire.kinds import TO_CLIENTS
from gimmal.wire.messages import Message, Refusal, Reply, Request
from tests.unit.tables import StaticNode, static_table

T = TypeVar("T")

CLUSTER = bytes(range(16))
PARTITIONS = 64
STEPS_MAX = 200_000
DROP = None
EPOCH_MS = 1_700_000_000_000

Fate = Callable[[str, Message], "float | None"]
"""(node's address, message) -> seconds on the way, or DROP."""


def only_towards(kind: type[Message], delay: float | None) -> Fate:
    """The fate of messages when one kind of them is delayed, or dropped."""
    return lambda address, message: delay if type(message) is kind else 0.001


def three_nodes(partitions: int = PARTITIONS, cluster: bytes = CLUSTER) -> Table:
    rows = [StaticNode(f"n{i}", f"h{i}:1", f"h{i}:2", f"h{i}:3") for i in (1, 2, 3)]
    return static_table(cluster, rows, partitions)


@dataclass
class Outcome:
    """One call of a test: what became of it, how often it ended, and when."""

    call: Call[Any]
    started_at: float
    ended_at: list[float] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return bool(self.ended_at)

    def result(self) -> Any:
        assert len(self.ended_at) == 1, f"the call ended {len(self.ended_at)} times"
        return self.call.outcome()

    def error(self) -> GimmalError:
        try:
            result = self.result()
        except GimmalError as error:
            return error
        raise AssertionError(f"expected an error, got {result!r}")


class End:
    """A client: a session, and what its shell would remember."""

    def __init__(self, world: "World", number: int, seeds: list[str], network: str | None) -> None:
        self.world = world
        self.identity = f"client{number}".encode()
        self.session = Session(seeds, network, world.dice, world.now)
        self.requests: list[tuple[str, Message]] = []
        self.outcomes: dict[Call[Any], Outcome] = {}
        self.bad_messages = 0
        self._links: object = None

    def call(self, build: Callable[..., Call[T]], *arguments: Any, timeout: float = 5.0) -> Outcome:
        """Start a call; it leaves with the next `World.run` or `flush`."""
        call = build(self.world.commands, *arguments)
        outcome = self.outcomes[call] = Outcome(call, self.world.now)
        self.session.start(call, timeout, self.world.now)
        return outcome

    def get_any(self, key: str, timeout: float = 5.0) -> Outcome:
        return self.call(Commands.get, key, None, "any", timeout=timeout)

    def get(self, key: str, timeout: float = 5.0) -> Outcome:
        return self.call(Commands.get, key, None, "linearizable", timeout=timeout)

    def incr(self, key: str, timeout: float = 5.0) -> Outcome:
        return self.call(Commands.incr, key, 1, timeout=timeout)

    def look(self, timeout: float = 5.0) -> Outcome:
        """Ask for the cluster as a node knows it now."""
        return self.call(lambda commands: Call.of_onlooker(), timeout=timeout)

    def finished(self, calls: list[Call[Any]]) -> None:
        for call in calls:
            self.outcomes[call].ended_at.append(self.world.now)

    def flush(self) -> None:
        self.look_for_ready()
        for address, message in self.session.drain():
            for part, frame in frames(message):
                if address in self.world.unplugged:
                    self.session.on_blocked(address, part)
                else:
                    self.requests.append((address, part))
                    self.world.send(address, self, frame, is_to_node=True)

    def look_for_ready(self) -> None:
        for address, link in self.session.links.items():
            if not link.is_ready and address not in self.world.unplugged:
                self.session.on_ready(address)

    def receive(self, address: str, frame: bytes) -> None:
        try:
            self.finished(self.session.receive(address, decode(frame, TO_CLIENTS), self.world.now))
        except RemoteProtocolError:
            self.bad_messages += 1

    def sent(self, kind: type[Message], since: int = 0) -> list[Any]:
        return [message for _, message in self.requests[since:] if type(message) is kind]

    def operations(self, code: int) -> list[tuple[str, Operation]]:
        """All operations of one kind that were sent, each with the address it went to."""
        return [
            (address, operation)
            for address, message in self.requests
            if isinstance(message, Request)
            for operation in message.operations
            if operation[5][0] == code
        ]


class World:
    """Nodes, clients, the messages between them, and the time."""

    def __init__(self, seed: int = 1, table: Table | None = None) -> None:
        self.now = 1_000.0
        self.dice = random.Random(seed)
        self.table = table or three_nodes()
        self.commands = Commands(len(self.table.partitions), Values())
        self.ends: list[End] = []
        self.unplugged: set[str] = set()
        self.held: list[Callable[[], None]] | None = None
        self.answered: Counter[tuple[bytes, int]] = Counter()
        self.received: Counter[tuple[bytes, int]] = Counter()
        self.refuse: Callable[[int], Refusal | None] = lambda number: None
        self.fate: Fate = lambda address, message: 0.001
        self._on_the_way: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self.cores: dict[str, DataPlane] = {}
        self.become(self.table)

    def become(self, table: Table, names: tuple[str, ...] | None = None) -> None:
        """Let nodes (all by default) go over to another table; what they stored is gone."""
        self.table = table
        for row in table.nodes:
            if names is None or row.name in names:
                core = DataPlane(row.name, MemoryLimits(), self.dice, self.instant())
                core.on_lease(inf)
                core.adopt(table, row.incarnation, self.instant())
                self.cores[row.networks[0][1].client] = core

    def instant(self) -> Instant:
        return Instant(self.now, EPOCH_MS + int(self.now * 1000))

    def connect(self, seeds: list[str] | None = None, network: str | None = None) -> End:
        """A client that has its table."""
        end = self.join(seeds, network)
        self.run(1.0)
        assert end.session.table is not None
        end.requests.clear()
        return end

    def writer(self, seeds: list[str] | None = None) -> End:
        """A client that has its table, and a session in every partition."""
        end = self.connect(seeds)
        key_by_partition = {
            self.partition(key): key for key in map("w{}".format, range(40 * len(self.table.partitions)))
        }
        end.call(Commands.delete_many, list(key_by_partition.values()))
        self.run(1.0)
        assert end.session.counters["sessions_opened"] == len(self.table.partitions)
        self.received.clear()
        end.requests.clear()
        end.session.counters.clear()
        return end

    def join(self, seeds: list[str] | None = None, network: str | None = None) -> End:
        """A client that has not asked for a table yet."""
        end = End(self, len(self.ends), seeds or ["h1:1"], network)
        self.ends.append(end)
        return end

    def owner(self, key: str) -> str:
        """The address of the node that leads a key."""
        ((partition, _),) = self.commands.delete(key).parts
        leader = self.table.partitions[partition].leader
        row = self.table.node(leader or "")
        assert row is not None
        return row.networks[0][1].client

    def partition(self, key: str) -> int:
        ((partition, _),) = self.commands.delete(key).parts
        return partition

    def keys_of(self, address: str, count: int) -> list[str]:
        """Keys that the node at an address leads."""
        found = (key for key in map("k{}".format, range(100_000)) if self.owner(key) == address)
        return [next(found) for _ in range(count)]

    # -- messages -----------------------------------------------------------------------------------------

    def send(self, address: str, end: End, frame: bytes, *, is_to_node: bool) -> None:
        delay = self.fate(address, decode(frame))
        if delay is not DROP:
            deliver = self._deliver_to_node if is_to_node else self._deliver_to_client
            self.post(delay, lambda: deliver(address, end, frame))

    def post(self, delay: float, action: Callable[[], None]) -> None:
        """Let something happen later."""
        self._sequence += 1
        heapq.heappush(self._on_the_way, (self.now + delay, self._sequence, action))

    def _deliver_to_client(self, address: str, end: End, frame: bytes) -> None:
        end.receive(address, frame)
        end.flush()

    def _deliver_to_node(self, address: str, end: End, frame: bytes) -> None:
        message = decode(frame)
        core = self.cores.get(address)
        if core is None:
            return
        if isinstance(message, Request):
            message = self._refuse_some(core, address, end, message)
        core.receive(end.identity, message, self.instant())
        self.settle(address, core)

    def settle(self, address: str, core: DataPlane) -> None:
        """Send what a node has to say."""
        for identity, answer in core.drain():
            if isinstance(answer, Reply):
                self.answered.update((identity, number) for number in answer.numbers)
            end = next(end for end in self.ends if end.identity == identity)
            for _, part in frames(answer):
                self.send(address, end, part, is_to_node=False)

    def node_deadline(self) -> float:
        """When a node is to be ticked; here, where each is alone, none needs it."""
        return float("inf")

    def tick_nodes(self) -> None:
        """Tick the nodes whose time has come."""

    def _refuse_some(self, core: DataPlane, address: str, end: End, request: Request) -> Request:
        """Refuse what the test wants refused; return the rest of the request."""
        self.received.update((end.identity, operation[0]) for operation in request.operations)
        refused = [(op[0], refusal, "full") for op in request.operations if (refusal := self.refuse(op[0]))]
        if refused:
            for _, frame in frames(Reply(*core.header(), 0, (), (), tuple(refused))):
                self.send(address, end, frame, is_to_node=False)
        numbers = {number for number, _, _ in refused}
        return replace(request, operations=tuple(op for op in request.operations if op[0] not in numbers))

    # -- time ---------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it."""
        until = self.now + seconds
        for end in self.ends:
            end.flush()
        for _ in range(STEPS_MAX):
            due = [(max(self.now, end.session.next_deadline()), index) for index, end in enumerate(self.ends)]
            tick_at, index = min(due, default=(float("inf"), 0))
            arrives_at = self._on_the_way[0][0] if self._on_the_way else float("inf")
            at = min(tick_at, arrives_at, self.node_deadline())
            if at > until:
                self.now = until
                return
            self.now = at
            if arrives_at <= at:
                heapq.heappop(self._on_the_way)[2]()
            elif tick_at > at:
                self.tick_nodes()
            else:
                end = self.ends[index]
                end.finished(end.session.tick(self.now))
                end.flush()
        raise AssertionError(f"{STEPS_MAX} steps in {seconds} seconds: something asks for ticks for ever")
