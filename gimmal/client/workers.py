"""Consumers that run by themselves, in threads: they take messages, have them handled, and settle them.

`concurrency` threads each take one message at a time, hand it to the handler, and acknowledge it, or nack it with the
text of the error. One more thread renews the leases of all that is being handled, so a handler may take its time.

A consumer survives whatever the cluster goes through: what is unavailable is tried again, after pauses of up to a
second, and logged once until it works again. It ends when it is stopped, or with its client.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gimmal.client import settling
from gimmal.client.attendance import Attendance
from gimmal.client.calls import Survey
from gimmal.client.consuming import Consume, wish_of
from gimmal.client.queue_arguments import count_of, lease_to_ms, name_bytes, reason_bytes
from gimmal.client.queue_types import Message, Receipt
from gimmal.client.shards import Shards
from gimmal.client.steps import Aside, Interrupted, Plan, Stopper
from gimmal.errors import ClientClosed, GimmalError, OperationTimeout, StaleLease, Unavailable
from gimmal.wire import queue_commands as wire

if TYPE_CHECKING:
    from gimmal.client.commands import Key
    from gimmal.client.sync import Client

logger = logging.getLogger("gimmal.client")

Handler: TypeAlias = Callable[[Any], Any]
"""What a consumer calls, with a payload or a `Message`."""

CONCURRENCY_MAX: Final = 1_000
_PAUSE_FIRST_S: Final = 0.02
_PAUSE_MAX_S: Final = 1.0
_LEASE_PARTS: Final = 3
_TRIES_WHEN_STOPPED: Final = 2


class Work:
    """What a consumer is to do, as it was asked for. Raises InvalidArgument or TypeError if that makes no sense."""

    def __init__(
        self, consumer_id: "Key | None", group: "Key", concurrency: int, lease: float | None, *, pass_message: bool
    ) -> None:
        if consumer_id is not None:
            name_bytes("consumer_id", consumer_id)
        name_bytes("the name of a group", group)
        self.consumer_id = consumer_id
        self.group = group
        self.concurrency = count_of("concurrency", concurrency, CONCURRENCY_MAX)
        self.lease = lease
        self.lease_ms = 0 if lease is None else lease_to_ms(lease)
        self.pass_message = pass_message

    def consume(self, shards: Shards, at: Attendance, values: Any) -> Plan[list[Message]]:
        """Return the plan for the next message, however long that takes."""
        wish = wish_of(at, self.consumer_id, self.group, 1, float("inf"), self.lease)
        return Consume(shards, at, wish, values).steps()


class Renewals:
    """Whose lease is to be renewed when: at a third of it, each time. Times are monotonic seconds."""

    def __init__(self, lease_s: float) -> None:
        self.lease_ms = max(1, round(lease_s * 1000))
        self.every_s = lease_s / _LEASE_PARTS
        self._lock = threading.Lock()
        self._due: dict[Receipt, float] = {}

    def begin(self, receipt: Receipt, now: float) -> None:
        """Learn that a message is being handled from now on."""
        with self._lock:
            self._due[receipt] = now + self.every_s

    def end(self, receipt: Receipt) -> bool:
        """Learn that it is not handled any more, or not this consumer's; return whether it was until now."""
        with self._lock:
            return self._due.pop(receipt, None) is not None

    def take_due(self, now: float) -> list[Receipt]:
        """Return what is to be renewed now."""
        with self._lock:
            due = [receipt for receipt, at in self._due.items() if at <= now]
            self._due |= dict.fromkeys(due, now + self.every_s)
            return due

    def try_again(self, receipts: Sequence[Receipt], at: float) -> None:
        """Learn that it did not work: it is due again soon."""
        with self._lock:
            self._due |= {receipt: min(at, self._due[receipt]) for receipt in receipts if receipt in self._due}

    def pause_s(self, now: float) -> float:
        """Return how long there is nothing to do, also for what begins meanwhile."""
        with self._lock:
            return max(0.0, min([now + self.every_s, *self._due.values()]) - now)


class Troubles:
    """What keeps one consumer from its work: logged when it begins, and waited for with growing pauses."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._dice = SystemRandom()
        self._count = 0

    def next_pause_s(self, error: GimmalError) -> float:
        """Return how long to wait before the next try, in seconds."""
        if not self._count:
            logger.warning("consumer of %s: %s; it goes on trying", self._name, error)
        self._count += 1
        longest = min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(self._count, 16))
        return self._dice.uniform(longest / 2, longest)

    def over(self) -> None:
        """Learn that it works again."""
        if self._count:
            self._count = 0
            logger.info("consumer of %s: it works again", self._name)


def what_follows(error: BaseException | None) -> tuple[int, tuple[object, ...]]:
    """Return how to settle a message whose handler returned, or raised an error: the code and its details."""
    if error is None:
        return wire.ACK, ()
    return wire.NACK, ((True, None), reason_bytes(f"{type(error).__name__}: {error}"))


def receipt_in(message: Message) -> Receipt:
    """Return the delivery that a consumed message came with."""
    receipt = message._receipt
    assert receipt is not None, "it was consumed"
    return receipt


def give_back(shards: Shards, at: Attendance, receipt: Receipt) -> Plan[None]:
    """Release a message in the background."""
    deliveries = ((receipt.number, receipt.token),)
    part = shards.part(at, receipt.shard, (wire.RELEASE, receipt.group, deliveries))
    at.let_go(receipt)
    yield Aside(Survey([part]))


class Consumer:
    """Worker threads on one queue. Made by `Queue.start_consumer`; ends with `stop`, or with its client."""

    def __init__(self, client: "Client", shards: Shards, work: Work, handler: Handler) -> None:
        self._client = client
        self._shards = shards
        self._work = work
        self._handler = handler
        self._renewals = Renewals(work.lease_ms / 1000 or shards.lease_s)
        self._troubles = Troubles(f"queue {shards.name!r}")
        self._stoppers = [Stopper() for _ in range(work.concurrency)]
        self._is_stopped = threading.Event()
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._running_count = work.concurrency
        name = f"gimmal-consumer-{shards.name}"
        self._threads = [
            threading.Thread(target=self._serve, args=(stopper,), name=f"{name}-{index}", daemon=True)
            for index, stopper in enumerate(self._stoppers, 1)
        ]
        self._threads.append(threading.Thread(target=self._renew, name=f"{name}-leases", daemon=True))

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped.is_set() else "running"
        return f"<consumer of queue {self._shards.name!r}, {state}>"

    def start(self) -> None:
        """Begin; `Queue.start_consumer` has done so."""
        self._client._consumers[self] = None
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Take no new messages; what is being handled is finished and settled, what is not begun is given back.

        With a `timeout` this waits as `join` does; without one it does not wait. Returns whether all has ended.
        """
        self._is_stopped.set()
        for stopper in self._stoppers:
            stopper.stop()
        return self.join(0.0 if timeout is None else timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the consumer has ended, at most `timeout` seconds; return whether it has.

        A handler that calls this does not wait for itself.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            if thread is threading.current_thread() or (thread is self._threads[-1] and self._is_a_worker()):
                continue
            thread.join(None if give_up_at is None else max(0.0, give_up_at - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _is_a_worker(self) -> bool:
        return threading.current_thread() in self._threads

    # -- threads ----------------------------------------------------------------------------------------------

    def _serve(self, stopper: Stopper) -> None:
        try:
            while not self._is_stopped.is_set():
                message = self._next(stopper)
                if message is not None and self._is_stopped.is_set():
                    self._release(receipt_in(message))
                elif message is not None:
                    self._handle(message)
        except (ClientClosed, Interrupted):
            pass
        finally:
            with self._lock:
                self._running_count -= 1
                is_last = not self._running_count
            if is_last:
                self._is_over.set()
                self._client._consumers.pop(self, None)

    def _next(self, stopper: Stopper) -> Message | None:
        """Return the next message; None if it has to be tried again."""
        try:
            found = self._client._carry_out(
                lambda at: self._work.consume(self._shards, at, self._client._values),
                None,
                is_waiting=True,
                stopper=stopper,
            )
        except (ClientClosed, Interrupted):
            raise
        except GimmalError as error:
            self._is_stopped.wait(self._troubles.next_pause_s(error))
            return None
        except Exception:
            logger.exception("consumer of queue %r: no message could be taken", self._shards.name)
            self._is_stopped.wait(_PAUSE_MAX_S)
            return None
        self._troubles.over()
        return found[0] if found else None

    def _handle(self, message: Message) -> None:
        receipt = receipt_in(message)
        self._renewals.begin(receipt, time.monotonic())
        error: BaseException | None = None
        try:
            self._handler(message if self._work.pass_message else message.payload)
        except BaseException as raised:  # noqa: BLE001 - whatever a handler raises is said of its message
            error = raised
            if not isinstance(raised, Exception):
                logger.warning("handler of queue %r raised %s", self._shards.name, type(raised).__name__)
        self._settle(*what_follows(error), receipt)
        self._renewals.end(receipt)

    def _settle(self, code: int, details: tuple[object, ...], receipt: Receipt) -> None:
        """Settle a message, and go on trying; once the consumer is stopped only a few times."""
        tries_left = _TRIES_WHEN_STOPPED
        while tries_left:
            tries_left -= self._is_stopped.is_set()
            self._renewals.end(receipt)
            try:
                self._client._carry_out(lambda at: settling.settle_one(self._shards, at, code, receipt, *details), None)
            except (Unavailable, OperationTimeout) as error:
                self._renewals.begin(receipt, time.monotonic())
                time.sleep(self._troubles.next_pause_s(error))
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

    def _release(self, receipt: Receipt) -> None:
        self._client._carry_out(lambda at: give_back(self._shards, at, receipt), None)

    def _renew(self) -> None:
        renewals = self._renewals
        while not self._is_over.wait(renewals.pause_s(time.monotonic())):
            due = renewals.take_due(time.monotonic())
            if not due:
                continue
            try:
                failed = self._client._carry_out(extension(self._shards, due, renewals.lease_ms), None)
            except ClientClosed:
                return
            except GimmalError as error:
                failed = {receipt.message_id: error for receipt in due}
            after_failures(renewals, due, failed, time.monotonic())


def extension(
    shards: Shards, receipts: list[Receipt], lease_ms: int
) -> Callable[[Attendance], Plan[dict[str, GimmalError]]]:
    """Return the plan that renews leases and returns what failed, by message id."""

    def make(at: Attendance) -> Plan[dict[str, GimmalError]]:
        failed = yield from settling.settle(shards, at, wire.EXTEND, receipts, lease_ms)
        for receipt in receipts:
            if receipt.message_id not in failed:
                at.hold(receipt, shards.place.key(receipt.shard), lease_ms / 1000)
        return failed

    return make


def after_failures(renewals: Renewals, receipts: list[Receipt], failed: dict[str, GimmalError], now: float) -> None:
    """Give up leases that are no more; those that could not be asked for are due again soon."""
    for receipt in receipts:
        error = failed.get(receipt.message_id)
        if isinstance(error, StaleLease):
            if renewals.end(receipt):  # else it was settled while this was under way
                logger.warning("%s", error)
        elif error is not None:
            renewals.try_again([receipt], now + min(_PAUSE_MAX_S, renewals.every_s / 4))


def stop_all(consumers: Sequence[Consumer], timeout: float) -> None:
    """Stop consumers, and wait up to `timeout` seconds for all of them."""
    for consumer in consumers:
        consumer.stop()
    give_up_at = time.monotonic() + timeout
    for consumer in consumers:
        consumer.join(max(0.0, give_up_at - time.monotonic()))
