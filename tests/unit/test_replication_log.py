"""The log of a copy: entries behind a base, how far each epoch reaches, and where two logs part."""

import pytest

from gimmal.replication.log import Log
from gimmal.types import Entry
from gimmal.wire import commands
from gimmal.wire.commands import size_of


def entry_of(epoch: int, now_ms: int = 0, value: bytes = b"\x01") -> Entry:
    return (epoch, now_ms, 0, 0, 0, (commands.SET, b"k", value, 0, 0, None))


def log_of(epochs: str, base: int = 0) -> Log:
    """A log whose entries have these epochs; the first `base` of them are forgotten."""
    log = Log()
    for epoch in epochs:
        log.append(entry_of(int(epoch)))
    log.forget(base)
    return log


def test_an_empty_log_ends_before_everything() -> None:
    log = Log()
    assert (log.last, log.last_epoch, log.epoch_at(0), log.epoch_at(1), log.history()) == (0, 0, 0, None, ((0, 0),))


def test_a_log_behind_a_snapshot_knows_the_epoch_of_its_base() -> None:
    log = Log(40, 4, 1_000)
    assert (log.last, log.last_epoch, log.now_ms) == (40, 4, 1_000)
    assert [log.epoch_at(seq) for seq in (39, 40, 41)] == [None, 4, None]
    assert log.append(entry_of(5)) == 41
    assert log.history() == ((4, 40), (5, 41))


def test_epochs_are_known_from_the_base_to_the_end() -> None:
    log = log_of("112233", base=2)
    assert [log.epoch_at(seq) for seq in range(8)] == [None, None, 1, 2, 2, 3, 3, None]
    assert (log.base, log.last, log.last_epoch) == (2, 6, 3)


@pytest.mark.parametrize(
    ("epochs", "base", "history"),
    [
        ("", 0, ((0, 0),)),
        ("1", 0, ((0, 0), (1, 1))),
        ("1133", 0, ((0, 0), (1, 2), (3, 4))),
        ("1133", 1, ((1, 2), (3, 4))),
        ("1133", 2, ((1, 2), (3, 4))),
        ("1133", 3, ((3, 4),)),
        ("1133", 4, ((3, 4),)),
    ],
)
def test_a_history_tells_how_far_each_epoch_reaches(epochs: str, base: int, history: object) -> None:
    assert log_of(epochs, base).history() == history


@pytest.mark.parametrize(
    ("ours", "base", "theirs", "their_base", "common"),
    [
        ("1112223", 0, "1112223", 0, 7),
        ("1112223", 0, "111222", 0, 6),  # it is behind
        ("111222", 0, "1112223", 0, 6),  # it has more
        ("1112223", 0, "11122", 0, 5),
        ("1112223", 0, "111444", 0, 3),  # each has something of its own
        ("1112223", 0, "1144", 0, 2),
        ("1112", 0, "1111", 0, 3),
        ("111", 0, "222", 0, 0),
        ("111", 0, "", 0, 0),  # a new copy, and all is still here
        ("111", 1, "", 0, None),  # only a snapshot helps
        ("1112223", 4, "111444", 0, None),
        ("1112223", 3, "111444", 0, 3),
        ("1112223", 4, "1112224", 0, 6),
        ("1112223", 7, "1112223", 0, 7),
        ("1112223", 7, "1112222", 0, None),
        ("1112223", 0, "1112224", 6, 6),  # the other one has forgotten more
        ("1112223", 0, "1112223", 7, 7),
        ("1112223", 5, "1112223", 4, 7),
    ],
)
def test_two_logs_part_where_their_epochs_say_so(
    ours: str, base: int, theirs: str, their_base: int, common: int | None
) -> None:
    assert log_of(ours, base).last_common(log_of(theirs, their_base).history()) == common


@pytest.mark.parametrize("base", [0, 2, 4])
@pytest.mark.parametrize("last", [4, 5, 6, 7])
def test_a_truncated_log_is_as_if_the_rest_had_never_been(base: int, last: int) -> None:
    log = log_of("1122334", base)
    log.truncate(last)
    shorter = log_of("1122334"[:last], base)
    assert (log.last, log.entries, log.history()) == (last, shorter.entries, shorter.history())
    assert log.size_bytes == sum(log.sizes) == shorter.size_bytes
    assert log.append(entry_of(5)) == last + 1
    assert log.history()[-1] == (5, last + 1)


def test_nothing_below_the_base_is_cut_off() -> None:
    with pytest.raises(AssertionError, match="forgotten"):
        log_of("1122", base=3).truncate(2)


def test_what_is_forgotten_before_is_forgotten() -> None:
    log = log_of("1122", base=3)
    log.forget(2)
    assert (log.base, log.size_bytes) == (3, sum(log.sizes))


def test_the_time_of_a_log_is_the_highest_there_ever_was() -> None:
    log = Log(0, 0, 5)
    for now_ms in (3, 9, 7):
        log.append(entry_of(1, now_ms))
    assert log.now_ms == 9
    log.truncate(0)
    assert log.now_ms == 9


def test_a_portion_is_bounded_by_bytes_but_never_empty() -> None:
    log = Log()
    for size_bytes in (10, 10, 5_000, 10):
        log.append(entry_of(1, value=bytes(size_bytes)))
    sizes = log.sizes
    assert log.size_bytes == sum(sizes) == sum(size_of(entry[5]) for entry in log.entries)
    assert log.portion(1, 10_000) == (tuple(log.entries), sum(sizes))
    assert log.portion(1, sum(sizes)) == (tuple(log.entries), sum(sizes))
    assert log.portion(1, sum(sizes) - 1) == (tuple(log.entries[:3]), sum(sizes[:3]))
    assert log.portion(1, sum(sizes[:2])) == (tuple(log.entries[:2]), sum(sizes[:2]))
    assert log.portion(1, 0) == (tuple(log.entries[:1]), sizes[0])
    assert log.portion(3, 0) == (tuple(log.entries[2:3]), sizes[2])
    assert log.portion(4, 0) == (tuple(log.entries[3:]), sizes[3])
    assert log.portion(5, 10_000) == ((), 0)
    log.forget(2)
    assert log.portion(3, 10_000) == (tuple(log.entries), sum(sizes))
