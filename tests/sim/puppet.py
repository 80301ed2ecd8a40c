"""A process whose every belief is pulled by a string: what the tests of the checkers show to them."""

from collections.abc import Sequence

from gimmal.cluster.table import ALIVE, Addresses, NodeRow, PartitionRow, Table
from gimmal.types import Entry as DataEntry
from gimmal.types import Incarnation
from tests.sim.clocks import HostClock
from tests.sim.host import Host, Settings
from tests.sim.subject import NOBODY, CopyState, Entry, Identity, RaftState

CLUSTER = bytes(range(16))


class Puppet:
    """A watch over nothing. `log` are the entries behind `compacted`, an (index, term)."""

    def __init__(self, name: str, group: str = "home") -> None:
        self.voter = f"{name}/1"
        self.term, self.leads, self.commit = 1, False, 0
        self.compacted = (0, 0)
        self.log: list[Entry] = []
        self.who = Identity(CLUSTER, 0)
        self.lease_until = 0.0
        self.stopped: int | None = None
        self.shown: Table | None = None
        self.held: dict[int, CopyState] = {}
        self.copied: dict[int, list[DataEntry]] = {}
        self.digests: dict[int, bytes] = {}
        self.voting: tuple[str, ...] = ("n1/1", "n2/1", "n3/1")
        settings = Settings(name, f"{name}.sim:7701", (), 3, is_durable=False)
        self.host = Host(settings, HostClock(0.0, 0, 1.0), group=group)
        self.host.watch = self
        self.host.core = object()  # type: ignore[assignment]
        self.host.voter = self.voter
        self.host.uuid = name.encode().ljust(16)
        self.host.life = 1

    def compact(self) -> None:
        """Drop the first entry of the log."""
        self.compacted = (self.compacted[0] + 1, self.log[0][0])
        self.log = self.log[1:]

    def identity(self) -> Identity:
        return self.who

    def table(self) -> Table | None:
        return self.shown

    def raft(self) -> RaftState | None:
        last_term = self.log[-1][0] if self.log else self.compacted[1]
        return RaftState(self.term, self.leads, self.commit, self.compacted[0] + len(self.log), last_term)

    def base(self) -> tuple[int, int]:
        return self.compacted

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        return self.log[first - self.compacted[0] - 1 : last - self.compacted[0]]

    def voters(self) -> tuple[str, ...]:
        return self.voting

    def learners(self) -> tuple[str, ...]:
        return ()

    def has_lease(self, seconds: float) -> bool:
        return seconds < self.lease_until

    def serves(self, partition: int) -> bool:
        return self.stopped is not partition

    def copies(self) -> Sequence[CopyState]:
        return list(self.held.values())

    def copy_base(self, partition: int) -> tuple[int, int]:
        return 0, 0

    def copy_epoch_at(self, partition: int, seq: int) -> int | None:
        entries = self.copied[partition]
        return entries[seq - 1][0] if 0 < seq <= len(entries) else None if seq else 0

    def copy_entries(self, partition: int, first: int, last: int) -> Sequence[DataEntry]:
        return self.copied[partition][first - 1 : last]

    def copy_digest(self, partition: int) -> bytes:
        return self.digests.get(partition, b"")

    def happenings(self) -> dict[str, int]:
        return {}


def stranger(name: str) -> Puppet:
    """A puppet that belongs to no cluster."""
    puppet = Puppet(name)
    puppet.who = NOBODY
    return puppet


def node_row(name: str, incarnation: int = 1, uuid: bytes = b"", status: str = ALIVE) -> NodeRow:
    networks = (("default", Addresses(f"{name}:1", f"{name}:2")),)
    uuid = uuid or name.encode().ljust(16)
    return NodeRow(name, incarnation, uuid, f"{name}/1", "", 1, status, f"{name}.sim:7701", networks, incarnation)


def partition_row(leader: str, epoch: int = 1, version: int = 1) -> PartitionRow:
    return PartitionRow(leader, epoch, version, ("n1", "n2"), (Incarnation(leader, 1),))


def table(version: int, nodes: Sequence[NodeRow] = (), partitions: Sequence[PartitionRow] = ()) -> Table:
    nodes = nodes or [node_row("n1"), node_row("n2"), node_row("n3")]
    partitions = partitions or [partition_row("n1")]
    return Table(CLUSTER, version, ("n1/1",), tuple(nodes), tuple(partitions))
