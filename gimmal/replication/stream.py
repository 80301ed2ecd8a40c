"""What goes from the leader of partitions to one life of another node, for all partitions at once.

Partitions that have something for the node are put down (`offer`); at the end of the turn `messages` makes one Append
of all of them, or a few if it would grow too long. Each has a number, and the follower's acknowledgement of it stands
for everything inside that it does not name as refused: that of a thousand partitions is one number. Numbers rise and
are never used twice, also not by a later stream to the same node: a late acknowledgement would stand for what was never
received.

- **Credit.** No more than `CREDIT_BYTES` are on the way unacknowledged. What does not fit stays in the logs, which keep
  it anyway, so a follower that is slow costs no memory here.
- **Loss.** Links keep their order. An Append is lost if a later one was acknowledged first, or if nothing was for
  longer than patience has it; then everything behind the last acknowledgement of its partitions is sent again. To a
  node that has not answered for that long only one Append at a time is sent. Patience is `RESEND_AFTER_S`, or twice
  what the last answer took, and doubles with each silence: an answer to what was taken for lost counts for nothing, so
  a node that always answers late would never get on.
- **Refusal.** What the follower refuses (it has not heard of the epoch yet, say) is sent again after a moment, and
  before that nothing of that partition, unless something has changed (`hurry`).
- **Time.** A node is behind when it has owed an answer for longer than `slow_after_s`: 300 ms, or four times what
  nearly all acknowledgements took, if that is longer.
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from gimmal.replication.progress import Progress
from gimmal.types import Entry, Incarnation
from gimmal.wire.peer_messages import BLANK, Append, AppendAck

if TYPE_CHECKING:
    from gimmal.replication.replica import Replica

CREDIT_BYTES: Final = 4 * 1024 * 1024
PORTION_BYTES: Final = 128 * 1024
RESEND_AFTER_S: Final = 0.3
RESEND_AFTER_MAX_S: Final = 1.2
RETRY_AFTER_S: Final = 0.05
SLOW_AFTER_S: Final = 0.3
_SECTION_BYTES: Final = 40
_SECTIONS_MAX: Final = 2_048
_LATENCIES_KEPT: Final = 256
_NEVER: Final = float("inf")


Section: TypeAlias = tuple[int, int, int, int, int, tuple[Entry, ...]]
"""What an Append says of one partition: (partition, epoch, prev seq, prev epoch, commit, entries behind prev)."""


class Portion(NamedTuple):
    """A section, its first and last entry, and about how many bytes of memory its entries take."""

    section: Section
    first: int
    last: int
    size_bytes: int


class Sent(NamedTuple):
    """One Append on the way: when it left, its size, and up to where it brings each partition."""

    at_s: float
    size_bytes: int
    items: list[tuple["Replica", Progress, int]]


class Stream:
    """The way to `member`; `numbers` gives those of its messages. Times are seconds of the machine's clock.

    `heard_at_s` is when it last acknowledged something, `owes_since_s` since when it owes an answer (else infinity).
    """

    __slots__ = (
        "_in_flight",
        "_in_flight_bytes",
        "_is_silent",
        "_latencies",
        "_needy",
        "_numbers",
        "_patience_s",
        "_refused",
        "_retry_at_s",
        "_waiting",
        "heard_at_s",
        "member",
        "owes_since_s",
    )

    def __init__(self, member: Incarnation, numbers: Iterator[int]) -> None:
        self.member = member
        self.heard_at_s = -_NEVER
        self.owes_since_s = _NEVER
        self._needy: dict[Progress, Replica] = {}  # whose log does not reach back here: they need a snapshot
        self._refused: dict[Progress, Replica] = {}
        self._retry_at_s = _NEVER
        self._waiting: dict[Progress, Replica] = {}
        self._in_flight: dict[int, Sent] = {}
        self._in_flight_bytes = 0
        self._numbers = numbers
        self._is_silent = False
        self._patience_s = RESEND_AFTER_S
        self._latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is on the way."""
        return not (self._waiting or self._in_flight or self._refused)

    def offer(self, replica: "Replica", progress: Progress) -> None:
        """Note that a partition has something for this node."""
        if progress not in self._refused:
            self._waiting[progress] = replica

    def hurry(self, progress: Progress) -> None:
        """Send what a partition was refused at once: it will not be refused again as it was."""
        replica = self._refused.pop(progress, None)
        if replica is not None:
            self._waiting[progress] = replica

    def take_needy(self) -> list[tuple[Progress, "Replica"]]:
        """Return the followers to whom the logs do not reach back any more, and forget them: they need snapshots."""
        if not self._needy:
            return []
        needy, self._needy = self._needy, {}
        return list(needy.items())

    # -- out --------------------------------------------------------------------------------------------------------

    def messages(self, now: float, made: "dict[Replica, Portion]") -> Iterator[Append]:
        """Yield what may leave now, and take it as sent. `made` is what other nodes get of partitions in this turn."""
        credit = PORTION_BYTES if self._is_silent else CREDIT_BYTES
        while self._waiting and self._in_flight_bytes < credit and not (self._is_silent and self._in_flight):
            append = self._next(now, made)
            if append is not None:
                yield append

        if self.is_idle:
            self.owes_since_s = _NEVER  # what it did not answer is nobody's any more

    def _next(self, now: float, made: "dict[Replica, Portion]") -> Append | None:
        alignments: list[tuple[int, int, int, int]] = []
        sections: list[Section] = []
        items: list[tuple[Replica, Progress, int]] = []
        size_bytes = 0
        waiting, self._waiting = self._waiting, {}
        for progress, replica in waiting.items():
            if size_bytes >= PORTION_BYTES or len(items) >= _SECTIONS_MAX:
                self._waiting[progress] = replica
                continue
            leading = replica.leading
            if leading is None or progress.is_installing or progress not in leading.followers:
                continue  # its epoch is over, or it gets a snapshot
            if progress.aligns_at is not None and progress.aligns_at < replica.log.base:
                progress.align(replica.log.base)  # a copy that was here before in this epoch needs no snapshot
            portion = made.get(replica)
            if portion is None or portion.first != progress.next or portion.size_bytes > PORTION_BYTES - size_bytes:
                portion = replica.portion(progress.next, PORTION_BYTES - size_bytes)
                if portion is None:
                    self._needy[progress] = replica
                    continue
                made[replica] = portion
            if progress.aligns_at is not None:
                aligned_epoch = replica.log.epoch_at(progress.aligns_at)
                assert aligned_epoch is not None, "it was just moved into the log"
                alignments.append((replica.partition, replica.epoch, progress.aligns_at, aligned_epoch))
            section, _, last, portion_bytes = portion
            sections.append(section)
            progress.told_commit = replica.commit
            progress.next = last + 1
            items.append((replica, progress, last))
            size_bytes += portion_bytes + _SECTION_BYTES
            if last < replica.log.last:
                self._waiting[progress] = replica
        if not items:
            return None
        number = next(self._numbers)
        if self.owes_since_s == _NEVER:
            self.owes_since_s = now
        self._in_flight[number] = Sent(now, size_bytes, items)
        self._in_flight_bytes += size_bytes
        append = Append(*BLANK, number, tuple(alignments), tuple(sections))
        append.destination = self.member.number
        return append

    # -- answers ----------------------------------------------------------------------------------------------------

    def on_ack(self, ack: AppendAck, now: float) -> list[tuple["Replica", Progress, int]]:
        """Take an acknowledgement; return up to where it brings each partition. What is shown to be lost goes again."""
        sent = self._in_flight.get(ack.number)
        if sent is None:
            return []
        self.heard_at_s = now
        self._is_silent = False
        self._latencies.append(now - sent.at_s)
        self._patience_s = min(max(RESEND_AFTER_S, 2 * (now - sent.at_s)), RESEND_AFTER_MAX_S)
        earlier = [number for number in self._in_flight if number < ack.number]
        for number in (*earlier, ack.number):
            self._in_flight_bytes -= self._in_flight[number].size_bytes
        lost = [self._in_flight.pop(number) for number in earlier]
        del self._in_flight[ack.number]
        self.owes_since_s = self._oldest_at_s
        for message in lost:
            self._send_again(message.items)
        if not ack.refused:
            return sent.items
        refused = dict.fromkeys(ack.refused)
        for replica, progress, _ in sent.items:
            if replica.partition in refused:
                progress.rewind()
                self._waiting.pop(progress, None)
                self._refused[progress] = replica
        self._retry_at_s = min(self._retry_at_s, now + RETRY_AFTER_S)
        return [item for item in sent.items if item[0].partition not in refused]

    def _send_again(self, items: list[tuple["Replica", Progress, int]]) -> None:
        for replica, progress, _ in items:
            progress.rewind()
            self._waiting[progress] = replica

    # -- time -------------------------------------------------------------------------------------------------------

    @property
    def _oldest_at_s(self) -> float:
        for sent in self._in_flight.values():
            return sent.at_s
        return _NEVER

    def slow_after_s(self) -> float:
        """Return for how long this node may owe an answer before it counts as behind."""
        if len(self._latencies) < _LATENCIES_KEPT // 4:
            return SLOW_AFTER_S
        ordered = sorted(self._latencies)
        return max(SLOW_AFTER_S, 4 * ordered[len(ordered) * 99 // 100])

    def tick(self, now: float) -> None:
        """Send again what was refused a while ago, or has been on the way for too long."""
        if self._retry_at_s <= now:
            self._retry_at_s = _NEVER
            self._waiting |= self._refused
            self._refused = {}
        if self._oldest_at_s + self._patience_s <= now:
            self._is_silent = True
            self._patience_s = min(2 * self._patience_s, RESEND_AFTER_MAX_S)
            in_flight, self._in_flight, self._in_flight_bytes = self._in_flight, {}, 0
            for sent in in_flight.values():
                self._send_again(sent.items)

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        return min(self._oldest_at_s + self._patience_s, self._retry_at_s)
