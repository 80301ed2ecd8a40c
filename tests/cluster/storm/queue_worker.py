"""A producer or consumer of a storm over queues: a process of its own, which keeps a journal.

    python -m tests.cluster.storm.queue_worker KIND NAME NUMBER SEED PACE SEEDS JOURNAL

It ends in good order at SIGTERM. What it must never see it writes down as WRONG, and then ends with status 1.
"""

import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import gimmal
from gimmal.errors import GimmalError, OperationTimeout, StaleLease, Unavailable
from tests.cluster.storm.queue_journal import NO_GROUP_KEY, Given, Journal, Word

QUEUE: Final = "storm"
LEASE_S: Final = 12.0
SETTINGS: Final[dict[str, Any]] = {
    "shards": 8,
    "lease": LEASE_S,
    "backoff": 0.1,
    "backoff_max": 1.0,
    "max_retries": 8,
    "max_length": 40_000,
}
POISON_EVERY: Final = 5_000
"""Each so many-th message of a producer is never handled, and must become a dead letter."""
ELEMENTS_EACH: Final = 100_000_000

BATCH, SINGLE, KEYED, ONCE = "batch", "single", "keyed", "once"
PRODUCERS: Final = (BATCH, BATCH, BATCH, BATCH, SINGLE, SINGLE, KEYED, ONCE)
MANY, ONE, HANDLER = "many", "one", "handler"
CONSUMERS: Final = (MANY,) * 8 + (ONE,) * 4 + (HANDLER,) * 4

_BATCH: Final = 50
_EACH_S: Final = {BATCH: 0.2, SINGLE: 0.05, KEYED: 0.03, ONCE: 0.05}
_BEHIND_MAX_S: Final = 3.0
_LANES: Final = 16
_NACKS: Final = 0.004
_DAWDLES: Final = 0.0005
_DAWDLE_S: Final = LEASE_S + 1.5
_WORK_S: Final = {MANY: 0.01, ONE: 0.02, HANDLER: 0.03}
_CONSUME_S: Final = 1.0
_RESTS_S: Final = 0.1
_LOOK_EVERY_S: Final = 0.1
_TRIES: Final = 4
_PULSE_S: Final = 0.5
_SLEPT_S: Final = 2.0
_PAYLOAD: Final = "x" * 64
_SETTLED: Final = StaleLease("settled")


def is_poison(element: int) -> bool:
    """Say whether a message can never be handled."""
    return element % POISON_EVERY == 7


class Worker:
    """What both have."""

    def __init__(self, kind: str, name: str, seed: int, queue: gimmal.Queue, journal: Journal) -> None:
        self.kind = kind
        self.name = name
        self.queue = queue
        self.journal = journal
        self.dice = random.Random(f"{seed} {name}")
        self.is_over = False
        signal.signal(signal.SIGTERM, self._end)
        threading.Thread(target=self._pulse, daemon=True).start()

    def _end(self, *_: object) -> None:
        self.is_over = True

    def rest(self, seconds: float) -> bool:
        """Do nothing for a while, or until it is over; return whether it is."""
        until = time.monotonic() + seconds
        while not self.is_over and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_EVERY_S))
        return self.is_over

    def _pulse(self) -> None:
        """Notice when nobody could have told the cluster that this process lives: it was not run."""
        before = time.monotonic()
        while True:
            time.sleep(_PULSE_S)
            now = time.monotonic()
            if now - before > _PULSE_S + _SLEPT_S:
                self.journal.write(Word.SLEPT, f"{before:.3f}", f"{now:.3f}")
            before = now

    def note(self, error: GimmalError) -> None:
        """Write down that an operation ended with an error, which has to be one that storms bring."""
        name = type(error).__name__
        if isinstance(error, OperationTimeout):
            name += f"(maybe_applied={error.maybe_applied})"
        self.journal.write(Word.ERROR, name)
        if not isinstance(error, Unavailable | OperationTimeout | StaleLease | gimmal.errors.QueueFull):
            self.journal.write(Word.WRONG, f"{self.name}: {type(error).__name__}: {error}")


class Producer(Worker):
    """Produces at a steady pace; when it was held up, it makes up for a few seconds of it."""

    def run(self, number: int, pace: float) -> None:
        """Produce until it is over; a pace of 1 is that of all together 1,100 messages a second."""
        each_s = _EACH_S[self.kind] / pace
        element = number * ELEMENTS_EACH
        produce = {BATCH: self._batch, SINGLE: self._single, KEYED: self._keyed, ONCE: self._once}[self.kind]
        due_at = time.monotonic()
        while not self.rest(due_at - time.monotonic()):
            due_at = max(due_at + each_s, time.monotonic() - _BEHIND_MAX_S)
            element = produce(element + 1)

    def _batch(self, first: int) -> int:
        elements = range(first, first + _BATCH)
        done: dict[int, str] = {}
        failed: dict[int, GimmalError] = {}
        try:
            ids = self.queue.produce_many([[element, _PAYLOAD] for element in elements])
            done = dict(enumerate(ids))
        except GimmalError as error:
            self.note(error)
            partly: Any = error
            if error.failed:
                done, failed = partly.done, partly.failed
            else:
                failed = dict.fromkeys(range(_BATCH), error)
        self._report([(elements[index], message_id) for index, message_id in done.items()])
        for word, is_open in ((Word.OPEN, True), (Word.REFUSED, False)):
            some = [elements[index] for index, error in failed.items() if _is_open(error) is is_open]
            if some:
                self.journal.write(word, *some)
        return elements[-1]

    def _single(self, element: int) -> int:
        self._try(element, lambda: self.queue.produce([element, _PAYLOAD]))
        return element

    def _keyed(self, element: int) -> int:
        key = f"{self.name}.{element % _LANES}"
        self._try(element, lambda: self.queue.produce([element, _PAYLOAD], group_key=key), key)
        return element

    def _once(self, element: int) -> int:
        """Try again until it is certain: the id of the first time is that of all."""
        while not self._try(element, lambda: self.queue.produce([element, _PAYLOAD], dedup_id=str(element))):
            if self.rest(_RESTS_S):
                break
        return element

    def _try(self, element: int, produce: Callable[[], str], group_key: str = NO_GROUP_KEY) -> bool:
        try:
            message_id = produce()
        except GimmalError as error:
            self.note(error)
            self.journal.write(Word.OPEN if _is_open(error) else Word.REFUSED, element)
            return False
        self._report([(element, message_id)], group_key)
        return True

    def _report(self, done: Sequence[tuple[int, str]], group_key: str = NO_GROUP_KEY) -> None:
        if done:
            self.journal.write(Word.PRODUCED, group_key, *(f"{element}:{message_id}" for element, message_id in done))


class Consumer(Worker):
    """Takes messages and settles them; some late, some as failed."""

    def run(self) -> None:
        """Consume until it is over; what was taken is settled."""
        if self.kind == HANDLER:
            running = self.queue.start_consumer(self.name, self._handle, concurrency=2, pass_message=True, timeout=60.0)
            while not self.rest(_CONSUME_S):
                pass
            if not running.stop(30.0):
                self.journal.write(Word.WRONG, f"{self.name}: its consumer did not stop within 30 s")
            return
        while not self.is_over:
            asked_at = time.monotonic()
            try:
                messages = self._consume()
            except GimmalError as error:
                self.note(error)
                self.rest(_RESTS_S)
                continue
            if messages:
                self.journal.delivered(asked_at, time.monotonic(), map(_given, messages))
                self._settle(messages)

    def _consume(self) -> list[gimmal.Message]:
        if self.kind == MANY:
            return self.queue.consume_many(_BATCH, self.name, _CONSUME_S)
        message = self.queue.consume(self.name, _CONSUME_S)
        return [] if message is None else [message]

    def _settle(self, messages: list[gimmal.Message]) -> None:
        time.sleep(_WORK_S[self.kind] if self.dice.random() > _DAWDLES else _DAWDLE_S)
        failed = [message for message in messages if is_poison(message.payload[0]) or self.dice.random() < _NACKS]
        for message in failed:
            self.journal.write(Word.NACKING, _pair(message))
            try:
                self.queue.nack(message, reason="it was to fail")
            except GimmalError as error:
                self.note(error)
        failed_ids = {message.id for message in failed}
        left = [message for message in messages if message.id not in failed_ids]
        for _ in range(_TRIES):
            if not left:
                return
            left = self._ack(left)

    def _ack(self, messages: list[gimmal.Message]) -> list[gimmal.Message]:
        """Acknowledge messages; return those of which nothing is known."""
        self.journal.write(Word.ACKING, *map(_pair, messages))
        failed: dict[str, GimmalError] = {}
        try:
            if self.kind == MANY:
                self.queue.ack_many(messages)
            else:
                self.queue.ack(messages[0])
        except GimmalError as error:
            self.note(error)
            failed = dict(error.failed) or dict.fromkeys((message.id for message in messages), error)
        acked = [message for message in messages if message.id not in failed]
        stale = [message for message in messages if isinstance(failed.get(message.id), StaleLease)]
        for word, some in ((Word.ACKED, acked), (Word.STALE, stale)):
            if some:
                self.journal.write(word, *map(_pair, some))
        return [message for message in messages if not isinstance(failed.get(message.id, _SETTLED), StaleLease)]

    def _handle(self, message: gimmal.Message) -> None:
        now = time.monotonic()
        self.journal.delivered(now, now, [_given(message)])
        time.sleep(_WORK_S[HANDLER])
        if is_poison(message.payload[0]) or self.dice.random() < _NACKS:
            self.journal.write(Word.NACKING, _pair(message))
            raise ValueError("it was to fail")
        self.journal.write(Word.ACKING, _pair(message))


def _is_open(error: GimmalError) -> bool:
    return isinstance(error, OperationTimeout) and error.maybe_applied


def _given(message: gimmal.Message) -> Given:
    return Given(message.payload[0], message.id, message.token, message.attempts, message.retry_count)


def _pair(message: gimmal.Message) -> str:
    return f"{message.payload[0]}:{message.token}"


def main() -> int:
    """Run one worker; return the exit status."""
    kind, name, number, seed, pace, seeds, file = sys.argv[1:]
    journal = Journal(Path(file))
    try:
        with gimmal.connect(seeds, timeout=15.0) as db:
            queue = db.queue(QUEUE, **SETTINGS)
            if kind in PRODUCERS:
                Producer(kind, name, int(seed), queue, journal).run(int(number), float(pace))
            else:
                Consumer(kind, name, int(seed), queue, journal).run()
    except BaseException:
        journal.write(Word.WRONG, f"{name}: {traceback.format_exc()}")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
