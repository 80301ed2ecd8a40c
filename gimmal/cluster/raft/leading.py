"""What a leader does with its term: replicate, count, confirm. One object for each leadership; it ends with it.

- **Replicate.** Nothing is sent when something happens; `messages` says what each follower is due by now. So
  everything proposed in one turn travels as one message per follower.
- **Count.** An entry is committed when a quorum of the voters holds it durably, the leader's own disk included, and it
  is of the leader's own term; older ones commit with it (Raft, section 5.4.2).
- **Confirm.** Whatever is sent carries the number of the newest round. When a quorum has answered round r in this term,
  nobody else had been elected when r began: the leader knew then all that was committed. Heartbeats are rounds.
- **Hear.** A leader that a quorum has not answered within an election timeout may have been replaced, and must stop
  (CheckQuorum; Ongaro's thesis, section 6.2). It is asked by its owner, the machine, which stops.

The configuration is that of the log, from the moment it is appended: a leader that is removing itself does not count
itself. Followers whom the configuration does not name are not sent to: a node that was removed is not told so.
"""

from collections import deque
from collections.abc import Callable, Iterator
from math import inf

from gimmal.cluster.raft.log import Entry, Log
from gimmal.cluster.raft.parameters import RaftParameters
from gimmal.cluster.raft.progress import Pace, Progress
from gimmal.cluster.raft.quorum import Value, reached_by_quorum
from gimmal.wire.peer_messages import RAFT_BLANK, AppendEntries, AppendReply, InstallSnapshot, RaftMessage


class Leadership:
    """The leadership of voter `me` in one term, over its log. `now` is in seconds."""

    def __init__(self, me: str, term: int, log: Log, parameters: RaftParameters, now: float) -> None:
        self._me = me
        self._term = term
        self._log = log
        self._parameters = parameters
        self.followers: dict[str, Progress] = {}
        self.round = 0
        self.confirmed_round = 0
        self.confirmed_since = -inf
        self._unconfirmed: deque[tuple[int, float]] = deque()  # rounds and when they began
        self._heartbeat_at = now
        self.on_configuration(now)

    def on_configuration(self, now: float) -> None:
        """Follow the log's configuration: take on the members it added, drop those it removed."""
        known = self.followers
        self.followers = {
            member: known.get(member) or Progress(self._log.last_index + 1, now)
            for member in self._log.configuration.members
            if member != self._me
        }

    # -- time

    def start_round(self, now: float) -> int:
        """Begin a round: everybody is sent something, and a quorum of answers will confirm it. Return its number."""
        self.round += 1
        self._unconfirmed.append((self.round, now))
        self._heartbeat_at = now + self._parameters.heartbeat_s
        self._confirm()
        return self.round

    def tick(self, now: float) -> None:
        """Begin the round that is a heartbeat, if it is time."""
        if self.followers and now >= self._heartbeat_at:
            self.start_round(now)

    def next_deadline(self) -> float:
        """Return when to tick, or to look at `lost_at`."""
        return min(self._heartbeat_at if self.followers else inf, self.lost_at())

    def lost_at(self) -> float:
        """Return when, if nobody answers, this leader has not heard a quorum for an election timeout."""
        return self._reached(inf, lambda follower: follower.heard_at) + self._parameters.election_timeout_s

    # -- answers

    def on_reply(self, reply: AppendReply, now: float) -> None:
        """Take the answer of a follower, in this term."""
        follower = self.followers[reply.voter]
        answered_round = min(reply.round, self.round)
        follower.on_heard(answered_round, now)
        if not reply.is_accepted:
            follower.on_refused(self._log.last_not_after(reply.index, reply.index_term))
        elif reply.index <= self._log.last_index:
            follower.on_accepted(reply.index, answered_round)
        self._confirm()

    def committed(self, saved_index: int) -> int:
        """Return the highest index that is committed by count, or 0; `saved_index` is what the leader has durably."""
        index = self._reached(saved_index, lambda follower: follower.match)
        return index if self._may_commit(index) else 0

    def _may_commit(self, index: int) -> bool:
        """Only entries of its own term may a leader commit by counting: an older one can still be overwritten."""
        return self._log.term_at(index) == self._term

    def _confirm(self) -> None:
        confirmed = self._reached(self.round, lambda follower: follower.answered_round)
        self.confirmed_round = max(self.confirmed_round, confirmed)
        while self._unconfirmed and self._unconfirmed[0][0] <= self.confirmed_round:
            _, self.confirmed_since = self._unconfirmed.popleft()

    def _reached(self, own: Value, of: Callable[[Progress], Value]) -> Value:
        followers = self.followers
        voters = self._log.configuration.voters
        return reached_by_quorum([own if voter == self._me else of(followers[voter]) for voter in voters])

    # -- what is due

    def messages(self, commit: int) -> Iterator[tuple[str, RaftMessage]]:
        """Yield what each follower is due, with its voter id, and take it as sent."""
        for target, follower in self.followers.items():
            for message in self._messages_to(target, follower, commit):
                follower.sent_round = self.round
                follower.told_commit = commit
                yield target, message

    def _messages_to(self, target: str, follower: Progress, commit: int) -> Iterator[RaftMessage]:
        log, parameters = self._log, self._parameters
        is_round_due = follower.sent_round < self.round
        if follower.pace is Pace.INSTALLING:
            if is_round_due:
                yield self._append(target, 0, 0, ())  # fits any log, so it is a heartbeat and nothing else
        elif follower.next <= log.base_index:
            follower.on_snapshot_sent(log.snapshot.index, self.round)
            yield self._install(target)
        elif follower.pace is Pace.PROBING:
            if not follower.is_waiting or is_round_due:
                entries = () if follower.is_waiting else self._portion(follower)  # a silent one is sent little
                follower.is_waiting = True
                yield self._append(target, follower.next - 1, commit, entries)
        else:
            is_silent = True
            while follower.next <= log.last_index and follower.in_flight < parameters.in_flight_max:
                entries = self._portion(follower)
                yield self._append(target, follower.next - 1, commit, entries)
                follower.on_sent(len(entries))
                is_silent = False
            if is_silent and (is_round_due or follower.told_commit < commit):
                yield self._append(target, follower.next - 1, commit, ())

    def _portion(self, follower: Progress) -> tuple[Entry, ...]:
        parameters = self._parameters
        return self._log.portion_from(follower.next, parameters.entries_per_append_max, parameters.append_bytes_max)

    def _append(self, target: str, prev_index: int, commit: int, entries: tuple[Entry, ...]) -> AppendEntries:
        prev_term = self._log.term_at(prev_index) if prev_index else 0
        assert prev_term is not None, f"entry {prev_index} is gone"
        return AppendEntries(
            *RAFT_BLANK, self._me, target, self._term, prev_index, prev_term, commit, self.round, entries
        )

    def _install(self, target: str) -> InstallSnapshot:
        index, term, configuration, state = self._log.snapshot
        return InstallSnapshot(*RAFT_BLANK, self._me, target, self._term, index, term, self.round, configuration, state)
