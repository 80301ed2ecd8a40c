"""Every exhibit of the museum is noticed without its check, and passes with it."""

import pytest

from tests.sim.museum import EXHIBITS, SEEDS_MAX, Exhibit, first_catch

BY_TITLE = {exhibit.title: exhibit for exhibit in EXHIBITS}
PASSING_SEEDS = 3


@pytest.mark.timeout(600)
@pytest.mark.parametrize("title", BY_TITLE)
def test_a_check_that_is_missing_is_noticed_and_only_then(title: str) -> None:
    exhibit = BY_TITLE[title]
    caught = first_catch(exhibit, (exhibit.found_at, *range(1, SEEDS_MAX + 1)))
    assert caught is not None
    for seed in {caught[0], *range(1, PASSING_SEEDS + 1)}:
        assert not _violation(exhibit, seed)


def _violation(exhibit: Exhibit, seed: int) -> str:
    return str(exhibit.run(seed, is_removed=False) or "")
