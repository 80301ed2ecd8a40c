"""Three nodes with three copies of everything, over the network that is only a list: real replication, scripted tables.

A `Trio` is a `World` whose nodes keep what they have when the table changes, and talk to each other. There is no meta
group: who leads what, and who is declared dead, the test decides (`led_by`, `without`), and each node learns it when
the test says so (`become`). In-sync sets change only with that.
"""

from dataclasses import replace
from math import inf

from gimmal.cluster.table import FENCED, Table
from gimmal.leader.memory import MemoryLimits
from gimmal.node.data_plane import DataPlane
from gimmal.store.kv import VERSION_BYTES
from gimmal.types import Incarnation
from gimmal.wire import commands, limits
from gimmal.wire.codec import decode, encode, integer_of
from gimmal.wire.peer_messages import PeerMessage
from tests.unit.fake_network import PARTITIONS, End, World, three_nodes

PEER_DELAY_S = 0.0005


def three_copies(partitions: int = PARTITIONS) -> Table:
    table = three_nodes(partitions)
    members = tuple(Incarnation(row.name, row.incarnation) for row in table.nodes)
    names = tuple(member.name for member in members)
    rows = tuple(row._replace(replicas=names, in_sync=members) for row in table.partitions)
    return replace(table, partitions=rows)


class Trio(World):
    """Three nodes, each partition on all of them."""

    def __init__(self, seed: int = 1, table: Table | None = None) -> None:
        self.cut: set[str] = set()  # addresses of nodes that neither hear other nodes nor are heard
        super().__init__(seed, table or three_copies())
        self.run(0.1)  # every leader's no-op commits

    def become(self, table: Table, names: tuple[str, ...] | None = None) -> None:
        """Let nodes (all by default) go over to a newer table, with what they have."""
        if table.version >= self.table.version:
            self.table = table
        for row in table.nodes:
            address = row.networks[0][1].client
            if names is None or row.name in names:
                core = self.cores.get(address)
                if core is None:
                    core = self.cores[address] = DataPlane(row.name, MemoryLimits(), self.dice, self.instant())
                    core.on_lease(inf)  # reads are confirmed by other copies elsewhere
                if core.table is None or core.table.version < table.version:
                    core.adopt(table, row.incarnation, self.instant())
                    self.settle(address, core)

    # -- what the meta group would decide -----------------------------------------------------------------

    def led_by(self, leaders: dict[int, str]) -> Table:
        """The next table, with other leaders out of the in-sync sets."""
        version = self.table.version + 1
        rows = list(self.table.partitions)
        for partition, name in leaders.items():
            row = rows[partition]
            assert name in [member.name for member in row.in_sync]
            rows[partition] = row._replace(
                leader=name, epoch=row.epoch + 1, version=row.version + 1, changed_at=version
            )
        return replace(self.table, version=version, partitions=tuple(rows))

    def without(self, name: str) -> Table:
        """The next table, in which a node is declared dead."""
        version = self.table.version + 1
        rows = list(self.table.partitions)
        for partition, row in enumerate(rows):
            in_sync = tuple(member for member in row.in_sync if member.name != name)
            leader, epoch = row.leader, row.epoch
            if leader == name:
                leader, epoch = in_sync[partition % len(in_sync)].name, epoch + 1
            rows[partition] = row._replace(
                leader=leader, epoch=epoch, version=row.version + 1, in_sync=in_sync, changed_at=version
            )
        nodes = [
            row._replace(status=FENCED, changed_at=version) if row.name == name else row for row in self.table.nodes
        ]
        return replace(self.table, version=version, partitions=tuple(rows), nodes=tuple(nodes))

    def kill(self, name: str, noticed_after_s: float = 0.3) -> None:
        """Let a node end, and the others and nobody else hear of it after a while."""
        address = next(row.networks[0][1].client for row in self.table.nodes if row.name == name)
        del self.cores[address]
        others = tuple(row.name for row in self.table.nodes if row.name != name)
        self.post(noticed_after_s, lambda: self.become(self.without(name), others))

    def close_sessions(self, key: str) -> None:
        """Let the leader of a key close all sessions of its partition, as after a long silence."""
        core = self.cores[self.owner(key)]
        replica = core.serving.holdings.replicas[self.partition(key)]
        if replica.is_ready:
            for session, number in list(replica.engine.sessions.idle_since(limits.INTEGER_MAX)):
                command = (commands.CLOSE_SESSION, session, number)
                core.serving.holdings.propose(replica, None, (0, 0, 0), command, self.instant().unix_ms)
            self.settle(self.owner(key), core)

    # -- between nodes ------------------------------------------------------------------------------------

    def settle(self, address: str, core: DataPlane) -> None:
        super().settle(address, core)
        core.take_request()  # there is nobody to ask
        for member, message in core.drain_for_nodes(self.instant()):
            message.cluster, message.source, message.sender = self.table.cluster, core.incarnation, core.name
            self._send_to_node(address, member, encode(message))

    def _send_to_node(self, address: str, member: Incarnation, frame: bytes) -> None:
        to = next(row.networks[0][1].client for row in self.table.nodes if row.name == member.name)

        def deliver() -> None:
            core = self.cores.get(to)
            if core is not None and not self.cut & {address, to}:
                message = decode(frame)
                assert isinstance(message, PeerMessage)
                core.receive_from_node(message, self.instant())
                self.settle(to, core)

        self.post(PEER_DELAY_S, deliver)

    def node_deadline(self) -> float:
        return max(self.now, min((core.next_deadline() for core in self.cores.values()), default=float("inf")))

    def tick_nodes(self) -> None:
        for address, core in list(self.cores.items()):
            if core.next_deadline() <= self.now:
                core.tick(self.instant())
                self.settle(address, core)

    # -- what is there in the end -------------------------------------------------------------------------

    def value(self, key: str) -> int:
        """The counter that the leader of a key has committed; 0 if there is none."""
        replica = self.cores[self.owner(key)].serving.holdings.replicas[self.partition(key)]
        record = replica.engine.keys.records.get(key.encode())
        return integer_of(record[VERSION_BYTES:]) or 0 if record is not None else 0


def warmed(trio: Trio, *keys: str) -> End:
    """A client that has written each key once."""
    end = trio.connect()
    outcomes = [end.incr(key) for key in keys]
    trio.run(0.5)
    assert [outcome.result() for outcome in outcomes] == [1] * len(keys)
    end.requests.clear()
    return end
