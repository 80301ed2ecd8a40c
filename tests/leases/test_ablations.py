"""Rows of the table with a transcript to read, which changes when the rule is taken away.

One row has none: *now of the voter before the drain*, which schedules notice.
"""

import pytest

from tests.leases.ablations import BY_TITLE
from tests.sim.museum import changed
from tests.sim.violation import Violation
from tests.transcripts.test_transcripts import HERE, performed, without_output

TRANSCRIPTS = {
    "no wait by M": "no_wait",
    "grant to a fenced node": "fenced",
    "no wait after an M election": "election",
    "a move that skips the wait": "move",
    "now of the node before the drain": "node_drain",
    "grant without version": "version",
    "counted from receipt": "receipt",
    "quorum round before the heartbeat": "round",
    "no quorum round": "round",
    "no drift allowance": "drift",
    "clock that stops in suspend": "suspend",
    "no margin": "drift",
    "hand-over keeps reading": "give",
    "hand-over resumes on timeout": "give",
}


@pytest.mark.parametrize("rule", TRANSCRIPTS)
def test_its_transcript_changes(rule: str) -> None:
    expected = (HERE / f"leases_{TRANSCRIPTS[rule]}.txt").read_text(encoding="utf-8")
    with changed(BY_TITLE[rule].changes):
        try:
            found = performed(without_output(expected))
        except Violation as violation:
            found = str(violation)
    assert found != expected
