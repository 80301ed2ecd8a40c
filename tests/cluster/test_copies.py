"""Copies on real nodes: who owns a key may die, or leave, while clients write; and all copies may be gone."""

import threading
import time
from collections import Counter

import pytest

from gimmal import errors
from gimmal.cli import main
from gimmal.testing import LocalCluster
from tests.cluster.waiting import wait_until

PARTITIONS = 16


class Writers:
    """Clients that increment a counter of their own, each in a thread, while the `with` block runs."""

    def __init__(self, cluster: LocalCluster, count: int = 3) -> None:
        self._cluster = cluster
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[f"counter:{number}"]) for number in range(count)]
        self.answered: Counter[str] = Counter()
        self.errors: list[str] = []

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, key: str) -> None:
        with self._cluster.connect() as client:
            while not self._is_over.is_set():
                try:
                    client.incr(key)
                except errors.GimmalError as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                else:
                    self.answered[key] += 1

    def wait_for(self, more: int) -> None:
        """Wait until each has had so many more answers."""
        enough = {key: self.answered[key] + more for key in list(self.answered)}
        wait_until(lambda: all(self.answered[key] >= count for key, count in enough.items()), "more increments")


def check_counters(cluster: LocalCluster, writers: Writers) -> None:
    assert writers.errors == []
    with cluster.connect() as client:
        assert {key: client.get(key) for key in writers.answered} == writers.answered


def has_all_in_sync(cluster: LocalCluster) -> bool:
    with cluster.connect() as client:
        return all(len(partition.in_sync) == 3 for partition in client.cluster().partitions)


def has_balance(cluster: LocalCluster) -> bool:
    """Say whether no node leads more than one partition more than another."""
    counts = leaders(cluster)
    led = [counts[name] for name in cluster.names]
    return max(led) - min(led) <= 1


def leaders(cluster: LocalCluster) -> Counter[str | None]:
    with cluster.connect() as client:
        return Counter(partition.leader for partition in client.cluster().partitions)


def test_every_node_may_be_restarted_while_clients_write() -> None:
    """A node that is told to stop hands over first, and nobody waits for it; leaders spread again when it is back."""
    with LocalCluster(3, partitions=PARTITIONS) as cluster:
        with Writers(cluster) as writers:
            wait_until(lambda: len(writers.answered) == 3, "the first increments")
            for name in cluster.names:
                cluster.restart(name)
                cluster.wait_healthy()
                wait_until(lambda: has_all_in_sync(cluster), f"{name} has caught up")
                writers.wait_for(20)
        check_counters(cluster, writers)
        wait_until(lambda: has_balance(cluster), "leaders have spread")
        assert cluster.compare_copies().is_good


def test_every_node_may_be_killed_in_turn_while_clients_write(capsys: pytest.CaptureFixture[str]) -> None:
    with LocalCluster(5, partitions=64) as cluster:
        with Writers(cluster) as writers:
            wait_until(lambda: len(writers.answered) == 3, "the first increments")
            for name in cluster.names:
                cluster.kill(name)
                writers.wait_for(20)
                cluster.start(name)
                began_at = time.monotonic()
                cluster.wait_healthy()  # else the next one killed may leave too few voters
                wait_until(lambda: has_all_in_sync(cluster), f"{name} has caught up")
            wait_until(lambda: has_balance(cluster), "leaders have spread")
            with capsys.disabled():
                print(f"\n  leaders are spread {time.monotonic() - began_at:.1f} s after the last of 5 nodes started")
        check_counters(cluster, writers)
        assert cluster.compare_copies().is_good


def test_what_all_copies_have_lost_starts_again_empty_if_the_founding_said_so() -> None:
    with LocalCluster(3, partitions=PARTITIONS, data_dir=True, on_total_loss="empty") as cluster:
        with cluster.connect() as client:
            client.set("key", "value")
        for name in cluster.names:
            cluster.kill(name)
        for name in cluster.names:
            cluster.start(name)
        cluster.wait_healthy()
        with cluster.connect(timeout=20.0) as client:
            assert client.get("key") is None
            assert client.set("key", "another")


def test_what_all_copies_have_lost_is_said_and_never_guessed(capfd: pytest.CaptureFixture[str]) -> None:
    with LocalCluster(3, partitions=PARTITIONS, data_dir=True) as cluster:
        with cluster.connect() as client:
            client.set("key", "value")
        for name in cluster.names:
            cluster.kill(name)
        for name in cluster.names:
            cluster.start(name)
        seeds = ["--seeds", ",".join(cluster.addresses.values())]
        wait_until(lambda: set(leaders(cluster)) == {None}, "everything is lost")
        with cluster.connect() as client:
            with pytest.raises(errors.DataLost, match="gimmal recover"):
                client.get("key")
            with pytest.raises(errors.DataLost):
                client.set("key", "another")
        assert main(["recover", *seeds]) == 1
        assert main(["recover", "--accept-loss", *seeds]) == 0
        capfd.readouterr()
        with cluster.connect() as client:
            assert client.get("key") is None
            assert client.set("key", "another")
            assert client.get("key") == "another"
        assert main(["verify", *seeds]) == 0
        assert "all copies are equal" in capfd.readouterr().out
