"""`db.map(prefix)`: what it costs, and keys that cannot be."""

from collections.abc import Iterator
from typing import Any

import pytest

import gimmal
from gimmal.errors import InvalidArgument
from gimmal.testing import LocalCluster


@pytest.fixture
def db(gimmal_cluster: LocalCluster) -> Iterator[gimmal.Client]:
    with gimmal_cluster.connect() as client:
        yield client


class Counting:
    """A client that notes the calls made on it."""

    def __init__(self, client: gimmal.Client) -> None:
        self._client = client
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._client, name)


def test_clear_scans_once_and_leaves_the_others(db: gimmal.Client, gimmal_prefix: str) -> None:
    inside, outside = f"{gimmal_prefix}in:", f"{gimmal_prefix}out"
    raw = inside.encode() + b"\xff"
    db.set_many({f"{inside}{number}": number for number in range(2_500)})
    db.set_many({outside: 1, raw: 2})
    counting = Counting(db)
    view = type(db.map(inside))(counting, inside)  # type: ignore[call-arg]
    view.clear()
    assert counting.calls == ["scan", "delete_many", "delete_many", "delete_many"]
    assert dict(view) == {}
    # A key that is no text is not in the map, which has text for keys.
    assert db.get_many([outside, raw]) == {outside: 1, raw: 2}
    view.clear()
    assert len(view) == 0


@pytest.mark.parametrize("key", ["", "k" * 1025, "é" * 513, "\ud800"])
def test_a_key_that_cannot_be_is_not_there(db: gimmal.Client, key: str) -> None:
    view = db.map("")
    assert key not in view
    assert view.get(key, 7) == 7
    assert view.pop(key, 8) == 8
    for call in (view.__getitem__, view.__delitem__):
        with pytest.raises(KeyError) as caught:
            call(key)
        assert caught.value.args == (key,)
    with pytest.raises(InvalidArgument):
        view[key] = 1


def test_the_prefix_counts_for_the_length_of_a_key(db: gimmal.Client, gimmal_prefix: str) -> None:
    view = db.map(gimmal_prefix)
    longest = "k" * (1024 - len(gimmal_prefix))
    view[longest] = 1
    assert view[longest] == 1
    assert f"{longest}k" not in view
    del view[longest]
    view[""] = 2
    assert "" in view
    assert dict(view) == {"": 2}
