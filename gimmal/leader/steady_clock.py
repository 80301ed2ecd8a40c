"""The time by which a node leads: the wall clock's, but it never goes back and never stands still.

Entries of a log are stamped with times that never go back. A leader whose wall clock is behind what the log has seen
(it was set back, or an earlier leader's was ahead) would stamp the same time until its clock has caught up, and until
then nothing that waits for time would be due: no key would expire, no delayed message come back. So the time of a
leader goes on from the latest it has seen, a little slower than it should, until the wall clock is ahead of it again.

That is a hybrid clock (Kulkarni et al., Logical Physical Clocks, 2014) with the rate of the monotonic one.
"""

from typing import Final

from gimmal.types import Instant

_RATE: Final = 0.99
"""How fast it goes while it is ahead of the wall clock: an hour ahead is made up for in four days."""


class SteadyClock:
    """Turns what a machine's clocks say into the time of a leader."""

    __slots__ = ("_last_ms", "_last_s")

    def __init__(self, now: Instant) -> None:
        self._last_s = now.seconds
        self._last_ms = float(now.unix_ms)

    def read(self, now: Instant) -> Instant:
        """Return the same instant with the leader's wall time."""
        elapsed_s = now.seconds - self._last_s
        self._last_s = now.seconds
        self._last_ms = max(float(now.unix_ms), self._last_ms + elapsed_s * 1000 * _RATE)
        return Instant(now.seconds, int(self._last_ms))

    def raise_to(self, unix_ms: int) -> None:
        """Take it that so late a time was seen."""
        self._last_ms = max(self._last_ms, float(unix_ms))
