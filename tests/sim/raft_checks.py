"""What must hold of every meta group, at every moment: the properties of Raft, checked from outside.

- Election safety: a term has one leader at most.
- No lost vote: a voter grants one candidate its vote in a term, over all its lives. Votes are seen as they leave.
- Log matching: entries of the same index and term are the same and follow the same.
- Leader append-only: a leader drops nothing of its own log; and nobody drops what it knew to be committed.
- State machine safety: what is committed at an index is the same everywhere.
- Leader completeness: a leader holds everything that was committed in the terms before its own.

A voter is looked at after its own turns only, and then only at what has changed: the log is compared from its end
until terms agree, which by log matching is enough, and log matching is checked of every entry that is new.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from gimmal.wire.peer_messages import AppendEntries, InstallSnapshot, PeerMessage, Vote, VoteRequest
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.sim.host import Host, LogMemory
    from tests.sim.subject import RaftState, Watch


class Known(NamedTuple):
    """A committed entry; `seen_in` is the term of the first process seen to know it: it committed no later."""

    term: int
    kind: int
    payload: Any
    seen_in: int


class GroupHistory:
    """All that any voter of one meta group has shown."""

    def __init__(self) -> None:
        self.leader_by_term: dict[int, str] = {}
        self.vote_by_term_and_voter: dict[tuple[int, str], str] = {}
        self.entries: dict[tuple[int, int], tuple[int, int, Any]] = {}  # (index, term) -> (term before, kind, payload)
        self.committed: dict[int, Known] = {}
        self.committed_max = 0
        self.ruling: dict[int, tuple[Host, int]] = {}  # term -> (leader, its life)

    @property
    def term_max(self) -> int:
        """The highest term that ever had a leader."""
        return max(self.leader_by_term, default=0)


class RaftChecks:
    """Checks of all meta groups, by cluster id: clusters that must never meet are each held to the same rules."""

    def __init__(self, counts: "Counter[str]") -> None:
        self._counts = counts
        self._histories: dict[bytes, GroupHistory] = {}
        self.ambitious: tuple[Host | None, int, bool] = (
            None,
            0,
            False,
        )  # who last stood or won, its term, whether it won
        self.observers: dict[type[PeerMessage], Callable[[Host, Any], None]] = {
            Vote: self._on_vote,
            VoteRequest: self._on_vote_request,
            AppendEntries: self._on_leading,
            InstallSnapshot: self._on_leading,
        }

    def history(self, cluster: bytes) -> GroupHistory:
        history = self._histories.get(cluster)
        if history is None:
            history = self._histories[cluster] = GroupHistory()
        return history

    # -- messages that leave ----------------------------------------------------------------------------------

    def _on_vote(self, host: "Host", vote: Vote) -> None:
        if vote.is_granted and not vote.is_trial:
            self._voted(vote.cluster, vote.term, vote.voter, vote.target)

    def _on_vote_request(self, host: "Host", request: VoteRequest) -> None:
        if not request.is_trial:
            self._counts["candidacies"] += 1
            self.ambitious = (host, request.term, False)
            self._voted(request.cluster, request.term, request.voter, request.voter)
        else:
            self._counts["trials"] += 1

    def _voted(self, cluster: bytes, term: int, voter: str, candidate: str) -> None:
        votes = self.history(cluster).vote_by_term_and_voter
        earlier = votes.setdefault((term, voter), candidate)
        if earlier != candidate:
            raise Violation("no lost vote", f"in term {term} {voter} voted for {earlier}, and now for {candidate}")

    def _on_leading(self, host: "Host", message: AppendEntries | InstallSnapshot) -> None:
        if type(message) is InstallSnapshot:
            self._counts["snapshots_sent"] += 1
        self._leads(self.history(message.cluster), message.term, message.voter)

    def _leads(self, history: GroupHistory, term: int, voter: str) -> None:
        leader = history.leader_by_term.get(term)
        if leader is None:
            if history.leader_by_term and history.leader_by_term[history.term_max] != voter:
                self._counts["leader_changes"] += 1
            history.leader_by_term[term] = voter
            self._counts["elections"] += 1
        elif leader != voter:
            raise Violation("election safety", f"term {term} is led by {leader} and by {voter}")

    # -- a voter after its turn -------------------------------------------------------------------------------

    def on_state(self, host: "Host", state: "RaftState | None") -> None:
        """Compare what a process shows with what it, and all others, have shown before."""
        before, host.raft = host.raft, state
        if state is None:
            return
        watch = host.watch
        assert watch is not None
        history = self.history(host.identity.cluster)
        if before is not None and state.term < before.term:
            raise Violation("terms rise", f"{host.name} went from term {before.term} to {state.term}")
        voters = watch.voters()
        if voters != host.voters:
            if host.voters:
                self._counts["voter_changes_seen"] += 1
            host.voters = voters
        host.learners = watch.learners()
        kept = self._read_log(host, watch, state, is_known=before is not None)
        was_leading = before is not None and before.is_leader and before.term == state.term
        if was_leading and state.is_leader and kept < before.last_index:  # type: ignore[union-attr]
            raise Violation("leader append-only", f"{host.voter} leads term {state.term} and dropped entry {kept + 1}")
        commit_before = before.commit if before is not None else 0
        if state.commit < commit_before:
            raise Violation("commit rises", f"{host.name} went from commit {commit_before} to {state.commit}")
        if kept < commit_before:
            raise Violation("commit is final", f"{host.name} dropped entry {kept + 1}, committed up to {commit_before}")
        if state.is_leader:
            self._leads(history, state.term, host.voter)
            history.ruling[state.term] = (host, host.life)
            if not was_leading:
                self.ambitious = (host, state.term, True)
                self._check_completeness(host, history, state.term)
        if state.commit > commit_before:
            self._read_commits(host, watch, state, commit_before)

    def _read_log(self, host: "Host", watch: "Watch", state: "RaftState", *, is_known: bool) -> int:
        """Bring the memory of a log up to date; return up to where it is what it was."""
        log = host.log
        base, base_term = watch.base()
        if log.last < base:
            if is_known:
                self._counts["snapshots_installed"] += 1
            log.first, log.base_term, log.terms = base + 1, base_term, []
            kept = base
        else:
            if base + 1 > log.first:
                log.base_term = log.term_at(base) or 0
                del log.terms[: base + 1 - log.first]
                log.first = base + 1
                if log.base_term != base_term:  # what a snapshot covers replaces a log that differs from it
                    log.base_term, log.terms = base_term, []
            kept = min(log.last, state.last_index)
            if kept > base and state.last_index == log.last and log.terms[-1] == state.last_term:
                return kept
            while kept > base and watch.entries(kept, kept)[0][0] != log.terms[kept - log.first]:
                kept -= 1
            del log.terms[kept - base :]
        if state.last_index > kept:
            self._check_matching(host, watch.entries(kept + 1, state.last_index))
        return kept

    def _check_matching(self, host: "Host", entries: Any) -> None:
        log, known = host.log, self.history(host.identity.cluster).entries
        for term, kind, payload in entries:
            index = log.last + 1
            entry = (log.terms[-1] if log.terms else log.base_term, kind, payload)
            earlier = known.setdefault((index, term), entry)
            if earlier is not entry and earlier != entry:
                raise Violation(
                    "log matching",
                    f"entry {index} of term {term} was (term before, kind, payload) {earlier}, at {host.name} {entry}",
                )
            log.terms.append(term)

    def _read_commits(self, host: "Host", watch: "Watch", state: "RaftState", commit_before: int) -> None:
        history = self.history(host.identity.cluster)
        committed, log = history.committed, host.log
        first = max(commit_before + 1, log.first)
        if state.commit > log.last:
            raise Violation("commit is in the log", f"{host.name}: commit {state.commit}, log ends at {log.last}")
        self._check_base(host, log, history)
        for index, (term, kind, payload) in enumerate(watch.entries(first, state.commit), first):
            known = committed.get(index)
            if known is None:
                committed[index] = Known(term, kind, payload, state.term)
                history.committed_max = max(history.committed_max, index)
                self._check_rulers(history, index, term, state.term)
            elif (known.term, known.kind, known.payload) != (term, kind, payload):
                raise Violation(
                    "state machine safety",
                    f"entry {index} committed at {host.name} is {(term, kind, payload)}, elsewhere {known[:3]}",
                )

    def _check_base(self, host: "Host", log: "LogMemory", history: GroupHistory) -> None:
        known = history.committed.get(log.first - 1)
        if known is not None and known.term != log.base_term:
            raise Violation(
                "state machine safety",
                f"{host.name} has entry {log.first - 1} of term {log.base_term} in a snapshot, elsewhere {known.term}",
            )

    def _check_completeness(self, host: "Host", history: GroupHistory, term: int) -> None:
        """Check that a new leader holds all that was committed before its term."""
        log = host.log
        for index in range(log.first, history.committed_max + 1):
            known = history.committed.get(index)
            if known is not None and known.seen_in < term and log.term_at(index) != known.term:
                self._incomplete(host, term, index, known.term)

    def _check_rulers(self, history: GroupHistory, index: int, entry_term: int, seen_in: int) -> None:
        """Check that those who lead a later term hold an entry that was committed in an earlier one."""
        for term, (leader, life) in history.ruling.items():
            state, log = leader.raft, leader.log
            if term <= seen_in or leader.life != life or state is None or not state.is_leader or state.term != term:
                continue
            if index >= log.first and log.term_at(index) != entry_term:
                self._incomplete(leader, term, index, entry_term)

    def _incomplete(self, host: "Host", term: int, index: int, entry_term: int) -> None:
        raise Violation(
            "leader completeness",
            f"{host.voter} leads term {term} without entry {index} of term {entry_term}, which is committed",
        )

    def check_all_logs(self, hosts: "list[Host]") -> None:
        """Compare whole logs, entry by entry: the end of a schedule trusts no shortcut."""
        for host in hosts:
            if host.core is None or host.watch is None or host.raft is None:
                continue
            history, last = self.history(host.identity.cluster), host.log.last
            first = host.watch.base()[0] + 1
            for index, entry in enumerate(host.watch.entries(first, last), first):
                known = history.entries.get((index, entry[0]))
                if known is None or known[1:] != tuple(entry[1:]):
                    raise Violation("log matching", f"entry {index} changed at {host.name} behind its end")
