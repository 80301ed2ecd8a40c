"""Sessions against a plain model, with a network that loses, repeats and reorders what clients send.

The model keeps of a session what the rules say, eagerly: the floor, and the reply of each number from there up. The
clients follow the rules of windows (a number is one command; the floor is the lowest number without an answer) and so
must see each of their commands executed at most once, and exactly once where they got an answer. Hostile entries, with
any numbers, only have to get what the model says.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import VERSION_BYTES, Refused
from gimmal.types import Entry
from gimmal.wire import commands, limits
from gimmal.wire.codec import integer_of
from gimmal.wire.messages import Refusal

SESSIONS_MAX, REPLIES_MAX, REPLY_BYTES_MAX = 4, 5, 80  # two of the texts fill a window
TEXT = b"\xa4text"
NOT_EXECUTED = frozenset([Refusal.SESSION_EXPIRED, Refusal.TOO_OLD, Refusal.OVERLOADED])


@dataclass
class ModelSession:
    """What the rules say a partition knows of a session. `since` is the first entry of its last millisecond."""

    last_ms: int
    since: int
    floor: int = 0
    highest: int = 0
    replies: dict[int, Any] = field(default_factory=dict)

    def is_full(self) -> bool:
        size_bytes = sum(len(reply.text) for reply in self.replies.values() if isinstance(reply, Refused))
        return len(self.replies) >= REPLIES_MAX or size_bytes >= REPLY_BYTES_MAX


@dataclass
class Client:
    """A client with one session, which follows the rules. `key` is what its operations count in."""

    session: int
    key: bytes
    commands: dict[int, Any] = field(default_factory=dict)
    answers: dict[int, Any] = field(default_factory=dict)

    def floor(self) -> int:
        return min((number for number in self.commands if number not in self.answers), default=len(self.commands) + 1)


class SessionsAgainstModel(RuleBasedStateMachine):
    """Every entry is applied to the engine and judged by the model."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(limits, "SESSIONS_MAX", SESSIONS_MAX)
        self.patch.setattr(limits, "SESSION_REPLIES_MAX", REPLIES_MAX)
        self.patch.setattr(limits, "SESSION_REPLY_BYTES_MAX", REPLY_BYTES_MAX)
        self.engine = Engine(Footprint())
        self.model: dict[int, ModelSession] = {}
        self.counts: dict[bytes, int] = {}
        self.clients: list[Client] = []
        self.network: list[tuple[Client, int, int]] = []
        self.seq = 0
        self.now_ms = 1_000
        self.apply((commands.SET, b"text", TEXT, 0, 0, None))

    def teardown(self) -> None:
        self.patch.undo()
        for client in self.clients:
            answered = [answer for answer in client.answers.values() if not isinstance(answer, Refused)]
            assert len(set(answered)) == len(answered), "two operations share a reply"
            sent = [command for command in client.commands.values() if command[1] == client.key]
            assert len(answered) <= self.counts.get(client.key, 0) <= len(sent)

    # what both sides do

    def apply(self, command: Any, session: int = 0, number: int = 0, floor: int = 0) -> Any:
        """Apply an entry, and check what came of it; return that."""
        self.seq += 1
        entry = (1, self.now_ms, session, number, floor, command)
        expected = self.judge(entry) if session else None
        result = self.engine.apply(self.seq, entry)
        if isinstance(expected, Refusal):
            assert result.refusal is expected
        elif expected is not None:
            assert result == expected
            assert type(result) is type(expected)
        else:
            self.note(command, result)
            if session in self.model:
                self.model[session].replies[number] = result
                self.drop_below_floor(self.model[session])
        return result

    def judge(self, entry: Entry) -> Any:
        """Return the refusal or the reply that an entry must get; None if it must be executed."""
        _, now_ms, session, number, floor, _ = entry
        known = self.model.get(session)
        if known is None:
            return Refusal.SESSION_EXPIRED
        if now_ms != known.last_ms:
            known.last_ms, known.since = now_ms, self.seq
        if number < known.floor:
            return Refusal.TOO_OLD
        if number in known.replies:
            return known.replies[number]
        known.floor = max(known.floor, floor)
        known.highest = max(known.highest, number)
        self.drop_below_floor(known)
        return Refusal.OVERLOADED if known.is_full() and number != known.floor else None

    def drop_below_floor(self, known: ModelSession) -> None:
        known.replies = {number: reply for number, reply in known.replies.items() if number >= known.floor}

    def note(self, command: Any, result: Any) -> None:
        """Check and count an execution."""
        if command[0] == commands.OPEN_SESSION:
            assert result == self.seq
            if len(self.model) == SESSIONS_MAX:
                del self.model[min(self.model, key=self.idle_order)]
            self.model[result] = ModelSession(self.now_ms, self.seq)
        elif command[0] == commands.INCR and command[1] == b"text":
            assert result.refusal is Refusal.NOT_AN_INTEGER
        elif command[0] == commands.INCR:
            self.counts[command[1]] = self.counts.get(command[1], 0) + 1
            assert result == self.counts[command[1]]

    def idle_order(self, session: int) -> tuple[int, int]:
        return self.model[session].last_ms, self.model[session].since

    # rules

    @rule(ms=st.sampled_from([1, 1, 5]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: len(self.clients) < 5)
    @rule()
    def a_client_comes(self) -> None:
        session = self.apply((commands.OPEN_SESSION,))
        self.clients.append(Client(session, b"count %d" % session))

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 4), are_refused=st.lists(st.sampled_from([False, False, True]), min_size=1, max_size=7))
    def start(self, which: int, are_refused: list[bool]) -> None:
        client = self.clients[which % len(self.clients)]
        for is_refused in are_refused:
            number = len(client.commands) + 1
            client.commands[number] = (commands.INCR, b"text" if is_refused else client.key, 1)
            self.network.append((client, number, client.floor()))

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 4), operation=st.integers(0, 99))
    def try_again(self, which: int, operation: int) -> None:
        client = self.clients[which % len(self.clients)]
        waiting = [number for number in client.commands if number not in client.answers]
        if waiting:
            self.network.append((client, waiting[operation % len(waiting)], client.floor()))

    @precondition(lambda self: self.network)
    @rule(deliveries=st.lists(st.tuples(st.integers(0, 99), st.booleans(), st.sampled_from([1, 1, 0])), min_size=1))
    def deliver(self, deliveries: list[tuple[int, bool, int]]) -> None:
        """Any messages of any age; each may come again, and its answer may be lost."""
        for choice, is_repeated, is_heard in deliveries:
            if self.network:
                place = choice % len(self.network)
                client, number, floor = self.network[place] if is_repeated else self.network.pop(place)
                result = self.apply(client.commands[number], client.session, number, floor)
                if is_heard and not (isinstance(result, Refused) and result.refusal in NOT_EXECUTED):
                    assert client.answers.setdefault(number, result) == result, "one operation, two replies"

    @rule(
        session=st.integers(0, 12),
        number=st.integers(0, 9),
        floor=st.integers(0, 9),
        code=st.sampled_from([commands.INCR, commands.INCR, commands.OPEN_SESSION, commands.PERSIST]),
    )
    def somebody_else(self, session: int, number: int, floor: int, code: int) -> None:
        """Hostile: any numbers in any session that is no client's of ours."""
        command = {commands.INCR: (code, b"other", 1), commands.PERSIST: (code, b"text")}.get(code, (code,))
        if session not in {client.session for client in self.clients}:
            self.apply(command, session, number, floor)

    @precondition(lambda self: self.model)
    @rule(stale=st.sampled_from([0, 0, -1, 1]))
    def the_timer_closes(self, stale: int) -> None:
        session = min(self.model, key=self.idle_order)
        assert next(self.engine.sessions.idle_since(self.now_ms)) == (session, self.model[session].highest)
        result = self.apply((commands.CLOSE_SESSION, session, self.model[session].highest + stale))
        assert result is (stale == 0)
        if result:
            del self.model[session]

    # invariants

    @invariant()
    def the_windows_are_the_models(self) -> None:
        windows = self.engine.sessions.windows
        assert list(windows) == sorted(self.model, key=self.idle_order)
        for session, known in self.model.items():
            window = windows[session]
            assert (window.floor, window.highest, window.last_ms) == (known.floor, known.highest, known.last_ms)
            assert list(window.live_replies().items()) == list(known.replies.items())
            assert len(window.replies) <= REPLIES_MAX + 1

    @invariant()
    def the_store_is_the_models(self) -> None:
        for key, count in self.counts.items():
            assert integer_of(self.engine.keys.records[key][VERSION_BYTES:]) == count


TestSessionsAgainstModel = SessionsAgainstModel.TestCase
SessionsAgainstModel.TestCase.settings = settings(stateful_step_count=60)
