"""A cluster on this machine for tests and demonstrations: real node processes on free loopback ports.

The nodes and their logs end with `close`, at the latest with this process, however it dies. A process forked
from it may use the cluster, but only the process that made a cluster ends it, and its end is the cluster's.

Free ports can only be guessed: between our look and the node's bind somebody else may take one. A start that
fails for that reason is tried again with other ports.
"""

import atexit
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from gimmal.client.aio import AsyncClient, connect_async
from gimmal.client.commands import Key, encode_key
from gimmal.client.inquiry import ask_status
from gimmal.client.sync import Client, connect
from gimmal.cluster.static import StaticNode, static_table
from gimmal.errors import ClientClosed, GimmalError, InvalidArgument, NoRoute
from gimmal.hashing import key_slot, partition_of
from gimmal.testing.processes import ProcessGroup

START_TIMEOUT_S: Final = 20.0
_PORT_ATTEMPTS: Final = 5
_ASK_TIMEOUT_S: Final = 0.25
_STOP_TIMEOUT_S: Final = 10.0
_TAIL_LINES: Final = 20
_HOST: Final = "127.0.0.1"


class LocalCluster:
    """`nodes` gimmal nodes named n1, n2, ..., running when the constructor returns; a context manager.

    `max_entries`, `max_memory` (bytes, or text such as `"512mb"`), `policy` and `log_level` are settings of
    every node. Each partition has one copy.

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
        log_level: Literal["debug", "info", "warning", "error"] = "info",
    ) -> None:
        if nodes < 1:
            raise InvalidArgument(f"a cluster has 1 node or more, not {nodes}")
        self.names: tuple[str, ...] = tuple(f"n{number}" for number in range(1, nodes + 1))
        self._id = secrets.token_bytes(16)
        self._partitions = partitions
        settings = {
            "max-entries": max_entries,
            "max-memory": max_memory,
            "policy": policy,
            "log-level": log_level,
        }
        self._flags = [f"--{name}={value}" for name, value in settings.items() if value is not None]
        self._choose_ports()  # raises for arguments that make no cluster, before anything is started
        self._pid = os.getpid()
        self._is_closed = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._group = ProcessGroup(Path(tempfile.mkdtemp(prefix="gimmal-")))
        atexit.register(self.close)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # -- starting -------------------------------------------------------------------------------------------

    def _choose_ports(self) -> None:
        ports = iter(_free_ports(3 * len(self.names)))
        self._rows = {
            name: StaticNode(name, f"{_HOST}:{client}", f"{_HOST}:{peer}", f"{_HOST}:{pubsub}")
            for name, client, peer, pubsub in zip(self.names, ports, ports, ports, strict=True)
        }
        try:
            self._table = static_table(self._id, list(self._rows.values()), self._partitions)
        except ValueError as reason:
            raise InvalidArgument(f"these arguments make no cluster: {reason}") from None

    def _start(self) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            cluster_file = self._group.directory / "cluster.json"
            nodes = [row._asdict() for row in self._rows.values()]
            cluster_file.write_text(
                json.dumps({"cluster": self._id.hex(), "partitions": self._partitions, "nodes": nodes})
            )
            for name in self.names:
                arguments = [f"--name={name}", f"--static-cluster={cluster_file}", *self._flags]
                self._processes[name] = self._group.start_node(arguments, self._log_file(name))
            try:
                self.wait_healthy(START_TIMEOUT_S)
                if self._is_ours():
                    return
            except NoRoute:
                if attempt == _PORT_ATTEMPTS or not self._has_met_a_taken_port():
                    raise
            self._group.kill_nodes()
            self._choose_ports()
        raise NoRoute(f"found no free ports in {_PORT_ATTEMPTS} attempts: what else starts servers here?")

    def _is_ours(self) -> bool:
        """Say whether what answers is this cluster: another one may have taken a port before ours did."""
        for row in self._rows.values():
            with connect(row.client, timeout=START_TIMEOUT_S) as client:
                if client.cluster().id != self._id.hex():
                    return False
        return True

    def _has_met_a_taken_port(self) -> bool:
        return any(
            process.poll() is not None and "Address already in use" in _tail(self._log_file(name), 1)
            for name, process in self._processes.items()
        )

    def wait_healthy(self, timeout: float = START_TIMEOUT_S) -> None:
        """Return when every node that was not stopped or killed answers; `timeout` is in seconds.

        Raises:
            NoRoute: a node has ended by itself or does not answer; the message shows the end of its log.
        """
        self._check_open()
        give_up_at = time.monotonic() + timeout
        for name, process in self._processes.items():
            while not self._answers(name):
                if process.poll() is not None:
                    raise NoRoute(f"node {name} ended with status {process.returncode}; {self._shown_log(name)}")
                if time.monotonic() >= give_up_at:
                    raise NoRoute(f"node {name} did not answer within {timeout:g} s; {self._shown_log(name)}")

    def _answers(self, name: str) -> bool:
        try:
            status = ask_status(self._rows[name].client, _ASK_TIMEOUT_S)
        except GimmalError:
            return False
        return status["name"] == name and self._processes[name].poll() is None

    # -- using it -------------------------------------------------------------------------------------------

    @property
    def seeds(self) -> str:
        """The client addresses of all nodes, as `gimmal.connect` takes them."""
        return ",".join(row.client for row in self._rows.values())

    @property
    def addresses(self) -> dict[str, str]:
        """The client address of each node, by name."""
        return {name: row.client for name, row in self._rows.items()}

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the nodes that live, by name; a paused node lives."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def connect(self, **options: Any) -> Client:
        """Return a client; `options` are those of `gimmal.connect`."""
        self._check_open()
        return connect(self.seeds, **options)

    def connect_async(self, **options: Any) -> AsyncClient:
        """Return a client for asyncio; `options` are those of `gimmal.connect_async`."""
        self._check_open()
        return connect_async(self.seeds, **options)

    def owner_of(self, key: Key) -> str:
        """Return the name of the node that leads a key's partition."""
        partition = partition_of(key_slot(encode_key(key)), self._partitions)
        leader = self._table.partitions[partition].leader
        assert leader is not None, "in a static table every partition has a leader"
        return leader

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
        del self._processes[name]

    def kill(self, name: str) -> None:
        """End a node with SIGKILL, paused or not."""
        process = self._running(name)
        process.kill()
        process.wait()
        del self._processes[name]

    def pause(self, name: str) -> None:
        """Let a node hang (SIGSTOP) until `resume`: it lives, its sockets accept, and nothing answers."""
        process = self._running(name)
        process.send_signal(signal.SIGSTOP)
        # The signal takes effect a moment later; until then the node would still answer.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self, name: str) -> None:
        """Let a paused node go on."""
        self._running(name).send_signal(signal.SIGCONT)

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
        if name not in self._rows:
            raise InvalidArgument(f"there is no node {name!r}; the nodes are {', '.join(self.names)}")

    def _running(self, name: str) -> "subprocess.Popen[bytes]":
        self._check_open()
        self._check_name(name)
        if name not in self._processes:
            raise InvalidArgument(f"node {name} does not run: it was stopped or killed before")
        return self._processes[name]

    def _log_file(self, name: str) -> Path:
        return self._group.directory / f"{name}.log"

    def _shown_log(self, name: str) -> str:
        tail = _tail(self._log_file(name), _TAIL_LINES)
        return f"its log ends with:\n{tail}" if tail else "its log is empty"


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((_HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _read(file: Path) -> str:
    return file.read_text(errors="backslashreplace") if file.exists() else ""


def _tail(file: Path, lines: int) -> str:
    return "\n".join(_read(file).splitlines()[-lines:])
