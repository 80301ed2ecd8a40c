"""A queue, for asyncio: the same calls as `gimmal.client.queues`, as coroutines."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from gimmal.client import inspecting, producing, settling
from gimmal.client.aio_workers import AsyncConsumer
from gimmal.client.attendance import Attendance
from gimmal.client.commands import Key
from gimmal.client.consuming import Consume, wish_of
from gimmal.client.queue_arguments import (
    DEFAULT_GROUP,
    count_of,
    delay_to_ms,
    lease_to_ms,
    name_bytes,
    reason_bytes,
)
from gimmal.client.queue_types import DeadLetter, Message
from gimmal.client.shards import Shards
from gimmal.client.steps import Plan
from gimmal.client.workers import Handler, Work
from gimmal.wire import queue_commands as wire

if TYPE_CHECKING:
    from gimmal.client.aio import AsyncClient

T = TypeVar("T")

_GROUP = "the name of a group"


class AsyncQueue:
    """A queue of messages, delivered at least once. Made by `AsyncClient.queue`; any number of tasks may use it.

    A message is given to one consumer of each group at a time, for as long as its lease lasts. What is acknowledged is
    never delivered again. What fails, by a nack, by a lease that ran out or with a consumer that vanished, comes back
    after a pause that doubles each time, and is a dead letter when it has failed `max_retries` times.

    A client tells the nodes once a second that it lives, from a thread of its own, so it may work on a message for as
    long as the lease lasts. A handler that keeps the interpreter to itself for more than 5 s (in a call of an extension
    that does not release the GIL) silences that thread: its messages are given to others, and count as failed.

    Every operation takes `timeout` in seconds (default: the client's) and raises what those on keys do, or
    `QueueSettingsMismatch` if the queue has other settings than those given.
    """

    def __init__(self, client: "AsyncClient", shards: Shards) -> None:
        self._client = client
        self._shards = shards

    def __repr__(self) -> str:
        return f"<queue {self.name!r}>"

    @property
    def name(self) -> Any:
        """The queue's name."""
        return self._shards.name

    async def _run(self, make: Callable[[Attendance], Plan[T]], timeout: float | None) -> T:
        return await self._client._carry_out(make, timeout)

    # -- producing --------------------------------------------------------------------------------------------

    async def produce(
        self,
        payload: Any,
        *,
        delay: float = 0.0,
        group_key: Key | None = None,
        dedup_id: Key | None = None,
        timeout: float | None = None,
    ) -> str:
        """Put a message into the queue and return its id.

        Nobody gets it before `delay` seconds are over. Messages with one `group_key` are delivered in order, one at a
        time. A `dedup_id` that was used within the last 5 minutes puts nothing in, and gives the id of the first
        message. The payload is any value that a key could have.

        Raises:
            QueueFull: it holds `max_length` messages that are not settled.
        """
        delay_ms, message = producing.one(self._client._values, payload, delay, group_key, dedup_id)
        return await self._run(lambda at: producing.produce(self._shards, at, delay_ms, message), timeout)

    async def produce_many(
        self,
        payloads: Iterable[Any],
        *,
        delay: float = 0.0,
        group_key: Key | None = None,
        timeout: float | None = None,
    ) -> list[str]:
        """Put messages into the queue and return their ids in the same order; otherwise as `produce`.

        An error carries `done` (index -> id) and `failed` (index -> error): what was not done in part is to be produced
        again, message by message.
        """
        delay_ms, messages = producing.many(self._client._values, payloads, delay, group_key)
        return await self._run(lambda at: producing.produce_many(self._shards, at, delay_ms, messages), timeout)

    # -- consuming --------------------------------------------------------------------------------------------

    async def consume(
        self, consumer_id: Key | None = None, timeout: float = 5.0, *, group: Key = DEFAULT_GROUP
    ) -> Message | None:
        """Return the next message, or None if there is none for `timeout` seconds (0: look once; infinity: wait).

        It is this consumer's until its lease is over: settle it by `ack` or `nack` before. `consumer_id` is a name that
        dead letters show. The client's own timeout comes on top, for when nodes do not answer.
        """
        found = await self._consume(consumer_id, timeout, group, 1)
        return found[0] if found else None

    async def consume_many(
        self, n: int, consumer_id: Key | None = None, timeout: float = 5.0, *, group: Key = DEFAULT_GROUP
    ) -> list[Message]:
        """Return up to `n` messages as soon as there are some; none if there are none for `timeout` seconds."""
        return await self._consume(consumer_id, timeout, group, n)

    async def _consume(self, consumer_id: Key | None, timeout: float, group: Key, most: int) -> list[Message]:
        def make(at: Attendance) -> Plan[list[Message]]:
            wish = wish_of(at, consumer_id, group, most, timeout, None)
            return Consume(self._shards, at, wish, self._client._values).steps()

        return await self._client._carry_out(make, None, is_waiting=True)

    async def start_consumer(
        self,
        consumer_id: Key | None,
        handler: Handler,
        *,
        group: Key = DEFAULT_GROUP,
        concurrency: int = 1,
        lease: float | None = None,
        pass_message: bool = False,
        timeout: float | None = None,
    ) -> AsyncConsumer:
        """Have messages handled, `concurrency` at a time, by `handler(payload)`, or the `Message` with `pass_message`.

        A message is acknowledged when the handler returns. It is nacked, with the text of the error, when the handler
        raises anything. As long as it works the lease (in seconds; by default the queue's) is renewed, apart from
        the handler. While the cluster is unavailable the consumer tries again, and logs that once.
        """
        work = Work(consumer_id, group, concurrency, lease, pass_message=pass_message)
        await self._run(self._shards.declared, timeout)
        consumer = AsyncConsumer(self._client, self._shards, work, handler)
        consumer.start()
        return consumer

    # -- settling ---------------------------------------------------------------------------------------------

    async def ack(self, message: Message | str, *, timeout: float | None = None) -> None:
        """Acknowledge a message, or the id of one that this client holds: it is never delivered again.

        Twice is fine.

        Raises:
            StaleLease: it was given to another consumer meanwhile, or is a dead letter.
            InvalidArgument: the client holds no message of this id.
        """
        await self._settle(wire.ACK, message, (), timeout)

    async def ack_many(self, messages: Iterable[Message | str], *, timeout: float | None = None) -> None:
        """Acknowledge messages; an error carries `done` (the ids acknowledged) and `failed` (id -> error)."""
        messages = messages if isinstance(messages, str | Message) else list(messages)

        def make(at: Attendance) -> Plan[None]:
            return settling.ack_many(self._shards, at, settling.receipts_of(self._shards, at, messages))

        await self._run(make, timeout)

    async def nack(
        self,
        message: Message | str,
        requeue: bool = True,  # noqa: FBT001, FBT002 - as in other queues
        delay: float | None = None,
        reason: str = "",
        *,
        timeout: float | None = None,
    ) -> None:
        """Say that a message could not be handled.

        It comes back after `delay` seconds, or after the queue's backoff, unless it has failed `max_retries` times:
        then it is a dead letter, and so it is at once without `requeue`. `reason` is kept with it (up to 1,024 bytes).

        Raises:
            StaleLease: it was given to another consumer meanwhile, or is a dead letter.
            InvalidArgument: the client holds no message of this id.
        """
        details = (bool(requeue), None if delay is None else delay_to_ms(delay)), reason_bytes(reason)
        await self._settle(wire.NACK, message, details, timeout)

    async def release(self, message: Message | str, *, timeout: float | None = None) -> None:
        """Give a message back: it is ready for others at once, and that is no failure. Raises as `ack`."""
        await self._settle(wire.RELEASE, message, (), timeout)

    async def extend(self, message: Message | str, lease: float, *, timeout: float | None = None) -> None:
        """Keep a message for `lease` seconds from now on. Raises as `ack`."""
        lease_ms = lease_to_ms(lease)

        def make(at: Attendance) -> Plan[None]:
            return settling.extend(self._shards, at, settling.receipt_of(self._shards, at, message), lease_ms)

        await self._run(make, timeout)

    async def _settle(
        self, code: int, message: Message | str, details: tuple[object, ...], timeout: float | None
    ) -> None:
        def make(at: Attendance) -> Plan[None]:
            receipt = settling.receipt_of(self._shards, at, message)
            return settling.settle_one(self._shards, at, code, receipt, *details)

        await self._run(make, timeout)

    # -- the queue as a whole ---------------------------------------------------------------------------------

    async def stats(self, group: Key = DEFAULT_GROUP, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the counts of a group: pending, in_progress, completed, dead_letter, delayed, redelivered.

        And `oldest_age`, the age in seconds of the oldest message that is pending or delayed.

        Raises:
            InvalidArgument: there is no such group.
        """
        name = name_bytes(_GROUP, group)
        return await self._run(lambda at: inspecting.stats(self._shards, at, name), timeout)

    async def dead_letters(
        self, limit: int = 100, group: Key = DEFAULT_GROUP, *, timeout: float | None = None
    ) -> list[DeadLetter]:
        """Return up to `limit` dead letters, those first that died first; of each shard no more than 400 or 4 MiB.

        Raises:
            InvalidArgument: there is no such group.
        """
        name, most, decode = name_bytes(_GROUP, group), count_of("limit", limit), self._client._values.decode
        return await self._run(lambda at: inspecting.dead_letters(self._shards, at, name, most, decode), timeout)

    async def redrive(
        self, limit: int | None = None, group: Key = DEFAULT_GROUP, *, timeout: float | None = None
    ) -> int:
        """Let dead letters, all or up to `limit`, be delivered again, their failures forgotten; return how many.

        Raises:
            InvalidArgument: there is no such group.
        """
        name, most = name_bytes(_GROUP, group), None if limit is None else count_of("limit", limit)
        return await self._run(lambda at: inspecting.redrive(self._shards, at, name, most), timeout)

    async def purge(self, group: Key = DEFAULT_GROUP, *, timeout: float | None = None) -> int:
        """Drop all dead letters of a group and return how many there were.

        Raises:
            InvalidArgument: there is no such group.
        """
        name = name_bytes(_GROUP, group)
        return await self._run(lambda at: inspecting.purge(self._shards, at, name), timeout)

    async def create_group(self, name: Key, *, timeout: float | None = None) -> bool:
        """Create a consumer group, which sees every message produced from now on; False if there was one already."""
        group = name_bytes(_GROUP, name)
        return await self._run(lambda at: inspecting.create_group(self._shards, at, group), timeout)

    async def groups(self, *, timeout: float | None = None) -> list[str]:
        """Return the names of the consumer groups."""
        return await self._run(lambda at: inspecting.groups(self._shards, at), timeout)

    async def delete_group(self, name: Key, *, timeout: float | None = None) -> bool:
        """Delete a consumer group, with all that it has not settled; False if there was none."""
        group = name_bytes(_GROUP, name)
        return await self._run(lambda at: inspecting.delete_group(self._shards, at, group), timeout)
