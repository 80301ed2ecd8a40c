"""The redis-py clients of the benchmark: RedisCluster, blocking and asyncio, with hiredis, at their best.

Settings that were tried with redis-py 8.1, hiredis 3.5 and Redis 7.0 on a noisy 2-core machine, 100-byte
values. Figures are client CPU per operation, medians of 6 to 12 rounds; differences below 10 % are noise.

- `protocol=2`: serial GET 111 us, against 128 us with the default.
- `socket_timeout=None`: serial GET 92 us, against 111 us with the default of 5 s; asyncio rows between no
  difference and 17 % less. gimmal keeps its own default of 5 s per operation.
- A gate of 32 operations in flight: 200 tasks GET 50 us and SET 55 us, against 57 and 60 us without one. 24
  did as well, 64 gained nothing, 16 was slower. For 50 tasks it made no clear difference. It also stays below
  max_connections (100 per node by default), beyond which redis-py raises MaxConnectionsError.
- `legacy_responses=False` and a larger `socket_read_size` showed no gain (3 rounds each).

`set_held`, a SET that a replica has too, is SET and WAIT 1 sent together on one connection to the key's master:
one round trip and no search for a node per command, which is the least that redis-py can do for it.

What is not used: `mget_nonatomic`, which sends one MGET per slot and read batches of 100 about 1.3 x as fast
as the pipeline of GETs that the benchmark's target names (77 k/s against 59 k/s).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from benchmarks.processes import LOOPBACK
from benchmarks.stores import AsyncStore, SyncStore

IN_FLIGHT_MAX = 32


def connect(port: int) -> SyncStore:
    """Connect a blocking RedisCluster through the node at `port`; batches are pipelines."""
    client: Any = RedisCluster(host=LOOPBACK, port=port, protocol=2, socket_timeout=None)

    def set_held(key: str, value: bytes) -> bool:
        master = client.get_node_from_key(key).redis_connection
        pipeline = master.pipeline(transaction=False)
        pipeline.set(key, value)
        pipeline.execute_command("WAIT", 1, 0)
        is_set, replicas_count = pipeline.execute()
        return bool(is_set) and replicas_count >= 1

    def get_many(keys: Sequence[str]) -> list[bytes | None]:
        pipeline = client.pipeline()
        for key in keys:
            pipeline.get(key)
        values: list[bytes | None] = pipeline.execute()
        return values

    def set_many(items: Mapping[str, bytes]) -> int:
        pipeline = client.pipeline()
        for key, value in items.items():
            pipeline.set(key, value)
        return sum(map(bool, pipeline.execute()))

    return SyncStore(client.get, client.set, set_held, get_many, set_many, client.close)


async def connect_async(port: int) -> AsyncStore:
    """Connect an asyncio RedisCluster through the node at `port`."""
    client: Any = AsyncRedisCluster(host=LOOPBACK, port=port, protocol=2, socket_timeout=None)
    await client.initialize()
    gate = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def get(key: str) -> bytes | None:
        async with gate:
            value: bytes | None = await client.get(key)
            return value

    async def set_(key: str, value: bytes) -> bool:
        async with gate:
            return bool(await client.set(key, value))

    return AsyncStore(get, set_, client.aclose)
