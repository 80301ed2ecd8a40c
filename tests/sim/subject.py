"""What the simulator asks of the thing it tests: the verbs of a node's core, and a way to look inside.

The world drives a core by its verbs alone, as the real shell does. The checkers look at it through a `Watch`, made
once per life of a process; it reads, and changes nothing. Whoever changes how a node's insides are named changes
`tests.sim.node_subject`, and nothing else here.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from gimmal.cluster.table import Table
from gimmal.types import Entry as DataEntry
from gimmal.types import Instant
from gimmal.wire.messages import Message
from gimmal.wire.peer_messages import PeerMessage
from tests.sim.disk import Save

if TYPE_CHECKING:
    from tests.sim.host import Host

Entry: TypeAlias = tuple[int, int, Any]
"""(term, kind, payload) of an entry in the meta group's log."""


class Core(Protocol):
    """The verbs of `gimmal.node.core.NodeCore`."""

    def receive(self, peer: bytes, message: Message, now: Instant, /) -> None: ...
    def receive_from_node(self, message: PeerMessage, now: Instant, /) -> None: ...
    def on_refused(self, address: str, now: Instant, /) -> None: ...
    def tick(self, now: Instant, /) -> None: ...
    def next_deadline(self) -> float | None: ...
    def unsaved(self) -> Save | None: ...
    def on_saved(self, now: Instant, /) -> None: ...
    def drain(self) -> list[tuple[bytes, Message]]: ...
    def drain_for_nodes(self) -> list[tuple[str, PeerMessage]]: ...
    def complaints(self) -> Sequence[tuple[str, str]]: ...


class Identity(NamedTuple):
    """Of which cluster a process believes to be a member, and as which incarnation (0: not registered)."""

    cluster: bytes
    incarnation: int


class RaftState(NamedTuple):
    """Where a voter is in its group's history; `last_index` and `last_term` are those of its log's end."""

    term: int
    is_leader: bool
    commit: int
    last_index: int
    last_term: int


class CopyState(NamedTuple):
    """Where a copy of a partition is, held by incarnation `life` of its node; `log` is another one after a snapshot."""

    partition: int
    life: int
    epoch: int
    version: int
    is_leading: bool
    commit: int
    last: int
    last_epoch: int
    log: int


NOBODY = Identity(b"", 0)


class Watch(Protocol):
    """How the checkers see one process."""

    @property
    def voter(self) -> str:
        """The identity under which this process may vote."""
        ...

    def identity(self) -> Identity: ...

    def table(self) -> Table | None:
        """The newest table of this process; the same object as long as it is the same table."""
        ...

    def raft(self) -> RaftState | None:
        """None while this process takes no part in the meta group, not even with an empty log."""
        ...

    def base(self) -> tuple[int, int]:
        """(index, term) of the entry just before the first that the log still has."""
        ...

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        """Entries `first` to `last` of the log, which has them."""
        ...

    def voters(self) -> tuple[str, ...]:
        """Who votes, by the newest configuration in the log, committed or not."""
        ...

    def learners(self) -> tuple[str, ...]:
        """Who gets the log and does not vote yet, by that configuration."""
        ...

    def has_lease(self, seconds: float) -> bool:
        """Whether the process may answer for what it leads on its own word, when its clock shows so many seconds."""
        ...

    def serves(self, partition: int) -> bool:
        """Whether the process takes itself for the leader of a partition, and has not stopped to hand it over."""
        ...

    def copies(self) -> Sequence[CopyState]:
        """The copies of partitions that this process holds."""
        ...

    def copy_base(self, partition: int) -> tuple[int, int]:
        """(sequence number, epoch) of the entry just before the first that the log of a copy still has."""
        ...

    def copy_epoch_at(self, partition: int, seq: int) -> int | None:
        """The epoch of an entry in the log of a copy, or of its base; None for what is not there."""
        ...

    def copy_entries(self, partition: int, first: int, last: int) -> Sequence[DataEntry]:
        """Entries `first` to `last` of the log of a copy, which has them."""
        ...

    def copy_digest(self, partition: int) -> bytes:
        """The digest of a copy's state."""
        ...

    def happenings(self) -> dict[str, int]:
        """The process's own counters of things that cannot be seen from outside."""
        ...


Start: TypeAlias = "Callable[[Host, bytes, Random, Instant], tuple[Core, Watch]]"
"""(host, journal, dice, now) -> a new process: its core, and the watch over it."""
