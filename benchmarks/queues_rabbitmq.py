"""RabbitMQ: a quorum queue with a copy on each of three nodes, used through aio-pika.

Three nodes on one machine: each with a name, ports and a directory of its own, and all with an `epmd` of their own, so
nothing is shared with a RabbitMQ that may be installed as a service. They find each other by a list in their
configuration. When they do not become one cluster in time, one node alone is measured, and the table says so.

A publish is answered when most nodes have the message (publisher confirms). Quorum queues also write what they hold
to disk, here to a temporary directory. Messages are pushed, as many as a batch has before they are acknowledged. An
acknowledgement has no answer in AMQP: it is sent, and that is all that the client knows. A batch is acknowledged by
one frame that names its last message. The client is connected to the node that leads the queue.
"""

import asyncio
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.processes import LOOPBACK, free_ports, start_child, stop_children
from benchmarks.queues_clients import NotStartedError, ProgramMissingError, QueueClient, listens, wait_for

NODES = 3
START_TIMEOUT_S = 120.0
ASK_TIMEOUT_S = 60.0
SCRIPTS = ("/usr/lib/rabbitmq/bin", *os.environ.get("PATH", "").split(os.pathsep))
"""Where its scripts are looked for. Those of Debian on the PATH become another user; those behind them do not."""
MISSING = "rabbitmq-server is not installed; on Debian and Ubuntu: sudo apt-get install rabbitmq-server (3.10 or newer)"
IDLE_CHANNELS = 10
QUORUM = {"x-queue-type": "quorum", "x-quorum-initial-group-size": NODES, "x-queue-leader-locator": "client-local"}
CONFIGURATION = """\
cluster_formation.peer_discovery_backend = classic_config
{nodes}
cluster_formation.randomized_startup_delay_range.min = 0
cluster_formation.randomized_startup_delay_range.max = 1
cluster_formation.discovery_retry_limit = 60
cluster_formation.discovery_retry_interval = 500
log.file.level = warning
"""


class RabbitNodes:
    """The running nodes."""

    name = "rabbitmq"

    def __init__(self, nodes: Sequence[subprocess.Popen[bytes]], port: int, note: str) -> None:
        self.node_pids = [node.pid for node in nodes]
        self.note = note
        self._port = port

    async def connect(self, queue: str, *, batch: int, is_serial: bool) -> QueueClient:
        """Connect a client to the first node, which leads the queues that are created there."""
        connection = await self._connect()
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=batch)
        declared = await channel.declare_queue(queue, durable=True, arguments=QUORUM)
        return client_of(channel, declared, connection.close)

    async def _connect(self) -> Any:
        return await aio_pika.connect(host=LOOPBACK, port=self._port)

    @asynccontextmanager
    async def idle(self, queue: str, count: int) -> AsyncIterator[int]:
        """Subscribe consumers, shared out to some channels of one connection."""
        async with await self._connect() as connection:
            channels = [await connection.channel() for _ in range(IDLE_CHANNELS)]
            for channel in channels:
                declared = await channel.declare_queue(queue, durable=True, arguments=QUORUM)
                for _ in range(count // IDLE_CHANNELS):
                    await declared.consume(never)
            declared = await channels[0].declare_queue(queue, durable=True, arguments=QUORUM)
            found = declared.declaration_result.consumer_count
            if found != count:
                raise NotStartedError(f"only {found} of {count} consumers wait at RabbitMQ")
            yield self.node_pids[0]


async def never(_: AbstractIncomingMessage) -> None:
    """Take a message that never comes."""


def client_of(channel: Any, queue: Any, close: Any) -> QueueClient:
    """Return the calls of a queue; it pushes messages from the first consume on."""
    pushed: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    publish, name = channel.default_exchange.publish, queue.name
    is_subscribed = False

    async def produce(payload: bytes) -> None:
        message = aio_pika.Message(payload, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await publish(message, routing_key=name)

    async def produce_many(payloads: Sequence[bytes]) -> None:
        await asyncio.gather(*[produce(payload) for payload in payloads])

    async def consume(wait_s: float) -> Any:
        nonlocal is_subscribed
        if not is_subscribed:
            is_subscribed = True
            await queue.consume(pushed.put)
        try:
            return pushed.get_nowait()
        except asyncio.QueueEmpty:
            pass
        try:
            async with asyncio.timeout(wait_s):
                return await pushed.get()
        except TimeoutError:
            return None

    async def consume_many(most: int, wait_s: float) -> Sequence[Any]:
        messages = []
        while len(messages) < most and (message := await consume(wait_s)) is not None:
            messages.append(message)
        return messages

    return QueueClient(
        produce=produce,
        produce_many=produce_many,
        consume=consume,
        consume_many=consume_many,
        payload_of=lambda message: message.body,
        ack=lambda message: message.ack(),
        ack_many=lambda messages: messages[-1].ack(multiple=True),
        close=close,
    )


@dataclass(frozen=True, slots=True)
class Site:
    """Where the nodes live: their scripts, their directory, their names and ports (the first one is epmd's)."""

    scripts: Path
    home: Path
    ports: Sequence[int]
    nodes: int

    def name(self, index: int) -> str:
        """Return the name of a node."""
        return f"bench{self.ports[0]}-{index}@localhost"

    def port(self, index: int) -> int:
        """Return the port at which a node takes clients."""
        return self.ports[1 + index]

    def environment(self, index: int) -> dict[str, object]:
        """Return what a node's scripts are told; none of the machine's own configuration is left."""
        mine = self.home / str(index)
        return {
            "HOME": self.home,  # of the cookie
            "ERL_EPMD_PORT": self.ports[0],
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": self.name(index),
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": self.port(index),
            "RABBITMQ_DIST_PORT": self.ports[1 + NODES + index],
            "RABBITMQ_CONF_ENV_FILE": self.home / "none",
            "RABBITMQ_CONFIG_FILE": self.home / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": self.home / "none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.home / "plugins",
            "RABBITMQ_MNESIA_BASE": mine / "data",
            "RABBITMQ_LOG_BASE": mine / "log",
            "RABBITMQ_GENERATED_CONFIG_DIR": mine / "config",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the server, instead of watching it
        }

    def command(self, index: int, script: str, *arguments: str) -> list[str]:
        """Return the command line of one of its scripts."""
        settings = [f"{name}={value}" for name, value in self.environment(index).items()]
        return ["env", "--unset=NOTIFY_SOCKET", *settings, str(self.scripts / script), *arguments]

    def write(self) -> None:
        """Write the files that the nodes read."""
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        nodes = [
            f"cluster_formation.classic_config.nodes.{index + 1} = {self.name(index)}" for index in range(self.nodes)
        ]
        (self.home / "rabbitmq.conf").write_text(CONFIGURATION.format(nodes="\n".join(nodes)))
        (self.home / "plugins").write_text("[].\n")
        for index in range(self.nodes):
            for part in ("data", "log", "config"):
                (self.home / str(index) / part).mkdir(parents=True)


def find_scripts() -> Path:
    """Return the directory of RabbitMQ's scripts.

    Raises:
        ProgramMissingError: they, or Erlang's epmd, are not there.
    """
    for place in SCRIPTS:
        if os.access(Path(place) / "rabbitmq-server", os.X_OK) and shutil.which("epmd"):
            return Path(place)
    raise ProgramMissingError(MISSING)


def rabbitmq_version() -> str:
    """Return the version of RabbitMQ that Debian has installed, read from the name of its directory."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    return found[-1].name.rpartition("-")[2] if found else "unknown or not installed"


@contextmanager
def open_rabbitmq() -> Iterator[RabbitNodes]:
    """Start three nodes, or one if three do not find each other; stop them at the end whatever happens.

    Raises:
        ProgramMissingError: rabbitmq-server is not installed.
        NotStartedError: not even one node started in time.
    """
    scripts = find_scripts()
    with ExitStack() as stack:
        try:
            nodes, port = stack.enter_context(open_nodes(scripts, NODES))
            note = ""
        except NotStartedError as error:
            nodes, port = stack.enter_context(open_nodes(scripts, 1))
            note = f"rabbitmq: ONE node without copies, because three did not become a cluster ({error})."
        yield RabbitNodes(nodes, port, note)


@contextmanager
def open_nodes(scripts: Path, count: int) -> Iterator[tuple[list[subprocess.Popen[bytes]], int]]:
    """Start so many nodes; give their processes, and the port of the first one."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-rabbitmq-")))
        site = Site(scripts, home, free_ports(1 + 2 * NODES), count)
        site.write()
        children: list[subprocess.Popen[bytes]] = []
        stack.callback(stop_children, children)
        children.append(start_child(["epmd", "-port", str(site.ports[0]), "-address", LOOPBACK]))
        for index in range(count):  # one after another: each finds those before it, and joins them
            log = stack.enter_context((home / str(index) / "output").open("wb"))
            children.append(start_child(site.command(index, "rabbitmq-server"), stdout=log))
            port = site.port(index)
            # It listens when it has done everything else.
            wait_for(partial(listens, port), f"node {index + 1} of RabbitMQ takes clients", START_TIMEOUT_S)
        asked = subprocess.run(
            site.command(0, "rabbitmqctl", "await_online_nodes", str(count), "--timeout", f"{ASK_TIMEOUT_S:.0f}"),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * ASK_TIMEOUT_S,
        )
        if asked.returncode:
            raise NotStartedError(f"{count} nodes of RabbitMQ: {(asked.stderr or asked.stdout).strip()[:500]}")
        yield children[1:], site.port(0)
