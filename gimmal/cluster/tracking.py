"""Which table a node goes by, and how it gets a newer one.

Every message says in its header which version its sender has. Whoever hears of a newer one fetches what is new since
its own from the one that told, once, after a short random wait; if no answer comes, from the next that tells. A voter
needs no fetching: its own state machine makes the tables. Versions only rise. Rows that nobody asked for are dropped,
and nobody is answered more often than it could make use of.
"""

from typing import TYPE_CHECKING, Final

from gimmal.cluster.table import Table
from gimmal.errors import RemoteProtocolError
from gimmal.wire import limits
from gimmal.wire.peer_messages import BLANK, FetchRows, PeerMessage, Rows

if TYPE_CHECKING:
    from random import Random

_JITTER_S: Final = 0.05
_PATIENCE_S: Final = 0.4
_ANSWER_EVERY_S: Final = 0.1
_NEVER: Final = float("inf")


class Tracking:
    """The newest table this node knows. Addresses are those of peers."""

    def __init__(self, dice: "Random") -> None:
        self.table: Table | None = None
        self._dice = dice
        self._wanted = 0
        self._teller = ""
        self._fetch_at = _NEVER
        self._asked_at = -_NEVER
        self._asked = ""
        self._answered_at: dict[str, float] = {}
        self._has_to_fetch_all = False
        self._outbox: list[tuple[str, PeerMessage]] = []

    @property
    def version(self) -> int:
        """The version of the table, 0 without one."""
        return self.table.version if self.table is not None else 0

    def on_heard(self, version: int, teller: str, now: float) -> None:
        """Learn that the node at an address has a table of some version."""
        if version <= self.version or not teller:
            return
        is_waiting = self._fetch_at < _NEVER or now - self._asked_at < _PATIENCE_S
        if version > self._wanted or not is_waiting:
            self._wanted, self._teller = version, teller
        if not is_waiting:
            self._fetch_at = now + self._dice.uniform(0, _JITTER_S)

    def adopt(self, table: Table) -> bool:
        """Take a table that this node's own state machine made; True if it is newer."""
        if table.version <= self.version:
            return False
        self.table = table
        return True

    def on_rows(self, message: Rows, source: str, cluster: bytes) -> bool:
        """Take what was fetched for a cluster from a peer address (empty: not known); True if there is a newer table.

        Raises:
            RemoteProtocolError: it fits no table that this node has; everything is fetched next time.
        """
        if not self._asked or source not in ("", self._asked):
            return False
        self._asked, self._asked_at = "", -_NEVER
        if message.table is None:
            return False
        try:
            table = self.table.updated(message.table) if self.table is not None else Table.from_wire(message.table)
        except RemoteProtocolError:
            self._has_to_fetch_all = True
            raise
        self._has_to_fetch_all = False
        if table.cluster != cluster:
            raise RemoteProtocolError("a table of another cluster")
        return self.adopt(table)

    def answer(self, asker: str, version: int, now: float) -> None:
        """Answer the node at a peer address, which has a table of some version."""
        if not asker or now - self._answered_at.get(asker, -_NEVER) < _ANSWER_EVERY_S:
            return
        if len(self._answered_at) >= limits.NODES_MAX:
            self._answered_at.clear()
        self._answered_at[asker] = now
        table = self.table
        tree = table.to_wire(version) if table is not None and table.version > version else None
        self._outbox.append((asker, Rows(*BLANK, tree)))

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        return self._fetch_at

    def tick(self, now: float) -> None:
        """Fetch if it is time."""
        if self._fetch_at > now:
            return
        self._fetch_at = _NEVER
        if self._wanted > self.version:
            self._asked, self._asked_at = self._teller, now
            question = FetchRows(*BLANK, 0 if self._has_to_fetch_all else self.version)
            self._outbox.append((self._teller, question))

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (peer address, message) pairs to be sent."""
        outbox, self._outbox = self._outbox, []
        return outbox
