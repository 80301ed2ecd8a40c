"""Operations that wait until this node knows what is committed in a partition that it has just begun to lead."""

from typing import Any, Final

from gimmal.types import Operation
from gimmal.wire import limits

PARKED_MAX: Final = 16_384
_OPERATION_BYTES: Final = 320
_LOOK_EVERY_S: Final = 1.0
_NEVER: Final = float("inf")


class Parked:
    """Operations by partition, in the order they came. Whoever parks one sets `expires_at_s` first, in seconds."""

    def __init__(self) -> None:
        self.expires_at_s = _NEVER
        self._count = 0
        self._size_bytes = 0
        self._look_at_s = 0.0
        self._by_partition: dict[int, list[tuple[float, bytes, Operation]]] = {}

    def add(self, partition: int, peer: bytes, operation: Operation) -> bool:
        """Park an operation; False if there is no room."""
        if self._count >= PARKED_MAX or self._size_bytes >= limits.UNCOMMITTED_BYTES_MAX:
            return False
        self._count += 1
        self._size_bytes += _size_of(operation)
        self._by_partition.setdefault(partition, []).append((self.expires_at_s, peer, operation))
        return True

    def take(self, partition: int) -> list[tuple[bytes, Operation]]:
        """Return what waits for a partition, and forget it."""
        parked = self._by_partition.pop(partition, [])
        self._count -= len(parked)
        self._size_bytes -= sum(_size_of(operation) for _, _, operation in parked)
        return [(peer, operation) for _, peer, operation in parked]

    def tick(self, now: float) -> None:
        """Forget what its client does not wait for any more."""
        if self._count and now >= self._look_at_s:
            self._look_at_s = now + _LOOK_EVERY_S
            for partition, parked in list(self._by_partition.items()):
                left = self._by_partition[partition] = [item for item in parked if item[0] > now]
                if not left:
                    del self._by_partition[partition]
            waiting = [operation for parked in self._by_partition.values() for _, _, operation in parked]
            self._count, self._size_bytes = len(waiting), sum(map(_size_of, waiting))


def _size_of(operation: Operation) -> int:
    """Return about how many bytes of memory an operation takes."""
    return _OPERATION_BYTES + _bytes_in(operation[-1])


def _bytes_in(tree: Any) -> int:
    if type(tree) is bytes:
        return len(tree)
    return sum(map(_bytes_in, tree)) if type(tree) is tuple else 0
