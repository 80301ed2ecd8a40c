"""The bytes of what nodes say to each other about copies: examples, whose bytes are part of the protocol."""

from gimmal.types import Entry
from gimmal.wire import commands
from gimmal.wire.peer_messages import (
    Append,
    AppendAck,
    Confirm,
    Confirmed,
    Histories,
    PeerMessage,
    SnapshotAck,
    SnapshotChunk,
)

HEADER = (bytes(range(16)), 300, 301, 7, "n1")
NOW_MS = 1_700_000_000_000
SET: Entry = (5, NOW_MS + 1, 44, 9, 8, (commands.SET, b"k", b"\x01", 0, 0, None))
ENTRIES: tuple[Entry, ...] = (
    (4, NOW_MS, 0, 0, 0, (commands.EXPIRE, b"k", 41)),
    (5, NOW_MS, 0, 0, 0, (commands.NOOP,)),
    SET,
    (5, NOW_MS + 1, 0, 0, 0, (commands.CLOSE_SESSION, 44, 9)),
)
CHUNK = (0, ((1, 2, 1, 0), (2, b"k", b"\0\0\0\0\0\0\0\2\x01", 0)))

GOLDEN_OF_COPIES: dict[str, tuple[PeerMessage, str]] = {
    "append to copies": (
        Append(*HEADER, 9, ((3, 5, 41, 4),), ((3, 5, 41, 4, 40, ENTRIES), (4, 6, 7, 6, 7, ()))),
        "027098c410000102030405060708090a0b0c0d0e0fcd012ccd012d07a26e310991940305290492960305290428949604"
        "cf0000018bcfe568000000009340c4016b299605cf0000018bcfe5680000000091429605cf0000018bcfe568012c0908"
        "9610c4016bc401010000c09605cf0000018bcfe5680100000093432c0996040607060790",
    ),
    "append ack": (
        AppendAck(*HEADER, 9, (3, 2**40)),
        "027197c410000102030405060708090a0b0c0d0e0fcd012ccd012d07a26e31099203cf0000010000000000",
    ),
    "histories": (
        Histories(*HEADER, ((3, 5, ((0, 0), (4, 41), (5, 44))), (4, 6, ()))),
        "027296c410000102030405060708090a0b0c0d0e0fcd012ccd012d07a26e31929303059392000092042992052c93040690",
    ),
    "snapshot chunk": (
        SnapshotChunk(*HEADER, 3, 5, 41, 4, NOW_MS, 2, True, 0xFFFFFFFF, CHUNK),
        "02739ec410000102030405060708090a0b0c0d0e0fcd012ccd012d07a26e3103052904cf0000018bcfe5680002c3ceff"
        "ffffff92009294010201009402c4016bc40900000000000000020100",
    ),
    "snapshot ack": (
        SnapshotAck(*HEADER, 3, 5, 41, 3, False),
        "02749ac410000102030405060708090a0b0c0d0e0fcd012ccd012d07a26e3103052903c2",
    ),
    "confirm": (
        Confirm(*HEADER, 10, ((3, 5), (4, 6))),
        "027597c410000102030405060708090a0b0c0d0e0fcd012ccd012d07a26e310a92920305920406",
    ),
    "confirmed": (
        Confirmed(*HEADER, 10, (4,)),
        "027697c410000102030405060708090a0b0c0d0e0fcd012ccd012d07a26e310a9104",
    ),
}
