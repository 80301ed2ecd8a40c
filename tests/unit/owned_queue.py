"""One queue of one shard on a few nodes that hold copies of it, and consumers who ask its owner.

queue = OwnedQueue(max_retries=2)      n1 leads; n2 and n3 have copies
number = queue.consume(ANNA)           a CONSUME; `got(number)` is what came of it, NOTHING while it waits
queue.wait(3.0, ANNA)                  three seconds pass, in which Anna's client says that it is there
queue.fail_over()                      n2 leads
"""

from typing import Any

from gimmal.wire import queue_commands as q
from gimmal.wire.messages import KeepAlive
from tests.unit.planes import CLUSTER, Planes

SHARD = b"{tasks/0}"
ANNA, BEN = b"a" * 16, b"b" * 16
NOTHING: Any = "nothing"


class OwnedQueue:
    """A queue with one shard, led by n1 at first."""

    def __init__(self, *names: str, **settings: int) -> None:
        self.planes = Planes(*names)
        self.leader = self.planes.planes.keys().__iter__().__next__()
        self.requests = 0
        fields = ("max_retries", "lease_ms", "backoff_ms", "backoff_max_ms", "shards", "max_length")
        self.ask(q.DECLARE, tuple(settings.get(field) for field in fields))
        (replica,) = (
            replica
            for replica in self.planes[self.leader].serving.holdings.replicas.values()
            if replica.engine.queues.shards
        )
        self.first = replica.engine.queues.shards[SHARD].last  # messages are numbered from there

    def ask(self, code: int, *arguments: Any) -> Any:
        return self.planes.answered(self.leader, (code, SHARD, *arguments))[0]

    def produce(self, *payloads: bytes, delay_ms: int = 0, group_key: bytes = b"") -> tuple[int, ...]:
        numbers: tuple[int, ...] = self.ask(
            q.PRODUCE, delay_ms, tuple((payload, group_key, b"") for payload in payloads)
        )
        return numbers

    def consume(
        self,
        client: bytes = ANNA,
        most: int = 1,
        wait_ms: int = 5_000,
        request: int = 0,
        consumer: bytes = b"worker",
    ) -> int:
        """Send a CONSUME; return its number, by which `got` finds what came of it."""
        self.requests += not request
        wanted = (most, wait_ms, 0)
        command = (q.CONSUME, SHARD, b"default", (client, consumer), request or self.requests, wanted)
        number = self.planes.ask(self.leader, command, milliseconds_left=wait_ms + 5_000)[0]
        self.planes.settle()
        return number

    def got(self, number: int) -> Any:
        """Return the payloads that a consume got, or NOTHING if it still waits."""
        answer = self.planes.answers.get(number, NOTHING)
        return [row[-1] for row in answer] if type(answer) is tuple else answer

    def rows(self, number: int) -> Any:
        return self.planes.answers[number]

    def deliveries(self, number: int) -> tuple[tuple[int, int], ...]:
        return tuple((row[0], row[1]) for row in self.rows(number))

    def stats(self) -> dict[str, int]:
        names = ("pending", "in_progress", "completed", "dead_letter", "delayed", "redelivered", "oldest_ms")
        return dict(zip(names, self.ask(q.QUEUE_STATS, b"default"), strict=True))

    def wait(self, seconds: float, *present: bytes) -> None:
        """Let time pass, in which some clients say each second that they are there."""
        planes = self.planes
        ends_at = planes.now + seconds
        while planes.now < ends_at:
            for client in present:
                planes[self.leader].receive(b"peer", KeepAlive(CLUSTER, 0, 0, 1, client), planes.instant())
            planes.run(min(0.25, ends_at - planes.now))

    def fail_over(self) -> None:
        """Let n2 lead."""
        planes = self.planes
        planes.cuts.add("n1")
        planes.fence("n1")
        planes.change(leader="n2", in_sync=planes.in_sync("n2", "n3"))
        planes.adopt("n2", "n3")
        planes.settle()
        self.leader = "n2"
