"""What has been committed, as it was when it was committed first: everything later is compared with that.

Checks, by name:

    committed is final       no copy ever commits another entry at a place, or forgets what it has committed
    one state                equal commits are equal digests, on all copies and in a state kept here
    one execution            an op takes effect once, and every answer to it is the same
    candidates are complete  whoever may be elected, and was not restarted, holds everything that was acknowledged
    one leader an epoch      two nodes never lead under the same epoch
    no stale read            a read that was confirmed sees everything acknowledged before
    nothing is lost          somebody can be elected as long as somebody has everything
"""

from collections.abc import Callable
from typing import Any

from gimmal.cluster.table import Table
from gimmal.replication.holdings import Holdings
from gimmal.replication.log import Log
from gimmal.replication.replica import Replica
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Refused
from gimmal.types import Entry, Incarnation
from tests.sim.violation import Violation, require
from tests.small.clients import SHARED, Ops


class Forgotten:
    """What logs have forgotten since it was looked at last: a leader may commit and forget in one turn."""

    def __init__(self) -> None:
        self._pieces: dict[Log, list[Entry]] = {}

    def watch(self, original: Callable[[Log, int], None]) -> Callable[[Log, int], None]:
        """Return what takes the place of `Log.forget`."""

        def forget(log: Log, upto: int) -> None:
            self._pieces.setdefault(log, []).extend(log.entries[: max(0, upto - log.base)])
            original(log, upto)

        return forget

    def take(self, log: Log) -> list[Entry]:
        """Return the entries below the base, as many as are known, and know them no more."""
        return self._pieces.pop(log, [])


class Record:
    """The committed log of one partition, and the state it makes."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.results: list[Any] = []
        self.engine = Engine(Footprint())
        self.digests: dict[int, bytes] = {}
        self.leaders: dict[int, Incarnation] = {}
        self.counted: set[int] = set()  # ops that add to the shared counter


class Ledger:
    """Records and compares. It knows nothing of messages."""

    def __init__(self, partitions: int, ops: Ops, forgotten: Forgotten) -> None:
        self._forgotten = forgotten
        self.records = [Record() for _ in range(partitions)]
        self._ops = ops
        self._replies: dict[int, Any] = {}

    # -- commits ------------------------------------------------------------------------------------------------------

    def check_commits(self, holdings: Holdings, seen: dict[int, int]) -> None:
        """Look at what a node has committed beyond what was `seen` of it, by partition."""
        for partition, replica in holdings.replicas.items():
            before = seen.get(partition, 0)
            if replica.commit == before:
                continue
            if replica.commit < before:
                raise Violation("committed is final", f"{_name(replica)} went back to {replica.commit} from {before}")
            seen[partition] = replica.commit
            self._check_commit(replica, before)

    def _check_commit(self, replica: Replica, before: int) -> None:
        log, record = replica.log, self.records[replica.partition]
        forgotten = self._forgotten.take(log)
        base = log.base - len(forgotten)
        start = max(before, base)
        entries = [*forgotten, *log.entries[: replica.commit - log.base]]
        for seq, entry in enumerate(entries[start - base :], start + 1):
            if seq <= len(record.entries):
                if record.entries[seq - 1] != entry:
                    text = f"{_name(replica)} has {entry} at {seq}, committed is {record.entries[seq - 1]}"
                    raise Violation("committed is final", text)
            elif seq == len(record.entries) + 1:
                self._extend(replica.partition, record, seq, entry)
            else:
                raise Violation("committed is final", f"{_name(replica)} commits {seq} behind a gap")
        if base > before:  # a snapshot
            is_known = log.base <= len(record.entries) and record.entries[log.base - 1][0] == log.base_epoch
            require(is_known, "committed is final", f"{_name(replica)} starts from {base}, epoch {log.base_epoch}")
            self.check_state(replica)

    def _extend(self, partition: int, record: Record, seq: int, entry: Entry) -> None:
        record.entries.append(entry)
        result = record.engine.apply(seq, entry)
        record.results.append(result)
        op = self._ops.by_origin.get((partition, entry[2], entry[3]))
        if op is None or isinstance(result, Refused):
            return
        command = entry[5]
        if self._replies.setdefault(op, result) != result:
            raise Violation("one execution", f"op {op} was answered {self._replies[op]}, then {result}")
        if command[1] == SHARED:
            record.counted.add(op)
            limit = len(record.counted)
        else:
            limit = 1  # a key of its own, or the truth of a SET
        require(result <= limit, "one execution", f"{limit} such ops, and after op {op} they count {result}")

    def check_result(self, replica: Replica, seq: int, result: Any) -> None:
        """Compare what a leader answers with what the committed log gives."""
        expected = self.records[replica.partition].results[seq - 1]
        if result != expected:
            raise Violation("one state", f"{_name(replica)} answers {result} for entry {seq}, not {expected}")

    # -- audits -------------------------------------------------------------------------------------------------------

    def check_state(self, replica: Replica) -> None:
        """Compare the state of a copy with all others that ever had the same commit."""
        record = self.records[replica.partition]
        whole = len(record.entries)
        if whole not in record.digests:
            record.digests[whole] = record.engine.digest()
        digest = replica.engine.digest()
        is_same = record.digests.setdefault(replica.commit, digest) == digest
        require(is_same, "one state", f"{_name(replica)} has another state after {replica.commit}")

    def check_leader(self, replica: Replica) -> None:
        """Note who leads."""
        if replica.leading is not None:
            leaders = self.records[replica.partition].leaders
            other = leaders.setdefault(replica.leading.view.epoch, replica.me)
            require(other == replica.me, "one leader an epoch", f"{other} and {_name(replica)}")

    def acknowledged(self, partition: int) -> int:
        """Return how many entries of a partition have been acknowledged by now."""
        return len(self.records[partition].entries)

    def check_read(self, replica: Replica, acknowledged: int) -> None:
        """Judge a read that is answered now: it sees at least what had been acknowledged when it was asked for."""
        if replica.commit < acknowledged:
            text = f"{_name(replica)} reads at {replica.commit}, and {acknowledged} was acknowledged before"
            raise Violation("no stale read", text)

    def check_candidates(self, table: Table, holdings: dict[Incarnation, Holdings]) -> None:
        """Look at all that may be elected; `holdings` are those of lives that are not over."""
        for partition, row in enumerate(table.partitions):
            require(not row.is_lost, "nothing is lost", f"partition {partition} has no candidate left")
            record = self.records[partition]
            for member in (*row.in_sync, *row.eligible):
                if member in holdings and record.entries:
                    replica = holdings[member].replicas.get(partition)
                    is_complete = replica is not None and _holds(replica.log, record.entries)
                    require(is_complete, "candidates are complete", f"{member} lacks entries of partition {partition}")


def _holds(log: Log, committed: list[Entry]) -> bool:
    base = log.base
    if log.last < len(committed) or base > len(committed):
        return False
    if base and committed[base - 1][0] != log.base_epoch:
        return False
    return log.entries[: len(committed) - base] == committed[base:]


def _name(replica: Replica) -> str:
    return f"{replica.me.name}@{replica.me.number}, partition {replica.partition}"
