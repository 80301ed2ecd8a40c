"""Each necessary rule of replication, taken away, and the schedule that notices. The schedules are those of every run.

An ablation changes the product's own functions. `make ablations` says which schedule is the first to notice. Some are
not noticed, or only by something that does not go on; these rules have tests of their own, in
`tests/unit/test_replication_rules.py` and for the incarnation in `tests/unit/test_meta_state.py`:

- A copy takes nothing while it is not listed as a holder. Until copies move, nothing depends on it.
- No snapshot leaves before the no-op. It could only bring back what is old, and who needs one has promised nothing.
- Only the life that is registered may join. Acknowledgements are counted by life in any case.
- A snapshot that its log has left behind is begun anew in the same turn. Mostly something else brings the next turn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from gimmal.cluster.meta import rows
from gimmal.cluster.meta.state import MetaState
from gimmal.replication import transfer
from gimmal.replication.following import Following
from gimmal.replication.holdings import Holdings
from gimmal.replication.leading import Leading
from gimmal.replication.log import Log
from gimmal.replication.petition import Petition
from gimmal.replication.replica import Replica
from gimmal.replication.stream import Stream
from gimmal.replication.transfer import Incoming, Transfers
from gimmal.store.engine import Engine
from gimmal.store.sessions import Sessions, window_of
from gimmal.types import Incarnation
from tests.sim.museum import Change
from tests.small import front_door


@dataclass(frozen=True)
class Ablation:
    """A rule that can be taken away."""

    title: str
    changes: tuple[Change, ...]


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


def _aligned_is_enough(_: Any) -> Any:
    def align(following: Following, replica: Replica, seq: int, seq_epoch: int) -> None:
        if replica.align(seq, seq_epoch):
            following._unaligned.pop(replica, None)
        elif replica not in following._unaligned:
            following._unaligned[replica] = True
            following._tell_at_s = -1.0

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


# -- sessions -------------------------------------------------------------------------------------------------------


def _apply_without(*, dedup: bool, floor: bool) -> Callable[[Any], Any]:
    """Sessions that execute what they have executed before, or what is below the floor."""

    def instead(original: Any) -> Any:
        def apply(sessions: Sessions, write: Any, state: Any, seq: int, entry: Any) -> Any:
            window, number = sessions.windows.get(entry[2]), entry[3]
            if window is None or (number in window.replies and dedup):
                return original(sessions, write, state, seq, entry)
            window.replies.pop(number, None)
            before = window.floor
            window.floor = min(before, number) if floor else before
            result = original(sessions, write, state, seq, entry)
            window.floor = max(window.floor, before)
            return result

        return apply

    return instead


def _window_asked(_: Any) -> Any:
    def known_reply(node: Any, replica: Replica, request: Any) -> Any:
        window = replica.engine.sessions.windows.get(request.session)
        if window is None or (request.number not in window.replies and request.number >= window.floor):
            return front_door.NOTHING
        return window.replies.get(request.number, front_door.SILENCE)

    return known_reply


def _memory_asked(_: Any) -> Any:
    def known_reply(node: Any, replica: Replica, request: Any) -> Any:
        key = (request.partition, request.session, request.number)
        if request.session and key in node.remembered:
            return node.remembered[key]
        node.remembered[key] = front_door.SILENCE
        return front_door.NOTHING

    return known_reply


def _memory_kept(_: Any) -> Any:
    def on_result(node: Any, request: Any, result: Any) -> None:
        node.remembered[request.partition, request.session, request.number] = result

    return on_result


def _without_windows(original: Any) -> Any:
    def freeze(engine: Engine) -> Any:
        frozen = original(engine)
        windows = {
            session: window_of(window.floor, window.highest, window.last_ms, {})
            for session, window in frozen.windows.items()
        }
        return frozen._replace(windows=windows)

    return freeze


_NO_DEDUP: Final[Change] = (Sessions, "apply", _apply_without(dedup=False, floor=True))


def _ready(original: Any) -> Any:
    return property(lambda replica: replica.leading is not None)


ABLATIONS: Final = (
    Ablation("commit below minISR", ((Leading, "_count_on", _count_below_least),)),
    Ablation("amnesia kept in elr", ((MetaState, "_leave", _reborn_in("eligible")),)),
    Ablation("amnesia kept in isr", ((MetaState, "_leave", _reborn_in("in_sync")),)),
    Ablation("read before NOOP", ((Replica, "is_ready", _ready),)),
    Ablation("no MaxISR", ((Leading, "_count_on", _count_in_sync_only),)),
    Ablation(
        "MaxISR rolled back on any reject",
        ((Petition, "settled", _settled_by_any_answer), (Leading, "on_refused", _refused_whatever_the_row)),
    ),
    Ablation("elr never emptied", ((rows, "settled", _never_emptied),)),
    Ablation("no epoch fence on append", ((Replica, "follows", _follows_any_epoch),)),
    Ablation("no leso check on join", ((Leading, "may_join", _may_join_without_noop),)),
    Ablation("match kept over epochs", ((Replica, "see", _matches_kept),)),
    Ablation("incarnation check on expand", ((MetaState, "_is_alive", _alive_in_any_life),)),
    Ablation("request numbers", ((MetaState, "_alter_isr", _numbers_forgotten),)),
    Ablation("dedup at receipt", (_NO_DEDUP, (front_door, "known_reply", _window_asked))),
    Ablation(
        "dedup in leader memory only",
        (_NO_DEDUP, (front_door, "known_reply", _memory_asked), (front_door, "on_result", _memory_kept)),
    ),
    Ablation("snapshot without window", ((Engine, "freeze", _without_windows),)),
    Ablation("floor not enforced", ((Sessions, "apply", _apply_without(dedup=True, floor=True)),)),
    Ablation("append accepted when not listed", ((Replica, "follows", _follows_unlisted),)),
    Ablation("base without epoch", ((Log, "last_common", _base_without_epoch), (Replica, "align", _align_any_base))),
    Ablation("mixed snapshot chunks", ((Incoming, "is_of", _always(True)), (Incoming, "is_before", _always(False)))),
    Ablation("snapshot before NOOP", ((transfer, "_may_be_copied", _always(True)),)),
    Ablation("alignment to less than the highest common point", ((Log, "last_common", _one_less),)),
    Ablation("numbers of appends used again", ((Holdings, "_stream_to", _numbered_anew),)),
    Ablation("no snapshot before NOOP even from a lonely leader", ((transfer, "_may_be_copied", _copied_when_ready),)),
    Ablation("late chunks begin a snapshot anew", ((Incoming, "is_before", _any_other),)),
    Ablation("who is behind the leader's guess keeps silent", ((Following, "_align", _aligned_is_enough),)),
    Ablation(
        "a snapshot given up waits for another turn",
        ((Transfers, "messages", _ended_when_sent), (Transfers, "_end", _always(None))),
    ),
)

BY_TITLE: Final = {ablation.title: ablation for ablation in ABLATIONS}
