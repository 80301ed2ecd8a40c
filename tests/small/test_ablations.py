"""Every rule of the protocol that can be taken away has a transcript that reads otherwise without it."""

import pytest

from tests.sim.museum import changed
from tests.sim.violation import Violation
from tests.small.ablation import Ablation
from tests.small.registries import REGISTRIES
from tests.transcripts.test_transcripts import HERE, performed, without_output

ROWS = [ablation for registry in REGISTRIES for ablation in registry.ablations if ablation.transcript]


@pytest.mark.parametrize("ablation", ROWS, ids=lambda ablation: ablation.title)
def test_without_the_rule_its_transcript_reads_otherwise(ablation: Ablation) -> None:
    text = (HERE / f"{ablation.transcript}.txt").read_text(encoding="utf-8")
    script = without_output(text)
    assert performed(script) == text
    with changed(ablation.changes):
        assert _performed_or_failed(script) != text
    assert performed(script) == text, "what was taken away is back"


def _performed_or_failed(script: list[str]) -> str:
    try:
        return performed(script)
    except (AssertionError, Violation) as failure:
        return f"an invariant does not hold: {failure}"


@pytest.mark.parametrize("title", ["Replication", "Leases", "Sessions", "Snapshots"])
def test_every_rule_has_a_transcript(title: str) -> None:
    (registry,) = (registry for registry in REGISTRIES if registry.title == title)
    assert [ablation.title for ablation in registry.ablations if not ablation.transcript] == []
