"""`gimmal health`: does a node serve, and may another be stopped?"""

import json
from typing import Any

import pytest

from gimmal.cli import main
from gimmal.client import inquiry
from tests.unit.holdings_group import Copies

FACTS = {"name": "n1", "state": "serving", "why": "", "partitions_held": 8, "partitions_behind": 0}


def health(monkeypatch: pytest.MonkeyPatch, *flags: str, **facts: Any) -> int:
    monkeypatch.setattr(inquiry, "ask_status", lambda address, timeout: {**FACTS, **facts})
    return main(["health", *flags])


def test_a_node_that_serves_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert health(monkeypatch) == 0
    assert health(monkeypatch, partitions_behind=3) == 0, "who catches up serves"
    assert health(monkeypatch, state="joining", why="it waits") == 1
    assert capsys.readouterr().out.endswith("joining (it waits)\n")


def test_with_in_sync_it_has_caught_up_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert health(monkeypatch, "--in-sync") == 0
    assert health(monkeypatch, "--in-sync", partitions_behind=3) == 1
    assert capsys.readouterr().out.endswith("serving, 3 of 8 copies are not in sync yet\n")
    assert health(monkeypatch, "--in-sync", "--json", partitions_behind=3) == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_a_copy_is_behind_until_its_row_says_that_it_is_in_sync() -> None:
    copies = Copies("n1", "n2", "n3", partitions=2)
    assert [copies[name].behind_count for name in copies.holdings] == [0, 0, 0]
    copies.alter("n1", "n2", partition=1)
    copies.tell()
    assert [copies[name].behind_count for name in copies.holdings] == [0, 0, 1]
