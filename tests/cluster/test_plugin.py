import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gimmal.testing import LocalCluster

pytest_plugins = ["pytester"]

TESTS = """
    seen = set()

    def test_one(gimmal_cluster, gimmal_prefix):
        seen.add(gimmal_prefix)
        with gimmal_cluster.connect() as db:
            db.set(gimmal_prefix + "key", 1)

    def test_two(gimmal_cluster, gimmal_prefix):
        assert gimmal_prefix not in seen
        with gimmal_cluster.connect() as db:
            assert db.get(gimmal_prefix + "key") is None
            assert len(list(db.scan())) == 1  # the cluster is the one of the first test

    def test_that_fails(gimmal_cluster):
        assert gimmal_cluster is None
"""


def test_tests_share_a_cluster_and_not_their_keys_and_a_failure_shows_the_logs(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(textwrap.dedent(TESTS), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", ".", "test_sample.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    for name in ("n1", "n2", "n3"):
        assert f"log of gimmal node {name}" in done.stdout
        assert f"node {name} serves clients on" in done.stdout


TEARDOWN_FAILS = """
    import pytest

    @pytest.fixture(scope={scope!r})
    def bad():
        yield
        raise RuntimeError("of the teardown")

    def test_that_is_the_last({fixtures}):
        pass
"""


@pytest.mark.parametrize("scope", ["function", "session"])
@pytest.mark.parametrize("fixtures", ["bad, gimmal_cluster", "gimmal_cluster, bad"])
def test_a_teardown_that_fails_after_the_end_of_the_cluster_is_an_error_like_others(
    pytester: pytest.Pytester, scope: str, fixtures: str
) -> None:
    pytester.makepyfile(test_sample=textwrap.dedent(TEARDOWN_FAILS).format(scope=scope, fixtures=fixtures))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=100)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("*RuntimeError: of the teardown*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    program = "import sys, gimmal.testing.plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"zmq", "msgpack", "rich", "typer", "asyncio", "gimmal.client", "gimmal.testing.local_cluster"}
    assert heavy & set(done.stdout.split()) == set()


def test_prefixes_have_no_hash_tag(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    assert "{" not in gimmal_prefix
    assert len({gimmal_cluster.owner_of(f"{gimmal_prefix}{number}") for number in range(100)}) == 3
