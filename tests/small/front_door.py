"""What a node could decide about a write on receipt. The product decides nothing there; ablations do.

They replace these functions, as they replace methods of the product.
"""

from typing import Any, Final

from gimmal.replication.replica import Replica
from tests.small.clients import Request
from tests.small.node import Node
from tests.unit import meta_states

NOTHING: Final = object()
SILENCE: Final = object()


def known_reply(node: Node, replica: Replica, request: Request) -> Any:
    """Return an answer to be given without an entry, NOTHING if it is to be appended, or SILENCE if it is not."""
    return NOTHING


def on_result(node: Node, request: Request, result: Any) -> None:
    """Learn what a leader answered."""


def registration(name: str, life: int) -> tuple[Any, ...]:
    """Return the registration of a node's life, as a tree."""
    return tuple(meta_states.registration(name, life))
