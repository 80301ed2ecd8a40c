"""The arguments of everything about queues: checked, and turned into what travels. Nothing is sent from here.

Whatever is wrong raises `InvalidArgument`, or `TypeError` for a value of the wrong type, before anything is sent.
"""

import math
from typing import Any, Final, NamedTuple, TypeAlias

from gimmal.client.commands import Key
from gimmal.errors import InvalidArgument
from gimmal.wire import limits

DEFAULT_GROUP: Final = "default"

Settings: TypeAlias = tuple[int | None, ...]
"""(max_retries, lease_ms, backoff_ms, backoff_max_ms, shards, max_length), as they travel; None: not given."""


class Place(NamedTuple):
    """The name of a queue, and whether that name, with its `{tag}`, is the key of its only shard."""

    name: bytes
    is_tagged: bool

    def key(self, shard: int) -> bytes:
        """Return the key by which a shard is placed."""
        return self.name if self.is_tagged else b"{%b/%d}" % (self.name, shard)


def place_of(name: Key) -> Place:
    """Return where a queue of a name is."""
    data = name_bytes("the name of a queue", name)
    start = data.find(b"{") + 1
    return Place(data, bool(start) and data.find(b"}", start) > start)


def name_bytes(what: str, name: Key, *, least: int = 1, most: int = limits.QUEUE_NAME_BYTES_MAX) -> bytes:
    """Return the bytes of a name."""
    if isinstance(name, str):
        try:
            data = str.encode(name)
        except UnicodeEncodeError as reason:
            raise InvalidArgument(f"{what} {name!r} is not valid Unicode: {reason.reason}") from None
    elif isinstance(name, bytes):
        data = bytes(name)
    else:
        raise TypeError(f"{what} is str or bytes, not {type(name).__name__}")
    if not least <= len(data) <= most:
        raise InvalidArgument(f"{what} has {least} to {most} bytes, this one {len(data)}")
    return data


def key_bytes(what: str, key: Key | None) -> bytes:
    """Return the bytes of a group key or dedup id; none when there is none."""
    return b"" if key is None else name_bytes(what, key, most=limits.KEY_BYTES_MAX)


def name_text(data: bytes) -> Any:
    """Return a name as users gave it: as text, or as bytes when it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def milliseconds(what: str, seconds: float, most_ms: int, *, least_ms: int = 0) -> int:
    """Return a time in whole milliseconds, rounded up."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} is a number of seconds, not {type(seconds).__name__}")
    if not 0 <= seconds <= most_ms / 1000 or (least_ms and not seconds):  # also refuses NaN
        least, most = "above" if least_ms else "from", f"{most_ms / 1000:g}"
        raise InvalidArgument(f"{what} is a number of seconds {least} 0 and at most {most}, not {seconds!r}")
    return math.ceil(seconds * 1000)


def delay_to_ms(delay: float) -> int:
    """Return a delay in milliseconds."""
    return milliseconds("delay", delay, limits.TTL_MS_MAX)


def lease_to_ms(lease: float) -> int:
    """Return a lease in milliseconds."""
    return milliseconds("lease", lease, limits.LEASE_MS_MAX, least_ms=1)


def wait_seconds(timeout: float) -> float:
    """Return how long a consume may wait, in seconds; infinity is possible."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout is a number of seconds, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise InvalidArgument(f"timeout is a number of seconds from 0 on, not {timeout!r}")
    return float(timeout)


def count_of(what: str, count: int, most: int = limits.INTEGER_MAX, *, least: int = 1) -> int:
    """Return a count, if it is one in its range."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{what} is an int, not {type(count).__name__}")
    if not least <= count <= most:
        raise InvalidArgument(f"{what} is from {least} to {most}, not {count}")
    return int(count)


def reason_bytes(reason: str) -> bytes:
    """Return the text of a failure, cut to what a message keeps."""
    if not isinstance(reason, str):
        raise TypeError(f"reason is str, not {type(reason).__name__}")
    cut = reason[: limits.REASON_BYTES_MAX].encode("utf-8", "backslashreplace")[: limits.REASON_BYTES_MAX]
    return cut.decode("utf-8", "ignore").encode()


def settings_of(
    place: Place,
    counts: tuple[int | None, int | None, int | None],
    times: tuple[float | None, float | None, float | None],
) -> Settings:
    """Return settings as they travel, out of (max_retries, shards, max_length) and (lease, backoff, backoff_max)."""
    max_retries, shards, max_length = counts
    lease, backoff, backoff_max = times
    if place.is_tagged and shards not in (None, 1):
        raise InvalidArgument(
            f"queue {name_text(place.name)!r} has a tag in its name and is placed by that: it needs shards=1"
        )
    return (
        None if max_retries is None else count_of("max_retries", max_retries, limits.RETRIES_MAX, least=0),
        None if lease is None else lease_to_ms(lease),
        None if backoff is None else milliseconds("backoff", backoff, limits.BACKOFF_MS_MAX),
        None if backoff_max is None else milliseconds("backoff_max", backoff_max, limits.BACKOFF_MS_MAX),
        None if shards is None else count_of("shards", shards, limits.SHARDS_MAX),
        None if max_length is None else count_of("max_length", max_length),
    )
