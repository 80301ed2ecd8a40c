"""The stage of copies: one partition on a few nodes, a network that delivers when the script says so, and a meta group.

    copies n1 n2 n3 [keep 0]    n1 leads, and all have heard of it; `keep` bytes of the logs are kept for who is behind
    write n1 a b                n1 is asked to write keys a and b
    long n1 a b                 the same with values of which no two travel together
    read n1 a                   n1 is asked for key a
    deliver [n1->n2]            deliver what is in flight now, on all links or one; `first 1` of it only
    settle                      deliver until nothing is in flight
    lose [n1->n2]               lose what is in flight
    cut n1 | mend               a node loses all messages from now on | nobody does any more
    run 0.3                     time passes; what is sent arrives at once
    log [n1 ...]                show logs: each entry with its epoch, and how far they are committed
    forget n1 3                 n1 forgets the beginning of its log, up to that entry

The meta group, which nobody hears of before `tell`:

    elect n2                    n2, which is in sync, leads
    fence n3 | unfence n3       n3 is taken for dead | is taken back
    restart n3                  n3 comes back with nothing: another life
    decide n1 [no]              decide about what n1 asks for: grant it, or not
    answer n1                   n1 hears that its request was decided
    tell [n1 ...]               nodes hear of the row; all, unless some are named
    row                         show it
"""

from collections.abc import Callable, Iterator

from gimmal.replication.holdings import LOG_BYTES
from gimmal.replication.replica import Replica
from gimmal.replication.stream import PORTION_BYTES
from gimmal.types import Entry
from gimmal.wire import commands
from gimmal.wire.peer_messages import Append, AppendAck, Histories, PeerMessage, SnapshotAck, SnapshotChunk
from tests.unit.holdings_group import Copies, Letter, get, set_


class Stage:
    """Performs the commands above on one `Copies`."""

    def __init__(self) -> None:
        self.on = Copies("n1")
        self.shown: dict[str, str] = {}
        self.commands: dict[str, Callable[..., Iterator[str]]] = {
            "copies": self.copies,
            "write": self.write,
            "long": self.long,
            "read": self.read,
            "deliver": self.deliver,
            "settle": self.settle,
            "lose": self.lose,
            "cut": self.cut,
            "mend": self.mend,
            "run": self.run,
            "log": self.log,
            "forget": self.forget,
            "elect": self.elect,
            "fence": self.fence,
            "unfence": self.unfence,
            "restart": self.restart,
            "decide": self.decide,
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
        self.on, self.shown = Copies(*words[:place], log_bytes=kept), {}
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
            record = replica.read(get(key), self.on.instant().unix_ms)
            yield f"{name}: {key} is {'not there' if record is None else 'there'}"

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
        for key, result in self.on.answers.items():
            yield f"client: {key} is {'written' if result is True else 'not written'}"
        for key in self.on.undecided:
            yield f"client: nobody knows here what becomes of {key}"
        self.on.answers, self.on.undecided = {}, []

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


def entry_text(entry: Entry) -> str:
    epoch, *_, command = entry
    what = "no-op" if command[0] == commands.NOOP else command[1].decode()
    return f"{what} (epoch {epoch})"


def described(letter: Letter) -> str:
    return f"{letter.source} -> {letter.target}: {saying_of(letter.message)}"


def saying_of(message: PeerMessage) -> str:
    match message:
        case Append(alignments=alignments, sections=sections):
            parts = [f"epoch {epoch}, cut back to {seq} (epoch {at})" for _, epoch, seq, at in alignments]
            for _, epoch, prev, prev_epoch, commit, entries in sections:
                what = "; ".join(f"{seq} {entry_text(entry)}" for seq, entry in enumerate(entries, prev + 1))
                behind = f"after {prev} (epoch {prev_epoch}): {what or 'nothing'}; committed is {commit}"
                parts.append(behind if parts else f"epoch {epoch}, {behind}")
            return "; ".join(parts)
        case AppendAck(refused=refused):
            return "refused" if refused else "I have that"
        case Histories(histories=histories):
            ((_, epoch, history),) = histories
            reach = ", ".join(f"epoch {known} to {seq}" for known, seq in history)
            return f"in epoch {epoch} I have {reach}"
        case SnapshotChunk(epoch=epoch, base=base, base_epoch=base_epoch, index=index, is_last=is_last):
            last = ", the last" if is_last else ""
            return f"epoch {epoch}, snapshot after {base} (epoch {base_epoch}), chunk {index}{last}"
        case SnapshotAck(base=base, is_complete=True):
            return f"the snapshot after {base} is mine"
        case SnapshotAck(base=base, index=index):
            return f"of the snapshot after {base} I have {index} chunks"
    raise AssertionError(f"no message about copies: {message}")
