"""What must hold of leases: while a process may answer reads on its own word, nobody else leads what it leads.

Whoever leads something by its own table, and no more by the newest that anybody has shown, has no lease by its own
clock, whatever its rate and however long it has been hanging: not when that table appears, and at no turn later.
A leader that hands a leadership over itself has stopped reading before, and is not held to it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gimmal.cluster.table import Table
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from tests.sim.host import Host

Around = Callable[[], tuple[float, Sequence["Host"]]]
"""The time and all machines."""


class LeaseChecks:
    """Checks of who believes to have a lease."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self.around: Around = lambda: (0.0, ())

    def on_newest(self, newest: Table) -> None:
        """Look at everybody when there is a newer table."""
        time, hosts = self.around()
        for host in hosts:
            if self.look_at(host, newest, time):
                self._counts["leaderships_taken"] += 1

    def on_turn(self, host: "Host", newest: Table | None) -> None:
        """Look at a process that may not have the newest table."""
        if newest is not None and host.table is not None and host.table.version < newest.version:
            time, _ = self.around()
            self.look_at(host, newest, time)

    def look_at(self, host: "Host", newest: Table, time: float) -> bool:
        """Look at one process; say whether something that it leads by its own table was given away."""
        watch, table = host.watch, host.table
        if host.core is None or watch is None or table is None or table.cluster != newest.cluster:
            return False
        row = table.node(host.name)
        if row is None or row.incarnation != host.identity.incarnation:
            return False
        taken = [
            number
            for number, (mine, theirs) in enumerate(zip(table.partitions, newest.partitions, strict=True))
            if mine.leader == host.name and theirs.epoch > mine.epoch and watch.serves(number)
        ]
        if taken and watch.has_lease(host.clock.seconds(time)):
            number = taken[0]
            raise Violation(
                "a lease is waited for",
                f"{host.name} has a lease on partition {number}, whose leader in epoch "
                f"{newest.partitions[number].epoch} is {newest.partitions[number].leader} by table {newest.version}",
            )
        return bool(taken)
