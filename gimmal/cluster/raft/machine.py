"""Raft without I/O: a group of voters that agrees on one log (Ongaro and Ousterhout, 2014; Ongaro's thesis).

The owner feeds messages and the time, and gets facts; what has to be made durable; and messages to send. In a turn:

    receive*, tick, propose*  ->  unsaved: write and sync that, then on_saved  ->  drain

Between `unsaved` and its `on_saved` nothing else is called. `drain` gives out nothing while a vote, a term or an entry
is unsaved, so no message leaves before what it stands for has survived. An owner without a disk skips the writing
only: its node must then come back under another voter id, for it has forgotten its votes.

Rules, each in the method or function named:

- One vote in a term, for a log at least as complete as one's own (`_may_vote`), remembered over a restart (`unsaved`).
- A voter asks in a trial first (`_needs_trial`). Whoever has heard the leader within an election timeout says no to
  trials and does not even look at votes for a new term (`_is_loyal`). So a node that was cut off or removed deposes
  nobody.
- A later term is taken over from its leader, from whoever stands for election in it, and from a member that refuses
  what this node sent; never from a trial.
- A leader's first entry is a no-op of its term; only entries of its own term commit by count (`leading`).
- A leader that a quorum has not answered within an election timeout steps down (`tick`).
- The configuration changes by one voter at a time, not before an entry of the leader's term has committed, and not
  while another change is open (`_may_reconfigure`). A leader that the change removes steps down once it is committed.
- A node that its configuration does not name as a voter answers everybody, for it may lag behind. It campaigns only
  if its removal may not be committed yet: until then the others may need its log (`_may_campaign`; thesis, 4.2.2).

What does not fit the rules of the protocol is dropped without a trace, and so is a snapshot that would carry the log
further at once than time could have: numbers only rise here. Towards a term that is as far beyond, a voter climbs in
steps (`_climb`): others may have believed it. What breaks an invariant of this side's own stops the process. Not here:
leases (`round` and `confirmed_round` are what they need), forwarding of proposals, hand-over of leadership, what a
command means.
"""

from collections.abc import Callable
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final

from gimmal.cluster.raft.configuration import Configuration, is_single_change, read_configuration
from gimmal.cluster.raft.election import Campaign
from gimmal.cluster.raft.facts import BecameLeader, Fact, HardState, SteppedDown, Unsaved
from gimmal.cluster.raft.leading import Leadership
from gimmal.cluster.raft.ledger import Answer, Ledger
from gimmal.cluster.raft.log import COMMAND, CONFIGURATION, NOOP, Entry, Log, Snapshot, Stored, read_entries
from gimmal.cluster.raft.parameters import RaftParameters
from gimmal.cluster.raft.quorum import is_up_to_date
from gimmal.types import Command
from gimmal.wire import limits
from gimmal.wire.messages import Wire
from gimmal.wire.peer_messages import (
    RAFT_BLANK,
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    RaftMessage,
    Vote,
    VoteRequest,
)

if TYPE_CHECKING:
    from random import Random


_CLIMB_EVERY_S: Final = 1.0
_OUTDATED: Final = Answer(is_accepted=False, upto_index=0, upto_term=0)
"""The answer to a leader of an older term. Its own term is what counts in it."""


class Role(StrEnum):
    """What a node is in its group at the moment. A learner is a follower."""

    FOLLOWER = "follower"
    TRIAL = "trial"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Raft:
    """One member of a group, or one that is to become a member. Times are seconds of the machine's clock.

    `term` and `vote` are the hard state, `leader` is the voter id of the term's leader if it is known, and entries up
    to `commit_index` are decided and have been told to the owner. All of these are for the owner to read only.
    """

    def __init__(self, me: str, stored: Stored, parameters: RaftParameters, dice: "Random", now: float) -> None:
        self.me = me
        self.term = stored.term
        self.vote = stored.vote
        self.leader: str | None = None
        self._parameters = parameters
        self._dice = dice
        self._heard_leader_at = self._climbed_at = -inf
        self._campaign: Campaign | None = None
        self._leadership: Leadership | None = None
        self._ledger = Ledger(stored)
        self._facts: list[Fact] = []
        self._outbox: list[tuple[str, RaftMessage]] = []
        self._handlers: dict[type[RaftMessage], Callable[[Any, float], None]] = {
            VoteRequest: self._on_vote_request,
            Vote: self._on_vote,
            AppendEntries: self._on_append,
            AppendReply: self._on_append_reply,
            InstallSnapshot: self._on_install,
        }
        self._campaign_at = now if self._is_alone() else now + self._patience()

    # -- what the owner may read

    @property
    def role(self) -> Role:
        """What this node is at the moment."""
        if self._leadership:
            return Role.LEADER
        if self._campaign:
            return Role.TRIAL if self._campaign.is_trial else Role.CANDIDATE
        return Role.FOLLOWER

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the newest in the log, committed or not."""
        return self.log.configuration

    @property
    def log(self) -> Log:
        """The log of this node, which its owner does not change."""
        return self._ledger.log

    @property
    def commit_index(self) -> int:
        """The index of the last entry that is known to be committed; the owner has been told of all up to it."""
        return self._ledger.commit_index

    @property
    def last_index(self) -> int:
        """The index of the last entry of the log."""
        return self.log.last_index

    @property
    def stored(self) -> Stored:
        """All that has to survive a crash, saved or not."""
        snapshot = self.log.snapshot
        return Stored(self.term, self.vote, snapshot, self.log.entries_from(snapshot.index + 1))

    @property
    def has_committed_in_term(self) -> bool:
        """Whether this is a leader that knows everything committed before it, because an entry of its own has been."""
        return self._leadership is not None and self.log.term_at(self.commit_index) == self.term

    @property
    def is_change_pending(self) -> bool:
        """Whether the configuration in force is not committed."""
        return self.log.configuration_index > self.commit_index

    @property
    def round(self) -> int:
        """The newest round that a leader has begun; 0 if this is none. What is begun later has a higher number."""
        return self._leadership.round if self._leadership else 0

    @property
    def confirmed_round(self) -> int:
        """The newest round that a quorum has answered; 0 if there is none, or this is no leader."""
        return self._leadership.confirmed_round if self._leadership else 0

    @property
    def confirmed_since(self) -> float:
        """When that round began, or minus infinity: until then, at least, nobody else was elected."""
        return self._leadership.confirmed_since if self._leadership else -inf

    def match_index(self, member: str) -> int:
        """Return up to where a member's log is known, by its leader, to be the leader's; 0 if it is not known."""
        if self._leadership and member == self.me:
            return self._ledger.saved_index
        follower = self._leadership.followers.get(member) if self._leadership else None
        return follower.match if follower else 0

    def heard_at(self, member: str) -> float:
        """Return when a leader last heard a follower (at first: when it began to listen), else minus infinity."""
        follower = self._leadership.followers.get(member) if self._leadership else None
        return follower.heard_at if follower else -inf

    # -- what the owner does

    def receive(self, message: RaftMessage, now: float) -> list[Fact]:
        """Take a message; return what became true. One that is not for this voter, or makes no sense, is dropped."""
        if message.target == self.me != message.voter:
            if message.term <= self.term + limits.TERM_STEP_MAX:
                self._handlers[type(message)](message, now)
            else:
                self._climb(message, now)
        return self._told()

    def tick(self, now: float) -> list[Fact]:
        """Do what is due by now; return what became true."""
        if self._leadership:
            if now >= self._leadership.lost_at():
                self._step_down(now)
            else:
                self._leadership.tick(now)
        elif now >= self._campaign_at and self._may_campaign():
            self._stand(now, is_trial=self._needs_trial())
        return self._told()

    def next_deadline(self) -> float:
        """Return when `tick` has something to do, or infinity."""
        if self._leadership:
            return self._leadership.next_deadline()
        return self._campaign_at if self._may_campaign() else inf

    def campaign(self, now: float) -> list[Fact]:
        """Stand for election at once instead of after a timeout, if this is a voter that does not lead."""
        if self._may_campaign() and not self._leadership:
            self._stand(now, is_trial=self._needs_trial())
        return self._told()

    def on_leader_gone(self, now: float) -> None:
        """Take the leader's process for dead: be loyal to it no longer, and campaign soon.

        A mistake costs an election at most, and that only if a quorum makes it.
        """
        if self.leader is not None and not self._leadership:
            self.leader = None
            soon = self._parameters.heartbeat_s * self._dice.random()  # not all at once
            self._campaign_at = min(self._campaign_at, now + soon)

    def propose(self, command: Command, now: float) -> int | None:
        """Append a command; return its index, or None if this is no leader. It is decided when a fact says so.

        Until then it may be replaced by another entry under the same index, of a later term.
        """
        return self._lead_entry(COMMAND, command, now) if self._leadership else None

    def propose_configuration(self, configuration: Configuration, now: float) -> int | None:
        """Append a change of the configuration; return its index, or None if it may not be changed so, or not now."""
        if not self._may_reconfigure(configuration):
            return None
        return self._lead_entry(CONFIGURATION, tuple(read_configuration(configuration)), now)

    def start_round(self, now: float) -> int | None:
        """Begin a round and return its number, or None if this is no leader. `confirmed_round` will reach it."""
        return self._leadership.start_round(now) if self._leadership else None

    def compact(self, index: int, state: Wire) -> None:
        """Take the owner's state after entry `index`, which it has been told, in place of the log up to there."""
        self._ledger.compact(index, state, self._parameters.entries_kept)

    def unsaved(self) -> Unsaved | None:
        """Return what must be durable before anything is sent, or None."""
        return self._ledger.unsaved(self._hard_state)

    def on_saved(self, now: float) -> list[Fact]:
        """Take what `unsaved` returned as durable; return what became true. A leader's own copy counts from here."""
        self._ledger.on_saved(self._hard_state)
        self._commit_what_counts(now)
        return self._told()

    def drain(self) -> list[tuple[str, RaftMessage]]:
        """Return the messages to send, each with its target's voter id: none while what they stand for is unsaved."""
        if not self._ledger.may_be_told(self._hard_state):
            return []
        self._post_what_is_due()
        outbox, self._outbox = self._outbox, []
        return outbox

    @property
    def _hard_state(self) -> HardState:
        return HardState(self.term, self.vote)

    # -- elections

    def _is_voter(self) -> bool:
        return self.me in self.configuration.voters

    def _may_campaign(self) -> bool:
        return any(self.me in known.voters for known in self.log.configurations_from(self.commit_index))

    def _is_alone(self) -> bool:
        return self.configuration.voters == (self.me,)

    def _patience(self) -> float:
        return self._parameters.election_timeout_s * (1 + self._dice.random())

    def _needs_trial(self) -> bool:
        """Whether to ask, before the term is raised, if it would be won. Always: a method so that a test can say no."""
        return True

    def _is_loyal(self, now: float) -> bool:
        """Say whether there is a leader that this node has heard, or that it is, within an election timeout."""
        if self._leadership:
            return now < self._leadership.lost_at()
        return self.leader is not None and now < self._heard_leader_at + self._parameters.election_timeout_s

    def _may_vote(self, request: VoteRequest) -> bool:
        return self.vote in (None, request.voter) and self._is_up_to_date(request)

    def _is_up_to_date(self, request: VoteRequest) -> bool:
        return is_up_to_date(request.last_term, request.last_index, self.log.last_term, self.log.last_index)

    def _stand(self, now: float, *, is_trial: bool) -> None:
        """Stand for election, or try whether to."""
        self.leader = None
        if not is_trial:
            self.term += 1
            self.vote = self.me
        self._campaign = campaign = Campaign(self.term + is_trial, is_trial=is_trial)
        self._campaign_at = now + self._patience()
        for voter in self.configuration.voters:
            if voter != self.me:
                last = (self.log.last_index, self.log.last_term)
                self._post(VoteRequest(*RAFT_BLANK, self.me, voter, campaign.term, is_trial, *last))
        campaign.take(self.me, is_granted=True)
        self._look_at_votes(now)

    def _look_at_votes(self, now: float) -> None:
        campaign = self._campaign
        assert campaign is not None
        verdict = campaign.verdict(self.configuration)
        if verdict is False:
            self._campaign = None
        elif verdict and campaign.is_trial:
            self._stand(now, is_trial=False)
        elif verdict:
            self._lead(now)

    def _on_vote_request(self, request: VoteRequest, now: float) -> None:
        if request.is_trial:
            is_granted = request.term > self.term and not self._is_loyal(now) and self._is_up_to_date(request)
            self._answer_candidate(request, request.term if is_granted else self.term, is_granted=is_granted)
            return
        if request.term > self.term:
            if self._is_loyal(now):
                return
            self._adopt(request.term, now)
        is_granted = request.term == self.term and self._may_vote(request)
        if is_granted:
            self.vote = request.voter
            self._campaign_at = now + self._patience()
        self._answer_candidate(request, self.term, is_granted=is_granted)

    def _answer_candidate(self, request: VoteRequest, term: int, *, is_granted: bool) -> None:
        self._post(Vote(*RAFT_BLANK, self.me, request.voter, term, request.is_trial, is_granted))

    def _on_vote(self, vote: Vote, now: float) -> None:
        campaign = self._campaign
        if campaign is None or vote.voter not in self.configuration.voters:
            return
        if vote.term > self.term and not vote.is_granted:
            self._adopt(vote.term, now)
        elif vote.is_trial == campaign.is_trial and vote.term == (campaign.term if vote.is_granted else self.term):
            campaign.take(vote.voter, is_granted=vote.is_granted)
            self._look_at_votes(now)

    def _adopt(self, term: int, now: float) -> None:
        """Move to a later term, in which nobody has this node's vote and no leader is known."""
        assert term > self.term, f"a term never goes back, from {self.term} to {term}"
        self._step_down(now)
        self._campaign = None
        self.term, self.vote, self.leader = term, None, None

    def _climb(self, message: RaftMessage, now: float) -> None:
        """Go some way towards a term that is far beyond, instead of taking a message of it.

        It may be a lie, which must not use up all terms; but where others have believed one, or this voter is new to a
        group that has, it has to come after them.
        """
        is_trial = isinstance(message, VoteRequest | Vote) and message.is_trial
        if not is_trial and now >= self._climbed_at + _CLIMB_EVERY_S:
            self._climbed_at = now
            self._adopt(self.term + limits.TERM_STEP_MAX, now)

    # -- leading

    def _lead(self, now: float) -> None:
        self._campaign = None
        self.leader = self.me
        self._leadership = Leadership(self.me, self.term, self.log, self._parameters, now)
        self._leadership.start_round(now)
        self._facts.append(BecameLeader(self.term))
        self._lead_entry(NOOP, (), now)

    def _lead_entry(self, kind: int, payload: Command, now: float) -> int:
        assert self._leadership is not None
        index = self.log.append(Entry(self.term, kind, payload))
        if kind == CONFIGURATION:
            self._leadership.on_configuration(now)
        return index

    def _step_down(self, now: float) -> None:
        """Lead no more, if this node does; the term stays."""
        if self._leadership is None:
            return
        self._leadership = None
        self.leader = None
        self._campaign_at = now + self._patience()
        self._facts.append(SteppedDown(self.term))

    def _may_reconfigure(self, configuration: Configuration) -> bool:
        return (
            self._leadership is not None
            and self._is_current_term_committed()
            and not self.is_change_pending
            and is_single_change(self.configuration, configuration)
        )

    def _is_current_term_committed(self) -> bool:
        """Only then no older change, that this leader does not know of, can still commit beside its own.

        Two changes of different leaders, each one step from the same configuration, have quorums that need not meet
        (Ongaro's correction to his thesis, 2015).
        """
        return self.has_committed_in_term

    def _on_append_reply(self, reply: AppendReply, now: float) -> None:
        if self._leadership is None or reply.voter not in self._leadership.followers:
            return
        if reply.term > self.term:
            self._adopt(reply.term, now)
        elif reply.term == self.term:
            self._leadership.on_reply(reply, now)
            self._commit_what_counts(now)

    def _commit_what_counts(self, now: float) -> None:
        if self._leadership is None:
            return
        self._facts += self._ledger.commit_up_to(self._leadership.committed(self._ledger.saved_index))
        if not self._is_voter() and not self.is_change_pending:
            self._post_what_is_due()  # so that the others know that this one is gone
            self._step_down(now)

    def _post_what_is_due(self) -> None:
        if self._leadership:
            self._outbox += self._leadership.messages(self.commit_index)

    # -- following

    def _follow(self, leader: str, term: int, now: float) -> bool:
        """Take someone as leader of a term; say whether that is what it is. In one term only one leads."""
        if term > self.term:
            self._adopt(term, now)
        if self.leader not in (None, leader):
            return False
        self._campaign = None
        self.leader = leader
        self._heard_leader_at = now
        self._campaign_at = now + self._patience()
        return True

    def _on_append(self, append: AppendEntries, now: float) -> None:
        try:
            entries = read_entries(append.entries, append.prev_term, append.term)
        except (ValueError, TypeError):
            return
        if append.term < self.term:
            self._answer_leader(append, _OUTDATED)
        elif self._follow(append.voter, append.term, now):
            answer = self._ledger.write_after(append.prev_index, append.prev_term, entries)
            if answer.is_accepted:
                self._facts += self._ledger.commit_up_to(min(append.commit, answer.upto_index))
            self._answer_leader(append, answer)

    def _on_install(self, install: InstallSnapshot, now: float) -> None:
        try:
            configuration = read_configuration(install.configuration)
        except (ValueError, TypeError):
            return
        is_credible = install.index <= self.log.last_index + limits.INDEX_STEP_MAX
        if not (is_credible and 0 < install.index_term <= install.term):
            return
        if install.term < self.term:
            self._answer_leader(install, _OUTDATED)
        elif self._follow(install.voter, install.term, now):
            snapshot = Snapshot(install.index, install.index_term, configuration, install.state)
            answer, facts = self._ledger.install(snapshot)
            self._facts += facts
            self._answer_leader(install, answer)

    def _answer_leader(self, message: AppendEntries | InstallSnapshot, answer: Answer) -> None:
        """Answer in this node's term. Rounds begin anew in each: of an older one, the number stands for nothing now.

        The sender may lead again by the time that the answer arrives, in the term in which it is given.
        """
        answered_round = message.round if message.term == self.term else 0
        self._post(AppendReply(*RAFT_BLANK, self.me, message.voter, self.term, *answer, answered_round))

    # -- both

    def _post(self, message: RaftMessage) -> None:
        self._outbox.append((message.target, message))

    def _told(self) -> list[Fact]:
        facts, self._facts = self._facts, []
        return facts
