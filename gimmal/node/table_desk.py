"""Clients that ask for the table: each is answered once, within a turn or a few.

A table of many partitions takes a moment to write down, and after a failure everybody asks at once. So a turn answers
as many as `ROWS_PER_TURN` allows, at least one, and the others wait, in the order in which they came: a node that does
nothing else for seconds would be taken for dead. Whoever asks again meanwhile keeps its place.
"""

from collections.abc import Iterator
from typing import Any, Final

from gimmal.cluster.table import Table

ROWS_PER_TURN: Final = 32_768
"""Rows that are written down in a turn: some 50 ms."""

WAITING_MAX: Final = 16_384


class TableDesk:
    """The clients that wait, and the version of the table that each has."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, peer: bytes, version: int) -> None:
        """Let a client wait that has the table of a version; 0: none. Beyond `WAITING_MAX` it has to ask again."""
        if peer in self._waiting or len(self._waiting) < WAITING_MAX:
            self._waiting[peer] = version

    def answers(self, table: Table) -> Iterator[tuple[bytes, tuple[Any, ...] | None]]:
        """Yield what this turn has for whom: what is new in the table as a tree, or None if nothing is."""
        rows = 0
        tree_by_version: dict[int, tuple[Any, ...]] = {}
        for peer, version in list(self._waiting.items()):
            if rows >= ROWS_PER_TURN:
                return
            del self._waiting[peer]
            if version >= table.version:
                yield peer, None
                continue
            tree = tree_by_version.get(version)
            if tree is None:
                tree = tree_by_version[version] = table.to_wire(version)
            rows += len(tree[-1]) + len(tree[-2])
            yield peer, tree
