"""Five hundred schedules of whole clusters, and the proof that each of them is decided by its seed alone."""

from collections.abc import Callable

import pytest

from tests.sim import runner
from tests.sim.trace import digest_elsewhere

SCHEDULES = 500
MUST_HAPPEN = (
    *("elections", "leader_changes", "candidacies", "trials", "snapshots_installed", "voter_changes", "foundings"),
    *("crashes", "restarts", "torn_writes", "crashes_between_write_and_sync", "crashes_between_sync_and_sending"),
    *("partitions", "one_way_partitions", "half_heals", "pauses", "clogs", "clock_changes", "hunts", "heirs_hunted"),
    *("messages_lost", "messages_duplicated", "messages_reordered", "messages_cut", "messages_for_other_lives"),
    *("table_changes", "in_sync_changes", "joins", "registrations", "registrations_refused", "fences", "unfences"),
    *("partition_leader_changes", "truncations", "shrinks", "expands", "copies_installed", "partitions_lost", "audits"),
    *("connections", "connections_broken", "sends_blocked", "client_redirects", "client_resent_reads"),
    *("refused_NotEnoughReplicas", "operations_done", "operations_refused", "operations_unknown"),
    *("lease_waits", "reads_confirmed", "duplicates", "client_resent_writes"),
    *("suspicions", "deaths", "refutations", "impostors", "foreigners", "foreign_messages_rejected"),
)


@pytest.mark.timeout(900)
def test_no_schedule_violates_anything(tell: Callable[[str], None]) -> None:
    account = runner.Account()
    seeds = [*runner.found_seeds(), *range(1, SCHEDULES + 1)]
    for outcome in runner.run_many(seeds):
        account.add(outcome)
        assert not outcome.violation, runner.report(outcome)
    tell(f"\n{account.text()}")
    assert account.counts["batches"] == sum(300 for _ in seeds)
    for name in MUST_HAPPEN:
        assert account.counts[name], f"in {account.seeds} schedules nothing was counted under {name}"


@pytest.mark.parametrize("seed", [3, 8])
def test_one_seed_gives_one_trace_whatever_python_hashes(seed: int) -> None:
    digests = {digest_elsewhere("tests.sim", seed, hash_seed) for hash_seed in ("1", "2")}
    assert len(digests) == 1


def test_two_seeds_give_two_traces() -> None:
    assert runner.replay(3)[1].digest != runner.replay(4)[1].digest


def test_a_failure_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sim.simulation.complaints", lambda world: ["it rains"])
    outcome = runner.run_one(3)
    assert "it rains" in outcome.violation
    text = runner.report(outcome)
    assert "seed 3 violates recovery" in text
    assert "make sim SEED=3" in text
    assert "everything is mended" in text
    assert "NOT DETERMINISTIC" not in text


def test_a_failure_that_does_not_come_back_is_called_what_it_is() -> None:
    outcome = runner.run_one(3)
    outcome.violation = "recovery: it rained"
    assert "NOT DETERMINISTIC" in runner.report(outcome)
