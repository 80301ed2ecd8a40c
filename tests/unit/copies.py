"""Copies of partitions on a few nodes, for tests: rows of a table and messages reach whom the test lets them reach."""

from gimmal.replication.holdings import Holdings
from gimmal.replication.replica import Replica
from gimmal.replication.view import View
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation, Instant
from gimmal.wire import commands
from gimmal.wire.peer_messages import PeerMessage

Packet = tuple[Incarnation, Incarnation, PeerMessage]


def life(name: str, number: int = 1) -> Incarnation:
    return Incarnation(name, number)


def members(names: str) -> tuple[Incarnation, ...]:
    return tuple(map(life, names))


def view(epoch: int, version: int, leader: str, in_sync: str, holders: str = "abc", least: int = 2) -> View:
    """The row of a partition; all its nodes are in their first life."""
    return View(epoch, version, life(leader) if leader else None, members(holders), members(in_sync), least)


class Copies:
    """Nodes `names`, each with copies, and what is on its way between them."""

    def __init__(self, names: str = "abc", log_bytes: int = 1 << 20) -> None:
        self.holdings = {name: Holdings(life(name), Footprint(), log_bytes) for name in names}
        self.net: list[Packet] = []
        self.now_s = 0.0

    @property
    def now(self) -> Instant:
        return Instant(self.now_s, int(self.now_s * 1000))

    def replica(self, name: str, partition: int = 0) -> Replica:
        return self.holdings[name].replicas[partition]

    def see(self, row: View, names: str = "", partition: int = 0) -> None:
        """Show a row to nodes, to all if none is named; its version stands for that of the table."""
        for name in names or self.holdings:
            self.holdings[name].see(partition, row, self.now)
            self.holdings[name].on_table(row.version, self.now)

    def write(self, name: str, count: int = 1, partition: int = 0) -> None:
        """Let a leader append entries."""
        for number in range(count):
            command = (commands.INCR, b"%d" % number, 1)
            holdings = self.holdings[name]
            holdings.propose(holdings.replicas[partition], None, (0, 0, 0), command, self.now.unix_ms)

    def turn(self, name: str) -> list[Packet]:
        """Let a node have a turn, and return what it sends."""
        holdings = self.holdings[name]
        holdings.tick(self.now)
        sent = [(life(name), target, message) for target, message in holdings.drain(self.now)]
        self.net += sent
        return sent

    def deliver(self, packet: Packet) -> None:
        source, target, message = packet
        self.holdings[target.name].receive(message, source, self.now)

    def settle(self, seconds: float = 0.0) -> None:
        """Let everything arrive, and time pass for so long."""
        until_s = self.now_s + seconds
        while True:
            for name in self.holdings:
                self.turn(name)
            if self.net:
                net, self.net = self.net, []
                for packet in net:
                    self.deliver(packet)
            elif self.now_s >= until_s:
                return
            else:
                self.now_s += 0.05
