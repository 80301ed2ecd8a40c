"""The disk of a simulated machine: one journal file, and what a crash makes of it.

What was written is safe once it was synced. Of an append that was not, a crash leaves any prefix: nothing, all of it,
or a torn tail. A replacement is a rename: after a crash there is either the old file or the new one, whole.
"""

from random import Random
from typing import Protocol


class Save(Protocol):
    """What a core asks to have written."""

    @property
    def data(self) -> bytes: ...
    @property
    def replaces(self) -> bool: ...


class Disk:
    """A journal file that survives its process, as far as it was synced."""

    def __init__(self) -> None:
        self._synced = bytearray()
        self._unsynced: Save | None = None

    @property
    def is_blank(self) -> bool:
        """Whether a process that starts from it now would know nothing."""
        return not self._synced

    def write(self, save: Save) -> None:
        assert self._unsynced is None, "a turn writes once and syncs before it ends"
        self._unsynced = save

    def sync(self) -> None:
        if self._unsynced is not None:
            self._keep(self._unsynced.data, self._unsynced.replaces)
            self._unsynced = None

    def crash(self, dice: Random) -> bool:
        """Lose what was not synced, or a part of it; say whether the journal has a torn tail now."""
        save, self._unsynced = self._unsynced, None
        if save is None:
            return False
        if save.replaces:
            if dice.random() < 0.5:
                self._keep(save.data, replaces=True)
            return False
        kept = dice.choice((0, len(save.data), dice.randint(0, len(save.data)), dice.randint(0, len(save.data))))
        self._keep(save.data[:kept], replaces=False)
        return 0 < kept < len(save.data)

    def read(self) -> bytes:
        assert self._unsynced is None, "a process reads its journal at its start"
        return bytes(self._synced)

    def truncate(self, size_bytes: int) -> None:
        """Cut off what the reader of the journal made out to be a torn tail, before anything is appended."""
        del self._synced[size_bytes:]

    def _keep(self, data: bytes, replaces: bool) -> None:
        if replaces:
            self._synced = bytearray()
        self._synced += data
