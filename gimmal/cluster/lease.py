"""A node's lease: until when nobody else can have been given what this node leads.

The leader of the meta group promises a node with each grant that it takes no leadership from it for `LEASE_S` after
the heartbeat that the grant answers. Under that promise a leader of partitions may answer reads on its own word.

Rules of this side; each has cost a stale read in a model from which it was left out:

- It counts from when the heartbeat was *sent*: from when it arrived, the meta group counts. The node's clock may be
  slow, so it counts only `LEASE_S * (1 - DRIFT_MAX)`; the clock has to run on while the machine is suspended.
- A grant names the table it was made under. Before the node goes by that table it may believe to lead what was given
  away long ago, and the grant is of no use. An earlier grant, under a table that it has, still is, until it ends.
- A heartbeat and its grant are of one life of the node: another incarnation begins with nothing.

The other side is in `gimmal.cluster.meta`: `grants` says when a grant goes out, `steward` how long it waits.
"""

from math import inf
from typing import Final, NamedTuple

LEASE_S: Final = 1.0
DRIFT_MAX: Final = 0.02
"""How much faster or slower than time a clock may run."""

MARGIN_S: Final = 0.05
"""What the meta group waits beyond `LEASE_S`: its own clock may be fast, so it is at least `DRIFT_MAX * LEASE_S`."""

assert MARGIN_S >= DRIFT_MAX * LEASE_S

_USABLE_S: Final = LEASE_S * (1 - DRIFT_MAX)
_UNANSWERED_MAX: Final = 64


class _Grant(NamedTuple):
    until: float
    version: int


class Lease:
    """What one life of a node was promised. Times are seconds of the node's own clock."""

    def __init__(self) -> None:
        self._sent_at_by_number: dict[int, float] = {}
        self.grants: list[_Grant] = []  # in the order in which they end; a later one has a later table

    def forget(self) -> None:
        """Begin with nothing: this node is another incarnation, or nobody."""
        self._sent_at_by_number.clear()
        self.grants = []

    def on_sent(self, number: int, now: float) -> None:
        """Note that heartbeat `number` is about to leave."""
        sent_at = self._sent_at_by_number
        for earlier in [known for known, at in sent_at.items() if now - at > _USABLE_S]:
            del sent_at[earlier]  # an answer would come too late
        if len(sent_at) >= _UNANSWERED_MAX:
            del sent_at[next(iter(sent_at))]
        sent_at[number] = now

    def on_granted(self, number: int, version: int) -> None:
        """Take the grant that answers heartbeat `number` and was made under the table of `version`."""
        sent_at = self._sent_at_by_number.pop(number, None)
        if sent_at is None:
            return
        grant = _Grant(sent_at + _USABLE_S, version)
        # Whatever ends no later and demands no older table is worth nothing beside this one.
        kept = [other for other in self.grants if other.until > grant.until or other.version < grant.version]
        self.grants = sorted((*kept, grant))[-_UNANSWERED_MAX:]

    def valid_until(self, version_applied: int) -> float:
        """Return when the lease ends of a node that goes by the table of a version; minus infinity if it has none."""
        return max((grant.until for grant in self.grants if grant.version <= version_applied), default=-inf)

    def is_valid(self, now: float, version_applied: int) -> bool:
        """Say whether a node that goes by the table of a version has a lease at a moment, which is not yet past."""
        return now < self.valid_until(version_applied)
