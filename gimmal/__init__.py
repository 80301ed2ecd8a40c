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
    from gimmal.client.aio_queues import AsyncQueue
    from gimmal.client.aio_workers import AsyncConsumer
    from gimmal.client.queue_types import DeadLetter, Message, MessageStatus
    from gimmal.client.queues import Queue
    from gimmal.client.sync import Client, connect
    from gimmal.client.workers import Consumer

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncConsumer",
    "AsyncQueue",
    "Client",
    "Consumer",
    "DeadLetter",
    "Message",
    "MessageStatus",
    "Queue",
    "__version__",
    "connect",
    "connect_async",
    "errors",
]

_MODULE_BY_NAME = {
    "AsyncClient": "gimmal.client.aio",
    "connect_async": "gimmal.client.aio",
    "Client": "gimmal.client.sync",
    "connect": "gimmal.client.sync",
    "AsyncConsumer": "gimmal.client.aio_workers",
    "AsyncQueue": "gimmal.client.aio_queues",
    "Consumer": "gimmal.client.workers",
    "DeadLetter": "gimmal.client.queue_types",
    "Message": "gimmal.client.queue_types",
    "MessageStatus": "gimmal.client.queue_types",
    "Queue": "gimmal.client.queues",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("gimmal.errors")
    module = _MODULE_BY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module 'gimmal' has no attribute {name!r}")
    return getattr(import_module(module), name)
