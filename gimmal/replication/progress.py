"""What the leader of a partition knows of one follower, in one epoch.

    ALIGNING    where its log parts from the leader's is being found out: it is told a point up to which to keep its own
    STREAMING   the logs agree up to `match`; entries are sent ahead of the answers
    INSTALLING  what it lacks is forgotten here: it gets a snapshot, and nothing else

        ALIGNING --acknowledged--> STREAMING
        ALIGNING --its history ends below the base--> INSTALLING --complete--> STREAMING
        STREAMING --below the base, after a loss--> INSTALLING

Entries are sent ahead in ALIGNING too: mostly the first guess, the end of the log that the leader took over, is right.

Invariants: `match < next`; `match` never goes back. Whatever is known ends with the epoch: a new leader starts from
nothing, for the follower may have been cut back meanwhile.
"""

from typing import TYPE_CHECKING

from gimmal.types import Incarnation

if TYPE_CHECKING:
    from gimmal.replication.stream import Stream


class Progress:
    """One follower of one partition. `stream` is what goes to its node.

    - `match`: its log is known to be the leader's up to here; -1 while nothing is known. `next`: what to send next.
    - `aligns_at`: the point that it is told to cut its own log back to, until it has said that it did (then None).
    - `told_commit`: the newest commit that was sent to it.
    - `is_installing`: a snapshot is under way.
    """

    __slots__ = ("aligns_at", "is_installing", "match", "member", "next", "stream", "told_commit")

    def __init__(self, member: Incarnation, stream: "Stream", guess: int) -> None:
        self.member = member
        self.stream = stream
        self.match = -1
        self.aligns_at: int | None = guess
        self.next = guess + 1
        self.told_commit = 0
        self.is_installing = False

    def align(self, common: int) -> None:
        """Cut its log back to a point, and send what is behind it."""
        self.aligns_at = common
        self.next = common + 1
        self.told_commit = 0

    def on_acknowledged(self, seq: int) -> bool:
        """Note that its log is the leader's up to `seq`; True if that is news."""
        self.aligns_at = None
        if seq <= self.match:
            return False
        self.match = seq
        if seq >= self.next:
            self.next = seq + 1
        return True

    def rewind(self) -> None:
        """Take what was sent and not acknowledged for lost."""
        self.told_commit = 0
        if self.aligns_at is not None:
            self.next = self.aligns_at + 1
        else:
            self.next = self.match + 1

    def on_installed(self, seq: int) -> None:
        """Note that it has the snapshot up to `seq`."""
        self.is_installing = False
        self.aligns_at = None
        self.match = max(self.match, seq)
        self.next = self.match + 1
