"""What a node asks the meta group for: other in-sync sets, or other leaders, of partitions that it leads.

All that is wanted of one kind goes as one request, and the next only after that one is over. Requests are numbered, and
the meta group takes none that is older than one it has decided: so when request n has been answered, whatever the
answer, n can change nothing any more. Which of its changes were made, the table says: the answer carries the version at
which it was decided, and in a table of that version a row that is still as it was was not changed.
"""

from typing import Any, NamedTuple

from gimmal.types import Incarnation


class Request(NamedTuple):
    """Changes that the meta group is asked to make, under a number of this node's.

    A change is (partition, epoch, version, in-sync set), or (partition, epoch, version, name of the new leader) if
    `is_handover`: the epoch and version are those of the row under which it was wanted.
    """

    number: int
    is_handover: bool
    changes: tuple[tuple[Any, ...], ...]


class Petition:
    """The requests of one life of a node: their numbers count from 1."""

    def __init__(self) -> None:
        self._in_sync_sets: dict[int, tuple[Any, ...]] = {}
        self._leaders: dict[int, tuple[Any, ...]] = {}
        self._asked: Request | None = None
        self._answered_at_version: int | None = None
        self._is_lost = False
        self._number = 0

    def want_in_sync(self, partition: int, epoch: int, version: int, in_sync: tuple[Incarnation, ...]) -> None:
        """Want another in-sync set of a partition, under the epoch and version that were seen."""
        members = tuple((name, number) for name, number in in_sync)
        self._in_sync_sets[partition] = (partition, epoch, version, members)

    def want_leader(self, partition: int, epoch: int, version: int, name: str) -> None:
        """Want another leader of a partition, under the epoch and version that were seen."""
        self._leaders[partition] = (partition, epoch, version, name)

    @property
    def is_due(self) -> bool:
        """Whether `take` has a request to give."""
        return self._is_lost or (self._asked is None and bool(self._in_sync_sets or self._leaders))

    def take(self) -> Request | None:
        """Return the request to be made now, once; None while the last is not over, or nothing is wanted."""
        if not self.is_due:
            return None
        if self._is_lost:
            self._is_lost = False
            return self._asked
        is_handover = bool(self._leaders)
        wanted = self._leaders if is_handover else self._in_sync_sets
        self._number += 1
        self._asked = Request(self._number, is_handover, tuple(wanted.values()))
        self._answered_at_version = None
        wanted.clear()
        return self._asked

    def on_lost(self) -> None:
        """Learn that nobody asks for anything any more: what was not answered is due again, under its number."""
        self._is_lost = self._asked is not None and self._answered_at_version is None

    def on_answer(self, number: int, version: int) -> None:
        """Learn that a request was decided, by the table of a version."""
        if self._asked is not None and self._asked.number == number:
            self._answered_at_version = version
            self._is_lost = False

    def settled(self, version: int) -> list[tuple[int, int]]:
        """Return (partition, version of its row) of the in-sync sets that were asked for and decided by this table.

        What was granted has a row of a higher version. Hand-overs need no such look: who was refused is told by its
        row, which has been touched, and until then leads no more.
        """
        if self._asked is None or self._answered_at_version is None or version < self._answered_at_version:
            return []
        asked, self._asked = self._asked, None
        if asked.is_handover:
            return []
        return [(partition, row_version) for partition, _, row_version, _ in asked.changes]
