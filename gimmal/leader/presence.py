"""Which clients that have messages in flight are still there.

A client says so every second, and with everything it asks. Nothing for `CLIENT_SILENCE_S`, and what it holds goes to
others, each message a failure more. A new leader knows from the state who holds what, and waits `CLIENT_RETURN_S` to
hear of them; what those hold who do not come back goes to others uncounted, for it was a leader that went, not they.

Only clients that hold something, or wait for it, are remembered.
"""

from collections.abc import Mapping
from typing import Final

from gimmal.store.queues import Queues
from gimmal.wire import limits

LOOK_EVERY_S: Final = 0.5
_NEVER: Final = float("inf")


class Presence:
    """Who is there. `led` maps each partition led to its queues. Times are seconds of the node's clock."""

    def __init__(self, led: Mapping[int, Queues]) -> None:
        self._led = led
        self._heard_at_s: dict[bytes, float] = {}
        self._shards: dict[bytes, dict[tuple[int, bytes], None]] = {}  # by client: where it may hold something
        self._returning: dict[bytes, float] = {}  # until when those are waited for who were inherited
        self._look_at_s = _NEVER

    def on_sign(self, client: bytes, now_s: float) -> None:
        """Hear of a client; of one that is not known here nothing is kept."""
        if client in self._shards:
            self._heard_at_s[client] = now_s
            self._returning.pop(client, None)

    def on_consumer(self, client: bytes, partition: int, shard: bytes, now_s: float) -> None:
        """Learn that a client may hold something from now on."""
        self._shards.setdefault(client, {})[partition, shard] = None
        self._heard_at_s[client] = now_s
        self._returning.pop(client, None)
        self._look_at_s = min(self._look_at_s, now_s + LOOK_EVERY_S)

    def on_led(self, partition: int, now_s: float) -> None:
        """Wait for those who hold something in a partition that is led here from now on."""
        for key, shard in self._led[partition].shards.items():
            for group in shard.groups.values():
                for client in {delivery.client: None for delivery in group.held.values()}:
                    if client not in self._heard_at_s:
                        self._returning[client] = now_s + limits.CLIENT_RETURN_S
                    self._shards.setdefault(client, {})[partition, key] = None
                    self._look_at_s = min(self._look_at_s, now_s + LOOK_EVERY_S)

    def next_look_s(self) -> float:
        """Return when to look next; infinity if nobody holds anything."""
        return self._look_at_s

    def take_gone(self, now_s: float) -> list[tuple[bytes, bool, list[tuple[int, bytes]]]]:
        """Return (client, whether it counts, where it may hold something) of those that are gone, and forget them."""
        if now_s < self._look_at_s:
            return []
        silent_since = now_s - limits.CLIENT_SILENCE_S
        gone = [client for client, heard_at_s in self._heard_at_s.items() if heard_at_s <= silent_since]
        lost = [client for client, until_s in self._returning.items() if until_s <= now_s]
        found = [
            (client, is_counted, [place for place in self._shards[client] if place[0] in self._led])
            for clients, is_counted in ((gone, True), (lost, False))
            for client in clients
        ]
        for client, _, _ in found:
            self.forget(client)
        self._look_at_s = now_s + LOOK_EVERY_S if self._shards else _NEVER
        return found

    def put_off(self, client: bytes, partition: int, shard: bytes, again_at_s: float, *, is_counted: bool) -> None:
        """Take it that a client is gone at a later time, unless it comes back: now nothing can be done about it."""
        self._shards.setdefault(client, {})[partition, shard] = None
        if is_counted:
            self._heard_at_s[client] = again_at_s - limits.CLIENT_SILENCE_S
        else:
            self._returning[client] = again_at_s
        self._look_at_s = min(self._look_at_s, again_at_s)

    def forget(self, client: bytes) -> None:
        """Drop what is known of a client."""
        self._shards.pop(client, None)
        self._heard_at_s.pop(client, None)
        self._returning.pop(client, None)
