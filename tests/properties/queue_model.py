"""One shard of a queue as a reader of the reference would keep it: lists and dicts, searched from end to end.

It says what every command answers and what the state is afterwards. Of the store it uses three things: how large a
message counts (`size_of` is about that), how long a backoff is, which has tests of its own, and the bounds.
"""

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from gimmal.store.queues.group import backoff_ms
from gimmal.store.queues.shard import MESSAGE_OVERHEAD_BYTES
from gimmal.wire import limits

WAITING, HELD, DEAD, ACKED, PURGED = "waiting", "held", "dead", "acked", "purged"
Deliveries: TypeAlias = tuple[tuple[int, int], ...]
Failure: TypeAlias = tuple[bytes, str, bytes, int]
DONE, STALE = 0, 1


@dataclass
class Sent:
    """A message as it was produced."""

    payload: bytes
    key: bytes
    created_ms: int
    due_ms: int


@dataclass
class Place:
    """What became of a message in one group. `due_ms` 0: as soon as it is first in its lane."""

    due_ms: int
    state: str = WAITING
    attempts: int = 0
    retries: int = 0
    token: int = 0
    who: tuple[bytes, bytes] = (b"", b"")
    request: int = 0
    failures: list[Failure] = field(default_factory=list)


@dataclass
class Group:
    """The places of one group; `lanes` has the unsettled messages of each group key, in order."""

    places: dict[int, Place] = field(default_factory=dict)
    lanes: dict[bytes, list[int]] = field(default_factory=dict)
    dead: list[int] = field(default_factory=list)
    redelivered: int = 0

    def having(self, state: str) -> list[int]:
        return sorted(number for number, place in self.places.items() if place.state == state)


class Shard:
    """The whole of it. `settings` are (max_retries, lease, backoff, backoff_max, shards, max_length)."""

    def __init__(self, settings: tuple[int, ...], last: int) -> None:
        self.max_retries, _, self.backoff_ms, self.backoff_max_ms, shards, max_length = settings
        self.most = -(-max_length // shards)
        self.last = last
        self.sent: dict[int, Sent] = {}
        self.groups = {b"default": Group()}
        self.dedup: dict[bytes, tuple[int, int]] = {}

    # what there is

    def is_first(self, group: Group, number: int) -> bool:
        return group.lanes.get(self.sent[number].key, [number])[0] == number

    def open(self) -> set[int]:
        return {number for group in self.groups.values() for number in group.having(WAITING) + group.having(HELD)}

    def footprint(self) -> int:
        kept = self.open() | {number for group in self.groups.values() for number in group.dead}
        messages = sum(len(self.sent[number].payload) + len(self.sent[number].key) for number in kept)
        ids = sum(len(dedup_id) + MESSAGE_OVERHEAD_BYTES // 2 for dedup_id in self.dedup)
        return messages + MESSAGE_OVERHEAD_BYTES * len(kept) + ids

    def stats(self, name: bytes, now_ms: int) -> tuple[int, ...]:
        group = self.groups[name]
        waiting = group.having(WAITING)
        delayed = [
            number for number in waiting if self.is_first(group, number) and group.places[number].due_ms > now_ms
        ]
        pending = [number for number in waiting if number not in delayed]
        counts = len(pending), len(group.having(HELD)), len(group.having(ACKED)), len(group.dead), len(delayed)
        return *counts, group.redelivered, now_ms - self.sent[pending[0]].created_ms if pending else 0

    def letters(self, name: bytes) -> tuple[object, ...]:
        group, letters, size = self.groups[name], [], 0
        for number in group.dead:
            sent, place = self.sent[number], group.places[number]
            if size < limits.GRANT_BYTES_MAX:
                counts = sent.created_ms, place.attempts, place.retries
                letters.append((number, sent.payload, *counts, tuple(place.failures)))
            size += len(sent.payload) + sum(len(text) for _, _, text, _ in place.failures)
        return tuple(letters)

    # what comes in, and is given away

    def produce(self, messages: list[tuple[bytes, bytes, bytes]], delay_ms: int, now_ms: int) -> list[int] | None:
        self.dedup = {dedup_id: known for dedup_id, known in self.dedup.items() if known[1] > now_ms}
        known = {dedup_id: number for dedup_id, (number, _) in self.dedup.items()}
        numbers, new = [], dict[int, tuple[bytes, bytes, bytes]]()
        for message in messages:
            number = known.get(message[2]) or self.last + len(new) + 1
            numbers.append(number)
            if message[2]:
                known[message[2]] = number
            if number > self.last:
                new.setdefault(number, message)
        if self.most and new and len(self.open()) + len(new) > self.most:
            return None
        for number, (payload, key, dedup_id) in new.items():
            self.sent[number] = Sent(payload, key, now_ms, now_ms + delay_ms if delay_ms else 0)
            for group in self.groups.values():
                group.places[number] = Place(self.sent[number].due_ms)
                if key:
                    group.lanes.setdefault(key, []).append(number)
            if dedup_id:
                self.dedup[dedup_id] = number, now_ms + limits.DEDUP_MS
        self.last += len(new)
        return numbers

    def grant(self, name: bytes, who: tuple[bytes, bytes], request: int, most: int, seq: int, now_ms: int) -> list[int]:
        group = self.groups[name]
        places = group.places
        if before := self.got(group, who[0], request):
            return before
        first = [number for number in group.having(WAITING) if self.is_first(group, number)]
        due = [number for number in first if 0 < places[number].due_ms <= now_ms]
        for number in sorted(due, key=lambda number: (places[number].due_ms, number))[:most]:
            places[number].due_ms = 0
        numbers, size = list[int](), 0
        for number in [number for number in first if not places[number].due_ms][:most]:
            if size >= limits.GRANT_BYTES_MAX:
                break
            size += len(self.sent[number].payload)
            numbers.append(number)
            place = places[number]
            group.redelivered += place.attempts > 0
            places[number] = replace(
                place, state=HELD, attempts=place.attempts + 1, token=seq, who=who, request=request
            )
        return numbers

    def got(self, group: Group, client: bytes, request: int) -> list[int]:
        places = group.places
        held = [number for number in group.having(HELD) if places[number].who[0] == client]
        return [number for number in held if places[number].request == request]

    # what ends

    def ack(self, name: bytes, deliveries: Deliveries, now_ms: int) -> list[int]:
        group, outcomes = self.groups[name], []
        for number, token in deliveries:
            place = group.places[number]
            is_good = place.token == token and place.state in (WAITING, HELD, ACKED)
            outcomes.append(DONE if is_good else STALE)
            if is_good and place.state != ACKED:
                self.settle(group, number, ACKED, now_ms)
        return outcomes

    def settle(self, group: Group, number: int, state: str, now_ms: int) -> None:
        group.places[number].state = state
        lane = group.lanes.get(self.sent[number].key)
        if lane:
            assert lane.pop(0) == number
            if not lane:
                del group.lanes[self.sent[number].key]
            elif group.places[lane[0]].due_ms <= now_ms:
                group.places[lane[0]].due_ms = 0

    def held(self, name: bytes, deliveries: Deliveries) -> list[int]:
        """Those of the deliveries that are in flight, each once."""
        places = self.groups[name].places
        found = [
            number for number, token in deliveries if places[number].state == HELD and places[number].token == token
        ]
        return list(dict.fromkeys(found))

    def fail(self, name: bytes, number: int, cause: str, text: bytes, now_ms: int, delay_ms: int | None = None) -> None:
        group = self.groups[name]
        place = group.places[number]
        place.retries += 1
        place.failures.append((place.who[1], cause, text, now_ms))
        if len(place.failures) > limits.FAILURES_MAX:
            del place.failures[1]
        if cause == "rejected" or place.retries >= self.max_retries:
            self.settle(group, number, DEAD, now_ms)
            group.dead.append(number)
            return
        if delay_ms is None:
            delay_ms = backoff_ms(self.backoff_ms, self.backoff_max_ms, place.retries, number)
        place.state, place.due_ms = WAITING, now_ms + delay_ms if delay_ms else 0

    def release(self, name: bytes, number: int) -> None:
        self.groups[name].places[number].state = WAITING
        self.groups[name].places[number].due_ms = 0

    def redrive(self, name: bytes, limit: int) -> int:
        group = self.groups[name]
        numbers, group.dead = group.dead[:limit], group.dead[limit:]
        for number in numbers:
            old = group.places[number]
            group.places[number] = Place(0, attempts=old.attempts)
            if self.sent[number].key:
                group.lanes.setdefault(self.sent[number].key, []).append(number)
        return len(numbers)

    def purge(self, name: bytes, limit: int) -> int:
        group = self.groups[name]
        numbers, group.dead = group.dead[:limit], group.dead[limit:]
        for number in numbers:
            group.places[number].state = PURGED
        return len(numbers)
