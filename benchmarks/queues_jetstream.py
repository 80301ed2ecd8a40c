"""NATS JetStream: a stream with three replicas in memory on three servers, used as a work queue through nats-py.

A publish is answered when most servers have the message. The pull consumer acknowledges explicitly, and the stream
forgets what is acknowledged (work queue retention). An acknowledgement comes in two kinds: `ack_sync`, which the
server answers, and `ack`, which is only sent. The first is nearer to what gimmal promises, and is what the targets
are about; the second is a system of its own here, `jetstream-sent`, in the rows that acknowledge. nats-server 2.9
answers an `ack_sync` when the consumer's leader has noted it, before the other servers have.

nats-py has only an asyncio client. It is connected to the server that leads the stream. Batches are published as 100
publishes under way at once, and so are batches of acknowledgements; batches are fetched by one request.
"""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.js import api

from benchmarks.processes import LOOPBACK, free_ports, start_child, stop_children
from benchmarks.queues_clients import NotStartedError, ProgramMissingError, QueueClient, end_all, listens, wait_for

SERVERS = 3
START_TIMEOUT_S = 30.0
POLL_S = 0.2
REQUEST_TIMEOUT_S = 10.0
DURABLE = "workers"
MEMORY = api.StorageType.MEMORY
IDLE_CLIENTS = 10
IDLE_FETCH_S = 30.0
WAITING_MAX = 20_000
MISSING = "nats-server is not installed; on Debian and Ubuntu: sudo apt-get install nats-server (2.9 or newer)"


class JetStream:
    """The running servers, and how a client acknowledges: whether it waits for an answer."""

    def __init__(
        self, servers: Sequence[subprocess.Popen[bytes]], ports: Sequence[int], *, is_ack_answered: bool
    ) -> None:
        self.name = "jetstream" if is_ack_answered else "jetstream-sent"
        self.note = "" if is_ack_answered else "jetstream-sent: acknowledgements are sent, and not answered."
        self.node_pids = [server.pid for server in servers]
        self._ports = ports
        self._is_ack_answered = is_ack_answered

    async def connect(self, queue: str, *, batch: int, is_serial: bool) -> QueueClient:
        """Connect a client to the stream's leader; create stream and consumer if need be."""
        leader = await self._create(queue)
        connection: Any = await connect_to(self._ports[leader])
        stream: Any = connection.jetstream(timeout=REQUEST_TIMEOUT_S)
        pull = await stream.pull_subscribe_bind(durable=DURABLE, stream=queue)
        return client_of(stream, pull, queue, connection.close, acks_of(is_ack_answered=self._is_ack_answered))

    async def _create(self, queue: str) -> int:
        """Create the stream and its consumer if they are not there; return which server leads the stream."""
        connection: Any = await connect_to(self._ports[0])
        try:
            stream = connection.jetstream(timeout=REQUEST_TIMEOUT_S)
            await stream.add_stream(
                name=queue,
                subjects=[queue],
                num_replicas=SERVERS,
                storage=MEMORY,
                retention=api.RetentionPolicy.WORK_QUEUE,
            )
            await stream.add_consumer(
                queue,
                durable_name=DURABLE,
                ack_policy=api.AckPolicy.EXPLICIT,
                max_waiting=WAITING_MAX,
            )
            ask = partial(stream.stream_info, queue)
            info = await ask_until(ask, lambda found: bool(found.cluster.leader), f"{queue} has a leader")
            return int(info.cluster.leader)
        finally:
            await connection.close()

    @asynccontextmanager
    async def idle(self, queue: str, count: int) -> AsyncIterator[int]:
        """Let fetches of one message wait, shared out to some connections; each is asked for again when it expires."""
        await self._create(queue)
        async with AsyncExitStack() as stack:
            for place in range(IDLE_CLIENTS):
                connection: Any = await connect_to(self._ports[place % SERVERS])
                stack.push_async_callback(connection.close)
                stream = connection.jetstream(timeout=REQUEST_TIMEOUT_S)
                pull = await stream.pull_subscribe_bind(durable=DURABLE, stream=queue)
                waiting = [asyncio.create_task(keep_fetching(pull)) for _ in range(count // IDLE_CLIENTS)]
                stack.push_async_callback(end_all, waiting)
            ask = partial(stream.consumer_info, queue, DURABLE)
            info = await ask_until(ask, lambda found: found.num_waiting >= count, f"{count} fetches wait at JetStream")
            yield self.node_pids[int(info.cluster.leader)]


async def connect_to(port: int) -> Any:
    """Connect to one server, for as long as it lives."""
    return await nats.connect(f"nats://{LOOPBACK}:{port}", allow_reconnect=False)


async def ask_until(ask: Callable[[], Awaitable[Any]], is_right: Callable[[Any], bool], what: str) -> Any:
    """Return the first answer that is right.

    Raises:
        NotStartedError: there was none in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_right(info := await ask()):
        if time.monotonic() > deadline:
            raise NotStartedError(f"after {START_TIMEOUT_S:.0f} s still waiting until {what}")
        await asyncio.sleep(POLL_S)
    return info


async def keep_fetching(pull: Any) -> None:
    """Wait for messages that never come."""
    while True:
        try:
            await pull.fetch(1, timeout=IDLE_FETCH_S)
        except TimeoutError:
            continue


Ack = Callable[[Any], Coroutine[Any, Any, object]]
AckMany = Callable[[Sequence[Any]], Awaitable[object]]


def acks_of(*, is_ack_answered: bool) -> tuple[Ack, AckMany]:
    """Return how one message and how many are acknowledged."""
    if is_ack_answered:
        return (
            lambda message: message.ack_sync(REQUEST_TIMEOUT_S),
            lambda messages: asyncio.gather(*[message.ack_sync(REQUEST_TIMEOUT_S) for message in messages]),
        )

    async def send_all(messages: Sequence[Any]) -> None:
        for message in messages:
            await message.ack()

    return lambda message: message.ack(), send_all


def client_of(stream: Any, pull: Any, queue: str, close: Callable[[], Any], acks: tuple[Ack, AckMany]) -> QueueClient:
    """Return the calls of a stream and of its pull consumer."""
    publish, fetch = stream.publish, pull.fetch

    async def consume_many(most: int, wait_s: float) -> Sequence[Any]:
        try:
            messages: Sequence[Any] = await fetch(most, timeout=wait_s)
        except TimeoutError:
            return ()
        return messages

    async def consume(wait_s: float) -> Any:
        try:
            return (await fetch(1, timeout=wait_s))[0]
        except TimeoutError:
            return None

    return QueueClient(
        produce=lambda payload: publish(queue, payload),
        produce_many=lambda payloads: asyncio.gather(*[publish(queue, payload) for payload in payloads]),
        consume=consume,
        consume_many=consume_many,
        payload_of=lambda message: message.data,
        ack=acks[0],
        ack_many=acks[1],
        close=close,
    )


def find_server() -> str | None:
    """Return where nats-server is; Debian puts it where only root's PATH leads."""
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")


def nats_server_version() -> str:
    """Return the version of nats-server, or that there is none."""
    executable = find_server()
    if executable is None:
        return "not installed"
    answer = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True, timeout=10)
    return answer.stdout.split()[-1].removeprefix("v")


@contextmanager
def open_jetstream() -> Iterator[list[JetStream]]:
    """Start a cluster, and give it in its two kinds; stop it at the end whatever happens.

    Raises:
        ProgramMissingError: nats-server is not installed.
        NotStartedError: JetStream was not there in time.
    """
    executable = find_server()
    if executable is None:
        raise ProgramMissingError(MISSING)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-nats-")))
        ports = free_ports(2 * SERVERS)
        clients, routes = ports[:SERVERS], ports[SERVERS:]
        servers: list[subprocess.Popen[bytes]] = []
        stack.callback(stop_children, servers)
        for index in range(SERVERS):
            servers.append(start_child([executable, *server_options(home, index, clients[index], routes)]))
        wait_for(lambda: all(map(listens, clients)), "every nats-server takes clients", START_TIMEOUT_S)
        asyncio.run(wait_until_there(clients))
        yield [JetStream(servers, clients, is_ack_answered=is_answered) for is_answered in (True, False)]


def server_options(home: Path, index: int, port: int, routes: Sequence[int]) -> list[str]:
    """Return the command line of one server, which is named after its place; its files live below `home`."""
    return [
        *("--addr", LOOPBACK, "--port", str(port), "--name", str(index)),
        *("--jetstream", "--store_dir", str(home / str(index)), "--log", str(home / f"log-{index}")),
        *("--cluster_name", "bench", "--cluster", f"nats://{LOOPBACK}:{routes[index]}"),
        *("--routes", ",".join(f"nats://{LOOPBACK}:{route}" for route in routes)),
    ]


async def wait_until_there(ports: Sequence[int]) -> None:
    """Wait until every server answers, and a stream with a replica on each can be made.

    Raises:
        NotStartedError: that took too long.
    """
    loop = asyncio.get_running_loop()
    deadline, why = loop.time() + START_TIMEOUT_S, "no answer"
    while loop.time() < deadline:
        try:
            for port in ports:
                connection: Any = await connect_to(port)
                try:
                    stream = connection.jetstream(timeout=1.0)
                    await stream.add_stream(name="trial", subjects=["trial"], num_replicas=SERVERS, storage=MEMORY)
                finally:
                    await connection.close()
            return
        except (OSError, nats.errors.Error, nats.js.errors.Error) as error:
            why = f"{type(error).__name__}: {error}"
            await asyncio.sleep(POLL_S)
    raise NotStartedError(f"no JetStream on {SERVERS} servers after {START_TIMEOUT_S:.0f} s: {why}")
