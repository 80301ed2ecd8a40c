"""The real thing: how the simulator starts a `NodeCore`, and where it looks when it watches one."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from gimmal.cluster.raft import Role, read_journal
from gimmal.cluster.table import Addresses, Table
from gimmal.node.core import NodeCore
from gimmal.node.settings import NodeSettings
from gimmal.replication.log import Log
from gimmal.types import Entry as DataEntry
from gimmal.types import Instant
from gimmal.wire.queue_commands import GIVE_BACK, GRANT, LEASE_END, NAMES, VANISH
from tests.sim.subject import NOBODY, CopyState, Entry, Identity, RaftState

if TYPE_CHECKING:
    from tests.sim.host import Host

PARTITIONS: Final = 8
_OF_QUEUES: Final = tuple(NAMES[code] for code in (GRANT, GIVE_BACK, LEASE_END, VANISH))
COPIES: Final = 3


class NodeWatch:
    """Reads what a `NodeCore` believes."""

    __slots__ = ("_control", "_copies", "_data", "_identity", "_log_numbers", "_logs", "_raft")

    def __init__(self, core: NodeCore) -> None:
        self._control = core.control
        self._data = core.data
        self._identity = NOBODY
        self._raft: RaftState | None = None
        self._copies: dict[int, CopyState] = {}
        self._logs: dict[int, Log] = {}  # by partition, and how many there have been: names of logs for the checks
        self._log_numbers: Counter[int] = Counter()

    @property
    def voter(self) -> str:
        return self._control.meta.voter

    def identity(self) -> Identity:
        known, control = self._identity, self._control
        if control.incarnation != known.incarnation or control.cluster != known.cluster:
            self._identity = known = Identity(control.cluster, control.incarnation)
        return known

    def table(self) -> Table | None:
        return self._control.tracking.table

    def raft(self) -> RaftState | None:
        if not self._control.cluster:
            return None
        raft = self._control.meta.group.raft
        log, known = raft.log, self._raft
        state = (raft.term, raft.role is Role.LEADER, raft.commit_index, log.last_index, log.last_term)
        if state != known:
            self._raft = known = RaftState(*state)
        return known

    def base(self) -> tuple[int, int]:
        log = self._control.meta.group.raft.log
        term = log.term_at(log.base_index)
        assert term is not None
        return log.base_index, term

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        log = self._control.meta.group.raft.log
        return [log.entry(index) for index in range(first, last + 1)]

    def voters(self) -> tuple[str, ...]:
        return self._control.meta.group.raft.configuration.voters

    def learners(self) -> tuple[str, ...]:
        return self._control.meta.group.raft.configuration.learners

    def has_lease(self, seconds: float) -> bool:
        return self._control.lease_is_valid(seconds)

    def serves(self, partition: int) -> bool:
        return self._data.serving.serves(partition)

    def copies(self) -> Sequence[CopyState]:
        found, logs, known = [], self._logs, self._copies
        for partition, copy in self._data.serving.holdings.replicas.items():
            log, view = copy.log, copy.view
            if logs.get(partition) is not log:
                logs[partition] = log
                self._log_numbers[partition] += 1
            state = (
                partition,
                copy.me.number,
                copy.epoch,
                view.version if view is not None else 0,
                copy.leading is not None,
                copy.commit,
                log.last,
                log.last_epoch,
                self._log_numbers[partition],
            )
            if known.get(partition) != state:
                known[partition] = CopyState(*state)
            found.append(known[partition])
        return found

    def copy_base(self, partition: int) -> tuple[int, int]:
        log = self._data.serving.holdings.replicas[partition].log
        return log.base, log.base_epoch

    def copy_epoch_at(self, partition: int, seq: int) -> int | None:
        return self._data.serving.holdings.replicas[partition].log.epoch_at(seq)

    def copy_entries(self, partition: int, first: int, last: int) -> Sequence[DataEntry]:
        log = self._data.serving.holdings.replicas[partition].log
        return log.entries[first - log.base - 1 : last - log.base]

    def copy_digest(self, partition: int) -> bytes:
        return self._data.serving.holdings.replicas[partition].engine.digest()

    def _duplicates(self) -> int:
        serving = self._data.serving
        return sum(replica.engine.sessions.duplicates for replica in serving.holdings.replicas.values())

    def happenings(self) -> Counter[str]:
        control = self._control
        counts = Counter(
            {
                "suspicions": control.chronicle.counters["MemberSuspected"],
                "deaths": control.chronicle.counters["MemberDead"],
                "members_back": control.chronicle.counters["MemberAlive"],
                "foreign_messages_rejected": control.chronicle.counters["other_cluster"],
                "messages_for_other_lives": control.chronicle.counters["for_other_lives"],
                "protocol_errors": control.chronicle.counters["protocol_errors"],
                "lease_waits": control.meta.steward.lease_waits,
                "reads_confirmed": self._data.counters["reads_confirmed"],
                "duplicates": self._duplicates(),
                **{name: self._data.counters[name] for name in _OF_QUEUES},
            }
        )
        if control.membership is not None:
            counts["refutations"] = control.membership.counters["refutations"]
        return counts


def start_node(host: "Host", journal: bytes, dice: Random, now: Instant) -> tuple[NodeCore, NodeWatch]:
    """Start the process of a machine, as `gimmal.node.run` does: a torn tail is cut off first."""
    settings = host.settings
    if host.disk is not None:
        host.disk.truncate(read_journal(journal).length)
        journal = host.disk.read()
    client, pubsub = host.client_address, settings.address.replace(":7701", ":7702")
    core = NodeCore(
        NodeSettings(
            name=settings.name,
            uuid=host.uuid,
            peer=settings.address,
            networks=(("default", Addresses(client, pubsub)),),
            zone=settings.zone,
            seeds=settings.seeds,
            expect=settings.expect,
            partitions=PARTITIONS,
            copies=COPIES,
            is_durable=settings.is_durable,
            log_bytes=settings.log_bytes,
        ),
        journal,
        dice,
        now,
    )
    return core, NodeWatch(core)
