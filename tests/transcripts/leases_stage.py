"""The stage of leases: four whole nodes, a, b and c with a vote. Partition 0 is a's, 1 is b's, 2 is c's, 3 is d's.

    nodes                  begin: a leads the meta group, everybody has a lease, and leaderships are spread
    clock b 1.02           from now on a clock runs at this rate, against true time
    run 0.5                time passes; a message takes 1 ms
    until 3.2              the same, until a moment
    hang b | sleep b       a process stops, or its machine is suspended; what is sent to it waits
    wake b                 it goes on, and reads first what nodes have sent
    stall b nodes 0.5      it will hang for so long when it is about to read this socket (nodes, clients) next
    lose a->b c->b         links lose everything from now on; `lose of-raft a->b`: what is of Raft alone;
                           `lose but-leases a->b`: all but heartbeats and their answers
    keep a->b              the same, but it is kept back until it is mended
    mend                   all links are well, and what was kept back arrives, the newest first
    mend a->c              the same for these links alone
    gone a b               a believes that the process of b has ended
    stand c                c stands for election in the meta group; the others do not believe in their leader any more
    give b 1 c             b begins to hand over partition 1 to c
    read b 1               a client asks b for something in partition 1, under the epoch that b goes by
    write b 1              the same with something to be written
    answers                show what clients were answered since the last time
    show                   show who leads the meta group, and each node's leaderships and lease, in its own seconds

Times are true ones. Whenever somebody new leads a partition, whoever may still believe to lead it is read from besides,
as in every schedule of `tests.leases`; a read that should not have been answered ends the performance.
"""

from collections.abc import Callable, Iterator
from typing import Any

from gimmal.cluster.table import FENCED
from gimmal.wire.commands import GET, SET
from gimmal.wire.messages import Refusal, Reply, Request
from gimmal.wire.peer_messages import PeerMessage
from tests.leases.host import Host
from tests.leases.plan import Plan
from tests.leases.witness import KEYS
from tests.leases.world import CONCERNS, Cut, World
from tests.unit.meta_states import CLUSTER

FOREVER = float("inf")
SOCKETS = ("nodes", "clients")


class Stage:
    """Performs the commands above."""

    def __init__(self) -> None:
        self.world = World(Plan(1, (1.0,) * 4, (0.0,) * 4, 0.001, 0.0, 0.0, {}, 1.0))
        self.world.on_answers = self.on_answers
        self.kept: list[tuple[Host, Host, PeerMessage]] = []
        self.world.keep = lambda *letter: self.kept.append(letter)
        self.count = 1_000_000  # beyond those of the witness
        self.asked: dict[int, str] = {}
        self.answers_seen: list[str] = []
        self.slept_at: dict[str, float] = {}
        self.commands: dict[str, Callable[..., Iterator[str]]] = {
            name: getattr(self, name)
            for name in ("nodes", "clock", "run", "until", "hang", "sleep", "wake", "stall", "lose", "keep", "mend")
        } | {name: getattr(self, name) for name in ("gone", "stand", "give", "read", "write", "answers", "show")}

    def perform(self, command: str, arguments: list[str]) -> Iterator[str]:
        if command not in self.commands:
            raise ValueError(f"no command {command!r}; there are: {', '.join(self.commands)}")
        return self.commands[command](*arguments)

    def host(self, name: str) -> Host:
        return self.world.host_by_address[f"{name}:7701"]

    # -- time

    def nodes(self) -> Iterator[str]:
        self.host("a").core.control.meta.stand()
        for host in self.world.hosts:
            self.world.turn(host, host.on_timer)
        yield from self.until("3")
        yield from self.show()

    def clock(self, name: str, rate: str) -> Iterator[str]:
        self.host(name).clock.set_rate(self.world.time, float(rate))
        yield from ()

    def run(self, seconds: str) -> Iterator[str]:
        return self.until(str(self.world.time + float(seconds)))

    def until(self, moment: str) -> Iterator[str]:
        self.world.run_until(float(moment))
        yield from ()

    def hang(self, name: str) -> Iterator[str]:
        self.host(name).hangs = True
        yield from ()

    def sleep(self, name: str) -> Iterator[str]:
        self.slept_at[name] = self.world.time
        return self.hang(name)

    def wake(self, name: str) -> Iterator[str]:
        since = self.slept_at.pop(name, self.world.time)
        host = self.host(name)
        self.world.resume(host, self.world.time - since, (host.from_nodes, host.from_clients))
        yield from ()

    def stall(self, name: str, socket: str, seconds: str) -> Iterator[str]:
        host = self.host(name)
        self.world.stall(host, (host.from_nodes, host.from_clients)[SOCKETS.index(socket)], float(seconds))
        yield from ()

    # -- links, and what is believed

    def lose(self, *words: str) -> Iterator[str]:
        return self.cut(words, is_lost=True)

    def keep(self, *words: str) -> Iterator[str]:
        return self.cut(words, is_lost=False)

    def cut(self, words: tuple[str, ...], *, is_lost: bool) -> Iterator[str]:
        concerns = CONCERNS[words[0] if words[0] in CONCERNS else "all"]
        for sender, _, to in (word.partition("->") for word in words if word not in CONCERNS):
            self.world.cuts[sender, to] = Cut(FOREVER, concerns, is_lost)
        yield from ()

    def mend(self, *words: str) -> Iterator[str]:
        links = {(sender, to) for sender, _, to in (word.partition("->") for word in words)} or set(self.world.cuts)
        for link in links:
            del self.world.cuts[link]
        arriving = [letter for letter in self.kept if (letter[0].name, letter[1].name) in links]
        self.kept = [letter for letter in self.kept if letter not in arriving]
        for letter in reversed(arriving):
            self.world.arrive(*letter)
        yield from ()

    def gone(self, name: str, victim: str) -> Iterator[str]:
        host = self.host(name)
        self.world.turn(host, host.on_refused, f"{victim}:7701")
        yield from ()

    def stand(self, name: str) -> Iterator[str]:
        for host in self.world.hosts:
            raft = host.core.control.meta.group.raft
            raft.on_leader_gone(host.read().seconds)
        self.host(name).core.control.meta.stand()
        self.world.turn(self.host(name), self.host(name).on_timer)
        yield from ()

    def give(self, name: str, partition: str, target: str) -> Iterator[str]:
        host = self.host(name)
        view = host.core.data.serving.holdings.replicas[int(partition)].view
        assert view is not None
        host.core.data.relieve([(int(partition), view.epoch, view.version, target)])
        self.world.turn(host, host.on_timer)
        yield from ()

    # -- clients

    def read(self, name: str, partition: str) -> Iterator[str]:
        return self.ask(name, int(partition), "read", (GET, KEYS[int(partition)]))

    def write(self, name: str, partition: str) -> Iterator[str]:
        return self.ask(name, int(partition), "write", (SET, KEYS[int(partition)], b"\1", 0, 0, b""))

    def ask(self, name: str, partition: int, what: str, command: tuple[Any, ...]) -> Iterator[str]:
        host = self.host(name)
        number = self.count = self.count + 1
        host.time = self.world.time
        epoch = host.core.data.serving.holdings.replicas[partition].epoch
        self.asked[number] = f"{what} of partition {partition} under epoch {epoch}"
        request = Request(CLUSTER, 0, 0, 0, 0, 5_000, ((number, partition, epoch, 0, 0, command),))
        host.from_clients.waiting.append((b"stage", request))
        self.world.look(host, host.from_clients)
        if number in self.asked:
            yield "no answer yet"
        yield from self.answers()

    def on_answers(self, host: Host, peer: bytes, reply: Reply) -> None:
        if peer != b"stage":
            return
        serving = host.core.data.serving
        lease = "under its lease" if serving.now.seconds < serving.lease_until_s else "without a lease"
        for number in reply.numbers:
            self.answers_seen.append(f"{self.when()}  {host.name} answers a {self.asked.pop(number)}, {lease}")
        for number, refusal, _ in reply.refusals:
            what = self.asked.pop(number)
            self.answers_seen.append(f"{self.when()}  {host.name} refuses a {what}: {Refusal(refusal).name}")

    def answers(self) -> Iterator[str]:
        seen, self.answers_seen = self.answers_seen, []
        yield from seen

    # -- what is

    def when(self) -> str:
        return f"{self.world.time:6.3f}"

    def show(self) -> Iterator[str]:
        tables = [host.core.control.tracking.version for host in self.world.hosts]
        newest = self.world.hosts[tables.index(max(tables))].core.control.tracking.table
        fenced = [row.name for row in newest.nodes if row.status == FENCED] if newest is not None else []
        for host in self.world.hosts:
            host.time = self.world.time
            core = host.core
            left = core.control.lease_until() - host.read().seconds
            lease = f"a lease for {left:.2f} s" if left > 0 else "no lease"
            leads = " ".join(str(p) for p, replica in core.data.serving.holdings.replicas.items() if replica.leading)
            also = ", leads the meta group" if core.control.meta.is_leader else ""
            also += ", is fenced" if host.name in fenced else ""
            also += ", hangs" if host.hangs else ""
            also += ", has an older table" if core.control.tracking.version < max(tables) else ""
            yield f"{self.when()}  {host.name}: leads {leads or 'nothing'}, {lease}{also}"
