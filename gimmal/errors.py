"""Every error gimmal raises. The branch says what the caller can do.

- `ConfigError`: the settings are wrong; nothing was started.
- `ProtocolError`: a message broke the protocol; ours (`LocalProtocolError`) or the other side's (`Remote...`).
- `CommandError`: the cluster answered, and a retry of the same call gets the same answer.
- `Unavailable`: nothing was done; a retry is safe.
- `OperationTimeout`: no answer in time; `maybe_applied` says whether the write may have happened.
- `ClientClosed`: the client was closed, or belongs to another process.

No builtin name is shadowed. A message says what was asked, of whom, and what to do next.
"""

from collections.abc import Collection, Mapping
from typing import Any


class GimmalError(Exception):
    """Root of all errors of gimmal.

    A call on many keys that fails in part raises the first error with `done` (what was achieved before: the
    found values of `get_many`, the keys of the others) and `failed` (key -> error) filled in.
    """

    done: Mapping[Any, Any] | Collection[Any] = ()
    failed: Mapping[Any, "GimmalError"] = {}


class ConfigError(GimmalError):
    """A setting is unknown, malformed or contradicts another; the message names it and its source."""


class ProtocolError(GimmalError):
    """A message broke the protocol."""


class LocalProtocolError(ProtocolError):
    """This side tried to send something the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something the protocol does not allow."""


class CommandError(GimmalError):
    """The call was understood and refused; the same call again gets the same answer."""


class InvalidArgument(CommandError, ValueError):
    """An argument is out of its range; raised before anything is sent."""


class NotAnInteger(CommandError):
    """`incr` or `decr` met a value that is not an integer."""


class IntegerOverflow(CommandError):
    """A number left the range of signed 64 bits."""


class TooLarge(CommandError):
    """A value, or the answer to a call, exceeds its limit."""


class OutOfMemory(CommandError):
    """The node is at `max_entries` or `max_memory` and its policy is to refuse."""


class QueueFull(CommandError):
    """The queue holds `max_length` messages that are not settled; nothing was added."""


class StaleLease(CommandError):
    """The message is not this consumer's any more: it was given to another one, or is a dead letter."""


class QueueSettingsMismatch(CommandError):
    """The queue exists with another value of a setting that was given; leave it out to take the queue as it is."""


class DataLost(CommandError):
    """All copies of the partition were lost; an operator has to accept that before it can be used again."""


class Unavailable(GimmalError):
    """Nothing was done; the same call may succeed later."""


class NoRoute(Unavailable):
    """No node that could answer was reached."""


class NotEnoughReplicas(Unavailable):
    """Too few copies are in sync, or the leader is cut off from them: nothing was written, nothing stale was read."""


class Overloaded(Unavailable):
    """The node holds as many unread answers for this client as it may."""


class OperationTimeout(GimmalError):
    """No answer before the deadline.

    `maybe_applied` is True when a write reached, or may have reached, a node: read before writing again.
    """

    def __init__(self, message: str, *, maybe_applied: bool) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied


class ClientClosed(GimmalError):
    """The client was closed, or was made in another process or event loop."""
