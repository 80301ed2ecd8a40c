"""A node of the small world: the copies of one life, the table it goes by, and what it has asked the meta group."""

from gimmal.cluster.table import Table
from gimmal.node.views import views
from gimmal.replication.holdings import Deposed, Holdings
from gimmal.replication.petition import Request as IsrRequest
from gimmal.store.footprint import Footprint
from gimmal.types import Incarnation, Instant
from tests.small.front_door import Memory


class Node:
    """One life. `seen` is what the ledger has seen of its commits, `remembered` what an ablation lets it remember."""

    def __init__(self, me: Incarnation, life: int, log_bytes: int, skew_ms: int) -> None:
        self.me = me
        self.life = life
        self.is_up = True
        self.table: Table | None = None
        self.holdings = Holdings(me, Footprint(), log_bytes)
        self.asked: IsrRequest | None = None
        self.seen: dict[int, int] = {}
        self.remembered: Memory = {}
        self._skew_ms = skew_ms

    def at(self, now_s: float) -> Instant:
        """Return what its clocks show."""
        return Instant(now_s, 1_000_000 + int(now_s * 1000) + self._skew_ms)

    def learn(self, table: Table, now: Instant) -> list[Deposed]:
        """Go by a newer table, as the data plane does; return what has lost its leader here."""
        before, self.table = self.table, table
        deposed = []
        for partition, view in views(table, self.me, before):
            if view is None:
                self.holdings.drop(partition)
                self.seen.pop(partition, None)
            else:
                deposed += self.holdings.see(partition, view, now)
        self.holdings.on_table(table.version, now)
        return deposed
