"""What becomes of operations that cannot leave at once, or are not simply answered: held, refused, late, sent again.

`gimmal.client.session` starts operations and takes results, both without a detour through here; its docstring has the
rules. This room knows where everything is that is under way: an operation that is neither in the queue of a link nor in
`not_in_flight` is in flight. `not_in_flight` has the others but for those that are queued for the first time.
"""

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gimmal.client.calls import Call, with_wait
from gimmal.client.retries import ATTEMPTS_MAX, Record, Retries
from gimmal.client.routing import Link, Routes
from gimmal.client.strays import Strays
from gimmal.client.table_search import TableSearch
from gimmal.client.verdicts import ANSWERS, OF_THE_FUTURE, Answer, Verdicts
from gimmal.client.windows import Window, Windows
from gimmal.cluster.table import PartitionRow, Table
from gimmal.errors import GimmalError
from gimmal.types import Operation
from gimmal.wire import commands

if TYPE_CHECKING:
    from random import Random

SLOW_AFTER_S: Final = 0.3
_LATE_AFTER_S: Final = 1.0
_LATE_AFTER_MAX_S: Final = 8.0
_NEVER: Final = float("inf")
_OPEN_SESSION: Final = (commands.OPEN_SESSION,)


class Recovery:
    """Everything that one client has under way: `call_by_number`. Times are monotonic seconds."""

    def __init__(self, routes: Routes, search: TableSearch, counters: Counter[str], dice: "Random") -> None:
        self.call_by_number: dict[int, Call[Any]] = {}
        self.windows = Windows(self.call_by_number, dice)
        self.not_in_flight: set[int] = set()
        self.strays = Strays()
        self._verdicts = Verdicts(routes)
        self._retries = Retries(dice)
        self._later: list[tuple[float, int]] = []
        self._is_slow = False
        self._routes = routes
        self._search = search
        self._counters = counters
        self._dice = dice

    def next_deadline(self) -> float:
        """Return when to call `tick` next; infinity when nothing waits for time."""
        later = self._later[0][0] if self._later else _NEVER
        return min(self.windows.ask_at, later)

    def tick(self, now: float) -> None:
        """Send what has waited long enough."""
        while self._later and self._later[0][0] <= now:
            self.requeue(heapq.heappop(self._later)[1], now)
        if self.windows.ask_at <= now:
            for window in self.windows.take_due(now):
                self._ask_for_session(window, now)

    @property
    def is_slow(self) -> bool:
        """Whether something has waited so long for its answer that its leader may be gone: is there a newer table?"""
        return self._is_slow and bool(self.call_by_number)

    def fail(self, number: int, error: GimmalError) -> list[Call[Any]]:
        """End one operation with an error; return its call if that was its last."""
        call = self.call_by_number.pop(number)
        return [call] if call.fail(number, error) else []

    # -- into the queues --------------------------------------------------------------------------------------

    def requeue(self, number: int, now: float) -> None:
        """Put an operation that is not in flight into the queue of its present route, or hold it back."""
        call = self.call_by_number.get(number)
        if call is None:
            if number in self.windows.openings:
                self._ask_for_session(self.windows.openings[number], now)
            return
        partition, command = call.parts[number - call.first]
        link, epoch = self._routes.by_partition[partition]
        session = floor = 0
        if call.is_write:
            window = self.windows.by_partition.get(partition)
            if window is not None and window.session:
                session, floor = window.session, window.floor_for(number)
            if not floor:
                self.hold(partition, number, now)
                return
        elif call.is_any:
            attempts = self._retries.attempts(number)
            if attempts <= self._routes.copies(partition):  # in the end it is the leader
                link, epoch = self._routes.any_link(partition, number + attempts - 1), 0
        if call.waits_s:
            command = with_wait(command, call.waits_until - now)
            link.is_watched = True
        self._enqueue(link, call, (number, partition, epoch, session, floor, command))

    def _enqueue(self, link: Link, call: Call[Any], operation: Operation) -> None:
        link.queue.append(operation)
        self.not_in_flight.add(operation[0])
        link.deadline = max(link.deadline, call.deadline)

    def hold(self, partition: int, number: int, now: float) -> None:
        """Let a write wait until its partition has a session for it, and room."""
        window = self.windows.hold(partition, number)
        self.not_in_flight.add(number)
        if not window.session and window.ask_at == _NEVER:
            self._ask_for_session(window, now)

    def release_held(self) -> None:
        """Queue the writes that need not wait any more."""
        for window, number, floor in self.windows.release():
            call = self.call_by_number[number]
            partition, command = call.parts[number - call.first]
            link, epoch = self._routes.by_partition[partition]
            self._enqueue(link, call, (number, partition, epoch, window.session, floor, command))

    def resend(self, call: Call[Any], number: int, now: float) -> list[Call[Any]]:
        """Send an operation again that is in flight, if it may be; return its call if that ends it."""
        record = self._retries.record(number)
        if record.attempts >= ATTEMPTS_MAX:
            return []
        if call.is_write and self.windows.is_stale(call.parts[number - call.first][0], number):
            return self.fail(number, self._verdicts.unknowable(call, number, "its session has expired"))
        record.attempts += 1
        record.is_uncertain = call.is_write
        self._counters["resent_writes" if call.is_write else "resent_reads"] += 1
        self.strays.on_resent(number, call)
        self.requeue(number, now)
        return []

    def on_disconnected(self, link: Link, now: float) -> None:
        """Queue again what a node took its time with when the connection to it broke: its answer may be lost."""
        for number, call in self.in_flight():
            if call.waits_s and self._routes.by_partition[call.parts[number - call.first][0]][0] is link:
                self.resend(call, number, now)

    # -- sessions ---------------------------------------------------------------------------------------------

    def _ask_for_session(self, window: Window, now: float) -> None:
        """Queue the opening of a session, unless it is queued."""
        number = self.windows.on_asked(window, now)
        link, epoch = self._routes.by_partition[window.partition]
        if not _is_queued(number, link):
            link.queue.append((number, window.partition, epoch, 0, 0, _OPEN_SESSION))
            waiting = [self.call_by_number[number] for number in window.waiting if number in self.call_by_number]
            link.deadline = max([link.deadline, *(call.deadline for call in waiting)])

    def on_opening_answered(self, number: int, result: Any) -> None:
        """Take the id of a session, if it is one that was asked for."""
        if self.windows.on_opened(number, result):
            self._counters["sessions_opened"] += 1

    def _on_opening_refused(self, address: str, refusal: tuple[int, int, str], now: float) -> list[Call[Any]]:
        """Take that a session was not opened: those who wait for it wait on, or end if it never will be."""
        number, reason, text = refusal
        window = self.windows.openings.get(number)
        if window is None:
            return []
        answer, kind = ANSWERS.get(reason, OF_THE_FUTURE)
        if answer not in (Answer.FINAL, Answer.FINAL_ALONE, Answer.FOREIGN):
            self._look_where(address, window.partition, answer, now)
            self.windows.on_opening_refused(window, kind, text, now)
            return []
        self.windows.on_opening_failed(window)
        finished: list[Call[Any]] = []
        for waiting in window.waiting:
            call = self.call_by_number.get(waiting)
            if call is not None:
                finished += self.fail(waiting, self._verdicts.refused(call, waiting, kind, text))
        return finished

    def _on_session_expired(self, window: Window, now: float) -> list[Call[Any]]:
        """Give a session up; what was not sent under it goes on under another one."""
        self._counters["sessions_expired"] += 1
        link, _ = self._routes.by_partition[window.partition]
        queued = [operation[0] for operation in link.queue if operation[1] == window.partition and operation[3]]
        link.queue = [operation for operation in link.queue if operation[1] != window.partition or not operation[3]]
        unsent = {*queued, *self.not_in_flight}
        self.windows.on_expired(window, [number for number in window.numbers if number not in unsent])
        finished: list[Call[Any]] = []
        for number in window.numbers:
            call = self.call_by_number.get(number)
            if call is not None and number in unsent and self._retries.is_uncertain(number):
                finished += self.fail(number, self._verdicts.unknowable(call, number, "its session has expired"))
        for number in queued:
            self.requeue(number, now)
        return finished

    # -- refusals ---------------------------------------------------------------------------------------------

    def on_refusal(self, address: str, refusal: tuple[int, int, str], now: float) -> list[Call[Any]]:
        """Take a node's word, (number, Refusal, text), that it did not carry something out; return who is done now."""
        number, reason, text = refusal
        answer, kind = ANSWERS.get(reason, OF_THE_FUTURE)
        call = self.call_by_number.get(number)
        if call is None:
            return self._on_opening_refused(address, refusal, now)
        if number in self.not_in_flight:
            return []
        partition = call.parts[number - call.first][0]
        record = self._retries.record(number)
        is_uncertain = record.is_uncertain or (call.is_write and answer is Answer.UNDECIDED)
        record.is_uncertain = is_uncertain
        if answer is Answer.FINAL or (answer in (Answer.FINAL_ALONE, Answer.FOREIGN) and not is_uncertain):
            return self.fail(number, self._verdicts.refused(call, number, kind, text))
        window = self.windows.by_partition.get(partition) if call.is_write else None
        is_stale = window is not None and number in window.stale
        is_over = is_uncertain and (is_stale or answer in (Answer.EXPIRED, Answer.FOREIGN))
        if is_over or answer is Answer.TOO_OLD:
            return self.fail(number, self._verdicts.unknowable(call, number, text))
        if window is not None:
            window.stale.discard(number)
            if answer is Answer.EXPIRED:
                self.not_in_flight.add(number)
                finished = [] if is_stale or not window.session else self._on_session_expired(window, now)
                self.requeue(number, now)
                return finished
        record.why = self._verdicts.refused(call, number, kind, text)
        self._look_where(address, partition, answer, now)
        return self._try_later(call, number, answer, now)

    def _look_where(self, address: str, partition: int, answer: Answer, now: float) -> None:
        """Count a refusal, and look for a newer table if it says that there is one."""
        if answer in (Answer.MOVED, Answer.UNDECIDED):
            self._counters["redirects"] += 1
            if self._routes.by_partition[partition][0].address == address:  # else a newer table has shown another way
                self._search.want(now)
        elif answer is Answer.OVERLOADED:
            self._counters["overloaded"] += 1

    def _try_later(self, call: Call[Any], number: int, answer: Answer, now: float) -> list[Call[Any]]:
        """Let an operation that was refused wait for its next attempt, or end it if that was its last."""
        record = self._retries.record(number)
        if record.attempts >= ATTEMPTS_MAX:
            assert record.why is not None, "it was refused"
            return [] if record.is_uncertain else self.fail(number, record.why)  # an answer may still come
        pause_s = self._retries.pause_s(record, None if answer is Answer.OVERLOADED else call.deadline - now)
        record.attempts += 1
        self.not_in_flight.add(number)
        if call.is_any and record.attempts <= self._routes.copies(call.parts[number - call.first][0]):
            self.requeue(number, now)  # another copy
        else:
            heapq.heappush(self._later, (now + pause_s, number))
        return []

    # -- a newer table ----------------------------------------------------------------------------------------

    def in_flight(self) -> list[tuple[int, Call[Any]]]:
        """Return (number, call) of all operations that are in flight."""
        unsent = {operation[0] for link in self._routes.all_links() for operation in link.queue}
        unsent |= self.not_in_flight
        return [(number, call) for number, call in self.call_by_number.items() if number not in unsent]

    def adopt(self, table: Table, before: Table | None, now: float) -> list[Call[Any]]:
        """Route what waits by a newer table, and send again what a replaced leader was asked; return who is done."""
        in_flight = self.in_flight()
        queued = self._routes.adopt(table, now)
        rows = list(zip((before or table).partitions, table.partitions, strict=True))
        finished: list[Call[Any]] = []
        for number, call in in_flight:  # before what was queued: it was there first
            old, new = _rows_of(number, call, rows)
            if new.epoch > old.epoch and not call.is_any:
                finished += self.resend(call, number, now)
        for operation in queued:
            self.requeue(operation[0], now)
        later, self._later = self._later, []
        for at, number in later:
            waiting = self.call_by_number.get(number)
            if waiting is not None:
                old, new = _rows_of(number, waiting, rows)
                heapq.heappush(self._later, (now if new.version > old.version else at, number))
        for window in list(self.windows.openings.values()):
            old, new = rows[window.partition]
            if new.version > old.version and window.ask_at < _NEVER:
                self._ask_for_session(window, now)
        return finished

    # -- late -------------------------------------------------------------------------------------------------

    def look_for_late(self, now: float, why_not_ready: str) -> tuple[list[Call[Any]], float]:
        """End what has run out of time, and send again what is late; return who is done, and when to look again."""
        unsent = {operation[0]: link for link in self._routes.all_links() for operation in link.queue}
        finished: list[Call[Any]] = []
        look_at = _NEVER
        self._is_slow = False
        for link in self._routes.links.values():
            link.is_watched = False
        for call in dict.fromkeys(self.call_by_number.values()):
            if call.deadline <= now:
                for number in call.open_numbers():
                    error = self._why_late(call, number, unsent.get(number), why_not_ready)
                    finished += self.fail(number, error)
                continue
            if call.resend_at <= now:
                call.late_count += 1
                call.resend_at = now + self._patience_s(call)
                for number in call.open_numbers() if call.late_count > 1 else ():
                    if number not in unsent and number not in self.not_in_flight:
                        finished += self.resend(call, number, now)
            if call.late_count:
                self._is_slow = True
            if call.waits_s:
                for partition, _ in call.parts:
                    self._routes.by_partition[partition][0].is_watched = True
            look_at = min(look_at, call.deadline, call.resend_at)
        self._forget_finished(now)
        return finished, look_at

    def _patience_s(self, call: Call[Any]) -> float:
        """Return how long to wait on for the answers of a call: each attempt of a write is logged, so they get rare."""
        if call.late_count == 1:
            return _LATE_AFTER_S - SLOW_AFTER_S
        if not call.is_write:
            return _LATE_AFTER_S
        return _LATE_AFTER_S + self._dice.uniform(0, min(_LATE_AFTER_MAX_S, 2.0 ** (call.late_count - 1)) - 1)

    def _forget_finished(self, now: float) -> None:
        """Drop finished operations, and openings that nobody waits for, from the queues."""
        alive = self.call_by_number
        queued = {operation[0] for link in self._routes.all_links() for operation in link.queue}
        gone = self.windows.forget_finished(queued)
        gone |= queued - alive.keys() - self.windows.openings.keys()
        for link in self._routes.all_links() if gone else ():
            link.queue = [operation for operation in link.queue if operation[0] not in gone]
        self.not_in_flight &= alive.keys()
        self.strays.forget_old(now)
        self._retries.forget_finished(alive)

    def _why_late(self, call: Call[Any], number: int, unsent: Link | None, why_not_ready: str) -> GimmalError:
        """Return the error for an operation whose time is up, by where it is and what is known of it."""
        record = self._retries.record_by_number.get(number, _UNTOUCHED)
        if record.is_uncertain:
            return self._verdicts.late(call, number, record)
        if unsent is not None:
            return self._verdicts.unsent(call, number, unsent, record.why or why_not_ready)
        if number in self.not_in_flight:
            window = self.windows.by_partition.get(call.parts[number - call.first][0])
            if window is not None and window.holds(number):
                link, _ = self._routes.by_partition[window.partition]
                if not window.session and _is_queued(window.opening, link):
                    why = window.refusal[1] if window.refusal is not None else why_not_ready
                    return self._verdicts.unsent(call, number, link, why)
                return self._verdicts.held(call, number, window)
            if record.why is not None:
                return record.why
        return self._verdicts.late(call, number, record)


_UNTOUCHED: Final = Record()


def _is_queued(number: int, link: Link) -> bool:
    return any(operation[0] == number for operation in link.queue)


def _rows_of(
    number: int, call: Call[Any], rows: list[tuple[PartitionRow, PartitionRow]]
) -> tuple[PartitionRow, PartitionRow]:
    return rows[call.parts[number - call.first][0]]
