"""What only the leader of the meta group does: it finds out who must be fenced, who may come back, and who should vote.

It proposes; the state machine decides. What it knows of nodes it knows from their heartbeats, counted from its own
election on, and from what gossip suspects.

A node is condemned when its heartbeats have been missing for `fence_after_s`; or sooner, when they have been missing
for `doubt_after_s` and two members independently suspect it; or at once, when its address accepts no connection any
more: then its process is gone. Gossip alone fences nobody whom the leader still hears. A fenced node that is heard
steadily for `steady_for_s`, and that gossip finds well, is taken back: one that is heard but cannot be reached stays
out. A false fence costs availability, never data.

A node that leads partitions may hold a lease (`gimmal.cluster.lease`), under which it answers reads on its own word. So
nothing is taken from it before the lease is over:

- A heartbeat that is *accepted* may be answered by a grant. Of a node that is gone, or whose FENCE is under way, none
  is accepted, and none that waits is granted. Silence ends with a heartbeat, and with it the suspicion.
- The FENCE of a node is proposed `LEASE_S + MARGIN_S` after the last heartbeat that was accepted from it, and not
  sooner after this leader's own election: an earlier leader may have granted a lease just before.
- Who leads nothing need not be waited for, if nothing is under way: an entry of the log that is not applied yet may be
  about to make it a leader.
- A node that asks to be fenced itself, because it ends, is waited for like any other: it may still lead what nobody
  could take over. From when it asks it is granted nothing, and it does not come back in this life.

Voters are kept at 1 below three nodes, 3 from three, 5 from ten, out of the live ones, preferably in different zones:

    add a learner while live voters are missing -> wait until it has caught up -> exchange it for who is lost

An exchange is two steps, and which comes first matters: a lost voter that is silent leaves first, so that the group
does not need the newcomer before it has proved itself; one that still answers leaves last, to be there meanwhile.

Leaderships are spread: when nothing has changed for `settles_after_s`, those that lead more than others are advised
what to hand over to whom (`balance`). It is advice: a leader hands over by itself.

One step at a time, each only after the one before has committed, and only to voters of whom most answer the leader: a
process may be voting still although its name belongs to another by now. A voter whose node has come back as another
voter (it lost its disk) is gone for good; one whose node is fenced may return, and is given `replace_after_s`.

What it does not do: it moves no copy of a partition, and it does not look at the load of anything.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from gimmal.cluster.lease import LEASE_S, MARGIN_S
from gimmal.cluster.meta import commands
from gimmal.cluster.meta.balance import Move, balance
from gimmal.cluster.raft import Configuration, Raft
from gimmal.cluster.table import ALIVE, FENCED, NodeRow, Table
from gimmal.types import Incarnation

_NEVER: Final = float("inf")
_ACCUSERS: Final = 2
_LOOK_EVERY_S: Final = 0.1
_INTERRUPTION_S: Final = 0.75
_WAIT_S: Final = LEASE_S + MARGIN_S
"""How long after a heartbeat was accepted its sender may believe in a lease, by the clock of whoever accepted it."""


@dataclass(frozen=True, slots=True)
class StewardParameters:
    """When the leader of the meta group acts; all in seconds.

    `fence_after_s`: silence after which a node is fenced; longer costs availability after a failure, shorter fences
    nodes that only stall. `doubt_after_s`: the same when two members suspect it; shorter than a lease would gain
    nothing for a node that leads. `steady_for_s`: how long a fenced
    node must be heard. `replace_after_s`: how long a fenced voter keeps its vote while another node could have it.
    `answers_within_s`: how recently a voter must have answered to be counted on; Raft's heartbeats go twice into it.
    `learns_within_s`: how long a learner may take to catch up before another is tried. `forget_after_s`: how long a
    fenced node counts for the size of the cluster. `settles_after_s`: how long a table must have stood before leaders
    are spread, and how long they are given to hand over before they are told again.
    """

    fence_after_s: float = 2.0
    doubt_after_s: float = 1.0
    steady_for_s: float = 1.0
    replace_after_s: float = 5.0
    answers_within_s: float = 0.4
    learns_within_s: float = 5.0
    forget_after_s: float = 300.0
    settles_after_s: float = 2.0


class Suspicions(Protocol):
    """What gossip knows of a node."""

    def accusers(self, name: str) -> tuple[str, ...]:
        """Return who suspects a node independently now."""
        ...

    def is_well(self, name: str) -> bool:
        """Say whether a node is neither suspected nor taken for dead."""
        ...


class View(NamedTuple):
    """What the steward judges by: the table of its own state machine, and the node that leads the meta group.

    `me` needs no heartbeat. `is_settled` says that the table is after the last entry of the log: nothing is under way.
    """

    me: Incarnation
    table: Table
    is_settled: bool

    def leads(self, name: str) -> bool:
        """Say whether a node leads any partition."""
        return any(row.leader == name for row in self.table.partitions)


@dataclass(slots=True)
class _Heard:
    """When a life of a node was heard: last, since when without a gap, and last so that it may have got a lease."""

    incarnation: int
    last_at: float
    since: float
    accepted_at: float = -_NEVER
    gone_at: float = -_NEVER  # when its address last refused a connection, while that counts

    @property
    def is_gone(self) -> bool:
        return self.gone_at > -_NEVER


class Steward:
    """The leader's watch over nodes and voters. It is idle unless `start` was called last."""

    def __init__(self, parameters: StewardParameters) -> None:
        self.lease_waits = 0  # looks that left somebody condemned unfenced, for a lease that was not over
        self._parameters = parameters
        self._heard_by_name: dict[str, _Heard] = {}
        self._fenced_since: dict[str, float] = {}
        self._learns_since: dict[str, float] = {}
        self._leaving: dict[str, int] = {}  # the lives that asked to be fenced themselves, by name
        self._advice: tuple[int, tuple[Move, ...]] = (0, ())  # the version of a table, and what it would need
        self._settled_version = 0
        self._advise_at = _NEVER
        self._under_way: dict[tuple[object, ...], None] = {}  # verdicts that are proposed and not yet decided
        self._elected_at = _NEVER
        self._started_at = _NEVER
        self._looked_at = 0.0
        self._look_at = _NEVER

    def start(self, now: float) -> None:
        """Begin to watch: nothing that was heard before the election counts."""
        self._heard_by_name.clear()
        self._fenced_since.clear()
        self._learns_since.clear()
        self._leaving.clear()
        self._under_way.clear()
        self._settled_version = 0
        self._elected_at = self._started_at = self._looked_at = self._look_at = now

    def stop(self) -> None:
        """Stop watching."""
        self._elected_at = self._started_at = self._look_at = _NEVER

    def on_heartbeat(self, name: str, incarnation: int, now: float) -> None:
        """Hear a node."""
        heard = self._heard_by_name.get(name)
        if heard is None or heard.incarnation != incarnation:
            if heard is not None and heard.incarnation > incarnation:
                return
            self._heard_by_name[name] = _Heard(incarnation, now, now)
            return
        if now - heard.last_at > self._parameters.steady_for_s:
            heard.since = now
        heard.last_at = now
        if now - heard.gone_at > _WAIT_S:  # else it may have been on its way when its process ended
            heard.gone_at = -_NEVER

    def accept(self, name: str, incarnation: int, now: float) -> bool:
        """Say whether a heartbeat that was heard just now may be answered by a lease: then its sender is waited for."""
        if not self.may_be_granted(name, incarnation):
            return False
        self._heard_by_name[name].accepted_at = now
        return True

    def may_be_granted(self, name: str, incarnation: int) -> bool:
        """Say whether a node that was heard may be given a lease now, as far as it is not known to be fenced."""
        heard = self._heard_by_name.get(name)
        if heard is None or heard.incarnation != incarnation or heard.is_gone or self._is_leaving(name, incarnation):
            return False
        return (commands.FENCE, name, incarnation) not in self._under_way

    def on_gone(self, name: str, incarnation: int, now: float) -> None:
        """Learn that nobody listens at the address of a node any more."""
        heard = self._heard_by_name.setdefault(name, _Heard(incarnation, self._started_at, self._started_at))
        if heard.incarnation == incarnation:
            heard.gone_at = heard.since = now  # what is heard of it counts as steady only from the last refusal on
            self._look_at = min(self._look_at, now)

    def on_leaving(self, name: str, incarnation: int, now: float) -> None:
        """Learn that a life of a node, whose name is that of a row, wants to be fenced."""
        if not self._is_leaving(name, incarnation):
            self._leaving[name] = incarnation
            self._look_at = min(self._look_at, now)

    def _is_leaving(self, name: str, incarnation: int) -> bool:
        return self._leaving.get(name) == incarnation

    def on_proposed(self, verdict: tuple[object, ...]) -> None:
        """Learn that a verdict is on its way into the log."""
        self._under_way[verdict] = None

    def on_decided(self, verdict: tuple[object, ...]) -> None:
        """Learn that a verdict was applied, or will not be by this leader."""
        self._under_way.pop(verdict, None)

    def next_deadline(self) -> float:
        """Return when to call `look` next."""
        return self._look_at

    # -- nodes ----------------------------------------------------------------------------------------------------

    def verdicts(self, view: View, suspicions: Suspicions, now: float) -> list[tuple[object, ...]]:
        """Return the FENCE and UNFENCE commands that are due and not under way."""
        if now < self._look_at:
            return []
        table = view.table
        if now - self._looked_at > _INTERRUPTION_S:  # it was this node that slept: others had no chance to be heard
            for known in self._heard_by_name.values():
                known.last_at = max(known.last_at, now)
            self._started_at = max(self._started_at, now)
        self._looked_at, self._look_at = now, now + _LOOK_EVERY_S
        self.on_heartbeat(*view.me, now)
        found: list[tuple[object, ...]] = []
        for row in table.nodes:
            heard = self._heard_by_name.get(row.name)
            if heard is not None and heard.incarnation != row.incarnation:
                heard = None
            if heard is None and row.status == ALIVE:  # it has just been registered, or this leader just elected
                heard = self._heard_by_name[row.name] = _Heard(row.incarnation, now, now)
            if row.status == ALIVE:
                self._fenced_since.pop(row.name, None)
                if self._is_condemned(row, heard, suspicions, now) and self._may_be_fenced(row, heard, view, now):
                    found.append((commands.FENCE, row.name, row.incarnation))
            else:
                self._fenced_since.setdefault(row.name, now)
                if heard is not None and self._may_return(row, heard, suspicions, now):
                    found.append((commands.UNFENCE, row.name, row.incarnation))
        return [verdict for verdict in found if verdict not in self._under_way]

    def _may_be_fenced(self, row: NodeRow, heard: _Heard | None, view: View, now: float) -> bool:
        """Say whether no lease of a node counts any more, or it leads nothing that a lease could be about."""
        accepted_at = heard.accepted_at if heard is not None else -_NEVER
        over_at = max(accepted_at, self._elected_at) + _WAIT_S
        if now >= over_at or (view.is_settled and not view.leads(row.name)):
            return True
        self._look_at = min(self._look_at, over_at)
        self.lease_waits += 1
        return False

    def _is_condemned(self, row: NodeRow, heard: _Heard | None, suspicions: Suspicions, now: float) -> bool:
        silent_for = now - (heard.last_at if heard is not None else self._started_at)
        if self._is_leaving(row.name, row.incarnation):
            return True
        if silent_for >= self._parameters.fence_after_s or (heard is not None and heard.is_gone):
            return True
        return silent_for >= self._parameters.doubt_after_s and len(suspicions.accusers(row.name)) >= _ACCUSERS

    def _may_return(self, row: NodeRow, heard: _Heard, suspicions: Suspicions, now: float) -> bool:
        is_steady = heard.last_at - heard.since >= self._parameters.steady_for_s
        is_recent = now - heard.last_at < self._parameters.doubt_after_s
        is_wanted = not (heard.is_gone or self._is_leaving(row.name, row.incarnation))
        return is_steady and is_recent and is_wanted and suspicions.is_well(row.name)

    # -- leaders --------------------------------------------------------------------------------------------------

    def advice(self, table: Table, now: float) -> tuple[Move, ...]:
        """Return which leaderships should change hands, if it is time to say so."""
        if table.version != self._settled_version:
            self._settled_version, self._advise_at = table.version, now + self._parameters.settles_after_s
        if now < self._advise_at:
            return ()
        self._advise_at = now + self._parameters.settles_after_s
        if self._advice[0] != table.version:
            self._advice = (table.version, balance(table))
        return self._advice[1]

    # -- voters ---------------------------------------------------------------------------------------------------

    def next_configuration(self, raft: Raft, table: Table, now: float) -> Configuration | None:
        """Return the next step towards the voters as they should be, or None when they are."""
        voters, learners = raft.configuration
        row_by_voter = {row.voter: row for row in table.nodes}
        live = [voter for voter in voters if _is_alive(row_by_voter.get(voter))]
        for learner in learners:
            if not _is_alive(row_by_voter.get(learner)) or self._is_hopeless(raft, learner, now):
                return Configuration(voters, _without(learners, learner))
        wanted = voters_wanted(sum(self._counts(row, now) for row in table.nodes))
        lost = [voter for voter in voters if self._is_lost(row_by_voter.get(voter), now)]
        if len(voters) > wanted and (lost or len(live) > wanted):
            return self._with_one_less(raft, lost or [self._dispensable(raft, live, row_by_voter)], now)
        missing = wanted - (len(voters) - len(lost))
        if missing <= 0:
            return None
        ready = [learner for learner in learners if raft.match_index(learner) >= raft.commit_index]
        candidate = self._candidate((*live, *learners), row_by_voter) if len(learners) < missing else None
        if candidate is not None:
            self._learns_since[candidate] = now
            return Configuration(voters, (*learners, candidate))
        if len(ready) < (2 if len(voters) == 1 else 1):  # from one voter to three: be two voters for a moment only
            return None
        silent = [voter for voter in lost if not self._answers(raft, voter, now)]
        step = Configuration((*voters, ready[0]), _without(learners, ready[0]))
        is_safe = self._can_decide(raft, step.voters, now)
        return self._with_one_less(raft, silent, now) or (step if is_safe else None)

    def _counts(self, row: NodeRow, now: float) -> bool:
        """Say whether a node counts for the size of the cluster: a name that is long gone does not."""
        since = self._fenced_since.get(row.name, now) if row.status == FENCED else now
        return now - since < self._parameters.forget_after_s

    def _is_hopeless(self, raft: Raft, learner: str, now: float) -> bool:
        """Say whether a learner has not caught up in the time that it had; then others are tried first."""
        if raft.match_index(learner) >= raft.commit_index:
            return False
        return now - self._learns_since.setdefault(learner, now) >= self._parameters.learns_within_s

    def _with_one_less(self, raft: Raft, leaving: list[str], now: float) -> Configuration | None:
        for voter in leaving:
            fewer = _without(raft.configuration.voters, voter)
            if self._can_decide(raft, fewer, now):
                return Configuration(fewer, raft.configuration.learners)
        return None

    def _can_decide(self, raft: Raft, voters: tuple[str, ...], now: float) -> bool:
        """Say whether most of some voters answer the leader now: never leave the group to those who do not."""
        return sum(self._answers(raft, voter, now) for voter in voters) > len(voters) // 2

    def _answers(self, raft: Raft, voter: str, now: float) -> bool:
        """Say whether a voter has answered the leader, in its term and of late."""
        is_heard = raft.match_index(voter) > 0 and raft.heard_at(voter) >= now - self._parameters.answers_within_s
        return voter == raft.me or is_heard

    def _is_lost(self, row: NodeRow | None, now: float) -> bool:
        """Say whether a voter is not coming back, or has been away for long enough."""
        if row is None:
            return True
        since = self._fenced_since.get(row.name) if row.status == FENCED else None
        return since is not None and now - since >= self._parameters.replace_after_s

    def _dispensable(self, raft: Raft, live: list[str], row_by_voter: dict[str, NodeRow]) -> str:
        zones = Counter(row_by_voter[voter].zone for voter in live)
        others = [voter for voter in live if voter != raft.me]
        return max(others, key=lambda voter: (zones[row_by_voter[voter].zone], voter))

    def _candidate(self, chosen: Sequence[str], row_by_voter: dict[str, NodeRow]) -> str | None:
        zones = Counter(row_by_voter[voter].zone for voter in chosen)
        names = {row_by_voter[voter].name for voter in chosen}
        others = [row for row in row_by_voter.values() if row.status == ALIVE and row.name not in names]
        # Whoever was tried before, and was not taken, comes last.
        order = sorted(others, key=lambda row: (self._learns_since.get(row.voter, -_NEVER), zones[row.zone], row.name))
        return order[0].voter if order else None


def voters_wanted(nodes: int) -> int:
    """Return how many nodes of a cluster of this size should vote."""
    if nodes < 3:
        return 1
    return 3 if nodes < 10 else 5


def _is_alive(row: NodeRow | None) -> bool:
    return row is not None and row.status == ALIVE


def _without(voters: tuple[str, ...], gone: str) -> tuple[str, ...]:
    return tuple(voter for voter in voters if voter != gone)
