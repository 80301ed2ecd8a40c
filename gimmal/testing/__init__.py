"""Clusters for tests: `LocalCluster` starts real nodes, and `plugin` gives them to pytest.

`LocalCluster` is loaded when it is first used: pytest imports this package for everybody who has gimmal
installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gimmal.testing.local_cluster import LocalCluster

__all__ = ["LocalCluster"]


def __getattr__(name: str) -> Any:
    if name == "LocalCluster":
        return import_module("gimmal.testing.local_cluster").LocalCluster
    raise AttributeError(f"module 'gimmal.testing' has no attribute {name!r}")
