"""After the storm: everybody is up and hears everybody, and everything has to come right, by the product's own timers.

A node gets a turn only when something arrived or when its next deadline has come: what waits for a turn that nobody
asked for would wait for ever.
"""

from typing import Final

from gimmal.cluster.meta import commands
from gimmal.cluster.table import ALIVE
from gimmal.wire.commands import INCR
from tests.sim.violation import Violation, require
from tests.small.clients import SHARED
from tests.small.node import Node
from tests.small.world import META, Ask, Packet, World

WITHIN_S: Final = 30.0
_TURNS_MAX: Final = 4_000
_NEVER: Final = float("inf")


def recover(world: World) -> None:
    """End all faults, and wait for every partition to be led, written to, and whole."""
    world.happened("everything is mended")
    world.calm()
    for node in list(world.nodes.values()):
        if not node.is_up:
            world.restart(node)
    for row in world.meta.table.nodes:
        if row.status != ALIVE:
            world.do(commands.UNFENCE, row.name, row.incarnation)
    for node in world.nodes.values():
        if node.asked is not None:
            world.send(Packet(node.me, META, Ask(*node.asked)))
        world.turn(node)
    _settle(world)
    for partition in world.partitions:
        leader = world.nodes[str(world.meta.row(partition).leader)]
        replica = leader.holdings.replicas[partition]
        leader.holdings.propose(replica, None, (0, 0, 0), (INCR, SHARED, 0), leader.at(world.now_s).unix_ms)
        world.turn(leader)
    _settle(world)
    world.audit()


def _settle(world: World) -> None:
    """Let time pass until nothing is left to do."""
    until_s, turns = world.now_s + WITHIN_S, 0
    while True:
        _deliver_everything(world)
        trouble = _trouble(world)
        if not trouble:
            return
        deadlines = {name: node.holdings.next_deadline() for name, node in world.nodes.items()}
        soonest_s = min(deadlines.values())
        require(soonest_s < _NEVER, "recovery", f"nobody has anything to do, and {trouble}")
        world.now_s = max(world.now_s, soonest_s)
        require(world.now_s < until_s and turns < _TURNS_MAX, "recovery", f"after {turns} turns {trouble}")
        for name, deadline_s in deadlines.items():
            if deadline_s <= world.now_s:
                turns += 1
                world.turn(world.nodes[name])


def _deliver_everything(world: World) -> None:
    for _ in range(_TURNS_MAX):
        for node in world.nodes.values():
            if node.table is None or node.table.version < world.meta.table.version:
                world.learn_table(node, world.meta.table)
                world.turn(node)
        if not world.net:
            return
        world.now_s += 0.0005
        world.arrive(world.net.pop(0))
    raise Violation("recovery", "there is no end of messages")


def _trouble(world: World) -> str:
    """Return what is not as it has to be; nothing if everything is."""
    for partition in world.partitions:
        row = world.meta.row(partition)
        if row.leader is None:
            return f"nobody leads partition {partition}"
        if len(row.in_sync) < len(row.replicas):
            return f"partition {partition} has {row.in_sync} in sync"
        leader = world.nodes[row.leader].holdings.replicas[partition]
        if not leader.is_ready or leader.commit < leader.log.last:
            return f"partition {partition} has committed {leader.commit} of {leader.log.last}"
        for name in row.replicas:
            copy = _copy(world.nodes[name], partition)
            if copy != (leader.commit, leader.log.last):
                return f"{name} has {copy} of partition {partition}, its leader {leader.commit}"
    return ""


def _copy(node: Node, partition: int) -> tuple[int, int]:
    replica = node.holdings.replicas[partition]
    return replica.commit, replica.log.last
