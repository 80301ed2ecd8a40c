"""The stage of whole nodes: their cores, and a network in which a message takes 1 ms.

    start n1 [expect 3] [join n1 n2 ...] [as n2] [at n3]     start a process; `as` gives it a name, `at` an address
    copies 3               of every partition, in clusters that are founded from now on
    leaders                show how many partitions each node leads
    run 2                  time passes; what the nodes log is shown with the second at which they did
    watch Ping Ack ...     show these messages while they arrive (nothing: no more)
    kill n1                end a process: its address refuses connections
    vanish n1              end it without a trace: its address is silent
    pause n1 | resume n1   let it hang; what is sent to it waits
    cut n1->n2 | cut n1    a link, or all links from and to a process, lose everything
    lose Genesis n1->n2    a link loses this kind of message
    mend                   no link loses anything any more
    status                 show what every process says of itself

Processes are called by the word after `start`. Every process that was not told whom to join is told of nobody.
"""

import heapq
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from gimmal.cluster.table import Addresses
from gimmal.node.core import NodeCore
from gimmal.node.settings import NodeSettings
from gimmal.types import Instant
from gimmal.wire import peer_messages
from gimmal.wire.peer_messages import PeerMessage

DELAY_S = 0.001
CLUSTER_ID = re.compile(r"\b[0-9a-f]{32}\b")
PLAIN = ("cluster", "source", "destination", "table_version", "sender")


class Process:
    """One node process, and what waits for it while it hangs."""

    def __init__(self, label: str, core: NodeCore, peer: str) -> None:
        self.label = label
        self.core = core
        self.peer = peer
        self.is_paused = False
        self.waiting: list[PeerMessage] = []


class Stage:
    """Performs the commands above."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dice = random.Random(1)
        self.processes: dict[str, Process] = {}
        self.refusing: set[str] = set()
        self.cuts: set[tuple[str, str]] = set()
        self.losses: set[tuple[str, str, str]] = set()
        self.watched: tuple[str, ...] = ()
        self.events: list[tuple[float, int, Process, Any]] = []
        self.count = 0
        self.copies = 1
        self.clusters: list[str] = []
        self.commands: dict[str, Callable[..., Iterator[str]]] = {
            "start": self.start,
            "run": self.run,
            "watch": self.watch,
            "kill": self.kill,
            "vanish": self.vanish,
            "pause": self.pause,
            "resume": self.resume,
            "cut": self.cut,
            "lose": self.lose,
            "mend": self.mend,
            "status": self.status,
            "copies": self.set_copies,
            "leaders": self.leaders,
        }

    def perform(self, command: str, arguments: list[str]) -> Iterator[str]:
        if command not in self.commands:
            raise ValueError(f"no command {command!r}; there are: {', '.join(self.commands)}")
        return self.commands[command](*arguments)

    # -- commands -------------------------------------------------------------------------

    def start(self, label: str, *words: str) -> Iterator[str]:
        options: dict[str, list[str]] = {"": []}
        for word in words:
            if word in ("expect", "join", "as", "at"):
                options[word] = last = []
            else:
                last.append(word)
        (name,) = options.get("as", [label])
        (at,) = options.get("at", [label])
        (expect,) = options.get("expect", ["0"])
        settings = NodeSettings(
            name=name,
            uuid=label.encode().rjust(12, b"-") + self.count.to_bytes(4, "big"),
            peer=f"{at}:7701",
            networks=(("default", Addresses(f"{at}:7700", f"{at}:7702")),),
            seeds=tuple(f"{seed}:7701" for seed in options.get("join", ())),
            expect=int(expect),
            partitions=8,
            copies=self.copies,
        )
        core = NodeCore(settings, b"", random.Random(self.dice.random()), self.instant())
        process = self.processes[label] = Process(label, core, settings.peer)
        self.refusing.discard(settings.peer)
        yield from self.turn(process)

    def run(self, seconds: str) -> Iterator[str]:
        end = self.now + float(seconds)
        while self.events and self.events[0][0] <= end:
            at, _, process, what = heapq.heappop(self.events)
            if self.processes.get(process.label) is not process:
                continue
            if process.is_paused:
                process.waiting += [what] if isinstance(what, PeerMessage) else []
                continue
            if what is None and process.core.next_deadline() > at:
                continue
            self.now = max(self.now, at)
            if isinstance(what, str):
                process.core.on_refused(what, self.instant())
            elif what is not None:
                yield from self.arrival(process, what)
            yield from self.turn(process)
        self.now = end

    def watch(self, *kinds: str) -> Iterator[str]:
        assert all(hasattr(peer_messages, kind) for kind in kinds), kinds
        self.watched = kinds
        yield from ()

    def kill(self, label: str) -> Iterator[str]:
        self.refusing.add(self.processes.pop(label).peer)
        yield from ()

    def vanish(self, label: str) -> Iterator[str]:
        del self.processes[label]
        yield from ()

    def pause(self, label: str) -> Iterator[str]:
        self.processes[label].is_paused = True
        yield from ()

    def resume(self, label: str) -> Iterator[str]:
        process = self.processes[label]
        process.is_paused = False
        waiting, process.waiting = process.waiting, []
        for message in waiting:
            yield from self.arrival(process, message)
        yield from self.turn(process)

    def cut(self, *links: str) -> Iterator[str]:
        for link in links:
            sender, arrow, to = link.partition("->")
            if arrow:
                self.cuts.add((sender, to))
            else:
                self.cuts |= {(sender, ""), ("", sender)}
        yield from ()

    def lose(self, kind: str, link: str) -> Iterator[str]:
        sender, _, to = link.partition("->")
        self.losses.add((kind, sender, to))
        yield from ()

    def mend(self) -> Iterator[str]:
        self.cuts.clear()
        self.losses.clear()
        yield from ()

    def set_copies(self, copies: str) -> Iterator[str]:
        self.copies = int(copies)
        yield from ()

    def leaders(self) -> Iterator[str]:
        tables = [process.core.control.table for process in self.processes.values()]
        table = max((table for table in tables if table is not None), key=lambda table: table.version)
        led = [sum(row.leader == node.name for row in table.partitions) for node in table.nodes]
        yield " ".join(f"{node.name}:{count}" for node, count in zip(table.nodes, led, strict=True))

    def status(self) -> Iterator[str]:
        for label, process in self.processes.items():
            control = process.core.control
            facts = control.facts()
            life = f"incarnation {facts['incarnation']}, " if facts["incarnation"] else ""
            hangs = ", hangs" if process.is_paused else ""
            yield f"{label}: {facts['state']}, {life}{facts['meta_role']}{hangs}; {self.table_of(process)}"
            if facts["why"]:
                yield f"  {facts['why']}"

    def table_of(self, process: Process) -> str:
        table = process.core.control.table
        if table is None:
            return "no table"
        return f"table {table.version}: {' '.join(f'{row.name}@{row.incarnation}:{row.status}' for row in table.nodes)}"

    # -- how it goes ------------------------------------------------------------------------

    def instant(self) -> Instant:
        return Instant(self.now, int(self.now * 1000))

    def arrival(self, process: Process, message: PeerMessage) -> Iterator[str]:
        if type(message).__name__ in self.watched:
            yield self.line(process.label, f"gets {self.shown(message)}")
        process.core.receive_from_node(message, self.instant())

    def turn(self, process: Process) -> Iterator[str]:
        core = process.core
        core.tick(self.instant())
        while core.unsaved() is not None:
            core.on_saved(self.instant())
        for address, message in core.drain_for_nodes():
            self.post(process, address, message)
        for level, text in core.complaints():
            yield self.line(process.label, text if level == "info" else f"{level.upper()}: {text}")
        self.push(max(core.next_deadline(), self.now), process, None)

    def post(self, sender: Process, address: str, message: PeerMessage) -> None:
        if address in self.refusing:
            self.push(self.now + DELAY_S, sender, address)
        for label, process in self.processes.items():
            links = {(sender.label, label), (sender.label, ""), ("", label)}
            is_lost = links & self.cuts or (type(message).__name__, sender.label, label) in self.losses
            if process.peer == address and not is_lost:
                self.push(self.now + DELAY_S, process, message)

    def push(self, at: float, process: Process, what: Any) -> None:
        self.count += 1
        if at < float("inf"):
            heapq.heappush(self.events, (at, self.count, process, what))

    def line(self, label: str, text: str) -> str:
        return f"{self.now:6.2f}  {label}: {self.told(text)}"

    def told(self, text: str) -> str:
        """Text with short names for the ids of clusters, in the order in which they appear."""
        return CLUSTER_ID.sub(lambda found: self.short(found.group()), text)

    def short(self, cluster: str) -> str:
        if cluster not in self.clusters:
            self.clusters.append(cluster)
        return f"X{self.clusters.index(cluster) + 1}"

    def shown(self, message: PeerMessage) -> str:
        """A message without its header and its ids."""
        parts = []
        for name in message.__dataclass_fields__:
            value = getattr(message, name)
            if name in PLAIN or isinstance(value, bytes) or name in ("profile", "state", "configuration", "number"):
                continue
            if name == "rumors":
                value = "; ".join(f"{rumor[0]}@{rumor[1]}.{rumor[2]} {rumor[3].name.lower()}" for rumor in value) or "-"
            parts.append(f"{name} {value}")
        return f"{type(message).__name__} of {message.sender}{': ' if parts else ''}{', '.join(parts)}"
