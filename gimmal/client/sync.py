"""The client for threads: the same calls as `gimmal.client.aio`, each waiting for its answer."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from random import SystemRandom
from types import TracebackType
from typing import Any, Self, TypeVar

from gimmal.client.attendance import Attendance
from gimmal.client.calls import Call
from gimmal.client.commands import Commands, Consistency, Key, prefix_bytes
from gimmal.client.exchange import Exchange
from gimmal.client.mapping import KeyMap
from gimmal.client.overview import Cluster
from gimmal.client.pump import check_timeout, parse_seeds
from gimmal.client.queue_arguments import place_of, settings_of
from gimmal.client.queues import Queue
from gimmal.client.scanning import Scan
from gimmal.client.shards import Book, Shards
from gimmal.client.steps import Budget, Plan, Stopper
from gimmal.client.values import Serializer, Values
from gimmal.client.workers import Consumer, stop_all
from gimmal.errors import ClientClosed

T = TypeVar("T")


class Client:
    """A cluster, for any number of threads. Made by `gimmal.connect`; a context manager.

    Fork-safe: a child process that uses it connects anew. Every operation takes `timeout` in seconds (default:
    the client's) and raises what `gimmal.errors` lists: `InvalidArgument` or `TypeError` before anything is
    sent, a `CommandError` when the cluster refused, `Unavailable` when nothing was done, `OperationTimeout` when
    no answer came in time.
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
        self._is_closed = False
        self._exchange = Exchange(self._seeds, network, self._timeout)
        self._pid = os.getpid()
        self._fork_locks: dict[int, threading.Lock] = {}  # by process: a fork may inherit a lock that is held
        self._values = Values(serializer)
        self._commands = Commands(self._exchange.partitions, self._values)
        self._book = Book(SystemRandom())
        self._consumers: dict[Consumer, None] = {}

    # -- life -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the client; calls of other threads end with `ClientClosed`. Closing twice is fine.

        Its consumers are stopped first: what they are handling has up to the client's timeout to come to an end.
        """
        if self._pid == os.getpid():
            stop_all(list(self._consumers), self._timeout)
        self._is_closed = True
        if self._pid == os.getpid():
            self._exchange.close("this client was closed: connect a new one")

    def _current_exchange(self, timeout: float | None = None) -> Exchange:
        if self._is_closed:
            raise ClientClosed("this client was closed: connect a new one")
        pid = os.getpid()
        if self._pid != pid:
            with self._fork_locks.setdefault(pid, threading.Lock()):
                if self._pid != pid:
                    self._exchange = self._exchange.replacement_after_fork(
                        self._seeds, self._network, self._timeout if timeout is None else timeout
                    )
                    self._consumers = {}  # their threads are the parent's
                    self._pid = pid
        return self._exchange

    def _run(self, build: Callable[..., Call[T]], *arguments: Any, timeout: float | None) -> T:
        call = build(self._commands, *arguments)
        timeout = self._timeout if timeout is None else check_timeout(timeout)
        return self._current_exchange(timeout).run(call, timeout)

    def _carry_out(
        self,
        make: Callable[[Attendance], Plan[T]],
        timeout: float | None,
        *,
        is_waiting: bool = False,
        stopper: Stopper | None = None,
    ) -> T:
        """Carry out a plan. One that waits takes up to `timeout` for each of its steps, others for all of them."""
        timeout = self._timeout if timeout is None else check_timeout(timeout)
        exchange = self._current_exchange(timeout)
        return exchange.carry_out(make(exchange.attendance), Budget(timeout, is_for_each=is_waiting), stopper)

    # -- keys -------------------------------------------------------------------------------------------------

    def set(
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
        return self._run(Commands.set, key, value, ttl, flags, if_version, timeout=timeout)

    def get(
        self,
        key: Key,
        default: Any = None,
        *,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> Any:
        """Return a key's value, or `default` when there is no such key."""
        return self._run(Commands.get, key, default, consistency, timeout=timeout)

    def get_versioned(self, key: Key, *, timeout: float | None = None) -> tuple[Any, int] | None:
        """Return (value, version), or None when there is no such key."""
        return self._run(Commands.get_versioned, key, timeout=timeout)

    def delete(self, key: Key, *, timeout: float | None = None) -> bool:
        """Delete a key; False when there was none."""
        return self._run(Commands.delete, key, timeout=timeout)

    def exists(self, key: Key, *, consistency: Consistency = "linearizable", timeout: float | None = None) -> bool:
        """Say whether a key exists."""
        return self._run(Commands.exists, key, consistency, timeout=timeout)

    def ttl(self, key: Key, *, consistency: Consistency = "linearizable", timeout: float | None = None) -> float:
        """Return the seconds a key has left; -1 when it does not expire, -2 when there is no such key."""
        return self._run(Commands.ttl, key, consistency, timeout=timeout)

    def expire(self, key: Key, ttl: float, *, timeout: float | None = None) -> bool:
        """Let a key expire in `ttl` seconds; False when there is no such key."""
        return self._run(Commands.expire, key, ttl, timeout=timeout)

    def persist(self, key: Key, *, timeout: float | None = None) -> bool:
        """Let a key live for ever; False when it already did, or does not exist."""
        return self._run(Commands.persist, key, timeout=timeout)

    def incr(self, key: Key, amount: int = 1, *, timeout: float | None = None) -> int:
        """Add to a counter and return it; a missing key counts as 0 and an expiry is kept.

        Raises:
            NotAnInteger: the key holds something else.
            IntegerOverflow: the sum leaves signed 64 bits; the counter keeps its value.
        """
        return self._run(Commands.incr, key, amount, timeout=timeout)

    def decr(self, key: Key, amount: int = 1, *, timeout: float | None = None) -> int:
        """Subtract from a counter and return it; otherwise as `incr`."""
        return self._run(Commands.decr, key, amount, timeout=timeout)

    def get_many(
        self,
        keys: Iterable[Key],
        *,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> dict[Any, Any]:
        """Return the values of the keys that exist. Atomic per partition only.

        An error carries `done` (what was found elsewhere) and `failed` (key -> error).
        """
        return self._run(Commands.get_many, keys, consistency, timeout=timeout)

    def set_many(self, mapping: Mapping[Any, Any], ttl: float | None = None, *, timeout: float | None = None) -> int:
        """Set many keys and return how many. Atomic per partition only.

        An error carries `done` (the keys set) and `failed` (key -> error).
        """
        return self._run(Commands.set_many, mapping, ttl, timeout=timeout)

    def delete_many(self, keys: Iterable[Key], *, timeout: float | None = None) -> int:
        """Delete many keys and return how many there were. Atomic per partition only; errors as `set_many`."""
        return self._run(Commands.delete_many, keys, timeout=timeout)

    def scan(self, prefix: Key = "", *, timeout: float | None = None) -> Iterator[Any]:
        """Iterate over the keys of the whole cluster that start with `prefix`, in no order.

        Keys come as str, or as bytes when they are not UTF-8 or the prefix is bytes. A key present throughout
        comes at least once. `timeout` is per page.
        """
        partitions = self._current_exchange().partitions
        scan = Scan(prefix_bytes(prefix), partitions, as_bytes=isinstance(prefix, bytes))
        while scan.is_open:
            yield from scan.take(self._run(Commands.scan_pages, scan.next_pages(), scan.prefix, timeout=timeout))

    def map(self, prefix: str = "") -> MutableMapping[str, Any]:
        """Return the keys under a prefix as a mutable mapping; its keys are without the prefix."""
        return KeyMap(self, prefix)

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
    ) -> Queue:
        """Return a queue by its name. Nothing is sent yet: the first operation declares the queue if there is none.

        A setting that is None is as the queue has it; a new queue gets `max_retries=3`, `lease=30.0`, `backoff=0.5`,
        `backoff_max=300.0` (seconds), `shards=1` and no `max_length`. A setting that is given and differs from that of
        the queue makes its operations raise `QueueSettingsMismatch`. A name with a `{tag}` needs `shards=1` and is
        placed as a key of that name is.
        """
        place = place_of(name)
        given = settings_of(place, (max_retries, shards, max_length), (lease, backoff, backoff_max))
        return Queue(self, Shards(place, given, self._book))

    # -- the cluster ------------------------------------------------------------------------------------------

    def cluster(self, *, timeout: float | None = None) -> Cluster:
        """Return the nodes and partitions, by the newest table that this client or the node it asks knows of.

        One that does not answer is passed over for another.
        """
        timeout = self._timeout if timeout is None else check_timeout(timeout)
        return self._current_exchange(timeout).overview(timeout)

    def counters(self) -> dict[str, int]:
        """Return what this client has counted, by name.

        `redirects` and `overloaded` are refusals, `resent_reads` and `resent_writes` attempts after the first,
        `sessions_opened` and `sessions_expired` what its writes needed, `problems` and `protocol_errors` complaints.
        """
        return dict(self._current_exchange().session.counters)


def connect(
    seeds: str | Iterable[str],
    *,
    timeout: float = 5.0,
    network: str | None = None,
    serializer: Serializer | None = None,
) -> Client:
    """Connect to a cluster and return a thread-safe client: `gimmal.connect("127.0.0.1:7700,127.0.0.1:7710")`.

    `seeds` are client addresses of any nodes. `timeout` is the default of every operation, in seconds (at most
    60). `network` picks one of the nodes' named address sets; by default the one in which the seed appears.
    `serializer` has `dumps` to bytes and `loads`; by default msgpack.

    Raises:
        NoRoute: no seed gave a cluster table within `timeout`.
        InvalidArgument: a seed is not `host:port`, or the timeout is out of range.
    """
    return Client(seeds, timeout=timeout, network=network, serializer=serializer)
