"""The asyncio client. Everything started in one turn of the loop travels as one message per node."""

import asyncio
import os
import time
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from gimmal.client.calls import Call
from gimmal.client.commands import Commands, Consistency, Key, prefix_bytes
from gimmal.client.overview import Cluster, overview
from gimmal.client.pump import Pump, check_timeout, no_table, parse_seeds
from gimmal.client.scanning import Scan
from gimmal.client.values import Serializer, Values
from gimmal.errors import ClientClosed, GimmalError

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
        self._exchange: _Exchange | None = None
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
        exchange = _Exchange(self._seeds, self._network)
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
        """End the client; what is under way ends with `ClientClosed`. Closing twice is fine."""
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


class _Exchange:
    """The pump, driven by the running event loop."""

    def __init__(self, seeds: tuple[str, ...], network: str | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._pump = Pump(seeds, network)
        self.session = self._pump.session
        self._descriptors: set[int] = set()
        self._is_flush_due = False
        self._may_wait = True
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER
        self._table_arrived: asyncio.Future[None] = self._loop.create_future()
        self._why_closed: str | None = None

    @property
    def partitions(self) -> int:
        table = self.session.table
        return len(table.partitions) if table is not None else 0

    async def connect(self, seeds: tuple[str, ...], timeout: float) -> int:
        """Return the number of partitions of the cluster that was found."""
        self._update_sockets()
        self._arm_timer()
        try:
            async with asyncio.timeout(timeout):
                await self._table_arrived
        except TimeoutError:
            raise no_table(self.session, seeds, timeout) from None
        return self.partitions

    def run(self, call: Call[T], timeout: float) -> "asyncio.Future[T]":
        """Start a call; the future has its outcome."""
        if self._why_closed is not None:
            raise ClientClosed(self._why_closed)
        if _running_loop() is not self._loop:
            raise ClientClosed("this client belongs to another event loop or process: connect a new one there")
        future = call.waiter = self._loop.create_future()
        if not call.open_count:
            future.set_result(call.outcome())
            return future
        session = self.session
        session.start(call, timeout, time.monotonic())
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)
        return future

    async def overview(self, timeout: float) -> Cluster:
        """Ask a node for news; return the cluster as this client sees it then."""
        await self.run(Call.of_onlooker(), timeout)
        if self._why_closed is not None:
            raise ClientClosed(self._why_closed)
        self._pump.update_readiness()
        for address in self._pump.with_news(self.session.links):
            self._loop.call_soon(self._look, address)
        return overview(self.session)

    def close(self, why: str) -> None:
        if self._why_closed is not None:
            return
        if self._pid != os.getpid():  # all this is the parent's: even its selector is shared with it
            self._why_closed = why
            return
        if _running_loop() is not self._loop and self._loop.is_running():
            self._loop.call_soon_threadsafe(self.close, why)
            return
        self._why_closed = why
        if self._loop.is_closed():  # with it went everybody who waited
            self._pump.close()
            return
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
        self._settle(self.session.abort(why))
        self._pump.close()

    def close_from_anywhere(self, why: str) -> None:
        """Close in the loop's own thread, if the loop still runs: the garbage collector may call from any."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.close, why)

    # -- turns ------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._why_closed is not None:
            return
        if self._may_wait and self.session.has_in_flight():
            self._may_wait = False  # answers that come meanwhile bring more operations: let them travel along
            self._loop.call_soon(self._flush)
            return
        self._may_wait = True
        self._is_flush_due = False
        for address in self._pump.with_news(self._pump.flush()):
            self._loop.call_soon(self._look, address)
        self._arm_timer()

    def _look(self, address: str) -> None:
        if self._why_closed is not None:
            return
        try:
            finished, has_more = self._pump.look(address)
            self._update_sockets()
        except GimmalError as error:  # the cluster that was found is not the one asked for
            if self._table_arrived.done():
                raise
            self._table_arrived.set_exception(error)
            return
        self._settle(finished)
        if has_more:
            self._loop.call_soon(self._look, address)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, _NEVER
        if self._why_closed is None:
            self._settle(self.session.tick(time.monotonic()))
            self._may_wait = False
            self._flush()

    def _arm_timer(self) -> None:
        at = self.session.next_deadline()
        if at >= self._timer_at:
            return  # it fires early, finds nothing to do, and is set anew
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._tick)

    def _update_sockets(self) -> None:
        changed = self._pump.update_sockets()
        if changed is None:
            return
        opened, closed = changed
        for descriptor in closed:
            self._loop.remove_reader(descriptor)
            self._descriptors.discard(descriptor)
        for address, descriptor in opened.items():
            self._loop.add_reader(descriptor, self._look, address)
            self._descriptors.add(descriptor)
            self._loop.call_soon(self._look, address)

    def _settle(self, finished: list[Call[Any]]) -> None:
        if self.session.table is not None and not self._table_arrived.done():
            self._table_arrived.set_result(None)
        for call in finished:
            future = call.waiter
            if future.done():
                continue  # its task was cancelled
            try:
                outcome = call.decode(call.results) if call.errors is None else call.outcome()
            except StopIteration as error:  # a future does not take it
                future.set_exception(RuntimeError(f"the serializer raised {error!r}"))
            except Exception as error:  # noqa: BLE001 - a user's serializer may raise anything
                future.set_exception(error)
            else:
                future.set_result(outcome)
