"""One node's share in the meta group: Raft underneath, the state machine on top.

Every node has one. Most have no vote: their Raft is silent, and their state is behind or empty; they get the table
from others (`gimmal.cluster.tracking`). A voter's or learner's state follows the log.

A request is answered when its entry has been applied here. If the leader is deposed first, or another entry takes its
place, the answer is UNDECIDED: the command may still come to pass, and every command can safely be asked for again.

A snapshot replaces the log's beginning every `_ENTRIES_KEPT` entries; the state is small, so it is taken whole.
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from gimmal.cluster.meta.commands import REGISTER, Outcome, Result, is_well_formed, read_registration
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.raft import (
    COMMAND,
    CONFIGURATION,
    BecameLeader,
    Committed,
    Configuration,
    Installed,
    Raft,
    RaftParameters,
    Snapshot,
    SteppedDown,
    Stored,
    read_configuration,
)
from gimmal.cluster.raft import Fact as RaftFact
from gimmal.cluster.table import Table
from gimmal.errors import RemoteProtocolError
from gimmal.wire.peer_messages import InstallSnapshot, RaftMessage

if TYPE_CHECKING:
    from random import Random

_ENTRIES_KEPT: Final = 512
_WAITING_MAX: Final = 1_024
GENESIS_INDEX: Final = 1
GENESIS_TERM: Final = 1

Ticket: TypeAlias = Any
"""Whatever the caller wants back with the result; None when nobody waits."""


class Decided(NamedTuple):
    """A request has its answer."""

    ticket: Ticket
    command: tuple[Any, ...]
    result: Result


class TableChanged(NamedTuple):
    """The state machine has made a new table."""


class Elected(NamedTuple):
    """This node leads the meta group."""

    term: int


class Deposed(NamedTuple):
    """This node leads the meta group no more."""

    term: int


Fact: TypeAlias = Decided | TableChanged | Elected | Deposed


def genesis(configuration: Configuration, founding: tuple[Any, ...]) -> Snapshot:
    """Return what the voters of a new cluster start from: the state after its founding entry, as if committed by all.

    Raises:
        ValueError: the command founds nothing.
    """
    state = MetaState()
    if state.apply(GENESIS_INDEX, founding).outcome != Outcome.DONE:
        raise ValueError("this command founds no cluster")
    state.on_configuration(GENESIS_INDEX, configuration.voters)
    return Snapshot(GENESIS_INDEX, GENESIS_TERM, configuration, state.to_wire())


def read_genesis(configuration: Any, state: Any) -> Snapshot:
    """Return the origin that a Genesis brings.

    Raises:
        RemoteProtocolError: it brings none.
    """
    check_state(state)
    try:
        return Snapshot(GENESIS_INDEX, GENESIS_TERM, read_configuration(configuration), state)
    except (ValueError, TypeError) as reason:
        raise RemoteProtocolError(f"malformed voters of a new cluster: {reason}") from None


class MetaGroup:
    """This node's part in deciding: `raft` and `state`."""

    def __init__(self, voter: str, stored: Stored, parameters: RaftParameters, dice: "Random", now: float) -> None:
        self.raft = Raft(voter, stored, parameters, dice, now)
        self.state = MetaState.from_wire(stored.snapshot.state) if stored.snapshot.index else MetaState()
        self._applied = stored.snapshot.index
        self._compacted = stored.snapshot.index
        self._waiting: dict[int, tuple[int, Ticket, tuple[Any, ...]]] = {}  # index -> (term, ticket, command)

    @property
    def table(self) -> Table | None:
        """The newest table that this node's own state machine has made."""
        return self.state.table

    def address_of(self, voter: str) -> str:
        """Return the peer address that an entry still to be applied gives a voter; empty if none does.

        Whom a voter has to ask for votes may be younger than the table it was left with when it stopped.
        """
        for entry in reversed(self.raft.log.entries_from(self._applied + 1)):
            if entry.kind == COMMAND and is_well_formed(entry.payload) and entry.payload[0] == REGISTER:
                registration = read_registration(entry.payload[1])
                if registration.voter == voter:
                    return registration.peer
        return ""

    def request(self, ticket: Ticket, command: tuple[Any, ...], now: float) -> Result | None:
        """Propose a command; return None when its result will come as `Decided`, else why nothing was proposed."""
        if not is_well_formed(command):
            return Result(Outcome.MALFORMED, 0, "no such command")
        if len(self._waiting) >= _WAITING_MAX:
            return Result(Outcome.UNDECIDED, 0, f"{_WAITING_MAX} requests are waiting to be decided: ask again")
        index = self.raft.propose(command, now)
        if index is None:
            return Result(Outcome.NOT_LEADER)
        self._waiting[index] = (self.raft.term, ticket, command)
        return None

    # -- what goes on to Raft -------------------------------------------------------------------------------------

    def receive(self, message: RaftMessage, now: float) -> list[Fact]:
        """Take a message of another voter's.

        Raises:
            RemoteProtocolError: it brings a state that is none.
        """
        if isinstance(message, InstallSnapshot):
            check_state(message.state)
        return self._follow(self.raft.receive(message, now))

    def tick(self, now: float) -> list[Fact]:
        """Do what time asks for."""
        return self._follow(self.raft.tick(now))

    def campaign(self, now: float) -> list[Fact]:
        """Stand for election at once."""
        return self._follow(self.raft.campaign(now))

    def on_saved(self, now: float) -> list[Fact]:
        """Go on after what `raft.unsaved()` said has been made durable."""
        return self._follow(self.raft.on_saved(now))

    # -- what comes back ------------------------------------------------------------------------------------------

    def _follow(self, raft_facts: list[RaftFact]) -> list[Fact]:
        facts: list[Fact] = []
        version_before = self.state.version
        for fact in raft_facts:
            if isinstance(fact, Committed):
                self._apply(fact, facts)
            elif isinstance(fact, Installed):
                self.state = MetaState.from_wire(fact.snapshot.state)
                self._applied = self._compacted = fact.snapshot.index
                self._give_up(facts)
            elif isinstance(fact, BecameLeader):
                facts.append(Elected(fact.term))
            elif isinstance(fact, SteppedDown):
                self._give_up(facts)
                facts.append(Deposed(fact.term))
        if self.state.version != version_before:
            facts.append(TableChanged())
        if self._applied - self._compacted >= _ENTRIES_KEPT:
            self.raft.compact(self._applied, self.state.to_wire())
            self._compacted = self._applied
        return facts

    def _apply(self, committed: Committed, facts: list[Fact]) -> None:
        index, entry = committed
        assert index == self._applied + 1, f"entry {index} was committed after {self._applied}"
        self._applied = index
        result = Result(Outcome.DONE)
        if entry.kind == COMMAND:
            result = self.state.apply(index, entry.payload)
        elif entry.kind == CONFIGURATION:
            self.state.on_configuration(index, Configuration(*entry.payload).voters)
        waiting = self._waiting.pop(index, None)
        if waiting is not None:
            term, ticket, command = waiting
            facts.append(Decided(ticket, command, result if term == entry.term else Result(Outcome.UNDECIDED)))

    def _give_up(self, facts: list[Fact]) -> None:
        """Answer everybody who waits: what becomes of their entries is not this node's to say any more."""
        waiting, self._waiting = self._waiting, {}
        facts += [Decided(ticket, command, Result(Outcome.UNDECIDED)) for _, ticket, command in waiting.values()]


def check_state(tree: Any) -> None:
    """Raise RemoteProtocolError unless a tree is a state of the meta group."""
    try:
        MetaState.from_wire(tree)
    except (ValueError, TypeError, AttributeError) as reason:
        raise RemoteProtocolError(f"malformed state of the meta group: {reason}") from None
