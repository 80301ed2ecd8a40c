"""Clients that ask for the table: answered in their order, so many in a turn."""

import pytest

from gimmal.node import table_desk
from gimmal.node.table_desk import TableDesk
from gimmal.wire.messages import FetchTable, TableRows
from tests.unit.test_data_plane import CLUSTER, START, TABLE, later, new_core

ROWS = len(TABLE.nodes) + len(TABLE.partitions)


def peers(desk: TableDesk) -> list[bytes]:
    return [peer for peer, _ in desk.answers(TABLE)]


def test_a_turn_answers_so_many_rows_and_the_others_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_desk, "ROWS_PER_TURN", 2 * ROWS)
    desk = TableDesk()
    for peer in (b"a", b"b", b"c", b"d", b"e"):
        desk.ask(peer, 0)
    desk.ask(b"a", 0)  # again: it keeps its place
    assert [peers(desk), peers(desk), bool(desk), peers(desk), bool(desk)] == [
        [b"a", b"b"],
        [b"c", b"d"],
        True,
        [b"e"],
        False,
    ]


def test_who_has_the_table_is_told_so_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_desk, "ROWS_PER_TURN", 1)
    desk = TableDesk()
    for peer in (b"a", b"b"):
        desk.ask(peer, TABLE.version)
    desk.ask(b"c", 0)
    assert list(desk.answers(TABLE)) == [(b"a", None), (b"b", None), (b"c", TABLE.to_wire())]


def test_not_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_desk, "WAITING_MAX", 2)
    desk = TableDesk()
    for peer in (b"a", b"b", b"c"):
        desk.ask(peer, 0)
    assert peers(desk) == [b"a", b"b"]


def test_a_flood_of_questions_takes_a_few_turns_that_follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_desk, "ROWS_PER_TURN", 10 * ROWS)
    plane = new_core()
    for number in range(25):
        plane.receive(b"%d" % number, FetchTable(CLUSTER, 0, 0, 0), START)
    turns = []
    while plane.next_deadline() < START.seconds:
        plane.tick(later(0))
        turns.append(sum(isinstance(message, TableRows) for _, message in plane.drain()))
    assert turns == [10, 10, 5]
