"""A partition's state on its way to another copy: taken at once, cut into trees, put together again.

    Engine.freeze -> Frozen -> chunks -> trees ... -> Engine.from_chunks

A frozen state is a copy of the tables, not of the keys and values in them, so taking one is cheap and the log goes on
meanwhile. Its chunks are `(position of the first item, items)`, each small enough for a message, and an item is one of

    HEAD      removals, number of records, of sessions, of shards    the first of all
    RECORD    key, record, expires_at_ms | 0
    SESSION   session, floor, highest number, last_ms, replies       replies: (number, refusal | 0, value | text), ...

or one of a queue shard (`gimmal.store.queues.frozen`), in the order of the state: insertion order of the keys, then
that of the sessions, then that in which shards were declared. Positions in scans mean the same in the copy, and so does
everything else that `apply` or `read` can ever ask. The order of the table of expiry times is not kept, for nobody asks
for it.

Trees come from another node: every field is checked, and positions and numbers tell that none is missing or came twice.
Whose snapshot it is, at which place of the log, and whether its bytes arrived unharmed is not this module's business.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from gimmal.store.footprint import Footprint
from gimmal.store.kv import VERSION_BYTES, Refused
from gimmal.store.queues import Queues
from gimmal.store.queues import frozen as queues
from gimmal.store.sessions import Window, bytes_of, window_of
from gimmal.wire import limits
from gimmal.wire.messages import Refusal, Wire

HEAD: Final = 1
RECORD: Final = 2
SESSION: Final = 3

_ITEM_BYTES: Final = 24  # what an item takes beside its keys and values, at most but for replies
_REPLY_BYTES: Final = 20  # the same of a reply
_RECORD_BYTES_MAX: Final = VERSION_BYTES + limits.VALUE_BYTES_MAX
_TIME_MS_MAX: Final = limits.INTEGER_MAX + limits.TTL_MS_MAX


class Frozen(NamedTuple):
    """The state of a partition at one place of its log. Nobody changes it any more.

    `windows` are copies of their own, without the replies that nobody can get any more. What is taken apart here has
    `shards`; what is put together comes back with the state of the queues itself.
    """

    records: dict[bytes, bytes]
    expires_at_ms: dict[bytes, int]
    removals: int
    windows: dict[int, Window]
    shards: list[queues.FrozenShard]


# -- taking apart -----------------------------------------------------------------------------------------------


def chunks(frozen: Frozen, bytes_max: int) -> Iterator[Wire]:
    """Yield the trees of a state, at least one, each of about `bytes_max` bytes at most unless it holds one item."""
    position, items, size_bytes = 0, list[Wire](), 0
    for item, item_bytes in _items(frozen):
        if items and size_bytes + item_bytes > bytes_max:
            yield position, tuple(items)
            position += len(items)
            items, size_bytes = [], 0
        items.append(item)
        size_bytes += item_bytes
    yield position, tuple(items)


def _items(frozen: Frozen) -> Iterator[tuple[Wire, int]]:
    """Yield each item and about how many bytes it takes."""
    counts = len(frozen.records), len(frozen.windows), len(frozen.shards)
    yield (HEAD, frozen.removals, *counts), _ITEM_BYTES
    expires_at_ms = frozen.expires_at_ms.get
    for key, record in frozen.records.items():
        yield (RECORD, key, record, expires_at_ms(key, 0)), len(key) + len(record) + _ITEM_BYTES
    for session, window in frozen.windows.items():
        replies = tuple(_reply_tree(number, reply) for number, reply in window.replies.items())
        tree = (SESSION, session, window.floor, window.highest, window.last_ms, replies)
        yield tree, 2 * _ITEM_BYTES + sum(map(bytes_of, window.replies.values())) + _REPLY_BYTES * len(replies)
    yield from queues.items(frozen.shards)


def _reply_tree(number: int, reply: Any) -> Wire:
    if type(reply) is Refused:
        return number, int(reply.refusal), reply.text.encode()
    return number, 0, reply


# -- putting together -------------------------------------------------------------------------------------------


class Assembly:
    """Puts the chunks of one snapshot together, one after the other."""

    def __init__(self) -> None:
        self._items = 0
        self._counts: tuple[int, ...] | None = None
        self._frozen = Frozen({}, {}, 0, {}, [])
        self._queues = queues.Assembly()
        self._take_item: Final[dict[int, Callable[[Wire], None]]] = {
            HEAD: self._take_head,
            RECORD: self._take_record,
            SESSION: self._take_session,
            **self._queues.takers,
        }

    def take(self, tree: Wire) -> None:
        """Add the next chunk. Raises ValueError or TypeError if it is none, or not the next; then all is lost."""
        position, items = tree
        _check(type(position) is int and position == self._items and type(items) is tuple, "not the next chunk")
        for item in items:
            kind = item[0] if type(item) is tuple and item else None
            take = self._take_item.get(kind) if type(kind) is int else None
            if take is None:
                raise ValueError("not a snapshot: an item of an unknown kind")
            take(item)
            self._items += 1

    def finish(self, footprint: Footprint) -> tuple[Frozen, Queues]:
        """Return the whole state, which is the caller's from now on; of it, the queues are counted in `footprint`.

        Raises ValueError if something is missing.
        """
        counts = len(self._frozen.records), len(self._frozen.windows), len(self._queues.queues.shards)
        _check(counts == self._counts, f"a snapshot of {self._counts} records, sessions and shards; there are {counts}")
        return self._frozen, self._queues.finish(footprint)

    def _take_head(self, item: Wire) -> None:
        _, removals, records, sessions, shards = item
        _check(self._items == 0 and self._counts is None, "the head is not first")
        _check(all(map(_is_natural, (removals, records, sessions, shards))), "a bad head")
        _check(sessions <= limits.SESSIONS_MAX, "too many sessions")
        self._counts = records, sessions, shards
        self._frozen = Frozen({}, {}, removals, {}, [])

    def _take_record(self, item: Wire) -> None:
        _, key, record, at_ms = item
        records = self._frozen.records
        _check(
            type(key) is type(record) is bytes
            and 0 < len(key) <= limits.KEY_BYTES_MAX
            and VERSION_BYTES < len(record) <= _RECORD_BYTES_MAX
            and type(at_ms) is int
            and 0 <= at_ms <= _TIME_MS_MAX
            and key not in records,
            "a bad record",
        )
        records[key] = record
        if at_ms:
            self._frozen.expires_at_ms[key] = at_ms

    def _take_session(self, item: Wire) -> None:
        _, session, floor, highest, last_ms, replies = item
        numbers = (session, floor, highest, last_ms)
        _check(all(map(_is_natural, numbers)) and session > 0 and session not in self._frozen.windows, "a bad session")
        # one more than the bound: the number at the floor is let in when it is reached
        _check(type(replies) is tuple and len(replies) <= limits.SESSION_REPLIES_MAX + 1, "too many replies")
        reply_by_number: dict[int, Any] = {}
        for number, refusal, value in replies:
            _check(_is_natural(number) and floor <= number <= highest and number not in reply_by_number, "a bad number")
            reply_by_number[number] = _read_reply(refusal, value)
        self._frozen.windows[session] = window_of(floor, highest, last_ms, reply_by_number)


def _read_reply(refusal: Wire, value: Wire) -> Any:
    _check(type(refusal) is int, "a bad reply")
    if refusal:
        _check(type(value) is bytes and len(value) <= limits.TEXT_BYTES_MAX, "a refusal without a text")
        return Refused(Refusal(refusal), value.decode())
    is_list_of_numbers = type(value) is tuple and len(value) > 0 and all(map(_is_natural, value))
    _check(type(value) in _PLAIN or is_list_of_numbers, "a reply that no command gives")
    return value


_PLAIN: Final = frozenset([bool, int, bytes, type(None)])


def _is_natural(value: Wire) -> bool:
    return type(value) is int and 0 <= value <= limits.INTEGER_MAX


def _check(is_right: bool, otherwise: str) -> None:  # noqa: FBT001
    if not is_right:
        raise ValueError(f"not a snapshot: {otherwise}")
