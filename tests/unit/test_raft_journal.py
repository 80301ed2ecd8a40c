"""The bytes of a journal: what is read back, what a crash may cost, and what must never be overlooked."""

import pytest

from gimmal.cluster.raft import (
    COMMAND,
    CONFIGURATION,
    EMPTY,
    Configuration,
    Entry,
    HardState,
    Identity,
    JournalCorrupt,
    Snapshot,
    Stored,
    Unsaved,
    read_journal,
    rewritten,
    save_of,
)
from gimmal.cluster.raft import journal as records
from gimmal.errors import ConfigError

ME = Identity(b"0123456789abcdef", "n1/00ff")
ABC = Configuration(("a", "b"), ("c",))
ENTRIES = (Entry(1, COMMAND, ("x", 1)), Entry(2, CONFIGURATION, ABC), Entry(2, COMMAND, (b"y", None)))


def appended(*entries: Entry, first_index: int, hard_state: HardState | None = None) -> bytes:
    save = save_of(ME, Unsaved(hard_state, None, first_index, entries))
    assert not save.replaces
    return save.data


def test_nothing_holds_nothing() -> None:
    assert read_journal(b"") == (None, Stored(), 0)


def test_what_was_written_is_read() -> None:
    begun = rewritten(ME, Stored(1, None, Snapshot(4, 1, ABC, ("state",)), ()))
    assert begun.replaces
    data = begun.data + appended(*ENTRIES, first_index=5, hard_state=HardState(2, "b"))
    journal = read_journal(data)
    assert journal.identity == ME
    assert journal.stored == Stored(2, "b", Snapshot(4, 1, ABC, ("state",)), ENTRIES)
    assert journal.length == len(data)
    assert type(journal.stored.snapshot.configuration) is Configuration


def test_an_entry_replaces_those_from_its_index_on() -> None:
    data = rewritten(ME, Stored(entries=ENTRIES)).data + appended(Entry(3, COMMAND, ("z",)), first_index=2)
    assert read_journal(data).stored.entries == (ENTRIES[0], Entry(3, COMMAND, ("z",)))


def test_a_snapshot_replaces_everything() -> None:
    unsaved = Unsaved(HardState(3, None), Snapshot(2, 2, ABC, ("state",)), 3, ENTRIES[2:])
    save = save_of(ME, unsaved)
    assert save.replaces
    assert read_journal(save.data) == (ME, Stored(3, None, unsaved.snapshot or EMPTY, ENTRIES[2:]), len(save.data))


@pytest.mark.parametrize(
    "rest", [b"\0", b"\0" * 4096, b"\xff" * 100, b"garbage", b"\0\0\0\5\0\0\0\0\x95\x03\x01\x01\x01"]
)
def test_what_a_crash_left_behind_the_last_record_is_cut(rest: bytes) -> None:
    data = rewritten(ME, Stored(entries=ENTRIES)).data
    assert read_journal(data + rest) == (ME, Stored(entries=ENTRIES), len(data))


def test_a_vote_that_was_lost_in_the_middle_is_never_overlooked() -> None:
    begin = rewritten(ME, Stored(1)).data
    vote = records.encode_hard_state(HardState(2, "n2/00"))
    after = appended(ENTRIES[0], first_index=1)
    assert read_journal(begin + vote[:-1]).stored.term == 1
    for damaged in (vote[:-1], b"\0" * len(vote), vote[:9] + b"\x05" + vote[10:], b"\x7f" + vote[1:]):
        with pytest.raises(JournalCorrupt, match=f"damaged at byte {len(begin)}"):
            read_journal(begin + damaged + after)


def record_of(*fields: object) -> bytes:
    return records._record(fields)


@pytest.mark.parametrize(
    "record",
    [
        record_of(9, 1, 2),
        record_of("x"),
        records._record(7),
        record_of(records.IDENTITY, b"short", "n1/00"),
        record_of(records.IDENTITY, b"another cluster!", "n1/00ff"),
        record_of(records.HARD_STATE, 0, None),  # its term goes back
        record_of(records.HARD_STATE, 2, 7),
        record_of(records.HARD_STATE, 2),
        record_of(records.ENTRY, 3, 2, COMMAND, ()),  # leaves a gap
        record_of(records.ENTRY, 0, 2, COMMAND, ()),
        record_of(records.ENTRY, 1, 2, 9, ()),
        record_of(records.ENTRY, 1, 2, CONFIGURATION, ("a",)),
        record_of(records.ENTRY, -1, 2, COMMAND, ()),
        record_of(records.SNAPSHOT, 1, "x", ((), ()), ()),
        record_of(records.SNAPSHOT, 1, 1, (("a", "a"), ()), ()),
    ],
)
def test_a_whole_record_that_makes_no_sense_is_refused_even_at_the_end(record: bytes) -> None:
    begin = rewritten(ME, Stored(1, entries=())).data
    with pytest.raises(JournalCorrupt, match=f"at byte {len(begin)} makes no sense"):
        read_journal(begin + record)


def test_a_damaged_journal_is_an_error_of_the_set_up() -> None:
    assert issubclass(JournalCorrupt, ConfigError)
