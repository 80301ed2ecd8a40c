"""What a node remembers of each client: how much of its answers is unread, and when it was last told off.

A ROUTER socket does not say whether a peer reads. So every reply carries a receipt, a random number that the
client echoes with its next request; what was sent up to that reply has then left our buffers. Receipts cannot be
guessed, so a client that never reads cannot pretend to. What a client may have unread is bounded.
"""

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from gimmal.types import Instant
from gimmal.wire import limits

if TYPE_CHECKING:
    from random import Random

_FORGET_AFTER_S: Final = 2 * limits.TIMEOUT_MAX_S
_SWEEP_EVERY_S: Final = 10.0
_COMPLAIN_EVERY_S: Final = 60.0


@dataclass(slots=True)
class Unread:
    """What all clients together have not read."""

    size_bytes: int = 0


@dataclass(slots=True)
class Client:
    """One client connection, named by its socket identity.

    `sent_bytes_by_receipt` is in the order of sending; its values are the total sent up to and with that reply.
    """

    seen_at_s: float
    all_unread: Unread = field(default_factory=Unread)
    sent_bytes: int = 0
    read_bytes: int = 0
    sent_bytes_by_receipt: dict[int, int] = field(default_factory=dict)
    complained_at_s: float | None = None

    is_overloaded: bool = False
    """Whether the client has to read before it may ask for more."""

    def on_sent(self, size_bytes: int, receipt: int | None = None) -> None:
        """Count bytes that leave for the client, and the receipt that will confirm all up to here."""
        self.sent_bytes += size_bytes
        self.all_unread.size_bytes += size_bytes
        if receipt is not None:
            self.sent_bytes_by_receipt[receipt] = self.sent_bytes
        self.judge()

    def on_receipt(self, receipt: int) -> None:
        """Take note of what the client says it has read; an unknown receipt says nothing."""
        total = self.sent_bytes_by_receipt.get(receipt)
        if total is None:
            return
        self.all_unread.size_bytes -= total - self.read_bytes
        self.read_bytes = total
        confirmed = list(takewhile(lambda older: older != receipt, self.sent_bytes_by_receipt))
        for older in (*confirmed, receipt):
            del self.sent_bytes_by_receipt[older]
        self.judge()

    @property
    def unread_bytes(self) -> int:
        """Bytes sent and not yet confirmed."""
        return self.sent_bytes - self.read_bytes

    def judge(self) -> None:
        """Decide whether the client has to read first; others may have filled the node meanwhile."""
        is_full = self.all_unread.size_bytes > limits.UNREAD_TOTAL_BYTES_MAX
        self.is_overloaded = (
            self.unread_bytes > (limits.UNREAD_SHARE_BYTES if is_full else limits.UNREAD_REPLY_BYTES_MAX)
            or len(self.sent_bytes_by_receipt) >= limits.UNREAD_REPLIES_MAX
        )


class Clients:
    """All clients a node has heard of in the last minutes."""

    def __init__(self, dice: "Random") -> None:
        self._dice = dice
        self._client_by_peer: dict[bytes, Client] = {}
        self._sweep_at_s = 0.0
        self._all_unread = Unread()

    def seen(self, peer: bytes, now: Instant) -> Client:
        """Return the client behind a peer identity, new or known."""
        client = self._client_by_peer.get(peer)
        if client is None:
            client = self._client_by_peer[peer] = Client(now.seconds, self._all_unread)
        client.seen_at_s = now.seconds
        client.judge()
        return client

    def on_reply(self, peer: bytes, size_bytes: int) -> int:
        """Count a reply that is about to be sent and return its receipt."""
        client = self._client_by_peer.get(peer)
        if client is None:
            return 0
        unread = client.sent_bytes_by_receipt
        if len(unread) >= limits.UNREAD_REPLIES_MAX:  # one that never reads is refused, which are replies too
            del unread[next(iter(unread))]
        receipt = self._dice.getrandbits(48) | 1
        client.on_sent(size_bytes, receipt)
        return receipt

    def may_complain(self, peer: bytes, now: Instant) -> bool:
        """Say whether a peer's bad message is worth a log line: once per peer and minute."""
        client = self.seen(peer, now)
        if client.complained_at_s is not None and now.seconds - client.complained_at_s < _COMPLAIN_EVERY_S:
            return False
        client.complained_at_s = now.seconds
        return True

    def tick(self, now: Instant) -> None:
        """Forget clients that have been silent for so long that no operation of theirs can be waiting."""
        if now.seconds < self._sweep_at_s:
            return
        self._sweep_at_s = now.seconds + _SWEEP_EVERY_S
        silent = now.seconds - _FORGET_AFTER_S
        for peer in [peer for peer, client in self._client_by_peer.items() if client.seen_at_s < silent]:
            self._all_unread.size_bytes -= self._client_by_peer.pop(peer).unread_bytes
