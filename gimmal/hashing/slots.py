"""Keys to slots, slots to partitions.

A key belongs to one of 16,384 slots: CRC16 (XMODEM) of the key modulo 16,384, exactly as in Redis Cluster.
If the key holds a `{`, and after it a `}` with at least one byte between, only the bytes between the first
`{` and the first `}` after it are hashed. So `user{42}` and `cart{42}` share a slot, and whoever can route
for Redis Cluster can route for us.

Slots are grouped into partitions by equal runs: with P partitions, partition 0 has the first 16,384 / P
slots. P is a power of two and never changes in the life of a cluster, so a key's partition never changes
either.

Both functions are on the path of every operation and check nothing; `check_partitions` is called once,
where P enters the system.

Source: the Redis Cluster specification, "Key distribution model" and "Hash tags".
"""

from binascii import crc_hqx

SLOTS = 16384
"""Number of slots; a power of two, fixed for ever."""


def key_slot(key: bytes) -> int:
    """Return the slot, 0 to 16383, to which a key belongs."""
    if b"{" in key:
        start = key.find(b"{") + 1
        end = key.find(b"}", start)
        if end > start:
            key = key[start:end]
    return crc_hqx(key, 0) & (SLOTS - 1)


def partition_of(slot: int, partitions: int) -> int:
    """Return the partition, 0 to partitions - 1, that holds a slot; `partitions` has been checked before."""
    return slot // (SLOTS // partitions)


def check_partitions(partitions: int) -> int:
    """Return the number of partitions if a cluster can be cut into so many.

    Raises:
        ValueError: it is not a power of two from 1 to 16384.
    """
    if not 1 <= partitions <= SLOTS or partitions & (partitions - 1):
        raise ValueError(f"partitions must be a power of two from 1 to {SLOTS}, not {partitions}")
    return partitions
