"""Copies of partitions on a few nodes, with a network that is a list and a meta group that does what the test says.

    copies = Copies("n1", "n2", "n3")     n1 leads all partitions, and everybody knows
    copies.write("n1", "a")               n1 is asked to write key a; `answers` holds what became of it
    copies.settle()                       deliver until nothing is under way
    copies.deliver("n1->n2")              deliver what is under way now, on one link or on all
    copies.drop("n1->n2")                 lose it
    copies.run(0.3)                       time passes; what is sent arrives at once, but on links that are cut
    copies.elect("n2")                    the row changes; nobody has heard of it before `tell`

Every message passes the codec. A message counts as it does in a node: it is dropped if it is for another life.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from gimmal.cluster.meta import rows
from gimmal.cluster.table import PartitionRow
from gimmal.node.views import view_of
from gimmal.replication.holdings import LOG_BYTES, Holdings
from gimmal.replication.petition import Request
from gimmal.replication.replica import Committed, Replica
from gimmal.store.footprint import Footprint
from gimmal.types import Command, Incarnation, Instant
from gimmal.wire import commands
from gimmal.wire.codec import decode, encode, pack_value
from gimmal.wire.kinds import FROM_NODES
from gimmal.wire.peer_messages import PeerMessage

EPOCH_MS = 1_700_000_000_000
ROUNDS_MAX = 1_000


class Letter(NamedTuple):
    """A message under way."""

    source: str
    target: str
    message: PeerMessage


@dataclass
class Decision:
    """What the meta group was asked for, and which version of the table says what became of it."""

    request: Request
    version: int
    made: int


def set_(key: str, value: object = 1) -> Command:
    return (commands.SET, key.encode(), pack_value(value), 0, 0, None)


def get(key: str) -> Command:
    return (commands.GET, key.encode())


class Copies:
    """Nodes by name, each with its `Holdings`, and the rows that the meta group would keep."""

    def __init__(self, *names: str, partitions: int = 1, log_bytes: int = LOG_BYTES) -> None:
        self.now = 0.0
        self.version = 1
        self.log_bytes = log_bytes
        self.lives = {name: Incarnation(name, number) for number, name in enumerate(names, 1)}
        self.fenced: set[str] = set()
        members = tuple(self.lives.values())
        self.rows = {number: PartitionRow(names[0], 1, 1, names, members) for number in range(partitions)}
        self.holdings = {name: self._new(name) for name in names}
        self.in_flight: list[Letter] = []
        self.cuts: set[str] = set()
        self.answers: dict[Any, Any] = {}  # by ticket: the result
        self.undecided: list[Any] = []  # tickets
        self.decisions: list[Decision] = []
        self.tell()

    def _new(self, name: str) -> Holdings:
        return Holdings(self.lives[name], Footprint(), self.log_bytes)

    def __getitem__(self, name: str) -> Holdings:
        return self.holdings[name]

    def replica(self, name: str, partition: int = 0) -> Replica:
        return self.holdings[name].replicas[partition]

    def keys(self, name: str, partition: int = 0) -> list[str]:
        """The keys that have been applied on a node."""
        return [key.decode() for key in self.replica(name, partition).engine.keys.records]

    def log(self, name: str, partition: int = 0) -> str:
        """The epochs of a log's entries, with a bar behind the last one that is committed."""
        log, commit = self.replica(name, partition).log, self.replica(name, partition).commit
        epochs = "".join(str(entry[0]) for entry in log.entries)
        return "." * log.base + epochs[: commit - log.base] + "|" + epochs[commit - log.base :]

    def instant(self) -> Instant:
        return Instant(self.now, EPOCH_MS + int(self.now * 1000))

    # -- the meta group

    def tell(self, *names: str) -> None:
        """Let nodes hear of the rows as they are now; all of them, unless some are named."""
        for name in names or tuple(self.holdings):
            holdings = self.holdings[name]
            alive = {name: life for name, life in self.lives.items() if name not in self.fenced}
            for partition, row in self.rows.items():
                if name in (*row.replicas, *row.adding):
                    for _, tickets in holdings.see(partition, view_of(row, alive), self.instant()):
                        self.undecided += tickets
                elif partition in holdings.replicas:
                    for _, tickets in holdings.drop(partition):
                        self.undecided += tickets
            holdings.on_table(self.version, self.instant())
            self._collect(name)

    def change(self, partition: int, row: PartitionRow) -> None:
        """Write a row, if it is another one."""
        before = self.rows[partition]
        if row != before:
            self.rows[partition] = row._replace(version=before.version + 1, changed_at=self.version)

    def is_alive(self, member: Incarnation) -> bool:
        return self.lives[member.name] == member and member.name not in self.fenced

    def elect(self, name: str, partition: int = 0) -> None:
        """Let a member of the in-sync set lead."""
        self.version += 1
        row = self.rows[partition]
        assert self.lives[name] in row.in_sync
        self.change(partition, row._replace(leader=name, epoch=row.epoch + 1))

    def alter(self, *names: str, partition: int = 0) -> None:
        """Write another in-sync set, as if the leader had asked for it."""
        self.version += 1
        self.change(partition, rows.with_in_sync(self.rows[partition], [self.lives[name] for name in names]))

    def fence(self, name: str, *, is_restarted: bool = False) -> None:
        """Take a node out of everything."""
        self.version += 1
        self.fenced.add(name)
        for partition, row in self.rows.items():
            left = rows.without_member(row, self.lives[name], is_restarted=is_restarted)
            self.change(partition, self._with_leader(left) if left.leader == name else left)

    def unfence(self, name: str) -> None:
        """Take a node back; it may lead what nobody led meanwhile."""
        self.version += 1
        self.fenced.discard(name)
        for partition, row in self.rows.items():
            if row.leader is None:
                self.change(partition, self._with_leader(row))

    def _with_leader(self, row: PartitionRow) -> PartitionRow:
        return rows.with_leader(row, set(self.lives) - self.fenced, lambda names: names[0])

    def restart(self, name: str) -> None:
        """Let a node come back with nothing: another life."""
        self.fence(name, is_restarted=True)
        self.lives[name] = Incarnation(name, self.lives[name].number + len(self.lives))
        self.holdings[name] = self._new(name)
        self.unfence(name)

    def decide(self, name: str, *, grants: bool = True) -> Decision | None:
        """Decide about what a node asks for, if it asks; `answer` tells it."""
        request = self.holdings[name].petition.take()
        if request is None:
            return None
        made = 0
        self.version += 1
        for partition, epoch, version, members in request.changes:
            row = self.rows[partition]
            in_sync = [Incarnation(*member) for member in members]
            is_current = (row.leader, row.epoch, row.version) == (name, epoch, version)
            if grants and is_current and all(member in row.in_sync or self.is_alive(member) for member in in_sync):
                self.change(partition, rows.with_in_sync(row, in_sync))
                made += 1
        self.decisions.append(Decision(request, self.version, made))
        return self.decisions[-1]

    def answer(self, name: str, decision: Decision) -> None:
        """Let a node hear that its request was decided."""
        self.holdings[name].on_answer(decision.request.number, decision.version, self.instant())
        self._collect(name)

    # -- clients

    def propose(self, name: str, ticket: Any, command: Command, partition: int = 0) -> None:
        replica = self.replica(name, partition)
        found = self.holdings[name].propose(replica, ticket, (0, 0, 0), command, self.instant().unix_ms)
        self._note(list(found))

    def write(self, name: str, *keys: str, partition: int = 0) -> None:
        """Propose SET for each key; the key is its ticket."""
        for key in keys:
            self.propose(name, key, set_(key), partition)

    def _note(self, found: list[Committed]) -> None:
        self.answers |= {ticket: result for _, ticket, _, result in found if ticket is not None}

    def _collect(self, name: str) -> None:
        self._note(self.holdings[name].take_committed())

    # -- the network

    def flush(self) -> None:
        """Put what nodes have to say under way."""
        for name, holdings in self.holdings.items():
            for member, message in holdings.drain(self.instant()):
                assert message.destination == member.number
                message.cluster, message.source, message.table_version = bytes(16), self.lives[name].number, 1
                message.sender = name
                received = decode(encode(message), FROM_NODES)
                assert isinstance(received, PeerMessage)
                if not {f"{name}->{member.name}", name, member.name} & self.cuts:
                    self.in_flight.append(Letter(name, member.name, received))

    def take(self, link: str = "") -> list[Letter]:
        """Take what is under way, on one link or on all, off the network."""
        self.flush()
        taken, self.in_flight = self.in_flight, []
        if link:
            self.in_flight = [letter for letter in taken if f"{letter.source}->{letter.target}" != link]
        return [letter for letter in taken if link in ("", f"{letter.source}->{letter.target}")]

    def hand_over(self, letter: Letter) -> None:
        """Deliver one message."""
        source, target, message = letter
        if message.destination == self.lives[target].number:
            self.holdings[target].receive(message, Incarnation(source, message.source), self.instant())
            self._collect(target)

    def deliver(self, link: str = "") -> list[PeerMessage]:
        """Deliver what is under way now; return it."""
        letters = self.take(link)
        for letter in letters:
            self.hand_over(letter)
        return [letter.message for letter in letters]

    def drop(self, link: str = "") -> list[PeerMessage]:
        """Lose what is under way now; return it."""
        return [letter.message for letter in self.take(link)]

    def deliver_until(self, kind: type[PeerMessage]) -> None:
        """Deliver everything until a message of a kind has arrived."""
        for _ in range(ROUNDS_MAX):
            if any(isinstance(message, kind) for message in self.deliver()):
                return
        raise AssertionError(f"nobody sends a {kind.__name__}")

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        for _ in range(ROUNDS_MAX):
            if not self.deliver():
                return
        raise AssertionError("they do not stop talking")

    def settle_with_losses(self) -> None:
        """Let time pass until nothing is under way, while every third message is lost."""
        for number in range(ROUNDS_MAX):
            self.now += 0.01
            for holdings in self.holdings.values():
                holdings.tick(self.instant())
            for place, letter in enumerate(self.take()):
                if (number + place) % 3:
                    self.hand_over(letter)

    def run(self, seconds: float) -> None:
        """Let time pass; whatever is sent arrives at once."""
        end = self.now + seconds
        self.settle()
        while (at := min(holdings.next_deadline() for holdings in self.holdings.values())) <= end:
            self.now = max(self.now, at)
            for holdings in self.holdings.values():
                holdings.tick(self.instant())
            self.settle()
        self.now = end
