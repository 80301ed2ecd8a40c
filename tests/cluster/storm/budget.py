"""Whether a node may crash now without any acknowledged write being lost, which is the promise that is tested.

Of each partition a copy has to be left that was in sync and has not restarted: it has everything. And of the meta
group's voters most have to be left, because one without a data directory is nobody any more when it starts again.
"""

from collections.abc import Mapping

from gimmal.client.overview import VOTER, Cluster

COPIES = 3


def why_not_whole(seen: Cluster, incarnations: Mapping[str, int]) -> str:
    """Say what is missing until every copy is in sync, by the table and by the nodes' own words; "" if nothing is.

    `incarnations` are those that the nodes which run say they have: a table may still name the life before.
    """
    for node in seen.nodes:
        if node.state != "alive":
            return f"{node.name} is {node.state}"
        if incarnations.get(node.name) != node.incarnation:
            return f"{node.name} is incarnation {incarnations.get(node.name)}, and in the table {node.incarnation}"
    short = [number for number, row in enumerate(seen.partitions) if len(row.in_sync) < COPIES or row.leader is None]
    if short:
        row = seen.partitions[short[0]]
        return (
            f"{len(short)} partitions have too few copies in sync, such as {short[0]}: led by {row.leader}, in sync "
            f"{', '.join(row.in_sync)} of {', '.join(row.replicas)}"
        )
    voters = [node.name for node in seen.nodes if node.role == VOTER]
    if len(voters) < COPIES:
        return f"the meta group has {len(voters)} voters"
    return ""


def pair_to_kill(seen: Cluster, preferred: tuple[str, ...], spared: str) -> tuple[str, str] | None:
    """Return two nodes that may be killed at once when all is whole; `spared`, which leads the meta group, is not."""
    voters = {node.name for node in seen.nodes if node.role == VOTER}
    candidates = [name for name in preferred if name != spared]
    for position, first in enumerate(candidates):
        for second in candidates[position + 1 :]:
            if not voters.issuperset((first, second)):
                return first, second
    return None


def survives(seen: Cluster, victims: tuple[str, ...]) -> bool:
    """Say whether each partition has a copy in sync besides those of the victims."""
    return all(set(row.in_sync) - set(victims) for row in seen.partitions)


def spread_of_leaders(seen: Cluster) -> int:
    """Return by how many partitions the node that leads most differs from the one that leads fewest."""
    led = [node.partitions_led for node in seen.nodes]
    return max(led) - min(led)
