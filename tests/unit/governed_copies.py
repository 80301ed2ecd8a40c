"""Copies of one partition, as in `holdings_group`, whose row is in the hands of the product's meta group."""

from typing import Any

from gimmal.cluster.meta import commands, rows
from gimmal.cluster.table import ALIVE
from gimmal.replication.holdings import LOG_BYTES
from gimmal.replication.petition import Request
from gimmal.types import Incarnation
from tests.unit.holdings_group import Copies, Decision
from tests.unit.meta_states import Meta


class GovernedCopies(Copies):
    """Nodes with copies, and a meta group that decides at once. `answered` are (name, ticket, result), in their order.

    The tickets of reads that were to be confirmed come into `confirmed` or `unconfirmed`, with the name of the leader.
    """

    def __init__(self, *names: str, log_bytes: int = LOG_BYTES) -> None:
        self.answered: list[tuple[str, Any, Any]] = []
        self.confirmed: list[tuple[str, Any]] = []
        self.unconfirmed: list[tuple[str, Any]] = []
        super().__init__(*names, log_bytes=log_bytes)
        self.meta = Meta(names, (names,))
        self._processes = dict.fromkeys(names, 1)
        self._last: tuple[Incarnation, Request] | None = None
        self._look()
        self.holdings = {name: self._new(name) for name in names}
        self.tell()

    def _look(self) -> None:
        """See what the table says now."""
        table = self.meta.table
        self.version = table.version
        self.rows = dict(enumerate(table.partitions))
        self.lives = {row.name: Incarnation(row.name, row.incarnation) for row in table.nodes}
        self.fenced = {row.name for row in table.nodes if row.status != ALIVE}

    def _collect(self, name: str) -> None:
        found = self.holdings[name].take_committed()
        self.answered += [(name, ticket, result) for _, ticket, _, result in found if ticket is not None]
        confirmed, unconfirmed = self.holdings[name].confirming.take()
        self.confirmed += [(name, ticket) for ticket in confirmed]
        self.unconfirmed += [(name, ticket) for ticket in unconfirmed]

    # -- the meta group

    def elect(self, name: str, partition: int = 0) -> None:
        state = self.meta.state
        self.meta.index += 1
        state._write(self.meta.index, partition, rows.handed_over(self.meta.row(partition), name))
        state._changed(self.meta.index)
        self._look()

    def fence(self, name: str, *, is_restarted: bool = False) -> None:
        self.meta.fence(name)
        self._look()

    def unfence(self, name: str) -> None:
        self.meta.unfence(name)
        self._look()

    def restart(self, name: str) -> None:
        if name not in self.fenced:
            self.meta.fence(name)
        self._processes[name] += 1
        self.meta.register(name, self._processes[name])
        self._look()
        self.holdings[name] = self._new(name)

    def decide(self, name: str, *, grants: bool = True) -> Decision | None:
        """Decide about what a node asks for, if it asks; without `grants` it is decided that nothing changes."""
        request = self.holdings[name].petition.take()
        if request is None:
            return None
        if not grants:
            self.meta.index += 1
            self.meta.state._changed(self.meta.index)
        life = self.holdings[name].me
        self._last = life, request
        changes = request.changes if grants else ()
        made = self.meta.do(commands.ALTER_ISR, *life, request.number, changes).value
        self._look()
        self.decisions.append(Decision(request, self.version, made))
        return self.decisions[-1]

    def decide_again(self) -> None:
        """Let the last request that was decided arrive once more."""
        assert self._last is not None, "nothing was decided"
        life, request = self._last
        self.meta.do(commands.ALTER_ISR, *life, request.number, request.changes)
        self._look()
