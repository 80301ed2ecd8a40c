"""The kinds of messages: the number of each on the wire, its class, and the checks of its fields.

A number once used is never used for anything else.
"""

from typing import Final

from gimmal.wire import checks, messages, peer_messages
from gimmal.wire.checks import Check
from gimmal.wire.messages import Message

_HEADER: Final[dict[str, Check]] = {
    "cluster": checks.is_cluster,
    "source": checks.is_natural,
    "destination": checks.is_natural,
    "table_version": checks.is_natural,
}
_PEER_HEADER: Final[dict[str, Check]] = {**_HEADER, "sender": checks.is_name}
_RAFT_HEADER: Final[dict[str, Check]] = {
    **_PEER_HEADER,
    "peer": checks.is_text,
    "voter": checks.is_name,
    "target": checks.is_name,
    "term": checks.is_term,
}
_NUMBER: Final[dict[str, Check]] = {"number": checks.is_natural}
_RUMORS: Final[dict[str, Check]] = {"rumors": checks.are_rumors}
_TARGET: Final[dict[str, Check]] = {"target": checks.is_name}
_LEADER: Final[dict[str, Check]] = {"leader": checks.is_text}
_REFUSED: Final[dict[str, Check]] = {"refused": checks.are_numbers}
_SNAPSHOT: Final[dict[str, Check]] = {
    "partition": checks.is_natural,
    "epoch": checks.is_natural,
    "base": checks.is_natural,
}
_FOUNDING: Final[dict[str, Check]] = {"founding": checks.is_uuid}

KINDS: Final[dict[int, tuple[type[Message], dict[str, Check]]]] = {
    1: (
        messages.Request,
        {
            **_HEADER,
            "receipt": checks.is_natural,
            "milliseconds_left": checks.is_natural,
            "operations": checks.are_operations,
        },
    ),
    2: (
        messages.Reply,
        {
            **_HEADER,
            "receipt": checks.is_natural,
            "numbers": checks.are_numbers,
            "results": checks.is_tuple,
            "refusals": checks.are_refusals,
        },
    ),
    3: (messages.FetchTable, _HEADER),
    4: (messages.TableRows, {**_HEADER, "table": checks.is_tuple_or_none}),
    5: (messages.FetchStatus, _HEADER),
    6: (messages.Status, {**_HEADER, "facts": checks.are_facts}),
    7: (messages.Problem, {**_HEADER, "fault": checks.is_natural, "text": checks.is_text}),
    10: (messages.FetchDigests, {**_HEADER, "first": checks.is_natural}),
    11: (messages.Digests, {**_HEADER, "upcoming": checks.is_position, "digests": checks.are_digests}),
    12: (messages.KeepAlive, {**_HEADER, "client": checks.is_uuid}),
    8: (messages.Operate, {**_HEADER, "command": checks.is_tree}),
    9: (
        messages.Operated,
        {**_HEADER, "outcome": checks.is_natural, "value": checks.is_natural, "text": checks.is_text},
    ),
    32: (peer_messages.Ping, {**_PEER_HEADER, **_NUMBER, **_TARGET, **_RUMORS}),
    33: (peer_messages.PingRequest, {**_PEER_HEADER, **_NUMBER, **_TARGET, **_RUMORS}),
    34: (peer_messages.Ack, {**_PEER_HEADER, **_NUMBER, **_RUMORS}),
    35: (peer_messages.Nack, {**_PEER_HEADER, **_NUMBER}),
    36: (peer_messages.Gossip, {**_PEER_HEADER, **_RUMORS}),
    37: (peer_messages.ViewDigest, {**_PEER_HEADER, "digest": checks.is_digest}),
    38: (peer_messages.View, {**_PEER_HEADER, "is_answer": checks.is_flag, **_RUMORS}),
    48: (
        peer_messages.VoteRequest,
        {
            **_RAFT_HEADER,
            "is_trial": checks.is_flag,
            "last_index": checks.is_index,
            "last_term": checks.is_term,
        },
    ),
    49: (peer_messages.Vote, {**_RAFT_HEADER, "is_trial": checks.is_flag, "is_granted": checks.is_flag}),
    50: (
        peer_messages.AppendEntries,
        {
            **_RAFT_HEADER,
            "prev_index": checks.is_index,
            "prev_term": checks.is_term,
            "commit": checks.is_index,
            "round": checks.is_natural,
            "entries": checks.are_entries,
        },
    ),
    51: (
        peer_messages.AppendReply,
        {
            **_RAFT_HEADER,
            "is_accepted": checks.is_flag,
            "index": checks.is_index,
            "index_term": checks.is_term,
            "round": checks.is_natural,
        },
    ),
    52: (
        peer_messages.InstallSnapshot,
        {
            **_RAFT_HEADER,
            "index": checks.is_index,
            "index_term": checks.is_term,
            "round": checks.is_natural,
            "configuration": checks.is_configuration,
            "state": checks.is_tree,
        },
    ),
    64: (peer_messages.MetaRequest, {**_PEER_HEADER, **_NUMBER, "command": checks.is_tree}),
    65: (
        peer_messages.MetaReply,
        {
            **_PEER_HEADER,
            **_NUMBER,
            "outcome": checks.is_natural,
            "value": checks.is_natural,
            "text": checks.is_text,
            **_LEADER,
        },
    ),
    66: (peer_messages.Heartbeat, {**_PEER_HEADER, **_NUMBER}),
    67: (peer_messages.HeartbeatReply, {**_PEER_HEADER, **_NUMBER, **_LEADER, "is_granted": checks.is_flag}),
    68: (peer_messages.Relieve, {**_PEER_HEADER, "changes": checks.are_handovers}),
    80: (
        peer_messages.Hello,
        {
            **_PEER_HEADER,
            "profile": checks.is_tree,
            "expect": checks.is_natural,
            "is_answer": checks.is_flag,
            "trouble": checks.is_text,
        },
    ),
    81: (peer_messages.Belonging, {**_PEER_HEADER, **_LEADER, "peers": checks.are_addresses}),
    82: (peer_messages.Lock, {**_PEER_HEADER, **_FOUNDING, "uuid": checks.is_uuid}),
    83: (peer_messages.Locked, {**_PEER_HEADER, **_FOUNDING, "uuid": checks.is_uuid}),
    84: (peer_messages.Release, {**_PEER_HEADER, **_FOUNDING}),
    85: (
        peer_messages.Genesis,
        {**_PEER_HEADER, **_FOUNDING, "configuration": checks.is_configuration, "state": checks.is_tree},
    ),
    96: (peer_messages.FetchRows, {**_PEER_HEADER, "since": checks.is_natural}),
    97: (peer_messages.Rows, {**_PEER_HEADER, "table": checks.is_tree_or_none}),
    112: (
        peer_messages.Append,
        {**_PEER_HEADER, **_NUMBER, "alignments": checks.are_alignments, "sections": checks.are_sections},
    ),
    113: (peer_messages.AppendAck, {**_PEER_HEADER, **_NUMBER, **_REFUSED}),
    114: (peer_messages.Histories, {**_PEER_HEADER, "histories": checks.are_histories}),
    115: (
        peer_messages.SnapshotChunk,
        {
            **_PEER_HEADER,
            **_SNAPSHOT,
            "base_epoch": checks.is_natural,
            "now_ms": checks.is_natural,
            "index": checks.is_natural,
            "is_last": checks.is_flag,
            "checksum": checks.is_natural,
            "chunk": checks.is_tree,
        },
    ),
    116: (
        peer_messages.SnapshotAck,
        {**_PEER_HEADER, **_SNAPSHOT, "index": checks.is_natural, "is_complete": checks.is_flag},
    ),
    117: (peer_messages.Confirm, {**_PEER_HEADER, **_NUMBER, "epochs": checks.are_epochs}),
    118: (peer_messages.Confirmed, {**_PEER_HEADER, **_NUMBER, **_REFUSED}),
}

FROM_CLIENTS: Final = frozenset([1, 3, 5, 8, 10, 12])
"""What a node takes on its socket for clients: other kinds are refused before they are looked into."""

TO_CLIENTS: Final = frozenset([2, 4, 6, 7, 9, 11])
"""What a client takes from a node."""

FROM_NODES: Final = frozenset(kind for kind in KINDS if kind >= 32)
"""What a node takes on its socket for other nodes."""

WITH_TREES: Final = frozenset([4, 38, 50, 52, 64, 68, 85, 97, 112, 114, 115])
"""The kinds that may hold a whole table or view, or something of all partitions, and have that many items."""
