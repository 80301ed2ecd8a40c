"""A Redis Cluster on loopback, for the length of a `with`: real redis-server processes without persistence.

It is formed with a handful of CLUSTER commands through redis-py; redis-cli is not needed. Without replicas it
is the peer of one copy per partition; with replicas it is the peer of replicated writes. Redis replicates
asynchronously: a write is answered when its master has it.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.cluster import RedisCluster

from benchmarks import redis_store
from benchmarks.processes import LOOPBACK, free_ports, start_child, stop_children
from benchmarks.stores import AsyncStore, Roles, SyncStore

SLOTS = 16384
START_TIMEOUT_S = 30.0
NODE_TIMEOUT_MS = 5000
MISSING = "redis-server is not installed; on Debian and Ubuntu: sudo apt-get install redis-server (7.0 or newer)"


class RedisMissingError(RuntimeError):
    """There is no redis-server on this machine."""


class RedisServers:
    """A running cluster: its processes, and how to connect to them."""

    name = "redis"

    def __init__(self, servers: list[subprocess.Popen[bytes]], commands: Sequence[list[str]], ports: list[int]) -> None:
        self.ports = ports
        self._servers = servers
        self._commands = commands

    @property
    def node_pids(self) -> list[int]:
        """Return the process ids in the order of the ports."""
        return [server.pid for server in self._servers]

    def kill(self, port: int) -> None:
        """End a server with SIGKILL."""
        server = self._servers[self.ports.index(port)]
        server.kill()
        server.wait()

    def start(self, port: int) -> None:
        """Start a server again that was killed: as the same node, without its data."""
        index = self.ports.index(port)
        self._servers[index] = start_child(self._commands[index])

    def roles_of(self, key: str) -> Roles:
        """Return who serves a key now; a master may have lost its place to a replica since the start."""
        with RedisCluster(host=LOOPBACK, port=self.ports[0]) as client:
            master, *replicas = client.nodes_manager.slots_cache[client.keyslot(key)]
        pid_of_port = dict(zip(self.ports, self.node_pids, strict=True))
        return Roles(pid_of_port[master.port], [pid_of_port[replica.port] for replica in replicas])

    def connect(self) -> SyncStore:
        """Connect a blocking RedisCluster."""
        return redis_store.connect(self.ports[0])

    async def connect_async(self) -> AsyncStore:
        """Connect an asyncio RedisCluster."""
        return await redis_store.connect_async(self.ports[0])


@contextmanager
def open_redis_cluster(
    masters: int = 3, replicas_per_master: int = 0, node_timeout_ms: int = NODE_TIMEOUT_MS
) -> Iterator[RedisServers]:
    """Start a cluster and wait until every node calls it healthy; stop it at the end whatever happens.

    Raises:
        RedisMissingError: redis-server is not installed.
        RuntimeError: the cluster did not form in time.
    """
    executable = shutil.which("redis-server")
    if executable is None:
        raise RedisMissingError(MISSING)
    count = masters * (1 + replicas_per_master)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-redis-")))
        servers: list[subprocess.Popen[bytes]] = []
        stack.callback(stop_children, servers)
        ports = free_ports(2 * count)
        addresses = list(zip(ports[:count], ports[count:], strict=True))
        commands = [
            [executable, *server_options(home, port, bus_port, node_timeout_ms)] for port, bus_port in addresses
        ]
        servers += map(start_child, commands)
        nodes = [redis.Redis(host=LOOPBACK, port=port, decode_responses=True) for port, _ in addresses]
        for node in nodes:
            stack.callback(node.close)
        form_cluster(nodes, addresses, masters, time.monotonic() + START_TIMEOUT_S)
        yield RedisServers(servers, commands, [port for port, _ in addresses])


def server_options(home: Path, port: int, bus_port: int, node_timeout_ms: int) -> list[str]:
    """Return the command line of one server; its files live in a directory of its own below `home`."""
    directory = home / str(port)
    directory.mkdir()
    options = {
        "port": port,
        "bind": LOOPBACK,
        "dir": directory,
        "save": "",
        "appendonly": "no",
        "cluster-enabled": "yes",
        "cluster-port": bus_port,
        "cluster-node-timeout": node_timeout_ms,
        "repl-diskless-sync-delay": 0,
        "logfile": directory / "log",
    }
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def form_cluster(nodes: Sequence[Any], addresses: Sequence[tuple[int, int]], masters: int, deadline: float) -> None:
    """Give out the slots, introduce the nodes to each other, attach replicas, wait until all agree."""
    wait_until(lambda: all(answers(node) for node in nodes), "every server answers", deadline)
    for index, node in enumerate(nodes):
        node.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
    for index, node in enumerate(nodes[:masters]):
        first, beyond = index * SLOTS // masters, (index + 1) * SLOTS // masters
        node.execute_command("CLUSTER ADDSLOTSRANGE", first, beyond - 1)
    for port, bus_port in addresses[1:]:
        nodes[0].execute_command("CLUSTER MEET", LOOPBACK, port, bus_port)
    wait_until(lambda: all(knows(node, len(nodes)) for node in nodes), "all nodes have met", deadline)
    ids = [node.execute_command("CLUSTER MYID") for node in nodes]
    replicas = nodes[masters:]
    for index, node in enumerate(replicas):
        node.execute_command("CLUSTER REPLICATE", ids[index % masters])
    wait_until(lambda: all(is_ok(node) for node in nodes), "cluster_state:ok everywhere", deadline)
    wait_until(lambda: all(is_synchronized(node) for node in replicas), "replicas are in step", deadline)


def wait_until(condition: Callable[[], bool], what: str, deadline: float) -> None:
    """Poll until the condition holds.

    Raises:
        RuntimeError: it did not hold by the deadline.
    """
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no Redis Cluster after {START_TIMEOUT_S:.0f} s: still waiting until {what}")
        time.sleep(0.02)


def answers(node: Any) -> bool:
    """Tell whether the server is up."""
    try:
        return bool(node.ping())
    except redis.ConnectionError:
        return False


def cluster_info(node: Any) -> dict[str, str]:
    """Return the fields of CLUSTER INFO."""
    return dict(node.execute_command("CLUSTER INFO"))


def knows(node: Any, count: int) -> bool:
    """Tell whether the node knows `count` nodes by their real names."""
    lines = node.execute_command("CLUSTER NODES")
    return len(lines) == count and not any("handshake" in str(line) for line in lines.items())


def is_ok(node: Any) -> bool:
    """Tell whether the node sees every slot served."""
    info = cluster_info(node)
    return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS


def is_synchronized(node: Any) -> bool:
    """Tell whether a replica has its master's data."""
    return bool(node.info("replication").get("master_link_status") == "up")
