"""The journal's file: what is on the disk when a call returns, and that its first error is its last."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gimmal.errors import ConfigError
from gimmal.node.journal_file import JournalError, JournalFile


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalFile]:
    opened = JournalFile(tmp_path / "data")
    yield opened
    opened.close()


def content(journal: JournalFile) -> bytes:
    return (journal.directory / "journal").read_bytes()


# --- what it keeps


def test_a_new_directory_is_for_its_owner_alone_and_its_journal_is_empty(journal: JournalFile) -> None:
    assert journal.read() == b""
    assert stat.S_IMODE(journal.directory.stat().st_mode) == 0o700
    for file in journal.directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_was_appended_is_read_again(journal: JournalFile) -> None:
    journal.append(b"one")
    journal.append(b"two")
    assert journal.read() == content(journal) == b"onetwo"


def test_what_replaced_the_rest_is_read_again_with_what_was_appended_to_it(journal: JournalFile) -> None:
    journal.append(b"old")
    journal.replace(b"new")
    journal.append(b"er")
    assert journal.read() == content(journal) == b"newer"


def test_the_next_start_reads_it_all_and_goes_on_behind_it(tmp_path: Path) -> None:
    for number in range(3):
        journal = JournalFile(tmp_path)
        assert journal.read() == b"012"[:number]
        journal.append(b"%d" % number)
        journal.close()


def test_a_torn_tail_is_cut_and_appends_go_on_from_there(journal: JournalFile) -> None:
    journal.append(b"wholeto")
    journal.truncate(5)
    journal.append(b"more")
    assert journal.read() == content(journal) == b"wholemore"


def test_what_a_crash_left_of_a_replacement_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"old")
    (tmp_path / "journal.new").write_bytes(b"half of the n")
    journal = JournalFile(tmp_path)
    assert journal.read() == b"old"
    journal.replace(b"new")
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "lock"]


def test_a_kernel_that_takes_and_gives_little_at_a_time_is_asked_again(
    journal: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pread = os.write, os.pread
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    monkeypatch.setattr(os, "pread", lambda descriptor, size, position: pread(descriptor, min(size, 3), position))
    journal.append(b"0123456789")
    assert journal.read() == b"0123456789"
    journal.replace(b"abcdefgh")
    assert journal.read() == b"abcdefgh"


# --- when it returns


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that matter for what is on the disk, in their order."""
    seen: list[str] = []

    def watch(module: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(module, name)

        def watched(*arguments: Any) -> Any:
            is_directory = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            seen.append("fsync of the directory" if is_directory else name)
            return original(*arguments)

        monkeypatch.setattr(module, name, watched)

    for name in ("write", "fsync", "fdatasync", "ftruncate"):
        watch(os, name)
    watch(Path, "rename")
    return seen


def test_everything_is_synced_in_the_order_that_a_crash_demands(journal: JournalFile, calls: list[str]) -> None:
    journal.append(b"one")
    assert calls == ["write", "fdatasync"]
    calls.clear()
    journal.replace(b"two")
    assert calls == ["write", "fsync", "rename", "fsync of the directory"]
    calls.clear()
    journal.truncate(1)
    assert calls == ["ftruncate", "fdatasync"]


# --- errors


FAULTS: list[tuple[Any, str, str]] = [
    (os, "write", "append"),
    (os, "fdatasync", "append"),
    (os, "write", "replace"),
    (os, "fsync", "replace"),
    (Path, "rename", "replace"),
    (os, "ftruncate", "truncate"),
    (os, "fdatasync", "truncate"),
    (os, "pread", "read"),
]


@pytest.mark.parametrize(("module", "fault", "call"), FAULTS)
def test_the_first_error_is_the_last(
    journal: JournalFile, monkeypatch: pytest.MonkeyPatch, module: Any, fault: str, call: str
) -> None:
    journal.append(b"kept")
    arguments: dict[str, list[Any]] = {"append": [b"new"], "replace": [b"new"], "truncate": [1], "read": []}
    attempts = 0

    def fail(*_arguments: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(module, fault, fail)
        with pytest.raises(JournalError, match=r"Input/output error\. The node stops(?s:.*)Check the disk"):
            getattr(journal, call)(*arguments[call])
    for later, given in arguments.items():  # the disk is well again, and nothing is tried
        with pytest.raises(JournalError, match="an earlier error has left it in doubt"):
            getattr(journal, later)(*given)
    assert attempts == 1
    if call in ("replace", "read"):
        assert content(journal) == b"kept"


def test_a_journal_that_is_cut_while_it_is_read_is_an_error(
    journal: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(b"kept")
    monkeypatch.setattr(os, "pread", lambda *_arguments: b"")
    with pytest.raises(JournalError, match="ends after 0 of 4 bytes"):
        journal.read()


HOLD = """
import sys
from pathlib import Path
from gimmal.node.journal_file import JournalFile

journal = JournalFile(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_is_for_one_node_until_its_process_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"in use by another node, process {other.pid}:(?s:.*)--data-dir"):
            JournalFile(tmp_path)
        other.kill()
        other.wait()
        JournalFile(tmp_path).close()


def test_a_directory_that_cannot_be_used_is_an_error_that_says_why(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for directory, reason in ((file, "File exists"), (file / "below", "Not a directory")):
        with pytest.raises(ConfigError, match=f"cannot use the data directory {directory}: {reason}"):
            JournalFile(directory)


def test_a_failed_opening_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match="Is a directory"):
        JournalFile(tmp_path)
    assert os.listdir("/proc/self/fd") == before
