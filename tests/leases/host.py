"""One process of the small world: a whole node core, the sockets in front of it, and the clock that it reads.

The core is the product's, and so is the order of a turn: `gimmal.node.clocks.drained` takes what lies in a socket and
reads the clock. What the kernel would do is here: messages lie in a socket's buffer while the process hangs.
"""

import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.group import genesis
from gimmal.cluster.raft import EMPTY, Configuration, Identity, Stored, rewritten
from gimmal.node import clocks
from gimmal.node.core import NodeCore
from gimmal.types import Instant
from gimmal.wire.messages import Message
from gimmal.wire.peer_messages import PeerMessage
from tests.leases.plan import NAMES
from tests.sim.clocks import HostClock
from tests.unit.meta_states import CLUSTER, registration
from tests.unit.test_control_plane import settings

_START_MS: Final = 1_700_000_000_000
_FOUNDERS: Final = tuple(registration(name) for name in NAMES)
_VOTERS: Final = tuple(founder.voter for founder in _FOUNDERS[:3])
_HOLDERS: Final = ((0, 1, 2), (1, 2, 0), (3, 0, 2), (3, 2, 1))
PARTITIONS: Final = len(_HOLDERS)

_FOUNDING: Final = (commands.FOUND, CLUSTER, 3, commands.REFUSE, tuple(map(tuple, _FOUNDERS)), _HOLDERS)


class Socket:
    """What has arrived and was not read. `on_read` is called at the beginning of a read, in which time may pass."""

    def __init__(self, *, is_of_clients: bool) -> None:
        self.is_of_clients = is_of_clients
        self.waiting: list[Any] = []
        self.on_read: Callable[[], None] = lambda: None

    def receive(self) -> tuple[list[Any], bool]:
        """Take everything, as the product's sockets do."""
        self.on_read()
        received, self.waiting = self.waiting, []
        return received, False


class Host:
    """A node with its sockets. `slept_s` is for how long its machine was suspended, by its own clock."""

    def __init__(self, name: str, clock: HostClock, seed: int) -> None:
        self.name = name
        self.clock = clock
        self.time = 0.0
        self.slept_s = 0.0
        self.hangs = False
        self.from_nodes, self.from_clients = Socket(is_of_clients=False), Socket(is_of_clients=True)
        origin = genesis(Configuration(_VOTERS, ()), _FOUNDING)
        number = NAMES.index(name)
        stored = Stored(1, None, origin, ()) if number < len(_VOTERS) else Stored(0, None, EMPTY, ())
        journal = rewritten(Identity(CLUSTER, _FOUNDERS[number].voter), stored).data
        changes: dict[str, Any] = {"expect": 0, "partitions": PARTITIONS, "copies": 3, "seeds": ("a:7701", "b:7701")}
        self.core = NodeCore(settings(name, **changes), journal, Random(f"{name} {seed}"), self.read())
        self.sent: list[tuple[str, PeerMessage]] = []
        self.answers: list[tuple[bytes, Message]] = []

    @property
    def address(self) -> str:
        return f"{self.name}:7701"

    def read(self) -> Instant:
        """Read the clocks that the product reads: one of them does not go on while the machine is suspended."""
        seconds = self.clock.seconds(self.time)
        if clocks.CLOCK != time.CLOCK_BOOTTIME:
            seconds -= self.slept_s
        return Instant(seconds, _START_MS + int(self.time * 1000))

    def on_nodes(self) -> None:
        """A turn for what other nodes sent."""
        received, _, now = clocks.drained(self.from_nodes.receive, self.read)
        for message in received:
            self.core.receive_from_node(message, now)
        self.end_turn(now)

    def on_clients(self) -> None:
        """A turn for what clients sent."""
        received, _, now = clocks.drained(self.from_clients.receive, self.read)
        for peer, message in received:
            self.core.receive(peer, message, now)
        self.end_turn(now)

    def on_timer(self) -> None:
        """A turn in which nothing came."""
        self.end_turn(self.read())

    def on_refused(self, address: str) -> None:
        """A turn in which an address seemed to refuse connections."""
        now = self.read()
        self.core.on_refused(address, now)
        self.end_turn(now)

    def end_turn(self, now: Instant) -> None:
        """Do what the shell does at the end of each turn; the disk takes no time."""
        core = self.core
        core.tick(now)
        core.control.membership = None  # gossip decides nothing here, and would be most of what is sent
        while core.unsaved() is not None:
            core.on_saved(now)
        self.answers += core.drain()
        self.sent += core.drain_for_nodes()
        core.complaints()

    def wakes_at(self) -> float:
        """Return the true time at which its timer goes off, if it does not hang."""
        seconds = self.core.next_deadline()
        if clocks.CLOCK != time.CLOCK_BOOTTIME:
            seconds += self.slept_s
        return max(self.time, self.clock.time_of(seconds)) + 1e-6 if seconds < float("inf") else float("inf")
