"""Every bound of the protocol, in one place. Sizes are bytes unless the name says otherwise.

A bound exists for each thing that a peer chooses: what is not bounded here can make a node grow.
"""

from typing import Final

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A whole frame. The transports refuse a longer one before it is read."""

PLAIN_FRAME_BYTES_MAX: Final = 256 * 1024
"""Up to here a frame is decoded as it comes: even one made of empty containers costs only about 20 MB, briefly.

Senders split what they can to stay below it; a longer frame is walked and its items counted first.
"""

LARGE_FRAME_ITEMS_MAX: Final = 20_000
"""Items in a frame longer than `PLAIN_FRAME_BYTES_MAX`: such a frame is one operation, on large values or many keys."""

TABLE_ITEMS_MAX: Final = 600_000
"""The same for a frame with a cluster table, a view of all members, or what the meta group decided at once.

The table of a cluster of 16,384 partitions and 1,000 nodes has about 500,000 when every partition lacks a copy.
"""

OPERATIONS_MAX: Final = 8_192
"""Operations in one message, and keys in one command."""

SECTIONS_MAX: Final = 16_384
"""Partitions in one message between nodes, and epochs in the history of one log."""

KEY_BYTES_MAX: Final = 1_024
VALUE_BYTES_MAX: Final = 8 * 1024 * 1024
SET_MANY_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 1024 * 1024
"""Keys and values that one `set_many` may write to one partition (they travel in one message)."""

REPLY_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 1024 * 1024
"""The result of one operation (it travels in one message)."""

SCAN_EXAMINED_MAX: Final = 4_096
"""Keys that one page of a scan looks at."""

SCAN_TURN_MAX: Final = 500_000
"""Keys that all scans of one turn of a node may look at or skip: about ten milliseconds."""

DIGEST_TURN_MAX: Final = 20_000
"""Keys after which a node works out no more digests in one turn: about ten milliseconds."""

SESSION_REPLIES_MAX: Final = 256
SESSION_REPLY_BYTES_MAX: Final = 64 * 1024
"""Replies, and bytes of them, that one partition keeps for one session because the client may not have them yet."""

SESSIONS_MAX: Final = 10_000
"""Sessions of one partition."""

SESSION_IDLE_MS_MAX: Final = 10 * 60 * 1000
"""A session without an entry for so long may be closed; no operation is tried for longer than `TIMEOUT_MAX_S`."""

QUEUE_NAME_BYTES_MAX: Final = 256
"""Names of queues, of groups and of consumers."""

SHARD_KEY_BYTES_MAX: Final = QUEUE_NAME_BYTES_MAX + 8
SHARDS_MAX: Final = 1_024
RETRIES_MAX: Final = 1_000_000

PRODUCE_MAX: Final = 1_000
CONSUME_MAX: Final = 1_000
DELIVERIES_MAX: Final = 1_000
"""Messages that one command may bring, ask for, or settle."""

GRANT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Payloads after which one consume gets no further message."""

WAIT_MS_MAX: Final = 60 * 1000
"""How long a consume may wait at a node; a client that wants to wait longer asks again."""

LEASE_MS_MAX: Final = 12 * 3600 * 1000
BACKOFF_MS_MAX: Final = 24 * 3600 * 1000

REASON_BYTES_MAX: Final = 1_024
"""The text of a failure that a message keeps; clients cut off what is longer."""

FAILURES_MAX: Final = 8
"""Failures of a message of which the details are kept: the first one, and the newest."""

GROUPS_MAX: Final = 256
"""Consumer groups of one queue."""

CLIENT_SILENCE_S: Final = 5.0
"""A client with messages in flight of which nothing was heard for so long has vanished."""

CLIENT_RETURN_S: Final = 5.0
"""How long a new leader waits to hear of the clients that have messages in flight."""

DEDUP_MS: Final = 5 * 60 * 1000
"""For how long a shard remembers the dedup id of a message."""

TTL_MS_MAX: Final = 100 * 365 * 24 * 3600 * 1000
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1

TERM_MAX: Final = 2**53
INDEX_MAX: Final = 2**53
"""Terms and indexes of the meta group's log.

What is counted from 0 up never gets here, and what would follow still fits into a journal."""

TERM_STEP_MAX: Final = 2**20
"""How far a voter's term may rise at once, and by messages of terms that are farther beyond only once a second: a liar
would need centuries to use all terms up."""

INDEX_STEP_MAX: Final = 2**40
"""How far one snapshot may carry a log: at a thousand entries a second it grows so far in 35 years."""

TIMEOUT_MAX_S: Final = 60.0
"""The longest deadline an operation may ask for."""

UNREAD_REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of replies a node sends to one client ahead of what the client has confirmed reading."""

UNREAD_TOTAL_BYTES_MAX: Final = 256 * 1024 * 1024
"""The same over all clients of a node; above it, clients with more than their share are refused."""

UNCOMMITTED_BYTES_MAX: Final = 64 * 1024 * 1024
"""What a node has proposed and its followers have not acknowledged; above it, writes are refused for a moment."""

UNREAD_SHARE_BYTES: Final = 1024 * 1024

UNREAD_REPLIES_MAX: Final = 4_096
TEXT_BYTES_MAX: Final = 4_096
"""Error texts, and addresses inside messages."""

TREE_DEPTH_MAX: Final = 16
"""Tuples in tuples of a tree between nodes; a deeper one might be read and could not be written down again."""

NODES_MAX: Final = 4_096
"""Nodes of a cluster."""

HEARSAY_MAX: Final = 64
"""Members that a node knows by rumors only: newcomers of the last moment, who will soon be in the table."""

NAME_BYTES_MAX: Final = 256
"""Names of nodes and of voters, and addresses of nodes."""

REGISTRATION_BYTES_MAX: Final = 2_048
"""A node as it introduces itself: so that all nodes of a cluster fit into one message."""

PARTITIONS_MAX: Final = 16_384
"""Partitions of a cluster: one for each slot."""

COPIES_MAX: Final = 16
"""Holders of one partition."""

CHANGED_MEMBERS_MAX: Final = 128 * 1024
CHANGES_BYTES_MAX: Final = MESSAGE_BYTES_MAX // 2
"""Members, and bytes, of all in-sync sets that one command changes: so that the entry it becomes can be sent on."""

VOTERS_MAX: Final = 64
"""Voters and learners of the meta group; it is meant to have at most 5 and 1."""

NETWORKS_MAX: Final = 4
"""Named address sets of one node."""
