import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from gimmal.client.inquiry import ask_status
from gimmal.errors import ClientClosed, InvalidArgument, NoRoute
from gimmal.testing import LocalCluster, local_cluster, ports, processes
from tests.cluster.waiting import state_of, wait_until

if TYPE_CHECKING:
    from _typeshed import TraceFunction

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where clusters put their directories during this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def pair(directories: Path) -> Iterator[LocalCluster]:
    """Two nodes of this test's own."""
    with LocalCluster(nodes=2) as cluster:
        yield cluster


# --- a cluster that is well


def test_it_has_started_when_the_constructor_returns(gimmal_cluster: LocalCluster) -> None:
    assert gimmal_cluster.names == ("n1", "n2", "n3")
    assert list(gimmal_cluster.pids) == ["n1", "n2", "n3"]
    assert all(state_of(pid) for pid in gimmal_cluster.pids.values())
    assert gimmal_cluster.seeds == ",".join(gimmal_cluster.addresses.values())
    for name, address in gimmal_cluster.addresses.items():
        assert ask_status(address, timeout=5.0)["name"] == name
        assert f"node {name} serves clients on {address}" in gimmal_cluster.logs(name)


def test_owner_of_is_the_node_that_leads_the_key(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    def operations() -> Counter[str]:
        addresses = gimmal_cluster.addresses.items()
        return Counter({name: int(ask_status(address, 5.0)["operations"]) for name, address in addresses})

    keys: list[str | bytes] = [f"{gimmal_prefix}{number}" for number in range(50)]
    keys += [f"{gimmal_prefix}{{tag}}{number}" for number in range(5)]
    keys.append(gimmal_prefix.encode() + b"\xff")
    with gimmal_cluster.connect() as db:
        before = operations()
        for key in keys:
            db.get(key)
        assert operations() - before == Counter(map(gimmal_cluster.owner_of, keys))


def test_options_of_connect_are_passed_on(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    async def get_it() -> object:
        async with gimmal_cluster.connect_async(timeout=4.0) as db:
            return await db.get(f"{gimmal_prefix}key")

    with gimmal_cluster.connect(timeout=3.0) as db:
        db.set(f"{gimmal_prefix}key", 1)
        assert asyncio.run(get_it()) == 1
    with pytest.raises(InvalidArgument, match="timeout"):
        gimmal_cluster.connect(timeout=0)


def test_settings_reach_every_node_and_the_environment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIMMAL_MAX_ENTRIES", "many")
    with LocalCluster(nodes=1, max_entries=2, policy="lru", partitions=4, log_level="warning") as cluster:
        with cluster.connect() as db:
            for key in "abc":
                db.set(key, key)
            assert set(db.scan()) == {"b", "c"}
            assert len(db.cluster().partitions) == 4
        assert cluster.logs("n1") == ""


# --- faults


def test_a_stopped_node_has_ended_by_itself(pair: LocalCluster) -> None:
    pid = pair.pids["n2"]
    pair.stop("n2")
    assert state_of(pid) == ""
    assert list(pair.pids) == ["n1"]
    assert "node n2 has stopped" in pair.logs("n2")
    pair.wait_healthy()
    with pytest.raises(InvalidArgument, match="n2 does not run"):
        pair.stop("n2")


def test_a_killed_node_is_gone_at_once(pair: LocalCluster) -> None:
    pid = pair.pids["n2"]
    pair.kill("n2")
    assert state_of(pid) == ""
    assert "stopping" not in pair.logs("n2")
    pair.wait_healthy()
    with pytest.raises(NoRoute):
        ask_status(pair.addresses["n2"], timeout=0.1)


def test_a_paused_node_does_not_answer_until_it_is_resumed(pair: LocalCluster) -> None:
    for _ in range(3):
        pair.pause("n1")
        assert state_of(pair.pids["n1"]) == "T"
        with pytest.raises(NoRoute):
            ask_status(pair.addresses["n1"], timeout=0.1)
        pair.resume("n1")
        pair.wait_healthy()


def test_a_paused_node_can_be_stopped_and_killed(pair: LocalCluster) -> None:
    pids = pair.pids
    for name in pair.names:
        pair.pause(name)
    pair.stop("n1")
    pair.kill("n2")
    assert [state_of(pid) for pid in pids.values()] == ["", ""]
    assert "node n1 has stopped" in pair.logs("n1")


def test_wait_healthy_shows_the_log_of_a_node_that_does_not_answer(pair: LocalCluster) -> None:
    pair.pause("n2")
    with pytest.raises(NoRoute, match=r"n2 did not answer within 0\.1 s(?s:.*)node n2 serves clients on"):
        pair.wait_healthy(timeout=0.1)


def test_wait_healthy_shows_the_log_of_a_node_that_died(pair: LocalCluster) -> None:
    os.kill(pair.pids["n1"], signal.SIGKILL)
    wait_until(lambda: "n1" not in pair.pids, "it has died")
    with pytest.raises(NoRoute, match=r"n1 ended with status -9(?s:.*)node n1 serves clients on"):
        pair.wait_healthy()


def test_a_node_that_does_not_exist_is_named_with_those_that_do(pair: LocalCluster) -> None:
    for call in (pair.start, pair.restart, pair.stop, pair.kill, pair.pause, pair.resume, pair.logs):
        with pytest.raises(InvalidArgument, match="no node 'n9'; the nodes are n1, n2"):
            call("n9")


# --- nodes that come, and come back


def lives(cluster: LocalCluster) -> dict[str, tuple[str, int]]:
    """The state and incarnation of every node, by name, as a client sees them."""
    with cluster.connect() as db:
        return {node.name: (node.state, node.incarnation) for node in db.cluster().nodes}


def cluster_id(cluster: LocalCluster) -> str:
    with cluster.connect() as db:
        return db.cluster().id


def test_a_node_that_was_killed_comes_back_as_another_life_of_the_same_node(pair: LocalCluster) -> None:
    before, pids = lives(pair), pair.pids
    pair.kill("n2")
    pair.wait_healthy()
    assert lives(pair) == {"n1": before["n1"], "n2": ("fenced", before["n2"][1])}
    pair.start("n2")
    pair.wait_healthy()
    after = lives(pair)
    assert after["n1"] == before["n1"]
    assert after["n2"][0] == "alive"
    assert after["n2"][1] > before["n2"][1]
    assert pair.pids["n1"] == pids["n1"]
    assert pair.pids["n2"] != pids["n2"]
    with pytest.raises(InvalidArgument, match="n2 runs"):
        pair.start("n2")


def test_restart_ends_a_node_that_runs_and_starts_one_that_does_not(pair: LocalCluster) -> None:
    pids = [pair.pids["n2"]]
    pair.pause("n2")
    pair.restart("n2")
    pair.wait_healthy()
    pids.append(pair.pids["n2"])
    pair.stop("n2")
    pair.restart("n2")
    pair.wait_healthy()
    pids.append(pair.pids["n2"])
    assert len(set(pids)) == 3
    assert [state_of(pid) for pid in pids[:2]] == ["", ""]
    assert list(pair.pids) == ["n1", "n2"]


def test_a_node_that_is_added_joins_the_cluster(pair: LocalCluster) -> None:
    before, owner = cluster_id(pair), pair.owner_of("key")
    assert pair.add_node() == "n3"
    pair.wait_healthy()
    assert pair.names == ("n1", "n2", "n3")
    assert list(pair.pids) == ["n1", "n2", "n3"]
    assert list(lives(pair)) == ["n1", "n2", "n3"]
    assert cluster_id(pair) == before
    assert pair.owner_of("key") == owner
    pair.restart("n3")
    pair.wait_healthy()
    assert cluster_id(pair) == before


def test_an_added_node_takes_other_ports_when_its_own_were_taken(
    pair: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = ports.free_ports
    attempts: list[list[int]] = []

    with socket.create_server(("127.0.0.1", 0)) as server:

        def choose_badly_once(count: int) -> list[int]:
            ports = choose(count)
            if not attempts:
                ports[1] = server.getsockname()[1]
            attempts.append(ports)
            return ports

        monkeypatch.setattr(ports, "free_ports", choose_badly_once)
        name = pair.add_node()
        assert len(attempts) == 2
        assert "--peer" in pair.logs(name)
        assert "Address already in use" in pair.logs(name)


def test_nodes_with_data_directories_are_the_same_cluster_when_all_of_them_come_back() -> None:
    with LocalCluster(nodes=3, data_dir=True) as cluster:
        before = cluster_id(cluster)
        for name in cluster.names:
            cluster.kill(name)
        for name in cluster.names:
            cluster.start(name)
        cluster.wait_healthy()
        assert cluster_id(cluster) == before


def test_the_owner_of_a_key_is_asked_for_again_after_a_change(pair: LocalCluster) -> None:
    key = next(f"key{number}" for number in itertools.count() if pair.owner_of(f"key{number}") == "n2")
    pair.kill("n2")
    pair.wait_healthy()
    wait_until(lambda: pair.owner_of(key) == "n1", "the other copy leads")


# --- starts that fail


@pytest.mark.parametrize("arguments", [{"nodes": 0}, {"partitions": 1000}])
def test_arguments_that_make_no_cluster_start_nothing(arguments: dict[str, int], directories: Path) -> None:
    with pytest.raises(InvalidArgument):
        LocalCluster(**arguments)  # type: ignore[arg-type]
    assert list(directories.iterdir()) == []


def test_a_failed_start_shows_the_log_and_leaves_nothing(directories: Path) -> None:
    with pytest.raises(NoRoute, match=r"n[12] ended with status 2; .*(?s:.*)ConfigError: setting 'max_memory'"):
        LocalCluster(nodes=2, max_memory="plenty")
    assert list(directories.iterdir()) == []


def test_a_start_is_tried_again_when_a_port_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[list[int]] = []
    choose = ports.free_ports

    with socket.create_server(("127.0.0.1", 0)) as server:

        def choose_badly_once(count: int) -> list[int]:
            ports = choose(count)
            if not attempts:
                ports[3] = server.getsockname()[1]
            attempts.append(ports)
            return ports

        monkeypatch.setattr(ports, "free_ports", choose_badly_once)
        with LocalCluster(nodes=2) as cluster:
            assert len(attempts) == 2
            assert cluster.addresses["n2"] == f"127.0.0.1:{attempts[1][3]}"
            assert "Address already in use" in cluster.logs("n2")


def test_a_node_of_another_cluster_is_not_taken_for_ours(
    gimmal_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other cluster's n1 answers where ours should, before ours has noticed that the port is taken."""
    attempts: list[list[int]] = []
    choose = ports.free_ports
    taken = int(gimmal_cluster.addresses["n1"].rpartition(":")[2])

    def choose_badly_once(count: int) -> list[int]:
        attempts.append(choose(count) if attempts else [taken, *choose(count - 1)])
        return attempts[-1]

    monkeypatch.setattr(ports, "free_ports", choose_badly_once)
    with LocalCluster(nodes=1) as cluster:
        assert len(attempts) == 2
        with cluster.connect() as db:
            assert len(db.cluster().nodes) == 1


# --- the end


def test_close_leaves_no_process_and_no_file(directories: Path) -> None:
    with LocalCluster(nodes=2) as cluster:
        pids = cluster.pids
        cluster.pause("n1")
        assert len(list(directories.iterdir())) == 1
    assert [state_of(pid) for pid in pids.values()] == ["", ""]
    assert list(directories.iterdir()) == []
    assert cluster.pids == {}
    cluster.close()
    for call in (cluster.connect, cluster.connect_async, cluster.wait_healthy):
        with pytest.raises(ClientClosed):
            call()
    with pytest.raises(ClientClosed):
        cluster.kill("n1")


def interrupted_close(cluster: LocalCluster, line: int) -> bool:
    """Close a cluster with a Ctrl-C before the given line of what closes it; False if it has fewer lines."""
    files = (local_cluster.__file__, processes.__file__)
    lines_left = line

    def trace(frame: FrameType, event: str, _argument: object) -> "TraceFunction | None":
        nonlocal lines_left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines_left -= 1
            if lines_left == 0:
                raise KeyboardInterrupt
        return trace

    tracer_before = sys.gettrace()
    sys.settrace(trace)
    try:
        cluster.close()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracer_before)
    return False


def test_a_close_that_was_interrupted_anywhere_goes_on_at_the_next_one(directories: Path) -> None:
    for line in itertools.count(1):
        cluster = LocalCluster(nodes=1)
        (pid,) = cluster.pids.values()
        is_interrupted = interrupted_close(cluster, line)
        cluster.close()
        assert state_of(pid) == ""
        assert list(directories.iterdir()) == [], f"interrupted before line {line}"
        if not is_interrupted:
            break
    assert line > 5


def test_a_close_that_was_interrupted_comes_to_its_end_alone(
    directories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    cluster = LocalCluster(nodes=1)
    (pid,) = cluster.pids.values()
    with monkeypatch.context() as patch:
        for module, name in ((os, "waitid"), (os, "killpg"), (shutil, "rmtree")):
            patch.setattr(module, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.close()
        wait_until(lambda: not state_of(pid), "the node has ended")
        wait_until(lambda: not list(directories.iterdir()), "the directory is removed")
    cluster.close()


def test_close_kills_nodes_that_have_lost_their_keeper(directories: Path) -> None:
    cluster = LocalCluster(nodes=1)
    (pid,) = cluster.pids.values()
    os.kill(cluster._group._keeper.pid, signal.SIGKILL)
    cluster.close()
    assert state_of(pid) == ""
    assert list(directories.iterdir()) == []


def test_an_error_inside_the_with_block_comes_with_the_logs() -> None:
    def fail() -> None:
        with LocalCluster(nodes=1):
            raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user") as caught:
        fail()
    (note,) = caught.value.__notes__
    assert note.startswith("node n1: its log ends with:\n")
    assert "node n1 serves clients on" in note


MAKE_A_CLUSTER = """
import json, os, sys
from gimmal.testing import LocalCluster

def tell(**facts):
    print(json.dumps(facts), flush=True)

cluster = LocalCluster(nodes=2)
cluster.pause("n2")
tell(pids=list(cluster.pids.values()))
"""


def start_script(text: str, directories: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", MAKE_A_CLUSTER + text],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directories)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def next_fact(script: "subprocess.Popen[str]", name: str) -> list[int]:
    assert script.stdout is not None
    facts: dict[str, list[int]] = json.loads(script.stdout.readline())
    return facts[name]


def test_nothing_is_left_when_the_parent_is_killed(directories: Path) -> None:
    with start_script("sys.stdin.read()", directories) as script:
        pids = next_fact(script, "pids")
        assert all(state_of(pid) for pid in pids)
        script.kill()
    wait_until(lambda: not any(map(state_of, pids)), "the nodes have ended, the paused one as well")
    wait_until(lambda: not list(directories.iterdir()), "the directory is removed")


def test_nothing_is_left_when_the_parent_just_ends(directories: Path) -> None:
    with start_script("", directories) as script:
        pids = next_fact(script, "pids")
    assert script.returncode == 0
    assert not any(map(state_of, pids))
    assert list(directories.iterdir()) == []


FORK_A_WORKER = """
worker = os.fork()
if worker == 0:
    os.close(1)
    sys.stdin.read()
    os._exit(0)
tell(workers=[worker])
sys.stdin.read()
"""


def test_nothing_is_left_when_the_parent_is_killed_and_its_forked_child_lives_on(directories: Path) -> None:
    with start_script(FORK_A_WORKER, directories) as script:
        pids = next_fact(script, "pids")
        (worker,) = next_fact(script, "workers")
        script.kill()
        wait_until(lambda: not any(map(state_of, pids)), "the nodes have ended")
        wait_until(lambda: not list(directories.iterdir()), "the directory is removed")
        assert state_of(worker)
    wait_until(lambda: not state_of(worker), "the child has read the end of its input")


FORK = """
child = os.fork()
if child == 0:
    cluster.close()
    sys.exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
cluster.resume("n2")
cluster.wait_healthy()
tell(statuses=[status])
"""


def test_a_forked_process_closes_nothing(directories: Path) -> None:
    with start_script(FORK, directories) as script:
        pids = next_fact(script, "pids")
        assert next_fact(script, "statuses") == [7]
    assert script.returncode == 0
    assert not any(map(state_of, pids))
