"""When keys expire: one heap for all partitions a node leads, never a timer per key.

The truth about a key's expiry is its partition's state; the heap only says when to look. An entry whose key was
deleted or got another time meanwhile is dropped when it surfaces; when such entries outnumber the others, the
heap is built anew from the state, so rewriting one key for ever costs bounded memory.
"""

import heapq
from collections.abc import Iterator, Mapping
from typing import Final

from gimmal.store.kv import Keys, version_of
from gimmal.types import Command
from gimmal.wire import commands

_REBUILD_ABOVE: Final = 1_024


class Expiry:
    """Proposes EXPIRE for keys whose time has come. `led` maps each partition led to its keys."""

    def __init__(self, led: Mapping[int, Keys]) -> None:
        self._led = led
        self._heap: list[tuple[int, int, bytes]] = []
        self._live_at_rebuild = 0

    def __len__(self) -> int:
        return len(self._heap)

    def on_led(self, partition: int) -> None:
        """Look after a partition whose state is there already: it is led again."""
        for key, at_ms in self._led[partition].expires_at_ms.items():
            heapq.heappush(self._heap, (at_ms, partition, key))

    def on_committed(self, partition: int, command: Command) -> None:
        """Note the expiry that a committed write gave to its keys."""
        code = command[0]
        if code == commands.SET:
            if not command[3]:
                return
        elif code == commands.SET_MANY:
            if not command[2]:
                return
        elif code != commands.SET_TTL:
            return
        expires_at_ms = self._led[partition].expires_at_ms
        for key in commands.keys_of(command):
            at_ms = expires_at_ms.get(key)
            if at_ms is not None:
                heapq.heappush(self._heap, (at_ms, partition, key))
        if len(self._heap) > 2 * self._live_at_rebuild + _REBUILD_ABOVE:
            self._rebuild()

    def next_ms(self) -> int | None:
        """Return the Unix milliseconds at which to look next, or None."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_ms: int, count_max: int) -> Iterator[tuple[int, Command]]:
        """Yield (partition, EXPIRE command) for keys whose time has come."""
        heap = self._heap
        for _ in range(count_max):
            if not heap or heap[0][0] > now_ms:
                return
            _, partition, key = heapq.heappop(heap)
            keys = self._led.get(partition)
            command = keys and expire_if_due(keys, key, now_ms)
            if command:
                yield partition, command

    def _rebuild(self) -> None:
        self._heap = [
            (at_ms, partition, key)
            for partition, keys in self._led.items()
            for key, at_ms in keys.expires_at_ms.items()
        ]
        heapq.heapify(self._heap)
        self._live_at_rebuild = len(self._heap)


def expire_if_due(keys: Keys, key: bytes, now_ms: int) -> Command | None:
    """Return the EXPIRE command for a key whose time has come, else None."""
    at_ms = keys.expires_at_ms.get(key)
    if at_ms is None or at_ms > now_ms:
        return None
    return (commands.EXPIRE, key, version_of(keys.records[key]))
