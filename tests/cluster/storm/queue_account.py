"""What the journals of a storm over queues say: the evidence for the ledger, and how long things took.

Messages come again for a reason, and each is looked for in what was done to processes, not in what the cluster says:
the delivery before was nacked; its consumer was killed, or hung for so long that it was taken for gone; or the lease
was over. `Account.reasons` counts them, and what has none is left to the ledger.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple

from gimmal.testing import QueueLedger
from tests.cluster.storm.gaps import Gaps
from tests.cluster.storm.plan import Kind
from tests.cluster.storm.queue_herd import Life
from tests.cluster.storm.queue_journal import NO_GROUP_KEY, Given, Word, given_of, lines_of, pair_of
from tests.cluster.storm.stalls import Spell

SILENCE_S: Final = 5.0
"""After so long without a keepalive a client is gone."""
KEEPALIVE_S: Final = 1.5
"""How old the last one may be, on a busy machine."""
SETTLED_AFTER_S: Final = 8.0
"""So long after a fault leaders may still change, and each new one waits anew for the clients of the one before."""
NODE_KINDS: Final = (Kind.KILL, Kind.KILL_TWO, Kind.RESTART, Kind.PAUSE)

NACKED, KILLED, HUNG, LEASE = "nacks", "consumers killed", "consumers that hung", "leases over"


class Delivery(NamedTuple):
    """A message with one consumer, at the times when that asked and when it got it."""

    given: Given
    asked_at: float
    got_at: float
    life: Life


class Return(NamedTuple):
    """How long it took until another consumer had a message of one that was killed or hung."""

    seconds: float
    what: str
    life: str
    from_at: float
    is_alone: bool


class Account:
    """All that happened to messages. `spells` are the faults of nodes."""

    def __init__(self, lives: Iterable[Life], spells: list[Spell], lease_s: float) -> None:
        self.ledger = QueueLedger()
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.reasons: Counter[str] = Counter()
        self.returns: list[Return] = []
        self.elements: set[int] = set()
        self.gaps = Gaps("a delivery of a shard", NODE_KINDS)
        self.acked = 0
        self.stale = 0
        self._spells = spells
        self._lease_s = lease_s
        self._nacked: set[tuple[int, int]] = set()
        self._tokens: dict[int, int] = {}  # of the first delivery that was read
        self._again: dict[int, list[Delivery]] = {}
        self._given_at: set[tuple[float, int]] = set()
        self._lanes: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        self._sleeps: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        lives = list(lives)
        for life in lives:
            self._read(life)
        for life in lives:
            self._read_again(life)
        for key, messages in self._lanes.items():
            for _, element, message_id in sorted(messages):
                self.ledger.produced(element, message_id, key)
        self._measure_gaps()
        for element, deliveries in self._again.items():
            self._explain(element, deliveries)

    # -- reading --------------------------------------------------------------------------------------------

    def _read(self, life: Life) -> None:
        for word, items in lines_of(life.journal):
            match word:
                case Word.PRODUCED:
                    self._note_produced(items[0], items[1:])
                case Word.OPEN | Word.REFUSED:
                    note = self.ledger.leave_open if word is Word.OPEN else self.ledger.refuse
                    for item in items:
                        note(int(item))
                case Word.DELIVERED:
                    self._note_delivered(life, float(items[1]), items[2:])
                case Word.NACKING:
                    self._nacked.update(map(pair_of, items))
                case Word.SLEPT:
                    self._sleeps[life.name].append((float(items[0]), float(items[1])))
                case Word.ERROR:
                    self.errors[items[0]] += 1
                case Word.WRONG:
                    self.wrong += items

    def _note_produced(self, key: str, items: list[str]) -> None:
        for item in items:
            text, _, message_id = item.partition(":")
            element = int(text)
            self.elements.add(element)
            if key == NO_GROUP_KEY:
                self.ledger.produced(element, message_id)
            else:  # in the order of the queue, which is not always that of the answers
                self._lanes[key].append((int(message_id.partition("-")[2]), element, message_id))

    def _note_delivered(self, life: Life, got_at: float, items: list[str]) -> None:
        for given in map(given_of, items):
            self.elements.add(given.element)
            self.ledger.delivered(given.element, given.message_id, given.token, life.name)
            self._given_at.add((got_at, shard_of(given.message_id)))
            if self._tokens.setdefault(given.element, given.token) != given.token:
                self._again[given.element] = []

    def _read_again(self, life: Life) -> None:
        """Read what became of messages, and more of those that came more than once."""
        is_under_way: dict[tuple[int, int], None] = {}
        for word, items in lines_of(life.journal):
            if word is Word.ACKING:
                is_under_way |= dict.fromkeys(map(pair_of, items))
            elif word is Word.DELIVERED:
                for given in map(given_of, items[2:]):
                    if given.element in self._again:
                        delivery = Delivery(given, float(items[0]), float(items[1]), life)
                        self._again[given.element].append(delivery)
            elif word in (Word.ACKED, Word.STALE):
                for element, token in map(pair_of, items):
                    is_under_way.pop((element, token), None)
                    if word is Word.STALE:
                        self.stale += 1
                        continue
                    self.acked += 1
                    self.ledger.acknowledged(element, token)
        for element, _ in is_under_way:
            self.ledger.leave_ack_open(element)

    def _measure_gaps(self) -> None:
        for got_at, shard in sorted(self._given_at):
            self.gaps.acknowledge(shard, got_at)

    # -- why messages came again ----------------------------------------------------------------------------

    def _explain(self, element: int, deliveries: list[Delivery]) -> None:
        """Look for the reason of each delivery but the first, and measure what took how long."""
        for before, after in pairwise(sorted(deliveries, key=lambda delivery: delivery.given.token)):
            if before.given.token == after.given.token:
                continue
            reason = self._reason(before, after)
            if not reason:
                self.reasons["unexplained"] += 1
                self.wrong.append(self._told(before, after))
                continue
            self.reasons[reason] += 1
            self.ledger.came_back(element, before.given.token)
            if reason in (KILLED, HUNG):
                self._measure(before, after)

    def _reason(self, before: Delivery, after: Delivery) -> str:
        life, until = before.life, after.got_at
        if (before.given.element, before.given.token) in self._nacked:
            return NACKED
        if life.killed_at is not None and life.killed_at <= until:
            return KILLED
        long_s = SILENCE_S - KEEPALIVE_S
        slept = any(min(end, until) - max(begin, before.asked_at) >= long_s for begin, end in self._sleeps[life.name])
        if slept or life.stopped_s(before.asked_at, until) >= long_s:
            return HUNG
        return LEASE if until - before.asked_at >= self._lease_s else ""

    def _told(self, before: Delivery, after: Delivery) -> str:
        text = "; then ".join(
            f"{delivery.life.name} ({delivery.life.kind}) got {delivery.given} at {delivery.got_at:.2f} s, "
            f"asked for at {delivery.asked_at:.2f} s, hung {delivery.life.stops[-3:]}"
            for delivery in (before, after)
        )
        near = [
            spell for spell in self._spells if before.asked_at - 5 < spell.ended_at and spell.began_at < after.got_at
        ]
        faults = ", ".join(f"{spell} from {spell.began_at:.2f} to {spell.ended_at:.2f} s" for spell in near)
        return f"given away again for no reason: {text}; near: {faults or 'no fault of nodes'}"

    def _measure(self, before: Delivery, after: Delivery) -> None:
        """Measure a return, if it was the first failure, and nothing besides can have held it up."""
        if before.given.retries or after.given.attempts != before.given.attempts + 1:
            return
        killed_at = before.life.killed_at
        if killed_at is not None and killed_at <= after.got_at:
            what, from_at = KILLED, killed_at
        else:
            what = HUNG
            begins = [begin for begin, end in before.life.stops if end - begin >= SILENCE_S and begin <= after.got_at]
            if not begins:
                return
            from_at = begins[-1]
        if from_at < before.got_at or after.life.stopped_s(from_at, after.got_at) > 0:
            return
        is_alone = not any(
            spell.began_at <= after.got_at and spell.ended_at + SETTLED_AFTER_S >= from_at for spell in self._spells
        )
        self.returns.append(Return(after.got_at - from_at, what, before.life.name, from_at, is_alone))

    def longest_return(self, what: str, *, is_alone: bool) -> Return | None:
        """Return the one that took longest, with no fault of nodes near or of all."""
        some = [found for found in self.returns if found.what == what and (found.is_alone or not is_alone)]
        return max(some, default=None)


def shard_of(message_id: str) -> int:
    """Return the shard of a message."""
    return int(message_id.partition("-")[0])
