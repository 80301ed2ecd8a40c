"""gimmal itself: a LocalCluster of real node processes with some copies of every partition, and its clients."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from benchmarks.stores import AsyncStore, Roles, SyncStore
from gimmal.hashing import key_slot, partition_of

NODES = 3


class GimmalCluster:
    """A running cluster, and how to connect to it."""

    name = "gimmal"

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    @property
    def node_pids(self) -> list[int]:
        """Return the process ids of the nodes."""
        return list(self._cluster.pids.values())

    def roles_of(self, key: str) -> Roles:
        """Return who serves a key now."""
        with self._cluster.connect() as client:
            rows = client.cluster().partitions
        row, pids = rows[partition_of(key_slot(key.encode()), len(rows))], self._cluster.pids
        return Roles(pids[row.leader], [pids[name] for name in row.replicas if name != row.leader])

    def connect(self) -> SyncStore:
        """Connect a blocking client; `get_many` is put into the order of its keys."""
        client = self._cluster.connect()

        def get_many(keys: Sequence[str]) -> list[bytes | None]:
            found: Mapping[str, bytes] = client.get_many(keys)
            return [found.get(key) for key in keys]

        return SyncStore(client.get, client.set, client.set, get_many, client.set_many, client.close)

    async def connect_async(self) -> AsyncStore:
        """Connect an asyncio client."""
        client = await self._cluster.connect_async()
        return AsyncStore(client.get, client.set, client.close)


@contextmanager
def open_gimmal(copies: int = 1) -> Iterator[GimmalCluster]:
    """Start the nodes, and stop them at the end whatever happens."""
    testing: Any = import_module("gimmal.testing")
    with testing.LocalCluster(nodes=NODES, replicas=copies) as cluster:
        yield GimmalCluster(cluster)
