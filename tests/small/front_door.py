"""What a node could decide about a write on receipt. The product decides nothing there; ablations do.

They replace these functions, as they replace methods of the product.
"""

from typing import Any, Final, Protocol

from gimmal.replication.replica import Replica
from tests.unit import meta_states

NOTHING: Final = object()
SILENCE: Final = object()


class Attempt(Protocol):
    """An attempt at an operation of a session."""

    @property
    def partition(self) -> int: ...
    @property
    def session(self) -> int: ...
    @property
    def number(self) -> int: ...


Memory = dict[tuple[int, int, int], object]
"""What a node remembers, by (partition, session, number)."""


def known_reply(memory: Memory, replica: Replica, request: Attempt) -> Any:
    """Return an answer to be given without an entry, NOTHING if it is to be appended, or SILENCE if it is not."""
    return NOTHING


def on_result(memory: Memory, request: Attempt, result: Any) -> None:
    """Learn what a leader answered."""


def registration(name: str, life: int) -> tuple[Any, ...]:
    """Return the registration of a node's life, as a tree."""
    return tuple(meta_states.registration(name, life))
