"""Queues of gimmal: three nodes, each with a copy of the queue, which has one shard and so one leader.

A produce is answered when every copy in sync has the message, in memory, and an ack when every copy in sync knows of
it. A consume is answered when they all know whose the message is now. One caller that waits uses the blocking
client, all others the asyncio client.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from benchmarks.queues_clients import QueueClient, answered, end_all
from gimmal.testing import LocalCluster

NODES = 3
IDLE_CLIENTS = 10
PAST_S = 3600.0


class GimmalQueues:
    """A running cluster."""

    name = "gimmal"
    note = ""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    @property
    def node_pids(self) -> list[int]:
        """Return the process ids of the nodes."""
        return list(self._cluster.pids.values())

    async def connect(self, queue: str, *, batch: int, is_serial: bool) -> QueueClient:
        """Connect a client; queues need not be created."""
        if is_serial:
            client = self._cluster.connect()
            return client_of(client.queue(queue), answered(client.close), answered)
        async_client = await self._cluster.connect_async()
        return client_of(async_client.queue(queue), async_client.close, lambda call: call)

    @asynccontextmanager
    async def idle(self, queue: str, count: int) -> AsyncIterator[int]:
        """Let consumers wait, shared out to some clients."""
        async with AsyncExitStack() as stack:
            everybody: list[asyncio.Task[Any]] = []
            for _ in range(IDLE_CLIENTS):
                client = await self._cluster.connect_async()
                stack.push_async_callback(client.close)
                consume = client.queue(queue).consume
                waiting = [asyncio.create_task(consume(None, PAST_S)) for _ in range(count // IDLE_CLIENTS)]
                stack.push_async_callback(end_all, waiting)
                everybody += waiting
            yield self._cluster.pids[self._cluster.owner_of(f"{{{queue}/0}}")]
            ended = sum(each.done() for each in everybody)
            assert not ended, f"{ended} consumers do not wait any more"


def client_of(queue: Any, close: Callable[[], Any], wrap: Callable[[Any], Any]) -> QueueClient:
    """Return the calls of a queue, each put through `wrap`; both kinds of clients have the same ones."""
    return QueueClient(
        produce=wrap(queue.produce),
        produce_many=wrap(queue.produce_many),
        consume=wrap(lambda wait_s: queue.consume(None, wait_s)),
        consume_many=wrap(lambda most, wait_s: queue.consume_many(most, None, wait_s)),
        payload_of=lambda message: message.payload,
        ack=wrap(queue.ack),
        ack_many=wrap(queue.ack_many),
        close=close,
    )


@contextmanager
def open_gimmal_queues() -> Iterator[GimmalQueues]:
    """Start the nodes, and stop them at the end whatever happens."""
    with LocalCluster(nodes=NODES, replicas=NODES) as cluster:
        yield GimmalQueues(cluster)
