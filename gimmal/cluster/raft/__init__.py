"""Raft: how a few voters agree on one log, though any of them may stop, restart or be cut off.

Read `machine` first: it has the rules. `quorum` is the arithmetic, `log` and `configuration` the data, `election` and
`leading` what a candidate and a leader keep, `progress` what a leader knows of one follower, `journal` how all of it is
written down. The group knows nothing of what its commands mean.
"""

from gimmal.cluster.raft.configuration import NOBODY, Configuration, is_single_change, read_configuration
from gimmal.cluster.raft.facts import BecameLeader, Committed, Fact, HardState, Installed, SteppedDown, Unsaved
from gimmal.cluster.raft.journal import Identity, Journal, JournalCorrupt, Save, read_journal, rewritten, save_of
from gimmal.cluster.raft.log import COMMAND, CONFIGURATION, EMPTY, NOOP, Entry, Log, Snapshot, Stored
from gimmal.cluster.raft.machine import Raft, Role
from gimmal.cluster.raft.parameters import RaftParameters

__all__ = [
    "COMMAND",
    "CONFIGURATION",
    "EMPTY",
    "NOBODY",
    "NOOP",
    "BecameLeader",
    "Committed",
    "Configuration",
    "Entry",
    "Fact",
    "HardState",
    "Identity",
    "Installed",
    "Journal",
    "JournalCorrupt",
    "Log",
    "Raft",
    "RaftParameters",
    "Role",
    "Save",
    "Snapshot",
    "SteppedDown",
    "Stored",
    "Unsaved",
    "is_single_change",
    "read_configuration",
    "read_journal",
    "rewritten",
    "save_of",
]
