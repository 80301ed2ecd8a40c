"""Copies that are cut off: what they refuse meanwhile, and how they catch up, by log or by snapshot.

`--away` says for how many seconds a node is cut off from the others: a moment, or, for those who measure, a minute.
"""

import itertools
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import gimmal
from gimmal.client.inquiry import _ask, ask_status
from gimmal.cluster.table import Table
from gimmal.errors import OperationTimeout
from gimmal.hashing import key_slot, partition_of
from gimmal.replication.holdings import LOG_BYTES
from gimmal.testing import LocalCluster
from gimmal.types import Command
from gimmal.wire import commands
from gimmal.wire.codec import pack_value
from gimmal.wire.messages import FetchTable, Refusal, Reply, Request, TableRows
from tests.cluster.test_copies import Writers, check_counters, has_all_in_sync
from tests.cluster.waiting import wait_until

PARTITIONS = 16
LARGE = 64 * 1024


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(3, partitions=PARTITIONS) as started:
        yield started


@pytest.fixture
def away_s(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--away"))


def fact(cluster: LocalCluster, name: str, which: str) -> int:
    return int(ask_status(cluster.addresses[name], 5.0)[which])


def total(cluster: LocalCluster, which: str) -> int:
    return sum(fact(cluster, name, which) for name in cluster.names)


def resident_mib(cluster: LocalCluster, name: str) -> int:
    status = Path(f"/proc/{cluster.pids[name]}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) // 1024


def ask_directly(cluster: LocalCluster, name: str, command: Command) -> object:
    """Ask one node, as a client whose table is as old as that node's; return a result, or a Refusal."""
    found = _ask(cluster.addresses[name], FetchTable(b"", 0, 0, 0), 2.0)
    assert isinstance(found, TableRows)
    partition = partition_of(key_slot(commands.keys_of(command)[0]), PARTITIONS)
    epoch = Table.from_wire(found.table).partitions[partition].epoch
    reply = _ask(cluster.addresses[name], Request(b"", 0, 0, 1, 0, 1_000, ((1, partition, epoch, 0, 0, command),)), 2.0)
    assert isinstance(reply, Reply)
    return Refusal(reply.refusals[0][1]) if reply.refusals else reply.results[0]


def test_a_leader_that_is_cut_off_refuses_and_its_clients_go_on_with_the_majority(cluster: LocalCluster) -> None:
    leader = cluster.owner_of("k")
    others = [name for name in cluster.names if name != leader]
    write: Command = (commands.SET, b"k", pack_value("late"), 0, 0, None)
    with cluster.connect() as client, gimmal.connect(cluster.addresses[others[0]]) as other:
        client.set("k", "before")
        other.get("k")
        cluster.isolate(leader)
        with pytest.raises(OperationTimeout) as raised:
            client.set("k", "in flight", timeout=0.3)
        assert raised.value.maybe_applied, "it was sent, and nobody knows yet what becomes of it"

        client.set("k", "after", timeout=10.0)
        assert other.get("k", timeout=10.0) == "after"
        wait_until(
            lambda: ask_directly(cluster, leader, write) is Refusal.NOT_ENOUGH_REPLICAS,
            "the lease of the old leader ends",
        )
        waits = fact(cluster, leader, "uncommitted_bytes")
        assert ask_directly(cluster, leader, write) is Refusal.NOT_ENOUGH_REPLICAS
        assert ask_directly(cluster, leader, (commands.GET, b"k")) is Refusal.NOT_ENOUGH_REPLICAS
        assert fact(cluster, leader, "uncommitted_bytes") == waits, "what is refused is not even appended"
        assert client.get("k") == "after"

        cluster.heal()
        cluster.wait_healthy()
        wait_until(lambda: has_all_in_sync(cluster), f"{leader} has caught up")
        assert client.get("k") == other.get("k") == "after"
    assert cluster.compare_copies().is_good


def test_a_node_that_was_cut_off_catches_up_by_log(cluster: LocalCluster, away_s: float) -> None:
    name = cluster.owner_of("counter:0")
    with Writers(cluster) as writers:
        wait_until(lambda: len(writers.answered) == 3, "the first increments")
        sent = total(cluster, "snapshots_sent")
        cluster.isolate(name)
        heal_at_s = time.monotonic() + away_s
        writers.wait_for(100)  # so others lead now; the node that is cut off does not hear of it
        while time.monotonic() < heal_at_s:
            writers.wait_for(1)
        written = sum(writers.answered.values())
        cluster.heal()
        cluster.wait_healthy()
        wait_until(lambda: has_all_in_sync(cluster), f"{name} has caught up")
        writers.wait_for(20)
        print(f"{written:,} increments in about {away_s:g} s without {name}")
    check_counters(cluster, writers)
    assert total(cluster, "snapshots_sent") == sent, "the logs reached back that far"
    assert cluster.compare_copies().is_good


def test_a_node_that_was_away_for_longer_than_logs_reach_gets_snapshots(cluster: LocalCluster) -> None:
    name = cluster.owner_of("large:0")
    others = [other for other in cluster.names if other != name]
    with Writers(cluster) as writers, cluster.connect(timeout=30.0) as client:
        wait_until(lambda: len(writers.answered) == 3, "the first increments")
        cluster.isolate(name)
        before = {other: resident_mib(cluster, other) for other in others}
        peak = dict(before)
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(0.05):
                for other in others:
                    peak[other] = max(peak[other], resident_mib(cluster, other))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in itertools.count():
                client.set(f"large:{number % 200}", bytes(LARGE))
                if number * LARGE > 2.5 * LOG_BYTES:
                    break
            logs = {other: fact(cluster, other, "log_bytes") for other in others}
            cluster.heal()
            cluster.wait_healthy()
            wait_until(lambda: has_all_in_sync(cluster), f"{name} has caught up")
            writers.wait_for(20)
        finally:
            is_over.set()
            watcher.join()
    print(f"logs of the others {logs}; resident MiB {before}, at most {peak}")
    check_counters(cluster, writers)
    assert fact(cluster, name, "snapshots_taken") > 0
    # As much again may be kept behind a snapshot, and one may have begun before the node was fenced.
    assert all(size_bytes <= 2.1 * LOG_BYTES for size_bytes in logs.values())
    assert cluster.compare_copies().is_good
