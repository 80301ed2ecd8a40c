"""The state machine of the meta group: its log, entry by entry, becomes the cluster's table.

`apply(index, command)` makes every choice when it is called, from the state alone, so every voter comes to the same
table. The version of the table is the index of the last entry that changed it, and the incarnation of a node the
index of the entry that registered it: both only rise, and neither can be given twice.

Rules:

- A node registers under a name. The same uuid again is the same answer. Another uuid under the name of a node that is
  not fenced is refused, and so is an address that such a node uses. When a name is registered anew, its older life
  leaves every isr, elr and leadership: it has forgotten what it acknowledged.
- FENCE takes a node out of every isr and every leadership, in one entry. A false fence costs availability only.
- UNFENCE gives nothing back by itself; the node may lead again what nobody else can, and joins isrs when leaders ask.
- ALTER_ISR is obeyed only from the present leader's present life, under the epoch and version it saw, with a request
  number that is higher than any before, and only for members that are registered, not fenced, and hold the partition.
  The last request again gets a DONE again.
- New leaders are spread: the candidate that leads the fewest partitions is taken, the first by name if several do.
- HANDOVER is obeyed under the same conditions, for each row whose new leader is alive and in its isr. A row that was
  named rightly and is not handed over gets a new version all the same: its leader has stopped, and goes on only under
  a row that is newer than the one it wanted to give away.
- A request of a leader's asked for again is answered as before: its number is kept with what came of it.
- A partition of which nobody has anything left is lost. It stays so until RECOVER, or starts again empty at once, as
  the founding said. UNSAFE_ELECT gives any partition that nobody leads to a copy that may lack something. Under whom a
  partition starts again is said by `reset_epoch`: it is the present epoch.

Commands that do not fit the state change nothing and say so in their result; a malformed one cannot do harm.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from gimmal.cluster.meta import commands, rows
from gimmal.cluster.meta.commands import Outcome, Registration, Result, addresses_of, read_registration
from gimmal.cluster.table import ALIVE, FENCED, NodeRow, PartitionRow, Table
from gimmal.types import Incarnation
from gimmal.wire import checks, limits

_DONE: Final = Result(Outcome.DONE)

_Change: TypeAlias = Callable[[int, int, Incarnation, Any], bool]
"""Makes, at an index, the change of a partition that a leader wants; says whether it was made."""


class MetaState:
    """The nodes, the partitions and the voters, after every entry applied so far."""

    def __init__(self) -> None:
        self._table: Table | None = None
        self._version = 0
        self._cluster = b""
        self._copies = 1
        self._on_total_loss = commands.REFUSE
        self._voters: tuple[str, ...] = ()
        self._nodes: dict[str, NodeRow] = {}
        self._partitions: list[PartitionRow] = []
        self._last_request_by_leader: dict[str, tuple[int, int, int]] = {}  # name -> (incarnation, number, result)
        self._led: Counter[str] = Counter()
        self._handlers: dict[int, Callable[[int, tuple[Any, ...]], Result]] = {
            commands.FOUND: self._found,
            commands.REGISTER: self._register,
            commands.FENCE: self._fence,
            commands.UNFENCE: self._unfence,
            commands.ALTER_ISR: self._alter_isr,
            commands.HANDOVER: self._hand_over,
            commands.RECOVER: self._recover,
            commands.UNSAFE_ELECT: self._elect_by_force,
        }

    @property
    def version(self) -> int:
        """The version of the table: the index of the last entry that changed it; 0 before the founding entry."""
        return self._version

    @property
    def table(self) -> Table | None:
        """The table, or None before the founding entry."""
        if self._table is None and self._version:
            nodes = tuple(self._nodes[name] for name in sorted(self._nodes))
            self._table = Table(self._cluster, self._version, self._voters, nodes, tuple(self._partitions))
        return self._table

    def apply(self, index: int, command: tuple[Any, ...]) -> Result:
        """Carry out the committed command of entry `index`."""
        if not (commands.is_well_formed(command) if self._version else commands.is_founding(command)):
            return Result(Outcome.MALFORMED, 0, "no such command, or not now")
        return self._handlers[command[0]](index, command)

    def answer_without_entry(self, command: tuple[Any, ...]) -> Result | None:
        """Return the answer to a registration that would change nothing when applied: it needs no entry."""
        if command[0] != commands.REGISTER:
            return None
        member = read_registration(command[1])
        known = self._nodes.get(member.name)
        if known is not None and known.uuid == member.uuid:
            return Result(Outcome.DONE, known.incarnation)
        refusal = self._why_refused(member, known)
        return Result(Outcome.REFUSED, 0, refusal) if refusal else None

    def on_configuration(self, index: int, voters: tuple[str, ...]) -> None:
        """Note who votes from the committed entry `index` on."""
        if voters != self._voters:
            self._voters = voters
            if self._version:
                self._changed(index)

    # -- as a snapshot --------------------------------------------------------------------------------------------

    def to_wire(self) -> tuple[Any, ...]:
        """Return the whole state as a tree."""
        table = self.table
        numbers = tuple((name, *numbers) for name, numbers in self._last_request_by_leader.items())
        return (table.to_wire() if table else None, self._copies, self._on_total_loss, self._voters, numbers)

    @classmethod
    def from_wire(cls, tree: tuple[Any, ...]) -> "MetaState":
        """Return the state that `to_wire` wrote.

        Raises:
            RemoteProtocolError: the table in it is none.
            ValueError: the tree has another shape.
        """
        state = cls()
        table_tree, state._copies, state._on_total_loss, state._voters, numbers = tree
        is_loss_known = state._on_total_loss in (commands.REFUSE, commands.START_EMPTY)
        if not (is_loss_known and type(state._copies) is int and 1 <= state._copies <= limits.COPIES_MAX):
            raise ValueError("no such settings of a cluster")
        if not (type(state._voters) is tuple and len(state._voters) <= limits.VOTERS_MAX):
            raise ValueError("no such number of voters")
        if not all(map(checks.is_name, state._voters)):
            raise ValueError("voters are not names")
        if not (type(numbers) is tuple and len(numbers) <= limits.NODES_MAX):
            raise ValueError("no such number of request numbers")
        for name, *request in numbers:
            incarnation, number, result = request
            if not (checks.is_name(name) and checks.are_numbers((incarnation, number, result))):
                raise ValueError("request numbers are not numbers of nodes")
            state._last_request_by_leader[name] = (incarnation, number, result)
        if table_tree is not None:
            table = state._table = Table.from_wire(table_tree)
            state._version, state._cluster = table.version, table.cluster
            state._nodes = {row.name: row for row in table.nodes}
            state._partitions = list(table.partitions)
            state._led = Counter(row.leader for row in table.partitions if row.leader is not None)
        return state

    # -- commands -------------------------------------------------------------------------------------------------

    def _found(self, index: int, command: tuple[Any, ...]) -> Result:
        _, cluster, copies, on_total_loss, registrations, holders = command
        members = [read_registration(tree) for tree in registrations]
        self._cluster, self._copies, self._on_total_loss = cluster, copies, on_total_loss
        for member in members:
            self._nodes[member.name] = _node_row(member, index)
        for indexes in holders:
            names = tuple(members[number].name for number in indexes)
            in_sync = tuple(Incarnation(name, index) for name in names)
            self._partitions.append(PartitionRow(names[0], 1, 1, names, in_sync, changed_at=index))
            self._led[names[0]] += 1
        self._changed(index)
        return _DONE

    def _register(self, index: int, command: tuple[Any, ...]) -> Result:
        answer = self.answer_without_entry(command)
        if answer is not None:
            return answer
        member = read_registration(command[1])
        known = self._nodes.get(member.name)
        self._nodes[member.name] = _node_row(member, index)
        if known is not None:
            older = Incarnation(known.name, known.incarnation)
            self._leave(index, older, is_restarted=True)
        self._fill_vacancies(index, member.name)
        self._changed(index)
        return Result(Outcome.DONE, self._nodes[member.name].incarnation)

    def _why_refused(self, member: Registration, known: NodeRow | None) -> str:
        if known is not None and known.status != FENCED:
            return (
                f"another node is registered as {member.name!r}, at {known.peer}, and was there a moment ago: "
                "give this one another name, or wait until the other one has been declared dead"
            )
        if known is None and len(self._nodes) >= limits.NODES_MAX:
            return f"this cluster has known {limits.NODES_MAX} names, and takes no more: use one of a node that is gone"
        return self._address_conflict(member)

    def _address_conflict(self, member: Registration | NodeRow) -> str:
        """Return which living node already has an address of this one, for people; empty if none has."""
        addresses = addresses_of(member)
        for row in self._nodes.values():
            if row.name != member.name and row.status != FENCED:
                shared = sorted(addresses & addresses_of(row))
                if shared:
                    kind, address = shared[0]
                    return f"node {row.name!r} already has the {kind} address {address}: give this one another"
        return ""

    def _fence(self, index: int, command: tuple[Any, ...]) -> Result:
        _, name, incarnation = command
        row = self._nodes.get(name)
        if row is None or row.incarnation != incarnation or row.status == FENCED:
            return Result(Outcome.REFUSED, 0, f"{name} is not alive as incarnation {incarnation}")
        self._nodes[name] = row._replace(status=FENCED, changed_at=index)
        self._leave(index, Incarnation(name, incarnation), is_restarted=False)
        self._changed(index)
        return _DONE

    def _unfence(self, index: int, command: tuple[Any, ...]) -> Result:
        _, name, incarnation = command
        row = self._nodes.get(name)
        if row is None or row.incarnation != incarnation or row.status != FENCED:
            return Result(Outcome.REFUSED, 0, f"{name} is not fenced as incarnation {incarnation}")
        conflict = self._address_conflict(row)
        if conflict:
            return Result(Outcome.REFUSED, 0, conflict)
        self._nodes[name] = row._replace(status=ALIVE, changed_at=index)
        self._fill_vacancies(index, name)
        self._changed(index)
        return _DONE

    def _alter_isr(self, index: int, command: tuple[Any, ...]) -> Result:
        return self._answer_before(command) or self._change_rows(index, command, self._with_in_sync)

    def _hand_over(self, index: int, command: tuple[Any, ...]) -> Result:
        return self._answer_before(command) or self._change_rows(index, command, self._with_next_leader)

    def _answer_before(self, command: tuple[Any, ...]) -> Result | None:
        """Return the answer to a leader's request that changes nothing (any more); None if it is to be looked at."""
        _, name, incarnation, number, _ = command
        if not self._is_alive(Incarnation(name, incarnation)):
            return Result(Outcome.REFUSED, 0, f"{name} does not lead as incarnation {incarnation}")
        *last, result = self._last_request_by_leader.get(name, (0, 0, 0))
        if [incarnation, number] == last:
            return Result(Outcome.DONE, result)
        if [incarnation, number] < last:
            return Result(Outcome.REFUSED, 0, f"request {number} of {name} comes too late")
        return None

    def _change_rows(self, index: int, command: tuple[Any, ...], changed: _Change) -> Result:
        """Make the changes that a leader asks for and that are named as the rows are; count those that were made."""
        _, name, incarnation, number, changes = command
        leader = Incarnation(name, incarnation)
        version_before, made = self._version, 0
        for partition, epoch, version, wanted in changes:
            row = self._partitions[partition] if partition < len(self._partitions) else None
            if row is not None and (row.leader, row.epoch, row.version) == (name, epoch, version):
                made += changed(index, partition, leader, wanted)
        self._last_request_by_leader[name] = (incarnation, number, made)
        assert self._version in (version_before, index)
        return Result(Outcome.DONE, made)

    def _with_in_sync(self, index: int, partition: int, leader: Incarnation, members: tuple[Any, ...]) -> bool:
        row, in_sync = self._partitions[partition], tuple(Incarnation(*member) for member in members)
        if not self._may_be_in_sync(row, in_sync, leader):
            return False
        self._write(index, partition, rows.with_in_sync(row, in_sync))
        self._changed(index)
        return True

    def _with_next_leader(self, index: int, partition: int, leader: Incarnation, target: str) -> bool:
        row = self._partitions[partition]
        may_lead = [member.name for member in row.in_sync if member != leader and self._is_alive(member)]
        is_made = target in may_lead
        self._write(index, partition, rows.handed_over(row, target) if is_made else row, is_touched=True)
        self._changed(index)
        return is_made

    def _recover(self, index: int, command: tuple[Any, ...]) -> Result:
        _, version = command
        may_lead = self._may_lead()
        started = waiting = 0
        for partition, row in enumerate(self._partitions):
            if row.is_lost and row.changed_at <= version:
                names = [name for name in row.replicas if name in may_lead]
                if names:
                    self._start_empty(index, partition, self._least_busy(names))
                    started += 1
                else:
                    waiting += 1
        if started:
            self._changed(index)
        still = f"; {waiting} more have no node that is there and holds them, and stay lost" if waiting else ""
        return Result(Outcome.DONE, started, f"{started} lost partitions start again, empty{still}")

    def _elect_by_force(self, index: int, command: tuple[Any, ...]) -> Result:
        _, partition, name = command
        row = self._partitions[partition] if partition < len(self._partitions) else None
        if row is None:
            return Result(Outcome.REFUSED, 0, f"there is no partition {partition}")
        if row.leader is not None:
            outcome = Outcome.DONE if row.leader == name else Outcome.REFUSED
            return Result(outcome, row.epoch, f"partition {partition} is led by {row.leader}")
        if name not in self._may_lead() or name not in row.replicas:
            holders = ", ".join(row.replicas)
            return Result(Outcome.REFUSED, 0, f"{name} is not there or holds no copy; partition {partition}: {holders}")
        leader = Incarnation(name, self._nodes[name].incarnation)
        self._write(index, partition, rows.led_by_force(row, leader))
        self._changed(index)
        return Result(Outcome.DONE, row.epoch + 1, f"{name} leads partition {partition} with what it has")

    def _may_be_in_sync(self, row: PartitionRow, in_sync: tuple[Incarnation, ...], leader: Incarnation) -> bool:
        """Say whether an isr is one: with its leader, nobody twice, and whoever is new to it alive and a holder."""
        if leader not in in_sync or len(dict.fromkeys(in_sync)) != len(in_sync):
            return False
        return all(
            member in row.in_sync or (self._is_alive(member) and member.name in (*row.replicas, *row.adding))
            for member in in_sync
        )

    # -- what commands have in common -----------------------------------------------------------------------------

    def _is_alive(self, member: Incarnation) -> bool:
        row = self._nodes.get(member.name)
        return row is not None and row.incarnation == member.number and row.status == ALIVE

    def _leave(self, index: int, gone: Incarnation, *, is_restarted: bool) -> None:
        """Take a life of a node out of everything: fenced, it keeps what it has; restarted, it has forgotten it."""
        may_lead = self._may_lead()
        for partition, row in enumerate(self._partitions):
            changed = row
            if gone in row.in_sync or gone in row.eligible:
                changed = rows.without_member(row, gone, is_restarted=is_restarted)
            if changed.leader == gone.name:
                changed = rows.with_leader(changed, may_lead, self._least_busy)
            self._write(index, partition, changed)

    def _fill_vacancies(self, index: int, name: str) -> None:
        """Let a node that has come back lead what nobody led meanwhile, if it may."""
        may_lead = self._may_lead()
        for partition, row in enumerate(self._partitions):
            if row.leader is None and name in row.replicas:
                if row.is_lost and self._on_total_loss == commands.START_EMPTY:
                    self._start_empty(index, partition, name)
                else:
                    self._write(index, partition, rows.with_leader(row, may_lead, self._least_busy))

    def _start_empty(self, index: int, partition: int, name: str) -> None:
        leader = Incarnation(name, self._nodes[name].incarnation)
        self._write(index, partition, rows.started_empty(self._partitions[partition], leader))

    def _may_lead(self) -> frozenset[str]:
        return frozenset(name for name, row in self._nodes.items() if row.status == ALIVE)

    def _least_busy(self, names: Sequence[str]) -> str:
        return min(names, key=lambda name: (self._led[name], name))

    def _write(self, index: int, partition: int, row: PartitionRow, *, is_touched: bool = False) -> None:
        before = self._partitions[partition]
        if row == before and not is_touched:
            return
        if before.leader is not None:
            self._led[before.leader] -= 1
        if row.leader is not None:
            self._led[row.leader] += 1
        version = before.version + (before.changed_at != index)  # one entry, one version
        self._partitions[partition] = row._replace(version=version, changed_at=index)

    def _changed(self, index: int) -> None:
        self._version = index
        self._table = None


def _node_row(member: Registration, index: int) -> NodeRow:
    name, uuid, voter, zone, weight, peer, networks = member
    return NodeRow(name, index, uuid, voter, zone, weight, ALIVE, peer, networks, index)
