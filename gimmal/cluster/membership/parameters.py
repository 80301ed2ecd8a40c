"""The knobs of membership: for each what it is, the formula it enters, and which way it hurts.

The defaults are those of the product, of the simulator and of docs/membership.md. All nodes of a cluster should use
the same.
"""

from dataclasses import dataclass
from math import ceil, log10


@dataclass(frozen=True, slots=True)
class MembershipParameters:
    """How fast a death is found, and how much doubt a silent node is given. Times are seconds."""

    probe_interval_s: float = 0.5
    """One member is probed in each interval (times health score + 1).

    Shorter finds deaths sooner and costs 2 / interval messages per node and second; too short, and a pause of the
    interpreter looks like a death.
    """

    probe_timeout_s: float = 0.2
    """How long a ping may take (times health score + 1) before others are asked to ping too.

    It should be above the slowest usual round trip, and leave the helpers more than the same again before the interval
    ends. Too short costs messages; too long, and an indirect answer comes too late. A tick that comes later than this
    is lag of our own.
    """

    indirect_probes: int = 3
    """How many members are asked to ping one that has not answered. More tolerate more loss, at four messages each."""

    suspicion_factor: float = 3.0
    """A suspicion that enough members confirm lasts factor x max(1, log10 n) x `probe_interval_s`.

    Smaller, and a refutation may not arrive in time: false deaths. Larger delays every detection.
    """

    suspicion_stretch: float = 4.0
    """An unconfirmed suspicion lasts this many times as long. Larger forgives more where one node alone accuses."""

    confirmations: int = 3
    """Independent accusers, beyond the first, that bring a suspicion down to its shortest (fewer in a small cluster).

    Fewer trust each single accuser more, and he may be the one who is slow.
    """

    last_calls: int = 3
    """How often, one probe interval apart, an accuser calls a member before it gives it up.

    More make it less likely that a refutation got lost on the way to just one node, at a ping each. They should fit
    into the shortest suspicion, or they prolong it.
    """

    hearsay_calls: int = 5
    """The same for a node that has only heard of the suspicion, in the time that it waits beyond the accusers.

    There are many such nodes, so each must err more rarely. More delay a death only if all accusers die as well.
    """

    gossip_interval_s: float = 0.2
    """How often news is sent on, while there is any. Shorter spreads faster, in more and emptier messages."""

    gossip_fanout: int = 3
    """To how many members it is sent each time. More spreads faster and costs as much more."""

    retransmission_factor: int = 3
    """Each node sends a rumor on factor x ceil(log10(n + 1)) times, in gossip and with other messages.

    A node misses a rumor with a probability of about e^-(that number): too few leave gaps for the full exchange.
    """

    rumor_bytes_max: int = 1_200
    """Bytes of rumors in a message, so that it stays within one packet. Too few, and news queues up under churn."""

    exchange_interval_s: float = 30.0
    """About how often a node compares its whole view with another's, which repairs what gossip missed.

    Shorter repairs sooner; under churn most comparisons find a difference and cost two views.
    """

    dead_call_interval_s: float = 2.0
    """How often one of the dead is called, so that halves of a healed partition find each other.

    Longer delays the merge; shorter costs one message to nowhere each.
    """

    health_max: int = 8
    """The highest local health score; at s a node is s + 1 times as patient. Higher, and a sick one finds no deaths."""

    health_news_interval_s: float = 1.0
    """The least time between two statements of a node about its own health. Shorter costs a rumor to everybody each."""

    def suspicion_least_s(self, size: int) -> float:
        """Return the length of a fully confirmed suspicion in a cluster of `size` members."""
        return self.suspicion_factor * max(1.0, log10(max(size, 1))) * self.probe_interval_s

    def retransmissions(self, size: int) -> int:
        """Return how often each node sends one rumor on in a cluster of `size` members."""
        return self.retransmission_factor * ceil(log10(size + 1))
