"""What tests of programs that use gimmal need: clusters, and checkers of what clients saw.

`LocalCluster` starts real nodes, and `plugin` gives them to pytest. `History` and `check_linearizability` say whether
answers could come from one store in which everything happens at one instant; `CounterLedger`, `SetLedger` and
`QueueLedger` whether anything is lost.

All of it is loaded when it is first used: pytest imports this package for everybody who has gimmal installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gimmal.testing.history import History, Operation
    from gimmal.testing.ledgers import CounterLedger, CounterResult, SetLedger, SetResult
    from gimmal.testing.linearizability import KeyViolation, Linearizability, check_linearizability
    from gimmal.testing.local_cluster import LocalCluster
    from gimmal.testing.queue_ledger import QueueLedger, QueueResult
    from gimmal.testing.violation import ConsistencyViolation, Undecided

__all__ = [
    "ConsistencyViolation",
    "CounterLedger",
    "CounterResult",
    "History",
    "KeyViolation",
    "Linearizability",
    "LocalCluster",
    "Operation",
    "QueueLedger",
    "QueueResult",
    "SetLedger",
    "SetResult",
    "Undecided",
    "check_linearizability",
]

_HOMES = {
    "history": ("History", "Operation"),
    "ledgers": ("CounterLedger", "CounterResult", "SetLedger", "SetResult"),
    "linearizability": ("KeyViolation", "Linearizability", "check_linearizability"),
    "local_cluster": ("LocalCluster",),
    "queue_ledger": ("QueueLedger", "QueueResult"),
    "violation": ("ConsistencyViolation", "Undecided"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(f"gimmal.testing.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'gimmal.testing' has no attribute {name!r}")
