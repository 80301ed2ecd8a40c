"""Node processes that are started wrongly, or that lose what they stand on: how they end, and what they say."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from gimmal.client.inquiry import ask_status
from gimmal.errors import GimmalError
from gimmal.wire.codec import encode
from gimmal.wire.messages import FetchStatus
from tests.cluster.waiting import PATIENCE_S, wait_until


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Node:
    """A node of a test's own, and what it logs."""

    def __init__(self, folder: Path, flags: tuple[str, ...], file_blocks_max: str) -> None:
        self.client, self.peer, pubsub = free_addresses(3)
        self._log = folder / "node.log"
        limited = ["/bin/sh", "-c", f'ulimit -f {file_blocks_max}; exec "$@"', "gimmal"]
        addresses = [f"--client={self.client}", f"--peer={self.peer}", f"--pubsub={pubsub}"]
        command = [sys.executable, "-m", "gimmal", "node", *addresses, *flags]  # of two flags the later one counts
        with self._log.open("ab") as output:
            self.process = subprocess.Popen([*limited, *command], stdout=output, stderr=output)

    def log(self) -> str:
        return self._log.read_text()

    def status(self) -> dict[str, int | str]:
        try:
            return ask_status(self.client, 1.0)
        except GimmalError:
            return {}

    def wait_until_serving(self) -> None:
        wait_until(lambda: self.status().get("state") == "serving", "the node serves")

    def end(self) -> int:
        """Wait until the node has ended by itself."""
        return self.process.wait(PATIENCE_S)


@contextmanager
def node(folder: Path, *flags: str, file_blocks_max: str = "unlimited") -> Iterator[Node]:
    one = Node(folder, flags, file_blocks_max)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


# --- the data directory


def test_a_node_that_cannot_keep_its_promises_any_more_ends(tmp_path: Path) -> None:
    with node(tmp_path, f"--data-dir={tmp_path / 'data'}", file_blocks_max="8") as one:
        assert one.end() == 1
        assert (
            f"JournalError: cannot replace {tmp_path / 'data' / 'journal'}: File too large. The node stops" in one.log()
        )
        assert "is registered" not in one.log()


def test_a_data_directory_is_for_one_node(tmp_path: Path) -> None:
    flag = f"--data-dir={tmp_path / 'data'}"
    with node(tmp_path, flag) as first:
        first.wait_until_serving()
        with node(tmp_path, flag) as second:
            assert second.end() == 2
            assert f"in use by another node, process {first.process.pid}" in second.log()
        assert first.status()["state"] == "serving"


def test_a_data_directory_belongs_to_the_name_of_its_node(tmp_path: Path) -> None:
    flag = f"--data-dir={tmp_path / 'data'}"
    with node(tmp_path, flag, "--name=n1") as one:
        one.wait_until_serving()
    with node(tmp_path, flag, "--name=n2") as other:
        assert other.end() == 2
        assert "is that of node n1, and this is n2" in other.log()


def test_a_torn_end_of_a_journal_is_cut_and_damage_before_it_is_refused(tmp_path: Path) -> None:
    flag, journal = f"--data-dir={tmp_path / 'data'}", tmp_path / "data" / "journal"
    with node(tmp_path, flag) as one:
        one.wait_until_serving()
        cluster = one.status()["cluster"]
    with journal.open("ab") as file:
        file.write(b"\x00\x00\x00\x40torn")
    with node(tmp_path, flag) as one:
        wait_until(lambda: one.status().get("cluster") == cluster, "the node is what it was")
        assert "ends in 8 bytes of an unfinished record" in one.log()
    content = bytearray(journal.read_bytes())
    content[20] ^= 1
    journal.write_bytes(content)
    with node(tmp_path, flag) as one:
        assert one.end() == 2
        assert "JournalCorrupt: " in one.log()


# --- addresses


@pytest.mark.parametrize("setting", ["client", "peer"])
def test_an_address_that_is_taken_is_named_with_the_flag_that_changes_it(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        with node(tmp_path, f"--{setting}={taken}") as one:
            assert one.end() == 2
            assert f"cannot listen on {taken}: Address already in use" in one.log()
            assert f"Give it another address with --{setting}" in one.log()


def test_a_node_that_is_told_to_join_at_the_address_for_clients_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with node(tmp_path, "--name=n1") as one, node(tmp_path / "other", "--name=n2", f"--join={one.client}") as other:
        wait_until(lambda: f"what listens at {one.client} is no other node: it answers" in other.log(), "it says so")
        assert other.status()["state"] == "joining"


def test_bad_frames_on_the_address_for_nodes_are_counted_and_told_of_once(tmp_path: Path) -> None:
    with node(tmp_path) as one:
        one.wait_until_serving()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context, context.socket(zmq.DEALER) as stranger:
            stranger.connect(f"tcp://{one.peer}")
            for frame in (b"", b"\x02\x20garbage", encode(FetchStatus(b"", 0, 0, 0))):
                stranger.send(frame)
            stranger.send_multipart([b"two", b"frames"])
            wait_until(lambda: "bad message on the address for other nodes (1 so far)" in one.log(), "it is told")
            assert one.status()["state"] == "serving"
        assert one.log().count("bad message") == 1


def test_a_node_by_itself_ends_well_and_says_so_as_json(tmp_path: Path) -> None:
    with node(tmp_path, "--json", "--name=n1") as one:
        one.wait_until_serving()
        one.process.terminate()
        assert one.end() == 0
        assert json.loads(one.log().splitlines()[-1]) == {"node": "n1", "stopped": True}
