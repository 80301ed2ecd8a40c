"""One key as it should be: what each operation does to it, and what an answer says about it.

A **state** is (value, version). An absent key is `ABSENT`, with version 0. A version is opaque and known only when
somebody was told: until then it is a frozenset of versions that it is known not to be, at first `UNTOLD`. The first
answer that names it binds it.

A **step** is an operation seen from the state it takes effect in: (function, argument, answer), where
`function(state, argument, answer)` returns the state after it, or None when the operation cannot have had this effect
and this answer in that state. An operation whose outcome is unknown is a step too: it returns None where it would
change nothing, because then it may as well never take effect.

That a version is never used twice cannot be seen from one state. `binds` says when a step names a version for the
first time, and the search looks whether it was named before.
"""

from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, TypeAlias

from gimmal.testing.history import Kind

State: TypeAlias = tuple[Hashable, Hashable]
Effect: TypeAlias = Callable[[State, Any, Any], State | None]

UNTOLD: Final[frozenset[Hashable]] = frozenset()
ABSENT: Final[State] = (None, 0)


class Step(NamedTuple):
    """What an operation did."""

    effect: Effect
    argument: Any = None
    answer: Any = None


# -- steps that change nothing ----------------------------------------------------------------------------------


def read(state: State, value: Any, _: Any) -> State | None:
    """The value was seen, or None when the key was absent."""
    return state if state[0] == value else None


def present(state: State, _: Any, __: Any) -> State | None:
    """The key was there."""
    return None if state[0] is None else state


def read_version(state: State, value: Any, version: Any) -> State | None:
    """The value was seen, with its version."""
    return _held(state, version) if state[0] == value else None


def other_version(state: State, version: Any, _: Any) -> State | None:
    """The version was not this one."""
    held = state[1]
    if isinstance(held, frozenset):
        return state if version in held else (state[0], held | {version})
    return None if held == version else state


def impossible(state: State, _: Any, __: Any) -> State | None:
    """The answer is none that this operation has."""
    return None


# -- steps that change something --------------------------------------------------------------------------------


def write(state: State, value: Any, _: Any) -> State | None:
    """The key was set."""
    return (value, UNTOLD)


def write_absent(state: State, value: Any, _: Any) -> State | None:
    """The key was set, and had been absent."""
    return (value, UNTOLD) if state[0] is None else None


def write_present(state: State, value: Any, _: Any) -> State | None:
    """The key was set, and had been there."""
    return None if state[0] is None else (value, UNTOLD)


def write_version(state: State, value: Any, version: Any) -> State | None:
    """The key was set, and had had this version."""
    return (value, UNTOLD) if _held(state, version) is not None else None


def remove(state: State, _: Any, __: Any) -> State | None:
    """The key was deleted."""
    return None if state[0] is None else ABSENT


def add(state: State, amount: Any, _: Any) -> State | None:
    """The counter grew, nobody knows to what."""
    before = 0 if state[0] is None else state[0]
    return (before + amount, UNTOLD) if type(before) is int else None


def add_to(state: State, amount: Any, total: Any) -> State | None:
    """The counter grew to a total."""
    before = 0 if state[0] is None else state[0]
    return (total, UNTOLD) if type(before) is int and before + amount == total else None


PURE: Final = frozenset((read, present, read_version, other_version, impossible))
"""Effects that leave value and version as they are; they may still tell what the version is, or is not."""

OBSERVING: Final = frozenset((read, read_version))
"""Effects that ask for one certain value."""

_NAMING: Final = frozenset((read_version, write_version))


def _held(state: State, version: Any) -> State | None:
    """Return the state with its version told, or None when it has another."""
    held = state[1]
    if isinstance(held, frozenset):
        return None if version in held else (state[0], version)
    return state if held == version else None


def named_version(step: Step) -> Hashable:
    """Return the version that a step says the key had, or None."""
    return step.answer if step.effect in _NAMING else None


def answered(kind: Kind, argument: Any, result: Any) -> Step:
    """Return the step of an operation that was answered."""
    match kind:
        case Kind.GET:
            return Step(read, result)
        case Kind.GET_VERSIONED:
            return _answered_get_versioned(result)
        case Kind.INCR:
            return Step(add_to, argument, result) if type(result) is int else Step(impossible)
        case _ if type(result) is not bool:
            return Step(impossible)
        case Kind.EXISTS:
            return Step(present) if result else Step(read, None)
        case Kind.DELETE:
            return Step(remove) if result else Step(read, None)
        case _ if result:
            return unanswered(kind, argument)
        case Kind.SET_NX:
            return Step(present)
        case Kind.SET_XX:
            return Step(read, None)
        case Kind.SET_IF_VERSION:
            return Step(present) if argument[1] == 0 else Step(other_version, argument[1])
        case _:
            return Step(impossible)


def _answered_get_versioned(result: Any) -> Step:
    if result is None:
        return Step(read, None)
    if not isinstance(result, tuple) or len(result) != 2 or result[0] is None or result[1] in (None, 0):
        return Step(impossible)
    return Step(read_version, *result)


def unanswered(kind: Kind, argument: Any) -> Step:
    """Return the step of an operation nobody knows the outcome of; of one that only reads, it is of no use."""
    match kind:
        case Kind.SET:
            return Step(write, argument)
        case Kind.SET_NX:
            return Step(write_absent, argument)
        case Kind.SET_XX:
            return Step(write_present, argument)
        case Kind.SET_IF_VERSION:
            value, version = argument
            return Step(write_absent, value) if version == 0 else Step(write_version, value, version)
        case Kind.DELETE:
            return Step(remove)
        case Kind.INCR:
            return Step(add, argument)
        case _:
            return Step(impossible)
