"""The two clusters whose nodes die: gimmal with three copies, and a Redis Cluster with a replica of each master.

Redis: 3 masters and 3 replicas, cluster-node-timeout 2 s, everything else as it is by default, so also that all of the
cluster refuses while the slots of one master are not served. Its client is one RedisCluster of redis-py for all
threads. By default redis-py waits up to 10 s between its attempts, which would measure redis-py: here it waits up to
250 ms, three times. Both clients give up an attempt after half a second without an answer.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final, Protocol

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from benchmarks.processes import LOOPBACK
from benchmarks.redis_cluster import RedisServers, answers, cluster_info, open_redis_cluster
from gimmal.client.inquiry import ask_status
from gimmal.client.overview import PartitionInfo
from gimmal.errors import GimmalError
from gimmal.hashing import key_slot, partition_of
from gimmal.testing import LocalCluster

NODES: Final = 3
COPIES: Final = 3
ATTEMPT_S: Final = 0.5
WHOLE_TIMEOUT_S: Final = 40.0
REDIS_NODE_TIMEOUT_MS: Final = 2000
PARTITIONS_TOLD_MAX: Final = 8
_POLL_S: Final = 0.05


class Fault(StrEnum):
    """What happens to a node."""

    KILL = "kill -9"
    PAUSE = "SIGSTOP"
    ISOLATE = "isolation"


class NotWholeError(RuntimeError):
    """A cluster has not come back to all its nodes and copies in time."""


class Subject(Protocol):
    """A running cluster, with one client for all writers."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """Return what a write that failed may raise."""

    def put(self, key: str, value: str) -> object:
        """Write once."""

    def read(self, keys: Sequence[str]) -> list[str | None]:
        """Return the values of keys, in their order."""

    def owners(self, keys: Sequence[str]) -> list[str]:
        """Return the node that leads each key."""

    def deciders(self) -> set[str]:
        """Return the node that leads the meta group, if there is such a thing."""

    def harm(self, fault: Fault, node: str) -> None:
        """Let a node meet a fault."""

    def repair(self, fault: Fault, node: str) -> None:
        """End the fault; `wait_whole` waits for what follows."""

    def wait_whole(self) -> None:
        """Return when all nodes and all copies are there again.

        Raises:
            NotWholeError: they have not come within 40 s.
        """


def wait_for(why_not: Callable[[], str]) -> None:
    """Poll until there is no reason any more why a cluster is not whole.

    Raises:
        NotWholeError: there still is one.
    """
    give_up_at = time.monotonic() + WHOLE_TIMEOUT_S
    while reason := why_not():
        if time.monotonic() > give_up_at:
            raise NotWholeError(f"not whole after {WHOLE_TIMEOUT_S:.0f} s: {reason}")
        time.sleep(_POLL_S)


def why_not_in_sync(rows: Sequence[PartitionInfo]) -> str:
    """Return which copies are not in sync, with the numbers of a few partitions, and how many have no leader."""
    behind: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        for name in row.replicas:
            if name not in row.in_sync:
                behind.setdefault(name, []).append(number)
    told = [
        f"on {name} {len(numbers)} copies are not in sync (partitions {str(numbers[:PARTITIONS_TOLD_MAX])[1:-1]} ...)"
        for name, numbers in behind.items()
    ]
    leaderless = sum(row.leader is None for row in rows)
    return "; ".join([*told, *([f"nobody leads {leaderless} partitions"] if leaderless else [])])


class GimmalSubject:
    """gimmal: a LocalCluster and one client."""

    failures: tuple[type[Exception], ...] = (GimmalError,)

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._client = cluster.connect()

    def put(self, key: str, value: str) -> object:
        """Write once."""
        return self._client.set(key, value, timeout=ATTEMPT_S)

    def read(self, keys: Sequence[str]) -> list[str | None]:
        """Return the values of keys."""
        with self._cluster.connect(timeout=10.0) as client:
            found = client.get_many(keys)
        return [found.get(key) for key in keys]

    def owners(self, keys: Sequence[str]) -> list[str]:
        """Return the node that leads each key."""
        with self._cluster.connect() as client:
            rows = client.cluster().partitions
        return [str(rows[partition_of(key_slot(key.encode()), len(rows))].leader) for key in keys]

    def deciders(self) -> set[str]:
        """Return the node that leads the meta group."""
        return {
            name
            for name, address in self._cluster.addresses.items()
            if ask_status(address, WHOLE_TIMEOUT_S)["meta_role"] == "leader"
        }

    def harm(self, fault: Fault, node: str) -> None:
        """Let a node meet a fault."""
        {Fault.KILL: self._cluster.kill, Fault.PAUSE: self._cluster.pause, Fault.ISOLATE: self._cluster.isolate}[fault](
            node
        )

    def repair(self, fault: Fault, node: str) -> None:
        """End the fault."""
        if fault is Fault.KILL:
            self._cluster.start(node)
        elif fault is Fault.PAUSE:
            self._cluster.resume(node)
        else:
            self._cluster.heal()

    def wait_whole(self) -> None:
        """Return when all nodes serve, and all copies are in sync."""
        try:
            self._cluster.wait_healthy(WHOLE_TIMEOUT_S)
        except GimmalError as error:
            raise NotWholeError(str(error)) from error
        wait_for(self._why_not_whole)

    def _why_not_whole(self) -> str:
        try:
            with self._cluster.connect() as client:
                rows = client.cluster().partitions
        except GimmalError as error:
            return str(error)
        return why_not_in_sync(rows)

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class RedisSubject:
    """A Redis Cluster; a node is named by its port."""

    failures: tuple[type[Exception], ...] = (redis.RedisError,)

    def __init__(self, servers: RedisServers) -> None:
        self._servers = servers
        self._client: Any = self._connect()
        self._nodes = [redis.Redis(host=LOOPBACK, port=port, decode_responses=True) for port in servers.ports]

    def _connect(self) -> Any:
        node_at: Any = ClusterNode  # redis-py does not type its constructor
        return RedisCluster(
            startup_nodes=[node_at(LOOPBACK, port) for port in self._servers.ports],
            protocol=2,
            decode_responses=True,
            socket_timeout=ATTEMPT_S,
            socket_connect_timeout=ATTEMPT_S,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.25), 3),
        )

    def put(self, key: str, value: str) -> object:
        """Write once."""
        return self._client.set(key, value)

    def read(self, keys: Sequence[str]) -> list[str | None]:
        """Return the values of keys."""
        client = self._connect()
        try:
            pipeline = client.pipeline()
            for key in keys:
                pipeline.get(key)
            values: list[str | None] = pipeline.execute()
        finally:
            client.close()
        return values

    def owners(self, keys: Sequence[str]) -> list[str]:
        """Return the master of each key."""
        client = self._connect()
        try:
            return [str(client.get_node_from_key(key).port) for key in keys]
        finally:
            client.close()

    def deciders(self) -> set[str]:
        """Return nobody: the masters vote."""
        return set()

    def harm(self, fault: Fault, node: str) -> None:
        """Let a node meet a fault."""
        if fault is Fault.KILL:
            self._servers.kill(int(node))
        elif fault is Fault.PAUSE:
            os.kill(self._pid_of(node), signal.SIGSTOP)
        else:
            raise NotImplementedError("nothing here can isolate a redis-server")

    def repair(self, fault: Fault, node: str) -> None:
        """End the fault."""
        if fault is Fault.KILL:
            self._servers.start(int(node))
        else:
            os.kill(self._pid_of(node), signal.SIGCONT)

    def _pid_of(self, node: str) -> int:
        return self._servers.node_pids[self._servers.ports.index(int(node))]

    def wait_whole(self) -> None:
        """Return when three masters have a replica each that is in step, and all nodes say so."""
        wait_for(self._why_not_whole)

    def _why_not_whole(self) -> str:
        for node, port in zip(self._nodes, self._servers.ports, strict=True):
            if not answers(node):
                return f"the server at port {port} does not answer"
            if cluster_info(node)["cluster_state"] != "ok":
                return f"the server at port {port} does not call the cluster ok"
        roles = [node.info("replication") for node in self._nodes]
        masters = [each for each in roles if each["role"] == "master"]
        if len(masters) != NODES or any(each["connected_slaves"] != 1 for each in masters):
            return f"masters with so many replicas: {[each['connected_slaves'] for each in masters]}"
        if any(each["role"] == "slave" and each["master_link_status"] != "up" for each in roles):
            return "a replica is not in step"
        return ""

    def close(self) -> None:
        """Close all clients."""
        for client in (self._client, *self._nodes):
            client.close()


@contextmanager
def open_gimmal_subject() -> Iterator[GimmalSubject]:
    """Start gimmal, and stop it at the end whatever happens."""
    with LocalCluster(nodes=NODES, replicas=COPIES) as cluster:
        subject = GimmalSubject(cluster)
        try:
            yield subject
        finally:
            subject.close()


@contextmanager
def open_redis_subject() -> Iterator[RedisSubject]:
    """Start a Redis Cluster, and stop it at the end whatever happens."""
    with open_redis_cluster(NODES, replicas_per_master=1, node_timeout_ms=REDIS_NODE_TIMEOUT_MS) as servers:
        subject = RedisSubject(servers)
        try:
            yield subject
        finally:
            subject.close()
