"""How nodes that belong to no cluster become one, and how one of them finds a cluster that exists.

Every newcomer says Hello to its seeds, and to whoever has said Hello to it, until it belongs somewhere. Whoever belongs
to a cluster answers with Belonging, and the newcomer turns to joining that cluster. A newcomer that was told to found
one, with `expect` nodes, does so when it knows that many newcomers, itself included:

    Lock -> Locked, from every one of them: each promises itself to this founding alone
    then the founder plans the whole table over them, and sends the state it begins with as Genesis

Rules that make it one cluster:

- A promise binds until its founder releases it, or is gone: replaced by a new process, or nobody listens at its address
  for `_LOCK_LASTS_S`. Silence alone does not end it: the founder may be cut off, and lead a cluster with those whom it
  reached. A promise is repeated, and a founder that is reminded of a founding it has given up releases it again. Nobody
  promises itself to two founders, and a founder is promised to itself.
- A founding happens only with the promises of all its nodes, made by the very processes it counted (by their uuid), and
  within `_ATTEMPT_LASTS_S`: a founder that hung for longer begins anew, since nobody may remember it.
- Of several founders, those who hear of one with a smaller name leave it to that one: they release what was promised to
  them for a founding that will now never be, and only then promise themselves.
- A Genesis names the processes it is for. It counts for them unless they are bound by another promise meanwhile; who
  has it passes it on (`reception`), so a founder may die as soon as one node of its founding has heard of it.
- A node that finds a cluster joins it, whatever it was told to found; while it is bound by a promise it says so to its
  founder instead, which then gives up. Once its founder belongs to a cluster itself, it waits for no other founding.

What it does not do: it cannot know of newcomers that nobody names, and promises are not on the disk. `expect` is best
the number of nodes that are started: then there is one cluster, whatever happens. It must be more than half of them,
else two founders that cannot hear each other may both find enough. And if it is less than their number, one thing more
is left to chance: a founder that leads a cluster with just enough others and is cut off, while so many of the rest are
started anew that they are `expect` again (docs/decisions/0008).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from gimmal.cluster.meta.commands import Registration, addresses_of
from gimmal.cluster.reception import introduced
from gimmal.wire.peer_messages import BLANK, Belonging, Genesis, Hello, Lock, Locked, PeerMessage, Release

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_HELLO_EVERY_S: Final = 0.3
_FRESH_S: Final = 3.0
_FORGET_AFTER_S: Final = 15.0
_NEWCOMERS_MAX: Final = 1_024
_ATTEMPT_LASTS_S: Final = 2.0
_LOCK_EVERY_S: Final = 0.3
_LOCK_LASTS_S: Final = 60.0
"""How long a founder is waited for whose address refuses connections. Others may have a Genesis of it."""
_LOOK_FOR_SEEDS_S: Final = 2.0
_NEVER: Final = float("inf")


class Ready(NamedTuple):
    """Every node of founding `founding` has promised itself: found the cluster of these nodes, the founder first."""

    founding: bytes
    members: tuple[Registration, ...]


class Born(NamedTuple):
    """A founding is done that this node is free to belong to; the message says whom it is for and how it begins."""

    genesis: Genesis


class ClusterFound(NamedTuple):
    """There is a cluster already: its id, and peer addresses of members (the first may lead it)."""

    cluster: bytes
    peers: tuple[str, ...]


class Conflict(NamedTuple):
    """Two newcomers claim the same name or address, and cannot be in one cluster; `text` is for people."""

    text: str


Fact: TypeAlias = Ready | Born | ClusterFound | Conflict


@dataclass(slots=True)
class _Newcomer:
    registration: Registration
    addresses: frozenset[tuple[str, str]]
    expect: int
    seen_at: float


@dataclass(slots=True)
class _Promise:
    """To whom this node has promised itself, for which of its foundings, and when its address refused a connection."""

    founder: Registration
    foundings: set[bytes]
    refused_at: float = -_NEVER


@dataclass(slots=True)
class _Attempt:
    """A founding of this node's own, while promises come in."""

    founding: bytes
    members: dict[str, Registration]
    give_up_at: float
    lock_at: float
    locked: set[str] = field(default_factory=set)
    is_complete: bool = False


class Founding:
    """A newcomer. `seeds` are peer addresses; `expect` is 0 for a node that never founds."""

    def __init__(self, me: Registration, seeds: "Sequence[str]", expect: int, dice: "Random", now: float) -> None:
        self._me = me
        self._seeds = tuple(address for address in seeds if address != me.peer)
        self._expect = expect
        self._dice = dice
        self._others: dict[str, _Newcomer] = {}
        self._promise: _Promise | None = None
        self._attempt: _Attempt | None = None
        self._conflicts: dict[str, tuple[str, float]] = {}  # by name: what is wrong, and when that was seen last
        self._unanswered = dict.fromkeys(self._seeds)
        self._found_at = now + _LOOK_FOR_SEEDS_S
        self._hello_at = now
        self._now = now
        self._outbox: list[tuple[str, PeerMessage]] = []

    def why(self) -> str:
        """Return what this node waits for, for people."""
        conflicts = [text for text, seen_at in self._conflicts.values() if self._now - seen_at < _FRESH_S]
        if conflicts:
            return conflicts[-1]
        if self._attempt is not None:
            missing = len(self._attempt.members) - 1 - len(self._attempt.locked)
            return f"waiting for the promise of {missing} more nodes"
        if self._promise is not None:
            return self._why_bound(self._promise)
        if not self._expect:
            return "waiting for a cluster, or for a node that founds one"
        missing = self._expect - 1 - len(self._fresh())
        if missing > 0:
            return f"waiting for {missing} more node{'s' if missing > 1 else ''} (--expect {self._expect})"
        return "asking the other nodes"

    def _why_bound(self, promise: _Promise) -> str:
        name = promise.founder.name
        founder = self._others.get(name)
        silent_s = self._now - founder.seen_at if founder is not None else 0.0
        if silent_s <= _FRESH_S:
            return f"waiting for node {name} to found the cluster"
        return (
            f"node {name} counts on this one for the cluster that it founds, and has been silent for {silent_s:.0f} s. "
            f"Once it is heard again, or started anew, this goes on; if it is lost for good, start this node anew"
        )

    # -- in -------------------------------------------------------------------------------------------------------

    def receive(self, message: PeerMessage, now: float) -> list[Fact]:
        """Take a message of another newcomer, or of a node that belongs to a cluster.

        Raises:
            RemoteProtocolError: a node introduces itself as something that is none.
        """
        self._now = now
        if isinstance(message, Hello):
            if not message.cluster:  # else it is no newcomer, and looks for its own cluster
                return self._on_hello(message)
        elif isinstance(message, Belonging):
            return self._on_belonging(message)
        elif isinstance(message, Lock):
            self._on_lock(message)
        elif isinstance(message, Locked):
            return self._on_locked(message)
        elif isinstance(message, Release):
            self._on_release(message)
        elif isinstance(message, Genesis) and (self._promise is None or self._is_promised(message.founding)):
            return [Born(message)]
        return []

    def _on_hello(self, message: Hello) -> list[Fact]:
        other = introduced(message)
        if other.uuid == self._me.uuid:
            return []  # one of our seeds is ourselves
        self._unanswered.pop(other.peer, None)
        addresses = addresses_of(other)
        conflict = self._conflict_with(other, addresses)
        if not message.is_answer:
            self._outbox.append((other.peer, self._hello(is_answer=True, trouble=self._trouble_with(other.name))))
        if message.trouble:
            self._note_conflict(self._me.name, message.trouble)
        if conflict:
            return [Conflict(conflict)]
        known = self._others.get(other.name)
        if known is not None and known.registration.uuid != other.uuid:
            self._on_replaced(known.registration)
        if known is not None or len(self._others) < _NEWCOMERS_MAX:
            self._others[other.name] = _Newcomer(other, addresses, message.expect, self._now)
        return [Conflict(message.trouble)] if message.trouble else []

    def _conflict_with(self, other: Registration, addresses: frozenset[tuple[str, str]]) -> str:
        """Return why another newcomer cannot be counted: it claims what is somebody else's. Both will be told."""
        me = _Newcomer(self._me, addresses_of(self._me), self._expect, self._now)
        for newcomer in (me, *self._fresh()):
            node = newcomer.registration
            if node.uuid == other.uuid:
                continue
            text = ""
            if node.name == other.name:
                who = "this node" if node is self._me else f"the node at {node.peer}"
                text = f"{who} and the one at {other.peer} are both called {node.name!r}: give one another name"
            elif not newcomer.addresses.isdisjoint(addresses):
                kind, address = min(newcomer.addresses & addresses)
                text = f"nodes {node.name!r} and {other.name!r} both have the {kind} address {address}"
            if text:
                self._note_conflict(node.name, text)
                self._note_conflict(other.name, text)
                return text
        return ""

    def _note_conflict(self, name: str, text: str) -> None:
        self._conflicts.pop(name, None)
        if len(self._conflicts) < _NEWCOMERS_MAX:
            self._conflicts[name] = text, self._now

    def _trouble_with(self, name: str) -> str:
        text, seen_at = self._conflicts.get(name, ("", 0.0))
        return text if self._now - seen_at < _FRESH_S else ""

    def _on_replaced(self, gone: Registration) -> None:
        """Forget what a process had to do with that has made way for another of its name."""
        if self._promise is not None and self._promise.founder.uuid == gone.uuid:
            self._promise = None
        if self._attempt is not None and gone in self._attempt.members.values():
            self._give_up()

    def _on_belonging(self, message: Belonging) -> list[Fact]:
        if not message.cluster:
            return []
        promise = self._promise
        if promise is not None and promise.founder.name != message.sender and not self._is_promised(message.cluster):
            news = Belonging(message.cluster, *BLANK[1:], message.leader, message.peers)
            self._outbox.append((promise.founder.peer, news))
            return []
        self._give_up()
        peers = tuple(dict.fromkeys(address for address in (message.leader, *message.peers) if address))
        return [ClusterFound(message.cluster, peers)]

    def _on_lock(self, message: Lock) -> None:
        founder = self._others.get(message.sender)
        if founder is None or founder.registration.uuid != message.uuid:
            return
        founder.seen_at = self._now
        if self._attempt is not None:
            if founder.registration.name > self._me.name:
                return  # it will hear of us and yield
            self._give_up()
        if self._promise is None or self._promise.founder.uuid != founder.registration.uuid:
            if self._promise is not None:
                return
            self._promise = _Promise(founder.registration, set())
        self._promise.foundings.add(message.founding)
        self._outbox.append((founder.registration.peer, Locked(*BLANK, message.founding, self._me.uuid)))

    def _on_release(self, message: Release) -> None:
        if self._is_promised(message.founding):
            assert self._promise is not None
            self._promise.foundings.discard(message.founding)
            if not self._promise.foundings:
                self._promise = None

    def _is_promised(self, founding: bytes) -> bool:
        return self._promise is not None and founding in self._promise.foundings

    def _on_locked(self, message: Locked) -> list[Fact]:
        if self._attempt is not None and self._attempt.give_up_at <= self._now and not self._attempt.is_complete:
            self._give_up()  # this process hung: what was promised to it may have been forgotten meanwhile
        attempt = self._attempt
        if attempt is None or message.founding != attempt.founding:
            sender = self._others.get(message.sender)
            if sender is not None:  # our Release was lost, or went to another process
                self._outbox.append((sender.registration.peer, Release(*BLANK, message.founding)))
            return []
        member = attempt.members.get(message.sender)
        if member is None or member.uuid != message.uuid:
            return []
        attempt.locked.add(member.name)
        return self._done_if_complete()

    def _done_if_complete(self) -> list[Fact]:
        attempt = self._attempt
        assert attempt is not None
        if attempt.is_complete or len(attempt.locked) < len(attempt.members) - 1:
            return []
        attempt.is_complete = True
        others = [attempt.members[name] for name in sorted(attempt.members) if name != self._me.name]
        return [Ready(attempt.founding, (self._me, *others))]

    # -- time -----------------------------------------------------------------------------------------------------

    def on_refused(self, address: str, now: float) -> None:
        """Learn that nobody listens at a peer address any more."""
        if self._promise is not None and self._promise.founder.peer == address:
            self._promise.refused_at = now

    def next_deadline(self) -> float:
        """Return when to call `tick` next."""
        attempt = self._attempt
        return self._hello_at if attempt is None else min(self._hello_at, attempt.lock_at, attempt.give_up_at)

    def tick(self, now: float) -> list[Fact]:
        """Do what time asks for."""
        self._now = now
        if self._promise is not None:
            founder = self._others.get(self._promise.founder.name)
            heard_at = founder.seen_at if founder is not None else -_NEVER
            if self._promise.refused_at > heard_at and now - heard_at > _LOCK_LASTS_S:
                self._promise = None
        attempt = self._attempt
        if attempt is not None and attempt.is_complete:
            return []  # this node belongs to a cluster now
        if attempt is not None and attempt.give_up_at <= now:
            self._give_up()
        elif attempt is not None and attempt.lock_at <= now:
            self._send_locks(attempt)
        if self._hello_at <= now:
            self._hello_at = now + self._dice.uniform(0.7, 1.3) * _HELLO_EVERY_S
            self._say_hello()
            if self._promise is not None:
                self._repeat_promise(self._promise)
            return self._begin_if_possible()
        return []

    def _say_hello(self) -> None:
        promised = self._promise.founder.name if self._promise is not None else ""
        self._others = {
            name: newcomer
            for name, newcomer in self._others.items()
            if name == promised or self._now - newcomer.seen_at <= _FORGET_AFTER_S
        }
        addresses = [*self._seeds, *(newcomer.registration.peer for newcomer in self._others.values())]
        hello = self._hello(is_answer=False)
        self._outbox += [(address, hello) for address in dict.fromkeys(addresses)]

    def _repeat_promise(self, promise: _Promise) -> None:
        """Remind the founder: it may have given up, and its Release may be lost."""
        for founding in sorted(promise.foundings):
            self._outbox.append((promise.founder.peer, Locked(*BLANK, founding, self._me.uuid)))

    def _hello(self, *, is_answer: bool, trouble: str = "") -> Hello:
        return Hello(*BLANK, tuple(self._me), self._expect, is_answer, trouble)

    def _begin_if_possible(self) -> list[Fact]:
        fresh = self._fresh()
        if not self._expect or self._attempt is not None or self._promise is not None:
            return []
        if self._unanswered and self._now < self._found_at:
            return []  # one of the seeds may know a cluster
        if any(newcomer.expect and newcomer.registration.name < self._me.name for newcomer in fresh):
            return []
        if not self._has_enough(1 + len(fresh)):
            return []
        members = {node.name: node for node in (self._me, *(newcomer.registration for newcomer in fresh))}
        founding = self._dice.getrandbits(128).to_bytes(16, "big")
        attempt = self._attempt = _Attempt(founding, members, self._now + _ATTEMPT_LASTS_S, self._now)
        self._send_locks(attempt)
        return self._done_if_complete()

    def _has_enough(self, nodes: int) -> bool:
        return nodes >= self._expect

    def _send_locks(self, attempt: _Attempt) -> None:
        attempt.lock_at = self._now + _LOCK_EVERY_S
        for name, member in attempt.members.items():
            if name != self._me.name and name not in attempt.locked:
                self._outbox.append((member.peer, Lock(*BLANK, attempt.founding, self._me.uuid)))

    def _give_up(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            for name, member in attempt.members.items():
                if name != self._me.name:
                    self._outbox.append((member.peer, Release(*BLANK, attempt.founding)))

    def _fresh(self) -> list[_Newcomer]:
        """Return the newcomers heard of late, by name."""
        return [
            self._others[name] for name in sorted(self._others) if self._now - self._others[name].seen_at <= _FRESH_S
        ]

    def drain(self) -> list[tuple[str, PeerMessage]]:
        """Return (peer address, message) pairs to be sent."""
        outbox, self._outbox = self._outbox, []
        return outbox
