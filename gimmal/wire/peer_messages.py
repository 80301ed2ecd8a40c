"""What nodes say to each other. The header is that of all messages, and the sender's name.

A machine that makes such a message leaves the header `BLANK` (those of Raft: `RAFT_BLANK`): who sends it, to which
life of whom and with which table is written in by the node's core, in one place, when the message leaves.

`voter` and `target` of the meta group's messages are identities of voters (`gimmal.cluster.raft`): a node that has
lost its disk is another voter, and what was meant for the one before it is not for it.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gimmal.types import Entry
from gimmal.wire.messages import Message, Wire

BLANK: Final = (b"", 0, 0, 0, "")
"""The header of a message that has not left yet."""

RAFT_BLANK: Final = (*BLANK, "")

Rumor: TypeAlias = tuple[str, int, int, int, str, int, Any]
"""What one node has heard of another: (name, incarnation, refutation, state, accuser, health, profile or None)."""


@dataclass(slots=True)
class PeerMessage(Message):
    """The header between nodes; `sender` is the name of the node that sends."""

    sender: str


# -- who is there: gimmal.cluster.membership ------------------------------------------------------------------


@dataclass(slots=True)
class Ping(PeerMessage):
    """Are you, `target`, there? `rumors` ride along, here and in all of these. Nobody awaits the answer to number 0."""

    number: int
    target: str
    rumors: tuple[Rumor, ...]


@dataclass(slots=True)
class PingRequest(PeerMessage):
    """Ask `target`, which does not answer me, whether it is there."""

    number: int
    target: str
    rumors: tuple[Rumor, ...]


@dataclass(slots=True)
class Ack(PeerMessage):
    """The node that ping or ping request `number` was about is there."""

    number: int
    rumors: tuple[Rumor, ...]


@dataclass(slots=True)
class Nack(PeerMessage):
    """The node that ping request `number` was about has not answered me either, and I am well."""

    number: int


@dataclass(slots=True)
class Gossip(PeerMessage):
    """News, and nothing else."""

    rumors: tuple[Rumor, ...]


@dataclass(slots=True)
class ViewDigest(PeerMessage):
    """A digest of all that the sender knows of the members: 8 bytes. Whoever has another one answers with its view."""

    digest: bytes


@dataclass(slots=True)
class View(PeerMessage):
    """Everything the sender knows of the members; an answer to such a view holds only what its sender did not know."""

    is_answer: bool
    rumors: tuple[Rumor, ...]


# -- who decides: gimmal.cluster.raft -------------------------------------------------------------------------


@dataclass(slots=True)
class RaftMessage(PeerMessage):
    """From one voter or learner of the meta group to another, in a term of the sender's.

    `peer` is where the answer goes: a voter that starts from its journal may not know yet who has joined since.
    """

    peer: str
    voter: str
    target: str
    term: int


@dataclass(slots=True)
class VoteRequest(RaftMessage):
    """Vote for me: my log ends with entry `last_index` of term `last_term`. With `is_trial`: would you (PreVote)?"""

    is_trial: bool
    last_index: int
    last_term: int


@dataclass(slots=True)
class Vote(RaftMessage):
    """The answer to a VoteRequest: a yes carries the term that was asked about, a no the term of who says it."""

    is_trial: bool
    is_granted: bool


@dataclass(slots=True)
class AppendEntries(RaftMessage):
    """Entries behind (`prev_index`, `prev_term`), each (term, kind, payload); none of them: a heartbeat.

    `commit` is the leader's. `round` counts what the leader sends and comes back in the answer.
    """

    prev_index: int
    prev_term: int
    commit: int
    round: int
    entries: tuple[tuple[int, int, Wire], ...]


@dataclass(slots=True)
class AppendReply(RaftMessage):
    """My log is yours up to `index`; or, if not `is_accepted`, up to (`index`, `index_term`) at best: try again there.

    One with a later term than the leader's says that the leader was replaced.
    """

    is_accepted: bool
    index: int
    index_term: int
    round: int


@dataclass(slots=True)
class InstallSnapshot(RaftMessage):
    """The state after entry `index` of term `index_term`, and who votes by then: (voters, learners)."""

    index: int
    index_term: int
    round: int
    configuration: tuple[tuple[str, ...], tuple[str, ...]]
    state: Wire


# -- what the meta group is asked: gimmal.cluster.meta --------------------------------------------------------


@dataclass(slots=True)
class MetaRequest(PeerMessage):
    """Please commit a command (`gimmal.cluster.meta.commands`); `number` comes back in the answer."""

    number: int
    command: tuple[Any, ...]


@dataclass(slots=True)
class MetaReply(PeerMessage):
    """What became of a request: a `gimmal.cluster.meta.commands.Outcome`, a number that goes with it, and a text.

    `leader` is the peer address of the meta group's leader if the sender knows it, else empty.
    """

    number: int
    outcome: int
    value: int
    text: str
    leader: str


@dataclass(slots=True)
class Heartbeat(PeerMessage):
    """I, a member, am there: to the leader of the meta group, which counts."""

    number: int


@dataclass(slots=True)
class HeartbeatReply(PeerMessage):
    """The answer of the leader of the meta group, or of a node that knows it better (`leader` as in MetaReply).

    With `is_granted` it is a lease (`gimmal.cluster.lease`), made under the table that the header names.
    """

    number: int
    leader: str
    is_granted: bool


@dataclass(slots=True)
class Relieve(PeerMessage):
    """From the meta group's leader to one of partitions: it leads more than others, and should hand some over.

    `changes` are as in a HANDOVER (`gimmal.cluster.meta.commands`). It is advice: whoever does not follow it is told
    again.
    """

    changes: tuple[tuple[int, int, int, str], ...]


# -- before there is a cluster: gimmal.cluster.founding -------------------------------------------------------


@dataclass(slots=True)
class Hello(PeerMessage):
    """I belong to no cluster. `profile` says who I am; I found one when `expect` nodes have met (0: I never do).

    An answer may say in `trouble` why its receiver cannot be one of them.
    """

    profile: Wire
    expect: int
    is_answer: bool
    trouble: str


@dataclass(slots=True)
class Belonging(PeerMessage):
    """I belong to the cluster of the header. `leader` is as in MetaReply, `peers` are addresses of some members."""

    leader: str
    peers: tuple[str, ...]


@dataclass(slots=True)
class Lock(PeerMessage):
    """Founding `founding`, by the process `uuid`, wants you: promise to belong to no other until it is given up.

    Both are 16 bytes.
    """

    founding: bytes
    uuid: bytes


@dataclass(slots=True)
class Locked(PeerMessage):
    """I promise: nothing but founding `founding`, and `uuid` is my own."""

    founding: bytes
    uuid: bytes


@dataclass(slots=True)
class Release(PeerMessage):
    """Founding `founding` is given up and will never be: no promise binds you to it."""

    founding: bytes


@dataclass(slots=True)
class Genesis(PeerMessage):
    """Founding `founding` is done; this is who votes, (voters, learners), and the state the meta group begins with."""

    founding: bytes
    configuration: tuple[tuple[str, ...], tuple[str, ...]]
    state: Wire


# -- the table: gimmal.cluster.tracking -----------------------------------------------------------------------


@dataclass(slots=True)
class FetchRows(PeerMessage):
    """Ask for what is new in the table since version `since`, which the sender has (0: everything)."""

    since: int


@dataclass(slots=True)
class Rows(PeerMessage):
    """What is new, as `gimmal.cluster.table` writes it, or None when nothing is."""

    table: Wire


# -- copies of partitions: gimmal.replication -----------------------------------------------------------------


@dataclass(slots=True)
class Append(PeerMessage):
    """From the leader of partitions to a node with copies of them, all that it is due: number `number` to that node.

    `alignments` are (partition, epoch, seq, epoch of that entry): up to there your log is mine, cut it back to there.
    They come before `sections`: (partition, epoch, prev seq, prev epoch, commit, entries behind prev).
    """

    number: int
    alignments: tuple[tuple[int, int, int, int], ...]
    sections: tuple[tuple[int, int, int, int, int, tuple[Entry, ...]], ...]


@dataclass(slots=True)
class AppendAck(PeerMessage):
    """Append `number` is in my logs, but for what it has for the partitions that are `refused`."""

    number: int
    refused: tuple[int, ...]


@dataclass(slots=True)
class Histories(PeerMessage):
    """My logs, (partition, epoch that I follow you in, history): tell me where they part from yours.

    A history is (epoch, sequence number of its last entry) of each epoch in the log.
    """

    histories: tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...]


@dataclass(slots=True)
class SnapshotChunk(PeerMessage):
    """Chunk `index` of the state of a partition after entry `base`, which is of epoch `base_epoch`.

    `now_ms` is the time of the log then, `checksum` the CRC-32 of the packed chunk.
    """

    partition: int
    epoch: int
    base: int
    base_epoch: int
    now_ms: int
    index: int
    is_last: bool
    checksum: int
    chunk: Wire


@dataclass(slots=True)
class SnapshotAck(PeerMessage):
    """I have all chunks of that snapshot before `index`; with `is_complete`, it is my copy now."""

    partition: int
    epoch: int
    base: int
    index: int
    is_complete: bool


@dataclass(slots=True)
class Confirm(PeerMessage):
    """Do you know a later leader of any of these, (partition, epoch)? Number `number`, never used before."""

    number: int
    epochs: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Confirmed(PeerMessage):
    """I know no later one, but for the partitions that are `refused`."""

    number: int
    refused: tuple[int, ...]
