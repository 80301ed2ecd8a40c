"""The pytest plugin: a cluster for the whole session, and a key prefix for each test.

pytest loads this for every user who has gimmal installed, so nothing heavy is imported before a test asks for
it. When a test that used the cluster fails, the ends of the nodes' logs are shown with it.
"""

import secrets
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gimmal.testing.local_cluster import LocalCluster


@pytest.fixture(scope="session")
def gimmal_cluster() -> "Iterator[LocalCluster]":
    """Three gimmal nodes on this machine, shared by all tests of the session."""
    from gimmal.testing.local_cluster import LocalCluster  # noqa: PLC0415 - see above: it loads ZeroMQ

    with LocalCluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def gimmal_prefix() -> str:
    """A prefix for the keys of this test alone, such as `"5f0c1e2ab93d:"`."""
    return f"{secrets.token_hex(6)}:"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the nodes' logs to the report of a failed test."""
    report = yield
    if report.failed:
        cluster = getattr(item, "funcargs", {}).get("gimmal_cluster")
        if cluster is not None:
            report.sections += [(f"log of gimmal node {name}", cluster.log_tail(name)) for name in cluster.names]
    return report
