"""Which writes of a client may be under way in each partition, and under which session: why a retry is harmless.

A partition carries out a write once however often it is sent, if it is always sent in the same *session* and with the
same *number*, and if the client says up to where it has its answers: the *floor* (see `gimmal.store.sessions`, which is
the other side of this). A `Window` is what a client keeps of that for one partition it writes to.

- **The session** is opened by the client's first write to the partition. That write, and those behind it, wait here
  until the session's id is back: they have not been sent, so they surely have not been carried out. The question
  may be asked twice, and by then two sessions be open: the first answer counts, and the other one expires unused.
- **The floor** is the lowest number that is still under way. `numbers` has all numbers since then, in rising order,
  those that are done by now as well; what is done is only dropped from its front, and only when the next number comes.
  So neither an answer nor its absence costs anything, and the floor is never above a number that is under way.
- **There is room** for as many numbers since the floor as a partition keeps replies for. What does not fit waits here.
- **A session that is no more** (it was idle for too long, or the partition was lost) is followed by another one. What
  is in flight was sent under the old one; it is `stale` from then on and must never be sent under the new one unless a
  refusal has said that it was not carried out.

Invariants: a number enters `numbers` before it is first sent, and in rising order; `is_open` iff there is a session and
nothing waits; whoever waits is not in flight.
"""

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from gimmal.errors import GimmalError
from gimmal.wire import limits

if TYPE_CHECKING:
    from random import Random

_NEVER: Final = float("inf")
_ASK_AGAIN_AFTER_S: Final = 1.0
_ASK_AGAIN_AFTER_MAX_S: Final = 2.0
_PAUSE_FIRST_S: Final = 0.02
_PAUSE_MAX_S: Final = 1.0
_DOUBLINGS_MAX: Final = 8
_OPENINGS_FROM: Final = 2**62
"""From here up are the numbers of operations that open sessions: those of calls never get there."""


class Window:
    """The writes of one client to one partition. `under_way` has the numbers that wait for an answer.

    `opening` is the number of the operation that opens the session (0: none does), and `ask_at` when to send it again
    if nothing happens; infinity when nobody waits for it. `refusal` is why it was refused the last time.
    """

    __slots__ = (
        "_under_way",
        "ask_at",
        "ask_count",
        "is_open",
        "numbers",
        "opening",
        "partition",
        "refusal",
        "session",
        "stale",
        "waiting",
    )

    def __init__(self, partition: int, under_way: Container[int]) -> None:
        self._under_way = under_way
        self.partition = partition
        self.session = 0
        self.is_open = False
        self.numbers: list[int] = []
        self.waiting: list[int] = []  # in rising order: what was admitted before must not wait for what was not
        self.stale: set[int] = set()
        self.opening = 0
        self.ask_at = _NEVER
        self.ask_count = 0
        self.refusal: tuple[type[GimmalError], str] | None = None

    def admit(self, number: int) -> int:
        """Take in a number that is higher than all before; return the floor to send it with, 0 if there is no room."""
        numbers, under_way = self.numbers, self._under_way
        while numbers and numbers[0] not in under_way:
            del numbers[0]
        if len(numbers) >= limits.SESSION_REPLIES_MAX:
            return 0
        numbers.append(number)
        return numbers[0]

    def floor_for(self, number: int) -> int:
        """Return the floor to send any number with that is under way, admitted or not; 0 if there is no room."""
        numbers = self.numbers
        if numbers and number <= numbers[-1]:
            at = bisect_left(numbers, number)
            if numbers[at] != number:  # an interrupt has kept it out: whether it is too late, the partition knows
                insort(numbers, number)
            return next(floor for floor in numbers if floor in self._under_way)
        return self.admit(number)

    def hold(self, number: int) -> None:
        """Let a number wait."""
        self.is_open = False
        if not self.waiting or number > self.waiting[-1]:
            self.waiting.append(number)
        elif not self.holds(number):
            insort(self.waiting, number)

    def holds(self, number: int) -> bool:
        """Say whether a number waits here."""
        at = bisect_left(self.waiting, number)
        return at < len(self.waiting) and self.waiting[at] == number

    def release(self) -> list[tuple[int, int]]:
        """Return (number, floor) of all that need not wait any more, and forget that they did."""
        found: list[tuple[int, int]] = []
        if not self.session:
            return found
        count = 0
        for number in self.waiting:
            if number in self._under_way:
                floor = self.floor_for(number)
                if not floor:
                    break
                found.append((number, floor))
            count += 1
        del self.waiting[:count]
        self.is_open = not self.waiting
        return found

    def is_waited_for(self) -> bool:
        """Say whether something that waits is still under way; forget what is not."""
        self.waiting = [number for number in self.waiting if number in self._under_way]
        return bool(self.waiting)


class Windows:
    """The windows of one client. Times are monotonic seconds.

    `openings` finds a window by the number of the operation that opens its session; `ask_at` is when the first of them
    is to be asked again. `held` has the windows, by partition, in which something may wait.
    """

    def __init__(self, under_way: Container[int], dice: "Random") -> None:
        self.by_partition: dict[int, Window] = {}
        self.openings: dict[int, Window] = {}
        self.held: dict[int, Window] = {}
        self.ask_at = _NEVER
        self._next_opening = _OPENINGS_FROM
        self._under_way = under_way
        self._dice = dice

    def hold(self, partition: int, number: int) -> Window:
        """Let a number wait in the window of its partition, which is returned."""
        window = self.by_partition.get(partition)
        if window is None:
            window = self.by_partition[partition] = Window(partition, self._under_way)
        window.hold(number)
        self.held[partition] = window
        return window

    def is_stale(self, partition: int, number: int) -> bool:
        """Say whether a number was sent under a session that is no more, and nothing is known of it."""
        window = self.by_partition.get(partition)
        return window is not None and number in window.stale

    # -- sessions -----------------------------------------------------------------------------------------------

    def on_asked(self, window: Window, now: float) -> int:
        """Return the number under which to open a session now. The answer is late after a second, then after more."""
        if not window.opening:
            window.opening = self._next_opening
            self._next_opening += 1
            self.openings[window.opening] = window
        late_s = min(_ASK_AGAIN_AFTER_MAX_S, _ASK_AGAIN_AFTER_S * 2.0 ** min(window.ask_count, _DOUBLINGS_MAX))
        self._ask_again(window, now + late_s)
        return window.opening

    def on_opening_refused(self, window: Window, kind: type[GimmalError], text: str, now: float) -> None:
        """Learn that a session was not opened: it is asked for again after a random pause, while somebody waits."""
        window.refusal = kind, text
        pause_s = min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(window.ask_count, _DOUBLINGS_MAX))
        self._ask_again(window, now + self._dice.uniform(pause_s / 2, pause_s))

    def _ask_again(self, window: Window, at: float) -> None:
        window.ask_count += 1
        window.ask_at = at
        self.ask_at = min(self.ask_at, at)

    def take_due(self, now: float) -> list[Window]:
        """Return the windows whose session is to be asked for again; where nobody waits, that rests."""
        due: list[Window] = []
        ask_at = _NEVER
        for window in self.openings.values():
            if window.ask_at > now:
                ask_at = min(ask_at, window.ask_at)
            elif window.is_waited_for():
                due.append(window)
            else:
                self.rest(window)
        self.ask_at = ask_at
        return due

    def rest(self, window: Window) -> None:
        """Ask for a session no more until somebody waits for it again."""
        window.ask_at, window.ask_count = _NEVER, 0

    def on_opened(self, number: int, session: object) -> bool:
        """Take the answer to the opening of a session; False if it is none."""
        if type(session) is not int or session <= 0:
            return False
        window = self.openings.pop(number)
        window.session = session
        self._settle(window)
        window.refusal = None
        window.is_open = not window.waiting
        return True

    def on_opening_failed(self, window: Window) -> None:
        """Learn that no session will be opened: the next write asks again."""
        del self.openings[window.opening]
        self._settle(window)

    def _settle(self, window: Window) -> None:
        window.opening = 0
        self.rest(window)

    def on_expired(self, window: Window, in_flight: Iterable[int]) -> None:
        """Learn that a session is no more: what is in flight was sent under it."""
        window.session = 0
        window.is_open = False
        window.stale.update(in_flight)

    def release(self) -> Iterator[tuple[Window, int, int]]:
        """Yield (window, number, floor) of all that need not wait any more."""
        for partition, window in list(self.held.items()):
            for number, floor in window.release():
                yield window, number, floor
            if not window.waiting:
                del self.held[partition]

    def forget_finished(self, queued: Container[int]) -> set[int]:
        """Drop what is not under way any more; return those `queued` openings for which nobody waits."""
        for window in self.by_partition.values():
            if window.stale:
                window.stale = {number for number in window.stale if number in self._under_way}
        in_vain: set[int] = set()
        for window in self.held.values():
            if not window.is_waited_for() and window.opening in queued:
                in_vain.add(window.opening)
                self.rest(window)
        return in_vain
