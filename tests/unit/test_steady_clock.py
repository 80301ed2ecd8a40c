"""The time of a leader goes on, whatever its wall clock does."""

from gimmal.leader.steady_clock import SteadyClock
from gimmal.types import Instant


def clock() -> SteadyClock:
    return SteadyClock(Instant(100.0, 1_000_000))


def test_it_is_the_wall_clock_while_that_goes_forward() -> None:
    assert clock().read(Instant(101.0, 1_001_003)) == Instant(101.0, 1_001_003)


def test_it_goes_forward_with_a_wall_clock_that_is_set_forward() -> None:
    assert clock().read(Instant(101.0, 9_000_000)).unix_ms == 9_000_000


def test_it_does_not_go_back_with_the_wall_clock_but_on() -> None:
    steady = clock()
    steady.read(Instant(100.0, 5_000_000))
    assert [steady.read(Instant(at, 1_000_000)).unix_ms for at in (100.0, 110.0, 200.0)] == [
        5_000_000,
        5_009_900,
        5_099_000,
    ]


def test_many_short_turns_add_up() -> None:
    steady = clock()
    steady.raise_to(5_000_000)
    for turn in range(10_000):
        steady.read(Instant(100.0 + turn / 10_000, 1_000_000))
    assert 5_000_985 <= steady.read(Instant(101.0, 1_000_000)).unix_ms <= 5_000_990


def test_the_wall_clock_catches_up() -> None:
    steady = clock()
    steady.raise_to(1_010_000)
    assert steady.read(Instant(600.0, 1_500_000)).unix_ms == 1_505_000
    assert steady.read(Instant(1_600.0, 2_500_000)).unix_ms == 2_500_000


def test_what_is_earlier_raises_nothing() -> None:
    steady = clock()
    steady.raise_to(1)
    assert steady.read(Instant(100.0, 1_000_000)).unix_ms == 1_000_000
