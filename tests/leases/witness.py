"""The one check: whoever answers a read as the leader of an epoch does so before anybody can write under a later one.

A leader can write from when its epoch's no-op has committed. A read that was *sent* after that, in true time, and is
answered under an earlier epoch, may have missed a write. When a leader is ready, the witness reads from everybody
who may still believe to lead: at once, and a few times later.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from gimmal.hashing import key_slot, partition_of
from gimmal.wire.commands import GET
from gimmal.wire.messages import Reply, Request
from tests.leases.host import PARTITIONS, Host
from tests.sim.violation import Violation
from tests.unit.meta_states import CLUSTER

CHECK: Final = "no read under a lease misses a later leader"
_CLIENT: Final = b"client"
KEYS: Final = tuple(
    next(key for key in (b"%d" % count for count in range(999)) if partition_of(key_slot(key), PARTITIONS) == partition)
    for partition in range(PARTITIONS)
)
_AGAIN_AFTER_S: Final = (0.0, 0.001, 0.004, 0.012, 0.03, 0.1, 0.3, 0.6)


class _Read(NamedTuple):
    partition: int
    epoch: int
    sent_at: float


class Witness:
    """Reads from hosts and judges what they answer. `read_later` calls `read_old` for a partition after a while.

    Whoever calls `read` sets the time of the host before: a read is sent when it is, not when its host last had a turn.
    """

    def __init__(self, hosts: list[Host], read_later: Callable[[float, int], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._hosts = hosts
        self._read_later = read_later
        self._ready: list[tuple[int, float]] = [(0, 0.0)] * PARTITIONS  # the latest epoch, and when it was ready
        self._reads: dict[tuple[str, int], _Read] = {}
        self._receipts: Counter[str] = Counter()

    def on_turn(self, host: Host) -> None:
        """Look at what a turn has brought."""
        answers, host.answers = host.answers, []
        for peer, message in answers:
            if isinstance(message, Reply) and peer == _CLIENT:
                self._receipts[host.name] = message.receipt
                for number in message.numbers:
                    self._on_answer(host, number)
                for number, *_ in message.refusals:
                    self._reads.pop((host.name, number), None)
        for partition, replica in host.core.data.serving.holdings.replicas.items():
            if replica.is_ready and replica.epoch > self._ready[partition][0]:
                self._ready[partition] = (replica.epoch, host.time)
                self.counts["leaders"] += 1
                for wait_s in _AGAIN_AFTER_S:
                    self._read_later(wait_s, partition)

    def read_old(self, partition: int) -> None:
        """Read from whoever leads a partition in an epoch that is not the latest."""
        for host in self._hosts:
            if host.core.data.serving.serves(partition):
                replica = host.core.data.serving.holdings.replicas[partition]
                if replica.epoch < self._ready[partition][0]:
                    self.read(host, partition)

    def read(self, host: Host, partition: int) -> None:
        """Send a read to a host, under the epoch that it goes by."""
        replica = host.core.data.serving.holdings.replicas.get(partition)
        if replica is not None:
            self.counts["reads"] += 1
            number = self.counts["reads"]
            self._reads[host.name, number] = _Read(partition, replica.epoch, host.time)
            operation = (number, partition, replica.epoch, 0, 0, (GET, KEYS[partition]))
            request = Request(CLUSTER, 0, 0, 0, self._receipts[host.name], 500, (operation,))
            host.from_clients.waiting.append((_CLIENT, request))

    def _on_answer(self, host: Host, number: int) -> None:
        read = self._reads.pop((host.name, number), None)
        if read is None:
            return
        self.counts["answers"] += 1
        serving = host.core.data.serving
        self.counts["answers under a lease"] += serving.now.seconds < serving.lease_until_s
        epoch, ready_at = self._ready[read.partition]
        if read.epoch < epoch and read.sent_at > ready_at:
            raise Violation(
                CHECK,
                f"{host.name} answers as the leader of partition {read.partition} in epoch {read.epoch} what was asked "
                f"{1000 * (read.sent_at - ready_at):.1f} ms after epoch {epoch} had begun",
            )
