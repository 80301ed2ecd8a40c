"""How a node that is told to stop goes: who could lead in its place, and whether anybody waits for it still."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from gimmal.replication.holdings import Holdings
from gimmal.replication.replica import Replica


class Handover(NamedTuple):
    """A leadership to be given away, under the row that was seen."""

    partition: int
    epoch: int
    version: int
    target: str


def successors(holdings: Holdings) -> Iterator[tuple[Replica, list[str]]]:
    """Yield each copy that leads here, with who could lead in its place, if anybody could."""
    for replica in holdings.replicas.values():
        view = replica.view
        if replica.leading is not None and view is not None:
            names = [member.name for member in view.in_sync if member in view.holders and member != holdings.me]
            if names:
                yield replica, names


def has_left(holdings: Holdings) -> bool:
    """Say whether nothing is led here that others can lead now, or soon: a last copy waits for those that catch up."""
    for replica in holdings.replicas.values():
        view = replica.view
        if replica.leading is not None and view is not None and any(member != holdings.me for member in view.holders):
            return False
    return True


def handovers(holdings: Holdings) -> list[Handover]:
    """Return whom to give everything to that others can lead, spread evenly."""
    given: Counter[str] = Counter()
    found: list[Handover] = []
    for replica, names in successors(holdings):
        view = replica.view
        if view is not None:
            target = min(names, key=lambda name: (given[name], name))
            given[target] += 1
            found.append(Handover(replica.partition, view.epoch, view.version, target))
    return found
