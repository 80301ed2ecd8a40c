"""The queues of one partition: what is ready, delayed, in flight and dead, for each consumer group. No clock, no I/O.

Queues          the shards of a partition, by the key that places them; the handlers of all queue commands
└ Shard         settings, messages, dedup ids
  └ Group       where each message stands for one consumer group
    └ Delivery  what became of a message that was given away at least once
"""

from gimmal.store.queues.handlers import READS, WRITES
from gimmal.store.queues.shard import Queues, Settings, Shard

__all__ = ["READS", "WRITES", "Queues", "Settings", "Shard"]
