"""gimmal: a clustered in-memory store for Python.

    import gimmal

    db = gimmal.connect("127.0.0.1:7700")
    db.set("greeting", "hello", ttl=60)
    db.get("greeting")

Names are loaded when they are first used, so that importing a part (the `gimmal` command, say) stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gimmal import errors
    from gimmal.client.aio import AsyncClient, connect_async
    from gimmal.client.sync import Client, connect

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "__version__", "connect", "connect_async", "errors"]

_MODULE_BY_NAME = {
    "AsyncClient": "gimmal.client.aio",
    "connect_async": "gimmal.client.aio",
    "Client": "gimmal.client.sync",
    "connect": "gimmal.client.sync",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("gimmal.errors")
    module = _MODULE_BY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module 'gimmal' has no attribute {name!r}")
    return getattr(import_module(module), name)
