"""What membership tells the node: the facts that its calls return."""

from typing import NamedTuple, TypeAlias


class MemberJoined(NamedTuple):
    """There is a member, or a new life of one, that was not known before. It is alive unless the next fact tells."""

    name: str
    incarnation: int


class MemberAlive(NamedTuple):
    """A member that was suspected or dead has spoken up."""

    name: str
    incarnation: int


class MemberSuspected(NamedTuple):
    """A member is silent: told at the first accuser, and again at each further one (`Membership.accusers`)."""

    name: str
    incarnation: int


class MemberDead(NamedTuple):
    """A member has not spoken up in time. It stays in the view, and may still do so."""

    name: str
    incarnation: int


class LaterLifeRumored(NamedTuple):
    """Somebody says that there is a later life of this node, `incarnation`. Whether there is, only the table says.

    It is told when a higher incarnation is heard than ever before.
    """

    incarnation: int


Fact: TypeAlias = MemberJoined | MemberAlive | MemberSuspected | MemberDead | LaterLifeRumored
