"""A record of a schedule: its last lines for people, and a digest of all. Schedules nobody looks at keep none."""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from gimmal.wire.peer_messages import BLANK, PeerMessage

_KEPT: Final = 80
_TEXT_MAX: Final = 240


class Trace:
    """Records lines. `show` is called with each, if given."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._digest = blake2b(digest_size=16)
        self._show = show

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def tail(self) -> str:
        return "\n".join(self._lines)

    def add(self, now_s: float, text: str) -> None:
        line = f"{now_s:8.4f}  {text}"
        self._digest.update(line.encode())
        self._lines.append(line[:_TEXT_MAX])
        if self._show is not None:
            self._show(line[:_TEXT_MAX])


def described(message: object) -> str:
    """Return a message as text, without its header."""
    if not isinstance(message, PeerMessage):
        return str(message)
    slots = [slot for kind in reversed(type(message).__mro__) for slot in getattr(kind, "__slots__", ())]
    fields = ", ".join(f"{name}={getattr(message, name)!r}" for name in slots[len(BLANK) :])
    return f"{type(message).__name__}({fields})"
