"""A ledger of queues: what was produced, who was given it, what was settled, and whether one queue could have done so.

    ledger = QueueLedger()
    ledger.produced("job 7", message_id)                  # answered
    ledger.delivered("job 7", message.id, message.token, consumer="w1")
    ledger.acknowledged("job 7", message.token)
    ledger.check(left=[], dead=[]).raise_if_wrong()

Elements are the payloads, each produced once, so that a message that comes under two ids is seen. Every delivery has a
token that only grows within a shard (`Message.token`), and a message, like all those of its group key, stays in one:
so what was given away after what is known without a clock. A ledger is for one queue as one consumer group sees it.
Operations of which nobody knows whether they happened are told as open.

Threads may share a ledger: it changes under a lock.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from threading import Lock

from gimmal.testing.ledgers import raise_for


@dataclass(frozen=True)
class QueueResult:
    """What `QueueLedger.check` found; elements, in the order in which they were noted.

    `lost`: produced, and neither settled, nor dead, nor left. `phantoms`: delivered, dead or left, and never produced.
    `undead`: the same though producing them was refused. `twice`: one element under two ids. `after_ack`: delivered
    again, dead or left after an acknowledgement that counted. `shared`: one delivery that two consumers got.
    `acked_twice`: two deliveries of one message that both counted. `out_of_order`: pairs of one group key, the second
    given away before the first was for the last time.

    No faults are these: `redelivered`, how many deliveries there were beyond the first of each message, and
    `unexplained`, what was given away again although nobody has noted why (`QueueLedger.came_back`). Who notes every
    reason may demand that there is nothing unexplained.
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
    unexplained: tuple[Hashable, ...]

    def raise_if_wrong(self) -> None:
        """Return if one queue could have done this.

        Raises:
            ConsistencyViolation: it could not; the message says how it is wrong.
        """
        raise_for(
            f"{self.produced} messages were produced, {self.delivered} deliveries made, {self.acknowledged} settled",
            {
                "produced and lost": self.lost,
                "there and never produced": self.phantoms,
                "there though refused": self.undead,
                "one message under two ids": self.twice,
                "there after they were acknowledged": self.after_ack,
                "one delivery given to two consumers": self.shared,
                "acknowledged under two deliveries": self.acked_twice,
                "delivered before what came before them was settled": self.out_of_order,
            },
        )


class _Story:
    """What is known of one element. Tuples, for there may be a million of these."""

    __slots__ = (
        *("ids", "tokens", "consumers", "acked", "explained"),
        *("is_acknowledged", "is_open", "is_refused", "may_be_acked", "is_redriven"),
    )

    def __init__(self) -> None:
        self.ids: tuple[str, ...] = ()
        self.tokens: tuple[int, ...] = ()  # of deliveries, beside their consumers
        self.consumers: tuple[str, ...] = ()
        self.acked: tuple[int, ...] = ()  # tokens of acks that counted
        self.explained: tuple[int, ...] = ()  # tokens of deliveries after which it may have come back
        self.is_acknowledged = self.is_open = self.is_refused = self.may_be_acked = self.is_redriven = False

    def name(self, message_id: str) -> None:
        if message_id not in self.ids:
            self.ids += (message_id,)

    def deliver(self, token: int, consumer: str) -> None:
        if (token, consumer) not in zip(self.tokens, self.consumers, strict=True):
            self.tokens += (token,)
            self.consumers += (consumer,)

    @property
    def is_missing(self) -> bool:
        """Whether it was certainly produced, and nobody has settled it."""
        was_there = self.is_acknowledged or (self.is_open and bool(self.tokens))
        return was_there and not self.acked and not self.may_be_acked

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
        return bool(self.acked) and max(self.tokens, default=0) > min(self.acked)

    @property
    def is_shared(self) -> bool:
        """Whether two consumers got one delivery of it."""
        return len(set(self.tokens)) < len(self.tokens)

    @property
    def is_unexplained(self) -> bool:
        """Whether it was given away again, and nobody has noted why."""
        return not set(sorted(set(self.tokens))[:-1]).issubset(self.explained)


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
            if group_key is not None and not story.is_acknowledged:
                self._lanes.setdefault(group_key, []).append(element)
            story.is_acknowledged = True
            story.name(message_id)

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
            story.name(message_id)
            story.deliver(token, consumer)

    def acknowledged(self, element: Hashable, token: int) -> None:
        """Note that an acknowledgement of a delivery counted."""
        with self._lock:
            story = self._story(element)
            if token not in story.acked:
                story.acked += (token,)

    def leave_ack_open(self, element: Hashable) -> None:
        """Note an acknowledgement of which nobody knows whether it counted."""
        with self._lock:
            self._story(element).may_be_acked = True

    def came_back(self, element: Hashable, token: int) -> None:
        """Note that a message may be given away again after a delivery.

        It was nacked or released, its lease ran out, or its consumer vanished.
        """
        with self._lock:
            story = self._story(element)
            if token not in story.explained:
                story.explained += (token,)

    def redriven(self, element: Hashable) -> None:
        """Note that a dead letter was let in again: it keeps no order any more."""
        with self._lock:
            self._story(element).is_redriven = True

    # -- the end ----------------------------------------------------------------------------------------------------

    def check(self, left: Iterable[Hashable] = (), dead: Iterable[Hashable] = ()) -> QueueResult:
        """Judge it all, when nothing is under way; `left` is still in the queue, `dead` are its dead letters."""
        with self._lock:
            remaining = dict.fromkeys((*left, *dead))
            for element in remaining:
                self._story(element)
            stories = self._stories.values()
            delivered = sum(len(set(story.tokens)) for story in stories)

            def is_there(element: Hashable, story: _Story) -> bool:
                return bool(story.tokens) or element in remaining

            return QueueResult(
                produced=sum(story.is_acknowledged for story in stories),
                delivered=delivered,
                acknowledged=sum(bool(story.acked) for story in stories),
                redelivered=delivered - sum(bool(story.tokens) for story in stories),
                lost=self._all(lambda element, story: story.is_missing and element not in remaining),
                phantoms=self._all(lambda element, story: story.is_unknown and is_there(element, story)),
                undead=self._all(lambda element, story: story.is_surely_refused and is_there(element, story)),
                twice=self._all(lambda _, story: len(story.ids) > 1),
                after_ack=self._all(lambda element, story: story.came_back or (story.acked and element in remaining)),
                shared=self._all(lambda _, story: story.is_shared),
                acked_twice=self._all(lambda _, story: len(story.acked) > 1),
                out_of_order=self._out_of_order(),
                unexplained=self._all(lambda _, story: story.is_unexplained),
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
                if not story.tokens or story.is_redriven:
                    continue
                if min(story.tokens) <= latest[0]:
                    found.append((latest[1], element))
                latest = max(latest, (max(story.tokens), element), key=lambda at: at[0])
        return tuple(found)
