"""How threads share one session: whoever waits and finds nobody reading, reads for all.

A serial call has no hand-off: its thread sends, becomes the reader, reads its own answer and leaves. A thread
that finds a reader waits on a lock of its own until its call is done or the reader, leaving, makes it the next
reader. Sockets and session are only touched under one lock; the reader sleeps outside it, on descriptors. A
thread that changes what the reader sleeps on (an answer whose signal its send ate, an earlier deadline, another
set of sockets) pokes it through a pipe.

A signal handler that raises strikes the main thread in the middle of any step, even under the lock, and must not
cost other threads their answers: frames stay with the pump until they are dealt with, an answer is entered
without a call in between, and whoever is struck wakes all that are done and lets the next reader look everywhere.
What remains is an instant inside pyzmq, which runs signal handlers between receiving a frame and returning it: the
frame is lost as on a broken connection, and what it answered is asked again after a second.
"""

import contextlib
import os
import select
import threading
import time
from typing import Any, Final, TypeVar

from gimmal.client.attendance import Attendance
from gimmal.client.calls import Call
from gimmal.client.chores import Chores
from gimmal.client.keepalive import Keepalive
from gimmal.client.overview import Cluster, overview
from gimmal.client.pump import Pump, no_table
from gimmal.client.steps import ASIDE_TIMEOUT_S, Aside, Budget, Interrupted, Plan, Stopper
from gimmal.errors import ClientClosed, GimmalError, LocalProtocolError, OperationTimeout
from gimmal.wire.queue_commands import CLIENT_BYTES

T = TypeVar("T")

_GRACE_S: Final = 0.5

_ABANDONED: Final[list[object]] = []
"""Sockets inherited over a fork: they belong to the parent and must not even be closed here."""


class Exchange:
    """One session and its sockets, for the threads of one process. Raises `NoRoute` if no seed gives a table."""

    def __init__(self, seeds: tuple[str, ...], network: str | None, timeout: float) -> None:
        self._pump = Pump(seeds, network)
        self.session = self._pump.session
        self._lock = threading.RLock()  # it knows its owner; nobody takes it twice
        self._reader: Call[Any] | None = None  # the call whose thread reads for all
        self._last_thread = threading.get_ident()
        self._sleeping_thread: int | None = None
        self._unsure: set[str] = set()  # nodes whose socket may hold frames that its descriptor will not announce
        self._sleeps_until = float("-inf")
        self._waiting: dict[Call[Any], threading.Lock] = {}  # in the order in which they began to wait
        self._poll: select.poll
        self._address_by_descriptor: dict[int, str] = {}
        self._poke_reader, self._poke_writer = os.pipe()
        os.set_blocking(self._poke_reader, False)
        os.set_blocking(self._poke_writer, False)
        self._renew_poll()
        self._why_closed: str | None = None
        self._chores = Chores(self)
        self._keepalive = Keepalive()
        try:
            self._find_table(seeds, timeout)
        except BaseException:
            self.close("the client could not connect")
            raise
        self.attendance = Attendance(self.partitions, os.urandom(CLIENT_BYTES), self._keepalive.start)
        self._keepalive.watch(self.attendance, self.session)

    @property
    def partitions(self) -> int:
        """The number of partitions of the cluster."""
        table = self.session.table
        return len(table.partitions) if table is not None else 0

    def replacement_after_fork(self, seeds: tuple[str, ...], network: str | None, timeout: float) -> "Exchange":
        """Return a new exchange for a child process."""
        _ABANDONED.append(self)
        return Exchange(seeds, network, timeout)

    def _find_table(self, seeds: tuple[str, ...], timeout: float) -> None:
        give_up_at = time.monotonic() + timeout
        with self._lock:
            self._update_sockets()
        while self.session.table is None:
            if time.monotonic() >= give_up_at:
                raise no_table(self.session, seeds, timeout)
            self._read_once(give_up_at)

    def run(self, call: Call[T], timeout: float) -> T:
        """Start a call and return its outcome."""
        if not call.open_count:
            return call.outcome()
        is_own = self._lock._is_owned()  # type: ignore[attr-defined] # as threading.Condition asks
        if is_own or self._sleeping_thread == threading.get_ident():
            raise LocalProtocolError(
                "this client was called from within one of its own calls in the same thread, by a signal handler or a "
                "destructor: use another client there"
            )
        try:
            with self._lock:
                waiter = self._start(call, timeout)
            self._wait(call, waiter)
            if self._waiting or self._reader is call:
                self._leave(call)
        except BaseException:  # a signal handler may raise anywhere
            self._leave_in_haste(call)
            raise
        return call.outcome()

    # -- calls of several steps ---------------------------------------------------------------------------------

    def carry_out(self, plan: Plan[T], budget: Budget, stopper: Stopper | None = None) -> T:
        """Carry out the steps of a plan and return what comes of it; a stopper may end it from another thread."""
        try:
            step = next(plan)
            while True:
                outcome = None
                try:
                    if isinstance(step, Aside):
                        self._post(step)
                    else:
                        if stopper is not None:
                            stopper.watch(step, self.interrupt)
                        outcome = self.run(step, budget.timeout_of(step))
                except BaseException as error:  # noqa: BLE001 - a plan has to know of any interrupt
                    step = plan.throw(error)
                else:
                    step = plan.send(outcome)
        except StopIteration as end:
            value: T = end.value
            return value

    def _post(self, aside: Aside) -> None:
        """Send a call for which nobody waits; a thread of its own sees it through."""
        with self._lock:
            if self._why_closed is not None:
                return
            if aside.ended is not None:
                self.session.forget(aside.ended)
            self.session.start(aside.call, ASIDE_TIMEOUT_S, time.monotonic())
            sent_to = self._pump.flush()
            if self._reader is None:
                self._unsure.update(sent_to)
            elif self.session.next_deadline() < self._sleeps_until or self._pump.with_news(sent_to):
                self._poke()
        self._chores.add(aside.call)

    def see_through(self, call: Call[Any]) -> None:
        """Wait until a call is done that was sent before, and read for all if nobody does."""
        try:
            self._wait(call, None)
            self._leave(call)
        except BaseException:
            self._leave_in_haste(call)
            raise

    def interrupt(self, call: Call[Any], error: GimmalError) -> None:
        """End a call of another thread with an error."""
        with self._lock:
            self._release(self.session.interrupt(call, error))
            if self._reader is call and self._why_closed is None:
                self._poke()

    # -- the steps of one call ----------------------------------------------------------------------------------

    def _start(self, call: Call[Any], timeout: float) -> "threading.Lock | None":
        """Send a call; return what to wait for, or None when its thread is now the reader or has its answer."""
        if self._why_closed is not None:
            raise ClientClosed(self._why_closed)
        if call.stopper is not None and call.stopper.is_stopped:
            raise Interrupted(call.stopper.why)
        thread = threading.get_ident()
        is_alone, self._last_thread = self._last_thread == thread, thread
        now = time.monotonic()
        if self.session.next_deadline() <= now:  # a thread that is always answered at once never sleeps to tick
            self._release(self.session.tick(now))
        self.session.start(call, timeout, now)
        sent_to = self._pump.flush()
        if self._reader is not None:
            waiter = self._waiting[call] = threading.Lock()
            waiter.acquire()
            if self.session.next_deadline() < self._sleeps_until or self._pump.with_news(sent_to):
                self._poke()
            return waiter
        self._reader = call
        self._unsure.update(sent_to)
        if is_alone:
            self._wait_briefly(sent_to)
            if call.is_done:
                self._reader = None  # nobody waits: there was no reader to wait for
        return None

    def _wait(self, call: Call[Any], waiter: "threading.Lock | None") -> None:
        """Read, or wait for the reader, until a call is done.

        The session ends every call at its deadline and the reader tells it. Should a signal handler have struck
        the reader so that it cannot, the waiting thread takes the reading over a moment later.
        """
        take_over_at = call.deadline + _GRACE_S
        while not call.is_done:
            now = time.monotonic()
            if now > take_over_at + _GRACE_S:
                raise OperationTimeout(f"{call.name}: no answer in time", maybe_applied=call.is_write)
            if self._reader is call:
                self._read_once(take_over_at)
            elif waiter is None or not waiter.acquire(timeout=max(0.0, take_over_at - now)):
                with self._lock:
                    if self._reader is None or waiter is not None:
                        self._waiting.pop(call, None)
                        self._reader = call
                        self._renew_poll()
                    elif not call.is_done:  # another thread reads now
                        waiter = self._waiting[call] = threading.Lock()
                        waiter.acquire()

    def _wait_briefly(self, addresses: list[str]) -> None:
        """Wait for answers with the lock held: only for a thread that has the client to itself."""
        for address in addresses:
            finished = self._pump.wait(address)
            if finished is None:
                return
            self._release(finished)

    def overview(self, timeout: float) -> Cluster:
        """Ask a node for news; return the cluster as this client sees it then."""
        self.run(Call.of_onlooker(), timeout)
        with self._lock:
            if self._why_closed is not None:
                raise ClientClosed(self._why_closed)
            self._pump.update_readiness()
            self._unsure.update(self._address_by_descriptor.values())
            if self._reader is not None:
                self._poke()
            return overview(self.session)

    def close(self, why: str) -> None:
        """End every call under way with `ClientClosed`; what is done in the background has a moment to be done."""
        self._chores.finish(_GRACE_S)
        with self._lock:
            if self._why_closed is not None:
                return
            self._why_closed = why
            self._keepalive.stop()
            self._release(self._pump.abort(why))
            if self._reader is not None:
                self._poke()  # the reader closes the sockets on its way out
            else:
                self._close_sockets()

    # -- reading ----------------------------------------------------------------------------------------------

    def _leave(self, call: Call[Any]) -> None:
        """Stop waiting for a call; a reader leaves the reading to a thread that still waits."""
        with self._lock:
            self._waiting.pop(call, None)
            if self._reader is not call:
                return
            self._reader = next(iter(self._waiting), None)
            if self._why_closed is not None:
                self._close_sockets()
            elif self._reader is not None:
                self._release([self._reader])

    def _leave_in_haste(self, call: Call[Any]) -> None:
        """Leave from wherever an exception struck, perhaps in the middle of any step; nobody may wait in vain."""
        with self._lock:
            was_reader = self._reader is call
            self._waiting.pop(call, None)
            self._release([other for other in self._waiting if other.is_done])
            self._unsure.update(self._address_by_descriptor.values())
            if was_reader:
                self._reader = next(iter(self._waiting), None)
            if self._reader is not None:
                self._release([self._reader])
                if self._why_closed is None:
                    self._poke()
            elif was_reader and self._why_closed is not None:
                self._close_sockets()

    def _read_once(self, wait_until: float) -> None:
        """Sleep until something comes or is due, and deal with it."""
        session = self.session
        with self._lock:
            if self._unsure:  # this may have brought what is waited for, so it counts as one reading
                self._look(self._unsure)
                self._unsure.update(self._pump.flush())
                return
            self._sleeps_until = min(wait_until, session.next_deadline())
        pause_ms = None
        if self._sleeps_until != float("inf"):
            pause_ms = max(0.0, (self._sleeps_until - time.monotonic()) * 1000 + 0.5)
        self._sleeping_thread = threading.get_ident()
        try:
            events = self._poll.poll(pause_ms)
        finally:
            self._sleeping_thread = None
        with self._lock:
            self._sleeps_until = float("-inf")
            if self._why_closed is not None:
                return
            addresses = {self._address_by_descriptor.get(descriptor, "") for descriptor, _ in events}
            if "" in addresses:
                os.read(self._poke_reader, 4096)
                addresses = set(self._address_by_descriptor.values())
            self._look(addresses)
            now = time.monotonic()
            if session.next_deadline() <= now:
                self._release(session.tick(now))
            self._unsure.update(self._pump.flush())

    def _look(self, addresses: set[str]) -> None:
        """Read all that is there from some nodes."""
        for address in list(addresses):
            has_more = True
            while has_more:
                finished, has_more = self._pump.look(address)
                self._release(finished)
        self._unsure -= addresses
        self._update_sockets()

    def _release(self, finished: list[Call[Any]]) -> None:
        for call in finished:
            waiter = self._waiting.get(call)
            if waiter is not None:
                if waiter.locked():
                    waiter.release()
                self._waiting.pop(call, None)

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of pokes
            os.write(self._poke_writer, b"!")

    def _update_sockets(self) -> None:
        changed = self._pump.update_sockets()
        if changed is None:
            return
        opened, closed = changed
        for descriptor in closed:
            self._poll.unregister(descriptor)
            del self._address_by_descriptor[descriptor]
        for address, descriptor in opened.items():
            self._poll.register(descriptor, select.POLLIN)
            self._address_by_descriptor[descriptor] = address

    def _renew_poll(self) -> None:
        """Make a poll object that no other thread can still be sleeping on."""
        self._poll = select.poll()
        for descriptor in (self._poke_reader, *self._address_by_descriptor):
            self._poll.register(descriptor, select.POLLIN)
        self._unsure.update(self._address_by_descriptor.values())

    def _close_sockets(self) -> None:
        self._pump.close()
        os.close(self._poke_reader)
        os.close(self._poke_writer)
