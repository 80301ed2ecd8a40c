"""What becomes of a cluster of which every copy of every partition is gone: it says so, and serves nothing wrong."""

from collections import Counter
from dataclasses import replace

from tests.sim import plan as kinds
from tests.sim.host import HOME
from tests.sim.network import Weather
from tests.sim.node_subject import PARTITIONS, start_node
from tests.sim.plan import Machine, Plan
from tests.sim.simulation import Simulation

_NAMES = ("n1", "n2", "n3")


def lose_everything(seed: int) -> Counter[str]:
    """Let three nodes with disks serve for a while, kill all of them at once, and start them again."""
    plan = Plan(
        seed=seed,
        kinds=(),
        machines=tuple(Machine(name, 0.1, expect=3, is_durable=True, zone="") for name in _NAMES),
        seeds=tuple(map(kinds.address_of, _NAMES)),
        weather=Weather(),
        batches=150,
        may_lose=True,
        heal_at=15.0,
        ends_at=25.0,
    )
    simulation = Simulation(plan, start_node)
    world = simulation.world

    def kill_all() -> None:
        assert world.counts["operations_done"]
        for host in [host for host in world.hosts if host.is_up]:
            world.kill(host)
            simulation.faults.restart_later(host)

    world.plan(10.0, kill_all)
    counts = simulation.run()
    table = world.checks.tables.newest(HOME)
    assert table is not None
    assert all(row.is_lost and row.leader is None for row in table.partitions)
    return counts


def test_partitions_of_which_nothing_is_left_are_lost_and_nobody_is_told_anything_wrong() -> None:
    for seed in range(1, 4):
        counts = lose_everything(seed)
        assert counts["partitions_lost"] == PARTITIONS
        assert counts["refused_NoRoute"]


def test_one_copy_that_is_left_of_each_keeps_everything() -> None:
    for seed in range(1, 4):
        plan = replace(_calm(seed), weights={kinds.CRASH: 1.0}, episode_every_s=0.5, down_for_s=0.5, calm_until=6.0)
        counts = Simulation(plan, start_node).run()
        assert counts["crashes"] > 5
        assert not counts["partitions_lost"]


def _calm(seed: int) -> Plan:
    return Plan(
        seed=seed,
        kinds=(),
        machines=tuple(Machine(name, 0.1, expect=3, is_durable=False, zone="") for name in _NAMES),
        seeds=tuple(map(kinds.address_of, _NAMES)),
        weather=Weather(),
        batches=150,
        heal_at=25.0,
        ends_at=30.0,
    )
