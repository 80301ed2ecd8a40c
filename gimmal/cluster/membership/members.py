"""The view: what a node believes of every member, itself included, and in which order it probes the others.

Members are probed in turn, in an order that is shuffled anew after each round; a newcomer gets a random place in it.
So the time until somebody probes a given member is bounded, which a random choice each time would not be (SWIM,
section 4.3).

Invariant: `reachable` holds exactly the other members that are not dead and whose address is known, and `dead` those
that are dead; nobody leaves the view, because the cluster's table decides who is a member.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from gimmal.cluster.membership.rumor import Profile, Rumor, State

if TYPE_CHECKING:
    from random import Random


class Member(NamedTuple):
    """What a node believes of one member; the first four fields are as in a `Rumor`, and decide which is believed.

    `health` is the score that the member last stated of itself (0: well). `profile` is None until it has been heard.
    """

    name: str
    incarnation: int
    refutation: int
    state: State
    health: int
    profile: Profile | None

    @property
    def is_reachable(self) -> bool:
        """Whether there is any use in sending it something."""
        return self.profile is not None and self.state is not State.DEAD

    def rumor(self, accuser: str = "", *, with_profile: bool) -> Rumor:
        """Return what to tell others of the member."""
        name, incarnation, refutation, state, health, profile = self
        return Rumor(name, incarnation, refutation, state, accuser, health, profile if with_profile else None)


class Members:
    """The view of the node `own.name`."""

    __slots__ = ("_by_name", "_cursor", "_dice", "_digest", "_own_name", "all", "dead", "reachable")

    def __init__(self, own: Member, dice: "Random") -> None:
        self._own_name = own.name
        self._dice = dice
        self._by_name = {own.name: own}
        self.all: Mapping[str, Member] = self._by_name
        self.reachable: list[str] = []
        self.dead: list[str] = []
        self._cursor = 0
        self._digest: bytes | None = None

    @property
    def own(self) -> Member:
        """What the node says of itself."""
        return self._by_name[self._own_name]

    def put(self, member: Member) -> None:
        """Believe this of a member from now on."""
        before = self._by_name.get(member.name)
        self._by_name[member.name] = member
        self._digest = None
        if member.name == self._own_name:
            return
        is_dead = member.state is State.DEAD
        if is_dead is not (before is not None and before.state is State.DEAD):
            (self.dead.append if is_dead else self.dead.remove)(member.name)
        is_reachable = member.is_reachable
        if is_reachable is not (before is not None and before.is_reachable):
            (self._enter if is_reachable else self._leave)(member.name)

    def next_to_probe(self) -> str | None:
        """Return whose turn it is to be probed, or None when there is nobody."""
        if self._cursor >= len(self.reachable):
            self._dice.shuffle(self.reachable)
            self._cursor = 0
            if not self.reachable:
                return None
        self._cursor += 1
        return self.reachable[self._cursor - 1]

    def some(self, count: int, without: str = "") -> list[str]:
        """Return up to `count` reachable members, chosen by chance."""
        names = self._dice.sample(self.reachable, min(count + 1, len(self.reachable)))
        if without in names:
            names.remove(without)
        return names[:count]

    def some_dead(self) -> str:
        """Return one of the dead, chosen by chance; there must be one."""
        return self._dice.choice(self.dead)

    def digest(self) -> bytes:
        """Return 8 bytes that are the same for all who believe the same."""
        if self._digest is None:
            hasher = blake2b(digest_size=8)
            for name in sorted(self._by_name):
                _, incarnation, refutation, state, _, profile = self._by_name[name]
                is_known = profile is not None
                hasher.update(f"{len(name)}:{name},{incarnation},{refutation},{state:d},{is_known:d};".encode())
            self._digest = hasher.digest()
        return self._digest

    def _enter(self, name: str) -> None:
        place = self._dice.randint(0, len(self.reachable))
        self.reachable.insert(place, name)
        if place < self._cursor:
            self._cursor += 1

    def _leave(self, name: str) -> None:
        place = self.reachable.index(name)
        del self.reachable[place]
        if place < self._cursor:
            self._cursor -= 1
