"""What a leader knows of one follower, in one term.

    PROBING      it is not known where the two logs part: one message is under way, and the next waits for its answer
    REPLICATING  the logs agree up to `match`: entries are sent ahead of the answers, up to a window
    INSTALLING   what the follower lacks is gone from the leader's log: a snapshot is under way, and nothing else

        PROBING --accepted--> REPLICATING --refused--> PROBING        (something was lost, or came in another order)
        any --next is not behind the base--> INSTALLING --snapshot answered, or lost--> PROBING

Invariants: `match < next`; `match` never goes back, for a follower that answers has made it durable. Answers may come
late, twice and in any order: one that says nothing new changes nothing.

A snapshot counts as lost when the follower answers a later round without having it; links keep their order, mostly.
"""

from collections import deque
from enum import Enum


class Pace(Enum):
    """How a follower is being sent to."""

    PROBING = "probing"
    REPLICATING = "replicating"
    INSTALLING = "installing"


class Progress:
    """One follower, as its leader sees it. Times are seconds of the machine's clock.

    - `match`: the follower's log is known to be the leader's up to here. `next`: what to send next.
    - `heard_at`: when it last answered. `answered_round`: the newest round it has answered.
    - `sent_round`, `told_commit`: the newest round and commit that were sent to it.
    - `is_waiting`: the probe for `next` is under way.
    """

    __slots__ = (
        "_in_flight",
        "_installing",
        "answered_round",
        "heard_at",
        "is_waiting",
        "match",
        "next",
        "pace",
        "sent_round",
        "told_commit",
    )

    def __init__(self, next_index: int, now: float) -> None:
        self.match = 0
        self.next = next_index
        self.pace = Pace.PROBING
        self.heard_at = now
        self.answered_round = 0
        self.sent_round = 0
        self.told_commit = 0
        self.is_waiting = False
        self._in_flight: deque[int] = deque()  # the last index of each message with entries that is not answered
        self._installing = (0, 0)  # index of the snapshot under way, and the round it was sent in

    @property
    def in_flight(self) -> int:
        """How many messages with entries are not answered."""
        return len(self._in_flight)

    def on_heard(self, answered_round: int, now: float) -> None:
        """Note that the follower answered something of that round."""
        self.heard_at = now
        self.answered_round = max(self.answered_round, answered_round)

    def on_sent(self, count: int) -> None:
        """Note that so many entries from `next` on were sent ahead."""
        self.next += count
        self._in_flight.append(self.next - 1)

    def on_snapshot_sent(self, index: int, round_number: int) -> None:
        """Note that a snapshot is under way."""
        self.pace = Pace.INSTALLING
        self._installing = (index, round_number)
        self._in_flight.clear()

    def on_accepted(self, index: int, answered_round: int) -> None:
        """Note that the follower's log is the leader's up to an index, as it said in answer to that round."""
        self.match = max(self.match, index)
        while self._in_flight and self._in_flight[0] <= self.match:
            self._in_flight.popleft()
        if self.pace is Pace.INSTALLING:
            snapshot_index, sent_round = self._installing
            if self.match >= snapshot_index or answered_round > sent_round:
                self._probe_after(self.match)
        elif self.pace is Pace.PROBING and index == self.match:
            self.pace = Pace.REPLICATING
            self.next = self.match + 1
        else:
            self.next = max(self.next, self.match + 1)

    def on_refused(self, agreed: int) -> None:
        """Note that the logs part before `next`, and may agree up to `agreed` at best."""
        is_old = agreed < self.match or agreed >= self.next - 1
        if self.pace is not Pace.INSTALLING and not is_old:
            self._probe_after(agreed)

    def _probe_after(self, index: int) -> None:
        self.pace = Pace.PROBING
        self.next = index + 1
        self.is_waiting = False
        self.told_commit = 0
        self._in_flight.clear()
