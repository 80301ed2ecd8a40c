"""One copy: a leader stamps, appends and commits; a follower is aligned, appends, and applies what it is told."""

from itertools import count
from typing import Any

import pytest

from gimmal.replication.replica import Replica
from gimmal.replication.stream import Stream
from gimmal.replication.view import View
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Refused, version_of
from gimmal.types import Entry, Incarnation
from gimmal.wire import commands
from gimmal.wire.codec import pack_value

ONE = pack_value(1)
N1, N2, N3 = (Incarnation(f"n{number}", number) for number in (1, 2, 3))
NOBODY = (0, 0, 0)


def view(
    epoch: int,
    version: int,
    leader: Incarnation | None = N1,
    holders: tuple[Incarnation, ...] = (N1, N2, N3),
    in_sync: tuple[Incarnation, ...] = (N1, N2, N3),
) -> View:
    return View(epoch, version, leader, holders, in_sync, len(holders) // 2 + 1)


def see(replica: Replica, seen: View, now_ms: int = 1_000) -> list[Any]:
    return replica.see(seen, lambda member: Stream(member, count(1)), now_ms)


def alone() -> Replica:
    """The only copy of partition 3, whose no-op has committed."""
    replica = Replica(3, N1, Engine(Footprint()))
    see(replica, view(7, 1, N1, (N1,), (N1,)))
    assert [fact[2] for fact in replica.advance()] == [(commands.NOOP,)]
    return replica


def following(epochs: str = "", commit: int = 0, epoch: int = 5) -> Replica:
    """A copy on n2 with entries of these epochs that hears that n1 leads epoch 5."""
    replica = Replica(3, N2, Engine(Footprint()))
    last = int(epochs[-1]) if epochs else 1
    if epochs:
        see(replica, view(last, 1))
        replica.aligned_epoch = last
        assert replica.follow(0, 0, [entry_of(int(letter)) for letter in epochs], commit)
    see(replica, view(epoch, 2))
    return replica


def entry_of(epoch: int, key: bytes = b"k") -> Entry:
    return (epoch, 1_000, 0, 0, 0, (commands.SET, key, ONE, 0, 0, None))


def epochs_of(replica: Replica) -> str:
    return "".join(str(entry[0]) for entry in replica.log.entries)


def set_(key: bytes, value: bytes = ONE, ttl_ms: int = 0) -> tuple[Any, ...]:
    return (commands.SET, key, value, ttl_ms, 0, None)


# -- leading: alone, as all tests of one node are


def test_a_proposal_comes_back_committed_with_its_ticket_and_result() -> None:
    replica = alone()
    ticket, incr = object(), (commands.INCR, b"k", 5)
    assert list(replica.propose(ticket, NOBODY, incr, 1_000)) == [(replica, ticket, incr, 5)]
    ((_, nobody, _, result),) = replica.propose(None, NOBODY, (commands.INCR, b"k", 2**63 - 1), 1_000)
    assert nobody is None
    assert isinstance(result, Refused)
    assert (replica.partition, replica.epoch) == (3, 7)


def test_every_entry_has_its_own_number_refused_ones_too() -> None:
    replica = alone()
    versions = []
    for value in (ONE, pack_value("text"), ONE):
        replica.propose(None, NOBODY, set_(b"k", value), 1_000)
        versions.append(version_of(replica.read((commands.GET, b"k"), 1_000)))
        replica.propose(None, NOBODY, (commands.INCR, b"k", 2**63 - 1), 1_000)
    assert versions == [2, 4, 6]
    assert (replica.commit, replica.log.last) == (7, 7)


def test_an_entry_says_whose_it_is() -> None:
    replica = alone()
    replica.propose(None, (44, 9, 8), set_(b"k"), 2_000)
    assert replica.log.entries[-1] == (7, 2_000, 44, 9, 8, set_(b"k"))


def test_the_time_of_the_log_never_goes_back() -> None:
    replica = alone()
    replica.propose(None, NOBODY, set_(b"k", ONE, 100), 1_000)
    replica.propose(None, NOBODY, set_(b"other"), 400)
    assert replica.log.now_ms == 1_000
    replica.propose(None, NOBODY, set_(b"late", ONE, 100), 999)
    assert replica.engine.keys.expires_at_ms == {b"k": 1_100, b"late": 1_100}
    ((_, _, _, expired),) = replica.propose(None, NOBODY, (commands.EXPIRE, b"k", 2), 1_100)
    assert expired is True
    assert replica.log.now_ms == 1_100


def test_the_no_op_of_a_later_epoch_is_not_before_the_log_either() -> None:
    replica = alone()
    replica.propose(None, NOBODY, set_(b"k"), 5_000)
    see(replica, view(8, 2, N1, (N1,), (N1,)), now_ms=4_000)
    assert replica.log.entries[-1][:2] == (8, 5_000)


def test_a_read_is_never_before_the_log() -> None:
    replica = alone()
    replica.propose(None, NOBODY, set_(b"k", ONE, 100), 1_000)
    assert replica.read((commands.TTL, b"k"), 400) == 100
    assert replica.read((commands.TTL, b"k"), 1_040) == 60
    assert replica.log.now_ms == 1_000, "a read leaves no trace"


def test_nothing_is_carried_out_before_it_is_committed() -> None:
    replica = Replica(3, N1, Engine(Footprint()))
    see(replica, view(5, 1))
    assert list(replica.propose("ticket", NOBODY, set_(b"k"), 1_000)) == []
    assert replica.read((commands.GET, b"k"), 1_000) is None
    assert not replica.is_ready
    assert replica.advance() == []
    leading = replica.leading
    assert leading is not None
    for progress in leading.followers:
        progress.on_acknowledged(2)
    assert [fact[1] for fact in replica.advance()] == [None, "ticket"]
    assert replica.commit == 2


# -- the table


def test_an_older_row_says_nothing() -> None:
    replica = alone()
    assert see(replica, view(6, 0, N2)) == []
    assert replica.view is not None
    assert (replica.view.version, replica.leading is not None) == (1, True)


def test_an_epoch_that_goes_back_in_a_newer_row_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="went back"):
        see(alone(), view(6, 2))


def test_who_leads_no_more_gives_its_tickets_back() -> None:
    replica = Replica(3, N1, Engine(Footprint()))
    see(replica, view(5, 1))
    replica.propose("one", NOBODY, set_(b"k"), 1_000)
    replica.propose(None, NOBODY, set_(b"k"), 1_000)
    replica.propose("two", NOBODY, set_(b"k"), 1_000)
    assert see(replica, view(5, 2)) == []
    assert see(replica, view(6, 3, N2)) == ["one", "two"]
    assert replica.leading is None
    assert see(replica, view(7, 4)) == []


def test_who_leads_again_cannot_answer_for_what_it_proposed_before() -> None:
    replica = Replica(3, N1, Engine(Footprint()))
    see(replica, view(5, 1))
    replica.propose("one", NOBODY, set_(b"k"), 1_000)
    assert see(replica, view(6, 2)) == ["one"]
    assert replica.leading is not None
    assert replica.leading.leso == 2
    assert epochs_of(replica) == "556"


# -- following


@pytest.mark.parametrize(
    ("seen", "leader", "epoch", "follows"),
    [
        (view(5, 2), N1, 5, True),
        (view(5, 2), N1, 4, False),
        (view(5, 2), N1, 6, False),  # it may be: the table will say so
        (view(5, 2), N3, 5, False),
        (view(5, 2), Incarnation("n1", 9), 5, False),
        (view(5, 2, None), N1, 5, False),
        (view(5, 2, N1, (N1, N3)), N1, 5, False),  # it is fenced, or is to hold it no more
    ],
)
def test_whom_a_copy_follows(seen: View, leader: Incarnation, epoch: int, *, follows: bool) -> None:
    replica = Replica(3, N2, Engine(Footprint()))
    assert not replica.follows(leader, epoch)
    see(replica, seen)
    assert replica.follows(leader, epoch) is follows


def test_nothing_is_appended_before_it_is_aligned() -> None:
    replica = following("11")
    assert not replica.follow(2, 1, [entry_of(5)], 0)
    assert replica.align(2, 1)
    assert replica.follow(2, 1, [entry_of(5)], 0)
    assert epochs_of(replica) == "115"


@pytest.mark.parametrize(
    ("epochs", "commit", "point", "left"),
    [
        ("1122", 0, (4, 2), "1122"),
        ("1122", 2, (2, 1), "11"),
        ("1122", 0, (0, 0), ""),
        ("", 0, (0, 0), ""),
        ("1122", 0, (4, 3), None),  # another entry is there
        ("1122", 0, (5, 2), None),  # none is
    ],
)
def test_a_log_is_cut_back_to_where_it_is_the_leaders(
    epochs: str, commit: int, point: tuple[int, int], left: str | None
) -> None:
    replica = following(epochs, commit)
    assert replica.align(*point) is (left is not None)
    assert epochs_of(replica) == (epochs if left is None else left)
    assert replica.aligned_epoch == (5 if left is not None else int(epochs[-1]))


def test_what_is_committed_is_never_cut_off() -> None:
    with pytest.raises(AssertionError, match="2 is committed"):
        following("1122", commit=2).align(1, 1)


def test_who_is_aligned_is_not_cut_back_in_the_same_epoch() -> None:
    replica = following("11")
    assert replica.align(2, 1)
    assert replica.follow(2, 1, [entry_of(5), entry_of(5)], 0)
    assert replica.align(2, 1)
    assert epochs_of(replica) == "1155"
    assert not replica.align(7, 5), "the leader believes that it has more"
    assert replica.history() == ((0, 0), (1, 2), (5, 4))


def aligned(epochs: str = "115") -> Replica:
    replica = following(epochs.rstrip("5"))
    assert replica.align(replica.log.last, replica.log.last_epoch)
    assert replica.follow(
        replica.log.last, replica.log.last_epoch, [entry_of(5, b"%d" % n) for n in range(epochs.count("5"))], 0
    )
    return replica


@pytest.mark.parametrize(
    ("prev", "count_", "left"),
    [(3, 1, "1155"), (3, 0, "115"), (2, 1, "115"), (2, 2, "1155"), (0, 0, "115"), (4, 1, None), (99, 0, None)],
)
def test_gaps_are_refused_and_doublets_are_harmless(prev: int, count_: int, left: str | None) -> None:
    replica = aligned()
    epoch = replica.log.epoch_at(prev) or 5 if prev else 0
    assert replica.follow(prev, epoch, [entry_of(5)] * count_, 0) is (left is not None)
    assert epochs_of(replica) == (left or "115")
    assert replica.log.size_bytes == sum(replica.log.sizes)


def test_an_entry_that_does_not_follow_what_is_here_is_refused() -> None:
    assert not aligned().follow(3, 4, [entry_of(5)], 0)


def test_what_was_forgotten_here_is_known_to_be_the_same() -> None:
    replica = aligned("1155")
    replica.follow(4, 5, [], 4)
    replica.log.forget(3)
    assert replica.follow(1, 1, [entry_of(1), entry_of(5), entry_of(5), entry_of(5)], 4)
    assert (replica.log.base, replica.log.last) == (3, 5)


def test_a_follower_applies_what_it_is_told_and_no_more_than_it_has() -> None:
    replica = aligned("11555")
    assert replica.commit == 0
    assert replica.follow(5, 5, [], 3)
    assert (replica.commit, list(replica.engine.keys.records)) == (3, [b"k", b"0"])
    assert replica.follow(5, 5, [], 1)
    assert replica.commit == 3
    assert replica.follow(5, 5, [], 99)
    assert replica.commit == 5


def test_a_copy_takes_another_state_in_place_of_its_own() -> None:
    replica = aligned("1155")
    replica.follow(4, 5, [], 4)
    footprint = Footprint()
    engine = Engine(footprint)
    engine.apply(9, entry_of(5, b"other"))
    before = replica.engine
    replica.reset(engine, 9, 5, 3_000)
    assert list(before.keys.records) == []
    assert (replica.commit, replica.log.last, replica.log.now_ms) == (9, 9, 3_000)
    assert replica.read((commands.EXISTS, b"other"), 0) is True
    assert replica.follow(9, 5, [entry_of(5, b"next")], 10)
    assert list(replica.engine.keys.records) == [b"other", b"next"]


@pytest.mark.parametrize("leader", [N1, N2])
def test_a_copy_starts_again_when_what_it_has_does_not_count_any_more(leader: Incarnation) -> None:
    """All who were in sync have lost everything, and this one, which was not, has a stale copy."""
    replica = alone()
    replica.propose(None, NOBODY, (commands.SET, b"k", ONE, 0, 0, None), 1_000)
    lost = view(9, 9, leader)._replace(reset_epoch=9)
    see(replica, lost)
    assert replica.engine.keys.records == {}
    assert replica.log.base == 9 * 2**40, "no number is used again"
    assert replica.commit == replica.log.base
    replica.aligned_epoch = 9
    see(replica, lost._replace(version=10))
    assert replica.aligned_epoch == 9, "once"


def test_the_copy_that_a_partition_starts_again_with_keeps_what_it_has() -> None:
    replica = alone()
    replica.propose(None, NOBODY, (commands.SET, b"k", ONE, 0, 0, None), 1_000)
    see(replica, view(9, 9)._replace(reset_epoch=9, survivor="n1"))
    assert list(replica.engine.keys.records) == [b"k"]
    see(replica, view(10, 10, N2)._replace(reset_epoch=9, survivor="n2"))
    assert list(replica.engine.keys.records) == [b"k"], "its log goes on in the epoch of that start"


def test_who_is_not_the_survivor_takes_everything_anew() -> None:
    replica = alone()
    see(replica, view(9, 9, N2)._replace(reset_epoch=9, survivor="n2"))
    assert (replica.log.base, replica.log.last, replica.commit) == (0, 0, 0)
