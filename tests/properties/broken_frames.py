"""What becomes of a frame on a bad way, the same for messages of clients and of nodes."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from gimmal.errors import RemoteProtocolError
from gimmal.wire.codec import decode


def check_cut_and_flipped(frame: bytes, decode_or_refuse: Callable[[bytes], None], data: st.DataObject) -> None:
    """Refuse what is cut; take what has a byte flipped only if it is well formed."""
    for _ in range(10):
        cut = data.draw(st.integers(0, len(frame) - 1))
        with pytest.raises(RemoteProtocolError):
            decode(frame[:cut])
        flipped = bytearray(frame)
        flipped[cut] ^= data.draw(st.integers(1, 255))
        decode_or_refuse(bytes(flipped))
