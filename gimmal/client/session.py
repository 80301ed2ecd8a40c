"""What a client decides, without I/O: where each operation goes, what travels together, what is tried again.

Every operation is always in exactly one of three places:

- **in the client**: in the queue of a `Link`, or held back by the window of its partition until that has a session and
  room (`gimmal.client.windows`);
- **refused**, waiting for its next try (`gimmal.client.recovery`);
- **in flight**: sent, and not answered.

A write is sent under a session, with a number that stays its own, so the partition carries it out once, however often
it arrives. Hence what is in flight is sent again when its answer is late or its leader was replaced, as reads are. What
is known of the outcome is kept apart from the place (`gimmal.client.retries`): a write is *uncertain* from its second
attempt on if the first was not refused, or when a replaced leader says that it was not decided. So there are three ends
without a result when time, or the attempts, are up:

- A write that is uncertain or in flight ends as `OperationTimeout(maybe_applied=True)`.
- A write that is neither was surely not carried out, and ends with what is in its way: `NoRoute`, `NotEnoughReplicas`,
  `Overloaded`, or `OperationTimeout(maybe_applied=False)` if it was held back.
- A read in flight ends as `OperationTimeout(maybe_applied=False)`, another one like a write.

A session can end while writes are in flight: then an uncertain write can never be sent again, since a new session would
carry it out anew; it ends at once. What was surely not carried out goes on under the new session.

Coalescing needs no timer: operations collect in the queues until the shell calls `drain`, once per loop turn,
and leave as one `Request` per node. The openings of sessions travel along.

A newer table is looked for when a refusal or any reply's header tells of one; `gimmal.client.table_search` decides
when and where. Operations that wait for a leader, for its connection, or for its answer longer than a moment hear from
nobody; as long as there are some, the table is asked for every now and then. What arrives says what is new since the
table at hand; if it does not fit, the whole table is fetched. A call without operations waits for the answer to such a
question (`onlookers`).

The time of all methods is a monotonic clock in seconds.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gimmal.client.calls import Call, Survey
from gimmal.client.onlookers import Onlookers
from gimmal.client.recovery import SLOW_AFTER_S, Recovery
from gimmal.client.routing import Link, Routes
from gimmal.client.table_search import TableSearch
from gimmal.client.verdicts import Verdicts
from gimmal.cluster.table import NodeRow, Table
from gimmal.errors import ClientClosed, GimmalError, RemoteProtocolError
from gimmal.types import Operation
from gimmal.wire import limits
from gimmal.wire.messages import Fault, FetchTable, Message, Problem, Reply, Request, TableRows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

_STUCK_AFTER_S: Final = 0.3
_CONNECTS_WITHIN_S: Final = 1.0
_NEVER: Final = float("inf")


class Session:
    """One client's view of a cluster, and everything it has under way."""

    def __init__(self, seeds: "Iterable[str]", network: str | None, dice: "Random", now: float) -> None:
        self.table: Table | None = None
        self.why_not_ready = ""  # what a node without a cluster said last, until there is a newer table
        self.counters: Counter[str] = Counter()
        self._routes = Routes(seeds, network, now)
        self._dice = dice
        self._now = now
        self._next_number = 1
        self._look_at = _NEVER  # no deadline of a call is earlier
        self._search = TableSearch(dice, now)
        self._recovery = Recovery(self._routes, self._search, self.counters, dice)
        self._call_by_number = self._recovery.call_by_number
        self._windows = self._recovery.windows
        self._verdicts = Verdicts(self._routes)
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
        call.resend_at = now + SLOW_AFTER_S + call.waits_s
        look_at = min(call.deadline, call.resend_at)
        if look_at < self._look_at:
            self._look_at = look_at
        number = first
        routes, call_by_number, deadline = self._routes.by_partition, self._call_by_number, call.deadline
        if call.is_write:
            windows = self._windows.by_partition
            for partition, command in call.parts:
                call_by_number[number] = call
                window = windows.get(partition)
                floor = window.admit(number) if window is not None and window.is_open else 0
                if floor:
                    link, epoch = routes[partition]
                    link.queue.append((number, partition, epoch, window.session, floor, command))  # type: ignore[union-attr]
                    if deadline > link.deadline:
                        link.deadline = deadline
                else:
                    self._recovery.hold(partition, number, now)
                number += 1
            return
        for partition, command in call.parts:
            call_by_number[number] = call
            link, epoch = (self._routes.any_link(partition, number), 0) if call.is_any else routes[partition]
            link.queue.append((number, partition, epoch, 0, 0, command))
            if deadline > link.deadline:
                link.deadline = deadline
            number += 1
        if call.waits_s:
            call.waits_until = now + call.waits_s
            for partition, _ in call.parts:
                routes[partition][0].is_watched = True
        if not call.parts:
            self._onlookers.add(call, now)
            self._search.demand(now)
            if self._search.at <= now:
                self._fetch_table(now)

    def forget(self, call: Call[Any]) -> None:
        """Drop what is open of a call that nobody waits for any more; messages that come yet are given back."""
        self._recovery.strays.on_given_up(call, self._now)
        for number in call.open_numbers():
            self._call_by_number.pop(number, None)

    def interrupt(self, call: Call[Any], error: GimmalError) -> list[Call[Any]]:
        """End what is open of a call with an error; return the call if that ends it."""
        finished: list[Call[Any]] = []
        for number in call.open_numbers():
            if number in self._call_by_number:
                finished += self._recovery.fail(number, error)
        return finished

    def cancel_waits(self, now: float) -> bool:
        """Tell nodes that nobody waits for a consume any more, before this client closes; say whether there was any."""
        waiting = dict.fromkeys(call for call in self._call_by_number.values() if call.waits_s)
        for call in waiting:
            assert isinstance(call, Survey), "only consumes wait"
            self.start(call.cancellation(), limits.TIMEOUT_MAX_S, now)
        return bool(waiting)

    def addresses_of_copies(self, partitions: "Iterable[int]") -> list[str]:
        """Return the addresses of all nodes that are alive and hold copies of partitions. Any thread may ask."""
        return self._routes.addresses_of_copies(partitions)

    def has_in_flight(self) -> bool:
        """Say whether answers are on their way: whether anything under way is not just queued."""
        return len(self._call_by_number) > sum(len(link.queue) for link in self._routes.links.values())

    def abort(self, why: str) -> list[Call[Any]]:
        """End everything under way with `ClientClosed`."""
        finished: list[Call[Any]] = []
        for number in list(self._call_by_number):
            finished += self._recovery.fail(number, ClientClosed(why))
        return finished + self._onlookers.fail(lambda call: ClientClosed(why))

    # -- out --------------------------------------------------------------------------------------------------

    def drain(self) -> list[tuple[str, Message]]:
        """Return what is to be sent now, with the address of the node it is for."""
        outbox, self._outbox = self._outbox, []
        for address, link in self._routes.links.items():
            if link.queue and link.is_ready:
                queue, link.queue = link.queue, []
                if self._recovery.not_in_flight:
                    self._recovery.not_in_flight.difference_update(operation[0] for operation in queue)
                for start in range(0, len(queue), limits.OPERATIONS_MAX):
                    outbox.append((address, self._request(link, queue[start : start + limits.OPERATIONS_MAX])))
                link.deadline = 0.0
        if self._stuck_at == _NEVER and self._is_stuck():
            self._stuck_at = self._now + self._dice.uniform(_STUCK_AFTER_S / 2, _STUCK_AFTER_S)
        return outbox

    def _is_stuck(self) -> bool:
        """Say whether operations wait for a leader, for the connection to one, or for long."""
        return self._recovery.is_slow or any(link.queue and not link.is_ready for link in self._routes.all_links())

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
            if link.is_watched:
                self._recovery.on_disconnected(link, self._now)

    def on_blocked(self, address: str, message: Message) -> None:
        """Take back a message that a socket did not accept: it was not sent."""
        link = self._routes.links.get(address)
        if link is not None:
            link.is_ready = False
        if isinstance(message, Request):
            for operation in message.operations:
                self._recovery.requeue(operation[0], self._now)
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
            elif number in self._windows.openings:
                self._recovery.on_opening_answered(number, result)
            else:
                release = self._recovery.strays.on_answer(number, result)
                if release is not None:
                    self.start(release, limits.TIMEOUT_MAX_S, self._now)
        for refusal in reply.refusals:
            finished += self._recovery.on_refusal(address, refusal, self._now)
        if self._windows.held:
            self._recovery.release_held()
        return finished

    # -- the table --------------------------------------------------------------------------------------------

    def _on_table_rows(self, address: str, message: TableRows) -> list[Call[Any]]:
        tree, table = message.table, self.table
        finished: list[Call[Any]] = []
        if tree is not None and (table is None or message.cluster == table.cluster):
            try:
                newest = table.updated(tree) if table is not None else Table.from_wire(tree)
            except RemoteProtocolError:
                self._needs_whole_table = True
                self._search.on_misfit(address, self._now)
                raise
            if newest is not table:
                finished += self._adopt(newest)
        is_ours = self.table is not None and message.cluster == self.table.cluster
        return finished + self._on_answer(address, is_ours=is_ours)

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

    def _adopt(self, table: Table) -> list[Call[Any]]:
        """Go over to a newer table; return the calls that end with it."""
        finished = self._recovery.adopt(table, self.table, self._now)
        self.table = table
        self.why_not_ready = ""
        self._needs_whole_table = False
        self._search.keep_only(self._routes.links.keys())
        return finished

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
        return min(self._look_at, self._search.at, self._stuck_at, self._recovery.next_deadline())

    def tick(self, now: float) -> list[Call[Any]]:
        """Do what time asks for; return the calls whose time is up."""
        self._now = now
        finished = self._look_for_late_calls(now) if self._look_at <= now else []
        self._recovery.tick(now)
        if self._stuck_at <= now:
            self._stuck_at = _NEVER
            if self._is_stuck():
                self._search.want(now)
        if self._search.at <= now:
            self._fetch_table(now)
        if self._windows.held:
            self._recovery.release_held()
        return finished

    def _look_for_late_calls(self, now: float) -> list[Call[Any]]:
        """Look at every call under way. It happens a few times per second, so no call needs a timer of its own."""
        finished, look_at = self._recovery.look_for_late(now, self.why_not_ready)
        finished += self._onlookers.fail(lambda call: self._verdicts.unseen(call, self.why_not_ready), now)
        self._look_at = min(look_at, self._onlookers.next_deadline())
        return finished
