"""The asyncio client. Everything started in one turn of the loop travels as one message per node."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from random import SystemRandom
from types import TracebackType
from typing import Any, Self, TypeVar

from gimmal.client.aio_exchange import AsyncExchange
from gimmal.client.aio_queues import AsyncQueue
from gimmal.client.aio_workers import AsyncConsumer, stop_all
from gimmal.client.attendance import Attendance
from gimmal.client.calls import Call
from gimmal.client.commands import Commands, Consistency, Key, prefix_bytes
from gimmal.client.overview import Cluster
from gimmal.client.pump import check_timeout, parse_seeds
from gimmal.client.queue_arguments import place_of, settings_of
from gimmal.client.scanning import Scan
from gimmal.client.shards import Book, Shards
from gimmal.client.steps import Budget, Plan
from gimmal.client.values import Serializer, Values
from gimmal.errors import ClientClosed

T = TypeVar("T")

_NEVER = float("inf")
_running_loop = asyncio._get_running_loop


class AsyncClient:
    """A cluster, from one event loop. Made by `gimmal.connect_async`, used after `await` or in `async with`.

    Every operation takes `timeout` in seconds (default: the client's) and raises what `gimmal.errors` lists:
    `InvalidArgument` or `TypeError` before anything is sent, a `CommandError` when the cluster refused,
    `Unavailable` when nothing was done, `OperationTimeout` when no answer came in time.
    """

    def __init__(
        self,
        seeds: str | Iterable[str],
        *,
        timeout: float = 5.0,
        network: str | None = None,
        serializer: Serializer | None = None,
    ) -> None:
        self._seeds = parse_seeds(seeds)
        self._timeout = check_timeout(timeout)
        self._network = network
        self._values = Values(serializer)
        self._commands: Commands
        self._book = Book(SystemRandom())
        self._consumers: dict[AsyncConsumer, None] = {}
        self._exchange: AsyncExchange | None = None
        self._connecting: asyncio.Future[None] | None = None
        self._is_closed = False
        self._why_closed = "this client is not connected: use `await gimmal.connect_async(...)` or `async with`"

    # -- life -------------------------------------------------------------------------------------------------

    async def _connect(self) -> Self:
        if self._is_closed:
            raise ClientClosed(self._why_closed)
        if self._exchange is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.ensure_future(self._open())
            try:
                await asyncio.shield(self._connecting)  # several tasks may wait for the one connection
            except asyncio.CancelledError:
                if self._is_closed:
                    raise ClientClosed(self._why_closed) from None
                raise
        return self

    async def _open(self) -> None:
        exchange = AsyncExchange(self._seeds, self._network)
        try:
            partitions = await exchange.connect(self._seeds, self._timeout)
        except BaseException:
            exchange.close("the client could not connect")
            raise
        self._commands = Commands(partitions, self._values)
        self._exchange = exchange

    def __await__(self) -> Generator[Any, None, Self]:
        return self._connect().__await__()

    async def __aenter__(self) -> Self:
        return await self._connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the client; what is under way ends with `ClientClosed`. Closing twice is fine.

        Its consumers are stopped first: what they are handling has up to the client's timeout to come to an end.
        """
        await stop_all(list(self._consumers), self._timeout)
        self._is_closed = True
        self._why_closed = "this client was closed: connect a new one"
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close(self._why_closed)

    def __del__(self) -> None:
        exchange = getattr(self, "_exchange", None)
        if exchange is not None:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            exchange.close_from_anywhere("this client was dropped without close()")

    def _run(self, build: Callable[..., Call[T]], *arguments: Any, timeout: float | None) -> "asyncio.Future[T]":
        exchange = self._exchange
        if exchange is None:
            raise ClientClosed(self._why_closed)
        call = build(self._commands, *arguments)
        return exchange.run(call, self._timeout if timeout is None else check_timeout(timeout))

    async def _carry_out(
        self, make: Callable[[Attendance], Plan[T]], timeout: float | None, *, is_waiting: bool = False
    ) -> T:
        """Carry out a plan. One that waits takes up to `timeout` for each of its steps, others for all of them."""
        exchange = self._exchange
        if exchange is None:
            raise ClientClosed(self._why_closed)
        timeout = self._timeout if timeout is None else check_timeout(timeout)
        return await exchange.carry_out(make(exchange.attendance), Budget(timeout, is_for_each=is_waiting))

    # -- keys -------------------------------------------------------------------------------------------------

    async def set(
        self,
        key: Key,
        value: Any,
        *,
        ttl: float | None = None,
        nx: bool = False,
        xx: bool = False,
        keep_ttl: bool = False,
        if_version: int | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Set a key; False when a condition was not met.

        Conditions: `nx` only if absent, `xx` only if present, `if_version` only if that is its version (0: absent).
        `ttl` is in seconds; without it the key lives for ever, or as long as before with `keep_ttl`.
        """
        flags = (nx, xx, keep_ttl)
        return await self._run(Commands.set, key, value, ttl, flags, if_version, timeout=timeout)

    async def get(
        self,
        key: Key,
        default: Any = None,
        *,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> Any:
        """Return a key's value, or `default` when there is no such key."""
        return await self._run(Commands.get, key, default, consistency, timeout=timeout)

    async def get_versioned(self, key: Key, *, timeout: float | None = None) -> tuple[Any, int] | None:
        """Return (value, version), or None when there is no such key."""
        return await self._run(Commands.get_versioned, key, timeout=timeout)

    async def delete(self, key: Key, *, timeout: float | None = None) -> bool:
        """Delete a key; False when there was none."""
        return await self._run(Commands.delete, key, timeout=timeout)

    async def exists(
        self, key: Key, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> bool:
        """Say whether a key exists."""
        return await self._run(Commands.exists, key, consistency, timeout=timeout)

    async def ttl(self, key: Key, *, consistency: Consistency = "linearizable", timeout: float | None = None) -> float:
        """Return the seconds a key has left; -1 when it does not expire, -2 when there is no such key."""
        return await self._run(Commands.ttl, key, consistency, timeout=timeout)

    async def expire(self, key: Key, ttl: float, *, timeout: float | None = None) -> bool:
        """Let a key expire in `ttl` seconds; False when there is no such key."""
        return await self._run(Commands.expire, key, ttl, timeout=timeout)

    async def persist(self, key: Key, *, timeout: float | None = None) -> bool:
        """Let a key live for ever; False when it already did, or does not exist."""
        return await self._run(Commands.persist, key, timeout=timeout)

    async def incr(self, key: Key, amount: int = 1, *, timeout: float | None = None) -> int:
        """Add to a counter and return it; a missing key counts as 0 and an expiry is kept.

        Raises:
            NotAnInteger: the key holds something else.
            IntegerOverflow: the sum leaves signed 64 bits; the counter keeps its value.
        """
        return await self._run(Commands.incr, key, amount, timeout=timeout)

    async def decr(self, key: Key, amount: int = 1, *, timeout: float | None = None) -> int:
        """Subtract from a counter and return it; otherwise as `incr`."""
        return await self._run(Commands.decr, key, amount, timeout=timeout)

    async def get_many(
        self,
        keys: Iterable[Key],
        *,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> dict[Any, Any]:
        """Return the values of the keys that exist. Atomic per partition only.

        An error carries `done` (what was found elsewhere) and `failed` (key -> error).
        """
        return await self._run(Commands.get_many, keys, consistency, timeout=timeout)

    async def set_many(
        self, mapping: Mapping[Any, Any], ttl: float | None = None, *, timeout: float | None = None
    ) -> int:
        """Set many keys and return how many. Atomic per partition only.

        An error carries `done` (the keys set) and `failed` (key -> error).
        """
        return await self._run(Commands.set_many, mapping, ttl, timeout=timeout)

    async def delete_many(self, keys: Iterable[Key], *, timeout: float | None = None) -> int:
        """Delete many keys and return how many there were. Atomic per partition only; errors as `set_many`."""
        return await self._run(Commands.delete_many, keys, timeout=timeout)

    async def scan(self, prefix: Key = "", *, timeout: float | None = None) -> AsyncIterator[Any]:
        """Iterate over the keys of the whole cluster that start with `prefix`, in no order.

        Keys come as str, or as bytes when they are not UTF-8 or the prefix is bytes. A key present throughout
        comes at least once. `timeout` is per page.
        """
        if self._exchange is None:
            raise ClientClosed(self._why_closed)
        scan = Scan(prefix_bytes(prefix), self._exchange.partitions, as_bytes=isinstance(prefix, bytes))
        while scan.is_open:
            pages = await self._run(Commands.scan_pages, scan.next_pages(), scan.prefix, timeout=timeout)
            for key in scan.take(pages):
                yield key

    # -- queues -----------------------------------------------------------------------------------------------

    def queue(
        self,
        name: Key,
        *,
        max_retries: int | None = None,
        lease: float | None = None,
        backoff: float | None = None,
        backoff_max: float | None = None,
        shards: int | None = None,
        max_length: int | None = None,
    ) -> AsyncQueue:
        """Return a queue by its name. Nothing is sent yet: the first operation declares the queue if there is none.

        A setting that is None is as the queue has it; a new queue gets `max_retries=3`, `lease=30.0`, `backoff=0.5`,
        `backoff_max=300.0` (seconds), `shards=1` and no `max_length`. A setting that is given and differs from that of
        the queue makes its operations raise `QueueSettingsMismatch`. A name with a `{tag}` needs `shards=1` and is
        placed as a key of that name is.
        """
        place = place_of(name)
        given = settings_of(place, (max_retries, shards, max_length), (lease, backoff, backoff_max))
        return AsyncQueue(self, Shards(place, given, self._book))

    # -- the cluster ------------------------------------------------------------------------------------------

    async def cluster(self, *, timeout: float | None = None) -> Cluster:
        """Return the nodes and partitions, by the newest table that this client or the node it asks knows of.

        One that does not answer is passed over for another.
        """
        if self._exchange is None:
            raise ClientClosed(self._why_closed)
        return await self._exchange.overview(self._timeout if timeout is None else check_timeout(timeout))

    async def counters(self) -> dict[str, int]:
        """Return what this client has counted, by name.

        `redirects` and `overloaded` are refusals, `resent_reads` and `resent_writes` attempts after the first,
        `sessions_opened` and `sessions_expired` what its writes needed, `problems` and `protocol_errors` complaints.
        """
        if self._exchange is None:
            raise ClientClosed(self._why_closed)
        return dict(self._exchange.session.counters)


def connect_async(
    seeds: str | Iterable[str],
    *,
    timeout: float = 5.0,
    network: str | None = None,
    serializer: Serializer | None = None,
) -> AsyncClient:
    """Return a client for asyncio: `async with gimmal.connect_async("127.0.0.1:7700") as db`, or `await` it.

    `seeds` are client addresses of any nodes. `timeout` is the default of every operation, in seconds (at most
    60). `network` picks one of the nodes' named address sets; by default the one in which the seed appears.
    `serializer` has `dumps` to bytes and `loads`; by default msgpack.

    Raises:
        NoRoute: no seed gave a cluster table within `timeout` (when awaited).
        InvalidArgument: a seed is not `host:port`, or the timeout is out of range.
    """
    return AsyncClient(seeds, timeout=timeout, network=network, serializer=serializer)
