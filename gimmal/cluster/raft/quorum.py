"""What a majority of the voters has reached or said: pure functions, the hardest lines of Raft.

More than half of the voters is a quorum: two quorums always share a voter, and everything rests on that one.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Value = TypeVar("Value", int, float)


def quorum_size(voter_count: int) -> int:
    """Return how many of so many voters are more than half."""
    return voter_count // 2 + 1


def reached_by_quorum(values: Sequence[Value]) -> Value:
    """Return the highest value that a quorum has reached, from one value for each voter.

    Of match indexes this is what may be committed, of rounds what is confirmed, of times when a quorum was last heard.
    """
    assert values, "a group without voters decides nothing"
    return sorted(values, reverse=True)[quorum_size(len(values)) - 1]


def tally(votes: Mapping[str, bool], voters: Sequence[str]) -> bool | None:
    """Return True when a quorum said yes, False when it no longer can, None while it is open.

    Votes of others than the voters do not count.
    """
    granted = sum(votes.get(voter, False) for voter in voters)
    refused = sum(not votes.get(voter, True) for voter in voters)
    needed = quorum_size(len(voters))
    if granted >= needed:
        return True
    return False if len(voters) - refused < needed else None


def is_up_to_date(last_term: int, last_index: int, own_last_term: int, own_last_index: int) -> bool:
    """Say whether a log that ends with (`last_term`, `last_index`) has at least what one's own has.

    A log that ends in a later term is the newer one; in the same term, the longer one (Raft, section 5.4.1).
    """
    return (last_term, last_index) >= (own_last_term, own_last_index)
