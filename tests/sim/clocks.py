"""The clocks of a simulated machine: both run at the machine's own rate, and neither starts where another's does.

`seconds` never goes back and never jumps, as CLOCK_BOOTTIME does not; only its rate is wrong, within 2 %. The wall
clock may be set to anything at any moment.
"""

from typing import Final

from gimmal.types import Instant

DRIFT_MAX: Final = 0.02
EPOCH_MS: Final = 1_700_000_000_000


class HostClock:
    """Turns virtual time into what a machine reads on its clocks, and back."""

    __slots__ = ("_origin_s", "_rate", "_since", "_wall_ms")

    def __init__(self, origin_s: float, wall_offset_ms: int, rate: float) -> None:
        self._since = 0.0
        self._origin_s = origin_s
        self._rate = rate
        self._wall_ms = EPOCH_MS + wall_offset_ms - int(origin_s * 1000)

    def seconds(self, time: float) -> float:
        return self._origin_s + (time - self._since) * self._rate

    def instant(self, time: float, not_before_s: float) -> Instant:
        """Read both clocks; a timer for `not_before_s` that went off has not gone off too early by a rounding."""
        seconds = self._origin_s + (time - self._since) * self._rate
        if seconds < not_before_s:
            seconds = not_before_s
        return Instant(seconds, self._wall_ms + int(seconds * 1000))

    def time_of(self, seconds: float) -> float:
        """The virtual time at which the machine will read `seconds`, if its rate stays."""
        return self._since + (seconds - self._origin_s) / self._rate

    def set_rate(self, time: float, rate: float) -> None:
        self._origin_s = self.seconds(time)
        self._since = time
        self._rate = rate

    def shift_wall(self, delta_ms: int) -> None:
        self._wall_ms += delta_ms
