"""A node among enemies: it serves its clients, does not grow, and counts every frame that is wrong."""

import os
import random
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest
import zmq

import gimmal
from gimmal.client.inquiry import ask_status
from gimmal.errors import RemoteProtocolError
from gimmal.testing import LocalCluster
from gimmal.wire import commands
from gimmal.wire.codec import decode, encode, pack_value
from gimmal.wire.limits import MESSAGE_BYTES_MAX, UNREAD_REPLY_BYTES_MAX
from gimmal.wire.messages import FetchStatus, FetchTable, Message, Problem, Reply, Request, Status, TableRows
from tests.cluster.waiting import wait_until

FRAMES = 100_000
ROUNDS = 8
MB: Final = 1024 * 1024
LONG_S = 60.0
LONG_MS = 60_000
ADDRESSED_TO_NODES = (Request, FetchTable, FetchStatus)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """One node of this test's own: what it counts, logs and holds comes from this test alone."""
    with LocalCluster(nodes=1, partitions=16) as one:
        yield one


@contextmanager
def normal_use(cluster: LocalCluster) -> Iterator[None]:
    """Somebody who counts, before, during and after, and must get every answer."""
    is_over = threading.Event()
    counts = [0]

    def use() -> None:
        with cluster.connect(timeout=LONG_S) as db:
            while not is_over.is_set():
                counts.append(counts[-1] + 1)
                assert db.incr("normal") == counts[-1]
                assert db.get_many(["normal", "absent"]) == {"normal": counts[-1]}

    def is_served() -> bool:
        return using.done() or len(counts) > seen + 10

    with ThreadPoolExecutor(1) as pool:
        using: Future[None] = pool.submit(use)
        try:
            seen = 0
            wait_until(is_served, "normal use has begun")
            yield
            seen = len(counts)
            wait_until(is_served, "normal use goes on")
        finally:
            is_over.set()
        using.result()


def protocol_errors(cluster: LocalCluster) -> int:
    return int(ask_status(cluster.addresses["n1"], LONG_S)["protocol_errors"])


def memory_bytes(cluster: LocalCluster, what: str = "VmRSS") -> int:
    status = Path(f"/proc/{cluster.pids['n1']}/status").read_text(encoding="utf-8")
    (kilobytes,) = re.findall(rf"{what}:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


class Enemy:
    """A DEALER that sends whatever it likes, and reads what comes back unless told otherwise."""

    def __init__(self, cluster: LocalCluster, receives_at_most: int = 1_000) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, receives_at_most)
        self._socket.connect(f"tcp://{cluster.addresses['n1']}")
        self.problems = 0
        self._last_number = 2**40

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def read(self) -> bytes | None:
        return self._socket.recv() if self._socket.poll(0) else None

    def read_all(self) -> None:
        while (frame := self.read()) is not None:
            self.problems += isinstance(decode(frame), Problem)

    def finish(self) -> None:
        """Return when the node has dealt with all that was sent: it answers an operation that came last."""
        self._last_number += 1
        question = Request(b"", 0, 0, 0, 0, 0, ((self._last_number, 0, 0, 0, 0, (commands.EXISTS, b"x")),))
        wait_until(lambda: self._is_answered(question), "the node has answered the last question")

    def _is_answered(self, question: Request) -> bool:
        self.read_all()
        self.send(encode(question))  # again and again: the answer is dropped if too much lies before it
        while self._socket.poll(500):
            message = decode(self._socket.recv())
            self.problems += isinstance(message, Problem)
            if isinstance(message, Reply):
                numbers = (*message.numbers, *(number for number, _, _ in message.refusals))
                if self._last_number in numbers:
                    return True
        return False

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def enemy(cluster: LocalCluster) -> Iterator[Enemy]:
    one = Enemy(cluster)
    yield one
    one.close()


# -- what is sent -------------------------------------------------------------------------------------------


def valid_messages(cluster_id: bytes) -> list[Message]:
    header = (cluster_id, 0, 0, 1)
    key, one = b"hostile", pack_value(1)
    wanted: list[Any] = [
        (commands.GET, key),
        (commands.GET_MANY, (key, b"{hostile}other")),
        (commands.EXISTS, key),
        (commands.TTL, key),
        (commands.SCAN, b"", 0, 0),
        (commands.SET, key, one, 5_000, 0, None),
        (commands.SET, key, one, 0, commands.NX, 7),
        (commands.SET_MANY, (key, one), 0),
        (commands.DELETE, key),
        (commands.DELETE_MANY, (key,)),
        (commands.SET_TTL, key, 1_000),
        (commands.PERSIST, key),
        (commands.INCR, key, 2**63 - 1),
    ]
    operations = [(number, number % 16, number % 2, 0, 0, command) for number, command in enumerate(wanted, 1)]
    requests: list[Message] = [Request(*header, 0, 5_000, (operation,)) for operation in operations]
    return [
        *requests,
        Request(*header, 2**48, 60_000, tuple(operations)),
        Request(*header, 0, 0, ()),
        Request(bytes(16), 0, 99, 7, 0, 0, tuple(operations[:2])),
        FetchTable(*header),
        FetchTable(b"", 0, 0, 0),
        FetchStatus(*header),
        Reply(*header, 1, (1, 2), (None, b"x"), ((3, 1, "moved"),)),
        TableRows(*header, (cluster_id, 1, (), ())),
        Status(*header, (("name", "n1"),)),
        Problem(*header, 1, "no"),
    ]


NUMBERS = [True, -1, 0, 1, 16, 2**31, 2**63 - 1, 2**64 - 1, 1.5]
ATOMS: list[Any] = [*NUMBERS, None, "", "x" * 300, b"", b"x" * 1_100, (), {}]


def mutated(dice: random.Random, tree: Any) -> Any:
    """A tree with something else somewhere in it."""
    if type(tree) is not tuple or not tree or dice.random() < 0.15:
        return dice.choice([*ATOMS, (tree,), (tree, tree), [tree] * 50])
    parts = list(tree)
    where = dice.randrange(len(parts))
    if dice.random() < 0.15:
        parts.insert(where, dice.choice(ATOMS))
    elif dice.random() < 0.15:
        del parts[where]
    else:
        parts[where] = mutated(dice, parts[where])
    return tuple(parts)


def hostile_frames(dice: random.Random, valid: list[bytes]) -> tuple[bytes, ...]:
    """One message: usually of one frame, somewhere between nonsense and almost right."""
    frame = dice.choice(valid)
    kind = dice.random()
    if kind < 0.35:
        tree = msgpack.unpackb(frame[2:], use_list=False)
        return (frame[:2] + msgpack.packb(mutated(dice, tree)),)
    if kind < 0.6:  # some bytes changed, cut off, or added
        data = bytearray(frame)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        kept = dice.choice((len(data), dice.randrange(len(data))))
        return (bytes(data[:kept]) + dice.randbytes(dice.choice((0, 0, 3))),)
    if kind < 0.75:
        return (bytes((1, dice.randrange(9))) + dice.randbytes(dice.randrange(60)),)
    if kind < 0.85:
        return (dice.randbytes(dice.randrange(80)),)
    if kind < 0.9:
        return (b"",)
    if kind < 0.95:  # several frames
        return tuple(dice.choice((frame, b"", b"x")) for _ in range(dice.randint(2, 6)))
    return (frame,)


def is_wrong(frames: tuple[bytes, ...], cluster_id: bytes) -> bool:
    """Say whether a node has to count this message as an error."""
    if len(frames) > 1:
        return True
    try:
        message = decode(frames[0])
    except RemoteProtocolError:
        return True
    return message.cluster not in (b"", cluster_id) or not isinstance(message, ADDRESSED_TO_NODES)


# -- the tests ----------------------------------------------------------------------------------------------


def test_100_000_hostile_messages(cluster: LocalCluster, enemy: Enemy) -> None:
    seed = secrets.randbits(32)
    dice = random.Random(seed)
    print(f"seed {seed}")
    with cluster.connect() as db:
        cluster_id = bytes.fromhex(db.cluster().id)
    valid = [encode(message) for message in valid_messages(cluster_id)]
    with normal_use(cluster):
        for frame in valid:  # what a node needs once, it has now
            enemy.send(frame)
        enemy.finish()
        before, memory_before = protocol_errors(cluster), memory_bytes(cluster)
        wrong = right = 0
        for number in range(FRAMES):
            message = hostile_frames(dice, valid)
            if is_wrong(message, cluster_id):
                wrong += 1
            else:
                right += 1
            enemy.send(*message)
            if number % 100 == 0:
                enemy.read_all()
            if number % 5_000 == 0:
                enemy.finish()  # this is about what a node keeps of them, not about what a slow one has yet to read
        enemy.finish()
        assert protocol_errors(cluster) - before == wrong, f"seed {seed}"
        assert memory_bytes(cluster) - memory_before < 20 * MB, f"seed {seed}"
    assert wrong > FRAMES / 2
    assert right > FRAMES / 50
    assert enemy.problems > wrong / 2  # some may have been dropped: this enemy reads only now and then
    minutes = int(ask_status(cluster.addresses["n1"], 5.0)["uptime_s"]) // 60
    assert 1 <= cluster.logs("n1").count("sent a bad message") <= 1 + minutes
    assert set(cluster.pids) == {"n1"}


def test_many_peers_get_a_line_each_in_the_log(cluster: LocalCluster) -> None:
    enemies = [Enemy(cluster) for _ in range(5)]
    for _ in range(20):
        for enemy in enemies:
            enemy.send(b"nonsense")
    for enemy in enemies:
        enemy.finish()
        enemy.close()
    assert protocol_errors(cluster) == 100
    assert cluster.logs("n1").count("sent a bad message") == 5


def test_huge_messages_of_empty_containers(cluster: LocalCluster, enemy: Enemy) -> None:
    bombs = [
        b"\x01\x01" + b"\xdd\x00\xff\xff\xf0" + b"\x90" * (MESSAGE_BYTES_MAX - 7),
        b"\x01\x01" + b"\x91" * (MESSAGE_BYTES_MAX - 2),
        b"\x01\x04" + b"\x94\xc4\x00\x00\x00" + b"\xdd\xff\xff\xff\xff" * 1_000_000,
        b"\x01\x02" + b"\xc0" * (MESSAGE_BYTES_MAX - 2),
        b"\x01\x01" + b"\x80" * (250 * 1024),  # as long as what is decoded without being counted first
        b"\x01\x01" + b"\x98" + b"\x90" * (255 * 1024),
    ]
    for bomb in bombs:
        assert is_wrong((bomb,), b"")
    with normal_use(cluster):
        before = memory_bytes(cluster)
        for _ in range(ROUNDS):
            for bomb in bombs:
                enemy.send(bomb)
            enemy.finish()
        # What stays are buffers of a few messages, however many there were; nor was it much more for a moment.
        assert memory_bytes(cluster) - before < 8 * MESSAGE_BYTES_MAX
        assert memory_bytes(cluster, "VmHWM") - before < 20 * MESSAGE_BYTES_MAX
    assert protocol_errors(cluster) == ROUNDS * len(bombs)


def test_what_is_longer_than_a_message_may_be_is_not_even_read(cluster: LocalCluster) -> None:
    with normal_use(cluster):
        before = memory_bytes(cluster)
        for size in (MESSAGE_BYTES_MAX + 1, 2 * MESSAGE_BYTES_MAX, 4 * MESSAGE_BYTES_MAX):
            enemy = Enemy(cluster)
            watcher = enemy._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            enemy.send(bytes(size))
            assert watcher.poll(LONG_MS), "the node did not hang up"
            enemy._socket.disable_monitor()
            watcher.close()
            enemy.close()
        assert memory_bytes(cluster) - before < 20 * MB
    assert protocol_errors(cluster) == 0


def test_garbage_on_the_port(cluster: LocalCluster) -> None:
    dice = random.Random(7)
    host, _, port = cluster.addresses["n1"].rpartition(":")
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    with normal_use(cluster):
        before = memory_bytes(cluster)
        with ExitStack() as connections:
            for i in range(200):
                connection = connections.enter_context(socket.create_connection((host, int(port)), timeout=LONG_S))
                garbage = (
                    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                    os.urandom(dice.randrange(1, 5_000)),
                    greeting + os.urandom(200),
                    greeting + b"\x04\x26\x05READY" + os.urandom(31),
                    greeting + b"\x02" + b"\x7f" * 8,  # a frame of 2^63 bytes is announced
                    b"",
                )[i % 6]
                with suppress(ConnectionError):  # it may have hung up already, and rightly
                    connection.sendall(garbage)
                if i % 2:
                    connection.close()
        assert ask_status(cluster.addresses["n1"], LONG_S)["state"] == "serving"
        assert memory_bytes(cluster) - before < 20 * MB
    # What looks like the first version of ZeroMQ's protocol comes as messages, which are counted and logged.
    assert cluster.logs("n1").count("sent a bad message") <= 200


def test_a_client_that_asks_for_much_and_never_reads(cluster: LocalCluster) -> None:
    enemy = Enemy(cluster, receives_at_most=1)  # else ZeroMQ would read for it
    with cluster.connect(timeout=LONG_S) as db:
        db.set("large", bytes(8 * MB - 5))
        cluster_id = bytes.fromhex(db.cluster().id)
        ((partition, command),) = db._commands.get("large", None, "linearizable").parts
    with normal_use(cluster):
        before = memory_bytes(cluster)
        for number in range(0, 2_000, 10):  # 16 GB, if it got all of it
            operations = tuple((number + i, partition, 0, 0, 0, command) for i in range(1, 11))
            enemy.send(encode(Request(cluster_id, 0, 0, 1, 0, 5_000, operations)))
        wait_until(lambda: operations_of(cluster) > 2_000, "all was asked for")
        # The answers themselves, once in our queue and once in ZeroMQ's while they are sent, and what encoding takes.
        assert memory_bytes(cluster) - before < UNREAD_REPLY_BYTES_MAX + 64 * MB
        assert memory_bytes(cluster, "VmHWM") - before < 2 * UNREAD_REPLY_BYTES_MAX + 64 * MB
        assert memory_bytes(cluster) - before > UNREAD_REPLY_BYTES_MAX / 2  # it is the limit that held, not the enemy
    enemy.close()


def operations_of(cluster: LocalCluster) -> int:
    return int(ask_status(cluster.addresses["n1"], LONG_S)["operations"])


def test_a_client_that_reads_gets_all_it_asked_for(cluster: LocalCluster) -> None:
    value = os.urandom(2 * MB)
    with gimmal.connect(cluster.seeds, timeout=LONG_S) as db:
        keys = [f"{{one}}{i}" for i in range(60)]
        for key in keys:
            db.set(key, value)
        with ThreadPoolExecutor(60) as pool:
            assert all(found == value for found in pool.map(db.get, keys))
        assert protocol_errors(cluster) == 0
