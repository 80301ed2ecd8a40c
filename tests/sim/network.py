"""The network between simulated machines: for each pair and direction a link, and on it everything that can happen.

A link delays, loses, duplicates and reorders messages, or keeps all of them for a while and then lets them arrive
together (clogged). A cut link loses everything sent while it is cut; what was on its way before still arrives. Cuts
are counted, so that partitions may overlap.

Messages travel as the objects they are, because their fields are immutable and only the sender writes the header; in
some schedules every one makes the round trip through the codec instead. A message to a machine whose process is gone
may come back as `Refused`, as a TCP connection would; across a cut nothing comes back.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import FROM_NODES
from gimmal.wire.peer_messages import PeerMessage, SnapshotChunk

if TYPE_CHECKING:
    from tests.sim.client import ClientMachine
    from tests.sim.host import Host

_DELAYS_BITS: Final = 8
Machine: TypeAlias = "Host | ClientMachine"
Post = Callable[[float, "Host", object, "Machine"], None]
"""(arrival, receiver, what arrives, sender): the world's heap."""


class Refused(NamedTuple):
    """Nobody listens at an address; for the life of the sender that sent there."""

    address: str
    life: int


@dataclass(frozen=True)
class Weather:
    """What links do to messages, for a whole schedule. Probabilities are per message, times in seconds."""

    delay_least_s: float = 0.0002
    delay_mean_s: float = 0.001
    loss: float = 0.0
    duplication: float = 0.0
    is_reordering: bool = False
    refusal: float = 1.0
    uses_codec: bool = False


class Link:
    """One direction between two machines."""

    __slots__ = ("clogged_until", "cuts", "duplication", "is_reordering", "last_arrival", "loss", "slowness", "target")

    def __init__(self, target: "Machine | None", weather: Weather) -> None:
        self.target = target
        self.cuts = 0
        self.clogged_until = 0.0
        self.last_arrival = 0.0
        self.slowness = 1.0
        self.set_weather(weather)

    def set_weather(self, weather: Weather) -> None:
        self.loss = weather.loss
        self.duplication = weather.duplication
        self.is_reordering = weather.is_reordering


class Network:
    """All links. `post` puts an arrival into the world's queue of events."""

    def __init__(self, weather: Weather, dice: Random, post: Post, counts: Counter[str]) -> None:
        self.weather = weather
        self._dice = dice
        self._random, self._bits = dice.random, dice.getrandbits
        self._post = post
        self._counts = counts
        self._hosts: dict[str, Machine] = {}
        self._delays_s = self._draw_delays()
        self.sent = 0

    def _draw_delays(self) -> list[float]:
        least, rate = self.weather.delay_least_s, 1 / self.weather.delay_mean_s
        return [least + self._dice.expovariate(rate) for _ in range(1 << _DELAYS_BITS)]

    def delay_s(self) -> float:
        """How long something takes on a link that is well."""
        return self._delays_s[self._bits(_DELAYS_BITS)]

    def attach(self, host: "Machine") -> None:
        assert host.address not in self._hosts, f"{host.address} is taken"
        self._hosts[host.address] = host

    def link(self, source: "Machine", address: str) -> Link:
        link = source.links.get(address)
        if link is None:
            link = source.links[address] = Link(self._hosts.get(address), self.weather)
        return link

    def send(self, source: "Host", address: str, message: PeerMessage, at: float) -> None:
        """Let a message leave: the hottest function of the harness."""
        link = source.links.get(address) or self.link(source, address)
        target = link.target
        self.sent += 1
        if link.cuts or target is None:
            self._counts["messages_cut"] += 1
            return
        chance = self._random()
        if chance < link.loss:
            self._counts["messages_lost"] += 1
            return
        arrival = at + self._delays_s[self._bits(_DELAYS_BITS)] * link.slowness
        if arrival < link.clogged_until:
            arrival = link.clogged_until
        elif link.is_reordering and chance > 0.9:
            arrival += self._random() * 0.1
            self._counts["messages_reordered"] += 1
        elif arrival < link.last_arrival:
            arrival = link.last_arrival
        else:
            link.last_arrival = arrival
        if type(message) is SnapshotChunk:
            message = copy.copy(message)  # it may be sent again, and then gets another header
        if self.weather.uses_codec:
            message = decode(encode(message), FROM_NODES)  # type: ignore[assignment]
        self._post(arrival, target, message, source)  # type: ignore[arg-type] # nodes send to nodes alone
        if link.duplication and self._random() < link.duplication:
            self._counts["messages_duplicated"] += 1
            self._post(arrival + self._random() * 0.5, target, copy.copy(message), source)  # type: ignore[arg-type]

    def refuse(self, source: "Host", target: "Host", at: float) -> None:
        """Tell a sender that nobody listens at the address of a machine, if a connection would tell."""
        if self.link(target, source.address).cuts or self.link(source, target.address).cuts:
            return
        if self._random() < self.weather.refusal:
            delay_s = self._delays_s[self._bits(_DELAYS_BITS)]
            self._post(at + delay_s, source, Refused(target.address, source.life), target)

    # -- faults -----------------------------------------------------------------------------------------------

    def cut(self, sources: Iterable["Machine"], targets: Iterable["Machine"], change: int) -> None:
        """Cut (change 1) or mend (change -1) all links from some machines to others."""
        targets = list(targets)
        for source in sources:
            for target in targets:
                if source is not target:
                    link = self.link(source, target.address)
                    link.cuts += change
                    assert link.cuts >= 0, "mended what was not cut"

    def heal(self, weather: Weather) -> None:
        """End every fault of every link; clogged messages arrive now at the latest by their own time."""
        self.weather = weather
        self._delays_s = self._draw_delays()
        for host in self._hosts.values():
            for link in host.links.values():
                link.cuts = 0
                link.clogged_until = 0.0
                link.slowness = 1.0
                link.set_weather(weather)
