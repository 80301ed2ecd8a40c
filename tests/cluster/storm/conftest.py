"""A storm may take as long as it was asked to, and then some time to be judged."""

import random

import pytest

_STORMS = ("test_nothing_acknowledged_is_lost", "test_no_message_is_lost_and_none_comes_after_its_ack")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the storms their time."""
    seconds = 60 * float(config.getoption("--minutes"))
    for item in items:
        if item.name in _STORMS:
            item.add_marker(pytest.mark.timeout(240 + 1.5 * seconds))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of a storm."""
    chosen = request.config.getoption("--storm-seed")
    return random.SystemRandom().getrandbits(32) if chosen is None else int(chosen)
