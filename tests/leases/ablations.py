"""Each necessary rule of leases, taken away, and the schedule that notices. The schedules are those of every run.

An ablation changes the product's own functions. Some need more than one change, because the rule is kept twice:

- *no drift allowance*: the product's margin is larger than it has to be, and makes up for it. Without the allowance it
  is therefore the least that it may be; with the allowance that holds (`LEAST_MARGIN`).
- *grant to a fenced node*: a node that was fenced could only use a grant without its version, since under the table
  that the grant names it leads nothing; so the version has to be ignored too.
- *rounds of an older term count*: some hundred schedules do not notice. A leader has to be elected again, and replaced
  again, while answers to letters of its first term are under way. Its transcript notices, and so does
  `test_a_round_of_an_older_term_confirms_nothing_although_its_answer_is_of_this_one`.
- *a move that skips the wait*: leaderships move from a live node by its own hand-over only. Here the leader of the
  meta group decides what it would only advise.
"""

import time
from collections.abc import Callable
from math import inf
from typing import Any, Final

from gimmal.cluster import lease
from gimmal.cluster.lease import DRIFT_MAX, LEASE_S, Lease
from gimmal.cluster.meta import commands, steward
from gimmal.cluster.meta.contact import Contact
from gimmal.cluster.meta.grants import Grants, Waiting
from gimmal.cluster.meta.steward import Steward
from gimmal.cluster.raft import Raft
from gimmal.cluster.raft.ledger import Answer
from gimmal.cluster.table import Table
from gimmal.node import clocks
from gimmal.node.meta_share import MetaShare
from gimmal.node.serving import Serving
from gimmal.replication.replica import Replica
from gimmal.types import Incarnation
from gimmal.wire.peer_messages import RAFT_BLANK, AppendEntries, AppendReply, Heartbeat, HeartbeatReply
from tests.sim.museum import Change
from tests.small.ablation import Ablation


def _always(answer: object) -> Callable[[Any], Any]:
    return lambda original: lambda *_: answer


def _is(value: object) -> Callable[[Any], Any]:
    return lambda original: value


# -- the meta group -------------------------------------------------------------------------------------------------


def _not_after_the_election(original: Any) -> Any:
    def start(watch: Steward, now: float) -> None:
        original(watch, now)
        watch._elected_at = -inf

    return start


def _heard_of_any(_: Any) -> Any:
    def on_heartbeat(share: MetaShare, message: Heartbeat, address: str, leader: str, now: float) -> None:
        node = Incarnation(message.sender, message.source)
        if share.is_leader:
            share.steward.on_heartbeat(*node, now)
            share.steward.accept(*node, now)
            share._grants.on_heartbeat(Waiting(node, message.number, address, share.group.raft.round))
        else:
            share._answer(Waiting(node, message.number, address, 0), leader, is_granted=False)

    return on_heartbeat


def _granted_to_any(_: Any) -> Any:
    def grant(share: MetaShare) -> None:
        for waiting in share._grants.due(share.group.raft.confirmed_round):
            share._answer(waiting, share._peer, is_granted=True)

    return grant


def _decides_itself(_: Any) -> Any:
    def advise(share: MetaShare, table: Table, now: float) -> None:
        for partition, target in share.steward.advice(table, now):
            row = table.partitions[partition]
            node = table.node(row.leader) if row.leader is not None else None
            if node is not None:
                _, number, _ = share.group.state._last_request_by_leader.get(node.name, (0, 0, 0))
                change = (partition, row.epoch, row.version, target)
                command = (commands.HANDOVER, node.name, node.incarnation, number + 1, (change,))
                share.group.request(None, command, now)

    return advise


def _waits_for(rounds_less: int) -> Callable[[Any], Any]:
    def instead(original: Any) -> Any:
        def on_heartbeat(grants: Grants, waiting: Waiting) -> None:
            original(grants, waiting._replace(round=waiting.round - rounds_less))

        return on_heartbeat

    return instead


def _lower_term_accepted(original: Any) -> Any:
    def on_append(raft: Raft, append: AppendEntries, now: float) -> None:
        if append.term < raft.term:
            last = append.prev_index + len(append.entries)
            index = min(last, raft.last_index)
            me, leader, term = raft.me, append.voter, append.term
            raft._post(AppendReply(*RAFT_BLANK, me, leader, term, False, index, term, append.round))
        else:
            original(raft, append, now)

    return on_append


def _any_term_counts(original: Any) -> Any:
    def answer_leader(raft: Raft, message: Any, answer: Answer) -> None:
        raft._post(AppendReply(*RAFT_BLANK, raft.me, message.voter, raft.term, *answer, message.round))

    return answer_leader


# -- the node -------------------------------------------------------------------------------------------------------


def _read_before(is_of_clients: bool) -> Callable[[Any], Any]:
    """Clocks are read before one of the sockets is drained."""

    def instead(original: Any) -> Any:
        def drained(receive: Any, read: Any) -> Any:
            if (receive.__self__.is_of_clients) != is_of_clients:
                return original(receive, read)
            now = read()
            return (*receive(), now)

        return drained

    return instead


def _without_version(original: Any) -> Any:
    return lambda kept, number, version: original(kept, number, 0)


def _from_receipt(original: Any) -> Any:
    def receive(contact: Contact, message: Any, source: str, now: float) -> Any:
        sent_at = contact.lease._sent_at_by_number
        if isinstance(message, HeartbeatReply) and message.number in sent_at:
            sent_at[message.number] = now
        return original(contact, message, source, now)

    return receive


def _keeps_reading(original: Any) -> Any:
    """Reads go on while a hand-over is under way; writes have stopped."""

    def hand_over(serving: Serving, partition: int, epoch: int, version: int, target: str) -> None:
        stop, serving._stop_serving = serving._stop_serving, lambda partition: None  # type: ignore[method-assign]
        original(serving, partition, epoch, version, target)
        serving._stop_serving = stop  # type: ignore[method-assign]

    return hand_over


def _leads_while_leaving(_: Any) -> Any:
    def lead(serving: Serving, replica: Replica) -> None:
        leading = replica.leading
        leaves_to = leading.leaves_to if leading is not None else ""
        if leading is not None:
            leading.leaves_to = ""
        _LEAD(serving, replica)
        if leading is not None:
            leading.leaves_to = leaves_to

    return lead


_LEAD: Final = Serving._lead
_PATIENCE_S: Final = 0.2


def _resumes(original: Any) -> Any:
    """A leader that has heard nothing of its hand-over for a while goes on as before."""
    asked_at: dict[Replica, float] = {}

    def tick(serving: Serving) -> None:
        original(serving)
        for replica in serving.holdings.replicas.values():
            leading = replica.leading
            if leading is None or not leading.leaves_to:
                asked_at.pop(replica, None)
            elif serving.now.seconds > asked_at.setdefault(replica, serving.now.seconds) + _PATIENCE_S:
                leading.leaves_to = ""
                serving._lead(replica)

    return tick


LEAST_MARGIN: Final[Change] = (steward, "_WAIT_S", _is(LEASE_S * (1 + DRIFT_MAX)))
_UNVERSIONED: Final[Change] = (Lease, "on_granted", _without_version)

ABLATIONS: Final = (
    Ablation("no wait by M", ((Steward, "_may_be_fenced", _always(True)),), "leases_no_wait"),
    Ablation(
        "grant to a fenced node",
        ((MetaShare, "on_heartbeat", _heard_of_any), (MetaShare, "_grant", _granted_to_any), _UNVERSIONED),
        "leases_fenced",
    ),
    Ablation("no wait after an M election", ((Steward, "start", _not_after_the_election),), "leases_election"),
    Ablation("a move that skips the wait", ((MetaShare, "_advise", _decides_itself),), "leases_move"),
    Ablation(
        "now of the node before the drain",
        ((clocks, "drained", _read_before(is_of_clients=True)),),
        "leases_node_drain",
    ),
    Ablation(
        "now of the voter before the drain",
        ((clocks, "drained", _read_before(is_of_clients=False)),),
        "leases_voter_drain",
    ),
    Ablation("grant without version", (_UNVERSIONED,), "leases_version"),
    Ablation("counted from receipt", ((Contact, "receive", _from_receipt),), "leases_receipt"),
    Ablation(
        "quorum round before the heartbeat", ((Grants, "on_heartbeat", _waits_for(rounds_less=1)),), "leases_round"
    ),
    Ablation("no quorum round", ((Grants, "on_heartbeat", _waits_for(rounds_less=1 << 40)),), "leases_round"),
    Ablation("voters accept a lower term", ((Raft, "_on_append", _lower_term_accepted),), "leases_lower_term"),
    Ablation("rounds of an older term count", ((Raft, "_answer_leader", _any_term_counts),), "leases_older_term"),
    Ablation("no drift allowance", ((lease, "_USABLE_S", _is(LEASE_S)), LEAST_MARGIN), "leases_drift"),
    Ablation("clock that stops in suspend", ((clocks, "CLOCK", _is(time.CLOCK_MONOTONIC)),), "leases_suspend"),
    Ablation("no margin", ((steward, "_WAIT_S", _is(LEASE_S)),), "leases_drift"),
    Ablation(
        "hand-over keeps reading",
        ((Serving, "hand_over", _keeps_reading), (Serving, "_lead", _leads_while_leaving)),
        "leases_give",
    ),
    Ablation("hand-over resumes on timeout", ((Serving, "tick", _resumes),), "leases_give"),
)

BY_TITLE: Final = {ablation.title: ablation for ablation in ABLATIONS}
