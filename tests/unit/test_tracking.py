"""How a node gets a newer table: once, from who told of it, and never an older one."""

import random
from typing import Any

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


def take(tracking: Tracking, tree: Any, source: str = "b:1", cluster: bytes = CLUSTER) -> bool:
    """Ask b for rows, and give it an answer."""
    tracking.on_heard(99, "b:1", 5.0)
    tracking.tick(9.0)
    tracking.drain()
    return tracking.on_rows(Rows(*BLANK, tree), source, cluster)


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
    assert take(tracking, NEWEST.to_wire(OLD.version))
    assert tracking.table == NEWEST
    assert not take(tracking, NEW.to_wire()), "an older one comes too late"
    assert not take(tracking, None)
    assert not tracking.adopt(OLD)
    assert tracking.table == NEWEST


def test_who_has_none_takes_the_whole_table_of_its_own_cluster_only() -> None:
    tracking = tracking_with(None)
    with pytest.raises(RemoteProtocolError):
        take(tracking, NEW.to_wire(), cluster=bytes(16))
    assert tracking.table is None
    assert take(tracking, NEW.to_wire())


def test_what_does_not_fit_makes_it_fetch_everything() -> None:
    tracking = tracking_with()
    with pytest.raises(RemoteProtocolError):
        take(tracking, NEWEST.to_wire(NEW.version))
    tracking.on_heard(NEWEST.version, "b:1", 10.0)
    assert fetched(tracking, 10.1) == [("b:1", 0)]
    assert take(tracking, NEWEST.to_wire())
    assert tracking.table == NEWEST


@pytest.mark.parametrize("source", ["b:1", ""])
def test_rows_that_nobody_asked_for_are_dropped(source: str) -> None:
    tracking = tracking_with()
    assert not tracking.on_rows(Rows(*BLANK, NEWEST.to_wire()), source, CLUSTER)
    assert not take(tracking, NEWEST.to_wire(), source="z:1"), "somebody else was asked"
    assert tracking.table == OLD
    assert take(tracking, NEWEST.to_wire(), source), "an address may be unknown before there is a table"
    assert not tracking.on_rows(Rows(*BLANK, NEWEST.to_wire()), source, CLUSTER), "one answer to one question"


def answers(tracking: Tracking, version: int, now: float, asker: str = "a:1") -> list[Any]:
    tracking.answer(asker, version, now)
    return [message.table for _, message in tracking.drain() if isinstance(message, Rows)]


def test_it_answers_with_what_is_new_to_the_asker() -> None:
    tracking = tracking_with(None)
    assert answers(tracking, 0, 1.0) == [None]
    tracking.adopt(NEWEST)
    assert answers(tracking, NEWEST.version, 2.0) == [None]
    (tree,) = answers(tracking, OLD.version, 3.0)
    assert OLD.updated(tree) == NEWEST


def test_it_answers_nobody_more_often_than_makes_sense() -> None:
    tracking = tracking_with()
    found = [answers(tracking, 0, 1.0 + number / 1000) for number in range(1000)]
    assert 8 <= len([answer for answer in found if answer]) <= 11
    assert answers(tracking, 0, 2.0, "other:1"), "others are answered meanwhile"
    assert answers(tracking, 0, 3.0, "") == [], "nobody knows where that is"
