"""The stage of Raft: voters, their disks, and a network that delivers when the script says so.

    cluster n1 n2 n3 and n4     n1 to n3 start as founders, n4 knows nothing; n1 is the least patient, then n2 ...
    time 0.8                    time passes; what is sent stays in flight
    run 2                       time passes; what is sent arrives at once
    deliver [n1->n2]            deliver what is in flight now, on all links or one
    settle                      deliver until nothing is in flight
    watch n1->n2                show what arrives, or is lost, on this link also in `run` and `settle`
    lose [n1->n2]               lose what is in flight
    cut n1->n2 | cut n1         a link, or everything of a node's, loses all messages from now on
    mend                        no link loses anything any more
    campaign n1                 n1 loses its patience now
    propose n1 x                n1 is asked to append command x
    configure n1 n1 n2 [learners n3]     n1 is asked to make these the voters, and those the learners
    compact n1                  n1 replaces what it has applied by a snapshot
    stall n1                    its disk takes nothing any more, so that it sends nothing
    crash n1 | start n1         a stalled disk has lost what came after the stall
    state | log n1              show every node | one log

The state machine is the list of the commands. A line "n2: follower ..." is printed when something in it has changed.
"""

from collections.abc import Callable, Iterator

from gimmal.cluster.raft import (
    COMMAND,
    CONFIGURATION,
    BecameLeader,
    Committed,
    Configuration,
    Entry,
    Fact,
    Installed,
    RaftParameters,
    SteppedDown,
    read_configuration,
)
from gimmal.wire.peer_messages import AppendEntries, AppendReply, InstallSnapshot, RaftMessage, Vote, VoteRequest
from tests.unit.raft_group import Group, Letter


class Stage:
    """Performs the commands above on one `Group`."""

    def __init__(self) -> None:
        self.group = Group(())
        self.shown: dict[str, str] = {}
        self.cuts: list[tuple[str, str]] = []
        self.watched: list[str] = []
        self.commands: dict[str, Callable[..., Iterator[str]]] = {
            "cluster": self.cluster,
            "time": self.time,
            "run": self.run,
            "deliver": self.deliver,
            "settle": self.settle,
            "watch": self.watch,
            "lose": self.lose,
            "cut": self.cut,
            "mend": self.mend,
            "campaign": self.campaign,
            "propose": self.propose,
            "configure": self.configure,
            "compact": self.compact,
            "stall": self.stall,
            "crash": self.crash,
            "start": self.start,
            "state": self.state,
            "log": self.log,
        }

    def perform(self, command: str, arguments: list[str]) -> Iterator[str]:
        if command not in self.commands:
            raise ValueError(f"{command}: no such command")
        return self.commands[command](*arguments)

    # -- commands

    def cluster(self, *names: str) -> Iterator[str]:
        place = names.index("and") if "and" in names else len(names)
        self.cuts, self.watched = [], []
        self.group = Group(names[:place], names[place + 1 :], RaftParameters(entries_kept=2))
        yield from self.state()

    def time(self, seconds: str) -> Iterator[str]:
        for name in self.deadlines(float(seconds)):
            yield from self.told(name, self.group.tick(name))

    def run(self, seconds: str) -> Iterator[str]:
        yield from self.settle()
        for name in self.deadlines(float(seconds)):
            yield from self.told(name, self.group.tick(name))
            yield from self.settle()

    def deliver(self, link: str = "") -> Iterator[str]:
        letters = [letter for letter in self.group.in_flight if is_on(link, letter)]
        self.group.in_flight = [letter for letter in self.group.in_flight if not is_on(link, letter)]
        for letter in letters:
            yield from self.delivered(letter)

    def settle(self) -> Iterator[str]:
        while self.group.in_flight:
            letter = self.group.in_flight.pop(0)
            lines = list(self.delivered(letter))
            is_watched = any(is_on(link, letter) for link in self.watched)
            yield from lines if is_watched else map(str.strip, lines[1:])

    def watch(self, *links: str) -> Iterator[str]:
        self.watched = list(links)
        yield from ()

    def lose(self, link: str = "") -> Iterator[str]:
        yield from (described(letter.message) for letter in self.group.in_flight if is_on(link, letter))
        self.group.in_flight = [letter for letter in self.group.in_flight if not is_on(link, letter)]

    def cut(self, link: str) -> Iterator[str]:
        source, _, target = link.partition("->")
        self.cuts += [(source, target)] if target else [(source, ""), ("", source)]
        yield from ()

    def mend(self) -> Iterator[str]:
        self.cuts.clear()
        yield from ()

    def campaign(self, name: str) -> Iterator[str]:
        self.group.note(self.group.voters[name], self.group[name].campaign(self.group.now))
        yield from self.told(name, self.group.finish(name))

    def propose(self, name: str, *command: str) -> Iterator[str]:
        index = self.group[name].propose(command, self.group.now)
        yield f"{name}: does not lead" if index is None else f"{name}: appends {index}"
        yield from self.told(name, self.group.finish(name))

    def configure(self, name: str, *members: str) -> Iterator[str]:
        place = members.index("learners") if "learners" in members else len(members)
        configuration = Configuration(members[:place], members[place + 1 :])
        index = self.group[name].propose_configuration(configuration, self.group.now)
        yield f"{name}: may not" if index is None else f"{name}: appends {index}"
        yield from self.told(name, self.group.finish(name))

    def compact(self, name: str) -> Iterator[str]:
        voter = self.group.voters[name]
        self.group[name].compact(voter.applied_index, voter.state)
        log = self.group[name].log
        yield f"{name}: snapshot of {log.snapshot.index}, entries {log.base_index + 1} to {log.last_index}"
        yield from self.told(name, self.group.finish(name))

    def stall(self, name: str) -> Iterator[str]:
        self.group.voters[name].is_stalled = True
        yield from ()

    def crash(self, name: str) -> Iterator[str]:
        self.group.crash(name)
        yield from ()

    def start(self, name: str) -> Iterator[str]:
        self.group.start(name)
        yield self.line_of(name)

    def state(self) -> Iterator[str]:
        for name in self.group.voters:
            yield self.line_of(name)

    def log(self, name: str) -> Iterator[str]:
        log = self.group[name].log
        if log.snapshot.index:
            yield f"up to {log.snapshot.index} (term {log.snapshot.term}): {members_of(log.snapshot.configuration)}"
        for index in range(log.base_index + 1, log.last_index + 1):
            committed = ", committed" if index <= self.group[name].commit_index else ""
            yield f"{index} (term {log.term_at(index)}): {content_of(log.entry(index))}{committed}"

    # -- what they need

    def deadlines(self, seconds: float) -> Iterator[str]:
        """Let time pass; yield each node whose deadline has come, at that time."""
        end = self.group.now + seconds
        while True:
            due = [(voter.raft.next_deadline(), name) for name, voter in self.group.voters.items() if voter.raft]
            at, name = min(due, default=(end, ""))
            if at >= end:
                self.group.now = end
                return
            self.group.now = max(self.group.now, at)
            yield name

    def delivered(self, letter: Letter) -> Iterator[str]:
        """Deliver a message if its link does; yield what it says, and indented, what came of it."""
        if not self.arrives(letter):
            yield f"{described(letter.message)} (lost)"
            return
        yield described(letter.message)
        for line in self.told(letter.target, self.group.turn(letter.target, letter.message)):
            yield "  " + line

    def arrives(self, letter: Letter) -> bool:
        links = ((letter.source, letter.target), (letter.source, ""), ("", letter.target))
        is_up = letter.target in self.group.voters and self.group.voters[letter.target].raft is not None
        return is_up and not any(link in self.cuts for link in links)

    def told(self, name: str, facts: list[Fact]) -> Iterator[str]:
        """What a turn of a node brought."""
        before = self.shown[name]
        line = self.line_of(name)
        if line != before:
            yield line
        for fact in facts:
            yield f"{name}: {meaning_of(fact)}"

    def line_of(self, name: str) -> str:
        voter = self.group.voters[name]
        if voter.raft is None:
            return f"{name}: down"
        raft = voter.raft
        line = f"{name}: {raft.role}, term {raft.term}"
        line += f", follows {raft.leader}" if raft.leader not in (None, name) else ""
        line += f", voted for {raft.vote}" if raft.vote else ""
        line += " (not saved)" if raft.unsaved() else ""
        self.shown[name] = line
        return line


def is_on(link: str, letter: Letter) -> bool:
    return link in ("", f"{letter.source}->{letter.target}")


def members_of(configuration: Configuration) -> str:
    learners = f", learners {' '.join(configuration.learners)}" if configuration.learners else ""
    return f"voters {' '.join(configuration.voters)}{learners}"


def content_of(entry: Entry) -> str:
    if entry.kind == COMMAND:
        return " ".join(map(str, entry.payload))
    return members_of(read_configuration(entry.payload)) if entry.kind == CONFIGURATION else "no-op"


def meaning_of(fact: Fact) -> str:
    match fact:
        case Committed(index, entry):
            return f"commits {index}: {content_of(entry)}"
        case Installed(snapshot):
            return f"takes the snapshot of {snapshot.index}"
        case BecameLeader(term):
            return f"leads term {term}"
        case SteppedDown(term):
            return f"leads term {term} no more"


def described(message: RaftMessage) -> str:
    return f"{message.voter} -> {message.target}: {saying_of(message)}"


def saying_of(message: RaftMessage) -> str:
    match message:
        case VoteRequest(is_trial=is_trial, term=term, last_index=index, last_term=last_term):
            question = "would you vote for me" if is_trial else "vote for me"
            return f"{question} in term {term}? my log ends with {index} (term {last_term})"
        case Vote(is_trial=is_trial, is_granted=True, term=term):
            return f"yes, I would, in term {term}" if is_trial else f"yes, in term {term}"
        case Vote(term=term):
            return f"no, I am in term {term}"
        case AppendEntries(term=term, prev_index=prev_index, prev_term=prev_term, entries=entries, commit=commit):
            contents = [f"{index} {content_of(Entry(*entry))}" for index, entry in enumerate(entries, prev_index + 1)]
            what = "; ".join(contents) or "nothing"
            return f"term {term}, after {prev_index} (term {prev_term}): {what}; committed is {commit}"
        case AppendReply(term=term, is_accepted=True, index=index):
            return f"term {term}, we agree up to {index}"
        case AppendReply(term=term, index=0):
            return f"term {term}, no"
        case AppendReply(term=term, index=index, index_term=index_term):
            return f"term {term}, no; we may agree up to {index} (term {index_term})"
        case InstallSnapshot(term=term, index=index, index_term=index_term):
            return f"term {term}, snapshot of {index} (term {index_term})"
    raise AssertionError(f"no message of Raft: {message}")
