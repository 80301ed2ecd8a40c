"""The loop of a node, run inside the test: what it does with what its core asks for."""

import asyncio
import logging
import random
import socket

import pytest

from gimmal.node.clocks import read_clocks
from gimmal.node.core import NodeCore
from gimmal.node.server import Server
from gimmal.wire import limits
from gimmal.wire.messages import Message, Status
from gimmal.wire.peer_messages import BLANK, PeerMessage, View
from tests.unit.test_control_plane import settings

TOO_LONG = "x" * (limits.MESSAGE_BYTES_MAX + 1)


class Garrulous(NodeCore):
    """A core that has something to say, at every turn, that is too long to be sent."""

    def drain(self) -> list[tuple[bytes, Message]]:
        return [(b"client", Status(b"", 0, 0, 0, (("text", TOO_LONG),)))]

    def drain_for_nodes(self) -> list[tuple[str, PeerMessage]]:
        return [("127.0.0.1:1", View(*BLANK, False, (("n1", 1, 0, 0, TOO_LONG, 0, None),)))]


def test_what_is_too_long_is_dropped_and_told_of_once_and_the_node_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        client, peer = (f"127.0.0.1:{listener.getsockname()[1]}" for listener in (one, other))
    server = Server(Garrulous(settings("a"), b"", random.Random(1), read_clocks()), client, peer, None)

    async def run() -> None:
        running = asyncio.ensure_future(server.run())
        while server.unsendable < 6 and not running.done():
            await asyncio.sleep(0.01)
        server.stop()
        await running

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    (line,) = [text for text in caplog.messages if "dropped" in text]
    assert "Status" in line
    assert "cannot be sent" in line
