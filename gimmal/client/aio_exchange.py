"""The pump, driven by the event loop that runs when it is made: what `gimmal.client.exchange` is for threads.

Everything started in one turn of the loop travels as one message per node.
"""

import asyncio
import os
import time
from typing import Any, TypeVar

from gimmal.client.attendance import Attendance
from gimmal.client.calls import Call
from gimmal.client.keepalive import Keepalive
from gimmal.client.overview import Cluster, overview
from gimmal.client.pump import Pump, no_table
from gimmal.client.steps import ASIDE_TIMEOUT_S, Aside, Budget, Plan
from gimmal.errors import ClientClosed, GimmalError
from gimmal.wire.queue_commands import CLIENT_BYTES

T = TypeVar("T")

_NEVER = float("inf")
_running_loop = asyncio._get_running_loop


class AsyncExchange:
    """One session and its sockets, for one event loop."""

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
        self._keepalive = Keepalive()
        self.attendance: Attendance

    @property
    def partitions(self) -> int:
        """The number of partitions of the cluster."""
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
        self.attendance = Attendance(self.partitions, os.urandom(CLIENT_BYTES), self._keepalive.start)
        self._keepalive.watch(self.attendance, self.session)
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

    async def carry_out(self, plan: Plan[T], budget: Budget) -> T:
        """Carry out the steps of a plan and return what comes of it."""
        try:
            step = next(plan)
            while True:
                outcome = None
                try:
                    if isinstance(step, Aside):
                        self._post(step)
                    else:
                        outcome = await self.run(step, budget.timeout_of(step))
                except BaseException as error:  # noqa: BLE001 - a plan has to know when its task is cancelled
                    step = plan.throw(error)
                else:
                    step = plan.send(outcome)
        except StopIteration as end:
            value: T = end.value
            return value

    def _post(self, aside: Aside) -> None:
        """Start a call for which nobody waits."""
        if self._why_closed is None:
            if aside.ended is not None:
                self.session.forget(aside.ended)
            self.session.start(aside.call, ASIDE_TIMEOUT_S, time.monotonic())
            for address in self._pump.with_news(self._pump.flush()):
                self._loop.call_soon(self._look, address)
            self._arm_timer()

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
        """End every call under way with `ClientClosed`."""
        if self._why_closed is not None:
            return
        if self._pid != os.getpid():  # all this is the parent's: even its selector is shared with it
            self._why_closed = why
            return
        if _running_loop() is not self._loop and self._loop.is_running():
            self._loop.call_soon_threadsafe(self.close, why)
            return
        self._why_closed = why
        self._keepalive.stop()
        if self._loop.is_closed():  # with it went everybody who waited
            self._pump.close()
            return
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
        self._settle(self._pump.abort(why))
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
            if future is None or future.done():
                continue  # nobody waits for it, or its task was cancelled
            try:
                outcome = call.decode(call.results) if call.errors is None else call.outcome()
            except StopIteration as error:  # a future does not take it
                future.set_exception(RuntimeError(f"the serializer raised {error!r}"))
            except Exception as error:  # noqa: BLE001 - a user's serializer may raise anything
                future.set_exception(error)
            else:
                future.set_result(outcome)
