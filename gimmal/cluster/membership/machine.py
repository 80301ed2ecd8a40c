"""The machine of membership: who is there, as one node sees it. SWIM with Lifeguard, fed with messages and time.

    silence     a probe fails (`prober`): its member becomes SUSPECT, and everybody is told who accuses it
    doubt       each who hears it waits (`suspicion`), shorter with each further accuser, and calls the member at last
    refutation  the member hears of it, raises its refutation, and that wins over the accusation
    death       it does not in time: DEAD, and everybody is told
    news        rumors ride with all messages and with gossip while there is any (`dissemination`, `mail`)
    repair      now and then two nodes compare digests of their views, and exchange the views if these differ

It finds failures fast and is sometimes wrong; it decides nothing. Who is a member, and in which life, the cluster's
table says (`adopt`); membership only adds who seems to be silent. A node that others call dead is not stopped by that:
when it hears of it, it refutes.

Rules:

- Lives come from the table. A rumor counts for the life that the table names; of a later one, also of our own
  (`LaterLifeRumored`), the table tells within a moment if it is true. Of a few names that are not in the table yet,
  rumors are believed (`HEARSAY_MAX`): until the table names them, and by what it says.
- Of two rumors about a member the higher one is believed (`rumor`); only what changed the view is told on.
- Our own lag is not held against others. A tick that comes later than a probe timeout after its deadline means that we
  were paused: that time is left out of every probe and suspicion, and our health score rises.
- Nobody is pinged when nobody is there, and nothing is gossiped when there is nothing to tell: `next_deadline` is the
  time of something to do.
- What peers choose is bounded: members by the table and `limits.HEARSAY_MAX`, accusers per suspicion, pings for others,
  how often one member is sent a view, and by how much a refutation may rise at once; a rumor that is none is counted
  (`counters`) and dropped.

What it deliberately does not do: know addresses (it names members, the node's core finds them), leave the view to the
dead's disappearance (they stay, and are called now and then, so that a healed partition merges), or say goodbye: a node
that stops is found silent, or its address refuses (`on_refused`).

Sources: Das, Gupta and Motivala, "SWIM", DSN 2002; Dadgar, Phillips and Currey, "Lifeguard", 2017 (arXiv:1707.00788).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gimmal.cluster.membership.facts import (
    Fact,
    LaterLifeRumored,
    MemberAlive,
    MemberDead,
    MemberJoined,
    MemberSuspected,
)
from gimmal.cluster.membership.health import LocalHealth
from gimmal.cluster.membership.mail import UNAWAITED, Mail
from gimmal.cluster.membership.members import Member, Members
from gimmal.cluster.membership.parameters import MembershipParameters
from gimmal.cluster.membership.prober import Prober
from gimmal.cluster.membership.rumor import REFUTATION_MAX, Profile, Rumor, State, read_rumor
from gimmal.cluster.membership.suspicion import Suspicion, Terms
from gimmal.wire import limits
from gimmal.wire.peer_messages import Ack, Gossip, Nack, PeerMessage, Ping, PingRequest, View, ViewDigest

if TYPE_CHECKING:
    from random import Random

_VIEW_EVERY_S: Final = 1.0
_REFUTATION_STEP_MAX: Final = 2**32
_ALIVE: Final = State.ALIVE
_SUSPECT: Final = State.SUSPECT
_DEAD: Final = State.DEAD


class Membership:
    """The view of node `name` in life `incarnation`, and its part in everybody's. Times are monotonic seconds."""

    def __init__(
        self,
        name: str,
        incarnation: int,
        profile: Profile,
        parameters: MembershipParameters,
        dice: "Random",
        now: float,
    ) -> None:
        self.name = name
        self.counters: Counter[str] = Counter()
        self._parameters = parameters
        self._dice = dice
        self._members = Members(Member(name, incarnation, 0, _ALIVE, 0, profile), dice)
        self._health = LocalHealth(parameters.health_max)
        self._mail = Mail(self._members, parameters)
        self._prober = Prober(self._members, self._health, self._mail, parameters)
        self._suspicions: dict[str, Suspicion] = {}
        self._tabled: dict[str, int] = {}  # the lives that the table names
        self._rumored_life = incarnation
        self._viewed_at: dict[str, float] = {}
        self._facts: list[Fact] = []
        self._lag_noticed_at = -inf
        self._gossiped_at = self._stated_health_at = -inf
        # When something is to be done next; the prober has three of its own.
        self._suspicions_at = self._gossip_at = self._exchange_at = self._dead_call_at = self._health_news_at = inf
        self._receivers: dict[type[PeerMessage], Callable[[Any, float], None]] = {
            Ping: self._on_ping,
            PingRequest: self._on_ping_request,
            Ack: self._on_ack,
            Nack: self._on_nack,
            Gossip: self._on_gossip,
            ViewDigest: self._on_view_digest,
            View: self._on_view,
        }
        self._spread(self._members.own.rumor(with_profile=True), now)

    # -- what it knows ----------------------------------------------------------------------------------------

    @property
    def members(self) -> Mapping[str, Member]:
        """All members by name, this node included; a live, read-only view."""
        return MappingProxyType(self._members.all)

    @property
    def health(self) -> int:
        """This node's local health score: 0 is well."""
        return self._health.score

    def peer_of(self, name: str) -> str | None:
        """Return the address at which other nodes reach a member, or None when that is not known."""
        member = self._members.all.get(name)
        return member.profile.peer if member is not None and member.profile is not None else None

    def accusers(self, name: str) -> tuple[str, ...]:
        """Return who found a member silent by a probe of its own, and is not refuted yet; the first known first."""
        suspicion = self._suspicions.get(name)
        return suspicion.accusers if suspicion is not None else ()

    # -- the verbs --------------------------------------------------------------------------------------------

    def adopt(self, members: Iterable[tuple[str, int, Profile]], now: float) -> list[Fact]:
        """Take (name, incarnation, profile) of every node from the cluster's table. It is not told on: all have it."""
        for name, incarnation, profile in members:
            if name == self.name or incarnation < self._tabled.get(name, 0):
                continue
            self._tabled[name] = incarnation
            known = self._members.all.get(name)
            if known is None or known.incarnation != incarnation:
                self._believe(Rumor(name, incarnation, 0, _ALIVE, "", 0, profile), known, now, is_told_on=False)
            elif known.profile != profile:
                self._put(known._replace(profile=profile), now)
        return self._take_facts()

    def receive(self, message: PeerMessage, now: float) -> list[Fact]:
        """Take a message of one of the kinds from `Ping` to `View`, for this life of this node."""
        sender = self._members.all.get(message.sender)
        if message.sender == self.name or (sender is not None and 0 < message.source < sender.incarnation):
            self.counters["messages of an older life"] += 1
            return []
        self._receivers[type(message)](message, now)
        return self._take_facts()

    def tick(self, now: float) -> list[Fact]:
        """Do what is due."""
        late_s = now - self.next_deadline()
        if late_s < 0:
            return []
        if late_s > self._parameters.probe_timeout_s:
            self.on_lag(late_s, now)
        failed = self._prober.tick(now)
        if failed is not None:
            self.counters["failed probes"] += 1
            name, incarnation = failed
            if self._members.all[name].incarnation == incarnation:
                self._accuse(name, now)
        if now >= self._suspicions_at:
            self._press_suspicions(now)
        if now >= self._dead_call_at:
            self._call_a_dead_member(now)
        if now >= self._exchange_at:
            self._begin_exchange(now)
        self._watch_health(now)
        if now >= self._gossip_at:
            self._gossip(now)
        return self._take_facts()

    def next_deadline(self) -> float:
        """Return when `tick` has something to do: inf if never."""
        prober = self._prober
        return min(
            prober.probe_at,
            prober.timeout_at,
            prober.relays_at,
            self._suspicions_at,
            self._gossip_at,
            self._exchange_at,
            self._dead_call_at,
            self._health_news_at,
        )

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (member, message) for all that is to be sent, and forget it."""
        return self._mail.drain()

    def on_refused(self, name: str, now: float) -> list[Fact]:
        """Nobody listens at a member's address any more, so its process is gone: suspect it without waiting."""
        member = self._members.all.get(name)
        if member is not None and name != self.name:
            self._prober.abandon(name)
            self._accuse(name, now)
        return self._take_facts()

    def on_lag(self, seconds: float, now: float) -> None:
        """Our own loop did not run for the last `seconds`, which is worth telling from about a probe timeout up.

        A lag that a tick has noticed already is not counted twice.
        """
        if now - self._lag_noticed_at < seconds:
            return
        self._lag_noticed_at = now
        self.counters["lags"] += 1
        self._health.worsen()
        self._prober.postpone(seconds, now)
        for suspicion in self._suspicions.values():
            suspicion.postpone(seconds)
        self._schedule_suspicions()
        self._watch_health(now)

    # -- messages ---------------------------------------------------------------------------------------------

    def _on_ping(self, message: Ping, now: float) -> None:
        is_doubted = self._hear_all(message.rumors, now)
        if message.target == self.name:
            self._mail.ack(message.sender, message.number, with_own=is_doubted)

    def _on_ping_request(self, message: PingRequest, now: float) -> None:
        self._hear_all(message.rumors, now)
        if message.target != self.name:
            self._prober.on_ping_request(message.sender, message.number, message.target, now)

    def _on_ack(self, message: Ack, now: float) -> None:
        self._hear_all(message.rumors, now)
        self._prober.on_ack(message.sender, message.number)
        self._watch_health(now)

    def _on_nack(self, message: Nack, _: float) -> None:
        self._prober.on_nack(message.sender, message.number)

    def _on_gossip(self, message: Gossip, now: float) -> None:
        if self._hear_all(message.rumors, now):
            self._mail.gossip(message.sender, with_own=True)

    def _on_view_digest(self, message: ViewDigest, now: float) -> None:
        if message.digest != self._members.digest():
            self.counters["views that differed"] += 1
            self._send_view(message.sender, self._members.all.values(), now, is_answer=False)

    def _on_view(self, message: View, now: float) -> None:
        if not message.is_answer:
            theirs = {rumor[0]: rumor for rumor in message.rumors}
            lacking = [member for name, member in self._members.all.items() if _knows_more(member, theirs.get(name))]
            if lacking:
                self._send_view(message.sender, lacking, now, is_answer=True)
        self._hear_all(message.rumors, now)

    def _send_view(self, receiver: str, members: Iterable[Member], now: float, *, is_answer: bool) -> None:
        """Send a member what it lacks, but not too often: a view is long, and asking for one is not."""
        if receiver in self._members.all and now >= self._viewed_at.get(receiver, -inf) + _VIEW_EVERY_S:
            self._viewed_at[receiver] = now
            self._mail.view(receiver, self._told(members), is_answer=is_answer)

    def _told(self, members: Iterable[Member]) -> tuple[Rumor, ...]:
        """Return what to tell of members in a view: with profiles, and one accuser."""
        return tuple(member.rumor("".join(self.accusers(member.name)[:1]), with_profile=True) for member in members)

    # -- rumors -----------------------------------------------------------------------------------------------

    def _hear_all(self, trees: tuple[tuple[Any, ...], ...], now: float) -> bool:
        """Take rumors from the wire; return whether their teller does not know what we say of ourselves."""
        is_doubted = False
        known_by_name = self._members.all
        for tree in trees:
            known = known_by_name.get(tree[0])
            if tree[0] == self.name and tree[3] != _ALIVE:
                is_doubted = True
            if known is not None and known.profile is not None:  # most rumors are known already: they must cost little
                told, held = tree[1:4], known[1:4]
                if told < held or (told == held and known.state is not _SUSPECT):
                    continue
            rumor = read_rumor(tree)
            if rumor is None:
                self.counters["malformed rumors"] += 1
            else:
                self._hear(rumor, now)
        return is_doubted

    def _hear(self, rumor: Rumor, now: float) -> None:
        if rumor.name == self.name:
            self._hear_of_myself(rumor, now)
            return
        known = self._members.all.get(rumor.name)
        if rumor.incarnation > self._tabled.get(rumor.name, rumor.incarnation):
            self.counters["lives that are not in the table"] += 1
        elif known is not None and self._is_beyond(rumor, known):
            self.counters["refutations that nobody made"] += 1
        elif known is None and rumor.name not in self._tabled and not self._has_room_for_hearsay():
            self.counters["members beyond the limit"] += 1
        elif known is None or rumor[1:4] > known[1:4]:
            self._believe(rumor, known, now, is_told_on=True)
        elif rumor.incarnation == known.incarnation:
            if known.profile is None and rumor.profile is not None:
                self._put(known._replace(profile=rumor.profile), now)
            if rumor[1:4] == known[1:4] and rumor.state is _SUSPECT:
                self._confirm(rumor, now)

    def _is_beyond(self, rumor: Rumor, known: Member) -> bool:
        """Say whether a member would have had to refute more often than anybody can since it was last heard of."""
        return rumor.incarnation == known.incarnation and rumor.refutation > known.refutation + _REFUTATION_STEP_MAX

    def _has_room_for_hearsay(self) -> bool:
        hearsay = len(self._members.all) - 1 - len(self._tabled)
        return hearsay < limits.HEARSAY_MAX

    def _believe(self, rumor: Rumor, known: Member | None, now: float, *, is_told_on: bool) -> None:
        """Take a rumor that is higher than what was known."""
        name, incarnation, refutation, state, accuser, health, profile = rumor
        is_new_life = known is None or known.incarnation != incarnation
        if known is not None and known.profile is not None and not is_new_life:
            profile = known.profile  # what is fixed for a life
        self._put(Member(name, incarnation, refutation, state, health, profile), now)
        self._suspicions.pop(name, None)
        if state is _SUSPECT:
            self._suspicions[name] = Suspicion(accuser, self._terms(), now, is_own=accuser == self.name)
        self._schedule_suspicions()
        if is_told_on:
            is_news = is_new_life or (known is not None and known.profile is None)
            self._spread(rumor if is_news else rumor._replace(profile=None), now)
        if is_new_life:
            self._facts.append(MemberJoined(name, incarnation))
        elif known is not None and (known.state is _DEAD or (known.state is _SUSPECT and state is _ALIVE)):
            self._facts.append(MemberAlive(name, incarnation))
        if state is _SUSPECT:
            self._facts.append(MemberSuspected(name, incarnation))
        elif state is _DEAD:
            self._facts.append(MemberDead(name, incarnation))

    def _confirm(self, rumor: Rumor, now: float) -> None:
        """Count one more accuser of a member that is suspected."""
        if self._suspicions[rumor.name].confirm(rumor.accuser, now, is_own=rumor.accuser == self.name):
            self._schedule_suspicions()
            self._spread(rumor, now)
            self._facts.append(MemberSuspected(rumor.name, rumor.incarnation))

    def _hear_of_myself(self, rumor: Rumor, now: float) -> None:
        own = self._members.own
        if rumor.incarnation > self._rumored_life:
            self._rumored_life = rumor.incarnation
            self._facts.append(LaterLifeRumored(rumor.incarnation))
        elif self._is_beyond(rumor, own):
            self.counters["refutations that nobody made"] += 1
        elif rumor[1:4] > own[1:4] and rumor.incarnation == own.incarnation:
            self.counters["refutations"] += 1
            if rumor.state is not _ALIVE:
                self._health.worsen()
            self._speak_up(rumor.refutation + 1, now)

    def _speak_up(self, refutation: int, now: float) -> None:
        """State that we are alive, and how well we are."""
        refutation = min(refutation, REFUTATION_MAX)
        self._stated_health_at = now
        self._health_news_at = inf
        self._members.put(self._members.own._replace(refutation=refutation, health=self._health.score))
        self._spread(self._members.own.rumor(with_profile=False), now)

    def _put(self, member: Member, now: float) -> None:
        """Change the view, and start or stop what depends on there being others."""
        self._members.put(member)
        if self._members.reachable:
            self._prober.begin(self._dice, now)
            if self._exchange_at == inf:
                self._exchange_at = now + self._dice.random() * self._parameters.probe_interval_s
            self._schedule_gossip(now)
        if self._dead_call_at == inf and self._members.dead:
            self._dead_call_at = now + self._parameters.dead_call_interval_s

    # -- suspicion --------------------------------------------------------------------------------------------

    def _accuse(self, name: str, now: float) -> None:
        """Say that a member does not answer us: to itself first."""
        member = self._members.all[name]
        if member.refutation >= REFUTATION_MAX:
            return  # it could not answer: whether it lives is seen by its heartbeats only
        if member.state is _DEAD or self.name in self.accusers(name):
            return
        rumor = member.rumor(self.name, with_profile=False)._replace(state=_SUSPECT)
        self._hear(rumor, now)
        self._mail.ping(name, UNAWAITED)

    def _terms(self) -> Terms:
        parameters = self._parameters
        size = len(self._members.reachable) + 1
        least_s = parameters.suspicion_least_s(size)
        return Terms(
            least_s,
            least_s * parameters.suspicion_stretch,
            max(0, min(parameters.confirmations, size - 2)),
            parameters.last_calls,
            parameters.hearsay_calls,
            parameters.probe_interval_s,
        )

    def _press_suspicions(self, now: float) -> None:
        """Call the members whose time is running out, and give up those whose time is over."""
        for name, suspicion in list(self._suspicions.items()):
            if suspicion.due_at > now:
                continue
            if suspicion.is_over(now):
                self._hear(self._members.all[name].rumor(self.name, with_profile=False)._replace(state=_DEAD), now)
            else:
                suspicion.on_called(now)
                self._mail.ping(name, UNAWAITED)
        self._schedule_suspicions()

    def _schedule_suspicions(self) -> None:
        self._suspicions_at = min((suspicion.due_at for suspicion in self._suspicions.values()), default=inf)

    # -- what is done now and then ----------------------------------------------------------------------------

    def _spread(self, rumor: Rumor, now: float) -> None:
        self._mail.news.add(rumor)
        self._schedule_gossip(now)

    def _schedule_gossip(self, now: float) -> None:
        if self._gossip_at == inf and self._mail.news and self._members.reachable:
            self._gossip_at = max(now, self._gossiped_at + self._parameters.gossip_interval_s)

    def _gossip(self, now: float) -> None:
        self._gossiped_at = now
        self._gossip_at = inf
        if self._mail.news:
            for name in self._members.some(self._parameters.gossip_fanout):
                self._mail.gossip(name)
        self._schedule_gossip(now)

    def _begin_exchange(self, now: float) -> None:
        """Compare views with one member. The times are spread, so that a cluster that started at once does not beat."""
        self._exchange_at = inf
        for name in self._members.some(1):
            self._mail.view_digest(name)
            self._exchange_at = now + self._parameters.exchange_interval_s * (0.75 + self._dice.random() / 2)

    def _call_a_dead_member(self, now: float) -> None:
        self._dead_call_at = inf
        if self._members.dead:
            self._mail.ping(self._members.some_dead(), UNAWAITED)
            self._dead_call_at = now + self._parameters.dead_call_interval_s

    def _watch_health(self, now: float) -> None:
        """State our health when we have become unwell, or well again, but not too often."""
        if bool(self._health.score) is bool(self._members.own.health):
            self._health_news_at = inf
        elif now >= self._stated_health_at + self._parameters.health_news_interval_s:
            self._speak_up(self._members.own.refutation + 1, now)
        else:
            self._health_news_at = self._stated_health_at + self._parameters.health_news_interval_s

    def _take_facts(self) -> list[Fact]:
        if not self._facts:
            return []
        facts, self._facts = self._facts, []
        return facts


def _knows_more(member: Member, told: tuple[Any, ...] | None) -> bool:
    """Say whether whoever told `told` of a member would learn from us."""
    return told is None or member[1:4] > told[1:4] or (member.profile is not None and told[6] is None)
