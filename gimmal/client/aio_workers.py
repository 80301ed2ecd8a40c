"""Consumers that run by themselves, in tasks of an event loop; what they do is told in `gimmal.client.workers`.

A handler is a coroutine function, or a plain function, which is called in a thread so that the loop goes on.
"""

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from gimmal.client import settling
from gimmal.client.queue_types import Message, Receipt
from gimmal.client.shards import Shards
from gimmal.client.workers import (
    Handler,
    Renewals,
    Troubles,
    Work,
    after_failures,
    extension,
    give_back,
    receipt_in,
    what_follows,
)
from gimmal.errors import ClientClosed, GimmalError, OperationTimeout, StaleLease, Unavailable

if TYPE_CHECKING:
    from gimmal.client.aio import AsyncClient

logger = logging.getLogger("gimmal.client")

_PAUSE_S: Final = 1.0
_TRIES_WHEN_STOPPED: Final = 2


class AsyncConsumer:
    """Worker tasks on one queue. Made by `AsyncQueue.start_consumer`; ends with `stop`, or with its client."""

    def __init__(self, client: "AsyncClient", shards: Shards, work: Work, handler: Handler) -> None:
        self._client = client
        self._shards = shards
        self._work = work
        self._handler = handler
        self._renewals = Renewals(work.lease_ms / 1000 or shards.lease_s)
        self._troubles = Troubles(f"queue {shards.name!r}")
        self._is_stopped = asyncio.Event()
        self._fetches: set[asyncio.Task[list[Message]]] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._renewer: asyncio.Task[None] | None = None
        self._executor: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped.is_set() else "running"
        return f"<consumer of queue {self._shards.name!r}, {state}>"

    def start(self) -> None:
        """Begin; `AsyncQueue.start_consumer` has done so."""
        self._client._consumers[self] = None
        loop = asyncio.get_running_loop()
        self._workers = [loop.create_task(self._serve()) for _ in range(self._work.concurrency)]
        self._renewer = loop.create_task(self._renew())
        for worker in self._workers:
            worker.add_done_callback(self._on_ended)

    async def stop(self, timeout: float | None = None) -> bool:
        """Take no new messages; what is being handled is finished and settled, what is not begun is given back.

        With a `timeout` this waits as `join` does; without one it does not wait. Returns whether all has ended.
        """
        self._is_stopped.set()
        for fetch in self._fetches:
            fetch.cancel()
        return await self.join(0.0 if timeout is None else timeout)

    async def join(self, timeout: float | None = None) -> bool:
        """Wait until the consumer has ended, at most `timeout` seconds; return whether it has.

        A handler that calls this does not wait for itself.
        """
        others = [worker for worker in self._workers if worker is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=timeout)
        return all(worker.done() for worker in self._workers)

    def _on_ended(self, worker: "asyncio.Task[None]") -> None:
        if not worker.cancelled() and worker.exception() is not None:
            logger.error("a worker of queue %r ended", self._shards.name, exc_info=worker.exception())
        if all(one.done() for one in self._workers):
            self._client._consumers.pop(self, None)
            if self._renewer is not None:
                self._renewer.cancel()
            if self._executor is not None:
                self._executor.shutdown(wait=False)

    # -- tasks ------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            while not self._is_stopped.is_set():
                message = await self._next()
                if message is not None and self._is_stopped.is_set():
                    await self._release(receipt_in(message))
                elif message is not None:
                    await self._handle(message)
        except ClientClosed:
            pass

    async def _next(self) -> Message | None:
        """Return the next message; None if it has to be tried again, or the consumer is to stop."""
        fetch = asyncio.ensure_future(
            self._client._carry_out(
                lambda at: self._work.consume(self._shards, at, self._client._values), None, is_waiting=True
            )
        )
        self._fetches.add(fetch)
        try:
            found = await fetch
        except asyncio.CancelledError:
            if self._is_stopped.is_set() and not _is_cancelled():
                return None
            raise
        except ClientClosed:
            raise
        except GimmalError as error:
            await self._pause(self._troubles.next_pause_s(error))
            return None
        except Exception:
            logger.exception("consumer of queue %r: no message could be taken", self._shards.name)
            await self._pause(_PAUSE_S)
            return None
        finally:
            self._fetches.discard(fetch)
        self._troubles.over()
        return found[0] if found else None

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when the consumer is to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_stopped.wait()
        except TimeoutError:
            pass

    async def _handle(self, message: Message) -> None:
        receipt = receipt_in(message)
        self._renewals.begin(receipt, time.monotonic())
        error: BaseException | None = None
        try:
            await self._call(message if self._work.pass_message else message.payload)
        except BaseException as raised:
            if _is_cancelled():
                self._renewals.end(receipt)
                await self._release(receipt)
                raise
            error = raised
            if not isinstance(raised, Exception):
                logger.warning("handler of queue %r raised %s", self._shards.name, type(raised).__name__)
        await self._settle(*what_follows(error), receipt)
        self._renewals.end(receipt)

    async def _call(self, what: Any) -> None:
        if inspect.iscoroutinefunction(self._handler):
            await self._handler(what)
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._work.concurrency, thread_name_prefix="gimmal-handler")
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        outcome, error = await loop.run_in_executor(self._executor, context.run, _called, self._handler, what)
        if error is not None:
            raise error
        if inspect.isawaitable(outcome):
            await outcome

    async def _settle(self, code: int, details: tuple[object, ...], receipt: Receipt) -> None:
        """Settle a message, and go on trying; once the consumer is stopped only a few times."""
        tries_left = _TRIES_WHEN_STOPPED
        while tries_left:
            tries_left -= self._is_stopped.is_set()
            self._renewals.end(receipt)
            try:
                await self._client._carry_out(
                    lambda at: settling.settle_one(self._shards, at, code, receipt, *details), None
                )
            except (Unavailable, OperationTimeout) as error:
                self._renewals.begin(receipt, time.monotonic())
                await asyncio.sleep(self._troubles.next_pause_s(error))
                continue
            except StaleLease as error:
                logger.warning("%s", error)
            except ClientClosed as error:
                logger.warning(
                    "message %s of queue %r is not settled: %s", receipt.message_id, self._shards.name, error
                )
                raise
            except GimmalError as error:
                logger.error("message %s of queue %r is not settled: %s", receipt.message_id, self._shards.name, error)
            return

    async def _release(self, receipt: Receipt) -> None:
        await self._client._carry_out(lambda at: give_back(self._shards, at, receipt), None)

    async def _renew(self) -> None:
        renewals = self._renewals
        while True:
            await asyncio.sleep(renewals.pause_s(time.monotonic()))
            due = renewals.take_due(time.monotonic())
            if not due:
                continue
            try:
                failed = await self._client._carry_out(extension(self._shards, due, renewals.lease_ms), None)
            except ClientClosed:
                return
            except GimmalError as error:
                failed = {receipt.message_id: error for receipt in due}
            after_failures(renewals, due, failed, time.monotonic())


def _called(handler: Handler, what: Any) -> tuple[Any, BaseException | None]:
    """Call a handler in its thread; no error may end that, nor the loop that waits for it."""
    try:
        return handler(what), None
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
        return None, error


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def stop_all(consumers: Sequence[AsyncConsumer], timeout: float) -> None:
    """Stop consumers, and wait up to `timeout` seconds for all of them."""
    for consumer in consumers:
        await consumer.stop()
    give_up_at = time.monotonic() + timeout
    for consumer in consumers:
        await consumer.join(max(0.0, give_up_at - time.monotonic()))
