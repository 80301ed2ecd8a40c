"""Free ports for nodes on this machine.

They can only be guessed: between our look and the node's bind somebody else may take one. Whoever starts a node
that fails for that reason tries again with other ports.
"""

import socket
from typing import Final, NamedTuple

_HOST: Final = "127.0.0.1"


class Place(NamedTuple):
    """Where a node of ours listens."""

    client: str
    peer: str
    pubsub: str


def free_places(count: int) -> list[Place]:
    """Return places for `count` nodes."""
    addresses = [f"{_HOST}:{port}" for port in free_ports(3 * count)]
    return [Place(*addresses[start : start + 3]) for start in range(0, len(addresses), 3)]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((_HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
