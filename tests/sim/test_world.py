"""The world takes turns as the real shell does, and whole toy clusters live and recover in it."""

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from gimmal.types import Instant
from gimmal.wire.messages import Message
from gimmal.wire.peer_messages import Heartbeat, PeerMessage
from tests.sim import world as worlds
from tests.sim.clocks import HostClock
from tests.sim.host import Host, Settings
from tests.sim.network import Weather
from tests.sim.plan import draw_plan
from tests.sim.puppet import stranger
from tests.sim.simulation import Simulation
from tests.sim.subject import Watch
from tests.sim.toy_core import ToySave, start_toy
from tests.sim.violation import Violation
from tests.sim.world import World

OTHER = "other.sim:7701"


@dataclass
class Scribe:
    """A core that writes down what is done to it. It wants a turn every second, and saves what it is told to."""

    journal: bytes
    done: list[str] = field(default_factory=list)
    to_save: list[bytes] = field(default_factory=list)
    to_send: list[PeerMessage] = field(default_factory=list)
    deadline: float = float("inf")
    breaks: bool = False

    def receive(self, peer: bytes, message: Message, now: Instant) -> None:
        self.done.append(f"receive from {peer.decode()}")

    def receive_from_node(self, message: PeerMessage, now: Instant) -> None:
        self.done.append(f"receive {message.sender}")

    def on_refused(self, address: str, now: Instant) -> None:
        self.done.append(f"refused {address}")

    def tick(self, now: Instant) -> None:
        assert not self.breaks, "broken"
        self.done.append(f"tick {now.seconds:.3f}")
        self.deadline = now.seconds + 1.0

    def next_deadline(self) -> float:
        return self.deadline

    def unsaved(self) -> ToySave | None:
        return ToySave(self.to_save[0]) if self.to_save else None

    def on_saved(self, now: Instant) -> None:
        self.done.append(f"saved {self.to_save.pop(0).decode()}")

    def drain(self) -> list[tuple[bytes, Message]]:
        return []

    def drain_for_nodes(self) -> list[tuple[str, PeerMessage]]:
        messages, self.to_send = self.to_send, []
        self.done += ["send"] * len(messages)
        return [(OTHER, message) for message in messages]

    def complaints(self) -> list[tuple[str, str]]:
        return []


def start_scribe(host: Host, journal: bytes, dice: Random, now: Instant) -> tuple[Scribe, Watch]:
    return Scribe(journal), stranger(host.name)


def heartbeat(sender: str = "n1", number: int = 1) -> Heartbeat:
    return Heartbeat(b"", 0, 0, 0, sender, number)


class Stage:
    """A world with two machines, of which the first is looked at."""

    def __init__(self, *, is_durable: bool = True, rate: float = 1.0) -> None:
        self.world = World(1, Weather(delay_least_s=0.001, delay_mean_s=1e-9), start_scribe)
        self.host, self.other = (
            Host(Settings(name, f"{name}.sim:7701", (), 0, is_durable), HostClock(0.0, 0, rate))
            for name in ("n1", "other")
        )
        for host in (self.host, self.other):
            self.world.attach(host)
        self.world.start(self.host)
        self.world.run(0.5)
        self.core.done.clear()

    @property
    def core(self) -> Scribe:
        assert isinstance(self.host.core, Scribe)
        return self.host.core

    def arrive(self, *numbers: int) -> None:
        for number in numbers:
            self.world.network.send(self.other, self.host.address, heartbeat("other", number), self.world.now)


def test_a_turn_is_receive_tick_save_send() -> None:
    stage = Stage()
    stage.core.to_save, stage.core.to_send = [b"one", b"two"], [heartbeat()]
    stage.arrive(1, 2)
    stage.world.run(0.6)
    assert stage.core.done[:6] == ["receive other", "receive other", "tick 0.501", "saved one", "saved two", "send"]
    assert stage.host.disk is not None
    assert stage.host.disk.read() == b"onetwo"


def test_timers_go_off_by_the_hosts_own_clock() -> None:
    stage = Stage(rate=1.02)
    stage.world.run(3.0)
    assert stage.core.done == ["tick 1.000", "tick 2.000", "tick 3.000"]


def test_a_stopped_process_takes_no_turn_and_then_finds_everything() -> None:
    stage = Stage()
    stage.world.pause(stage.host, 5.0)
    stage.arrive(1)
    stage.world.run(3.0)
    stage.arrive(2)
    stage.world.run(5.4)
    assert stage.core.done == []
    stage.world.run(5.6)
    assert stage.core.done == ["receive other", "receive other", "tick 5.500"]


DEATHS = {
    worlds.BEFORE_WRITE: ({b""}, 0),
    worlds.BEFORE_SYNC: ({b"", b"o", b"on", b"one"}, 0),
    worlds.BEFORE_SEND: ({b"one"}, 0),
    worlds.WHILE_SENDING: ({b"one"}, 1),
}


@pytest.mark.parametrize("point", worlds.DYING_POINTS)
def test_a_doomed_process_dies_at_its_point(point: str) -> None:
    kept, sent_most = DEATHS[point]
    stage = Stage()
    stage.host.doomed_at = point
    stage.core.to_save, stage.core.to_send = [b"one"], [heartbeat(), heartbeat()]
    stage.arrive(1)
    stage.world.run(0.7)
    assert not stage.host.is_up
    assert stage.world.network.sent - 1 <= sent_most
    stage.world.start(stage.host)
    assert stage.core.journal in kept


def test_death_waits_until_the_cluster_can_bear_it() -> None:
    stage = Stage()
    stage.world.may_die = lambda host: False
    stage.host.doomed_at = worlds.BEFORE_SYNC
    stage.core.to_save = [b"one"]
    stage.arrive(1)
    stage.world.run(0.7)
    assert stage.host.is_up


def test_whoever_sends_to_a_dead_process_may_be_refused() -> None:
    stage = Stage()
    stage.core.to_send = [heartbeat()]
    stage.arrive(1)
    stage.world.run(0.7)
    assert f"refused {OTHER}" in stage.core.done


def test_an_error_in_a_node_is_a_finding() -> None:
    stage = Stage()
    stage.core.breaks = True
    with pytest.raises(Violation, match=r"no error in a node: n1 at .*broken"):
        stage.world.run(5.0)


def test_a_node_that_asks_for_ticks_for_ever_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "TURNS_MAX", 1000)
    stage = Stage()
    monkeypatch.setattr(Scribe, "next_deadline", lambda self: 0.0)
    with pytest.raises(Violation, match="bounded work"):
        stage.world.run(60.0)


def test_toy_clusters_recover_from_everything() -> None:
    counts: Counter[str] = Counter()
    for seed in range(1, 31):
        plan = replace(
            draw_plan(seed), half_heal_s=0.0, batches=0, may_lose=True
        )  # a cluster that is ruled by one has no majority
        counts += Simulation(plan, start_toy).run()
    for name in ("crashes", "restarts", "partitions", "one_way_partitions", "pauses", "clogs", "fences", "unfences"):
        assert counts[name], f"nothing was counted under {name}"


def test_a_toy_that_forgets_to_journal_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sim.toy_core.ToyCore.unsaved", lambda self: None)
    found = Counter(filter(None, (_violated(seed) for seed in range(1, 31))))
    assert found["one cluster from one founding"]


def _violated(seed: int) -> str:
    try:
        Simulation(replace(draw_plan(seed), half_heal_s=0.0, batches=0, may_lose=True), start_toy).run()
    except Violation as violation:
        return violation.check
    return ""
