"""States of a meta group for tests: nodes called a, b, c ..., and shorthands for what is asked of the group."""

from collections.abc import Sequence
from typing import Any

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Registration, Result
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.table import Addresses, PartitionRow, Table
from gimmal.types import Incarnation

CLUSTER = bytes(range(16))


def registration(name: str, life: int = 1, **changes: Any) -> Registration:
    """The node `name` in its nth process; each has addresses of its own name."""
    networks = (("default", Addresses(f"{name}:7700", f"{name}:7702")),)
    node = Registration(
        name, name.encode().ljust(15, b"-") + bytes([life]), f"{name}/{life}", "", 1, f"{name}:7701", networks
    )
    return node._replace(**changes)


class Meta:
    """A state, and the index of the next entry."""

    def __init__(
        self, names: Sequence[str] = "abc", holders: Sequence[Sequence[str]] = ("abc", "bca"), on_loss: str = "refuse"
    ) -> None:
        self.state = MetaState()
        self.index = 0
        members = tuple(tuple(registration(name)) for name in names)
        rows = tuple(tuple(names.index(name) for name in row) for row in holders)
        assert self.do(commands.FOUND, CLUSTER, len(holders[0]), on_loss, members, rows).outcome == 0

    def do(self, *command: Any) -> Result:
        """Apply a command as the next entry."""
        self.index += 1
        before = self.state.table
        result = self.state.apply(self.index, command)
        check_rises(before, self.state.table)
        return result

    def fence(self, name: str) -> Result:
        return self.do(commands.FENCE, name, self.incarnation(name))

    def unfence(self, name: str) -> Result:
        return self.do(commands.UNFENCE, name, self.incarnation(name))

    def register(self, name: str, life: int = 1, **changes: Any) -> Result:
        return self.do(commands.REGISTER, tuple(registration(name, life, **changes)))

    def alter(self, partition: int, members: str, number: int = 1, **changes: Any) -> Result:
        """Ask, as the partition's leader, for these members in sync."""
        row = self.row(partition)
        assert row.leader is not None
        in_sync = tuple((name, self.incarnation(name)) for name in members)
        change = (partition, row.epoch, row.version, in_sync)
        return self.do(
            commands.ALTER_ISR,
            changes.get("leader", row.leader),
            changes.get("incarnation", self.incarnation(row.leader)),
            number,
            changes.get("rows", (change,)),
        )

    def hand_over(self, partition: int, target: str, number: int = 1, **changes: Any) -> Result:
        """Ask, as the partition's leader, for another leader."""
        row = self.row(partition)
        assert row.leader is not None
        leader = changes.get("leader", row.leader)
        change = (partition, row.epoch, row.version, target)
        incarnation = changes.get("incarnation", self.incarnation(leader))
        return self.do(commands.HANDOVER, leader, incarnation, number, changes.get("rows", (change,)))

    @property
    def table(self) -> Table:
        table = self.state.table
        assert table is not None
        return table

    def row(self, partition: int) -> PartitionRow:
        return self.table.partitions[partition]

    def incarnation(self, name: str) -> int:
        row = self.table.node(name)
        assert row is not None
        return row.incarnation

    def shown(self, partition: int) -> str:
        """A row as text: leader and epoch, isr, elr."""
        row = self.row(partition)
        return f"{row.leader or 'nobody'}/{row.epoch} isr {names_of(row.in_sync)} elr {names_of(row.eligible)}"


def names_of(members: tuple[Incarnation, ...]) -> str:
    return "".join(member.name for member in members) or "-"


def check_rises(before: Table | None, after: Table | None) -> None:
    """Versions, epochs and incarnations only rise, and what changed says so."""
    if before is None or after is None or before is after:
        return
    assert after.version > before.version
    for old, new in zip(before.partitions, after.partitions, strict=True):
        assert new.epoch >= old.epoch
        if new.leader != old.leader:
            assert new.epoch > old.epoch
        assert new.reset_epoch >= old.reset_epoch
        same = old._replace(changed_at=0) == new._replace(changed_at=0)
        assert new.version == old.version + (not same)
        assert new.changed_at == (old.changed_at if same else after.version)
    for node in before.nodes:
        later = after.node(node.name)
        assert later is not None
        assert later.incarnation >= node.incarnation
