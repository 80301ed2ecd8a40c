"""Each necessary rule of queues, taken away: that the ledger of the simulator's queues notices it."""

from dataclasses import replace
from random import Random
from typing import Any

from gimmal.node.queue_desk import QueueDesk
from gimmal.store.queues.group import Group
from gimmal.store.sessions import Sessions
from tests.sim import plan as kinds
from tests.sim.plan import Plan

LEDGER = ("queues lose nothing and give nothing twice",)


def without_fencing(original: Any) -> Any:
    """An ACK counts whatever its token, as long as its message is there."""

    def ack(group: Group, number: int, token: int, now_ms: int) -> Any:
        delivery = group.deliveries.get(number)
        return original(group, number, delivery.token if delivery is not None else token, now_ms)

    return ack


def without_memory(original: Any) -> Any:
    """What was given away is known to the leader that gave it: the next one finds it ready again."""

    def on_led(desk: QueueDesk, partition: int) -> None:
        original(desk, partition)
        for shard in desk._led[partition].shards.values():
            for group in shard.groups.values():
                for number in list(group.held):
                    group.release(number)

    return on_led


def without_dedup(original: Any) -> Any:
    """A PRODUCE that comes again is carried out again."""

    def apply(sessions: Sessions, write: Any, state: Any, seq: int, entry: Any) -> Any:
        window = sessions.windows.get(entry[2])
        if window is not None:
            window.replies.pop(entry[3], None)
        return original(sessions, write, state, seq, entry)

    return apply


def consumers_under_fire(plan: Plan) -> Plan:
    """Leaders of partitions come and go and connections break, while messages are produced and consumed."""
    dice = Random(f"consumers {plan.seed}")
    return replace(
        plan,
        has_queues=True,
        kinds=(*plan.kinds, kinds.HUNT),
        weather=replace(plan.weather, loss=dice.choice((0.02, 0.1))),
        weights={kinds.PARTITION: 1.0, kinds.ONE_WAY: 1.0, kinds.CRASH: 1.0, kinds.PAUSE: 2.0, kinds.CLOG: 1.0},
        calm_until=4.0,
        episode_every_s=dice.choice((0.7, 1.5)),
        episode_lasts_s=dice.choice((0.8, 2.0)),
        down_for_s=0.5,
        may_lose=False,
        heal_at=24.0,
        half_heal_s=0.0,
        ends_at=32.0,
    )
