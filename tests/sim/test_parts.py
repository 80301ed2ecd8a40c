"""The simulated machine's parts: its clocks, its disk, its links; and what a schedule may do to it."""

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

import pytest

from gimmal.types import Incarnation
from gimmal.wire.peer_messages import Heartbeat
from tests.sim import plan as kinds
from tests.sim.budget import Budget
from tests.sim.clocks import HostClock
from tests.sim.disk import Disk
from tests.sim.host import Host, Settings
from tests.sim.network import Network, Refused, Weather
from tests.sim.plan import draw_plan
from tests.sim.simulation import Simulation
from tests.sim.toy_core import start_toy


@dataclass
class Write:
    data: bytes
    replaces: bool = False


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_a_clock_runs_at_its_rate_and_changes_it_without_a_jump() -> None:
    clock = HostClock(500.0, 0, 1.02)
    assert clock.seconds(100.0) == pytest.approx(602.0)
    clock.set_rate(100.0, 0.98)
    assert clock.seconds(100.0) == pytest.approx(602.0)
    assert clock.seconds(200.0) == pytest.approx(700.0)
    assert clock.time_of(clock.seconds(123.0)) == pytest.approx(123.0)


def test_a_timer_that_went_off_has_not_gone_off_too_early() -> None:
    clock = HostClock(1 / 3, 0, 1.01)
    assert clock.instant(clock.time_of(7.7), 7.7).seconds >= 7.7


def test_the_wall_clock_may_be_set() -> None:
    clock = HostClock(500.0, 1_000, 1.0)
    before = clock.instant(1.0, 0.0)
    clock.shift_wall(-3_000)
    after = clock.instant(1.0, 0.0)
    assert (after.seconds, after.unix_ms) == (before.seconds, before.unix_ms - 3_000)


# -- disk -------------------------------------------------------------------------------------------------------------


def test_what_was_synced_survives_and_of_the_rest_any_prefix() -> None:
    dice, found = Random(1), Counter[bytes]()
    for _ in range(200):
        disk = Disk()
        disk.write(Write(b"safe"))
        disk.sync()
        disk.write(Write(b"1234"))
        is_torn = disk.crash(dice)
        assert is_torn == (disk.read() not in (b"safe", b"safe1234"))
        found[disk.read()] += 1
    assert set(found) == {b"safe", b"safe1", b"safe12", b"safe123", b"safe1234"}


def test_a_replacement_is_there_whole_or_not_at_all() -> None:
    dice, found = Random(1), set()
    for _ in range(50):
        disk = Disk()
        disk.write(Write(b"old"))
        disk.sync()
        disk.write(Write(b"new and longer", replaces=True))
        disk.crash(dice)
        found.add(disk.read())
    assert found == {b"old", b"new and longer"}


# -- network ----------------------------------------------------------------------------------------------------------


class Wires:
    """A network of three machines whose arrivals are kept in a list."""

    def __init__(self, **weather: float) -> None:
        self.arrivals: list[tuple[float, str, object]] = []
        self.counts: Counter[str] = Counter()
        self.network = Network(Weather(**weather), Random(1), self._post, self.counts)  # type: ignore[arg-type]
        self.hosts = [Host(Settings(name, f"{name}:1", (), 0, False), HostClock(0.0, 0, 1.0)) for name in "abc"]
        for host in self.hosts:
            self.network.attach(host)

    def _post(self, time: float, host: Host, item: object, source: Host) -> None:
        self.arrivals.append((time, host.name, item))

    def send(self, source: int, target: int, at: float = 0.0, count: int = 1) -> None:
        for number in range(count):
            message = Heartbeat(b"", 0, 0, 0, "a", number)
            self.network.send(self.hosts[source], self.hosts[target].address, message, at)


def test_messages_of_a_link_arrive_in_order_unless_it_reorders() -> None:
    wires = Wires(delay_mean_s=0.01)
    wires.send(0, 1, count=100)
    times = [time for time, _, _ in wires.arrivals]
    assert times == sorted(times)
    shuffled = Wires(delay_mean_s=0.01, is_reordering=True)
    shuffled.send(0, 1, count=100)
    assert shuffled.counts["messages_reordered"]
    assert [time for time, _, _ in shuffled.arrivals] != sorted(time for time, _, _ in shuffled.arrivals)


def test_messages_are_lost_and_doubled_as_often_as_the_weather_says() -> None:
    wires = Wires(loss=0.2, duplication=0.1)
    wires.send(0, 1, count=1000)
    assert 150 < wires.counts["messages_lost"] < 250
    assert 50 < wires.counts["messages_duplicated"] < 110
    assert len(wires.arrivals) == 1000 - wires.counts["messages_lost"] + wires.counts["messages_duplicated"]


def test_a_double_is_another_object() -> None:
    wires = Wires(duplication=1.0)
    wires.send(0, 1)
    (_, _, one), (_, _, other) = wires.arrivals
    assert one == other
    assert one is not other


def test_a_cut_is_one_way_and_cuts_may_overlap() -> None:
    wires = Wires()
    one, other, _ = wires.hosts
    for change in (1, 1, -1):
        wires.network.cut([one], [other], change)
    wires.send(0, 1)
    wires.send(1, 0)
    assert [name for _, name, _ in wires.arrivals] == ["a"]
    wires.network.cut([one], [other], -1)
    wires.send(0, 1)
    assert [name for _, name, _ in wires.arrivals] == ["a", "b"]


def test_what_is_clogged_arrives_together() -> None:
    wires = Wires()
    wires.network.link(wires.hosts[0], "b:1").clogged_until = 9.0
    wires.send(0, 1, at=1.0)
    wires.send(0, 1, at=5.0)
    assert [time for time, _, _ in wires.arrivals] == [9.0, 9.0]


def test_a_refusal_comes_back_to_the_life_that_sent_unless_the_way_is_cut() -> None:
    wires = Wires(refusal=1.0)
    one, other, _ = wires.hosts
    one.life = 3
    wires.network.refuse(one, other, 1.0)
    assert wires.arrivals[0][1:] == ("a", Refused("b:1", 3))
    wires.network.cut([other], [one], 1)
    wires.network.refuse(one, other, 1.0)
    assert len(wires.arrivals) == 1


def test_in_some_schedules_messages_pass_the_codec() -> None:
    wires = Wires(uses_codec=True)
    wires.send(0, 1)
    assert wires.arrivals[0][2] == Heartbeat(b"", 0, 0, 0, "a", 0)


# -- plans and budgets ------------------------------------------------------------------------------------------------


def test_every_plan_keeps_its_promises() -> None:
    seen: Counter[str] = Counter()
    for seed in range(500):
        plan = draw_plan(seed)
        assert plan == draw_plan(seed)
        assert len(plan.kinds) >= kinds.FAULTS_MIN
        assert kinds.NODES_MIN <= len(plan.machines) <= kinds.NODES_MAX
        assert plan.ends_at >= plan.heal_at + plan.half_heal_s + 8.0
        assert plan.batches >= 300
        expected = {machine.expect for machine in plan.machines if machine.expect}
        assert len(expected) == 1
        assert expected == {1} or 2 * max(expected) > len(plan.machines)
        bootstrapping = {kinds.address_of(machine.name) for machine in plan.machines if machine.expect}
        assert bootstrapping <= set(plan.seeds)
        seen.update(plan.kinds)
        seen["codec"] += plan.weather.uses_codec
        seen["losses"] += plan.may_lose
    assert set(seen) == {*kinds.KINDS, "codec", "losses"}
    assert min(seen.values()) > 40


def ruled(is_durable: bool, *, may_lose: bool = True) -> Simulation:
    """A toy cluster of three in calm weather, founded; its ruler has the only copy of everything."""
    machines = tuple(kinds.Machine(f"n{number}", 0.0, 3, is_durable, "") for number in (1, 2, 3))
    seeds = tuple(kinds.address_of(machine.name) for machine in machines)
    simulation = Simulation(kinds.Plan(1, (), machines, seeds, Weather(), batches=0, may_lose=may_lose), start_toy)
    simulation.world.run(3.0)
    return simulation


def test_who_has_nothing_on_a_disk_may_not_die_if_the_group_needs_it() -> None:
    simulation = ruled(is_durable=False)
    ruler, subject, _ = simulation.world.hosts
    assert not simulation.budget.may_die(ruler)
    assert simulation.budget.may_die(subject)


def test_who_has_a_disk_may_die_at_any_time() -> None:
    simulation = ruled(is_durable=True)
    assert simulation.budget.may_die(simulation.world.hosts[0])


def test_who_has_the_only_copy_may_not_die() -> None:
    simulation = ruled(is_durable=True, may_lose=False)
    ruler, subject, _ = simulation.world.hosts
    assert not simulation.budget.may_die(ruler)
    assert simulation.budget.may_die(subject)


def test_of_two_that_have_everything_one_may_die_and_not_the_other_before_it_is_replaced() -> None:
    simulation = ruled(is_durable=True, may_lose=False)
    one, other, third = simulation.world.hosts
    tables = simulation.world.checks.tables
    newest = tables.newest("home")
    assert newest is not None
    members = tuple(Incarnation(host.name, host.identity.incarnation) for host in (one, other, third))
    for in_sync, eligible in ((members[:2], ()), (members[:1], members[1:2]), (members, ())):
        row = newest.partitions[0]._replace(in_sync=in_sync, eligible=eligible)
        tables.history(newest.cluster).table_by_version[newest.version] = replace(newest, partitions=(row,))
        assert simulation.budget.may_die(one)
    simulation.world.kill(third)
    assert not simulation.budget.may_die(one)


def test_nodes_outside_must_not_become_as_many_as_found_a_cluster() -> None:
    simulation = ruled(is_durable=False)
    _, one, other = simulation.world.hosts
    for host in simulation.world.hosts:
        host.settings.expect = 2
    simulation.world.kill(one)
    assert not simulation.budget.may_die(other)
    simulation.faults.restart(one)
    simulation.world.run(8.0)
    assert simulation.budget.may_die(other)


def test_before_there_is_a_cluster_one_founder_may_forget() -> None:
    simulation = ruled(is_durable=False)
    budget = Budget(simulation.world, may_lose=True)
    simulation.world.checks.tables.cluster_by_group.clear()
    one, other, _ = simulation.world.hosts
    assert budget.may_die(one)
    budget.died(one)
    assert not budget.may_die(other)
