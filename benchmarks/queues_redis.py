"""Redis Streams with redis-py: XADD, XREADGROUP and XACK on one server, without copies and without a file.

What is answered is in the memory of one process and nowhere else: with the server everything is lost. XACK is
answered, and leaves the entry in the stream; entries are trimmed between rounds, which is not timed. Settings of the
clients are those that `redis_store` found to be the best; batches are pipelines without a transaction, and a batch
is acknowledged by one XACK.
"""

import asyncio
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from benchmarks.processes import LOOPBACK, free_ports, start_child, stop_children
from benchmarks.queues_clients import ProgramMissingError, QueueClient, answered, wait_for
from benchmarks.redis_cluster import MISSING, answers
from benchmarks.redis_store import IN_FLIGHT_MAX

GROUP, CONSUMER, FIELD = "workers", "worker", "payload"
START_TIMEOUT_S = 30.0
CONNECTIONS_MAX = 12_000


class RedisStreams:
    """A running server."""

    name = "redis"
    note = "redis: one server, no copies, nothing on disk; what is acknowledged stays in the stream until trimmed."

    def __init__(self, server: subprocess.Popen[bytes], port: int) -> None:
        self.node_pids = [server.pid]
        self._port = port

    async def connect(self, queue: str, *, batch: int, is_serial: bool) -> QueueClient:
        """Connect a client, and create the stream and its group."""
        self._create(queue)
        return serial_client(self._port, queue) if is_serial else async_client(self._port, queue)

    def _create(self, queue: str) -> None:
        with redis.Redis(host=LOOPBACK, port=self._port, protocol=2) as client:
            try:
                client.xgroup_create(queue, GROUP, "0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    @asynccontextmanager
    async def idle(self, queue: str, count: int) -> AsyncIterator[int]:
        """Let consumers wait, each on a connection of its own: XREADGROUP with BLOCK occupies it."""
        self._create(queue)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        words = ("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", "1", "BLOCK", "0", "STREAMS", queue, ">")
        command = "".join([f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]).encode()
        with ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(socket.create_connection((LOOPBACK, self._port))).sendall(command)
            client: Any = stack.enter_context(redis.Redis(host=LOOPBACK, port=self._port, protocol=2))
            wait_for(lambda: client.info("clients")["blocked_clients"] == count, "all consumers wait", START_TIMEOUT_S)
            yield self.node_pids[0]


def serial_client(port: int, queue: str) -> QueueClient:
    """Connect a blocking client."""
    client: Any = redis.Redis(host=LOOPBACK, port=port, protocol=2, socket_timeout=None)

    def produce_many(payloads: Sequence[bytes]) -> None:
        pipeline = client.pipeline(transaction=False)
        for payload in payloads:
            pipeline.xadd(queue, {FIELD: payload})
        pipeline.execute()

    def consume_many(most: int, wait_s: float) -> Sequence[Any]:
        return entries_of(client.xreadgroup(GROUP, CONSUMER, {queue: ">"}, count=most, block=int(wait_s * 1000)))

    def consume(wait_s: float) -> Any:
        return next(iter(consume_many(1, wait_s)), None)

    return QueueClient(
        produce=answered(lambda payload: client.xadd(queue, {FIELD: payload})),
        produce_many=answered(produce_many),
        consume=answered(consume),
        consume_many=answered(consume_many),
        payload_of=payload_of,
        ack=answered(lambda entry: client.xack(queue, GROUP, entry[0])),
        ack_many=answered(lambda entries: client.xack(queue, GROUP, *(entry[0] for entry in entries))),
        close=answered(client.close),
        tidy=answered(lambda: client.xtrim(queue, maxlen=0, approximate=False)),
    )


def async_client(port: int, queue: str) -> QueueClient:
    """Connect an asyncio client; a consumer that waits has a connection of its own."""
    client: Any = redis.asyncio.Redis(host=LOOPBACK, port=port, protocol=2, socket_timeout=None)
    gate = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def produce(payload: bytes) -> None:
        async with gate:
            await client.xadd(queue, {FIELD: payload})

    async def produce_many(payloads: Sequence[bytes]) -> None:
        pipeline = client.pipeline(transaction=False)
        for payload in payloads:
            pipeline.xadd(queue, {FIELD: payload})
        await pipeline.execute()

    async def consume_many(most: int, wait_s: float) -> Sequence[Any]:
        block = int(wait_s * 1000)
        return entries_of(await client.xreadgroup(GROUP, CONSUMER, {queue: ">"}, count=most, block=block))

    async def consume(wait_s: float) -> Any:
        return next(iter(await consume_many(1, wait_s)), None)

    async def ack(entry: Any) -> None:
        async with gate:
            await client.xack(queue, GROUP, entry[0])

    return QueueClient(
        produce=produce,
        produce_many=produce_many,
        consume=consume,
        consume_many=consume_many,
        payload_of=payload_of,
        ack=ack,
        ack_many=lambda entries: client.xack(queue, GROUP, *(entry[0] for entry in entries)),
        close=client.aclose,
        tidy=lambda: client.xtrim(queue, maxlen=0, approximate=False),
    )


def entries_of(answer: Any) -> Sequence[Any]:
    """Return the entries of one stream, none if there is no answer."""
    entries: Sequence[Any] = answer[0][1] if answer else ()
    return entries


def payload_of(entry: Any) -> bytes:
    """Return what was produced."""
    payload: bytes = entry[1][FIELD.encode()]
    return payload


@contextmanager
def open_redis_streams() -> Iterator[RedisStreams]:
    """Start a server; stop it at the end whatever happens.

    Raises:
        ProgramMissingError: redis-server is not installed.
        NotStartedError: it did not start in time.
    """
    executable = shutil.which("redis-server")
    if executable is None:
        raise ProgramMissingError(MISSING)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-redis-")))
        (port,) = free_ports(1)
        options = {
            "port": port,
            "bind": LOOPBACK,
            "dir": home,
            "save": "",
            "appendonly": "no",
            "maxclients": CONNECTIONS_MAX,
            "logfile": home / "log",
        }
        children: list[subprocess.Popen[bytes]] = []
        stack.callback(stop_children, children)
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        children.append(start_child([executable, *flags]))
        client = stack.enter_context(redis.Redis(host=LOOPBACK, port=port))
        wait_for(lambda: answers(client), "redis-server answers", START_TIMEOUT_S)
        yield RedisStreams(children[0], port)
