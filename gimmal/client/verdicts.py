"""How an operation ends that has no result: the error, which says what was asked, of whom, what happened, what to do.

Everything here is asked when an operation has failed already. `gimmal.client.session` knows where it was then.
"""

from enum import Enum, auto
from typing import Any, Final

from gimmal.client.calls import Call
from gimmal.client.retries import Record
from gimmal.client.routing import NOWHERE, Link, Routes
from gimmal.client.windows import Window
from gimmal.errors import (
    DataLost,
    GimmalError,
    IntegerOverflow,
    InvalidArgument,
    NoRoute,
    NotAnInteger,
    NotEnoughReplicas,
    OperationTimeout,
    OutOfMemory,
    Overloaded,
    QueueFull,
    QueueSettingsMismatch,
    RemoteProtocolError,
    TooLarge,
    Unavailable,
)
from gimmal.wire import commands, limits
from gimmal.wire.messages import Refusal

_READ_FIRST: Final = "read before you write it again"


class NoQueue(Unavailable):
    """A shard has not been declared, or was lost since: who asked declares it and asks again."""


class NoGroup(InvalidArgument):
    """A shard does not have this consumer group."""


class Answer(Enum):
    """What follows from a refusal."""

    FINAL = auto()  # every attempt was, or would have been, refused in the same way
    FINAL_ALONE = auto()  # the same if no other attempt is of unknown outcome; else the same leader is asked later
    FOREIGN = auto()  # the same; else it ends
    TOO_OLD = auto()  # nobody can say any more whether it was carried out
    EXPIRED = auto()  # its session is no more
    MOVED = auto()  # somebody else is to be asked, perhaps later
    UNDECIDED = auto()  # the same, and this attempt may yet be carried out
    SHORT = auto()  # the same leader is to be asked later
    OVERLOADED = auto()  # the same, when there is less to do


ANSWERS: Final[dict[int, tuple[Answer, type[GimmalError]]]] = {
    Refusal.INVALID: (Answer.FINAL, InvalidArgument),
    Refusal.NOT_AN_INTEGER: (Answer.FINAL, NotAnInteger),
    Refusal.INTEGER_OVERFLOW: (Answer.FINAL, IntegerOverflow),
    Refusal.TOO_LARGE: (Answer.FINAL, TooLarge),
    Refusal.DATA_LOST: (Answer.FINAL, DataLost),
    Refusal.NO_QUEUE: (Answer.FINAL, NoQueue),
    Refusal.NO_GROUP: (Answer.FINAL, NoGroup),
    Refusal.SETTINGS_MISMATCH: (Answer.FINAL, QueueSettingsMismatch),
    Refusal.QUEUE_FULL: (Answer.FINAL_ALONE, QueueFull),
    Refusal.OUT_OF_MEMORY: (Answer.FINAL_ALONE, OutOfMemory),
    Refusal.WRONG_CLUSTER: (Answer.FOREIGN, RemoteProtocolError),
    Refusal.TOO_OLD: (Answer.TOO_OLD, Unavailable),
    Refusal.SESSION_EXPIRED: (Answer.EXPIRED, Unavailable),
    Refusal.MOVED: (Answer.MOVED, NoRoute),
    Refusal.UNDECIDED: (Answer.UNDECIDED, NoRoute),
    Refusal.NOT_ENOUGH_REPLICAS: (Answer.SHORT, NotEnoughReplicas),
    Refusal.OVERLOADED: (Answer.OVERLOADED, Overloaded),
}
OF_THE_FUTURE: Final = (Answer.OVERLOADED, Overloaded)
"""What follows from a refusal that this client does not know: it was not carried out, so it is worth another try."""

_ADVICE: Final = {
    DataLost: "; all copies are gone: an operator has to accept that before it can be used again",
    NotEnoughReplicas: "; nothing was done: ask again when they are back",
    Overloaded: "; ask for less at a time",
    QueueFull: "; try again when some of them are settled",
    QueueSettingsMismatch: "; leave the setting out to use the queue as it is",
}


class Verdicts:
    """The errors of one client."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def what(self, call: Call[Any], number: int) -> str:
        """Return what was asked, of whom, for people."""
        partition, command = call.parts[number - call.first]
        keys = commands.keys_of(command) or (command[1],)
        shown = keys[0][:64].decode("utf-8", "backslashreplace")
        more = " and others" if len(keys) > 1 else ""
        return f"{call.name} {shown!r}{more} (partition {partition}, {self._routes.who_leads(partition)})"

    def refused(self, call: Call[Any], number: int, kind: type[GimmalError], text: str) -> GimmalError:
        """Return the error for a refusal of a kind, which a node explained with a text."""
        return kind(f"{self.what(call, number)}: {text}{_ADVICE.get(kind, '')}")

    def unknowable(self, call: Call[Any], number: int, text: str) -> OperationTimeout:
        """Return the error for an operation of which nobody will say any more whether it was carried out."""
        if not call.is_write:
            return OperationTimeout(f"{self.what(call, number)}: {text}; ask again", maybe_applied=False)
        text = f"{self.what(call, number)}: {text}; it was sent and may have been applied: {_READ_FIRST}"
        return OperationTimeout(text, maybe_applied=True)

    # -- when time is up ----------------------------------------------------------------------------------------

    def late(self, call: Call[Any], number: int, record: Record) -> GimmalError:
        """Return the error for an operation that is in flight, or uncertain, when its time is up."""
        what = f"{self.what(call, number)}: no answer within {call.timeout:g} s"
        tried = f" in {record.attempts} attempts" if record.attempts > 1 else ""
        before = f" (the last word was: {record.why})" if record.why is not None else ""
        if call.is_write:
            text = f"{what}{tried}; it was sent and may have been applied: {_READ_FIRST}{before}"
            return OperationTimeout(text, maybe_applied=True)
        return OperationTimeout(f"{what}{tried}; check the node, or ask again{before}", maybe_applied=False)

    def unsent(self, call: Call[Any], number: int, link: Link, before: object) -> GimmalError:
        """Return the error for an operation that waits for the connection of a link, and was not carried out."""
        what = f"{self.what(call, number)}: no answer within {call.timeout:g} s"
        after = f" (before that: {before})" if before else ""
        if link.address == NOWHERE:
            return NoRoute(f"{what}, so nothing was sent; ask again when somebody leads it{after}")
        return NoRoute(
            f"{what}: {self._routes.who(link.address)} could not be reached, so nothing was sent; "
            f"check that it runs, then ask again{after}"
        )

    def held(self, call: Call[Any], number: int, window: Window) -> GimmalError:
        """Return the error for a write that its own client has held back."""
        if window.refusal is not None:
            return self.refused(call, number, *window.refusal)
        what = f"{self.what(call, number)}: no answer within {call.timeout:g} s"
        if window.session:
            text = (
                f"{what} to {limits.SESSION_REPLIES_MAX} writes before it, so it was not sent; ask for less at a time"
            )
        else:
            text = f"{what} to the question that precedes a client's first write to a partition, so it was not sent"
            text += "; check the node, or ask again"
        return OperationTimeout(text, maybe_applied=False)

    def unseen(self, call: Call[Any], before: str) -> GimmalError:
        """Return the error for a call that wanted to see the cluster."""
        what = f"{call.name}: no answer within {call.timeout:g} s"
        before = f" (before that: {before})" if before else ""
        asked = [self._routes.who(address) for address, link in self._routes.links.items() if link.is_ready]
        if not asked:
            return NoRoute(f"{what}: no node could be reached; check that they run, then ask again{before}")
        return OperationTimeout(f"{what} from {', '.join(asked)}; ask again{before}", maybe_applied=False)
