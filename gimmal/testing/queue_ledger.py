"""A ledger of queues: what was produced, who was given it, what was settled, and whether one queue could have done so.

    ledger = QueueLedger()
    ledger.produced("job 7", message_id)                  # answered
    ledger.delivered("job 7", message_id, token=41, consumer="w1")
    ledger.acknowledged("job 7", token=41)
    ledger.check(left=[], dead=[]).raise_if_wrong()

Elements are the payloads, each produced once, so that a message that comes under two ids is seen. Every delivery has a
token that only grows within a shard (`Message.token`), so what was given away after what is known without a clock. A
ledger is for one shard of a queue, or for a queue without group keys, as one consumer group sees it. Operations of
which nobody knows whether they happened are told as open.

Threads may share a ledger: it changes under a lock.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from threading import Lock

from gimmal.testing.ledgers import raise_for


@dataclass(frozen=True)
class QueueResult:
    """What `QueueLedger.check` found; elements, in the order in which they were noted.

    `lost`: produced, and neither settled, nor dead, nor left. `phantoms`: delivered and never produced. `undead`:
    delivered though producing them was refused. `twice`: one element under two ids. `after_ack`: delivered again after
    an acknowledgement that counted. `shared`: one delivery that two consumers got. `acked_twice`: two deliveries of one
    message that both counted. `out_of_order`: pairs of one group key, the second given away before the first was for
    the last time.
    `redelivered` is how many deliveries there were beyond the first of each message; that is no fault.
    """

    produced: int
    delivered: int
    acknowledged: int
    redelivered: int
    lost: tuple[Hashable, ...]
    phantoms: tuple[Hashable, ...]
    undead: tuple[Hashable, ...]
    twice: tuple[Hashable, ...]
    after_ack: tuple[Hashable, ...]
    shared: tuple[Hashable, ...]
    acked_twice: tuple[Hashable, ...]
    out_of_order: tuple[tuple[Hashable, Hashable], ...]

    def raise_if_wrong(self) -> None:
        """Return if one queue could have done this.

        Raises:
            ConsistencyViolation: it could not; the message says how it is wrong.
        """
        raise_for(
            f"{self.produced} messages were produced, {self.delivered} deliveries made, {self.acknowledged} settled",
            {
                "produced and lost": self.lost,
                "delivered and never produced": self.phantoms,
                "delivered though refused": self.undead,
                "one message under two ids": self.twice,
                "delivered after they were acknowledged": self.after_ack,
                "one delivery given to two consumers": self.shared,
                "acknowledged under two deliveries": self.acked_twice,
                "delivered before what came before them was settled": self.out_of_order,
            },
        )


@dataclass(slots=True)
class _Story:
    """What is known of one element."""

    ids: dict[str, None] = field(default_factory=dict)
    is_acknowledged: bool = False
    is_open: bool = False
    is_refused: bool = False
    consumers: dict[int, dict[str, None]] = field(default_factory=dict)  # by token
    acked: dict[int, None] = field(default_factory=dict)  # tokens of acks that counted
    may_be_acked: bool = False
    is_redriven: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether it was produced, and nobody has settled it."""
        return self.is_acknowledged and not self.acked and not self.may_be_acked

    @property
    def is_unknown(self) -> bool:
        """Whether nobody has ever tried to produce it."""
        return not (self.is_acknowledged or self.is_open or self.is_refused)

    @property
    def is_surely_refused(self) -> bool:
        """Whether no attempt to produce it can have counted."""
        return self.is_refused and not (self.is_acknowledged or self.is_open)

    @property
    def came_back(self) -> bool:
        """Whether it was given away after an acknowledgement that counted."""
        return bool(self.acked) and max(self.consumers, default=0) > max(self.acked)

    def is_delivered_as(self, how: bool) -> bool:  # noqa: FBT001
        """Say whether it was delivered, and is something else besides."""
        return bool(self.consumers) and how


class QueueLedger:
    """Messages of one queue, as one consumer group sees them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stories: dict[Hashable, _Story] = {}
        self._lanes: dict[Hashable, list[Hashable]] = {}

    def _story(self, element: Hashable) -> _Story:
        story = self._stories.get(element)
        if story is None:
            story = self._stories[element] = _Story()
        return story

    # -- producing --------------------------------------------------------------------------------------------------

    def produced(self, element: Hashable, message_id: str, group_key: Hashable = None) -> None:
        """Note a message that was answered with an id; those of a group key in the order in which it has them."""
        with self._lock:
            story = self._story(element)
            story.is_acknowledged = True
            story.ids[message_id] = None
            if group_key is not None:
                self._lanes.setdefault(group_key, []).append(element)

    def leave_open(self, element: Hashable) -> None:
        """Note a message of which nobody knows whether it was produced."""
        with self._lock:
            self._story(element).is_open = True

    def refuse(self, element: Hashable) -> None:
        """Note a message that was surely not produced."""
        with self._lock:
            self._story(element).is_refused = True

    # -- consuming --------------------------------------------------------------------------------------------------

    def delivered(self, element: Hashable, message_id: str, token: int, consumer: str) -> None:
        """Note that a consumer was given a message; the same delivery may be told of twice."""
        with self._lock:
            story = self._story(element)
            story.ids[message_id] = None
            story.consumers.setdefault(token, {})[consumer] = None

    def acknowledged(self, element: Hashable, token: int) -> None:
        """Note that an acknowledgement of a delivery counted."""
        with self._lock:
            self._story(element).acked[token] = None

    def leave_ack_open(self, element: Hashable) -> None:
        """Note an acknowledgement of which nobody knows whether it counted."""
        with self._lock:
            self._story(element).may_be_acked = True

    def redriven(self, element: Hashable) -> None:
        """Note that a dead letter was let in again: it keeps no order any more."""
        with self._lock:
            self._story(element).is_redriven = True

    # -- the end ----------------------------------------------------------------------------------------------------

    def check(self, left: Iterable[Hashable] = (), dead: Iterable[Hashable] = ()) -> QueueResult:
        """Judge it all, when nothing is under way; `left` is still in the queue, `dead` are its dead letters."""
        remaining = {*left, *dead}
        with self._lock:
            stories = self._stories
            delivered = sum(len(story.consumers) for story in stories.values())
            return QueueResult(
                produced=sum(story.is_acknowledged for story in stories.values()),
                delivered=delivered,
                acknowledged=sum(bool(story.acked) for story in stories.values()),
                redelivered=delivered - sum(bool(story.consumers) for story in stories.values()),
                lost=self._all(lambda element, story: story.is_missing and element not in remaining),
                phantoms=self._all(lambda element, story: story.is_delivered_as(story.is_unknown)),
                undead=self._all(lambda element, story: story.is_delivered_as(story.is_surely_refused)),
                twice=self._all(lambda element, story: len(story.ids) > 1),
                after_ack=self._all(lambda element, story: story.came_back or (story.acked and element in remaining)),
                shared=self._all(lambda element, story: any(len(who) > 1 for who in story.consumers.values())),
                acked_twice=self._all(lambda element, story: len(story.acked) > 1),
                out_of_order=self._out_of_order(),
            )

    def _all(self, is_so: Callable[[Hashable, _Story], object]) -> tuple[Hashable, ...]:
        return tuple(element for element, story in self._stories.items() if is_so(element, story))

    def _out_of_order(self) -> tuple[tuple[Hashable, Hashable], ...]:
        """Compare tokens: whatever stands first in a lane was given away for the last time before what follows it."""
        found: list[tuple[Hashable, Hashable]] = []
        for elements in self._lanes.values():
            latest: tuple[int, Hashable] = (0, None)
            for element in elements:
                story = self._stories[element]
                if not story.consumers or story.is_redriven:
                    continue
                if min(story.consumers) < latest[0]:
                    found.append((latest[1], element))
                latest = max(latest, (max(story.consumers), element), key=lambda at: at[0])
        return tuple(found)
