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
unanswered number in that session) is 0 too.
"""


class Instant(NamedTuple):
    """One reading of a machine's two clocks, taken together once per turn.

    `seconds` counts monotonically, also through suspend, and drives every timer. `unix_ms` is the wall clock:
    it stamps log entries, and nothing that is about safety depends on it.
    """

    seconds: float
    unix_ms: int
