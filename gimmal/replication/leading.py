"""What the leader of a partition does with its epoch: count, and say who is in sync. One object for each epoch.

- **Count.** Entries commit when every copy of MaxISR has acknowledged them in this epoch, the leader's own included;
  not while fewer than `least` are in sync; and only together with an entry of this epoch (its first is a no-op).
- **MaxISR** is the in-sync set of the row, and whoever a proposal that is under way would add. It shrinks when a newer
  row says so, or when the meta group has refused the proposal and the row is still the one that it was made under
  (`on_refused`): until then the proposal may have been accepted, and the new member counted on.
- **Expand.** A follower may join when it has acknowledged, in this epoch, everything that is committed and the no-op.
  Less does not do: entries of earlier epochs may be committed that it does not have.
- **Hand over.** A leader that wants another in its place (`leaves_to`, a name) stops accepting and reading first, and
  goes on only under a newer row: until then the other may lead already.
- **Shrink** to no fewer than `least`: beyond that nothing could commit anyhow, and whether a copy is gone for good is
  the meta group's to say.
"""

from collections.abc import Callable
from typing import NamedTuple

from gimmal.replication.progress import Progress
from gimmal.replication.stream import Stream
from gimmal.replication.view import View
from gimmal.types import Incarnation


class Proposal(NamedTuple):
    """Another in-sync set, asked for under the version of a row."""

    version: int
    in_sync: tuple[Incarnation, ...]


class Leading:
    """The leadership of `me` under `view.epoch`. `leso` is the last entry of the log that it took over."""

    __slots__ = (
        "_me",
        "_stream_to",
        "can_commit",
        "followers",
        "followers_by_member",
        "leaves_to",
        "leso",
        "must_have",
        "proposal",
        "view",
    )

    def __init__(self, me: Incarnation, view: View, leso: int, stream_to: Callable[[Incarnation], Stream]) -> None:
        self._me = me
        self._stream_to = stream_to
        self.leso = leso
        self.view = view
        self.proposal: Proposal | None = None
        self.leaves_to = ""
        self.followers_by_member: dict[Incarnation, Progress] = {}
        self.followers: tuple[Progress, ...] = ()
        self.must_have: tuple[Progress, ...] = ()
        self.can_commit = False

    def see(self, view: View) -> None:
        """Go by a newer row of the same epoch."""
        if view.version > self.view.version:
            self.leaves_to = ""
        self.view = view
        if self.proposal is not None and view.version > self.proposal.version:
            self.proposal = None
        known = self.followers_by_member
        proposed = self.proposal.in_sync if self.proposal is not None else ()
        members = dict.fromkeys((*view.holders, *view.in_sync, *proposed))
        self.followers_by_member = {
            member: known.get(member) or Progress(member, self._stream_to(member), self.leso)
            for member in members
            if member != self._me
        }
        self.followers = tuple(self.followers_by_member.values())
        self._count_on()

    def _count_on(self) -> None:
        """Work out whose acknowledgements a commit needs."""
        proposed = self.proposal.in_sync if self.proposal is not None else ()
        max_isr = dict.fromkeys((*self.view.in_sync, *proposed))
        self.must_have = tuple(self.followers_by_member[member] for member in max_isr if member != self._me)
        self.can_commit = len(self.view.in_sync) >= self.view.least

    def committed(self, last: int) -> int:
        """Return up to where the log, which ends at `last`, is committed; 0 if this epoch has committed nothing yet."""
        if not self.can_commit:
            return 0
        for progress in self.must_have:
            if progress.match < last:
                last = progress.match
        return last if last > self.leso else 0

    # -- who is in sync ---------------------------------------------------------------------------------------------

    def may_join(self, progress: Progress, commit: int) -> bool:
        """Say whether a follower should be proposed as in sync."""
        return (
            progress.member not in self.view.in_sync
            and self.proposal is None
            and progress.member in self.view.holders
            and progress.match >= commit
            and progress.match > self.leso
        )

    def may_drop(self, member: Incarnation) -> bool:
        """Say whether a member may be proposed to leave the in-sync set."""
        in_sync = self.view.in_sync
        return self.proposal is None and member in in_sync and len(in_sync) > self.view.least

    def propose(self, in_sync: tuple[Incarnation, ...]) -> None:
        """Count on another in-sync set as well, until it is known what became of the proposal."""
        self.proposal = Proposal(self.view.version, in_sync)
        self._count_on()

    def on_refused(self, version: int) -> None:
        """Learn that a proposal made under a version was not accepted and never will be; the row is still that one."""
        if self.proposal is not None and self.proposal.version == version == self.view.version:
            self.proposal = None
            self._count_on()
