"""The trials of membership, small: they repeat from their seed, see what they are to see, and tables come of it."""

from pathlib import Path

from benchmarks.membership import tables_of
from benchmarks.membership_plot import draw
from benchmarks.membership_trials import TRIALS, Trial, detection, quantiles, stalls, traffic


def test_a_trial_repeats_from_its_seed_and_differs_with_it() -> None:
    assert detection(1, 5, 0.05, 3) == detection(1, 5, 0.05, 3) != detection(2, 5, 0.05, 3)
    assert traffic(1, 5, 0.05, 20.0, 60.0) == traffic(1, 5, 0.05, 20.0, 60.0) != traffic(2, 5, 0.05, 20.0, 60.0)


def test_a_death_is_suspected_before_it_is_known_to_all() -> None:
    found = detection(1, 5, 0.0, 10)
    for first, second, known in zip(
        found["first_accuser_s"], found["second_accuser_s"], found["known_to_all_s"], strict=True
    ):
        assert 0.2 < first < second < known < 10


def test_traffic_at_rest_is_two_pings_and_two_answers_a_second() -> None:
    found = traffic(1, 5, 0.0, 0.0, 60.0)
    assert (round(found["kinds"]["Ping"], 1), round(found["kinds"]["Ack"], 1)) == (2.0, 2.0)
    assert round(found["messages"], 1) == 4.0
    assert found["exchange_messages"] > 0


def test_false_deaths_are_seen_when_there_are_some() -> None:
    harmless, deadly = stalls(1, 5, 0.05, 1.0, 600.0), stalls(1, 5, 0.05, 15.0, 600.0)
    assert harmless["false_deaths"] == 0
    assert harmless["refutations"] > 0
    assert 0 < deadly["false_deaths"] <= deadly["stalls"]
    assert deadly["believers"] >= deadly["false_deaths"]


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantiles([3.0, 1.0, 2.0])[::50] == [1.0, 2.0, 3.0]


def test_the_trials_have_names_of_their_own_and_make_tables_and_a_picture(tmp_path: Path) -> None:
    assert len({trial.key for trial in TRIALS}) == len(TRIALS)
    small = (
        Trial("detection-10-rest", "detection", {"size": 10, "loss": 0.0, "deaths": 2}),
        Trial("traffic-10-rest", "traffic", {"size": 10, "loss": 0.0, "death_every_s": 0.0, "seconds": 10.0}),
        Trial("stalls-10-1s", "stalls", {"size": 10, "loss": 0.05, "stall_s": 1.0, "seconds": 100.0}),
    )
    found = {trial.key: trial.run(1) for trial in small}
    tables = tables_of(found)
    assert len([line for line in tables.splitlines() if line.startswith("|")]) == 3 * 3
    draw(found, tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 1_000
