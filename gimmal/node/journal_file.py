"""The file in which a node keeps what it must not forget, and the directory that only one node may use at a time.

What the bytes mean is the core's business. This is about when they are safe:

- `append` returns when the bytes are on the disk. A crash before that leaves any prefix of them.
- `replace` returns when the new content is on the disk under the file's name. A crash before that leaves the old
  content or the new one, whole.
- The first error ends it: `JournalError`, and every later call is one too. After a failed fsync the kernel may have
  dropped what it could not write, so a second one that succeeds says nothing. The node has to stop, and starts again
  from what the disk really holds.

A lock on the directory is the kernel's and ends with the process, however it ends.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gimmal.errors import ConfigError, GimmalError

_JOURNAL: Final = "journal"
_NEW_JOURNAL: Final = "journal.new"
_LOCK: Final = "lock"
_FLAGS: Final = os.O_CREAT | os.O_CLOEXEC | os.O_APPEND | os.O_RDWR


class JournalError(GimmalError):
    """The disk did not keep what the node has to keep. A node that meets this ends."""


class JournalFile:
    """The journal in a data directory, which is made if it is not there.

    Raises:
        ConfigError: another process uses the directory, or it cannot be used at all.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._is_broken = False
        with contextlib.ExitStack() as undo:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock = os.open(directory / _LOCK, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 0o600)
                undo.callback(os.close, self._lock)
                self._take_lock()
                (directory / _NEW_JOURNAL).unlink(missing_ok=True)  # of a replacement that a crash cut short
                self._journal = os.open(directory / _JOURNAL, _FLAGS, 0o600)
                undo.callback(os.close, self._journal)
                self._sync_directory()
            except OSError as reason:
                raise ConfigError(
                    f"cannot use the data directory {directory}: {reason.strerror}. "
                    "Give the node a directory of its own that it may write to, with --data-dir"
                ) from None
            undo.pop_all()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise ConfigError(
                f"the data directory {self.directory} is in use by another node, process {owner or 'unknown'}: "
                "each node needs its own. Stop that one, or choose another directory with --data-dir"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)

    def read(self) -> bytes:
        """Return everything the journal holds.

        Raises:
            JournalError: the disk cannot read it.
        """
        with self._fatal("read"):
            size_bytes = os.fstat(self._journal).st_size
            parts, position = [], 0
            while position < size_bytes:
                part = os.pread(self._journal, size_bytes - position, position)
                if not part:
                    raise OSError(0, f"it ends after {position} of {size_bytes} bytes")
                parts.append(part)
                position += len(part)
        return b"".join(parts)

    def append(self, data: bytes) -> None:
        """Write bytes behind what is there; when this returns they are on the disk.

        Raises:
            JournalError: they may not be.
        """
        with self._fatal("append to"):
            _write(self._journal, data)
            os.fdatasync(self._journal)

    def replace(self, data: bytes) -> None:
        """Put bytes in the place of everything that is there; when this returns they are on the disk.

        Raises:
            JournalError: they may not be.
        """
        with self._fatal("replace"):
            path = self.directory / _NEW_JOURNAL
            journal = os.open(path, _FLAGS | os.O_TRUNC, 0o600)
            try:
                _write(journal, data)
                os.fsync(journal)
                path.rename(self.directory / _JOURNAL)
                self._sync_directory()
            except OSError:
                os.close(journal)
                raise
            os.close(self._journal)
            self._journal = journal

    def truncate(self, size_bytes: int) -> None:
        """Cut off what a crash left of the last append; it was never answered for.

        Raises:
            JournalError: the disk did not do it.
        """
        with self._fatal("truncate"):
            os.ftruncate(self._journal, size_bytes)
            os.fdatasync(self._journal)

    def close(self) -> None:
        """Give the directory back."""
        os.close(self._journal)
        os.close(self._lock)

    def _sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _fatal(self, what: str) -> Iterator[None]:
        path = self.directory / _JOURNAL
        if self._is_broken:
            raise JournalError(f"cannot {what} {path}: an earlier error has left it in doubt")
        try:
            yield
        except OSError as reason:
            self._is_broken = True
            raise JournalError(
                f"cannot {what} {path}: {reason.strerror}. The node stops, because it could not keep what it "
                "promises. Check the disk, then start it again"
            ) from reason


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
