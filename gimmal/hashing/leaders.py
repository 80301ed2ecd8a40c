"""Which of its holders leads a partition: balanced, with as few hand-overs as can be, and no data moved.

The share of a member is its part of all partitions by weight; it is to lead that many, rounded down or up.

Holders placed by `copies` allow it. Why: group the members by what bounds their copies: a member full by
itself, a zone at one of its bounds, all the rest. Every partition has the same number of holders in each
group, and inside a group copies are in proportion to weight. Members that hold some partitions among
themselves alone are then, in each group, at least that part of its weight, so at least that part of the
whole weight: nothing forces them to lead more than their share. Only rounding is left, and it can matter
when members have a copy or two each. Holders that do not allow it cost no more than they must: as few
partitions as possible are led outside the shares.

It is a minimum-cost flow from partitions to members. Costs, from the dearest: a partition led outside the
shares; a leader that was not leader before; a leader that has yet to receive the data.

Invariant: if the old leaders are balanced over the given holders, they stay.

Source: Harvey et al., "Semi-matchings for bipartite graphs and load balancing" (2006).
"""

from collections.abc import Mapping, Sequence

from gimmal.hashing.flow import Network


def choose_leaders(
    weights: Mapping[str, int], holders: Sequence[Sequence[str]], before: Sequence[Sequence[str]]
) -> list[str]:
    """Return the name of the leader of each partition, one of its holders.

    Args:
        weights: weight of each member.
        holders: for each partition who is to hold it; never empty.
        before: for each partition who held it until now, leader first; may name others.
    """
    partitions = len(holders)
    # Each cost weighs more than all of the cheaper ones together.
    change_cost = partitions + 1
    outside_cost = partitions * (change_cost + 1) + 1

    # Vertices: members, partitions, and one that counts all partitions led.
    number_of = {name: number for number, name in enumerate(weights)}
    counted = len(weights) + partitions
    network = Network(counted + 1)
    load = [0] * len(weights)
    arcs: list[dict[str, int]] = []
    for vertex, (names, old) in enumerate(zip(holders, before, strict=True), start=len(weights)):
        network.excess[vertex] += 1
        arcs.append({})
        for name in names:
            leads = name == old[0]
            cost = 0 if leads else change_cost if name in old else change_cost + 1
            arcs[-1][name] = network.add(vertex, number_of[name], (0, 1), int(leads), cost)
            load[number_of[name]] += leads
    network.excess[counted] -= partitions
    total = sum(weights.values())
    for name, number in number_of.items():
        least, most = partitions * weights[name] // total, -(-partitions * weights[name] // total)
        network.add(number, counted, (least, most), load[number], 0)
        network.add(number, counted, (0, partitions), 0, outside_cost)
        network.add(counted, number, (0, least), 0, outside_cost)
    network.settle()
    return [next(name for name, arc in arc_of.items() if network.carried(arc)) for arc_of in arcs]
