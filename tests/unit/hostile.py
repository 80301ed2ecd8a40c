"""What tests of the codec do to frames, and how they see that a frame was refused."""

import tracemalloc
from collections.abc import Iterator

import pytest

from gimmal.errors import RemoteProtocolError
from gimmal.wire.codec import decode, encode
from gimmal.wire.messages import Message

MARKERS = (
    *(0x00, 0x80, 0x81, 0x90, 0x93, 0xA0, 0xC0, 0xC1, 0xC3),
    *(0xC4, 0xC7, 0xCB, 0xCF, 0xD3, 0xDD, 0xDF, 0xFF),
)
JUNK = [b"\x90", b"\x80", b"\x91\x90", b"\x91\x80", b"\xc0", b"\xa0", b"\xc4\x00", b"\x92\x91\xc0\x80"]
"""Items that cost far more in memory than on the wire; the first four are containers."""


def refusal_of(frame: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(frame)
    return str(caught.value)


def peak_bytes_of_refusing(frame: bytes) -> int:
    tracemalloc.start()
    try:
        refusal_of(frame)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def flips_of(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Every frame that differs in one byte: by one bit, or by a marker of msgpack in its place."""
    for position, byte in enumerate(frame):
        for other in sorted({*(byte ^ 1 << bit for bit in range(8)), *MARKERS} - {byte}):
            yield position, frame[:position] + bytes([other]) + frame[position + 1 :]


def check_truncations(message: Message) -> None:
    frame = encode(message)
    for length in range(len(frame)):
        with pytest.raises(RemoteProtocolError):
            decode(frame[:length])
    with pytest.raises(RemoteProtocolError):
        decode(frame + b"\xc0")


def check_flips(message: Message) -> None:
    for position, changed in flips_of(encode(message)):
        try:
            passed = decode(changed)
        except RemoteProtocolError:
            continue
        assert position > 0, "another version passed"
        assert type(passed) is type(message) or position == 1
        decode(encode(passed))  # what passed is within what we send ourselves
