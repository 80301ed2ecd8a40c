"""The few types every room shares: the two clocks of a turn, and what travels as keys, values and commands.

Nothing here does anything; a type that only one room uses lives in that room.
"""

from typing import Any, NamedTuple, TypeAlias

Scalar: TypeAlias = bool | int | float | str | bytes | None
"""The leaves of a value that the default serializer accepts."""

Command: TypeAlias = tuple[Any, ...]
"""`(code, *arguments)`: one deterministic step of a partition; codes and shapes are in `gimmal.wire.commands`."""

Operation: TypeAlias = tuple[int, int, int, int, int, Command]
"""`(number, partition, leader epoch, session, floor, command)`: a command with its header, as it travels.

`number` is the client's own and never reused; the reply names it. `epoch` 0 demands no particular leader.
`session` 0 means "no session": the node then keeps no window for it and `floor` (the client's lowest
unanswered number in that session) is 0 too. A read under `epoch` 0 may be answered by any copy, with what it has.
"""

Entry: TypeAlias = tuple[int, int, int, int, int, Command]
"""`(leader epoch, now_ms, session, number, floor, command)`: a command as the log of its partition keeps it.

Where it is in the log is its sequence number, from 1 up; `now_ms` is the time that its leader stamped on it. `session`,
`number` and `floor` are those of the operation it was, all 0 for a command of the leader's own.
"""


class Incarnation(NamedTuple):
    """One life of a node: a restart under the same name is another one."""

    name: str
    number: int


class Instant(NamedTuple):
    """One reading of a machine's two clocks, taken together once per turn.

    `seconds` counts monotonically, also through suspend, and drives every timer. `unix_ms` is the wall clock:
    it stamps log entries, and nothing that is about safety depends on it.
    """

    seconds: float
    unix_ms: int
