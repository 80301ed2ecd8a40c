"""When sessions end: those that no entry has used for ten minutes are closed, by entries of the leader's own.

Sessions say themselves which of them has been idle longest, so looking costs one glance per partition. A session that
is used before its CLOSE_SESSION is applied stays: the command names the highest number the leader saw. By the time of a
new leader's clock a session may end sooner or later; no operation is tried for longer than a minute, so never too soon.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from gimmal.store.sessions import Sessions
from gimmal.types import Command
from gimmal.wire import commands, limits

LOOK_EVERY_MS: Final = 10_000


class IdleSessions:
    """Proposes CLOSE_SESSION. `led` maps each partition led to its sessions."""

    def __init__(self, led: Mapping[int, Sessions]) -> None:
        self._led = led
        self._look_at_ms = 0

    def is_due(self, now_ms: int) -> bool:
        """Say whether to look again: a while has passed, or the clock has been set back."""
        return now_ms >= self._look_at_ms or self._look_at_ms - now_ms > LOOK_EVERY_MS

    def due(self, now_ms: int) -> Iterator[tuple[int, Command]]:
        """Yield (partition, CLOSE_SESSION command) for sessions that have been idle for too long."""
        self._look_at_ms = now_ms + LOOK_EVERY_MS
        for partition, sessions in self._led.items():
            for session, number in sessions.idle_since(now_ms - limits.SESSION_IDLE_MS_MAX):
                yield partition, (commands.CLOSE_SESSION, session, number)
