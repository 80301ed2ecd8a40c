"""A cluster on this machine for tests and demonstrations: real node processes on free loopback ports.

Every node is told of all the others and founds the cluster with them; a node that is added or started again joins it.

The nodes, their logs and their data directories end with `close`, at the latest with this process, however it dies. A
process forked from it may use the cluster, but only the process that made a cluster ends it, and its end is the
cluster's.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from gimmal.client.aio import AsyncClient, connect_async
from gimmal.client.commands import Key, encode_key
from gimmal.client.copies import CopiesReport, compare_copies
from gimmal.client.inquiry import ask_status
from gimmal.client.sync import Client, connect
from gimmal.cluster.meta.steward import voters_wanted
from gimmal.cluster.table import Addresses
from gimmal.errors import ClientClosed, GimmalError, InvalidArgument, NoRoute
from gimmal.hashing import check_partitions, key_slot, partition_of
from gimmal.testing.faults import FaultLog
from gimmal.testing.ports import Place, free_places
from gimmal.testing.processes import ProcessGroup

START_TIMEOUT_S: Final = 20.0
_PORT_ATTEMPTS: Final = 5
_ASK_TIMEOUT_S: Final = 0.25
_ASK_AGAIN_S: Final = 0.02
_LEADERS_LAST_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 10.0
_TAIL_LINES: Final = 20


class _NotYet(Exception):
    """A node is not yet as it should be."""

    def __init__(self, name: str, what: str, why: str = "") -> None:
        super().__init__(name, what, why)
        self.name = name
        self.what = f"node {name} {what}"
        self.why = why


class LocalCluster:
    """`nodes` gimmal nodes named n1, n2, ..., running when the constructor returns; a context manager.

    `max_entries`, `max_memory` (bytes, or text such as `"512mb"`), `policy`, `on_total_loss` and `log_level` are
    settings of every node. With `data_dir` each node has a data directory of its own, which outlives its process. Each
    partition has `replicas` copies, if there are so many nodes.

    Raises:
        InvalidArgument: the arguments make no cluster.
        NoRoute: a node did not start within 20 s; the message shows the end of its log.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        max_entries: int | None = None,
        max_memory: int | str | None = None,
        policy: Literal["refuse", "lru"] = "refuse",
        partitions: int = 1024,
        replicas: int = 3,
        on_total_loss: Literal["refuse", "empty"] | None = None,
        data_dir: bool = False,
        log_level: Literal["debug", "info", "warning", "error"] = "info",
    ) -> None:
        if nodes < 1:
            raise InvalidArgument(f"a cluster has 1 node or more, not {nodes}")
        try:
            check_partitions(partitions)
        except ValueError as reason:
            raise InvalidArgument(f"these arguments make no cluster: {reason}") from None
        self.names: tuple[str, ...] = tuple(f"n{number}" for number in range(1, nodes + 1))
        self._partitions = partitions
        self._has_data_dirs = data_dir
        settings = {
            "partitions": partitions,
            "replicas": replicas,
            "on-total-loss": on_total_loss,
            "max-entries": max_entries,
            "max-memory": max_memory,
            "policy": policy,
            "log-level": log_level,
        }
        self._flags = [f"--{name}={value}" for name, value in settings.items() if value is not None]
        self._places: dict[str, Place] = {}
        self._arguments: dict[str, list[str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._leaders: tuple[str | None, ...] = ()
        self._leaders_until = 0.0
        self._pid = os.getpid()
        self._is_closed = False
        self._group = ProcessGroup(Path(tempfile.mkdtemp(prefix="gimmal-")))
        self._faults = FaultLog(self._group.directory / "faults")
        atexit.register(self.close)
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise

    # -- starting -------------------------------------------------------------------------------------------

    def _start_all(self) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._places = dict(zip(self.names, free_places(len(self.names)), strict=True))
            founding = ["--bootstrap", f"--expect={len(self.names)}", *self._join(self.names)]
            for name in self.names:
                self._launch(name, founding)
            try:
                self.wait_healthy(START_TIMEOUT_S)
                if self._is_ours():
                    return
            except NoRoute:
                if attempt == _PORT_ATTEMPTS or not any(map(self._has_met_a_taken_port, self.names)):
                    raise
            self._group.kill_nodes()
            for name in self.names:
                shutil.rmtree(self._data_dir(name), ignore_errors=True)
        raise _no_free_ports()

    def add_node(self) -> str:
        """Start one more node, which joins the cluster, and return its name when it serves.

        Raises:
            NoRoute: it did not join within 20 s; the message shows the end of its log.
        """
        self._check_open()
        name = f"n{len(self.names) + 1}"
        joining = self._join(self.names)
        self.names = (*self.names, name)
        for _ in range(_PORT_ATTEMPTS):
            (self._places[name],) = free_places(1)
            self._launch(name, joining)
            try:
                self._wait(lambda: self._check_serving(name), START_TIMEOUT_S)
            except NoRoute:
                if not self._has_met_a_taken_port(name):
                    raise
            else:
                return name
        raise _no_free_ports()

    def start(self, name: str) -> None:
        """Start a node again that was stopped or killed: as the same node, with what its data directory holds.

        It has started to start when this returns; `wait_healthy` waits for it.

        Raises:
            InvalidArgument: it runs.
        """
        self._check_open()
        self._check_name(name)
        if name in self._processes:
            raise InvalidArgument(f"node {name} runs: restart it, or stop or kill it first")
        self._run(name)

    def restart(self, name: str) -> None:
        """Kill a node if it runs, and start it again."""
        self._check_open()
        self._check_name(name)
        if name in self._processes:
            self.kill(name)
        self._run(name)

    def _join(self, names: Iterable[str]) -> list[str]:
        peers = [self._places[name].peer for name in names]
        return [f"--join={','.join(peers)}"]

    def _launch(self, name: str, founding: list[str]) -> None:
        """Start a new node; `founding` says how it comes to its cluster, at this start and later ones."""
        addresses = [f"--{setting}={address}" for setting, address in self._places[name]._asdict().items()]
        data_dir = [f"--data-dir={self._data_dir(name)}"] if self._has_data_dirs else []
        testing = f"--testing-faults={self._faults.file}"
        self._arguments[name] = [f"--name={name}", *addresses, *founding, *data_dir, *self._flags, testing]
        self._faults.add_node(name, self._places[name].peer)
        self._run(name)

    def _run(self, name: str) -> None:
        self._processes[name] = self._group.start_node(self._arguments[name], self._log_file(name))
        self._leaders_until = 0.0

    def _is_ours(self) -> bool:
        """Say whether what answers is this cluster: another one may have taken a port before ours did."""
        ours = {name: Addresses(place.client, place.pubsub) for name, place in self._places.items()}
        with connect(self._places[self.names[0]].client, timeout=START_TIMEOUT_S) as client:
            return {node.name: next(iter(node.addresses.values())) for node in client.cluster().nodes} == ours

    def _has_met_a_taken_port(self, name: str) -> bool:
        return self._processes[name].poll() is not None and "Address already in use" in _tail(self._log_file(name), 1)

    # -- how it is ------------------------------------------------------------------------------------------

    def wait_healthy(self, timeout: float = START_TIMEOUT_S) -> None:
        """Return when every node that was not stopped or killed serves, and they agree that just these are alive.

        The meta group is complete then: the cluster can lose a node again. `timeout` is in seconds.

        Raises:
            NoRoute: a node has ended by itself, or is not well in time; the message shows the end of its log.
        """
        self._check_open()
        self._wait(self._check_healthy, timeout)
        self._leaders_until = 0.0

    def _wait(self, check: Callable[[], object], timeout: float) -> None:
        give_up_at = time.monotonic() + timeout
        while True:
            try:
                check()
            except _NotYet as problem:
                if time.monotonic() >= give_up_at:
                    what, why = problem.what, f": {problem.why}" if problem.why else ""
                    raise NoRoute(f"{what} within {timeout:g} s{why}; {self._shown_log(problem.name)}") from None
            else:
                return
            time.sleep(_ASK_AGAIN_S)

    def _check_lives(self, name: str) -> None:
        status = self._processes[name].poll()
        if status is not None:
            raise NoRoute(f"node {name} ended with status {status}; {self._shown_log(name)}")

    def _check_serving(self, name: str) -> dict[str, int | str]:
        """Return what a node says of itself if it serves."""
        facts = None
        with contextlib.suppress(GimmalError):
            facts = ask_status(self._places[name].client, _ASK_TIMEOUT_S)
        self._check_lives(name)  # else somebody else has answered
        if facts is None or facts["name"] != name:
            raise _NotYet(name, "did not answer")
        if facts["state"] != "serving":
            raise _NotYet(name, "did not serve", f"it is {facts['state']}: {facts['why']}")
        return facts

    def _check_healthy(self) -> None:
        running = list(self._processes)
        for name in running:  # one that has ended is what the others wait for
            self._check_lives(name)
        facts_by_name = {name: self._check_serving(name) for name in running}
        for name, facts in facts_by_name.items():
            if facts["nodes_alive"] != len(running):
                why = f"it takes {facts['nodes_alive']} nodes for alive, and {len(running)} run"
                raise _NotYet(name, "did not see who is there", why)
            if facts["cluster"] != facts_by_name[running[0]]["cluster"]:
                raise _NotYet(name, f"did not come to the same cluster as {running[0]}")
            if facts["table_version"] != facts_by_name[running[0]]["table_version"]:
                raise _NotYet(name, f"did not come to the same table as {running[0]}")
        roles = Counter(facts["meta_role"] for facts in facts_by_name.values())
        wanted = min(voters_wanted(len(self.names)), len(running))
        if running and (roles["leader"] != 1 or roles["leader"] + roles["voter"] < wanted):
            why = ", ".join(f"{name} is {facts['meta_role']}" for name, facts in facts_by_name.items())
            raise _NotYet(running[0], f"did not see a meta group of {wanted} voters", why)

    # -- using it -------------------------------------------------------------------------------------------

    @property
    def seeds(self) -> str:
        """The client addresses of all nodes, as `gimmal.connect` takes them."""
        return ",".join(place.client for place in self._places.values())

    @property
    def addresses(self) -> dict[str, str]:
        """The client address of each node, by name."""
        return {name: place.client for name, place in self._places.items()}

    @property
    def peers(self) -> dict[str, str]:
        """The address of each node for other nodes, by name: what a node of your own would `--join`."""
        return {name: place.peer for name, place in self._places.items()}

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the nodes that live, by name; a paused node lives."""
        running = {name: self._processes[name] for name in self.names if name in self._processes}
        return {name: process.pid for name, process in running.items() if process.poll() is None}

    def connect(self, **options: Any) -> Client:
        """Return a client; `options` are those of `gimmal.connect`."""
        self._check_open()
        return connect(self.seeds, **options)

    def connect_async(self, **options: Any) -> AsyncClient:
        """Return a client for asyncio; `options` are those of `gimmal.connect_async`."""
        self._check_open()
        return connect_async(self.seeds, **options)

    def owner_of(self, key: Key) -> str:
        """Return the name of the node that leads a key's partition.

        Raises:
            NoRoute: no node tells, or nobody leads it now.
        """
        self._check_open()
        partition = partition_of(key_slot(encode_key(key)), self._partitions)
        if time.monotonic() >= self._leaders_until:
            with self.connect() as client:
                self._leaders = tuple(row.leader for row in client.cluster().partitions)
            self._leaders_until = time.monotonic() + _LEADERS_LAST_S
        leader = self._leaders[partition]
        if leader is None:
            raise NoRoute(f"nobody leads the partition of key {key!r} now")
        return leader

    def compare_copies(self, timeout: float = 5.0) -> CopiesReport:
        """Compare the copies of all partitions on the nodes that run; call it when nobody writes.

        Raises:
            NoRoute: a node did not answer within `timeout` seconds.
        """
        self._check_open()
        running = self.pids
        return compare_copies({name: self.addresses[name] for name in self.names if name in running}, timeout)

    def logs(self, name: str) -> str:
        """Return everything a node has logged."""
        self._check_open()
        self._check_name(name)
        return _read(self._log_file(name))

    def log_tail(self, name: str) -> str:
        """Return the last 20 lines a node has logged."""
        return "\n".join(self.logs(name).splitlines()[-_TAIL_LINES:])

    # -- faults ---------------------------------------------------------------------------------------------

    def stop(self, name: str) -> None:
        """End a node with SIGTERM and wait for its end.

        Raises:
            NoRoute: it did not end within 10 s and was killed; the message shows the end of its log.
        """
        process = self._running(name)
        process.terminate()
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill(name)
            raise NoRoute(
                f"node {name} did not end within {_STOP_TIMEOUT_S:g} s of SIGTERM and was killed; "
                f"{self._shown_log(name)}"
            ) from None
        self._has_ended(name)

    def kill(self, name: str) -> None:
        """End a node with SIGKILL, paused or not."""
        process = self._running(name)
        process.kill()
        process.wait()
        self._has_ended(name)

    def pause(self, name: str) -> None:
        """Let a node hang (SIGSTOP) until `resume`: it lives, its sockets accept, and nothing answers."""
        process = self._running(name)
        process.send_signal(signal.SIGSTOP)
        # The signal takes effect a moment later; until then the node would still answer.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self, name: str) -> None:
        """Let a paused node go on."""
        self._running(name).send_signal(signal.SIGCONT)

    def isolate(self, name: str, *, clients: bool = False) -> None:
        """Cut a node off from all other nodes until `heal`; with `clients`, from them too.

        What is sent is lost, as in a network that drops packets: connections stay up, and nobody sees an error.
        """
        self._check_open()
        self._check_name(name)
        self._faults.isolate(name, clients=clients)

    def partition(self, first: Iterable[str], second: Iterable[str], *, one_way: bool = False) -> None:
        """Cut two groups of nodes off from each other until `heal`, as `isolate` does.

        With `one_way`, only what the first send to the second is lost.

        Raises:
            InvalidArgument: a node is in both groups, or a group is empty.
        """
        self._check_open()
        groups = tuple(first), tuple(second)
        for name in (*groups[0], *groups[1]):
            self._check_name(name)
        self._faults.partition(*groups, one_way=one_way)

    def slow(self, sender: str, receiver: str, delay: float) -> None:
        """Let each message from one node to another take `delay` seconds (at most 60) longer, until `heal`.

        Raises:
            InvalidArgument: it is no such delay, or both are the same node.
        """
        self._check_open()
        for name in (sender, receiver):
            self._check_name(name)
        self._faults.slow(sender, receiver, delay)

    def heal(self) -> None:
        """End what `isolate`, `partition` and `slow` began. Nodes that hang or have ended stay as they are."""
        self._check_open()
        self._faults.heal()

    # -- the end --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all nodes and remove their logs. Closing twice is fine; a forked process closes nothing."""
        if self._pid != os.getpid():
            return
        self._is_closed = True
        self._group.close()  # Ctrl-C may interrupt it: the next call goes on, at the latest the one at exit
        self._processes.clear()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._is_closed:
            for name in self.names:
                error.add_note(f"node {name}: {self._shown_log(name)}")
        self.close()

    # -- the common part ------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosed("this cluster was closed: make a new LocalCluster")

    def _check_name(self, name: str) -> None:
        if name not in self._places:
            raise InvalidArgument(f"there is no node {name!r}; the nodes are {', '.join(self.names)}")

    def _running(self, name: str) -> "subprocess.Popen[bytes]":
        self._check_open()
        self._check_name(name)
        if name not in self._processes:
            raise InvalidArgument(f"node {name} does not run: it was stopped or killed before")
        return self._processes[name]

    def _has_ended(self, name: str) -> None:
        del self._processes[name]
        self._leaders_until = 0.0

    def _log_file(self, name: str) -> Path:
        return self._group.directory / f"{name}.log"

    def _data_dir(self, name: str) -> Path:
        return self._group.directory / f"{name}.data"

    def _shown_log(self, name: str) -> str:
        tail = _tail(self._log_file(name), _TAIL_LINES)
        return f"its log ends with:\n{tail}" if tail else "its log is empty"


def _no_free_ports() -> NoRoute:
    return NoRoute(f"found no free ports in {_PORT_ATTEMPTS} attempts: what else starts servers here?")


def _read(file: Path) -> str:
    return file.read_text(errors="backslashreplace") if file.exists() else ""


def _tail(file: Path, lines: int) -> str:
    return "\n".join(_read(file).splitlines()[-lines:])
