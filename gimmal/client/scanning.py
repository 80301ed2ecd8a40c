"""A scan over all keys: which pages to ask for next, and what to make of them.

Every partition is scanned by its own cursor, a window of partitions at a time so that a page of the scan is one
message per node. See `gimmal.store.kv` for why a cursor misses no key.
"""

from typing import Any, Final

_PARTITIONS_AT_ONCE: Final = 64


class Scan:
    """One scan under way."""

    def __init__(self, prefix: bytes, partitions: int, *, as_bytes: bool) -> None:
        self.prefix = prefix
        self._as_bytes = as_bytes
        self._cursor_by_partition: dict[int, tuple[int, int]] = dict.fromkeys(range(partitions), (0, 0))
        self._asked: list[int] = []

    @property
    def is_open(self) -> bool:
        """Whether there are pages left."""
        return bool(self._cursor_by_partition)

    def next_pages(self) -> dict[int, tuple[int, int]]:
        """Return the cursors to ask for: partition -> (position, removals)."""
        self._asked = list(self._cursor_by_partition)[:_PARTITIONS_AT_ONCE]
        return {partition: self._cursor_by_partition[partition] for partition in self._asked}

    def take(self, pages: list[Any]) -> list[str | bytes]:
        """Take the pages asked for and return their keys."""
        keys: list[str | bytes] = []
        for partition, (position, removals, found) in zip(self._asked, pages, strict=True):
            keys += found if self._as_bytes else map(_shown, found)
            if position < 0:
                del self._cursor_by_partition[partition]
            else:
                self._cursor_by_partition[partition] = (position, removals)
        return keys


def _shown(key: bytes) -> str | bytes:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key
