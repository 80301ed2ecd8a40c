"""How a client gets messages: one trip from a queue of one shard, a search and then a wait at all of several.

A consume at one shard waits there for as long as it may, but no longer than `_WAIT_S` at a time: an answer that is lost
together with its connection is then asked for again long before the lease of what it brought is over.

With several shards the first to be asked, without waiting, is the one after that which gave something last, so all
have their turn. If it has nothing, one question says which of the others have something. Shards are never asked for
more than is still wanted. When all are empty the consume waits at all of them at once and takes what the first one
gives; the others are told at once that nobody waits any more, and take back what they may have given meanwhile.

Whatever ends a consume without its messages, an error, a timeout or an interrupt: every shard that was asked and whose
messages nobody has is told so, in the background. That is no failure of a message.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gimmal.client.attendance import Attendance
from gimmal.client.calls import UNANSWERED, Call, Survey
from gimmal.client.queue_arguments import count_of, lease_to_ms, name_bytes, reason_bytes, wait_seconds
from gimmal.client.queue_types import Message, Receipt
from gimmal.client.shards import Known, Shards
from gimmal.client.steps import Aside, Plan
from gimmal.client.values import Values
from gimmal.client.verdicts import NoGroup, NoQueue
from gimmal.errors import GimmalError
from gimmal.types import Command
from gimmal.wire import limits
from gimmal.wire import queue_commands as wire

_WAIT_S: Final = 10.0
_CONSUMER: Final = "consumer_id"
_PENDING: Final = 0  # in the counts of a group


class Wish(NamedTuple):
    """What a consume asks for. `lease_ms` 0 is the queue's own; `wait_s` may be infinite."""

    consumer: bytes
    group: bytes
    most: int
    wait_s: float
    lease_ms: int


def wish_of(at: Attendance, consumer_id: Any, group: Any, most: int, timeout: float, lease: float | None) -> Wish:
    """Return what a user's arguments ask for."""
    return Wish(
        name_bytes(_CONSUMER, at.consumer if consumer_id is None else consumer_id),
        name_bytes("the name of a group", group),
        count_of("n", most),
        wait_seconds(timeout),
        0 if lease is None else lease_to_ms(lease),
    )


class Consume:
    """One consume of a user, from its first step to its messages."""

    def __init__(self, shards: Shards, at: Attendance, wish: Wish, values: Values) -> None:
        self._shards = shards
        self._at = at
        self._wish = wish
        self._values = values
        self._found: list[tuple[int, Any]] = []  # (shard, row)
        self._open: dict[tuple[int, int], None] = {}  # (shard, request) that may have got something
        self._call: Call[Any] | None = None

    def steps(self) -> Plan[list[Message]]:
        """Return the messages, none if there were none in time."""
        clock, wish, shards, at = self._at.clock, self._wish, self._shards, self._at
        until = clock() + wish.wait_s
        try:
            known = yield from shards.declared(at)
            yield from shards.grouped(at, known, wish.group)
            partitions = shards.partitions(at, known)
            at.on_waiting(partitions)
            try:
                yield from self._look(known, max(0.0, until - clock()))
                while not self._found and clock() < until:
                    yield from self._look(known, max(0.0, until - clock()))
                return (yield from self._messages(known))
            finally:
                at.on_waited(partitions)
        except GeneratorExit:
            raise
        except BaseException:
            yield from self._give_up(self._open)
            raise

    def _look(self, known: Known, left_s: float) -> Plan[None]:
        """Look once at all shards, and wait for a while if there is nothing."""
        wait_s = min(left_s, _WAIT_S)
        if known.count == 1:
            most = min(self._wish.most, limits.CONSUME_MAX)
            yield from self._round(known, {0: most}, wait_s)
            if len(self._found) < most:
                return
        yield from self._sweep(known)
        if not self._found and wait_s:
            most = min(self._wish.most, limits.CONSUME_MAX)
            yield from self._round(known, dict.fromkeys(range(known.count), most), wait_s)

    def _sweep(self, known: Known) -> Plan[None]:
        """Ask shards that may have something for what is missing, without waiting."""
        first = known.starts.get(self._wish.group, known.first_start)
        fresh = [(first + turn) % known.count for turn in range(known.count)]
        generous: list[int] = []
        has_asked = has_counted = False
        while (missing := self._wish.most - len(self._found)) > 0 and (fresh or generous):
            if has_asked and not has_counted and len(fresh) > max(1, missing):
                has_counted = True
                fresh = yield from self._with_something(known, fresh)
                continue
            has_asked = True
            asked = [*fresh, *generous][:missing]
            shares = _split(missing, asked)
            gave = yield from self._round(known, shares, 0.0)
            fresh = [shard for shard in fresh if shard not in shares]
            generous = [shard for shard in generous if shard not in shares]
            generous += [shard for shard in asked if gave.get(shard) == shares[shard]]

    def _with_something(self, known: Known, shards: list[int]) -> Plan[list[int]]:
        command: Command = (wire.QUEUE_STATS, self._wish.group)
        counts = yield from self._shards.survey(self._at, known, [(shard, command) for shard in shards])
        return [
            shard
            for shard, answer in zip(shards, counts, strict=True)
            if isinstance(answer, GimmalError) or answer[_PENDING]
        ]

    def _round(self, known: Known, shares: Mapping[int, int], wait_s: float) -> Plan[dict[int, int]]:
        """Ask shards for so many messages each, once; return how many each gave, if any did.

        Raises the first error if none gave anything.
        """
        wish, at = self._wish, self._at
        requests = {shard: at.next_request() for shard in shares}
        self._open |= dict.fromkeys(requests.items())
        parts = []
        for shard, most in shares.items():
            wanted = most, int(wait_s * 1000), wish.lease_ms
            command = wire.CONSUME, wish.group, (at.client, wish.consumer), requests[shard], wanted
            parts.append(self._shards.part(at, shard, command))
        call = self._call = Survey(parts, wait_s, is_race=wait_s > 0)
        yield call
        answers = dict(zip(shares, call.outcome(), strict=True))
        in_doubt: dict[tuple[int, int], None] = {}
        for shard, answer in answers.items():
            if answer is UNANSWERED or (isinstance(answer, GimmalError) and not isinstance(answer, NoQueue | NoGroup)):
                in_doubt[shard, requests[shard]] = None
            elif isinstance(answer, GimmalError) or not answer:
                self._open.pop((shard, requests[shard]))
        yield from self._give_up(in_doubt)
        gave = {shard: len(rows) for shard, rows in answers.items() if type(rows) is tuple and rows}
        self._found += [(shard, row) for shard in gave for row in answers[shard]]
        errors = {shard: answer for shard, answer in answers.items() if isinstance(answer, GimmalError)}
        if gave or errors:
            known.starts[wish.group] = (list(gave or errors)[-1] + 1) % known.count
        if not gave:
            yield from self._judge(known, errors)
        return gave

    def _judge(self, known: Known, errors: Mapping[int, GimmalError]) -> Plan[None]:
        """Put right what can be; raise what cannot."""
        for error in errors.values():
            if not isinstance(error, NoQueue | NoGroup):
                raise error
        lost = [shard for shard, error in errors.items() if isinstance(error, NoQueue)]
        groupless = [shard for shard, error in errors.items() if isinstance(error, NoGroup)]
        group = self._wish.group
        yield from self._shards.repair(self._at, known, lost, groupless, group)
        if lost:
            yield from self._shards.grouped(self._at, known, group)

    def _give_up(self, requests: Iterable[tuple[int, int]]) -> Plan[None]:
        """Tell shards that nobody waits for these requests, nor wants what they got."""
        parts = []
        for shard, request in list(requests):
            command = wire.CANCEL, self._wish.group, self._at.client, request
            parts.append(self._shards.part(self._at, shard, command))
            self._open.pop((shard, request), None)
        if parts:
            yield Aside(Survey(parts), self._call)

    def _messages(self, known: Known) -> Plan[list[Message]]:
        """Return what was found, and give back what is too much, or what cannot be read."""
        wish = self._wish
        taken, surplus = self._found[: wish.most], self._found[wish.most :]
        lease_s = wish.lease_ms / 1000 or known.lease_s
        messages: list[Message] = []
        why: Exception | None = None
        for shard, (number, token, attempts, retries, created_ms, data) in taken:
            try:
                payload = self._values.decode(data)
            except Exception as error:  # noqa: BLE001 - a user's serializer may raise anything
                why = why or error
                reason = reason_bytes(f"the payload cannot be read: {type(error).__name__}: {error}")
                command = wire.NACK, wish.group, ((number, token),), (True, None), reason
                yield Aside(Survey([self._shards.part(self._at, shard, command)]))
                continue
            receipt = Receipt(self._shards.place.name, wish.group, shard, number, token)
            messages.append(
                Message(receipt.message_id, payload, created_ms / 1000, attempts, retries, _receipt=receipt)
            )
        parts = []
        for shard in dict.fromkeys(shard for shard, _ in surplus):
            deliveries = tuple((row[0], row[1]) for at, row in surplus if at == shard)
            parts.append(self._shards.part(self._at, shard, (wire.RELEASE, wish.group, deliveries)))
        if parts:
            yield Aside(Survey(parts))
        for message in messages:
            assert message._receipt is not None, "it was consumed"
            self._at.hold(message._receipt, self._shards.place.key(message._receipt.shard), lease_s)
        if why is not None and not messages:
            raise why
        return messages


def _split(count: int, shards: list[int]) -> dict[int, int]:
    """Return how many messages to ask each shard for."""
    each, more = divmod(count, len(shards))
    return {shard: min(limits.CONSUME_MAX, each + (turn < more)) for turn, shard in enumerate(shards)}
