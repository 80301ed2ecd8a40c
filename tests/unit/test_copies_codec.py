"""What messages about copies may hold: every field out of its range is refused, and the largest that occur travel."""

from typing import Any

import pytest

from gimmal.types import Entry
from gimmal.wire import commands, limits
from gimmal.wire.codec import decode, encode
from gimmal.wire.kinds import FROM_NODES
from gimmal.wire.peer_messages import Append, AppendAck, Histories, SnapshotChunk
from tests.unit.golden_copies import ENTRIES, HEADER, SET
from tests.unit.hostile import refusal_of
from tests.unit.queue_examples import BY_CODE
from tests.unit.test_peer_codec import bad, passes, spoiled

HUGE = limits.INTEGER_MAX
ODD: tuple[Any, ...] = (-1, HUGE + 1, 1.0, True, None, "1", b"1", (1,))
"""What no natural number is."""

SECTION = (3, 5, 41, 4, 40, ENTRIES)
NOOP: Entry = (5, 0, 0, 0, 0, (commands.NOOP,))


def section_with(place: int, value: Any) -> tuple[Any, ...]:
    return (*SECTION[:place], value, *SECTION[place + 1 :])


def entry_with(place: int, value: Any) -> tuple[Any, ...]:
    return (*SET[:place], value, *SET[place + 1 :])


def section_of(*entries: Any) -> tuple[Any, ...]:
    return (3, 5, 41, 4, 40, entries)


CLIENTS_ONLY = (
    (commands.GET, b"k"),
    (commands.GET_MANY, (b"k",)),
    (commands.EXISTS, b"k"),
    (commands.TTL, b"k"),
    (commands.SCAN, b"", 0, 0),
)
BAD_COMMANDS: tuple[Any, ...] = (
    *CLIENTS_ONLY,
    *((), (0,), (999,), (None,), ("SET",), (True,), None, 5, "B", b"B", bytes([commands.NOOP]), ((commands.NOOP,),)),
    *((commands.NOOP, 1), (commands.OPEN_SESSION, 1), (commands.SET,), (commands.SET, b"k", b"\x01", 0, 0)),
    *((commands.SET, b"", b"\x01", 0, 0, None), (commands.SET, b"k", b"", 0, 0, None)),
    *((commands.EXPIRE, b"k"), (commands.EXPIRE, b"k", -1), (commands.EVICT, "k", 1), (commands.CLOSE_SESSION, 0, 1)),
    (commands.SET, b"k", b"\x01", 0, 0, HUGE + 1),
)


def bad_rows(width: int) -> list[Any]:
    good = tuple(range(width))
    return [
        *(None, 5, "abcd", b"abcd", (None,), (5,), ("abcd"[:width],), (b"abcd"[:width],), {}, ((),)),
        *(((*good, 0),), (good[1:],), (good, ()), (good,) * (limits.SECTIONS_MAX + 1)),
        *(((*good[:place], odd, *good[place + 1 :]),) for place in range(width) for odd in ODD),
    ]


NO_ENTRIES: tuple[Any, ...] = (None, 5, "a", b"abcdef", {})
NO_ENTRY: tuple[Any, ...] = (None, 5, "abcdef", b"abcdef", (), SET[:5], (*SET, 0))
BAD_FIELDS = [
    *(row for name in ("append to copies", "append ack", "confirm", "confirmed") for row in bad(name, "number", *ODD)),
    *bad("append to copies", "alignments", *bad_rows(4)),
    *bad("confirm", "epochs", *bad_rows(2)),
    *(
        row
        for name in ("append ack", "confirmed")
        for row in bad(name, "refused", None, 5, "1", b"1", {}, *((odd,) for odd in ODD))
    ),
    *bad("append to copies", "sections", None, 5, "abcdef", b"abcdef", ("abcdef",), (b"abcdef",), ((),), (None,), {}),
    *bad("append to copies", "sections", (SECTION[:5],), ((*SECTION, 0),), ((SECTION,),)),
    *bad("append to copies", "sections", ((3, 5, 41, 4, 40, ()),) * (limits.SECTIONS_MAX + 1)),
    *bad("append to copies", "sections", *((section_with(place, odd),) for place in range(5) for odd in ODD)),
    *bad("append to copies", "sections", (section_with(2, HUGE),)),  # nothing could follow
    *bad("append to copies", "sections", (section_with(3, 6),)),  # an entry that is later than its leader
    *bad("append to copies", "sections", *((section_with(5, odd),) for odd in NO_ENTRIES)),
    *bad("append to copies", "sections", *((section_of(odd),) for odd in NO_ENTRY)),
    *bad("append to copies", "sections", *((section_of(entry_with(place, odd)),) for place in range(5) for odd in ODD)),
    *bad("append to copies", "sections", (section_of(entry_with(0, 6)),)),  # later than its leader
    *bad("append to copies", "sections", (section_of(entry_with(0, 3)),)),  # earlier than what it follows
    *bad("append to copies", "sections", (section_of(NOOP, entry_with(0, 4)),)),  # descending
    *bad("append to copies", "sections", *((section_of(entry_with(5, command)),) for command in BAD_COMMANDS)),
    *bad(
        "histories", "histories", None, 5, "abc", ("abc",), (b"abc",), ((),), (None,), ((3, 5),), ((3, 5, (), 0),), {}
    ),
    *bad("histories", "histories", *(((odd, 5, ()),) for odd in ODD), *(((3, odd, ()),) for odd in ODD)),
    *bad("histories", "histories", *(((3, 5, rows),) for rows in bad_rows(2))),
    *bad("histories", "histories", ((3, 5, ()),) * (limits.SECTIONS_MAX + 1)),
    *(
        row
        for name in ("snapshot chunk", "snapshot ack")
        for field in ("partition", "epoch", "base", "index")
        for row in bad(name, field, *ODD)
    ),
    *(row for field in ("base_epoch", "now_ms", "checksum") for row in bad("snapshot chunk", field, *ODD)),
    *bad("snapshot chunk", "is_last", None, 0, 1, "yes"),
    *bad("snapshot chunk", "chunk", None, 5, "chunk", b"chunk", {}, True),
    *bad("snapshot ack", "is_complete", None, 0, 1, "yes"),
]


@pytest.mark.parametrize(("name", "field", "value"), BAD_FIELDS, ids=lambda value: repr(value)[:40])
def test_a_bad_field_is_refused(name: str, field: str, value: Any) -> None:
    assert "malformed" in refusal_of(spoiled(name, **{field: value}))


@pytest.mark.parametrize("code", commands.MAY_BE_LOGGED)
def test_whatever_a_log_may_hold_travels(code: int) -> None:
    examples = {
        commands.SET: (b"k", b"\x01", 0, 0, None),
        commands.SET_MANY: ((b"k", b"\x01"), 0),
        commands.DELETE_MANY: ((b"k",),),
        **dict.fromkeys([commands.DELETE, commands.PERSIST], (b"k",)),
        **dict.fromkeys([commands.OPEN_SESSION, commands.NOOP], ()),
        commands.CLOSE_SESSION: (44, 0),
        **{code: command[1:] for code, command in BY_CODE.items()},
    }
    command = (code, *examples.get(code, (b"k", 5)))
    message = Append(*HEADER, 1, (), (section_of((5, 0, 0, 0, 0, command)),))
    assert decode(encode(message), FROM_NODES) == message


def test_a_natural_number_may_be_as_large_as_there_are() -> None:
    message = Append(*HEADER, HUGE, ((HUGE,) * 4,), ((HUGE, HUGE, HUGE - 1, HUGE, HUGE, ((HUGE,) * 5 + (NOOP[5],),)),))
    assert decode(encode(message), FROM_NODES) == message


# -- the largest that occur


def test_a_portion_beside_the_largest_write_travels() -> None:
    half = b"v" * (limits.SET_MANY_BYTES_MAX // 2 - 1)
    largest = (commands.SET_MANY, (b"k", half, b"l", half), 0)
    small = tuple((5, 0, 0, 0, 0, (commands.INCR, b"k" * limits.KEY_BYTES_MAX, 1)) for _ in range(400))
    sections = (section_of(*small), section_of((5, HUGE, HUGE, HUGE, HUGE, largest)))
    passes(Append(*HEADER, HUGE, (), sections))


def test_many_keys_in_one_write_travel() -> None:
    pairs = tuple(part for number in range(limits.OPERATIONS_MAX) for part in (b"k%d" % number, b"v" * 1_000))
    passes(Append(*HEADER, 1, (), (section_of((5, 0, 0, 0, 0, (commands.SET_MANY, pairs, 0))),)))


def test_something_of_every_partition_travels() -> None:
    every = range(limits.SECTIONS_MAX)
    passes(Append(*HEADER, 1, tuple((p, 9, 9, 9) for p in every), tuple((p, 9, 9, 9, 9, ()) for p in every)))
    passes(AppendAck(*HEADER, 1, tuple(every)))
    passes(Histories(*HEADER, tuple((p, 9, ((1, 1), (2, 2))) for p in every)))


def test_a_chunk_with_the_largest_record_travels() -> None:
    record = (2, b"k" * limits.KEY_BYTES_MAX, bytes(8 + limits.VALUE_BYTES_MAX), 0)
    passes(SnapshotChunk(*HEADER, 3, 5, 41, 4, 0, 0, False, 0, (0, ((1, 0, 1, 0), record))))


def test_a_chunk_of_many_small_records_travels() -> None:
    items = tuple((2, b"%d" % number, bytes(9), 0) for number in range(5_000))
    passes(SnapshotChunk(*HEADER, 3, 5, 41, 4, 0, 0, False, 0, (0, items)))
