"""The cluster agrees on itself, with real processes: founding in any order, a killed leader, a hanging node, impostors.

`--tries N` repeats what happens by chance; `make faults` does it 30 times and prints what it measured.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gimmal.client.inquiry import ask_status
from gimmal.errors import GimmalError
from gimmal.testing import LocalCluster
from tests.cluster.meta_guest import Guest
from tests.cluster.test_node_process import free_addresses
from tests.cluster.waiting import wait_until

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=5, partitions=64) as five:
        yield five


@pytest.fixture
def tries(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--tries"))


def facts_of(cluster: LocalCluster, name: str) -> dict[str, Any]:
    try:
        return dict(ask_status(cluster.addresses[name], 1.0))
    except GimmalError:
        return {}


def named(cluster: LocalCluster, role: str) -> list[str]:
    return [name for name in cluster.pids if facts_of(cluster, name).get("meta_role") == role]


def told(measured: list[float]) -> str:
    ordered = sorted(measured)
    return f"median {ordered[len(ordered) // 2]:.2f} s, worst of {len(ordered)} {ordered[-1]:.2f} s"


def test_a_killed_leader_is_replaced_and_the_next_one_registers_nodes(
    cluster: LocalCluster, tries: int, tell: Callable[[str], None]
) -> None:
    with cluster.connect() as client:
        cluster_id = bytes.fromhex(client.cluster().id)
    guest = Guest(cluster_id, list(cluster.peers.values()))
    measured = []
    try:
        guest.register(PATIENCE_S)
        for _ in range(tries):
            cluster.wait_healthy()  # and the guest before is fenced, so that its name is free
            (leader,) = named(cluster, "leader")
            cluster.kill(leader)
            measured.append(guest.register(PATIENCE_S))
            assert named(cluster, "leader") != [leader]
            cluster.start(leader)
    finally:
        guest.close()
    cluster.wait_healthy()
    tell(f"\n  kill -9 of the meta leader to an accepted registration: {told(measured)}")


def test_a_node_that_hangs_is_fenced_and_comes_back_without_a_restart(cluster: LocalCluster) -> None:
    (leader,) = named(cluster, "leader")
    name = next(other for other in cluster.names if other != leader)
    before = facts_of(cluster, name)
    cluster.pause(name)
    try:
        paused_at = time.monotonic()
        wait_until(lambda: facts_of(cluster, leader)["nodes_alive"] == 4, f"{name} is fenced")
        while time.monotonic() - paused_at < 10.0:
            assert facts_of(cluster, leader)["nodes_alive"] == 4
            time.sleep(0.2)
    finally:
        cluster.resume(name)
    cluster.wait_healthy()
    after = facts_of(cluster, name)
    assert (after["state"], after["incarnation"]) == ("serving", before["incarnation"])
    assert after["uptime_s"] >= 10


def test_a_hanging_leader_is_replaced_and_comes_back_as_a_follower(cluster: LocalCluster) -> None:
    (leader,) = named(cluster, "leader")
    cluster.pause(leader)
    try:
        wait_until(lambda: len(named_without(cluster, leader)) == 1, "another node leads")
    finally:
        cluster.resume(leader)
    cluster.wait_healthy()
    assert named(cluster, "leader") != [leader]


def named_without(cluster: LocalCluster, hanging: str) -> list[str]:
    others = [name for name in cluster.pids if name != hanging]
    return [name for name in others if facts_of(cluster, name).get("meta_role") == "leader"]


def test_a_restarted_node_is_another_incarnation(cluster: LocalCluster) -> None:
    name = cluster.names[-1]
    before = facts_of(cluster, name)["incarnation"]
    cluster.restart(name)
    cluster.wait_healthy()
    assert facts_of(cluster, name)["incarnation"] > before
    with cluster.connect() as client:
        assert all(row.leader is not None for row in client.cluster().partitions)


def test_a_later_node_is_a_member_without_partitions(cluster: LocalCluster) -> None:
    name = cluster.add_node()
    facts = facts_of(cluster, name)
    assert (facts["state"], facts["partitions_led"]) == ("serving", 0)
    cluster.stop(name)
    wait_until(lambda: facts_of(cluster, "n1")["nodes_alive"] == 5, "the others know that it is gone")


# -- who is not let in -----------------------------------------------------------------------


class Stranger:
    """A node that is started by hand, and what it logs."""

    def __init__(self, folder: Path, **flags: str) -> None:
        client, peer, pubsub = free_addresses(3)
        settings = {"client": client, "peer": peer, "pubsub": pubsub} | flags
        self.client = settings["client"]
        self._log = folder / f"{settings['name']}.log"
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if name != "bootstrap"]
        arguments += ["--bootstrap"] if "bootstrap" in settings else []
        with self._log.open("ab") as output:
            command = [sys.executable, "-m", "gimmal", "node", *arguments]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    def log(self) -> str:
        return self._log.read_text()

    def facts(self) -> dict[str, Any]:
        try:
            return dict(ask_status(self.client, 1.0))
        except GimmalError:
            return {}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def strangers() -> Iterator[list[Stranger]]:
    started: list[Stranger] = []
    yield started
    for one in started:
        one.kill()


def test_a_node_of_another_cluster_is_refused_and_both_sides_say_so(
    cluster: LocalCluster, tmp_path: Path, strangers: list[Stranger]
) -> None:
    data_dir = str(tmp_path / "data")
    stranger = Stranger(tmp_path, name="stranger", data_dir=data_dir)
    strangers.append(stranger)
    wait_until(lambda: stranger.facts().get("state") == "serving", "it has founded a cluster of its own")
    foreign, ours = stranger.facts()["cluster"], facts_of(cluster, "n1")["cluster"]
    stranger.kill()
    strangers.append(Stranger(tmp_path, name="stranger", data_dir=data_dir, join=",".join(cluster.peers.values())))
    refusal = f"of node 'stranger', which belongs to cluster {foreign}"
    wait_until(lambda: any(refusal in cluster.logs(name) for name in cluster.names), "the cluster says so")
    wait_until(lambda: f"which belongs to cluster {ours}" in strangers[-1].log(), "the node says so")
    assert facts_of(cluster, "n1")["nodes_alive"] == 5
    guest = Guest(bytes.fromhex(foreign), list(cluster.peers.values()))
    try:
        with pytest.raises(AssertionError, match="no registration"):
            guest.register(1.0)
    finally:
        guest.close()


def test_a_second_node_of_a_name_is_refused_and_says_so(
    cluster: LocalCluster, tmp_path: Path, strangers: list[Stranger]
) -> None:
    before = facts_of(cluster, "n2")["incarnation"]
    impostor = Stranger(tmp_path, name="n2", join=",".join(cluster.peers.values()))
    strangers.append(impostor)
    wait_until(lambda: "another node is registered as 'n2'" in impostor.log(), "it is refused, and says so")
    assert impostor.facts()["state"] == "joining"
    assert "another node is registered as 'n2'" in impostor.facts()["why"]
    assert facts_of(cluster, "n2")["incarnation"] == before, "and the first one does not notice"


def test_an_address_that_is_taken_is_a_clear_error(
    cluster: LocalCluster, tmp_path: Path, strangers: list[Stranger]
) -> None:
    taken = cluster.addresses["n3"]
    late = Stranger(tmp_path, name="late", join=",".join(cluster.peers.values()), advertise_client=taken)
    strangers.append(late)
    wait_until(lambda: f"node 'n3' already has the client (default) address {taken}" in late.log(), "it says so")
    assert facts_of(cluster, "n1")["nodes_alive"] == 5


# -- founding ------------------------------------------------------------------------------


def test_nodes_started_in_any_order_found_one_cluster(
    tmp_path: Path, tries: int, strangers: list[Stranger], tell: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    dice = random.Random(seed)
    measured = []
    for number in range(max(1, tries * 2 // 3)):
        folder = tmp_path / str(number)
        folder.mkdir()
        names = [f"m{one}" for one in range(1, 6)]
        addresses = iter(free_addresses(15))
        places = {
            name: {"client": next(addresses), "peer": next(addresses), "pubsub": next(addresses)} for name in names
        }
        join = ",".join(place["peer"] for place in places.values())
        nodes: list[Stranger] = []
        for name in dice.sample(names, 5):
            founding = {"bootstrap": "", "expect": "5"} if dice.random() < 0.5 or name == "m3" else {}
            nodes.append(Stranger(folder, name=name, join=join, partitions="64", **places[name], **founding))
            strangers.append(nodes[-1])
            time.sleep(dice.choice([0.0, 0.0, 0.3]))
        measured.append(seconds_until_all_serve(nodes, seed))
        facts = [one.facts() for one in nodes]
        assert len({fact["cluster"] for fact in facts}) == 1, f"two clusters: seed {seed}"
        assert {fact["nodes_alive"] for fact in facts} == {5}
        for one in nodes:
            one.kill()
    tell(f"\n  five nodes in any order found one cluster: {told(measured)} after the last start")


def seconds_until_all_serve(nodes: list[Stranger], seed: int) -> float:
    began_at = time.monotonic()
    wait_until(lambda: all(one.facts().get("state") == "serving" for one in nodes), f"all serve (seed {seed})")
    return time.monotonic() - began_at
