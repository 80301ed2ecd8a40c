"""Data planes of a few nodes that hold copies of the same partitions, with a network that is a list.

planes = Planes()                       n1, n2 and n3; n1 leads everything, and all have heard of it
planes.ask("n1", set_(b"k"))            a client asks; `answers` holds what came back, by number
planes.settle()                         deliver until nothing is under way between nodes
planes.adopt(table, "n2")               n2 hears of a table; of the newest, if none is given
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

from gimmal.cluster.table import ALIVE, FENCED, PartitionRow, Table
from gimmal.hashing import key_slot, partition_of
from gimmal.leader.memory import MemoryLimits
from gimmal.node.data_plane import DataPlane
from gimmal.replication.replica import Replica
from gimmal.types import Command, Incarnation, Instant
from gimmal.wire import commands
from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import FROM_NODES
from gimmal.wire.messages import Refusal, Reply, Request
from gimmal.wire.peer_messages import PeerMessage
from tests.unit.tables import static_nodes, static_table

CLUSTER = bytes(range(16))
PARTITIONS = 4
START_MS = 1_700_000_000_000


class Planes:
    """Data planes by name. `answers` are results, or Refusals, by the number of the operation."""

    def __init__(self, *names: str, memory: MemoryLimits | None = None) -> None:
        names = names or ("n1", "n2", "n3")
        self.now = 5_000.0
        self.asked = 0
        self.answers: dict[int, Any] = {}
        self.in_flight: list[tuple[str, PeerMessage]] = []
        self.cuts: set[str] = set()
        table = static_table(CLUSTER, static_nodes(*names), PARTITIONS)
        self.lives = {row.name: Incarnation(row.name, row.incarnation) for row in table.nodes}
        row = PartitionRow(names[0], 1, 1, names, tuple(self.lives.values()))
        self.table = replace(table, partitions=(row,) * PARTITIONS)
        self.planes = {
            name: DataPlane(name, memory or MemoryLimits(), random.Random(1), self.instant()) for name in names
        }
        for plane in self.planes.values():
            plane.on_lease(inf)  # a test that wants another says so
        self.adopt()

    def __getitem__(self, name: str) -> DataPlane:
        return self.planes[name]

    def replica(self, name: str, key: bytes) -> Replica:
        return self.planes[name].serving.holdings.replicas[home((commands.GET, key))]

    def instant(self) -> Instant:
        return Instant(self.now, START_MS + int((self.now - 5_000.0) * 1000))

    # -- the table

    def change(self, **fields: Any) -> Table:
        """Write a newer table with other fields in all rows; an epoch is raised if another leads."""
        version = self.table.version + 1
        rows = [
            row._replace(
                **fields,
                epoch=row.epoch + ("leader" in fields),
                version=row.version + 1,
                changed_at=version,
            )
            for row in self.table.partitions
        ]
        self.table = replace(self.table, version=version, partitions=tuple(rows))
        return self.table

    def in_sync(self, *names: str) -> tuple[Incarnation, ...]:
        return tuple(self.lives[name] for name in names)

    def fence(self, name: str, status: str = FENCED) -> None:
        version = self.table.version + 1
        nodes = [
            row._replace(status=status, changed_at=version) if row.name == name else row for row in self.table.nodes
        ]
        self.table = replace(self.table, version=version, nodes=tuple(nodes))

    def unfence(self, name: str) -> None:
        self.fence(name, ALIVE)

    def adopt(self, *names: str) -> None:
        """Let nodes go by the newest table; all of them, unless some are named."""
        for name in names or tuple(self.planes):
            self.planes[name].adopt(self.table, self.lives[name].number, self.instant())
            self._collect(name)

    # -- clients

    def ask(self, name: str, *wanted: Command, epoch: int = 0, milliseconds_left: int = 5_000) -> list[int]:
        """Send operations in one request; return their numbers."""
        numbers = range(self.asked + 1, self.asked + len(wanted) + 1)
        self.asked += len(wanted)
        operations = tuple(
            (number, home(command), epoch, 0, 0, command) for number, command in zip(numbers, wanted, strict=True)
        )
        self.planes[name].receive(b"peer", Request(CLUSTER, 0, 0, 1, 0, milliseconds_left, operations), self.instant())
        self._collect(name)
        return list(numbers)

    def answered(self, name: str, *wanted: Command, epoch: int = 0) -> list[Any]:
        """Ask, let the nodes talk, and return the answers; None for what has none."""
        numbers = self.ask(name, *wanted, epoch=epoch)
        self.settle()
        return [self.answers.get(number, "nothing") for number in numbers]

    def _collect(self, name: str) -> None:
        for _, reply in self.planes[name].drain():
            assert isinstance(reply, Reply)
            self.answers |= dict(zip(reply.numbers, reply.results, strict=True))
            self.answers |= {number: Refusal(refusal) for number, refusal, _ in reply.refusals}

    # -- between nodes

    def flush(self) -> None:
        for name, plane in self.planes.items():
            for member, message in plane.drain_for_nodes(self.instant()):
                message.cluster, message.source, message.sender = CLUSTER, self.lives[name].number, name
                received = decode(encode(message), FROM_NODES)
                assert isinstance(received, PeerMessage)
                if not {name, member.name} & self.cuts:
                    self.in_flight.append((member.name, received))

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        while True:
            self.flush()
            letters, self.in_flight = self.in_flight, []
            if not letters:
                return
            for name, message in letters:
                self.planes[name].receive_from_node(message, self.instant())
                self._collect(name)

    def run(self, seconds: float) -> None:
        """Let time pass in steps of 50 ms; whatever is sent arrives at once."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 0.05, end)
            for name, plane in self.planes.items():
                plane.tick(self.instant())
                self._collect(name)
            self.settle()


def home(command: Command) -> int:
    keys: Sequence[bytes] = commands.keys_of(command)
    return partition_of(key_slot(keys[0]), PARTITIONS) if keys else 0
