"""A cluster that is ruled by one node for ever: the least that the simulator can be tried on without the product.

The first of the seeds is the ruler: it keeps the product's own state machine and journals every command. Everybody else
registers with it, sends heartbeats, and gets the table as an answer. While the ruler is away nothing is decided.
"""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Registration
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.table import ALIVE, Addresses, Table
from gimmal.types import Entry as DataEntry
from gimmal.types import Instant
from gimmal.wire.codec import pack_tree, unpack_tree
from gimmal.wire.messages import Message
from gimmal.wire.peer_messages import Heartbeat, MetaReply, MetaRequest, PeerMessage, Rows
from tests.sim.subject import NOBODY, CopyState, Entry, Identity, RaftState

if TYPE_CHECKING:
    from tests.sim.host import Host

_EVERY_S: Final = 0.5
_FENCE_AFTER_S: Final = 2.0
_LENGTH_BYTES: Final = 4


class ToySave(NamedTuple):
    data: bytes
    replaces: bool = False


class ToyCore:
    """A node of that cluster. Its attributes are what `ToyWatch` shows."""

    def __init__(self, host: "Host", journal: bytes, dice: Random, now: Instant) -> None:
        settings = host.settings
        self.ruler = settings.seeds[0] if settings.seeds and not journal else settings.address
        self.rules = self.ruler == settings.address
        self.identity = NOBODY
        self.table: Table | None = None
        self.log: list[tuple[Any, ...]] = []
        addresses = (("default", Addresses(settings.address + "0", settings.address + "1")),)
        voter = f"{settings.name}/{host.uuid.hex() if not settings.is_durable else 'disk'}"
        self.me = Registration(settings.name, host.uuid, voter, settings.zone, 1, settings.address, addresses)
        self._state = MetaState()
        self._heard: dict[str, float] = {}
        self._unsaved = b""
        self._dice = dice
        self._outbox: list[tuple[str, PeerMessage]] = []
        self._beat_at = now.seconds + dice.uniform(0.0, _EVERY_S)
        self._complaints: list[tuple[str, str]] = []
        if self.rules:
            for command in _read(journal)[0]:
                self._apply(command)

    # -- the state of the ruler -------------------------------------------------------------------------------

    def _decide(self, command: tuple[Any, ...]) -> commands.Result:
        record = pack_tree(command)
        self._unsaved += len(record).to_bytes(_LENGTH_BYTES, "big") + record
        return self._apply(command)

    def _apply(self, command: tuple[Any, ...]) -> commands.Result:
        self.log.append(command)
        result = self._state.apply(len(self.log), command)
        table = self._state.table
        voters = tuple(row.voter for row in table.nodes if row.status == ALIVE) if table is not None else ()
        self._state.on_configuration(len(self.log), voters[: 3 if len(voters) > 2 else 1])
        self._adopt(self._state.table)
        return result

    def _row(self, name: str) -> Any:
        return self.table.node(name) if self.table is not None else None

    def _adopt(self, table: Table | None) -> None:
        if table is not None and (self.table is None or table.version > self.table.version):
            self.table = table
            row = table.node(self.me.name)
            if row is not None and row.uuid == self.me.uuid:
                self.identity = Identity(table.cluster, row.incarnation)

    # -- the verbs --------------------------------------------------------------------------------------------

    def receive(self, peer: bytes, message: Message, now: Instant) -> None:
        """Have nothing to say to clients."""

    def receive_from_node(self, message: PeerMessage, now: Instant) -> None:
        if message.cluster and self.identity.cluster and message.cluster != self.identity.cluster:
            self._complaints.append(("warning", f"{message.sender} is of another cluster"))
        elif isinstance(message, MetaRequest) and self.rules and self.identity.incarnation:
            result = self._decide(message.command)
            if message.command[0] == commands.REGISTER:
                member = commands.read_registration(message.command[1])
                reply = MetaReply(*self._header(), message.number, int(result.outcome), result.value, result.text, "")
                self._outbox.append((member.peer, reply))
                if result.outcome == commands.Outcome.DONE and self.table is not None:
                    self._heard[member.name] = now.seconds
                    self._outbox.append((member.peer, Rows(*self._header(), self.table.to_wire())))
        elif isinstance(message, Heartbeat) and self.rules:
            row = self._row(message.sender)
            if row is not None and row.incarnation == message.source:
                self._heard[message.sender] = now.seconds
                if row.status != ALIVE:
                    self._decide((commands.UNFENCE, row.name, row.incarnation))
                assert self.table is not None
                tree = self.table.to_wire() if message.table_version < self.table.version else None
                self._outbox.append((row.peer, Rows(*self._header(), tree)))
        elif isinstance(message, Rows) and message.table is not None and not self.rules:
            self._adopt(Table.from_wire(message.table))

    def on_refused(self, address: str, now: Instant) -> None:
        self._complaints.append(("info", f"nobody listens at {address}"))

    def tick(self, now: Instant) -> None:
        if now.seconds < self._beat_at:
            return
        self._beat_at = now.seconds + _EVERY_S
        if self.rules:
            self._take_office()
            self._fence_the_silent(now)
        elif self.identity.incarnation:
            self._outbox.append((self.ruler, Heartbeat(*self._header(), 1)))
            row = self._row(self.me.name)
            if row is not None and row.uuid != self.me.uuid:
                self.identity = Identity(self.identity.cluster, 0)
        if not self.rules:
            number = int.from_bytes(self.me.uuid[:4], "big")
            self._outbox.append((self.ruler, MetaRequest(*self._header(), number, (commands.REGISTER, tuple(self.me)))))

    def _take_office(self) -> None:
        row = self._row(self.me.name)
        if row is None:
            cluster = self._dice.getrandbits(128).to_bytes(16, "big")
            self._decide((commands.FOUND, cluster, 1, commands.REFUSE, (tuple(self.me),), ((0,), (0,))))
        elif row.uuid != self.me.uuid:
            self._decide((commands.FENCE, row.name, row.incarnation))
            self._decide((commands.REGISTER, tuple(self.me)))

    def _fence_the_silent(self, now: Instant) -> None:
        for row in self.table.nodes if self.table is not None else ():
            heard = self._heard.setdefault(row.name, now.seconds)
            if row.status == ALIVE and row.name != self.me.name and now.seconds - heard > _FENCE_AFTER_S:
                self._decide((commands.FENCE, row.name, row.incarnation))

    def next_deadline(self) -> float:
        return self._beat_at

    def unsaved(self) -> ToySave | None:
        return ToySave(self._unsaved) if self._unsaved else None

    def on_saved(self, now: Instant) -> None:
        self._unsaved = b""

    def drain(self) -> list[tuple[bytes, Message]]:
        return []

    def drain_for_nodes(self) -> list[tuple[str, PeerMessage]]:
        outbox, self._outbox = self._outbox, []
        return outbox

    def complaints(self) -> Sequence[tuple[str, str]]:
        complaints, self._complaints = self._complaints, []
        return complaints

    def _header(self) -> tuple[bytes, int, int, int, str]:
        version = self.table.version if self.table is not None else 0
        return self.identity.cluster, self.identity.incarnation, 0, version, self.me.name


class ToyWatch:
    """Shows a toy as if it were a voter of a group: the ruler leads term 1 from ever to ever."""

    def __init__(self, core: ToyCore) -> None:
        self._core = core

    @property
    def voter(self) -> str:
        return self._core.me.voter

    def identity(self) -> Identity:
        return self._core.identity

    def table(self) -> Table | None:
        return self._core.table

    def raft(self) -> RaftState | None:
        end = len(self._core.log)
        return RaftState(1, True, end, end, 1) if self._core.identity.cluster and self._core.rules else None

    def base(self) -> tuple[int, int]:
        return 0, 0

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        return [(1, 1, command) for command in self._core.log[first - 1 : last]]

    def voters(self) -> tuple[str, ...]:
        return (self._core.me.voter,)

    def learners(self) -> tuple[str, ...]:
        return ()

    def has_lease(self, seconds: float) -> bool:
        return False

    def serves(self, partition: int) -> bool:
        return False

    def copies(self) -> Sequence[CopyState]:
        return ()

    def copy_base(self, partition: int) -> tuple[int, int]:
        raise AssertionError("a toy holds no copies")

    def copy_epoch_at(self, partition: int, seq: int) -> int | None:
        raise AssertionError("a toy holds no copies")

    def copy_entries(self, partition: int, first: int, last: int) -> Sequence[DataEntry]:
        raise AssertionError("a toy holds no copies")

    def copy_digest(self, partition: int) -> bytes:
        raise AssertionError("a toy holds no copies")

    def happenings(self) -> dict[str, int]:
        return {"toys": 1}


def start_toy(host: "Host", journal: bytes, dice: Random, now: Instant) -> tuple[ToyCore, ToyWatch]:
    """Start a toy on a machine."""
    if host.disk is not None:
        host.disk.truncate(_read(journal)[1])
    core = ToyCore(host, journal, dice, now)
    return core, ToyWatch(core)


def _read(journal: bytes) -> tuple[list[tuple[Any, ...]], int]:
    """The commands in a journal, and where its torn tail begins."""
    found, position = [], 0
    while position + _LENGTH_BYTES <= len(journal):
        end = position + _LENGTH_BYTES + int.from_bytes(journal[position : position + _LENGTH_BYTES], "big")
        if end > len(journal):
            break  # the torn tail
        found.append(unpack_tree(journal[position + _LENGTH_BYTES : end]))
        position = end
    return found, position
