"""Where a key lives: key -> slot -> partition -> members. Pure functions and immutable values, no I/O.

`slots` maps keys to partitions and never changes; `ring` orders members for each partition; `placement`
turns that order into a balanced plan, and a plan into the next one with the fewest moves. The parts of a
plan, `quotas`, `copies`, `leaders` and `flow`, are the room's own business.
"""

from gimmal.hashing.placement import Assignment, Change, plan
from gimmal.hashing.ring import VIRTUAL_NODES_PER_WEIGHT, WEIGHT_MAX, Member, Ring
from gimmal.hashing.slots import SLOTS, check_partitions, key_slot, partition_of

__all__ = [
    "SLOTS",
    "VIRTUAL_NODES_PER_WEIGHT",
    "WEIGHT_MAX",
    "Assignment",
    "Change",
    "Member",
    "Ring",
    "check_partitions",
    "key_slot",
    "partition_of",
    "plan",
]
