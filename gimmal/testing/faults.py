"""Faults between the nodes of a `LocalCluster`: the end of their file that writes (`gimmal.node.fault_injection`).

The file keeps every fault since the cluster was made. So a node that starts again meets those that are not healed, and
one that hangs will when it is resumed.
"""

import json
import math
from pathlib import Path

from gimmal.errors import InvalidArgument
from gimmal.node.fault_filter import DELAY_MAX_S, Word


class FaultLog:
    """A new file of faults. What a method writes holds for all nodes when it returns."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch(mode=0o600)

    def add_node(self, name: str, peer: str) -> None:
        """Say where a node listens for others, before it starts."""
        self._write(Word.NODE, name, peer)

    def isolate(self, name: str, *, clients: bool) -> None:
        """Cut a node off from all others, and maybe from clients."""
        self._write(Word.ISOLATE, name, clients)

    def partition(self, first: tuple[str, ...], second: tuple[str, ...], *, one_way: bool) -> None:
        """Cut two groups off from each other, or the second from what the first send.

        Raises:
            InvalidArgument: they are no two groups.
        """
        for name in first:
            if name in second:
                raise InvalidArgument(f"node {name} is on both sides of the partition: name it once")
        if not first or not second:
            raise InvalidArgument("a partition has nodes on both sides, and one side names none")
        self._write(Word.CUT, first, second, one_way)

    def slow(self, sender: str, receiver: str, delay: float) -> None:
        """Make messages from one node to another take longer, in seconds.

        Raises:
            InvalidArgument: this cannot be.
        """
        if sender == receiver:
            raise InvalidArgument(f"node {sender} sends nothing to itself: name another one as the receiver")
        if not math.isfinite(delay) or not 0 <= delay <= DELAY_MAX_S:
            raise InvalidArgument(f"a delay is 0 to {DELAY_MAX_S:g} seconds, not {delay!r}")
        self._write(Word.SLOW, sender, receiver, delay)

    def heal(self) -> None:
        """End all of this."""
        self._write(Word.HEAL)

    def _write(self, word: Word, *rest: object) -> None:
        # One unbuffered write, so that a process forked from ours may do the same.
        with self.file.open("ab", buffering=0) as file:
            file.write(json.dumps([word, *rest]).encode() + b"\n")
