"""A record of a run: its last lines for people, and a digest of everything for the proof that it is deterministic.

The digest covers every message delivered, byte for byte, and every event of the world, each with its time. Runs that
nobody looks at record nothing: a seed that fails is run again, and then its trace is kept.
"""

import os
import subprocess
import sys
from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from gimmal.wire.codec import encode
from gimmal.wire.messages import Message
from gimmal.wire.peer_messages import BLANK, PeerMessage
from tests.sim.client import FromClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.network import Machine

_MESSAGES_KEPT: Final = 30
_EVENTS_KEPT: Final = 50
_TEXT_MAX: Final = 220
_HEADER_FIELDS: Final = len(BLANK)


class Trace:
    """Records a run. `show` is called with each line, if given."""

    def __init__(self, show: "Callable[[str], None] | None" = None) -> None:
        self._messages: deque[str] = deque(maxlen=_MESSAGES_KEPT)
        self._events: deque[str] = deque(maxlen=_EVENTS_KEPT)
        self._digest = blake2b(digest_size=16)
        self._show = show

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def tail(self) -> str:
        """The last events, and the last messages: there are many more of these."""
        return "\n".join(["the last events:", *self._events, "", "the last messages:", *self._messages])

    def delivered(self, time: float, source: "Machine", target: "Machine", item: object) -> None:
        if type(item) is FromClient:
            item = item.message
        if isinstance(item, Message):
            self._digest.update(b"%s%s%s" % (time.hex().encode(), target.address.encode(), encode(item)))
            self._keep(self._messages, time, f"{source.name} > {target.name}  {_described(item)}")
        else:
            self.happened(time, f"{source.name} > {target.name}  {item}")

    def happened(self, time: float, text: str) -> None:
        self._digest.update(f"{time.hex()} {text}".encode())
        self._keep(self._events, time, text)

    def _keep(self, kept: deque[str], time: float, text: str) -> None:
        line = f"{time:10.4f}  {text}"
        kept.append(line)
        if self._show is not None:
            self._show(line)


def _described(message: Message) -> str:
    slots = [slot for kind in reversed(type(message).__mro__) for slot in getattr(kind, "__slots__", ())]
    fields = ", ".join(
        f"{name}={getattr(message, name)!r}"
        for name in slots[_HEADER_FIELDS - (not isinstance(message, PeerMessage)) :]
    )
    header = f"inc {message.source}>{message.destination}, table {message.table_version}"
    text = f"{type(message).__name__}({fields})"
    return f"{text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + '...'} [{header}]"


def digest_elsewhere(package: str, seed: int, hash_seed: str) -> str:
    """Return the line in which another process, by `python -m package`, tells the digest of a schedule's trace."""
    run = subprocess.run(
        [sys.executable, "-m", package, "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("trace ")]
    return line
