"""How much a cluster can bear to forget: which crashes a schedule may inflict without destroying what none could save.

A process with something on its disk may die at any time, as many at once as there are. One without loses its vote for
good, and what it knew, until the meta group has taken its successor in. So such a process may die only if, by the
state in which the group really is, the others can still elect a leader who holds everything that is known to be
committed: among those whose vote is not lost there must be one with such a log, and among the voters of *its*
configuration a majority whose logs are not ahead of it. A learner counts as a voter there: it may be made one at any
moment, and a group that grows from one voter needs the second as soon as it has decided so. A voter whose node is
fenced may be dropped at any moment: the others have to do without it, too.

Keys are in memory alone: every process forgets its copies, the disk does not help. So it may die only if every
partition keeps a copy that has everything; in schedules that may lose partitions, that does not count.

Before there is a group, the process may be among the voters that are being chosen: one founder may forget, in a group
that will have three voters or more. And once there is a cluster, the nodes outside it must never be as many as a node
with a bootstrap flag was told to expect: they would found another one, as they were told to.
"""

from typing import TYPE_CHECKING

from gimmal.cluster.table import ALIVE
from tests.sim.host import HOME, Host

if TYPE_CHECKING:
    from tests.sim.raft_checks import GroupHistory
    from tests.sim.world import World


class Budget:
    """Asked before each crash."""

    def __init__(self, world: "World", *, may_lose: bool = False) -> None:
        self._world = world
        self._may_lose = may_lose
        self._forgotten_founders = 0

    def may_die(self, host: Host) -> bool:
        """Say whether the process of a machine may die now."""
        if host.core is None:
            return False
        if host.group != HOME:
            return True
        if not self._is_founded():
            return host.remembers or self._may_founder_forget(host)
        if not self._may_lose and not self._keeps_copies_without(host):
            return False
        if host.remembers:  # a promise is not on the disk
            return bool(host.identity.incarnation) or self._keeps_few_outside(host)
        return self._keeps_few_outside(host) and self._can_elect_without(host)

    def may_retire(self, host: Host) -> bool:
        """Say whether a machine may be taken away for ever, its disk included."""
        return not self._is_founded() or self._can_elect_without(host)

    def may_come(self) -> bool:
        """Say whether one more process from outside may come: together they must not be enough to found anew."""
        return not self._is_founded() or self._keeps_few_outside(None)

    def died(self, host: Host) -> None:
        """Note the death of a process that has forgotten everything."""
        if not host.remembers and host.group == HOME and not self._is_founded() and not host.is_impostor:
            self._forgotten_founders += 1

    def _is_founded(self) -> bool:
        return HOME in self._world.checks.tables.cluster_by_group

    def _may_founder_forget(self, host: Host) -> bool:
        founders = max(other.settings.expect for other in self._world.hosts if other.group == HOME)
        return host.is_impostor or (founders >= 3 and not self._forgotten_founders)

    def _keeps_few_outside(self, victim: Host | None) -> bool:
        """Say whether few enough are outside the cluster when one of them has forgotten it, or a stranger has come."""
        hosts = [host for host in self._world.hosts if host.group == HOME and not host.retired]
        outside = sum(1 for host in hosts if host is victim or not host.identity.incarnation) + (victim is None)
        return all(outside < host.settings.expect for host in hosts if host.settings.expect)

    def _keeps_copies_without(self, victim: Host) -> bool:
        """Say whether every partition keeps a copy that has everything, if this process forgets what it holds.

        What the newest table says may be old: of the copies that it calls in sync some may be about to leave, but so
        many that two are left. So one of them may be dead and not yet replaced, and never two.
        """
        checks = self._world.checks
        table = checks.tables.newest(HOME)
        if table is None:
            return True
        lives = {
            (host.name, host.identity.incarnation): host
            for host in self._world.hosts
            if host.group == HOME and host.is_up and host.identity.incarnation
        }
        for row in table.partitions:
            members = (*row.in_sync, *row.eligible)
            holders = [lives.get((member.name, member.number)) for member in members]
            if victim in holders and (len(members) < 2 or holders.count(None)):
                return False
        return True

    def _can_elect_without(self, victim: Host) -> bool:
        checks = self._world.checks
        history = checks.raft.history(checks.tables.cluster_by_group[HOME])
        left = [host for host in self._world.hosts if host.group == HOME and host is not victim and host.can_return]
        return any(_can_lead(host, left, victim, history) for host in left)


def _can_lead(candidate: Host, left: list[Host], victim: Host, history: "GroupHistory") -> bool:
    if candidate.raft is None or candidate.voter not in candidate.voters:
        return False
    known = history.committed.get(history.committed_max)
    if known is not None and not _holds(candidate, history.committed_max, known.term):
        return False
    end = _log_end(candidate)
    electorates = [candidate.voters]
    if victim.voter in candidate.learners:
        electorates.append((*candidate.voters, victim.voter))
    electorates += [tuple(voter for voter in candidate.voters if voter != lost) for lost in _fenced_voters(candidate)]
    return all(
        2 * sum(1 for host in left if host.voter in voters and _log_end(host) <= end) > len(voters)
        for voters in electorates
    )


def _fenced_voters(candidate: Host) -> list[str]:
    """Voters that a leader may drop at any moment: their nodes are fenced, or are others by now."""
    table = candidate.table
    alive = [row.voter for row in table.nodes if row.status == ALIVE] if table is not None else []
    return [voter for voter in candidate.voters if voter not in alive and voter != candidate.voter]


def _holds(host: Host, index: int, term: int) -> bool:
    return index < host.log.first - 1 or host.log.term_at(index) == term


def _log_end(host: Host) -> tuple[int, int]:
    return (host.raft.last_term, host.raft.last_index) if host.raft is not None else (0, 0)
