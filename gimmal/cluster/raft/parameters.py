"""The knobs of Raft. Each says what it is and which way it hurts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RaftParameters:
    """How patient a group is, and how much it sends at once.

    - `heartbeat_s`: how often a leader says that it is there. Shorter costs messages at rest; it has to go a few times
      into `election_timeout_s`, or one lost message starts an election.
    - `election_timeout_s`: how long a voter trusts a leader that it does not hear, and a leader that it still leads
      when it does not hear a quorum. A voter campaigns after one to two times this. Longer: a dead leader is missed
      later. Shorter: pauses of healthy nodes cost elections.
    - `entries_per_append_max`, `append_bytes_max`: one message to a follower; a single entry may be larger.
    - `in_flight_max`: messages with entries that a follower may be behind with. More memory, fewer stalls.
    - `entries_kept`: entries that stay behind a snapshot: a follower that lags by no more needs no snapshot.
    """

    heartbeat_s: float = 0.15
    election_timeout_s: float = 0.75
    entries_per_append_max: int = 64
    append_bytes_max: int = 128 * 1024
    in_flight_max: int = 16
    entries_kept: int = 64
