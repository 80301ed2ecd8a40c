"""The prober: asks one member at a time whether it is there, first itself, then through others.

    probe_at              ping the next member
    timeout_at            no answer: ping it again, and ask others to ping it
    a timeout later       no answer: ping it again
    the next probe_at     still no answer: the probe has failed

Each helper reports either way: an Ack as soon as the member answers it, else a Nack when its own time is up. A helper
that says neither is a sign that it is we who are cut off, and raises our health score (Lifeguard, "LHA-Probe"); so our
next probes are slower, and we accuse less.

Invariants: at most one probe is under way; an answer counts only if it names that probe and comes from its member or
one of its helpers; pings made for others are bounded.
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from gimmal.cluster.membership.mail import UNAWAITED

if TYPE_CHECKING:
    from random import Random

    from gimmal.cluster.membership.health import LocalHealth
    from gimmal.cluster.membership.mail import Mail
    from gimmal.cluster.membership.members import Members
    from gimmal.cluster.membership.parameters import MembershipParameters

RELAYS_MAX: Final = 1_024
"""Pings made for others at one time; requests beyond that are not heard."""


@dataclass(slots=True)
class Probe:
    """A probe under way; `silent` are the helpers that have not reported yet."""

    number: int
    target: str
    incarnation: int
    helpers: list[str]
    silent: list[str]


@dataclass(slots=True)
class Relay:
    """A ping made for `asker`, who knows it as `asker_number`."""

    asker: str
    asker_number: int
    target: str
    nack_at: float


class Prober:
    """Probes members in turn. `probe_at`, `timeout_at` and `relays_at` say when it wants its `tick`."""

    __slots__ = (
        "_health",
        "_mail",
        "_members",
        "_number",
        "_parameters",
        "_probe",
        "_relays",
        "probe_at",
        "relays_at",
        "timeout_at",
    )

    def __init__(
        self, members: "Members", health: "LocalHealth", mail: "Mail", parameters: "MembershipParameters"
    ) -> None:
        self._members = members
        self._health = health
        self._mail = mail
        self._parameters = parameters
        self._number = UNAWAITED
        self._probe: Probe | None = None
        self._relays: dict[int, Relay] = {}
        self.probe_at = inf
        self.timeout_at = inf
        self.relays_at = inf

    def begin(self, dice: "Random", now: float) -> None:
        """Start probing, at a random time within an interval, so that not all nodes probe at once."""
        if self.probe_at == inf:
            self.probe_at = now + dice.random() * self._parameters.probe_interval_s

    def tick(self, now: float) -> tuple[str, int] | None:
        """Do what is due; return the name and incarnation of the member whose probe has failed, if one has."""
        if now >= self.relays_at:
            self._give_up_relays(now)
        if now >= self.timeout_at:
            self._ask_again(now)
        if now < self.probe_at:
            return None
        failed = self._judge()
        self._ask_next(now)
        return failed

    def on_ack(self, sender: str, number: int) -> None:
        """Take an answer: to our probe, or to a ping that we made for another."""
        probe = self._probe
        if probe is not None and probe.number == number:
            if sender == probe.target or sender in probe.helpers:
                self._probe = None
                self.timeout_at = inf
                self._health.improve()
            return
        relay = self._relays.get(number)
        if relay is not None and relay.target == sender:
            del self._relays[number]
            self._schedule_relays()
            self._mail.ack(relay.asker, relay.asker_number)

    def on_nack(self, sender: str, number: int) -> None:
        """Take a helper's word that it is well and has heard nothing either."""
        probe = self._probe
        if probe is not None and probe.number == number and sender in probe.silent:
            probe.silent.remove(sender)

    def on_ping_request(self, sender: str, number: int, target: str, now: float) -> None:
        """Ping a member for another one."""
        if target not in self._members.all or len(self._relays) >= RELAYS_MAX:
            return
        self._number += 1
        self._relays[self._number] = Relay(sender, number, target, now + self._parameters.probe_timeout_s)
        self._schedule_relays()
        self._mail.ping(target, self._number)

    def abandon(self, name: str) -> None:
        """End the probe of a member about which we know already."""
        if self._probe is not None and self._probe.target == name:
            self._probe = None
            self.timeout_at = inf

    def postpone(self, seconds: float, now: float) -> None:
        """Leave out time in which we were not running: nobody is to be blamed for it, nor do we claim to be well."""
        self.probe_at += seconds
        self.timeout_at += seconds
        self._relays = {number: relay for number, relay in self._relays.items() if relay.nack_at > now}
        self._schedule_relays()

    def _ask_next(self, now: float) -> None:
        target = self._members.next_to_probe()
        if target is None:
            self.probe_at = self.timeout_at = inf
            return
        self.probe_at = now + self._health.stretch(self._parameters.probe_interval_s)
        self.timeout_at = now + self._health.stretch(self._parameters.probe_timeout_s)
        self._number += 1
        self._probe = Probe(self._number, target, self._members.all[target].incarnation, [], [])
        self._mail.ping(target, self._number)

    def _ask_again(self, now: float) -> None:
        """Ping the member once more, so that one lost message is not one more suspicion; and, once, ask others to."""
        self.timeout_at = now + self._health.stretch(self._parameters.probe_timeout_s)
        probe = self._probe
        assert probe is not None
        self._mail.ping(probe.target, probe.number)
        if probe.helpers:
            return
        probe.helpers = self._members.some(self._parameters.indirect_probes, probe.target)
        probe.silent = list(probe.helpers)
        for name in probe.helpers:
            self._mail.ping_request(name, probe.number, probe.target)

    def _judge(self) -> tuple[str, int] | None:
        probe, self._probe = self._probe, None
        self.timeout_at = inf
        if probe is None:
            return None
        self._health.worsen(len(probe.silent) if probe.helpers else 1)
        return probe.target, probe.incarnation

    def _give_up_relays(self, now: float) -> None:
        """Report the pings that were not answered. All wait equally long, so they are in the order of their ends."""
        for number, relay in list(self._relays.items()):
            if relay.nack_at > now:
                break
            del self._relays[number]
            self._mail.nack(relay.asker, relay.asker_number)
        self._schedule_relays()

    def _schedule_relays(self) -> None:
        self.relays_at = next((relay.nack_at for relay in self._relays.values()), inf)
