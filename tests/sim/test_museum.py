"""Every exhibit of the museum is noticed without its check, and passes with it. All cores look at exhibits."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.pool import AsyncResult

import pytest

from tests.sim.museum import EXHIBITS, look_at
from tests.sim.runner import PROCESSES

TITLES = [exhibit.title for exhibit in EXHIBITS]


@pytest.fixture(scope="module")
def tours(request: pytest.FixtureRequest) -> Iterator[dict[str, AsyncResult[list[str]]]]:
    """Begin to look at the exhibits whose tests were chosen, by title."""
    chosen = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    titles = [title for title in TITLES if any(f"[{title}]" in item.name for item in chosen)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        yield {title: pool.apply_async(look_at, (title,)) for title in titles}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("title", TITLES)
def test_a_check_that_is_missing_is_noticed_and_only_then(
    title: str, tours: "dict[str, AsyncResult[list[str]]]"
) -> None:
    assert tours[title].get() == []
