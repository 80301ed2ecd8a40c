"""Who votes and who only learns, and how that may change.

A configuration is an entry of the log and is in force from the moment it is appended: the newest one in a node's log
counts, committed or not (`gimmal.cluster.raft.log` finds it, also after a truncation). That is safe because any two
configurations that follow each other differ in at most one voter, so a majority of the one and a majority of the
other always share a voter (Ongaro's thesis, section 4.1).

Learners get the log and count nowhere, so they may change freely.
"""

from typing import Any, Final, NamedTuple

from gimmal.wire import checks, limits


class Configuration(NamedTuple):
    """The voters of the group and its learners, by voter id; nobody is both."""

    voters: tuple[str, ...]
    learners: tuple[str, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """Everybody who gets the log."""
        return (*self.voters, *self.learners)


NOBODY: Final = Configuration((), ())
"""What a node knows before it has heard of the group: it never campaigns."""


def read_configuration(tree: Any) -> Configuration:
    """Return the configuration that a tree from the wire or a journal holds; raises ValueError or TypeError if none."""
    voters, learners = tree
    names = (*voters, *learners)
    if len(names) > limits.VOTERS_MAX:
        raise ValueError(f"a configuration has at most {limits.VOTERS_MAX} members")
    if not all(checks.is_name(name) and name for name in names) or len(dict.fromkeys(names)) != len(names):
        raise ValueError("a configuration names each of its members once")
    return Configuration(tuple(voters), tuple(learners))


def is_single_change(before: Configuration, after: Configuration) -> bool:
    """Say whether a step from one configuration to another is one, and safe: one voter is added or removed at most.

    A learner that becomes a voter is one change; learners may come and go. Somebody has to vote.
    """
    added = [voter for voter in after.voters if voter not in before.voters]
    removed = [voter for voter in before.voters if voter not in after.voters]
    return after != before and len(added) + len(removed) <= 1 and bool(after.voters)
