"""How a node gets a newer table: once, from who told of it, and never an older one."""

import random

import pytest

from gimmal.cluster.tracking import Tracking
from gimmal.errors import RemoteProtocolError
from gimmal.wire.peer_messages import BLANK, FetchRows, Rows
from tests.unit.meta_states import CLUSTER, Meta

META = Meta()
OLD = META.table
META.fence("a")
NEW = META.table
META.unfence("a")
NEWEST = META.table


def tracking_with(table: object = OLD) -> Tracking:
    tracking = Tracking(random.Random(3))
    if table is not None:
        tracking.adopt(OLD)
    return tracking


def fetched(tracking: Tracking, now: float) -> list[tuple[str, int]]:
    """Whom it asks by then, and what it says it has."""
    tracking.tick(now)
    return [(to, message.since) for to, message in tracking.drain() if isinstance(message, FetchRows)]


def test_news_is_fetched_once_after_a_short_wait() -> None:
    tracking = tracking_with()
    for _ in range(100):
        tracking.on_heard(2, "b:1", 10.0)
        tracking.on_heard(2, "c:1", 10.0)
    assert fetched(tracking, 10.0) == []
    assert 10.0 < tracking.next_deadline() <= 10.05
    assert fetched(tracking, 10.05) == [("b:1", 1)]
    tracking.on_heard(2, "c:1", 10.1)
    assert fetched(tracking, 10.2) == [], "the answer is on its way"


def test_another_teller_is_asked_when_no_answer_comes() -> None:
    tracking = tracking_with()
    tracking.on_heard(2, "b:1", 10.0)
    fetched(tracking, 10.1)
    tracking.on_heard(2, "c:1", 11.0)
    assert fetched(tracking, 11.1) == [("c:1", 1)]


def test_no_news_is_not_fetched() -> None:
    tracking = tracking_with()
    for version in (0, 1):
        tracking.on_heard(version, "b:1", 10.0)
    tracking.on_heard(9, "", 10.0)
    assert fetched(tracking, 20.0) == []


def test_news_that_came_another_way_is_not_fetched() -> None:
    tracking = tracking_with()
    tracking.on_heard(NEW.version, "b:1", 10.0)
    assert tracking.adopt(NEW)
    assert fetched(tracking, 10.1) == []


def test_what_is_new_makes_the_newer_table() -> None:
    tracking = tracking_with()
    assert tracking.on_rows(Rows(*BLANK, NEWEST.to_wire(OLD.version)), CLUSTER)
    assert tracking.table == NEWEST
    assert not tracking.on_rows(Rows(*BLANK, NEW.to_wire()), CLUSTER), "an older one comes too late"
    assert not tracking.on_rows(Rows(*BLANK, None), CLUSTER)
    assert not tracking.adopt(OLD)
    assert tracking.table == NEWEST


def test_who_has_none_takes_the_whole_table_of_its_own_cluster_only() -> None:
    tracking = tracking_with(None)
    with pytest.raises(RemoteProtocolError):
        tracking.on_rows(Rows(*BLANK, NEW.to_wire()), bytes(16))
    assert tracking.table is None
    assert tracking.on_rows(Rows(*BLANK, NEW.to_wire()), CLUSTER)


def test_what_does_not_fit_makes_it_fetch_everything() -> None:
    tracking = tracking_with()
    with pytest.raises(RemoteProtocolError):
        tracking.on_rows(Rows(*BLANK, NEWEST.to_wire(NEW.version)), CLUSTER)
    tracking.on_heard(NEWEST.version, "b:1", 10.0)
    assert fetched(tracking, 10.1) == [("b:1", 0)]
    assert tracking.on_rows(Rows(*BLANK, NEWEST.to_wire()), CLUSTER)
    assert tracking.table == NEWEST


def test_it_answers_with_what_is_new_to_the_asker() -> None:
    tracking = tracking_with(None)
    assert tracking.rows_for(0).table is None
    tracking.adopt(NEWEST)
    assert tracking.rows_for(NEWEST.version).table is None
    assert OLD.updated(tracking.rows_for(OLD.version).table) == NEWEST
