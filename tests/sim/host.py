"""A simulated machine: an address, clocks, perhaps a disk, and at most one process at a time.

What belongs to the machine survives its processes; what belongs to a life is set anew by `World.start`.
"""

from dataclasses import dataclass, field
from typing import Final

from gimmal.cluster.table import Table
from gimmal.replication.holdings import LOG_BYTES
from tests.sim.clocks import HostClock
from tests.sim.disk import Disk
from tests.sim.network import Link
from tests.sim.subject import NOBODY, CopyState, Core, Identity, RaftState, Watch

NEVER: Final = float("inf")
HOME: Final = "home"
FOREIGN: Final = "foreign"


def client_address_of(address: str) -> str:
    """Where clients reach the node at a peer address."""
    return address.replace(":7701", ":7700")


@dataclass(slots=True)
class Settings:
    """How an operator starts the node, each time: its flags."""

    name: str
    address: str
    seeds: tuple[str, ...]
    expect: int  # 0: it never founds a cluster
    is_durable: bool
    zone: str = ""
    log_bytes: int = LOG_BYTES


@dataclass(slots=True)
class LogMemory:
    """What the checkers last saw of a voter's log: the terms of entries `first`, `first + 1` and so on."""

    first: int = 1
    base_term: int = 0
    terms: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.terms) - 1

    def term_at(self, index: int) -> int | None:
        """The term of the entry at an index, or None if it is compacted away or missing."""
        if index == self.first - 1:
            return self.base_term
        return self.terms[index - self.first] if self.first <= index <= self.last else None


@dataclass(slots=True, eq=False)
class Host:
    """One machine. `group` says to which founding it was meant to belong."""

    settings: Settings
    clock: HostClock
    group: str = HOME
    is_impostor: bool = False
    disk: Disk | None = None
    links: dict[str, Link] = field(default_factory=dict)
    life: int = 0
    retired: bool = False
    doomed_at: str = ""  # the point of its next write at which the process dies

    # One life:
    core: Core | None = None
    watch: Watch | None = None
    uuid: bytes = b""
    inbox: list[object] = field(default_factory=list)
    stopped_until: float = 0.0
    deadline: float = NEVER
    deadline_s: float = NEVER
    armed_at: float = NEVER

    # What the checkers have seen of it; kept while a machine with a disk is down, because its process will be back:
    identity: Identity = NOBODY
    table: Table | None = None
    voter: str = ""
    voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    raft: RaftState | None = None
    log: LogMemory = field(default_factory=LogMemory)
    copies: dict[int, CopyState] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def address(self) -> str:
        return self.settings.address

    @property
    def client_address(self) -> str:
        return client_address_of(self.settings.address)

    @property
    def is_up(self) -> bool:
        return self.core is not None

    @property
    def remembers(self) -> bool:
        """Whether its process may die and come back as the same voter."""
        return self.disk is not None and not self.disk.is_blank

    @property
    def can_return(self) -> bool:
        """Whether its vote is not lost: the process runs, or what it knew is on its disk."""
        return not self.retired and (self.core is not None or self.remembers)

    def forget(self) -> None:
        """Lose everything a process holds in memory, and what was seen of it."""
        self.identity, self.table, self.raft = NOBODY, None, None
        self.voter, self.voters, self.learners, self.log = "", (), (), LogMemory()
        self.copies = {}
