"""The sessions of one partition: why a write that is tried twice is carried out once.

A client opens a session in each partition it writes to; the session's id is the sequence number of the entry that
opened it, so no two ever share one. Every write then carries the session, its own number, and the **floor**: the
lowest number of that session whose answer the client still waits for. The partition keeps a **window** per session,
the floor and the reply of each number from there up, and decides by it, when an entry is applied and never before:

    no such session        SESSION_EXPIRED, not executed: whether it was before, nobody knows any more
    number below floor     TOO_OLD, not executed: the client has its answer, or has given it up
    number in the window   the reply it had, not executed again
    any other number       executed, and its reply is kept until the floor has passed it

Windows are state like the keys are: every copy has the same ones, and they are part of every snapshot. A reply that is
a `Refused` is kept like any other. The three refusals that are made here are not: they changed nothing, and the same
number may fare otherwise later.

Bounds (`gimmal.wire.limits`), judged after the entry's floor has taken effect:

- A window with as many replies, or bytes of replies, as it may hold answers OVERLOADED, executes nothing and keeps
  nothing. Bytes are those of texts, byte strings and lists of numbers; single truths and numbers are bounded by their
  count. A reply's length is not known before, so the last one may exceed the bound. The number at the floor is always
  let in: a client whose first operation was lost on the way, and 256 later ones were not, could otherwise never go on.
- An OPEN_SESSION beyond the number of sessions drops the one that has been idle longest. Its client, if there is one,
  gets SESSION_EXPIRED, as after any long silence; refusing the newcomer instead would let anybody who opens sessions
  and leaves keep all others out until those are closed.

Replies below the floor are dropped lazily: all at once when the floor has passed everything, else when there are about
as many of them as of others. When that happens cannot be seen: they are neither given nor do they fill the window, nor
are they in a snapshot or a digest.

Not here: when an idle session is closed (a timer of the leader's proposes CLOSE_SESSION), and memory: windows are
bounded by themselves and count neither as entries nor as memory of a node (`gimmal.store.footprint`).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from gimmal.store.kv import Refused
from gimmal.types import Command, Entry
from gimmal.wire import commands, limits
from gimmal.wire.messages import Refusal

Write: TypeAlias = Callable[[Any, int, int, Command], Any]
"""`write(state, seq, now_ms, command) -> result`: carries out one command on the state it is about."""

_EXPIRED: Final = Refused(Refusal.SESSION_EXPIRED, "that session is not known here: it was idle for too long")
_TOO_OLD: Final = Refused(Refusal.TOO_OLD, "the session has gone on: that number was answered or given up before")
_FULL: Final = Refused(Refusal.OVERLOADED, "too many answers of this session wait to be confirmed")
_SHORT: Final = frozenset([bool, int, type(None)])
_SWEEP_AT_LEAST: Final = 8
_NUMBER_BYTES: Final = 9


class Window:
    """What a partition keeps of one session.

    Replies are found by number, in the order in which they were made; some below `floor` may still be among them.
    `last_ms` is the time of the session's last entry, and `highest` the highest number it has used (0: none).
    """

    __slots__ = ("_reply_bytes", "floor", "highest", "last_ms", "replies", "sweep_at")

    def __init__(self, last_ms: int) -> None:
        self.floor = 0
        self.highest = 0
        self.last_ms = last_ms
        self.replies: dict[int, Any] = {}
        self.sweep_at = 0  # with so many replies, look for those below the floor before taking another
        self._reply_bytes = 0  # never less than what the replies at or above the floor take

    def sweep(self) -> bool:
        """Drop all replies below the floor; return whether there is room for another one."""
        floor, replies = self.floor, self.replies
        for number in [number for number in replies if number < floor]:
            del replies[number]
        if self._reply_bytes:
            self._reply_bytes = sum(map(bytes_of, replies.values()))
        count = len(replies)
        if count >= limits.SESSION_REPLIES_MAX or self._reply_bytes >= limits.SESSION_REPLY_BYTES_MAX:
            return False
        self.sweep_at = min(2 * count + _SWEEP_AT_LEAST, limits.SESSION_REPLIES_MAX)
        return True

    def count_bytes(self, reply: Any) -> None:
        """Count the bytes of a reply."""
        self._reply_bytes += bytes_of(reply)
        if self._reply_bytes >= limits.SESSION_REPLY_BYTES_MAX:
            self.sweep_at = 0

    def live_replies(self) -> dict[int, Any]:
        """Return the replies that the client may not have yet."""
        return {number: reply for number, reply in self.replies.items() if number >= self.floor}

    def copy(self) -> "Window":
        """Return a window that goes on in the same way, for itself."""
        return window_of(self.floor, self.highest, self.last_ms, self.live_replies())


def window_of(floor: int, highest: int, last_ms: int, replies: dict[int, Any]) -> Window:
    """Return the window that holds just this."""
    window = Window(last_ms)
    window.floor, window.highest, window.replies = floor, highest, replies
    for reply in replies.values():
        window.count_bytes(reply)
    return window


def bytes_of(reply: Any) -> int:
    """Return the bytes of a reply that count: those of a text or a byte string, and of each number in a list."""
    if type(reply) is Refused:
        return len(reply.text)
    if type(reply) is tuple:
        return _NUMBER_BYTES * len(reply)
    return len(reply) if isinstance(reply, bytes | str) else 0


class Sessions:
    """The windows of one partition by session, the one that has been idle longest first.

    `duplicates` counts the entries that this copy recognised as carried out before; it is no part of the state.
    """

    __slots__ = ("duplicates", "windows")

    def __init__(self) -> None:
        self.duplicates = 0
        self.windows: OrderedDict[int, Window] = OrderedDict()

    def apply(self, write: Write, state: Any, seq: int, entry: Entry) -> Any:
        """Carry out an entry that belongs to a session, unless it was before; return its reply."""
        _, now_ms, session, number, floor, command = entry
        window = self.windows.get(session)
        if window is None:
            return _EXPIRED
        if now_ms != window.last_ms:  # often it is the same: moving costs more than looking
            window.last_ms = now_ms
            self.windows.move_to_end(session)
        if number < window.floor:
            return _TOO_OLD
        replies = window.replies
        if number in replies:
            self.duplicates += 1
            return replies[number]
        if floor > window.floor:
            window.floor = floor
            if floor > window.highest:  # so it is for a client that does one thing after the other
                replies.clear()
        if number > window.highest:
            window.highest = number
        if len(replies) >= window.sweep_at and not window.sweep() and number != window.floor:
            return _FULL
        reply = replies[number] = write(state, seq, now_ms, command)
        if type(reply) not in _SHORT:
            window.count_bytes(reply)
        return reply

    def is_over(self, session: int, number: int) -> bool:
        """Say whether an entry of that number would execute nothing: it did already, or never will.

        That is no decision: the entry is appended all the same, and `apply` gives the reply. But it needs no room.
        """
        window = self.windows.get(session)
        if window is None:
            return session != 0
        return number < window.floor or number in window.replies

    def idle_since(self, at_ms: int) -> Iterator[tuple[int, int]]:
        """Yield (session, highest number) of sessions without an entry after `at_ms`, a time in Unix milliseconds.

        That is what CLOSE_SESSION names. Nothing may be applied while this is walked.
        """
        for session, window in self.windows.items():
            if window.last_ms > at_ms:
                return
            yield session, window.highest


# -- commands ---------------------------------------------------------------------------------------------------


def _open(sessions: Sessions, seq: int, now_ms: int, command: Command) -> int:
    windows = sessions.windows
    while len(windows) >= limits.SESSIONS_MAX:
        windows.popitem(last=False)
    windows[seq] = Window(now_ms)
    return seq


def _close(sessions: Sessions, seq: int, now_ms: int, command: Command) -> bool:
    _, session, number = command
    window = sessions.windows.get(session)
    if window is None or window.highest != number:
        return False
    del sessions.windows[session]
    return True


WRITES: Final[dict[int, Callable[[Sessions, int, int, Command], Any]]] = {
    commands.OPEN_SESSION: _open,
    commands.CLOSE_SESSION: _close,
}
