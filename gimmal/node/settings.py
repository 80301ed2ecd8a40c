"""What the core of a node is told when it is made: `gimmal.node.config` read it, and checked it, from all sources."""

from dataclasses import dataclass, field
from typing import Final

from gimmal.cluster.table import Addresses
from gimmal.leader.memory import MemoryLimits
from gimmal.replication.holdings import LOG_BYTES

REPLICAS_DEFAULT: Final = 3
REPLICAS_MAX: Final = 5
"""Copies of each partition, as far as there are nodes."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Who a node is and what it is to do.

    `uuid` (16 bytes) names this start of the process. `peer` and `networks` are the addresses at which others reach
    it; the first network is the default. `seeds` are peer addresses of other nodes. With `expect` above 0 the node
    may found a cluster of that many nodes, of `partitions` partitions with at most `copies` copies; with 0 it never
    does. `on_total_loss` is that of the cluster which it founds; empty for the default. `is_durable` says whether
    what the node saves outlives its process. Of what was written, `log_bytes` are kept for copies that fall behind,
    and as much again for those that get snapshots.
    """

    name: str
    uuid: bytes
    peer: str
    networks: tuple[tuple[str, Addresses], ...]
    zone: str = ""
    weight: int = 1
    seeds: tuple[str, ...] = ()
    expect: int = 1
    partitions: int = 1024
    copies: int = REPLICAS_DEFAULT
    on_total_loss: str = ""
    memory_limits: MemoryLimits = field(default_factory=MemoryLimits)
    is_durable: bool = False
    log_bytes: int = LOG_BYTES
