"""A partition with one queue, whose entries number themselves, so that a test of queues reads like a story."""

from typing import Any

from gimmal.store import snapshot
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Refused
from gimmal.store.queues.group import Group
from gimmal.store.queues.shard import Shard
from gimmal.wire import queue_commands as codes
from gimmal.wire.codec import pack_tree, unpack_tree
from gimmal.wire.messages import Refusal

QUEUE, DEFAULT = b"tasks", b"default"
ADA, BOB = (b"a" * 16, b"Ada"), (b"b" * 16, b"Bob")
DONE, STALE = int(codes.Outcome.DONE), int(codes.Outcome.STALE)


class QueuePartition:
    """Numbers of messages are told as 1, 2, 3, ... in the order in which they came.

    What settles is about deliveries of the entry before, if no other token is named.
    """

    def __init__(self, *given: int | None) -> None:
        self.footprint = Footprint()
        self.engine = Engine(self.footprint)
        self.seq = 0
        self.now_ms = 1_000
        self.request = 0
        self.base = 1
        self.granted: tuple[tuple[int, int], ...] = ()
        assert not isinstance(self.apply(codes.DECLARE, QUEUE, (*given, *(None,) * (6 - len(given)))), Refused)

    @property
    def shard(self) -> Shard:
        return self.engine.queues.shards[QUEUE]

    @property
    def group(self) -> Group:
        return self.shard.groups[DEFAULT]

    def apply(self, *command: Any) -> Any:
        assert (codes.IS_WELL_FORMED | codes.OWN_ARE_WELL_FORMED)[command[0]](command)
        self.seq += 1
        return self.engine.apply(self.seq, (1, self.now_ms, 0, 0, 0, command))

    def produce(self, *payloads: bytes, delay: int = 0, key: bytes = b"", dedup_id: bytes = b"") -> Any:
        messages = tuple((payload, key, dedup_id) for payload in payloads)
        result = self.apply(codes.PRODUCE, QUEUE, delay, messages)
        return result if isinstance(result, Refused) else [number - self.base for number in result]

    def grant(self, most: int = 1, who: tuple[bytes, bytes] = ADA, group: bytes = DEFAULT) -> list[int]:
        self.request += 1
        self.granted = self.apply(codes.GRANT, QUEUE, group, who, self.request, (most, 0))
        return [number - self.base for number, _ in self.granted]

    def deliveries(self, numbers: tuple[int, ...], token: int | None) -> Any:
        return tuple((number + self.base, self.seq if token is None else token) for number in numbers)

    def ack(self, *numbers: int, token: int | None = None, group: bytes = DEFAULT) -> list[int]:
        return list(self.apply(codes.ACK, QUEUE, group, self.deliveries(numbers, token)))

    def nack(
        self, *numbers: int, token: int | None = None, requeue: bool = True, delay: int | None = None
    ) -> list[int]:
        how = requeue, delay
        return list(self.apply(codes.NACK, QUEUE, DEFAULT, self.deliveries(numbers, token), how, b"no"))

    def release(self, *numbers: int, token: int | None = None) -> list[int]:
        return list(self.apply(codes.RELEASE, QUEUE, DEFAULT, self.deliveries(numbers, token)))

    def lease_end(self, *numbers: int, token: int | None = None) -> int:
        ended: int = self.apply(codes.LEASE_END, QUEUE, DEFAULT, self.deliveries(numbers, token))
        return ended

    def vanish(self, who: tuple[bytes, bytes], *, is_counted: bool) -> int:
        ended: int = self.apply(codes.VANISH, QUEUE, who[0], is_counted)
        return ended

    def redrive(self, limit: int = 100) -> int:
        count: int = self.apply(codes.REDRIVE, QUEUE, DEFAULT, limit)
        return count

    def purge(self, limit: int = 100) -> int:
        count: int = self.apply(codes.PURGE, QUEUE, DEFAULT, limit)
        return count

    def read(self, code: int, group: bytes = DEFAULT, *arguments: Any) -> Any:
        return self.engine.read(self.now_ms, (code, QUEUE, group, *arguments))

    def stats(self, group: bytes = DEFAULT) -> dict[str, int]:
        names = ("pending", "in_progress", "completed", "dead_letter", "delayed", "redelivered", "oldest_age")
        return dict(zip(names, self.read(codes.QUEUE_STATS, group), strict=True))

    def letters(self) -> Any:
        return self.read(codes.DEAD_LETTERS, DEFAULT, 100)

    def trees(self, bytes_max: int = 1_000) -> list[Any]:
        return [unpack_tree(pack_tree(tree)) for tree in snapshot.chunks(self.engine.freeze(), bytes_max)]


def refusal_of(result: Any) -> Refusal:
    assert isinstance(result, Refused)
    assert result.text
    return result.refusal
