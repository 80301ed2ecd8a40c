"""How faults get into a node that was started for testing (`gimmal.testing`): from a file that only grows.

The file is named when the node starts, by a flag of the command line and nothing else: no message and no setting of
the environment or of a configuration file leads here. A node that was started without the flag has none of this, and
pays with a look at None.

Why a file, and neither a signal nor a socket: no network reaches it, and nobody has to answer. A node looks for what is
new after it has drained a socket and before it sends. So a fault holds, from the moment it is written, for all that any
node then goes on to receive or to send: also for a node that hangs or does not run at that moment. The nodes of a
cluster share one file, and one write is one fault for all of them at once. A look is a `read` that finds the end of
the file, half a microsecond.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from gimmal.errors import ConfigError
from gimmal.node.fault_filter import FaultFilter
from gimmal.node.peer_transport import PeerLinks

logger = logging.getLogger("gimmal.node")

_CHUNK_BYTES: Final = 65_536
_LOOK_EVERY_S: Final = 0.02
"""While frames are held back: an idle node would not notice that they need not wait any longer."""


class FaultFile:
    """The faults that node `name` finds in a file, one a line.

    Raises:
        ConfigError: the file cannot be read.
    """

    def __init__(self, name: str, file: Path) -> None:
        try:
            self._descriptor = os.open(file, os.O_RDONLY)
        except OSError as reason:
            raise ConfigError(f"node {name} cannot read faults from {file}: {reason.strerror}") from None
        self._filter = FaultFilter(name)
        self._rest = b""
        logger.info("node %s was started for testing: faults come from %s", name, file)

    def filter(self) -> FaultFilter:
        """Return the filter, after telling it what the file has that is new."""
        while chunk := os.read(self._descriptor, _CHUNK_BYTES):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._filter.tell(line)
        return self._filter

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class FaultyLinks:
    """Links to other nodes, for which a filter says what leaves, and when."""

    def __init__(self, links: PeerLinks, faults: FaultFile) -> None:
        self._links = links
        self._faults = faults
        self._timer: asyncio.TimerHandle | None = None

    def send(self, address: str, frame: bytes) -> None:
        """Send a frame now or later, or lose it; only inside the running loop."""
        loop = asyncio.get_running_loop()
        if self._faults.filter().admits(address, frame, loop.time()):
            self._links.send(address, frame)
        elif self._timer is None:
            self._on_timer()

    def _on_timer(self) -> None:
        loop = asyncio.get_running_loop()
        faults = self._faults.filter()
        for address, frame in faults.due(loop.time()):
            self._links.send(address, frame)
        due_at_s = faults.next_due()
        is_waiting = due_at_s < float("inf")
        self._timer = loop.call_at(min(due_at_s, loop.time() + _LOOK_EVERY_S), self._on_timer) if is_waiting else None

    def close(self) -> None:
        """Close all links; what was not sent is dropped."""
        if self._timer is not None:
            self._timer.cancel()
        self._links.close()
