"""The real thing: how the simulator starts a `NodeCore`, and where it looks when it watches one."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final

from gimmal.cluster.raft import Role, read_journal
from gimmal.cluster.table import Addresses, Table
from gimmal.node.core import NodeCore
from gimmal.node.settings import NodeSettings
from gimmal.types import Instant
from tests.sim.subject import NOBODY, Entry, Identity, RaftState

if TYPE_CHECKING:
    from tests.sim.host import Host

PARTITIONS: Final = 4
COPIES: Final = 3


class NodeWatch:
    """Reads what a `NodeCore` believes."""

    __slots__ = ("_control", "_identity")

    def __init__(self, core: NodeCore) -> None:
        self._control = core.control
        self._identity = NOBODY

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
        log = raft.log
        return RaftState(raft.term, raft.role is Role.LEADER, raft.commit_index, log.last_index, log.last_term)

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

    def ask(self, command: tuple[Any, ...], now: Instant) -> None:
        _, _, _, number, changes = command
        self._control.alter_in_sync(number, changes, now.seconds)

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
    client, pubsub = settings.address.replace(":7701", ":7700"), settings.address.replace(":7701", ":7702")
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
        ),
        journal,
        dice,
        now,
    )
    return core, NodeWatch(core)
