"""What stands behind an address, and whether nobody is there: asked of the system without holding up the loop.

libzmq would look names up in the thread that carries all messages of a node, so a name server that is slow would
silence the node. Here names are looked up in a thread of their own, and libzmq gets numbers.

That a connection is refused is evidence of a special kind: the machine is there and says that no process listens.
Silence, a host that cannot be reached and a name that nobody knows say nothing about the process.

Addresses come from other nodes, so they may be anything: what makes no sense is an address that nobody knows.
"""

import asyncio
import socket
from typing import Any, Final, NamedTuple

_TIMEOUT_S: Final = 1.0
_NO_ADDRESS: Final = (OSError, ValueError, OverflowError)
"""What Python raises for names that nobody knows, for ports that are none, and for labels that are too long."""


class Endpoint(NamedTuple):
    """A numeric address, as sockets take it."""

    family: socket.AddressFamily
    address: tuple[Any, ...]

    @property
    def url(self) -> str:
        """The address as ZeroMQ takes it."""
        host, port, *_ = self.address
        return f"tcp://[{host}]:{port}" if self.family == socket.AF_INET6 else f"tcp://{host}:{port}"


def numeric(address: str) -> Endpoint | None:
    """Return the endpoint of a `host:port` whose host is a number; None if it is a name, and has to be looked up."""
    try:
        found = socket.getaddrinfo(*_parts(address), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except _NO_ADDRESS:
        return None
    return _endpoints(found)[0]


async def resolve(address: str) -> list[Endpoint]:
    """Return all endpoints of a `host:port`; none if nobody knows the name now."""
    endpoint = numeric(address)
    if endpoint is not None:
        return [endpoint]
    loop = asyncio.get_running_loop()
    try:
        return _endpoints(await loop.getaddrinfo(*_parts(address), type=socket.SOCK_STREAM))
    except _NO_ADDRESS:
        return []


async def is_refused(address: str) -> bool:
    """Say whether the machine at `host:port` refuses a connection, on every endpoint that the name has."""
    endpoints = await resolve(address)
    return bool(endpoints) and all([await _refuses(endpoint) for endpoint in endpoints])


async def _refuses(endpoint: Endpoint) -> bool:
    with socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as one:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(one, endpoint.address)
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
    return False


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _endpoints(found: list[tuple[Any, ...]]) -> list[Endpoint]:
    return [Endpoint(family, address) for family, _, _, _, address in found]
