"""Which messages a node that was started for testing loses or holds back, as a pure object.

It is told of faults one by one, in the words below, and remembers them until the one that heals them all. All nodes of
a cluster are told the same; each applies what concerns itself:

- A cut direction is cut at both ends. The sender does not send; and the receiver, which knows a sender by the name in
  the message, drops what was on its way by then.
- A delay is the sender's. A link stays in order: what is sent later leaves later, also when the delay gets shorter.
- Where either direction is cut nobody can be refused: the attempt, or the refusal, would not get through.

A node's own connections stay up meanwhile, as they do when a network drops packets: nobody is told of an error.
Frames that are held back are as many as the delay, at most `DELAY_MAX_S`, lets come together: tests have no flood.
"""

import json
from collections import deque
from enum import StrEnum
from typing import Final

DELAY_MAX_S: Final = 60.0

_NEVER: Final = float("inf")


class Word(StrEnum):
    """What a fault begins with. Each is a list in JSON."""

    NODE = "node"
    """`[NODE, name, peer address]`: where a node is. The others find out by this which link is the one to it."""

    ISOLATE = "isolate"
    """`[ISOLATE, name, clients?]`: nothing gets from a node to another or back; with `clients`, nor to or from them."""

    CUT = "cut"
    """`[CUT, names, names, one way?]`: nothing gets from the first nodes to the second or, unless `one way`, back."""

    SLOW = "slow"
    """`[SLOW, name, name, seconds]`: what the first node sends to the second takes so much longer."""

    HEAL = "heal"
    """`[HEAL]`: all of this is over. What is held back leaves."""


class FaultFilter:
    """The faults as node `name` meets them. Times are seconds of any clock that does not go back."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._name_by_address: dict[str, str] = {}
        self._isolated: set[str] = set()
        self._cut: set[tuple[str, str]] = set()
        self._delay_by_pair_s: dict[tuple[str, str], float] = {}
        self._held: dict[str, deque[tuple[float, bytes]]] = {}  # by address: when each was sent, in that order
        self.loses_clients = False

    def tell(self, line: bytes) -> None:
        """Learn of one fault, in JSON.

        Raises:
            ValueError: this is none.
        """
        match json.loads(line):
            case [Word.NODE, str(name), str(address)]:
                others = {at: other for at, other in self._name_by_address.items() if other != name}
                self._name_by_address = {**others, address: name}
            case [Word.ISOLATE, str(name), bool(clients)]:
                self._isolated.add(name)
                self.loses_clients |= clients and name == self._name
            case [Word.CUT, list(first), list(second), bool(one_way)]:
                pairs = {(one, other) for one in first for other in second}
                self._cut |= pairs if one_way else pairs | {(other, one) for one, other in pairs}
            case [Word.SLOW, str(first), str(second), int() | float() as delay_s]:
                self._delay_by_pair_s[first, second] = float(delay_s)
            case [Word.HEAL]:
                self._isolated, self._cut, self._delay_by_pair_s = set(), set(), {}
                self.loses_clients = False
            case _:
                raise ValueError(f"this is no fault: {line!r}")
        for address in [address for address in self._held if self.loses_to(address)]:
            del self._held[address]

    # -- cuts -----------------------------------------------------------------------------------------------------

    def loses_to(self, address: str) -> bool:
        """Say whether nothing gets to the node at a peer address."""
        return self._loses(self._name, self._name_by_address.get(address, ""))

    def loses_from(self, sender: str) -> bool:
        """Say whether nothing comes from the node of a name."""
        return self._loses(sender, self._name)

    def refuses(self, address: str) -> bool:
        """Say whether a connection to a peer address can be refused: news of that travels both ways."""
        return not self.loses_to(address) and not self.loses_from(self._name_by_address.get(address, ""))

    def _loses(self, sender: str, receiver: str) -> bool:
        return sender in self._isolated or receiver in self._isolated or (sender, receiver) in self._cut

    # -- delays ---------------------------------------------------------------------------------------------------

    def admits(self, address: str, frame: bytes, now_s: float) -> bool:
        """Say whether a frame for a peer address leaves now. One that does not is lost, or held until it is `due`."""
        if self.loses_to(address):
            return False
        if address not in self._held and not self._delay_s(address):
            return True
        self._held.setdefault(address, deque()).append((now_s, frame))
        return False

    def due(self, now_s: float) -> list[tuple[str, bytes]]:
        """Return the (address, frame) pairs that have been held back for long enough, and forget them."""
        found = []
        for address, held in list(self._held.items()):
            delay_s = self._delay_s(address)
            while held and held[0][0] + delay_s <= now_s:
                found.append((address, held.popleft()[1]))
            if not held:
                del self._held[address]
        return found

    def next_due(self) -> float:
        """Return when a frame will be `due` next; infinity if none is held back."""
        return min((held[0][0] + self._delay_s(address) for address, held in self._held.items()), default=_NEVER)

    def _delay_s(self, address: str) -> float:
        return self._delay_by_pair_s.get((self._name, self._name_by_address.get(address, "")), 0.0)
