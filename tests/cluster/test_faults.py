"""Nodes that are cut off, slow, or started again: what the others do, and that it is over when it is healed."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gimmal
from gimmal.client.inquiry import ask_status
from gimmal.errors import GimmalError, InvalidArgument, NoRoute, OperationTimeout
from gimmal.testing import LocalCluster
from tests.cluster.test_node_process import node
from tests.cluster.waiting import wait_until

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def three() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, partitions=64) as started:
        yield started


@pytest.fixture
def cluster(three: LocalCluster) -> LocalCluster:
    """Three nodes that are well before each test, whatever the one before has done to them."""
    three.heal()
    for name in three.names:
        if name not in three.pids:
            three.start(name)
    three.wait_healthy()
    return three


def facts_of(cluster: LocalCluster, name: str) -> Facts:
    try:
        return dict(ask_status(cluster.addresses[name], 1.0))
    except GimmalError:
        return {}


def leaders(cluster: LocalCluster, names: list[str]) -> list[str]:
    return [name for name in names if facts_of(cluster, name).get("meta_role") == "leader"]


def leader_and_others(cluster: LocalCluster) -> tuple[str, list[str]]:
    (leader,) = leaders(cluster, list(cluster.names))
    return leader, [name for name in cluster.names if name != leader]


def states_seen_by(cluster: LocalCluster, names: list[str]) -> dict[str, str]:
    with gimmal.connect(",".join(cluster.addresses[name] for name in names)) as db:
        return {one.name: one.state for one in db.cluster().nodes}


def life_of(cluster: LocalCluster, name: str) -> tuple[int, Any]:
    return cluster.pids[name], facts_of(cluster, name)["incarnation"]


# --- cut off from nodes


def test_an_isolated_leader_is_replaced_and_is_back_without_a_restart(cluster: LocalCluster) -> None:
    leader, others = leader_and_others(cluster)
    lives = {name: life_of(cluster, name) for name in cluster.names}
    cluster.isolate(leader)
    wait_until(lambda: len(leaders(cluster, others)) == 1, "another node leads")
    wait_until(lambda: states_seen_by(cluster, others)[leader] == "fenced", "the others have fenced it")
    assert facts_of(cluster, leader)["name"] == leader, "clients still reach it"
    cluster.heal()
    cluster.wait_healthy()
    assert {name: life_of(cluster, name) for name in cluster.names} == lives
    assert set(states_seen_by(cluster, others).values()) == {"alive"}


def test_a_partition_leaves_the_side_of_the_majority_and_the_other_hears_nothing(cluster: LocalCluster) -> None:
    leader, others = leader_and_others(cluster)
    alone, together = others[0], [leader, others[1]]
    cluster.partition([alone], together)
    wait_until(lambda: states_seen_by(cluster, together)[alone] == "fenced", "it is fenced")
    version = facts_of(cluster, leader)["table_version"]
    assert facts_of(cluster, alone)["table_version"] < version, "which is news that does not reach it"
    cluster.heal()
    cluster.wait_healthy()
    assert facts_of(cluster, alone)["table_version"] > version


def test_one_way_a_node_is_not_heard_but_hears_that_it_was_fenced(cluster: LocalCluster) -> None:
    leader, others = leader_and_others(cluster)
    mute, together = others[0], [leader, others[1]]
    cluster.partition([mute], together, one_way=True)
    wait_until(lambda: states_seen_by(cluster, together)[mute] == "fenced", "it is fenced")
    wait_until(lambda: facts_of(cluster, mute)["nodes_alive"] == 2, "it hears that it is")
    cluster.heal()
    cluster.wait_healthy()


def test_faults_add_up_and_outlive_the_process_they_are_about(cluster: LocalCluster) -> None:
    leader, (one, other) = leader_and_others(cluster)
    cluster.partition([one], [leader])
    cluster.partition([one], [other])
    wait_until(lambda: states_seen_by(cluster, [leader, other])[one] == "fenced", "it is fenced")
    cluster.restart(one)
    wait_until(lambda: facts_of(cluster, one).get("state") == "founding", "it has started, and reaches nobody")
    assert states_seen_by(cluster, [leader, other])[one] == "fenced"
    cluster.heal()
    cluster.wait_healthy()
    assert states_seen_by(cluster, [leader, other])[one] == "alive"


# --- cut off from clients


def is_silent(cluster: LocalCluster, name: str) -> bool:
    try:
        ask_status(cluster.addresses[name], 0.3)
    except NoRoute:
        return True
    return False


def test_a_node_that_is_isolated_from_clients_answers_none_until_it_is_healed(cluster: LocalCluster) -> None:
    cluster.isolate("n2", clients=True)
    assert is_silent(cluster, "n2")
    wait_until(lambda: not is_silent(cluster, "n1"), "it answers")
    cluster.isolate("n2")
    assert is_silent(cluster, "n2")
    cluster.heal()
    wait_until(lambda: not is_silent(cluster, "n2"), "it answers")


def test_a_write_to_a_node_that_is_isolated_from_clients_is_not_done() -> None:
    with LocalCluster(nodes=3, partitions=16, replicas=1) as cluster, cluster.connect() as db:  # nobody takes over
        key = next(f"key{number}" for number in itertools.count() if cluster.owner_of(f"key{number}") == "n2")
        db.set(key, "before")
        cluster.isolate("n2", clients=True)
        with pytest.raises(OperationTimeout):
            db.set(key, "lost", timeout=1.0)
        cluster.heal()
        assert db.get(key, timeout=20.0) == "before"


def test_a_fault_holds_for_a_node_that_hung_when_it_began(cluster: LocalCluster) -> None:
    cluster.pause("n2")
    cluster.isolate("n2", clients=True)
    assert is_silent(cluster, "n2")  # what it was asked waits for it
    cluster.resume("n2")
    assert is_silent(cluster, "n2")


def test_heal_wakes_nobody(cluster: LocalCluster) -> None:
    cluster.pause("n2")
    cluster.kill("n3")
    cluster.heal()
    assert is_silent(cluster, "n2")
    assert "n3" not in cluster.pids
    cluster.resume("n2")


# --- slow


def test_a_slow_link_makes_the_meta_group_wait_for_it(cluster: LocalCluster) -> None:
    """Of three voters one is dead: that this is so needs the word of both others, whichever of them leads."""
    leader, (other, dead) = leader_and_others(cluster)
    cluster.slow(leader, other, 0.5)
    began_at = time.monotonic()
    cluster.kill(dead)
    wait_until(lambda: facts_of(cluster, leader)["nodes_alive"] == 2, f"{dead} is fenced")
    assert time.monotonic() - began_at >= 0.5


# --- started again


def test_a_node_that_lives_and_one_that_was_killed_are_started_again_as_the_same_nodes() -> None:
    with LocalCluster(nodes=3, partitions=16, data_dir=True) as cluster:
        addresses, before = cluster.addresses, {name: life_of(cluster, name) for name in cluster.names}
        cluster.kill("n3")
        for name in ("n2", "n3"):
            cluster.restart(name)
        cluster.wait_healthy()
        after = {name: life_of(cluster, name) for name in cluster.names}
        assert after["n1"] == before["n1"]
        for name in ("n2", "n3"):
            assert after[name][0] != before[name][0]
            assert after[name][1] > before[name][1]
            assert "is registered" in cluster.logs(name)
        assert cluster.addresses == addresses


# --- who takes faults, and which


def test_faults_that_cannot_be_say_what_is_wrong(cluster: LocalCluster) -> None:
    calls: list[Callable[[], None]] = [
        lambda: cluster.isolate("n9"),
        lambda: cluster.partition(["n1"], ["n2", "n9"]),
        lambda: cluster.slow("n9", "n1", 0.1),
        lambda: cluster.slow("n1", "n9", 0.1),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match="no node 'n9'; the nodes are n1, n2, n3"):
            call()
    with pytest.raises(InvalidArgument, match="both sides"):
        cluster.partition(["n1", "n2"], ["n2"])
    with pytest.raises(InvalidArgument, match="0 to 60 seconds"):
        cluster.slow("n1", "n2", -1.0)


def test_a_node_that_was_not_started_for_tests_meets_no_faults() -> None:
    with LocalCluster(nodes=1) as cluster:
        arguments = cluster._arguments["n1"]
        cluster._arguments["n1"] = [one for one in arguments if not one.startswith("--testing-faults")]
        assert len(cluster._arguments["n1"]) == len(arguments) - 1
        cluster.isolate("n1", clients=True)
        assert is_silent(cluster, "n1")
        cluster.restart("n1")
        cluster.wait_healthy()
        wait_until(lambda: not is_silent(cluster, "n1"), "it answers")


@pytest.mark.parametrize("source", ["environment", "file"])
def test_neither_the_environment_nor_a_file_of_settings_starts_a_node_for_tests(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, settings = tmp_path / "faults", tmp_path / "settings.toml"
    faults.touch()
    settings.write_text(f'testing_faults = "{faults}"\n' if source == "file" else "")
    if source == "environment":
        monkeypatch.setenv("GIMMAL_TESTING_FAULTS", str(faults))
    with node(tmp_path, f"--config={settings}") as one:
        assert one.end() == 2
        assert "unknown setting 'testing_faults'" in one.log()
