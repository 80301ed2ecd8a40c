"""What Raft tells its owner: facts, in the order in which they became true, and what has to be made durable."""

from typing import NamedTuple, TypeAlias

from gimmal.cluster.raft.log import Entry, Snapshot


class Committed(NamedTuple):
    """Entry `index` is decided for ever. Told once in a life for each entry behind the snapshot, in order."""

    index: int  # type: ignore[assignment]  # hides a method of tuples that nobody needs
    entry: Entry


class Installed(NamedTuple):
    """The owner's state is that of this snapshot from now on; entries up to it are not told any more."""

    snapshot: Snapshot


class BecameLeader(NamedTuple):
    """This node leads a term."""

    term: int


class SteppedDown(NamedTuple):
    """This node does not lead that term any more: what it proposed and has not seen committed may be or not be."""

    term: int


Fact: TypeAlias = Committed | Installed | BecameLeader | SteppedDown


class HardState(NamedTuple):
    """The newest term a node has seen, and whom it voted for in it."""

    term: int
    vote: str | None


class Unsaved(NamedTuple):
    """What is not durable yet.

    `hard_state` is None if it did not change. `entries` start at index `first_index`; they replace what is stored from
    there on. A `snapshot` (None if it did not change) replaces everything stored: the hard state is then given, and
    the entries are all that follow it.
    """

    hard_state: HardState | None
    snapshot: Snapshot | None
    first_index: int
    entries: tuple[Entry, ...]
