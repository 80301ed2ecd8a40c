"""Client machines: each a real `Session`, and in the place of its sockets connections through the simulated network.

A connection is one between a client and one life of a node, as TCP makes it: what it delivers arrives in order and
once, or it breaks, and then nothing of it arrives any more, in either direction. It breaks when a message meets a cut,
when the node dies, and at random in weather that loses messages; both ends go on for a while without knowing. Clogged
and slow links delay it. While it is down the client tries again and again; a new one is another peer to the node.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gimmal.client.calls import Call
from gimmal.client.session import Session
from gimmal.errors import RemoteProtocolError
from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import FROM_CLIENTS, TO_CLIENTS
from gimmal.wire.messages import Message
from tests.sim.host import NEVER, Host
from tests.sim.network import Link

if TYPE_CHECKING:
    from collections import Counter

    from tests.sim.network import Network
    from tests.sim.world import World

_NOTICES_WITHIN_S: Final = (0.02, 0.5, 2.0)
_CONNECTS_AGAIN_S: Final = (0.1, 0.4)
_BREAKS_PER_LOSS: Final = 0.2
_BLOCKED_SHARE: Final = 0.5


@dataclass(slots=True, eq=False)
class Connection:
    """The way between a client and one life of a node, known to the node as `peer`."""

    machine: "ClientMachine"
    address: str
    host: Host
    life: int
    peer: bytes
    is_broken: bool = False
    to_node_at: float = 0.0  # when what was sent last arrives: nothing overtakes it
    to_client_at: float = 0.0


class FromClient(NamedTuple):
    """A message on its way to a node."""

    connection: Connection
    message: Message


@dataclass(slots=True, eq=False)
class ClientMachine:
    """One client. `on_done` gets its calls when they end, with the time."""

    name: str
    session: Session
    on_done: Callable[[Call[Any], float], None]
    links: dict[str, Link] = field(default_factory=dict)
    connections: dict[str, Connection | None] = field(default_factory=dict)
    known_links: object = None
    armed_at: float = NEVER

    @property
    def address(self) -> str:
        return f"{self.name}.sim"


class Clients:
    """All client machines, and the connections they have."""

    def __init__(self, world: "World", seed: int) -> None:
        self.machines: list[ClientMachine] = []
        self._world = world
        self._network: Network = world.network
        self._counts: Counter[str] = world.counts
        self._seed = seed
        self._dice = Random(f"connections {seed}")
        self._connection_by_peer: dict[bytes, Connection] = {}
        world.on_answers = self.on_answers

    def add(self, seeds: tuple[str, ...], on_done: Callable[[Call[Any], float], None]) -> ClientMachine:
        """Start a client that knows some client addresses of nodes."""
        name = f"k{len(self.machines) + 1}"
        session = Session(seeds, None, Random(f"client {self._seed} {name}"), self._world.now)
        machine = ClientMachine(name, session, on_done)
        self.machines.append(machine)
        self._network.attach(machine)
        self._flush(machine)
        return machine

    def start(self, machine: ClientMachine, calls: list[Call[Any]], timeout_s: float) -> None:
        """Let a client start calls in one turn."""
        for call in calls:
            machine.session.start(call, timeout_s, self._world.now)
        self._flush(machine)

    def send(self, machine: ClientMachine, address: str, message: Message) -> None:
        """Let a client send a message of its own."""
        self._send(machine, address, message)

    # -- a client's turn --------------------------------------------------------------------------------------

    def _flush(self, machine: ClientMachine) -> None:
        session = machine.session
        if machine.known_links is not session.links:
            machine.known_links = session.links
            self._follow_links(machine)
        for address, message in session.drain():
            self._send(machine, address, message)
        deadline = session.next_deadline()
        if deadline < machine.armed_at:
            machine.armed_at = deadline
            self._world.plan(deadline, lambda: self._tick(machine, deadline))

    def _tick(self, machine: ClientMachine, armed_at: float) -> None:
        if machine.armed_at != armed_at:
            return
        machine.armed_at = NEVER
        now = self._world.now
        if machine.session.next_deadline() <= now:
            self._done(machine, machine.session.tick(now))
        self._flush(machine)

    def _done(self, machine: ClientMachine, calls: list[Call[Any]]) -> None:
        for call in calls:
            machine.on_done(call, self._world.now)

    def _follow_links(self, machine: ClientMachine) -> None:
        for address in [address for address in machine.connections if address not in machine.session.links]:
            connection = machine.connections.pop(address)
            if connection is not None:
                self._forget(connection)
        for address in machine.session.links:
            if address not in machine.connections:
                machine.connections[address] = None
                self._world.plan_in(0.0, lambda address=address: self._connect(machine, address))  # type: ignore[misc]

    # -- connections ------------------------------------------------------------------------------------------

    def _connect(self, machine: ClientMachine, address: str) -> None:
        if machine.connections.get(address, self) is not None:
            return  # it is not wanted any more, or there already
        host = self._world.host_by_client_address(address)
        if host is None or not host.is_up or self._is_cut(machine, host):
            pause_s = self._dice.uniform(*_CONNECTS_AGAIN_S)
            self._world.plan_in(pause_s, lambda: self._connect(machine, address))
            return
        peer = self._dice.getrandbits(40).to_bytes(5, "big")
        connection = Connection(machine, address, host, host.life, peer)
        machine.connections[address] = self._connection_by_peer[peer] = connection
        self._counts["connections"] += 1
        self._world.plan_in(2 * self._network.delay_s(), lambda: self._ready(connection))

    def _is_cut(self, machine: ClientMachine, host: Host) -> bool:
        network = self._network
        return bool(network.link(machine, host.address).cuts or network.link(host, machine.address).cuts)

    def _ready(self, connection: Connection) -> None:
        machine = connection.machine
        if machine.connections.get(connection.address) is connection:
            machine.session.on_ready(connection.address)
            self._flush(machine)

    def _break(self, connection: Connection, notices_within_s: float) -> None:
        if connection.is_broken:
            return
        self._forget(connection)
        self._counts["connections_broken"] += 1
        self._world.plan_in(self._dice.uniform(0.0, notices_within_s), lambda: self._notice(connection))

    def _forget(self, connection: Connection) -> None:
        connection.is_broken = True
        self._connection_by_peer.pop(connection.peer, None)

    def _notice(self, connection: Connection) -> None:
        machine, address = connection.machine, connection.address
        if machine.connections.get(address) is connection:
            machine.connections[address] = None
            machine.session.on_unready(address)
            self._connect(machine, address)
            self._flush(machine)

    def on_death(self, host: Host) -> None:
        """Break every connection to a process that is gone; its machine says so, if it can be heard."""
        for machine in self.machines:
            for connection in list(machine.connections.values()):
                if connection is not None and connection.host is host:
                    is_heard = not self._network.link(host, machine.address).cuts
                    self._break(connection, _NOTICES_WITHIN_S[0 if is_heard else -1])

    # -- messages ---------------------------------------------------------------------------------------------

    def _send(self, machine: ClientMachine, address: str, message: Message) -> None:
        connection = machine.connections.get(address)
        if connection is None or (connection.is_broken and self._dice.random() < _BLOCKED_SHARE):
            self._counts["sends_blocked"] += 1
            machine.session.on_blocked(address, message)
            return
        host = connection.host
        arrival = None if connection.is_broken else self._arrival(machine, host.address)
        if arrival is None:
            self._break(connection, self._dice.choice(_NOTICES_WITHIN_S))
            return
        arrival = connection.to_node_at = max(arrival, connection.to_node_at)
        if self._network.weather.uses_codec:
            message = decode(encode(message), FROM_CLIENTS)
        self._world.post(arrival, host, FromClient(connection, message), machine)

    def on_answers(self, host: Host, answers: list[tuple[bytes, Message]], at: float) -> None:
        """Take what a node has to say to clients."""
        for peer, message in answers:
            connection = self._connection_by_peer.get(peer)
            if connection is None:
                continue
            arrival = self._arrival(host, connection.machine.address, at)
            if arrival is None:
                self._break(connection, self._dice.choice(_NOTICES_WITHIN_S))
                continue
            arrival = connection.to_client_at = max(arrival, connection.to_client_at)
            sent = decode(encode(message), TO_CLIENTS) if self._network.weather.uses_codec else message
            self._world.plan(arrival, lambda c=connection, m=sent: self._deliver(c, m))  # type: ignore[misc]

    def _arrival(self, source: "Host | ClientMachine", address: str, at: float | None = None) -> float | None:
        """When something sent arrives; None if the connection breaks over it."""
        link, weather = self._network.link(source, address), self._network.weather
        if link.cuts or (weather.loss and self._dice.random() < weather.loss * _BREAKS_PER_LOSS):
            return None
        arrival = (self._world.now if at is None else at) + self._network.delay_s() * link.slowness
        return max(arrival, link.clogged_until)

    def _deliver(self, connection: Connection, message: Message) -> None:
        if connection.is_broken:
            return
        machine, world = connection.machine, self._world
        if world.trace is not None:
            world.trace.delivered(world.now, connection.host, machine, message)
        try:
            self._done(machine, machine.session.receive(connection.address, message, world.now))
        except RemoteProtocolError:
            self._counts["bad_messages_to_clients"] += 1
        self._flush(machine)

    def settle(self) -> None:
        """Add to the world's counters what the sessions have counted."""
        for machine in self.machines:
            for name in ("redirects", "overloaded", "resent_reads", "resent_writes", "problems"):
                self._counts[f"client_{name}"] += machine.session.counters[name]
