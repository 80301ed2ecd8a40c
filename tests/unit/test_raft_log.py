"""The log: entries behind a base, the configuration in force, and where two logs can agree."""

import pytest

from gimmal.cluster.raft import COMMAND, CONFIGURATION, EMPTY, NOOP, Configuration, Entry, Log, Snapshot
from gimmal.cluster.raft.log import read_entries

ABC = Configuration(("a", "b", "c"), ())
ABCD = Configuration(("a", "b", "c"), ("d",))


def log_of(terms: str, base: int = 0) -> Log:
    """A log whose entries have these terms; `base` of them are in its snapshot only."""
    entries = [Entry(int(term), COMMAND, (index,)) for index, term in enumerate(terms, 1)]
    snapshot = Snapshot(base, entries[base - 1].term, ABC, ("state",)) if base else EMPTY
    return Log(snapshot, entries[base:])


def test_an_empty_log_ends_before_everything() -> None:
    log = Log(EMPTY)
    assert (log.last_index, log.last_term, log.term_at(0), log.term_at(1)) == (0, 0, 0, None)
    assert log.configuration.members == ()


def test_terms_are_known_from_the_base_to_the_end() -> None:
    log = log_of("112233", base=2)
    assert [log.term_at(index) for index in range(8)] == [None, None, 1, 2, 2, 3, 3, None]
    assert log.entry(3) == Entry(2, COMMAND, (3,))
    assert [entry.payload for entry in log.entries_from(5)] == [(5,), (6,)]
    assert log.entries_from(7) == ()
    with pytest.raises(AssertionError):
        log.entries_from(2)
    with pytest.raises(AssertionError):
        log.entry(2)


@pytest.mark.parametrize(
    ("terms", "base", "index", "term", "agreed"),
    [
        ("1112223", 0, 7, 3, 7),
        ("1112223", 0, 7, 2, 6),
        ("1112223", 0, 5, 2, 5),
        ("1112223", 0, 5, 1, 3),
        ("1112223", 0, 99, 2, 6),
        ("1112223", 0, 99, 0, 0),
        ("1112223", 4, 7, 2, 6),
        ("1112223", 4, 4, 2, 4),
        ("1112223", 4, 3, 2, 3),  # before the base: only a snapshot helps
        ("1112223", 4, 7, 1, 3),
        ("", 0, 5, 5, 0),
    ],
)
def test_logs_can_agree_only_on_terms_that_both_may_have(
    terms: str, base: int, index: int, term: int, agreed: int
) -> None:
    assert log_of(terms, base).last_not_after(index, term) == agreed


def test_the_newest_configuration_is_in_force_until_it_is_cut_off() -> None:
    log = Log(Snapshot(3, 1, ABC, ()))
    log.append(Entry(1, COMMAND, ("x",)))
    assert log.append(Entry(2, CONFIGURATION, ABCD)) == 5
    log.append(Entry(2, COMMAND, ("y",)))
    assert (log.configuration, log.configuration_index) == (ABCD, 5)
    assert [log.configuration_at(index) for index in (3, 4, 5, 6)] == [ABC, ABC, ABCD, ABCD]
    log.truncate_from(5)
    assert (log.configuration, log.configuration_index, log.last_index) == (ABC, 3, 4)


def test_a_snapshot_has_the_configuration_of_its_place_and_leaves_a_tail() -> None:
    log = Log(Snapshot(1, 1, ABC, ()), [Entry(1, COMMAND, (index,)) for index in (2, 3, 4, 5)])
    log.append(Entry(2, CONFIGURATION, ABCD))
    log.append(Entry(3, NOOP, ()))
    log.compact(5, ("state",), kept=2)
    assert log.snapshot == Snapshot(5, 1, ABC, ("state",))
    assert (log.base_index, log.term_at(2), log.term_at(3), log.configuration) == (3, None, 1, ABCD)
    log.compact(7, ("later",), kept=2)
    assert log.snapshot == Snapshot(7, 3, ABCD, ("later",))
    assert (log.base_index, log.configuration_index, log.configuration_at(6)) == (5, 6, ABCD)
    log.compact(7, ("later",), kept=0)
    assert (log.base_index, log.last_index, log.last_term, log.configuration) == (7, 7, 3, ABCD)


def test_a_tail_never_brings_back_what_is_gone() -> None:
    log = log_of("11111", base=3)
    log.compact(4, ("state",), kept=100)
    assert log.base_index == 3


def test_nothing_in_the_snapshot_is_cut_off() -> None:
    with pytest.raises(AssertionError):
        log_of("11111", base=3).truncate_from(3)


def test_a_portion_is_bounded_by_count_and_bytes_but_never_empty() -> None:
    log = Log(EMPTY, [Entry(1, COMMAND, (b"x" * 100,)) for _ in range(10)])
    assert len(log.portion_from(1, 4, 10_000)) == 4
    assert len(log.portion_from(8, 64, 10_000)) == 3
    assert len(log.portion_from(1, 64, 350)) == 3
    assert len(log.portion_from(1, 64, 10)) == 1


def test_entries_from_the_wire_are_read() -> None:
    trees = ((2, NOOP, ()), (2, COMMAND, ("x",)), (3, CONFIGURATION, (("a",), ())))
    assert read_entries(trees, 1, 3) == tuple(Entry(*tree) for tree in trees)


@pytest.mark.parametrize(
    "trees",
    [
        ((2, 9, ()),),  # no such kind
        ((2, CONFIGURATION, ("a",)),),
        ((2, CONFIGURATION, (("a", "a"), ())),),
        ((2, COMMAND, None),),
        ((1, COMMAND, ()),),  # before the entry it follows
        ((3, COMMAND, ()), (2, COMMAND, ())),
        ((4, COMMAND, ()),),  # after its leader's term
    ],
)
def test_what_is_no_entry_is_refused(trees: tuple[tuple[int, int, object], ...]) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_entries(trees, 2, 3)
