"""Who is there: SWIM with Lifeguard, as a machine without I/O. `machine` says how it works, `parameters` how fast.

`rumor` (what wins), `suspicion`, `health`, `dissemination` and `members` are its parts, each pure; `prober` and `mail`
ask and tell; `facts` are what it reports.
"""

from gimmal.cluster.membership.facts import (
    Fact,
    LaterLifeRumored,
    MemberAlive,
    MemberDead,
    MemberJoined,
    MemberSuspected,
)
from gimmal.cluster.membership.machine import Membership
from gimmal.cluster.membership.members import Member
from gimmal.cluster.membership.parameters import MembershipParameters
from gimmal.cluster.membership.rumor import Profile, Rumor, State

__all__ = [
    "Fact",
    "LaterLifeRumored",
    "Member",
    "MemberAlive",
    "MemberDead",
    "MemberJoined",
    "MemberSuspected",
    "Membership",
    "MembershipParameters",
    "Profile",
    "Rumor",
    "State",
]
