"""The stage of copies: one partition on a few nodes, a network that delivers when the script says so, and a meta group.

    copies n1 n2 n3 [keep 0]    n1 leads, and all have heard of it; `keep` bytes of the logs are kept for who is behind
    write n1 a b                n1 is asked to write keys a and b
    long n1 a b                 the same with values of which no two travel together
    read n1 a                   n1, under a lease, is asked for key a
    confirm n1 a                n1 is asked for key a without a lease, and asks the other copies whether it leads still
    deliver [n1->n2]            deliver what is in flight now, on all links or one; `first 1` of it only
    settle                      deliver until nothing is in flight
    lose [n1->n2]               lose what is in flight
    cut n1 | mend               a node loses all messages from now on | nobody does any more
    run 0.3                     time passes; what is sent arrives at once
    log [n1 ...]                show logs: each entry with its epoch, and how far they are committed
    compare n1 n3               say whether their states are the same
    forget n1 3                 n1 forgets the beginning of its log, up to that entry

What clients do in sessions. An attempt that is named again is the one that it was, under the id that s had then:

    open n1 s                   n1 is asked to open session s
    count n1 s 2 [floor 2]      operation 2 of s, which adds 1 to a counter, reaches n1; s waits for nothing below floor
    close n1 s                  n1 finds s idle for too long

The meta group, which nobody hears of before `tell`:

    elect n2                    n2, which is in sync, leads
    fence n3 | unfence n3       n3 is taken for dead | is taken back
    restart n3                  n3 comes back with nothing: another life
    decide n1 [no]              decide about what n1 asks for: grant it, or not
    decide-again                what was decided last arrives there once more
    answer n1                   n1 hears that its request was decided
    tell [n1 ...]               nodes hear of the row; all, unless some are named
    row                         show it
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gimmal.replication.holdings import LOG_BYTES
from gimmal.replication.replica import Replica
from gimmal.replication.stream import PORTION_BYTES
from gimmal.store.kv import Refused
from gimmal.wire import commands
from tests.small import front_door
from tests.transcripts.copies_saying import described, entry_text
from tests.unit.governed_copies import GovernedCopies
from tests.unit.holdings_group import get, set_


class Attempt(NamedTuple):
    """An attempt at an operation of a session: the ticket of what it proposes. `text` is for people."""

    partition: int
    session: int
    number: int
    floor: int
    text: str


class Stage:
    """Performs the commands above on one `GovernedCopies`."""

    def __init__(self) -> None:
        self.on = GovernedCopies("n1")
        self.shown: dict[str, str] = {}
        self.sessions: dict[str, int] = {}
        self.attempts: dict[tuple[str, str], Attempt] = {}
        self.memories: dict[str, front_door.Memory] = {}
        self.commands: dict[str, Callable[..., Iterator[str]]] = {
            "copies": self.copies,
            "write": self.write,
            "long": self.long,
            "read": self.read,
            "confirm": self.confirm,
            "open": self.open,
            "count": self.count,
            "close": self.close,
            "deliver": self.deliver,
            "settle": self.settle,
            "lose": self.lose,
            "cut": self.cut,
            "mend": self.mend,
            "run": self.run,
            "log": self.log,
            "compare": self.compare,
            "forget": self.forget,
            "elect": self.elect,
            "fence": self.fence,
            "unfence": self.unfence,
            "restart": self.restart,
            "decide": self.decide,
            "decide-again": self.decide_again,
            "answer": self.answer,
            "tell": self.tell,
            "row": self.row,
        }

    def perform(self, command: str, arguments: list[str]) -> Iterator[str]:
        if command not in self.commands:
            raise ValueError(f"{command}: no such command")
        yield from self.commands[command](*arguments)
        yield from self.news()

    # -- commands

    def copies(self, *words: str) -> Iterator[str]:
        place = words.index("keep") if "keep" in words else len(words)
        kept = int(words[place + 1]) if place < len(words) else LOG_BYTES
        self.on, self.shown = GovernedCopies(*words[:place], log_bytes=kept), {}
        yield from ()  # what they are is news

    def write(self, name: str, *keys: str) -> Iterator[str]:
        self.on.write(name, *keys)
        yield from ()

    def long(self, name: str, *keys: str) -> Iterator[str]:
        for key in keys:
            self.on.propose(name, key, set_(key, bytes(PORTION_BYTES)))
        yield from ()

    def read(self, name: str, key: str) -> Iterator[str]:
        replica = self.on.replica(name)
        if replica.leading is None:
            yield f"{name}: does not lead"
        elif not replica.is_ready:
            yield f"{name}: does not know yet what is committed"
        else:
            yield f"{name}: {self.found(replica, key)}"

    def found(self, replica: Replica, key: str) -> str:
        record = replica.read(get(key), self.on.instant().unix_ms)
        return f"{key} is {'not there' if record is None else 'there'}"

    def confirm(self, name: str, key: str) -> Iterator[str]:
        replica = self.on.replica(name)
        if not replica.is_ready:
            yield f"{name}: does not know what is committed"
        else:
            self.on.holdings[name].confirm(replica, key)

    # -- sessions

    def open(self, name: str, session: str) -> Iterator[str]:
        number = ord(session[0])  # the client's own; it counts for nothing
        self.propose(name, Attempt(0, 0, number, 0, session), (commands.OPEN_SESSION,))
        yield from ()

    def count(self, name: str, session: str, number: str, *floor: str) -> Iterator[str]:
        attempt = self.attempts.get((session, number))
        if attempt is None:
            lowest = int(floor[1]) if floor else 0
            attempt = Attempt(0, self.sessions[session], int(number), lowest, f"operation {number} of {session}")
            self.attempts[session, number] = attempt
        memory = self.memories.setdefault(name, {})
        known = front_door.known_reply(memory, self.on.replica(name), attempt)
        if known is front_door.NOTHING:
            self.propose(name, attempt, (commands.INCR, b"counter", 1))
        elif known is not front_door.SILENCE:
            yield from self.answered(name, attempt, known)

    def close(self, name: str, session: str) -> Iterator[str]:
        number = self.sessions[session]
        window = self.on.replica(name).engine.sessions.windows[number]
        self.propose(name, None, (commands.CLOSE_SESSION, number, window.highest))
        yield from ()

    def propose(self, name: str, attempt: Attempt | None, command: tuple[Any, ...]) -> None:
        replica = self.on.replica(name)
        assert replica.leading is not None, f"{name} does not lead"
        origin = attempt[1:4] if attempt is not None else (0, 0, 0)
        self.on.holdings[name].propose(replica, attempt, origin, command, self.on.instant().unix_ms)

    # -- the network

    def deliver(self, link: str = "", *first: str) -> Iterator[str]:
        letters = self.on.take(link)
        count = int(first[1]) if first else len(letters)
        self.on.in_flight = letters[count:] + self.on.in_flight
        for letter in letters[:count]:
            yield described(letter)
            self.on.hand_over(letter)
            yield from ("  " + line for line in self.news())

    def settle(self) -> Iterator[str]:
        while letters := self.on.take():
            for letter in letters:
                self.on.hand_over(letter)
                yield from self.news()

    def lose(self, link: str = "") -> Iterator[str]:
        yield from map(described, self.on.take(link))

    def cut(self, name: str) -> Iterator[str]:
        self.on.cuts.add(name)
        yield from ()

    def mend(self) -> Iterator[str]:
        self.on.cuts.clear()
        yield from ()

    def run(self, seconds: str) -> Iterator[str]:
        self.on.run(float(seconds))
        yield from ()

    def log(self, *names: str) -> Iterator[str]:
        for name in names or tuple(self.on.lives):
            replica = self.on.replica(name)
            log, commit = replica.log, replica.commit
            items = [f"{seq} {entry_text(entry)}" for seq, entry in enumerate(log.entries, log.base + 1)]
            start = f"up to {log.base} (epoch {log.base_epoch})" if log.base else "nothing before"
            yield f"{name}: {start}; {', '.join(items) or 'no entries'}; committed is {commit}"

    def compare(self, name: str, other: str) -> Iterator[str]:
        one, another = self.on.replica(name), self.on.replica(other)
        relation = "the same state" if one.engine.digest() == another.engine.digest() else "different states"
        yield f"{name} and {other} have {relation}, committed is {one.commit} and {another.commit}"

    def forget(self, name: str, upto: str) -> Iterator[str]:
        self.on.replica(name).log.forget(int(upto))
        yield from ()

    def elect(self, name: str) -> Iterator[str]:
        self.on.elect(name)
        yield from self.row()

    def fence(self, name: str) -> Iterator[str]:
        self.on.fence(name)
        yield from self.row()

    def unfence(self, name: str) -> Iterator[str]:
        self.on.unfence(name)
        yield from self.row()

    def restart(self, name: str) -> Iterator[str]:
        self.on.restart(name)
        self.shown.pop(name, None)
        yield from self.row()

    def decide(self, name: str, *no: str) -> Iterator[str]:
        decision = self.on.decide(name, grants=not no)
        if decision is None:
            yield f"{name}: asks for nothing"
            return
        wanted = decision.request.changes[0][3]
        outcome = "granted" if decision.made else "refused"
        yield f"{name}: asks for {' '.join(f'{n}@{number}' for n, number in wanted)}: {outcome}"
        yield from self.row()

    def decide_again(self) -> Iterator[str]:
        self.on.decide_again()
        yield from self.row()

    def answer(self, name: str) -> Iterator[str]:
        self.on.answer(name, self.on.decisions[-1])
        yield from ()

    def tell(self, *names: str) -> Iterator[str]:
        self.on.tell(*names)
        yield from ()

    def row(self) -> Iterator[str]:
        row = self.on.rows[0]
        members = " ".join(f"{name}@{number}" for name, number in row.in_sync) or "nobody"
        eligible = " ".join(f"{name}@{number}" for name, number in row.eligible)
        fenced = f", fenced {' '.join(sorted(self.on.fenced))}" if self.on.fenced else ""
        also = f", eligible {eligible}" if eligible else ""
        yield f"row {row.version}: epoch {row.epoch}, led by {row.leader or 'nobody'}, in sync {members}{also}{fenced}"

    # -- what came of it

    def news(self) -> Iterator[str]:
        """What is new with the nodes, and what clients got."""
        for name, holdings in self.on.holdings.items():
            replica = holdings.replicas.get(0)
            line = self.line_of(replica) if replica is not None else "holds nothing"
            if self.shown.get(name) != line:
                self.shown[name] = line
                yield f"{name}: {line}"
        answers, self.on.answered = self.on.answered, []
        for name, ticket, result in answers:
            yield from self.answered(name, ticket, result)
        for name, key in self.on.confirmed:
            yield f"client: {self.found(self.on.replica(name), key)}"
        for name, key in self.on.unconfirmed:
            yield f"client: {name} cannot say whether {key} is there"
        for ticket in self.on.undecided:
            what = ticket.text if isinstance(ticket, Attempt) else ticket
            yield f"client: nobody knows here what becomes of {what}"
        self.on.confirmed, self.on.unconfirmed, self.on.undecided = [], [], []

    def answered(self, name: str, ticket: Any, result: Any) -> Iterator[str]:
        if not isinstance(ticket, Attempt):
            yield f"client: {ticket} is {'written' if result is True else 'not written'}"
        elif not ticket.session:
            self.sessions[ticket.text] = result
            yield f"client: session {ticket.text} is open"
        else:
            front_door.on_result(self.memories.setdefault(name, {}), ticket, result)
            what = f"is refused, {result.refusal.name}" if isinstance(result, Refused) else f"gets {result}"
            yield f"client: {ticket.text} {what}"

    def line_of(self, replica: Replica) -> str:
        view, leading = replica.view, replica.leading
        assert view is not None
        if leading is not None:
            counted = " ".join(progress.member.name for progress in leading.must_have) or "nobody"
            ready = "ready" if replica.is_ready else "not ready"
            short = "" if leading.can_commit else ", too few in sync"
            return f"leads epoch {view.epoch}, {ready}{short}; counts on {counted}; committed is {replica.commit}"
        leader = view.leader.name if view.leader is not None else "nobody"
        aligned = "" if replica.aligned_epoch == view.epoch else ", not aligned"
        listed = "" if replica.me in view.holders else ", not listed"
        return f"follows {leader} in epoch {view.epoch}{listed}{aligned}; committed is {replica.commit}"
