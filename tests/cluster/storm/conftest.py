"""A storm may take as long as it was asked to, and then some time to be judged."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the storm its time."""
    seconds = 60 * float(config.getoption("--minutes"))
    for item in items:
        if item.name == "test_nothing_acknowledged_is_lost":
            item.add_marker(pytest.mark.timeout(240 + 1.5 * seconds))
