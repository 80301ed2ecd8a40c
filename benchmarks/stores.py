"""What every measured system offers to the benchmark.

A store holds the callables of a connected client, not methods around them, so that a timed loop pays nothing
for the harness: `store.get` is the client's own bound method wherever the signatures agree.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Roles(NamedTuple):
    """The processes that serve one key: its leader (Redis: master), and those that hold its other copies."""

    leader: int
    followers: list[int]


@dataclass(frozen=True, slots=True)
class SyncStore:
    """A connected blocking client; `get_many` answers in the order of its keys.

    `set_held` is a set that is answered when another copy has it too. gimmal knows no other set; Redis has to be asked.
    """

    get: Callable[[str], bytes | None]
    set: Callable[[str, bytes], object]
    set_held: Callable[[str, bytes], object]
    get_many: Callable[[Sequence[str]], Sequence[bytes | None]]
    set_many: Callable[[Mapping[str, bytes]], object]
    close: Callable[[], object]


@dataclass(frozen=True, slots=True)
class AsyncStore:
    """A connected asyncio client, used from the loop that connected it."""

    get: Callable[[str], Awaitable[bytes | None]]
    set: Callable[[str, bytes], Awaitable[object]]
    close: Callable[[], Awaitable[object]]


class Running(Protocol):
    """Processes that serve something, under a name."""

    @property
    def name(self) -> str:
        """Return the name under which its figures are filed, such as gimmal, redis or floor."""

    @property
    def node_pids(self) -> list[int]:
        """Return the process ids of the nodes."""


class System(Running, Protocol):
    """A running cluster of one kind that stores keys."""

    def roles_of(self, key: str) -> Roles:
        """Return who serves a key now."""

    def connect(self) -> SyncStore:
        """Connect a blocking client."""

    async def connect_async(self) -> AsyncStore:
        """Connect an asyncio client to the running loop."""
