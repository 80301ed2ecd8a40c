"""What a client decides, without I/O: where each operation goes, what travels together, what is tried again.

Every operation is always in exactly one of three places: the queue of a `Link` (not sent), `_later` (refused, so
surely not executed; waiting for its next try), or in flight (sent, its outcome unknown). From this follow all the
promises: what is not in flight can be sent again, and when time is up tells `NoRoute` or `Overloaded`; a write
in flight is never sent again and ends as `OperationTimeout(maybe_applied=True)`, at once if its leader was replaced
before it was decided; a read in flight is simply sent again when its answer takes too long.

Coalescing needs no timer: operations collect in the queues until the shell calls `drain`, once per loop turn,
and leave as one `Request` per node.

A newer table is looked for when a refusal or any reply's header tells of one; `gimmal.client.table_search` decides
when and where. Operations that wait for a leader or for its connection hear from nobody; as long as there are some,
the table is asked for every now and then. What arrives says what is new since the table at hand; if it does not fit,
the whole table is fetched. A call without operations waits for the answer to such a question (`onlookers`).

The time of all methods is a monotonic clock in seconds.
"""

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gimmal.client.calls import Call
from gimmal.client.onlookers import Onlookers
from gimmal.client.routing import NOWHERE, Link, Routes
from gimmal.client.table_search import TableSearch
from gimmal.cluster.table import NodeRow, Table
from gimmal.errors import (
    ClientClosed,
    GimmalError,
    IntegerOverflow,
    InvalidArgument,
    NoRoute,
    NotAnInteger,
    NotEnoughReplicas,
    OperationTimeout,
    OutOfMemory,
    Overloaded,
    RemoteProtocolError,
    TooLarge,
    Unavailable,
)
from gimmal.types import Operation
from gimmal.wire import limits
from gimmal.wire.messages import (
    Fault,
    FetchTable,
    Message,
    Problem,
    Refusal,
    Reply,
    Request,
    TableRows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

ATTEMPTS_MAX: Final = 10
_BACKOFF_FIRST_S: Final = 0.01
_BACKOFF_MAX_S: Final = 1.0
_RESEND_READ_AFTER_S: Final = 1.0
_STUCK_AFTER_S: Final = 0.3
_CONNECTS_WITHIN_S: Final = 1.0
_NEVER: Final = float("inf")

_ERRORS: Final[dict[int, type[GimmalError]]] = {
    Refusal.INVALID: InvalidArgument,
    Refusal.NOT_AN_INTEGER: NotAnInteger,
    Refusal.INTEGER_OVERFLOW: IntegerOverflow,
    Refusal.TOO_LARGE: TooLarge,
    Refusal.OUT_OF_MEMORY: OutOfMemory,
    Refusal.WRONG_CLUSTER: RemoteProtocolError,
}


class Session:
    """One client's view of a cluster, and everything it has under way."""

    def __init__(self, seeds: "Iterable[str]", network: str | None, dice: "Random", now: float) -> None:
        self.table: Table | None = None
        self.why_not_ready = ""  # what a node without a cluster said last, until there is a newer table
        self.counters: Counter[str] = Counter()
        self._routes = Routes(seeds, network, now)
        self._dice = dice
        self._now = now
        self._call_by_number: dict[int, Call[Any]] = {}
        self._next_number = 1
        self._later: list[tuple[float, int]] = []
        self._refused: dict[int, tuple[int, Unavailable]] = {}  # number -> (how often, why the last time)
        self._not_in_flight: set[int] = set()  # of those that a node was asked for: in a queue or in `_later` again
        self._look_at = _NEVER  # no deadline of a call is earlier
        self._search = TableSearch(dice, now)
        self._onlookers = Onlookers()
        self._stuck_at = _NEVER  # when to ask for the table because of operations that cannot leave
        self._needs_whole_table = False
        self._outbox: list[tuple[str, Message]] = []

    @property
    def links(self) -> dict[str, Link]:
        """The links to keep sockets for; another object when they have changed."""
        return self._routes.links

    def is_reachable(self, node: NodeRow) -> bool:
        """Say whether a node takes messages from this client, or has not had the time yet to show it."""
        return any(
            link.is_ready or self._now - link.opened_at < _CONNECTS_WITHIN_S
            for _, addresses in node.networks
            if (link := self._routes.links.get(addresses.client)) is not None
        )

    # -- calls ------------------------------------------------------------------------------------------------

    def start(self, call: Call[Any], timeout: float, now: float) -> None:
        """Take a call on; its operations leave with the next `drain`."""
        self._now = now
        first = call.first = self._next_number
        self._next_number = first + len(call.parts)  # before they are used: an interrupt must not hand them out twice
        call.timeout = timeout
        call.deadline = now + timeout
        call.resend_at = _NEVER if call.is_write else now + _RESEND_READ_AFTER_S
        look_at = min(call.deadline, call.resend_at)
        if look_at < self._look_at:
            self._look_at = look_at
        number = first
        routes, call_by_number, deadline = self._routes.by_partition, self._call_by_number, call.deadline
        for partition, command in call.parts:
            call_by_number[number] = call
            link, epoch = routes[partition]
            link.queue.append((number, partition, epoch, 0, 0, command))
            if deadline > link.deadline:
                link.deadline = deadline
            number += 1
        if not call.parts:
            self._onlookers.add(call, now)
            self._search.demand(now)
            if self._search.at <= now:
                self._fetch_table(now)

    def has_in_flight(self) -> bool:
        """Say whether answers are on their way: whether anything under way is not just queued."""
        return len(self._call_by_number) > sum(len(link.queue) for link in self._routes.links.values())

    def abort(self, why: str) -> list[Call[Any]]:
        """End everything under way with `ClientClosed`."""
        finished: list[Call[Any]] = []
        for number in list(self._call_by_number):
            finished += self._fail(number, ClientClosed(why))
        return finished + self._onlookers.fail(lambda call: ClientClosed(why))

    def _requeue(self, number: int) -> None:
        """Put an operation that is not in flight into the queue of its present route."""
        call = self._call_by_number.get(number)
        if call is None:
            return
        partition, command = call.parts[number - call.first]
        link, epoch = self._routes.by_partition[partition]
        link.queue.append((number, partition, epoch, 0, 0, command))
        self._not_in_flight.add(number)
        link.deadline = max(link.deadline, call.deadline)

    # -- out --------------------------------------------------------------------------------------------------

    def drain(self) -> list[tuple[str, Message]]:
        """Return what is to be sent now, with the address of the node it is for."""
        outbox, self._outbox = self._outbox, []
        for address, link in self._routes.links.items():
            if link.queue and link.is_ready:
                queue, link.queue = link.queue, []
                if self._not_in_flight:
                    self._not_in_flight.difference_update(operation[0] for operation in queue)
                for start in range(0, len(queue), limits.OPERATIONS_MAX):
                    outbox.append((address, self._request(link, queue[start : start + limits.OPERATIONS_MAX])))
                link.deadline = 0.0
        if self._stuck_at == _NEVER and self._is_stuck():
            self._stuck_at = self._now + self._dice.uniform(_STUCK_AFTER_S / 2, _STUCK_AFTER_S)
        return outbox

    def _is_stuck(self) -> bool:
        """Say whether operations wait for a leader, or for the connection to one."""
        return any(link.queue and not link.is_ready for link in self._routes.all_links())

    def _request(self, link: Link, operations: list[Operation]) -> Request:
        milliseconds_left = max(0, int((link.deadline - self._now) * 1000))
        return Request(*self._header(link), link.receipt, milliseconds_left, tuple(operations))

    def _header(self, link: Link) -> tuple[bytes, int, int, int]:
        table = self.table
        if table is None:
            return b"", 0, 0, 0
        return table.cluster, 0, link.incarnation, table.version

    def on_ready(self, address: str) -> None:
        """Learn that a socket takes messages."""
        link = self._routes.links.get(address)
        if link is not None:
            link.is_ready = True
            self._search.on_ready(self._now)

    def on_unready(self, address: str) -> None:
        """Learn that a socket takes no messages."""
        link = self._routes.links.get(address)
        if link is not None:
            link.is_ready = False
            self._search.on_unready(address, self._now)

    def on_blocked(self, address: str, message: Message) -> None:
        """Take back a message that a socket did not accept: it was not sent."""
        link = self._routes.links.get(address)
        if link is not None:
            link.is_ready = False
        if isinstance(message, Request):
            for operation in message.operations:
                self._requeue(operation[0])
        elif isinstance(message, FetchTable):
            self._search.on_blocked(address, self._now)

    # -- in ---------------------------------------------------------------------------------------------------

    def receive(self, address: str, message: Message, now: float) -> list[Call[Any]]:
        """Take a message from a node; return the calls that are done now."""
        self._now = now
        finished: list[Call[Any]] = []
        kind = type(message)
        if kind is Reply:
            finished = self._on_reply(address, message)  # type: ignore[arg-type]
        elif kind is TableRows:
            finished = self._on_table_rows(address, message)  # type: ignore[arg-type]
        elif kind is Problem:
            self._on_problem(address, message)  # type: ignore[arg-type]
        table = self.table
        if (
            table is not None
            and message.table_version > table.version
            and message.cluster == table.cluster
            and address in self._routes.links
        ):
            self._search.on_told(address, message.table_version, now)
        return finished

    def _on_reply(self, address: str, reply: Reply) -> list[Call[Any]]:
        link = self._routes.links.get(address)
        if link is not None and reply.receipt:
            link.receipt = reply.receipt
        finished: list[Call[Any]] = []
        call_by_number = self._call_by_number
        for number, result in zip(reply.numbers, reply.results, strict=False):
            if number in call_by_number:  # no function call until it is done: an interrupt would tear it apart
                call = call_by_number[number]
                del call_by_number[number]
                call.results[number - call.first] = result
                call.open_count -= 1
                if not call.open_count:
                    finished.append(call)
        for number, refusal, text in reply.refusals:
            self._on_refusal(address, number, refusal, text, finished)
        return finished

    def _on_refusal(self, address: str, number: int, refusal: int, text: str, finished: list[Call[Any]]) -> None:
        call = self._call_by_number.get(number)
        if call is None or number in self._not_in_flight:
            return
        if refusal in _ERRORS:
            finished += self._fail(number, _ERRORS[refusal](f"{self._what(call, number)}: {text}"))
            return
        if refusal == Refusal.UNDECIDED and call.is_write:
            why = f"{self._what(call, number)}: {text}; it may have been applied: read before you write it again"
            finished += self._fail(number, OperationTimeout(why, maybe_applied=True))
            return
        if refusal == Refusal.MOVED:
            self.counters["redirects"] += 1
            link, _ = self._routes.by_partition[call.parts[number - call.first][0]]
            if link.address == address:  # else a newer table has already shown another way
                self._search.want(self._now)
            error: Unavailable = NoRoute(f"{self._what(call, number)}: {text}")
        elif refusal == Refusal.NOT_ENOUGH_REPLICAS:
            self.counters["not_enough_replicas"] += 1
            error = NotEnoughReplicas(f"{self._what(call, number)}: {text}")
        else:
            self.counters["overloaded"] += 1
            error = Overloaded(f"{self._what(call, number)}: {text}; ask for less at a time")
        attempts, _ = self._refused.pop(number, (0, None))
        attempts += 1
        if attempts >= ATTEMPTS_MAX:
            finished += self._fail(number, error)
            return
        pause = self._dice.uniform(0, min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0**attempts))
        self._refused[number] = attempts, error
        self._not_in_flight.add(number)
        heapq.heappush(self._later, (self._now + pause, number))

    # -- the table --------------------------------------------------------------------------------------------

    def _on_table_rows(self, address: str, message: TableRows) -> list[Call[Any]]:
        tree, table = message.table, self.table
        if tree is not None and (table is None or message.cluster == table.cluster):
            try:
                newest = table.updated(tree) if table is not None else Table.from_wire(tree)
            except RemoteProtocolError:
                self._needs_whole_table = True
                self._search.on_misfit(address, self._now)
                raise
            if newest is not table:
                self._adopt(newest)
        return self._on_answer(address, is_ours=self.table is not None and message.cluster == self.table.cluster)

    def _on_answer(self, address: str, *, is_ours: bool) -> list[Call[Any]]:
        """Let the search know of an answer, from a node that has this cluster's table or not; return who is done."""
        asked_at = self._search.on_answer(address, self.table.version if self.table is not None else 0, self._now)
        finished: list[Call[Any]] = []
        if is_ours and asked_at is not None:
            finished += self._onlookers.on_answer(asked_at)
        if self._onlookers:
            ask = self._search.demand if is_ours else self._search.want
            ask(self._now)
        return finished

    def _adopt(self, table: Table) -> None:
        """Go over to a newer table; what is not in flight is routed anew."""
        queued = self._routes.adopt(table, self._now)
        self.table = table
        self.why_not_ready = ""
        self._needs_whole_table = False
        self._search.keep_only(self._routes.links.keys())
        for operation in queued:
            self._requeue(operation[0])
        later, self._later = self._later, []
        for _, number in later:
            self._requeue(number)

    def _on_problem(self, address: str, problem: Problem) -> None:
        if problem.fault != Fault.NOT_READY:
            self.counters["problems"] += 1
            return
        self.why_not_ready = problem.text
        self._on_answer(address, is_ours=False)

    def _fetch_table(self, now: float) -> None:
        """Ask a node that can be reached for what is new, or for everything."""
        address = self._search.choose([link.address for link in self._routes.links.values() if link.is_ready], now)
        if address is not None:
            cluster, source, destination, version = self._header(self._routes.links[address])
            version = 0 if self._needs_whole_table else version
            self._outbox.append((address, FetchTable(cluster, source, destination, version)))

    # -- time -------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when to call `tick` next; infinity when nothing waits for time."""
        later = self._later[0][0] if self._later else _NEVER
        return min(self._look_at, self._search.at, self._stuck_at, later)

    def tick(self, now: float) -> list[Call[Any]]:
        """Do what time asks for; return the calls whose time is up."""
        self._now = now
        while self._later and self._later[0][0] <= now:
            self._requeue(heapq.heappop(self._later)[1])
        if self._stuck_at <= now:
            self._stuck_at = _NEVER
            if self._is_stuck():
                self._search.want(now)
        if self._search.at <= now:
            self._fetch_table(now)
        return self._look_for_late_calls(now) if self._look_at <= now else []

    def _look_for_late_calls(self, now: float) -> list[Call[Any]]:
        """Look at every call under way. It happens about once per timeout, so no call needs a timer of its own."""
        unsent = {operation[0]: link for link in self._routes.all_links() for operation in link.queue}
        waiting = {number for _, number in self._later}
        finished: list[Call[Any]] = []
        look_at = _NEVER
        for call in dict.fromkeys(self._call_by_number.values()):
            if call.deadline <= now:
                for number in call.open_numbers():
                    error = self._why_late(call, number, unsent.get(number), is_waiting=number in waiting)
                    finished += self._fail(number, error)
                continue
            if call.resend_at <= now:
                call.resend_at = now + _RESEND_READ_AFTER_S
                call.attempts += 1
                if call.attempts < ATTEMPTS_MAX:
                    for number in call.open_numbers():
                        if number not in unsent and number not in waiting:
                            self.counters["resent_reads"] += 1
                            self._requeue(number)
            look_at = min(look_at, call.deadline, call.resend_at)
        finished += self._onlookers.fail(self._why_not_seen, now)
        self._look_at = min(look_at, self._onlookers.next_deadline())
        self._forget_finished()
        return finished

    def _forget_finished(self) -> None:
        """Drop finished operations from the queues."""
        alive = self._call_by_number
        for link in self._routes.all_links():
            if any(operation[0] not in alive for operation in link.queue):
                link.queue = [operation for operation in link.queue if operation[0] in alive]
        self._refused = {number: refused for number, refused in self._refused.items() if number in alive}
        self._not_in_flight &= alive.keys()

    def _why_late(self, call: Call[Any], number: int, unsent: Link | None, *, is_waiting: bool) -> GimmalError:
        what = f"{self._what(call, number)}: no answer within {call.timeout:g} s"
        _, why = self._refused.get(number, (0, None))
        if is_waiting and why is not None:
            return why
        if unsent is not None:
            before = why or self.why_not_ready
            after = f" (before that: {before})" if before else ""
            if unsent.address == NOWHERE:
                return NoRoute(f"{what}, so nothing was sent; ask again when somebody leads it{after}")
            return NoRoute(
                f"{what}: {self._routes.who(unsent.address)} could not be reached, so nothing was sent; "
                f"check that it runs, then ask again{after}"
            )
        if call.is_write:
            return OperationTimeout(
                f"{what}; it was sent and may have been applied: read before you write it again",
                maybe_applied=True,
            )
        return OperationTimeout(f"{what}; check the node, or ask again", maybe_applied=False)

    def _why_not_seen(self, call: Call[Any]) -> GimmalError:
        what = f"{call.name}: no answer within {call.timeout:g} s"
        before = f" (before that: {self.why_not_ready})" if self.why_not_ready else ""
        asked = [self._routes.who(address) for address, link in self._routes.links.items() if link.is_ready]
        if not asked:
            return NoRoute(f"{what}: no node could be reached; check that they run, then ask again{before}")
        return OperationTimeout(f"{what} from {', '.join(asked)}; ask again{before}", maybe_applied=False)

    def _fail(self, number: int, error: GimmalError) -> list[Call[Any]]:
        """End one operation with an error; return its call if that was its last."""
        call = self._call_by_number.pop(number)
        return [call] if call.fail(number, error) else []

    def _what(self, call: Call[Any], number: int) -> str:
        """Return what was asked, of whom, for people."""
        partition, command = call.parts[number - call.first]
        argument = command[1]
        key = argument if isinstance(argument, bytes) else argument[0]
        shown = key[:64].decode("utf-8", "backslashreplace")
        more = "" if argument is key else " and others"
        return f"{call.name} {shown!r}{more} (partition {partition}, {self._routes.who_leads(partition)})"
