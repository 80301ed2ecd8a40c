"""`db.map("prefix:")`: keys under a prefix as a `MutableMapping`."""

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gimmal.client.sync import Client

_ABSENT: Final = object()


class KeyMap(MutableMapping[str, Any]):
    """A live view: every access is an operation on the cluster. `len` and iteration scan the whole cluster."""

    def __init__(self, client: "Client", prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def __getitem__(self, key: str) -> Any:
        value = self._client.get(self._prefix + key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._client.set(self._prefix + key, value)

    def __delitem__(self, key: str) -> None:
        if not self._client.delete(self._prefix + key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._client.exists(self._prefix + key)

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        for key in self._client.scan(self._prefix):
            if isinstance(key, str) and key not in seen:
                seen.add(key)
                yield key.removeprefix(self._prefix)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<map of the keys under {self._prefix!r}>"
