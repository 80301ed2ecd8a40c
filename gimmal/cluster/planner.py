"""The plan of a new cluster: who holds what, and who votes, from the nodes that found it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gimmal.cluster.meta.commands import FOUND, REFUSE, START_EMPTY, Registration
from gimmal.cluster.meta.steward import voters_wanted
from gimmal.cluster.raft import Configuration
from gimmal.hashing import Member, plan


def founding_command(
    cluster: bytes, members: Sequence[Registration], partitions: int, copies: int, on_total_loss: str = ""
) -> tuple[Any, ...]:
    """Return the FOUND command of a cluster of these nodes, each partition with `copies` holders if there are so many.

    What all copies have lost starts again empty if there is but one copy of each anyway, unless `on_total_loss` says.

    Raises:
        ValueError: the numbers make no cluster.
    """
    members = sorted(members)
    copies = min(copies, len(members))
    assignment = plan([Member(node.name, node.weight, node.zone) for node in members], partitions, copies)
    number_by_name = {node.name: number for number, node in enumerate(members)}
    holders = tuple(tuple(number_by_name[name] for name in names) for names in assignment.replicas)
    on_total_loss = on_total_loss or (START_EMPTY if copies == 1 else REFUSE)
    return (FOUND, cluster, copies, on_total_loss, tuple(map(tuple, members)), holders)


def founding_configuration(members: Sequence[Registration]) -> Configuration:
    """Return the first voters: the founder, which comes first, then others by name, from as many zones as there are.

    Of two members both vote until they are registered. If the founder alone were a majority, it could lead a cluster of
    which nobody else has ever heard, and the other might found one with somebody else.
    """
    voters, others = [members[0]], sorted(members[1:])
    wanted = 2 if len(members) == 2 else voters_wanted(len(members))
    while len(voters) < wanted:
        zones = Counter(voter.zone for voter in voters)
        chosen = min(others, key=lambda node: (zones[node.zone], node.name))
        others.remove(chosen)
        voters.append(chosen)
    return Configuration(tuple(node.voter for node in voters), ())
