"""One attempt of a voter to become leader: a trial, or the election itself.

A trial (PreVote; Ongaro's thesis, section 9.6) asks who would vote for this node in the next term, and changes nothing
anywhere: a node that cannot win never raises the term, so it disturbs nobody when it comes back.
"""

from gimmal.cluster.raft.configuration import Configuration
from gimmal.cluster.raft.quorum import tally


class Campaign:
    """The votes for one candidate in `term`; those of nodes that do not vote are kept and do not count."""

    def __init__(self, term: int, *, is_trial: bool) -> None:
        self.term = term
        self.is_trial = is_trial
        self._votes: dict[str, bool] = {}

    def take(self, voter: str, *, is_granted: bool) -> None:
        """Take a vote. A voter's first word counts: it votes once in a term."""
        self._votes.setdefault(voter, is_granted)

    def verdict(self, configuration: Configuration) -> bool | None:
        """Return True when it is won, False when it cannot be won any more, None while it is open."""
        return tally(self._votes, configuration.voters)
