"""What the cluster is asked for while faults happen: changes of in-sync sets, as the leaders of partitions want them.

Registrations need no workload: every restart is one. Each request is what a leader could ask for by its own table: the
in-sync set without one of its followers, or with one again. The request numbers rise for each life.
"""

from typing import TYPE_CHECKING

from gimmal.cluster.meta.commands import ALTER_ISR
from gimmal.cluster.table import ALIVE, PartitionRow, Table
from gimmal.types import Incarnation
from tests.sim.host import HOME, Host

if TYPE_CHECKING:
    from tests.sim.world import World


class Workload:
    """Requests at random times, by random leaders."""

    def __init__(self, world: "World", every_s: float) -> None:
        self._world = world
        self._every_s = every_s
        self._number = 0

    def begin(self) -> None:
        """Plan the first request; each one plans the next."""
        self._world.plan_in(self._world.dice.expovariate(1 / self._every_s), self._step)

    def _step(self) -> None:
        self.ask()
        self.begin()

    def ask(self) -> tuple[int, PartitionRow] | None:
        """Let some leader ask for a change; return the partition and the row it wants, or None if nobody leads."""
        leaders = [
            host for host in self._world.hosts if host.group == HOME and host.is_up and host.identity.incarnation
        ]
        self._world.dice.shuffle(leaders)
        for host in leaders:
            if host.table is not None:
                choices = _changes(host, host.table)
                if choices:
                    number, row = self._world.dice.choice(choices)
                    self._ask(host, number, row)
                    return number, row
        return None

    def _ask(self, host: Host, partition: int, row: PartitionRow) -> None:
        assert host.watch is not None
        self._number += 1
        change = (partition, row.epoch, row.version, tuple(tuple(member) for member in row.in_sync))
        command = (ALTER_ISR, host.name, host.identity.incarnation, self._number, (change,))
        host.watch.ask(command, host.clock.instant(self._world.now, 0.0))
        self._world.poke(host)
        self._world.counts["requests"] += 1


def _changes(host: Host, table: Table) -> list[tuple[int, PartitionRow]]:
    """The rows a host could want for the partitions it leads: one follower less, or one more."""
    me = Incarnation(host.name, host.identity.incarnation)
    found = []
    for number, row in enumerate(table.partitions):
        if row.leader != host.name or me not in row.in_sync:
            continue
        for name in row.replicas:
            node = table.node(name)
            if name == host.name or node is None:
                continue
            member = Incarnation(name, node.incarnation)
            if member in row.in_sync:
                left = tuple(other for other in row.in_sync if other != member)
                found.append((number, row._replace(in_sync=left)))
            elif node.status == ALIVE:
                found.append((number, row._replace(in_sync=(*row.in_sync, member))))
    return found
