"""The queue chapters of the tour that `gimmal demo` gives: consumers that share work, and an owner that is killed."""

import threading
import time
from collections import Counter
from itertools import pairwise
from typing import Any, Final

from gimmal.cli.narrator import Narrator
from gimmal.client.queues import Queue
from gimmal.client.sync import Client
from gimmal.errors import GimmalError
from gimmal.testing import LocalCluster
from gimmal.testing.queue_ledger import QueueLedger

_TIMEOUT_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.005
_OF_EACH_KIND: Final = 20
_TRIES: Final = 4
_BACKOFF_S: Final = 0.2
_CLOCKS_DIFFER_S: Final = 0.01
_HANDLING_S: Final = 0.01
_WORKERS: Final = 2
_THREADS_EACH: Final = 4
_JOBS: Final = 200
_MORE_JOBS: Final = 100
_DONE_BEFORE: Final = 50
_JOB_S: Final = 0.05
_CONSUME_S: Final = 0.5
_ERROR: Final = "no template 'monthly'"


class Workers:
    """Consumers of the queue 'jobs', each a client with some threads; they note in a ledger what they do."""

    def __init__(self, cluster: LocalCluster, ledger: QueueLedger) -> None:
        self._ledger = ledger
        self._clients = [cluster.connect(timeout=_TIMEOUT_S) for _ in range(_WORKERS)]
        self._is_over = False
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(client.queue("jobs"), f"worker-{number}"))
            for number, client in enumerate(self._clients * _THREADS_EACH, 1)
        ]
        self.in_flight_count = 0
        self.done_count = 0
        self.errors: list[str] = []

    def __enter__(self) -> "Workers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def _run(self, queue: Queue, name: str) -> None:
        while not self._is_over:
            try:
                self._work(queue, name)
            except GimmalError as error:
                self.errors.append(str(error))

    def _work(self, queue: Queue, name: str) -> None:
        message = queue.consume(name, _CONSUME_S)
        if message is None:
            return
        self._ledger.delivered(message.payload, message.id, message.token, name)
        with self._lock:
            self.in_flight_count += 1
        try:
            time.sleep(_JOB_S)
            queue.ack(message)
            self._ledger.acknowledged(message.payload, message.token)
        finally:
            with self._lock:
                self.in_flight_count -= 1
                self.done_count += 1

    def wait_until_busy(self) -> int:
        """Wait until some jobs are done and others in flight; return how many are in flight."""
        give_up_at_s = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < give_up_at_s:
            count = self.in_flight_count
            if self.done_count >= _DONE_BEFORE and count:
                return count
            time.sleep(_LOOK_EVERY_S)
        return 0


class QueueTour:
    """A cluster of three nodes, a client of it, and what is told about queues."""

    def __init__(self, narrator: Narrator, cluster: LocalCluster, client: Client) -> None:
        self._narrator = narrator
        self._cluster = cluster
        self._client = client

    def sharing(self) -> None:
        """Let two consumers share emails and payments, and one task fail until it is a dead letter."""
        say, check = self._narrator.say, self._narrator.check
        queue = self._client.queue("tasks", max_retries=_TRIES, backoff=_BACKOFF_S)
        handled: list[tuple[str, Any]] = []
        failed_at_s: list[float] = []

        def start(name: str) -> Any:
            def handle(task: Any) -> None:
                if task["kind"] == "report":
                    failed_at_s.append(time.monotonic())
                    raise RuntimeError(_ERROR)
                time.sleep(_HANDLING_S)
                handled.append((name, (task["kind"], task["number"])))

            return queue.start_consumer(name, handle)

        tasks = [(kind, number) for number in range(_OF_EACH_KIND) for kind in ("email", "payment")]
        queue.produce({"kind": "report", "number": 0})
        queue.produce_many({"kind": kind, "number": number} for kind, number in tasks)
        say(f"{_OF_EACH_KIND} emails, {_OF_EACH_KIND} payments and a report are in the queue 'tasks'")
        consumers = [start(f"worker-{number}") for number in range(1, _WORKERS + 1)]
        self._narrator.check_becomes(
            f"{_WORKERS} consumers handled all emails and payments, each once",
            sorted(tasks),
            lambda: sorted(task for _, task in handled),
            timeout=_TIMEOUT_S,
        )
        shares = Counter(name for name, _ in handled)
        check(f"both had a share: {_listed(shares)}", _WORKERS, len(shares))
        self._narrator.check_becomes(
            f"the report failed {_TRIES} times, and is a dead letter",
            (_TRIES, len(tasks), 1, 0),
            lambda: (len(failed_at_s), *_counts(queue, "completed", "dead_letter", "in_progress")),
            timeout=_TIMEOUT_S,
        )
        for consumer in consumers:
            consumer.stop(_TIMEOUT_S)
        pauses_s = [later - earlier for earlier, later in pairwise(failed_at_s)]
        least_s = [_BACKOFF_S / 2 * 2**number for number in range(len(pauses_s))]
        say(f"it was tried again after {', '.join(f'{pause_s:.2f} s' for pause_s in pauses_s)}")
        check(
            f"the delays grow: at least {', '.join(f'{pause_s:g} s' for pause_s in least_s)}",
            [True] * len(least_s),
            [pause_s >= least - _CLOCKS_DIFFER_S for pause_s, least in zip(pauses_s, least_s, strict=True)],
        )
        letters = queue.dead_letters()
        check(
            "the dead letter says why: RuntimeError: " + _ERROR,
            [("report", "nack", f"RuntimeError: {_ERROR}", _TRIES)],
            [(letter.payload["kind"], letter.reason, letter.error, letter.attempts) for letter in letters],
        )

    def owner_killed(self) -> None:
        """Kill the node that owns a queue while consumers hold messages of it: each is finished, none comes twice."""
        say, check, cluster = self._narrator.say, self._narrator.check, self._cluster
        queue = self._client.queue("jobs")
        ledger = QueueLedger()
        _produce(queue, ledger, range(_JOBS))
        say(f"{_JOBS} jobs are in the queue 'jobs'; {_WORKERS} clients with {_THREADS_EACH} threads each work on them")
        with Workers(cluster, ledger) as workers:
            in_flight_count = workers.wait_until_busy()
            killed = cluster.owner_of("{jobs/0}")
            cluster.kill(killed)
            say(f"kill -9 {killed}, which owned the queue")
            check(f"{in_flight_count} messages were in flight when it was killed", True, in_flight_count > 0)
            _produce(queue, ledger, range(_JOBS, _JOBS + _MORE_JOBS))
            say(f"{_MORE_JOBS} more jobs were produced since")
            self._narrator.check_becomes(
                "the queue is empty: every job is completed, and there are no dead letters",
                (0, 0, _JOBS + _MORE_JOBS, 0),
                lambda: _counts(queue, "pending", "in_progress", "completed", "dead_letter"),
                timeout=_TIMEOUT_S,
            )
        check("no consumer met an error", [], workers.errors)
        owner = cluster.owner_of("{jobs/0}")
        check(f"{owner} owns the queue now", True, owner != killed)
        result = ledger.check()
        say(
            f"the ledger: {result.produced} produced, {result.delivered} deliveries, "
            f"{result.acknowledged} acknowledged, {len(result.lost)} lost, {result.redelivered} delivered twice"
        )
        result.raise_if_wrong()
        check("every message finished", (_JOBS + _MORE_JOBS, ()), (result.acknowledged, result.lost))
        check("and none came twice", (_JOBS + _MORE_JOBS, 0), (result.delivered, result.redelivered))


def _produce(queue: Queue, ledger: QueueLedger, jobs: range) -> None:
    ids = queue.produce_many(jobs, timeout=_TIMEOUT_S)
    for job, message_id in zip(jobs, ids, strict=True):
        ledger.produced(job, message_id)


def _counts(queue: Queue, *names: str) -> tuple[int, ...]:
    stats = queue.stats(timeout=_TIMEOUT_S)
    return tuple(stats[name] for name in names)


def _listed(shares: Counter[str]) -> str:
    return ", ".join(f"{name} handled {count}" for name, count in sorted(shares.items()))
