"""Which of its holders leads a partition: balanced, with as few hand-overs as can be, and no data moved.

The fair share of a member is its part of all partitions by weight, and it is to lead that many, rounded
down or up. The holders of the partitions may not allow it: members that hold some partitions among
themselves alone must lead them. Then the members fall into classes. The class with the heaviest forced load
leads exactly the partitions that only its members hold, and shares them by weight; the rest is shared among
the others, in the same manner. What comes out is the most even sharing there is: a member's load can be
lowered only by raising that of another that carries at least as much per unit of weight.

Each class is settled by a minimum-cost flow from partitions to members. Costs, from the dearest: a leader
that was not leader before; one that has yet to receive the data.

Invariant: if the old leaders are balanced over the given holders, they stay.

Source: Harvey et al., "Semi-matchings for bipartite graphs and load balancing" (2006); the classes are
Fujishige's decomposition for lexicographically optimal bases (1980).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gimmal.hashing.flow import Network


@dataclass(frozen=True, slots=True)
class _Class:
    """Members that share the lead of some partitions among themselves."""

    names: list[str]
    candidates: dict[int, list[str]]
    """For each partition of the class its holders in the class; never empty."""


def choose_leaders(
    weights: Mapping[str, int], holders: Sequence[Sequence[str]], before: Sequence[Sequence[str]]
) -> list[str]:
    """Return the name of the leader of each partition, one of its holders.

    Args:
        weights: weight of each member.
        holders: for each partition who is to hold it; never empty.
        before: for each partition who held it until now, leader first; may name others.
    """
    everyone = _Class(list(weights), {partition: list(names) for partition, names in enumerate(holders)})
    leaders = _elect(everyone, weights, before)
    if leaders is None:
        leaders = {}
        pending = [everyone]
        while pending:
            group = pending.pop()
            parts = _split(group, weights)
            if parts is not None:
                pending += parts
                continue
            elected = _elect(group, weights, before)
            assert elected is not None, "fair shares that can be led in fractions can be led rounded"
            leaders.update(elected)
    return [leaders[partition] for partition in range(len(holders))]


def _elect(
    group: _Class, weights: Mapping[str, int], before: Sequence[Sequence[str]]
) -> dict[int, str] | None:
    """Return the leader of each partition, every member leading its share rounded; None if impossible."""
    index = {name: number for number, name in enumerate(group.names)}
    counted = len(group.names) + len(group.candidates)
    network = Network(counted + 1)
    change_cost = len(group.candidates) + 1  # a change weighs more than all the leaders without data
    load = [0] * len(group.names)
    arcs: dict[int, dict[str, int]] = {}
    for vertex, (partition, names) in enumerate(group.candidates.items(), start=len(group.names)):
        old = before[partition]
        network.excess[vertex] += 1
        arcs[partition] = {}
        for name in names:
            leads = bool(old) and name == old[0]
            cost = 0 if leads else change_cost if name in old else change_cost + 1
            arcs[partition][name] = network.add(vertex, index[name], (0, 1), int(leads), cost)
            load[index[name]] += leads
    network.excess[counted] -= len(group.candidates)
    weight = sum(weights[name] for name in group.names)
    for number, name in enumerate(group.names):
        share = len(group.candidates) * weights[name]
        network.add(number, counted, (share // weight, -(-share // weight)), load[number], 0)
    if not network.settle():
        return None
    return {
        partition: next(name for name, arc in arc_of.items() if network.carried(arc))
        for partition, arc_of in arcs.items()
    }


def _split(group: _Class, weights: Mapping[str, int]) -> tuple[_Class, _Class] | None:
    """Cut off the members that must lead more than their share; None if everyone can lead exactly its share.

    Shares are fractions, so all is counted in units of 1 / (weight of the class): a partition brings as many
    units as the class weighs, and a member may take as many per unit of its weight as there are partitions.
    """
    index = {name: number for number, name in enumerate(group.names)}
    counted = len(group.names) + len(group.candidates)
    network = Network(counted + 1)
    weight = sum(weights[name] for name in group.names)
    load = [0] * len(group.names)
    for vertex, names in enumerate(group.candidates.values(), start=len(group.names)):
        network.excess[vertex] += weight
        for name in names:
            taken = weight if name == names[0] else 0
            network.add(vertex, index[name], (0, weight), taken, 0)
            load[index[name]] += taken
    network.excess[counted] -= weight * len(group.candidates)
    for number, name in enumerate(group.names):
        share = len(group.candidates) * weights[name]
        network.add(number, counted, (0, share), load[number], 0)
    if network.settle():
        return None
    forced = network.within_reach_of_excess()
    heavy = [name for name in group.names if forced[index[name]]]
    light = [name for name in group.names if not forced[index[name]]]
    heavy_candidates = {}
    light_candidates = {}
    for vertex, (partition, names) in enumerate(group.candidates.items(), start=len(group.names)):
        if forced[vertex]:
            heavy_candidates[partition] = names
        else:
            light_candidates[partition] = [name for name in names if not forced[index[name]]]
    return _Class(heavy, heavy_candidates), _Class(light, light_candidates)
