"""A node's lease: from when it counts, for how long, and under which table it is of use."""

from math import inf

from gimmal.cluster.lease import DRIFT_MAX, LEASE_S, MARGIN_S, Lease

TINY = 1e-6


def granted(*, sent_at: float = 10.0, version: int = 5) -> Lease:
    lease = Lease()
    lease.on_sent(7, sent_at)
    lease.on_granted(7, version)
    return lease


def test_without_a_grant_there_is_none() -> None:
    lease = Lease()
    assert not lease.is_valid(0.0, 5)
    lease.on_sent(7, 10.0)
    assert not lease.is_valid(10.0, 5)
    assert lease.valid_until(5) == -inf


def test_it_counts_from_when_the_heartbeat_was_sent_and_allows_for_a_slow_clock() -> None:
    lease = granted(sent_at=10.0)
    end = 10.0 + LEASE_S * (1 - DRIFT_MAX)
    assert lease.valid_until(5) == end
    assert lease.is_valid(end - TINY, 5)
    assert not lease.is_valid(end, 5)


def test_however_slow_a_clock_and_however_fast_the_other_the_meta_group_waits_longer() -> None:
    longest = LEASE_S * (1 - DRIFT_MAX) / (1 - DRIFT_MAX)
    assert longest <= LEASE_S < LEASE_S + MARGIN_S
    assert longest <= (LEASE_S + MARGIN_S) / (1 + DRIFT_MAX)


def test_a_grant_is_of_use_only_under_its_table_or_a_later_one() -> None:
    lease = granted(version=5)
    assert [lease.is_valid(10.1, version) for version in (0, 4, 5, 6)] == [False, False, True, True]


def test_an_earlier_grant_serves_until_the_later_table_has_come() -> None:
    lease = granted(sent_at=10.0, version=5)
    lease.on_sent(8, 10.5)
    lease.on_granted(8, 6)
    assert lease.valid_until(5) == 10.0 + LEASE_S * (1 - DRIFT_MAX)
    assert lease.valid_until(6) == 10.5 + LEASE_S * (1 - DRIFT_MAX)


def test_grants_that_arrive_out_of_order_shorten_nothing() -> None:
    lease = granted(sent_at=10.0)
    lease.on_sent(8, 10.25)
    lease.on_sent(9, 10.5)
    lease.on_granted(9, 5)
    end = lease.valid_until(5)
    lease.on_granted(8, 5)
    assert lease.valid_until(5) == end


def test_only_what_was_sent_is_granted_and_that_once() -> None:
    lease = granted(sent_at=10.0)
    lease.on_granted(8, 5)
    lease.on_granted(7, 5)
    assert lease.valid_until(5) == 10.0 + LEASE_S * (1 - DRIFT_MAX)


def test_a_new_life_has_nothing_of_the_one_before() -> None:
    lease = granted()
    lease.on_sent(8, 10.1)
    lease.forget()
    lease.on_granted(8, 5)
    assert not lease.is_valid(10.1, 5)


def test_a_node_that_nobody_answers_remembers_little() -> None:
    lease = Lease()
    for number in range(10_000):
        lease.on_sent(number, 10.0)
    lease.on_granted(9_999, 5)
    assert lease.is_valid(10.1, 5)
    lease.on_granted(3, 5)
    assert lease.valid_until(5) == 10.0 + LEASE_S * (1 - DRIFT_MAX)
