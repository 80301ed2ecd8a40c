"""`db.map("prefix:")`: keys under a prefix as a `MutableMapping`."""

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from gimmal.client.commands import encode_key
from gimmal.errors import InvalidArgument

if TYPE_CHECKING:
    from gimmal.client.sync import Client

_ABSENT: Final = object()
_DELETED_AT_ONCE: Final = 1000


class KeyMap(MutableMapping[str, Any]):
    """A live view: every access is an operation on the cluster. `len`, iteration and `clear` scan all of it.

    What a mapping derives from others takes several operations, and another client may come in between: `pop`
    and `setdefault` are two each, `popitem` a scan and two more. Where that counts, use the client itself:
    `set(key, value, nx=True)`, or `get_versioned` and `set(..., if_version=...)`.

    A key that no node could hold, such as one that is too long, is just not there; only storing it is an error.
    """

    def __init__(self, client: "Client", prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def __getitem__(self, key: str) -> Any:
        value = self._client.get(self._prefix + key, _ABSENT) if self._is_possible(key) else _ABSENT
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._client.set(self._prefix + key, value)

    def __delitem__(self, key: str) -> None:
        if not self._is_possible(key) or not self._client.delete(self._prefix + key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._is_possible(key) and self._client.exists(self._prefix + key)

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        for key in self._client.scan(self._prefix):
            if isinstance(key, str) and key not in seen:
                seen.add(key)
                yield key.removeprefix(self._prefix)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Delete the keys that one scan finds: not those that others add meanwhile."""
        keys = [self._prefix + key for key in self]
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            self._client.delete_many(keys[start : start + _DELETED_AT_ONCE])

    def __repr__(self) -> str:
        return f"<map of the keys under {self._prefix!r}>"

    def _is_possible(self, key: str) -> bool:
        try:
            encode_key(self._prefix + key)
        except InvalidArgument:
            return False
        return True
