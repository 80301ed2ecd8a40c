"""What the table says of one partition, as its copies need it: who leads, who holds, who is in sync, since when."""

from typing import NamedTuple

from gimmal.types import Incarnation


class View(NamedTuple):
    """One row of the table, joined with the lives of the nodes it names.

    `epoch` (leader epoch) rises with every change of leader, `version` with every change of the row. `holders` are the
    nodes that are to have a copy and are not fenced, each in the life that is registered. `least` is how many copies
    must be in sync before anything commits. What was written under epochs below `reset_epoch` does not count any more,
    but for what the copy of `survivor` has of it; if there is none, the partition has started empty.
    """

    epoch: int
    version: int
    leader: Incarnation | None
    holders: tuple[Incarnation, ...]
    in_sync: tuple[Incarnation, ...]
    least: int
    reset_epoch: int = 0
    survivor: str = ""
