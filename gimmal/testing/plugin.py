"""The pytest plugin: a cluster for the whole session, and a key prefix for each test.

pytest loads this for every user who has gimmal installed, so nothing heavy is imported before a test asks for
it. When a test that used the cluster fails, the ends of the nodes' logs are shown with it. The teardown of the
last test ends the cluster too, and its logs: when that fails, there is nothing left to show.
"""

import contextlib
import secrets
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from gimmal.errors import ClientClosed

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
        cluster = (getattr(item, "funcargs", None) or {}).get("gimmal_cluster")
        if cluster is not None:
            with contextlib.suppress(ClientClosed):
                logs = {name: cluster.log_tail(name) for name in cluster.names}
                report.sections += [(f"log of gimmal node {name}", log) for name, log in logs.items()]
    return report
