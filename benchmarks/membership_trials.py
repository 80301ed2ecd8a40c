"""The trials of membership: each a function of a few values and a seed that answers with figures.

- Detection: a node falls silent; how long until the first suspects it, until two accuse it, until all know it dead?
- Traffic: what each node sends, in messages and bytes, full exchanges apart.
- Stalls: some nodes handle nothing for a while, again and again; how many living nodes are called dead?
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, TypeAlias

from benchmarks.membership_network import Meter, Network, Node
from gimmal.cluster.membership import Fact, MemberDead, MemberSuspected

Figures: TypeAlias = dict[str, Any]

WARM_UP_S = 60.0
HOUR_S = 3_600.0
STALL_SHARE = 10
"""One node in so many stalls, at least one."""
STALL_EVERY_S = 20.0
"""The time between two stalls of a node, on average."""
DETECTION_MAX_S = 300.0


@dataclass(slots=True)
class Detection:
    """What becomes known of one death, as times."""

    victim: Node
    first_accuser_at: float = inf
    second_accuser_at: float = inf
    known_at: float = inf
    knowing: int = 0

    def on_fact(self, network: Network, node: Node, fact: Fact) -> None:
        """Look at what a node reports."""
        if isinstance(fact, MemberSuspected) and fact.name == self.victim.name:
            accusers = len(node.machine.accusers(fact.name))
            self.first_accuser_at = min(self.first_accuser_at, network.now)
            if accusers > 1:
                self.second_accuser_at = min(self.second_accuser_at, network.now)
        elif isinstance(fact, MemberDead) and fact.name == self.victim.name:
            self.knowing += 1
            if self.knowing == len(network.nodes) - 1:
                self.known_at = network.now


def detection(seed: int, size: int, loss: float, deaths: int) -> Figures:
    """Kill nodes, one after the other, each at a random time; the next when the last is known dead and back again."""
    network = Network(size, seed, loss)
    network.run(WARM_UP_S)
    dice = random.Random(f"deaths {seed}")
    first, second, known = [], [], []
    for _ in range(deaths):
        network.run(network.now + 3.0 + dice.random())
        died_at = network.now
        one = Detection(network.nodes[dice.choice(sorted(network.nodes))])
        network.on_fact = partial(one.on_fact, network)
        network.kill(one.victim)
        while one.known_at == inf:
            network.run(network.now + 0.1)
            if network.now > died_at + DETECTION_MAX_S:
                raise AssertionError(f"seed {seed}: a death is not known to all after {DETECTION_MAX_S} s")
        first.append(one.first_accuser_at - died_at)
        second.append(one.second_accuser_at - died_at)
        known.append(one.known_at - died_at)
        network.restart(one.victim)
    return {
        "nodes": size,
        "loss": loss,
        "deaths": deaths,
        "first_accuser_s": quantiles(first),
        "second_accuser_s": quantiles(second),
        "known_to_all_s": quantiles(known),
    }


def quantiles(values: Sequence[float]) -> list[float]:
    """Return the 0th to the 100th percentile, to the millisecond."""
    in_order = sorted(values)
    places = (round(percent / 100 * (len(in_order) - 1)) for percent in range(101))
    return [round(in_order[place], 3) for place in places]


def traffic(seed: int, size: int, loss: float, death_every_s: float, seconds: float) -> Figures:
    """Count what is sent; with `death_every_s`, a node dies every so often and is back after half of that time."""
    network = Network(size, seed, loss)
    network.run(WARM_UP_S)
    meter = network.meter = Meter()
    if death_every_s:
        _let_nodes_die(network, death_every_s)
    network.run(WARM_UP_S + seconds)
    share = 1 / (size * seconds)
    return {
        "nodes": size,
        "loss": loss,
        "death_every_s": death_every_s,
        "messages": meter.messages * share,
        "bytes": meter.size_bytes * share,
        "exchange_messages": meter.exchange_messages * share,
        "exchange_bytes": meter.exchange_bytes * share,
        "kinds": {kind: count * share for kind, count in sorted(meter.kinds.items())},
    }


def _let_nodes_die(network: Network, every_s: float) -> None:
    def die() -> None:
        victim = network.nodes[network.dice.choice(sorted(network.nodes))]
        network.kill(victim)
        network.at(network.now + every_s / 2, partial(network.restart, victim))
        network.at(network.now + every_s, die)

    die()


def stalls(seed: int, size: int, loss: float, stall_s: float, seconds: float) -> Figures:
    """Let one node in ten stall again and again, and count who is called dead although it lives."""
    began_at_s = time.process_time()
    network = Network(size, seed, loss)
    affected = network.dice.sample(sorted(network.nodes), max(1, size // STALL_SHARE))
    network.stall_often(sorted(affected), stall_s, STALL_EVERY_S)
    network.run(seconds)
    return {
        "nodes": size,
        "loss": loss,
        "stall_s": stall_s,
        "hours": seconds / HOUR_S,
        "stalls": network.stalls,
        "refutations": sum(node.machine.counters["refutations"] for node in network.nodes.values()),
        "false_deaths": len(network.false_deaths),
        "believers": sum(network.false_deaths.values()),
        "messages": network.messages,
        "cpu_s": round(time.process_time() - began_at_s, 1),
    }


KINDS: dict[str, Callable[..., Figures]] = {"detection": detection, "traffic": traffic, "stalls": stalls}


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial with its values; `key` names it."""

    key: str
    kind: str
    values: Mapping[str, float]

    def run(self, seed: int) -> Figures:
        """Make the trial."""
        return KINDS[self.kind](seed, **self.values)


SIZES = (10, 100, 1_000)
DEATHS = {10: 1_000, 100: 500, 1_000: 100}
DAY_S = 24 * HOUR_S
STALLED_FOR_S = {
    1.0: {10: DAY_S, 100: DAY_S, 1_000: 600.0},
    2.0: {10: DAY_S, 100: DAY_S, 1_000: 600.0},
    3.0: {10: DAY_S, 100: HOUR_S, 1_000: 120.0},
}
"""How long each trial with stalls lasts: by the length of a stall and the size of the cluster."""

TRIALS = (
    *(
        Trial(f"detection-{size}-{name}", "detection", {"size": size, "loss": loss, "deaths": DEATHS[size]})
        for name, loss in (("rest", 0.0), ("loss", 0.05))
        for size in SIZES
    ),
    *(
        Trial(
            f"traffic-{size}-{name}",
            "traffic",
            {"size": size, "loss": loss, "death_every_s": every_s, "seconds": 600.0},
        )
        for name, loss, every_s in (("rest", 0.0, 0.0), ("loss", 0.05, 0.0), ("churn", 0.0, 60.0))
        for size in SIZES
    ),
    *(
        Trial(
            f"stalls-{size}-{stall_s:.0f}s",
            "stalls",
            {"size": size, "loss": 0.05, "stall_s": stall_s, "seconds": seconds},
        )
        for stall_s, seconds_by_size in STALLED_FOR_S.items()
        for size, seconds in seconds_by_size.items()
    ),
)
