"""What must hold of the copies of every partition, at every moment, checked from outside.

- Committed logs are equal: what any copy has committed at a place is the same entry everywhere, now and later.
- Commit, leader epoch and version of a copy only rise, and no copy loses what it knew to be committed.
- One leader per partition and epoch; it holds everything that was committed under the epochs before its own.
- Un-restarted members of the in-sync and eligible sets hold everything that was committed (`audit`).
- When everything is mended: somebody leads, all are in sync (`complaints`), and states are equal (`differences`).

A copy is looked at after turns of its own host, and only at what has changed since. Entries that were committed and
forgotten within one turn are not seen; the states of the end tell of them too.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gimmal.cluster.table import PartitionRow, Table
from gimmal.types import Entry, Incarnation
from tests.sim.host import HOME
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.subject import CopyState, Watch


class Known(NamedTuple):
    """A committed entry; `seen_in` is the epoch of the first copy seen to know it: it committed no later."""

    entry: Entry
    seen_in: int


@dataclass(eq=False)
class PartitionHistory:
    """All that any copy of a partition has shown. `is_lost`: nobody owes anything of it any more."""

    number: int
    committed: dict[int, Known] = field(default_factory=dict)
    committed_max: int = 0
    leader_by_epoch: dict[int, Incarnation] = field(default_factory=dict)
    ruling: dict[int, tuple["Host", int]] = field(default_factory=dict)  # epoch -> (leader, its incarnation)
    is_lost: bool = False


class CopyChecks:
    """Checks of the copies of one cluster."""

    def __init__(self, counts: "Counter[str]") -> None:
        self._counts = counts
        self._histories: dict[int, PartitionHistory] = {}
        self.ambitious: tuple[Host | None, int, int] = (None, 0, 0)  # who took over last, what, in which epoch
        self.on_lost: Callable[[int], None] = lambda partition: None

    def history(self, partition: int) -> PartitionHistory:
        found = self._histories.get(partition)
        if found is None:
            found = self._histories[partition] = PartitionHistory(partition)
        return found

    # -- tables -----------------------------------------------------------------------------------------------

    def on_table(self, before: Table | None, table: Table) -> None:
        """Take note of what a table that is newer than all others says of partitions."""
        rows = before.partitions if before is not None else (None,) * len(table.partitions)
        for number, (old, new) in enumerate(zip(rows, table.partitions, strict=True)):
            if old is None or old is new:
                continue
            if new.leader is not None and new.leader != old.leader:
                self._counts["partition_leader_changes"] += 1
            if new.epoch == old.epoch:
                size, size_before = len(new.in_sync), len(old.in_sync)
                self._counts["expands" if size > size_before else "shrinks"] += size != size_before
            self._look_for_loss(number, old, new)

    def _look_for_loss(self, number: int, old: PartitionRow, new: PartitionRow) -> None:
        history = self.history(number)
        is_begun_anew = len(new.replicas) == 1 and old.in_sync != new.in_sync and not old.eligible  # lost and given out
        if not history.is_lost and (new.is_lost or is_begun_anew):
            history.is_lost = True
            self._counts["partitions_lost"] += 1
            self.on_lost(number)

    # -- a copy after a turn of its host ----------------------------------------------------------------------

    def on_turn(self, host: "Host") -> None:
        """Look at the copies of a host that have changed."""
        watch, known = host.watch, host.copies
        assert watch is not None
        for state in watch.copies():
            before = known.get(state.partition)
            if before is not state and before != state:
                known[state.partition] = state
                if before is not None and before.life != state.life:
                    before = None
                history = self.history(state.partition)
                if not history.is_lost:
                    self._on_change(host, watch, history, before, state)

    def _on_change(
        self, host: "Host", watch: "Watch", history: PartitionHistory, before: "CopyState | None", state: "CopyState"
    ) -> None:
        base, base_epoch = watch.copy_base(history.number)
        if before is not None:
            self._compare(host, watch, before, state)
        known = history.committed.get(base)
        if known is not None and known.entry[0] != base_epoch:
            self._differs(host, history, base, f"of epoch {base_epoch}", known)
        commit_before = before.commit if before is not None and before.log == state.log else 0
        if state.commit > commit_before:
            first = max(commit_before, base) + 1
            for seq, entry in enumerate(watch.copy_entries(history.number, first, state.commit), first):
                self._on_committed(host, history, seq, entry, state.epoch)
        if state.is_leading and (before is None or not before.is_leading or before.epoch != state.epoch):
            self._on_leader(host, watch, history, state)

    def _compare(self, host: "Host", watch: "Watch", before: "CopyState", state: "CopyState") -> None:
        where = f"partition {state.partition} at {host.name}"
        if state.commit < before.commit or (state.epoch, state.version) < (before.epoch, before.version):
            raise Violation("commits and epochs rise", f"{where}: {before} became {state}")
        if state.last < before.commit:
            raise Violation("commit is final", f"{where}: {before} became {state}")
        if state.log != before.log:
            self._counts["copies_installed"] += 1
        elif state.last < before.last or watch.copy_epoch_at(state.partition, before.last) not in (
            before.last_epoch,
            None,
        ):
            self._counts["truncations"] += 1

    def _on_committed(self, host: "Host", history: PartitionHistory, seq: int, entry: Entry, epoch: int) -> None:
        known = history.committed.get(seq)
        if known is None:
            history.committed[seq] = Known(entry, epoch)
            history.committed_max = max(history.committed_max, seq)
            self._check_rulers(history, seq, entry[0], epoch)
        elif known.entry != entry:
            self._differs(host, history, seq, str(entry), known)

    def _differs(self, host: "Host", history: PartitionHistory, seq: int, what: str, known: Known) -> None:
        raise Violation(
            "committed logs are equal",
            f"entry {seq} of partition {history.number} at {host.name} is {what}, elsewhere {known.entry}",
        )

    # -- leaders ----------------------------------------------------------------------------------------------

    def _on_leader(self, host: "Host", watch: "Watch", history: PartitionHistory, state: "CopyState") -> None:
        me = Incarnation(host.name, state.life)
        earlier = history.leader_by_epoch.setdefault(state.epoch, me)
        if earlier != me:
            raise Violation(
                "one leader per epoch", f"partition {history.number}, epoch {state.epoch}: {earlier} and {me}"
            )
        history.ruling[state.epoch] = (host, state.life)
        if state.epoch > 1:
            self.ambitious = (host, history.number, state.epoch)
        base, _ = watch.copy_base(history.number)
        for seq in range(max(1, base), history.committed_max + 1):
            known = history.committed.get(seq)
            if known is not None and known.seen_in < state.epoch:
                self._must_hold(host, watch, history, seq, "leads without")

    def _check_rulers(self, history: PartitionHistory, seq: int, entry_epoch: int, seen_in: int) -> None:
        """Check that those who lead a later epoch hold an entry that was committed in an earlier one."""
        for epoch, (host, life) in list(history.ruling.items()):
            if epoch <= seen_in:
                continue
            state = host.copies.get(history.number)
            if host.watch is None or state is None or (state.life, state.epoch) != (life, epoch):
                del history.ruling[epoch]
            elif state.is_leading:
                self._must_hold(host, host.watch, history, seq, "leads without")

    def _must_hold(self, host: "Host", watch: "Watch", history: PartitionHistory, seq: int, how: str) -> None:
        base, _ = watch.copy_base(history.number)
        if seq < base:
            return  # it is in the state
        epoch = watch.copy_epoch_at(history.number, seq)
        known = history.committed[seq]
        if epoch != known.entry[0]:
            raise Violation(
                "nothing committed is missing",
                f"{host.name} {how} entry {seq} of partition {history.number} (its own is of epoch {epoch}): {known}",
            )

    # -- now and then, and in the end -------------------------------------------------------------------------

    def audit(self, hosts: "list[Host]", table: Table | None) -> None:
        """Check that un-restarted members of the in-sync and eligible sets hold everything that was committed."""
        for number, row in enumerate(table.partitions if table is not None else ()):
            history = self.history(number)
            if history.is_lost:
                continue
            for member in (*row.in_sync, *row.eligible):
                host = self._host_of(hosts, member)
                watch = host.watch if host is not None else None
                if host is None or watch is None or number not in host.copies:
                    continue
                base, _ = watch.copy_base(number)
                for seq in range(max(1, base), history.committed_max + 1):
                    known = history.committed.get(seq)
                    if known is not None and watch.copy_epoch_at(number, seq) != known.entry[0]:
                        self._must_hold(host, watch, history, seq, "is in sync or eligible without")
            self._counts["audits"] += 1

    def _host_of(self, hosts: "list[Host]", member: Incarnation) -> "Host | None":
        for host in hosts:
            if host.name == member.name and host.is_up and host.identity.incarnation == member.number:
                return host
        return None

    def complaints(self, table: Table) -> list[str]:
        """Say what is not yet as it must be once everything is mended."""
        found = []
        for number, row in enumerate(table.partitions):
            if row.is_lost:
                continue
            if row.leader is None:
                found.append(f"nobody leads partition {number}: {row}")
            elif len(row.in_sync) < len(row.replicas):
                found.append(f"not all are in sync: partition {number}: {row}")
        return found

    def differences(self, hosts: "list[Host]", table: Table) -> list[str]:
        """Say which copies are not yet equally far; that those which are have equal states is checked."""
        found = []
        for host in hosts:
            if host.is_up and host.group == HOME:
                self.on_turn(host)
        for number, row in enumerate(table.partitions):
            if not row.is_lost:
                found += self._differences(hosts, number, row)
        return found

    def _differences(self, hosts: "list[Host]", number: int, row: PartitionRow) -> list[str]:
        digests: dict[bytes, None] = {}
        states = []
        for member in row.in_sync:
            host = self._host_of(hosts, member)
            state = host.copies.get(number) if host is not None else None
            if host is None or host.watch is None or state is None:
                return [f"{member} holds no copy of partition {number}"]
            states.append((host.name, state))
            digests[host.watch.copy_digest(number)] = None
        ends = [(state.commit, state.last) for _, state in states]
        if any(end != (ends[0][0], ends[0][0]) for end in ends):
            return [f"copies of partition {number} are not equally far: {states}"]
        if len(digests) > 1:
            raise Violation("equal logs, equal states", f"partition {number} differs at {row.in_sync}: {digests}")
        return []
