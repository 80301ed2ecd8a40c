"""A guest of the meta group: a new process of its name registers again and again, and measures how long that takes."""

import secrets
import socket
import time

import zmq

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome, Registration
from gimmal.cluster.table import Addresses
from gimmal.errors import RemoteProtocolError
from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import FROM_NODES
from gimmal.wire.peer_messages import MetaReply, MetaRequest

_ASK_EVERY_S = 0.05


class Guest:
    """Registers with whichever node of the cluster `cluster` (its id) decides."""

    def __init__(self, cluster: bytes, peers: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
        self._cluster = cluster
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._answers = self._context.socket(zmq.ROUTER)
        self._answers.bind(f"tcp://127.0.0.1:{port}")
        self._nodes = []
        for peer in peers:
            node = self._context.socket(zmq.DEALER)
            node.setsockopt(zmq.LINGER, 0)
            node.setsockopt(zmq.IMMEDIATE, 1)  # a question to a dead node must not wait for its successor
            node.connect(f"tcp://{peer}")
            self._nodes.append(node)
        self._peer = f"127.0.0.1:{port}"
        self._number = 0

    def register(self, patience_s: float) -> float:
        """Return the seconds until the registration of a new process was accepted, asked for after the call began.

        It is accepted when its entry has been committed; the process before it must have been fenced for that.
        """
        networks = (("default", Addresses("guest:1", "guest:2")),)
        me = Registration("guest", secrets.token_bytes(16), "guest/0", "", 1, self._peer, networks)
        began_at = time.monotonic()
        first_number = self._number + 1
        while time.monotonic() - began_at < patience_s:
            self._number += 1
            request = MetaRequest(self._cluster, 0, 0, 0, "guest", self._number, (commands.REGISTER, tuple(me)))
            for node in self._nodes:
                try:
                    node.send(encode(request), zmq.NOBLOCK)
                except zmq.Again:
                    continue
            ask_again_at = time.monotonic() + _ASK_EVERY_S
            while (left := ask_again_at - time.monotonic()) > 0:
                if self._answers.poll(int(left * 1000) + 1) and self._was_accepted(first_number):
                    return time.monotonic() - began_at
        raise AssertionError(f"no registration was accepted within {patience_s:g} s")

    def _was_accepted(self, first_number: int) -> bool:
        _, frame = self._answers.recv_multipart()
        try:
            message = decode(frame, FROM_NODES)
        except RemoteProtocolError:
            return False
        return isinstance(message, MetaReply) and message.number >= first_number and message.outcome == Outcome.DONE

    def close(self) -> None:
        for one in (self._answers, *self._nodes):
            one.close(linger=0)
        self._context.term()
