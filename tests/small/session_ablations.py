"""Each necessary rule of sessions, taken away. What a node could decide on receipt is `front_door`'s to say."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from gimmal.replication.replica import Replica
from gimmal.store.engine import Engine
from gimmal.store.sessions import Sessions, Window, window_of
from gimmal.wire.commands import OPEN_SESSION
from tests.sim.museum import Change
from tests.small import front_door
from tests.small.ablation import Ablation
from tests.small.clients import Client, Request
from tests.small.front_door import Attempt, Memory


def _apply_without(*, dedup: bool, floor: bool) -> Callable[[Any], Any]:
    """Sessions that execute what they have executed before, or what is below the floor."""

    def instead(original: Any) -> Any:
        def apply(sessions: Sessions, write: Any, state: Any, seq: int, entry: Any) -> Any:
            window, number = sessions.windows.get(entry[2]), entry[3]
            if window is None or (number in window.replies and dedup):
                return original(sessions, write, state, seq, entry)
            window.replies.pop(number, None)
            before = window.floor
            window.floor = min(before, number) if floor else before
            result = original(sessions, write, state, seq, entry)
            window.floor = max(window.floor, before)
            return result

        return apply

    return instead


def _window_asked(_: Any) -> Any:
    def known_reply(memory: Memory, replica: Replica, request: Attempt) -> Any:
        window = replica.engine.sessions.windows.get(request.session)
        if window is None or (request.number not in window.replies and request.number >= window.floor):
            return front_door.NOTHING
        return window.replies.get(request.number, front_door.SILENCE)

    return known_reply


def _memory_asked(_: Any) -> Any:
    def known_reply(memory: Memory, replica: Replica, request: Attempt) -> Any:
        key = (request.partition, request.session, request.number)
        if request.session and key in memory:
            return memory[key]
        memory[key] = front_door.SILENCE
        return front_door.NOTHING

    return known_reply


def _memory_kept(_: Any) -> Any:
    def on_result(memory: Memory, request: Attempt, result: Any) -> None:
        memory[request.partition, request.session, request.number] = result

    return on_result


def _without_windows(original: Any) -> Any:
    def freeze(engine: Engine) -> Any:
        frozen = original(engine)
        windows = {
            session: window_of(window.floor, window.highest, window.last_ms, {})
            for session, window in frozen.windows.items()
        }
        return frozen._replace(windows=windows)

    return freeze


# -- client-chosen session id: the number of the operation that opens it


def _called_as_chosen(original: Any) -> Any:
    def apply(engine: Engine, seq: int, entry: Any) -> Any:
        if entry[5][0] != OPEN_SESSION:
            return original(engine, seq, entry)
        _, now_ms, _, chosen, *_ = entry
        engine.sessions.windows.setdefault(chosen, Window(now_ms))
        return chosen

    return apply


def _chooses(original: Any) -> Any:
    """A client calls its sessions by its own name, whichever time it opens them."""

    def attempt(client: Client, partition: int, dice: Random) -> Request:
        request: Request = original(client, partition, dice)
        return request if request.op else request._replace(number=1_000 + len(repr(client)) + ord(repr(client)[0]))

    return attempt


def _numbers_go_on(original: Any) -> Any:
    """A client that opens its session again goes on counting: no number of its own is used twice."""

    def on_reply(client: Client, request: Request, reply: Any) -> None:
        session = client.sessions[request.partition]
        number = session.number
        original(client, request, reply)
        session.number = max(session.number, number)

    return on_reply


_NO_DEDUP: Final[Change] = (Sessions, "apply", _apply_without(dedup=False, floor=True))

SESSIONS: Final = (
    Ablation("dedup at receipt", (_NO_DEDUP, (front_door, "known_reply", _window_asked)), "copies_retry"),
    Ablation(
        "dedup in leader memory only",
        (_NO_DEDUP, (front_door, "known_reply", _memory_asked), (front_door, "on_result", _memory_kept)),
        "copies_retry_elsewhere",
    ),
    Ablation("snapshot without window", ((Engine, "freeze", _without_windows),), "copies_retry_after_snapshot"),
    Ablation(
        "floor not enforced", ((Sessions, "apply", _apply_without(dedup=True, floor=True)),), "copies_retry_too_late"
    ),
    Ablation(
        "client-chosen session id",
        ((Engine, "apply", _called_as_chosen), (Client, "attempt", _chooses), (Client, "on_reply", _numbers_go_on)),
        "copies_session_again",
    ),
)
