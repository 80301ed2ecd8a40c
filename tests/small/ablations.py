"""Each necessary rule of replication and of snapshots, taken away: what `make ablations` looks for.

An ablation changes the product's own functions. The schedules that are to notice are those of every run, and each rule
has a transcript, which reads otherwise without it. Some rules no schedule needs, or hardly any:

- A copy takes nothing while it is not listed as a holder. Until copies move, nothing depends on it.
- No snapshot leaves before the no-op. It could only bring back what is old, and who needs one has promised nothing.
- Only the life that is registered may join. Acknowledgements are counted by life in any case.
- A request that was decided changes nothing when it comes again. Its epoch and version say so too, but for a row that
  is as it was.
- A read is confirmed by all who count. Only where two copies may be missing could one of them confirm it wrongly.
"""

from collections.abc import Callable
from itertools import count
from typing import Any, Final

from gimmal.cluster.meta import rows
from gimmal.cluster.meta.state import MetaState
from gimmal.replication import transfer
from gimmal.replication.confirming import Confirming
from gimmal.replication.following import Following
from gimmal.replication.holdings import Holdings
from gimmal.replication.leading import Leading
from gimmal.replication.log import Log
from gimmal.replication.petition import Petition
from gimmal.replication.replica import Replica
from gimmal.replication.stream import Stream
from gimmal.replication.transfer import Incoming, Transfers
from gimmal.types import Incarnation
from tests.small.ablation import Ablation


def _always(answer: object) -> Callable[[Any], Any]:
    return lambda original: lambda *_: answer


# -- commit ---------------------------------------------------------------------------------------------------------


def _count_below_least(original: Any) -> Any:
    def count_on(leading: Leading) -> None:
        original(leading)
        leading.can_commit = True

    return count_on


def _count_in_sync_only(original: Any) -> Any:
    def count_on(leading: Leading) -> None:
        proposal, leading.proposal = leading.proposal, None
        original(leading)
        leading.proposal = proposal

    return count_on


def _settled_by_any_answer(original: Any) -> Any:
    return lambda petition, version: original(petition, 1 << 60)


def _refused_whatever_the_row(original: Any) -> Any:
    def on_refused(leading: Leading, version: int) -> None:
        if leading.proposal is not None and leading.proposal.version == version:
            leading.proposal = None
            leading._count_on()

    return on_refused


def _may_join_without_noop(original: Any) -> Any:
    def may_join(leading: Leading, progress: Any, commit: int) -> bool:
        leso, leading.leso = leading.leso, -1
        answer: bool = original(leading, progress, commit)
        leading.leso = leso
        return answer

    return may_join


def _matches_kept(original: Any) -> Any:
    def see(replica: Replica, *arguments: Any) -> Any:
        before = replica.leading
        if before is not None:
            _last_leading[replica.me, replica.partition] = before
        result = original(replica, *arguments)
        kept = _last_leading.get((replica.me, replica.partition))
        if replica.leading is not None and replica.leading is not before and kept is not None:
            for progress in replica.leading.followers:
                known = kept.followers_by_member.get(progress.member)
                if known is not None and known.match >= 0:
                    progress.on_acknowledged(known.match)
        return result

    _last_leading: dict[tuple[Incarnation, int], Leading] = {}
    return see


# -- following ------------------------------------------------------------------------------------------------------


def _follows_any_epoch(original: Any) -> Any:
    def follows(replica: Replica, leader: Incarnation, epoch: int) -> bool:
        return replica.view is not None and replica.leading is None

    return follows


def _follows_unlisted(original: Any) -> Any:
    def follows(replica: Replica, leader: Incarnation, epoch: int) -> bool:
        view = replica.view
        return view is not None and view.epoch == epoch and view.leader == leader

    return follows


def _base_without_epoch(original: Any) -> Any:
    def last_common(log: Log, history: Any) -> int | None:
        common: int | None = original(log, history)
        if common is None and history[-1][1] >= log.base:
            return log.base  # whose entry that is there, nobody knows
        return common

    return last_common


def _align_any_base(original: Any) -> Any:
    def align(replica: Replica, seq: int, epoch: int) -> bool:
        known = replica.log.epoch_at(seq)
        return bool(original(replica, seq, epoch if known is None else known))

    return align


def _one_less(original: Any) -> Any:
    def last_common(log: Log, history: Any) -> int | None:
        common: int | None = original(log, history)
        return common if common is None else max(log.base, common - 1)

    return last_common


# -- what was missing once ------------------------------------------------------------------------------------------


def _numbered_anew(_: Any) -> Any:
    def stream_to(copies: Holdings, member: Incarnation) -> Stream:
        return copies._streams.get(member) or copies._streams.setdefault(member, Stream(member, count(1)))

    return stream_to


def _copied_when_ready(_: Any) -> Any:
    return lambda replica: replica.is_ready


def _any_other(_: Any) -> Any:
    return lambda incoming, chunk: not incoming.is_of(chunk)


def _aligned_is_enough(original: Any) -> Any:
    def align(replica: Replica, seq: int, epoch: int) -> bool:
        is_aligned = replica.aligned_epoch == replica.epoch
        return is_aligned or bool(original(replica, seq, epoch))

    return align


def _ended_when_sent(original: Any) -> Any:
    def messages(transfers: Transfers, now: float) -> Any:
        found = original(transfers, now)
        end(transfers)
        return found

    end = Transfers._end
    return messages


# -- the meta group -------------------------------------------------------------------------------------------------


def _reborn_in(name_of_set: str) -> Callable[[Any], Any]:
    """A life takes the places that an earlier one of its name had in isr or elr."""

    def instead(original: Any) -> Any:
        last: dict[tuple[MetaState, str, int], bool] = {}

        def leave(state: MetaState, index: int, gone: Incarnation, *, is_restarted: bool) -> None:
            for partition, row in enumerate(state._partitions):
                if not is_restarted:
                    last[state, gone.name, partition] = gone in getattr(row, name_of_set)
            kept = [
                partition
                for partition, row in enumerate(state._partitions)
                if is_restarted and (last.get((state, gone.name, partition)) or gone in getattr(row, name_of_set))
            ]
            original(state, index, gone, is_restarted=is_restarted)
            newer = Incarnation(gone.name, state._nodes[gone.name].incarnation)
            for partition in kept:
                row = state._partitions[partition]
                members = rows.in_order(row, (*getattr(row, name_of_set), newer))
                changes: dict[str, Any] = {name_of_set: members}
                state._write(index, partition, rows.settled(row._replace(**changes)))

        return leave

    return instead


def _never_emptied(original: Any) -> Any:
    def settled(row: Any) -> Any:
        return row._replace(eligible=tuple(member for member in row.eligible if member not in row.in_sync))

    return settled


def _alive_in_any_life(original: Any) -> Any:
    return lambda state, member: original(state, Incarnation(member.name, state._nodes[member.name].incarnation))


def _numbers_forgotten(original: Any) -> Any:
    def alter_isr(state: MetaState, index: int, command: Any) -> Any:
        state._last_request_by_leader.clear()
        return original(state, index, command)

    return alter_isr


def _ready(original: Any) -> Any:
    return property(lambda replica: replica.leading is not None)


def _confirmed_at_once(_: Any) -> Any:
    return lambda confirming, replica, ticket: confirming._confirmed.append(ticket)


def _confirmed_by_one(original: Any) -> Any:
    """With its leader the first who answers is half of five."""

    def on_confirmed(confirming: Confirming, message: Any, member: Incarnation) -> None:
        asked = confirming._rounds.get(message.number)
        for partition, question in asked.questions.items() if asked is not None else ():
            if member in question.missing and partition not in message.refused:
                question.missing = {member: None}
        original(confirming, message, member)

    return on_confirmed


def _chunks_lost_by_a_guess(original: Any) -> Any:
    def align(following: Following, replica: Replica, seq: int, seq_epoch: int) -> None:
        original(following, replica, seq, seq_epoch)
        if replica in following._unaligned:
            following._incoming.pop(replica.partition, None)

    return align


REPLICATION: Final = (
    Ablation("commit below minISR", ((Leading, "_count_on", _count_below_least),), "copies_commit_below_least"),
    Ablation("amnesia kept in elr", ((MetaState, "_leave", _reborn_in("eligible")),), "copies_amnesia_eligible"),
    Ablation("amnesia kept in isr", ((MetaState, "_leave", _reborn_in("in_sync")),), "copies_amnesia"),
    Ablation("read before NOOP", ((Replica, "is_ready", _ready),), "copies_read_before_noop"),
    Ablation("no MaxISR", ((Leading, "_count_on", _count_in_sync_only),), "copies_max_isr"),
    Ablation(
        "MaxISR rolled back on any reject",
        ((Petition, "settled", _settled_by_any_answer), (Leading, "on_refused", _refused_whatever_the_row)),
        "copies_max_isr_refused",
    ),
    Ablation("elr never emptied", ((rows, "settled", _never_emptied),), "copies_eligible_emptied"),
    Ablation("no epoch fence on append", ((Replica, "follows", _follows_any_epoch),), "copies_epoch_fence"),
    Ablation("zombie local read", ((Confirming, "ask", _confirmed_at_once),), "copies_zombie_read"),
    Ablation("no leso check", ((Leading, "may_join", _may_join_without_noop),), "copies_join_before_leso"),
    Ablation("match kept over epochs", ((Replica, "see", _matches_kept),), "copies_match_over_epochs"),
    Ablation("confirm by half of MaxISR", ((Confirming, "on_confirmed", _confirmed_by_one),), "copies_confirm_by_half"),
    Ablation(
        "incarnation check on expand", ((MetaState, "_is_alive", _alive_in_any_life),), "copies_join_of_last_life"
    ),
    Ablation("req_no", ((MetaState, "_alter_isr", _numbers_forgotten),), "copies_request_again"),
)

SNAPSHOTS: Final = (
    Ablation("Append accepted when not listed", ((Replica, "follows", _follows_unlisted),), "copies_not_listed"),
    Ablation(
        "base without le",
        ((Log, "last_common", _base_without_epoch), (Replica, "align", _align_any_base)),
        "copies_base_epoch",
    ),
    Ablation(
        "mixed snapshot chunks",
        ((Incoming, "is_of", _always(True)), (Incoming, "is_before", _always(False))),
        "copies_mixed_chunks",
    ),
    Ablation("snapshot before NOOP", ((transfer, "_may_be_copied", _always(True)),), "copies_snapshot_before_noop"),
)

MISSING_ONCE: Final = (
    Ablation("alignment to less than the highest common point", ((Log, "last_common", _one_less),)),
    Ablation("numbers of appends used again", ((Holdings, "_stream_to", _numbered_anew),)),
    Ablation(
        "no snapshot before NOOP even from a lonely leader",
        ((transfer, "_may_be_copied", _copied_when_ready),),
        "copies_snapshot_of_the_lonely",
    ),
    Ablation("late chunks begin a snapshot anew", ((Incoming, "is_before", _any_other),)),
    Ablation("a late guess takes the chunks of a snapshot away", ((Following, "_align", _chunks_lost_by_a_guess),)),
    Ablation("who is behind the leader's guess keeps silent", ((Replica, "align", _aligned_is_enough),)),
    Ablation(
        "a snapshot given up waits for another turn",
        ((Transfers, "messages", _ended_when_sent), (Transfers, "_end", _always(None))),
    ),
)
