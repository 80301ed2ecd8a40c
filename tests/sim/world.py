"""A whole cluster in one process, in virtual time, decided by one seed.

The world is a heap of events (time, order, host, item, source): a message or refusal that arrives, a host that wants
its turn, or (without a host) a step planned by the schedule. A host's turn is that of the real shell: everything that
has arrived, `tick`, write and sync what the core wants durable, `on_saved`, then send. While its process is stopped or
its disk is busy a host takes no turn and its messages queue up.

Rules that keep it honest:

- No host sees virtual time, only its own clocks.
- Nothing a core asked to have sent leaves before what it asked to have written is synced; a process may die before
  the write, between write and sync, between sync and sending, and in the midst of sending.
- All dice descend from the seed; no set is walked over and no hash() decides anything.

What clients send arrives in the same way; what a turn has for them is given to `on_answers`. What the world does not
do: real bytes on real sockets. `tests/cluster` has those.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, Final

from gimmal.wire.messages import Message
from tests.sim.checks import Checks
from tests.sim.client import FromClient
from tests.sim.disk import Disk
from tests.sim.host import NEVER, Host
from tests.sim.network import Machine, Network, Refused, Weather
from tests.sim.subject import Start
from tests.sim.trace import Trace
from tests.sim.violation import Violation

Event = tuple[float, int, "Host | None", Any, "Machine | None"]

TIMER_GRAIN_S: Final = 0.001
BATCH_S: Final = 0.0005
TURNS_MAX: Final = 2_000_000

BEFORE_WRITE: Final = "before the write"
BEFORE_SYNC: Final = "between write and sync"
BEFORE_SEND: Final = "between sync and sending"
WHILE_SENDING: Final = "in the midst of sending"
DYING_POINTS: Final = (BEFORE_WRITE, BEFORE_SYNC, BEFORE_SEND, WHILE_SENDING)


class World:
    """Hosts, the network between them, and the time; `checks` looks at each host after its turns."""

    def __init__(self, seed: int, weather: Weather, start: Start, trace: Trace | None = None) -> None:
        self.now = 0.0
        self.dice = Random(f"world {seed}")
        self.counts: Counter[str] = Counter()
        self.hosts: list[Host] = []
        self._host_by_client_address: dict[str, Host] = {}
        self.network = Network(weather, Random(f"network {seed}"), self.post, self.counts)
        self.checks = Checks(self.counts)
        self.checks.leases.around = lambda: (self.now, self.hosts)
        self.trace = trace
        self.sync_s = 0.0005
        self.may_die: Callable[[Host], bool] = lambda host: True
        self.on_death: Callable[[Host], None] = lambda host: None
        self.on_answers: Callable[[Host, list[tuple[bytes, Message]], float], None] = lambda host, answers, at: None
        self._start = start
        self._heap: list[Event] = []
        self._order = count().__next__
        self.turns = 0

    # -- hosts ------------------------------------------------------------------------------------------------

    def attach(self, host: Host) -> None:
        """Add a machine; nothing runs on it yet."""
        if host.settings.is_durable:
            host.disk = Disk()
        self.hosts.append(host)
        self._host_by_client_address[host.client_address] = host
        self.network.attach(host)

    def start(self, host: Host) -> None:
        """Start a process on a machine: a new uuid, and nothing of the last one but its journal."""
        assert host.core is None
        assert not host.retired
        if host.life:
            self.counts["restarts"] += 1
        host.forget()
        host.life += 1
        host.uuid = self.dice.getrandbits(128).to_bytes(16, "big")
        host.inbox = []
        host.stopped_until = 0.0
        host.doomed_at = ""
        host.armed_at = host.deadline = host.deadline_s = NEVER
        self.note(f"{host.name} starts, life {host.life}")
        self._boot(host, Random(self.dice.getrandbits(64)))
        self.poke(host)

    def kill(self, host: Host) -> None:
        """End a process at once; memory is lost, and of the journal what was not synced."""
        assert host.core is not None
        self.counts["crashes"] += 1
        if host.disk is not None and host.disk.crash(self.dice):
            self.counts["torn_writes"] += 1
        self.note(f"{host.name} dies")
        self.checks.on_death(host)
        self.on_death(host)
        host.inbox = []
        host.forget()
        if host.disk is not None:
            self._boot(host, Random(0))  # to see what is on the disk now, and no more than that
        host.core = host.watch = None

    def _boot(self, host: Host, dice: Random) -> None:
        """Make a process of what is on a machine's disk, and look at it."""
        journal = host.disk.read() if host.disk is not None else b""
        with self._no_error_in(host):
            host.core, host.watch = self._start(host, journal, dice, host.clock.instant(self.now, 0.0))
        host.voter = host.watch.voter
        self.checks.on_start(host)

    def pause(self, host: Host, seconds: float) -> None:
        """Stop a process as SIGSTOP does: what arrives waits, and its clocks go on."""
        host.stopped_until = max(host.stopped_until, self.now + seconds)

    def host_by_client_address(self, address: str) -> Host | None:
        """The machine whose node clients reach at an address."""
        return self._host_by_client_address.get(address)

    # -- time -------------------------------------------------------------------------------------------------

    def plan(self, time: float, step: Callable[[], None]) -> None:
        """Have a step of the schedule taken at a time."""
        heapq.heappush(self._heap, (max(time, self.now), self._order(), None, step, None))

    def plan_in(self, seconds: float, step: Callable[[], None]) -> None:
        self.plan(self.now + seconds, step)

    def note(self, text: str) -> None:
        """Write an event into the trace, if there is one."""
        if self.trace is not None:
            self.trace.happened(self.now, text)

    def poke(self, host: Host) -> None:
        """Let a host take a turn now, or as soon as it is no longer stopped."""
        if host.core is not None:
            host.deadline, host.deadline_s = self.now, host.clock.seconds(self.now)
            self._arm(host, self.now)

    def rearm(self, host: Host) -> None:
        """Look again when a host wants its turn: its clock's rate has changed."""
        if host.core is not None and host.deadline_s < NEVER:
            host.deadline = host.clock.time_of(host.deadline_s)
            self._arm(host, host.deadline)

    def run(self, until: float) -> None:
        """Let everything happen that is due before a time."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, _, host, item, source = heapq.heappop(heap)
            self.now = time
            if host is None:
                item()
                continue
            if item is None:
                if time != host.armed_at or host.core is None:
                    continue
                host.armed_at = NEVER
                if time < host.stopped_until:
                    self._arm(host, host.stopped_until)
                elif time < host.deadline and not host.inbox:
                    self._arm(host, host.deadline)
                else:
                    self._turn(host, time)
                continue
            self._arrive(host, item, source)
            drained_by = min(time + BATCH_S, until)
            while heap and heap[0][2] is host and heap[0][3] is not None and heap[0][0] <= drained_by:
                self.now, _, _, item, source = heapq.heappop(heap)
                self._arrive(host, item, source)
            if host.inbox:
                if self.now < host.stopped_until:
                    self._arm(host, host.stopped_until)
                else:
                    self._turn(host, self.now)
        self.now = until

    def _arrive(self, host: Host, item: Any, source: Any) -> None:
        if self.trace is not None:
            self.trace.delivered(self.now, source, host, item)
        if type(item) is Refused:
            if host.core is not None and item.life == host.life:
                host.inbox.append(item)
        elif type(item) is FromClient:
            if host.core is not None and item.connection.life == host.life and not item.connection.is_broken:
                host.inbox.append(item)
        elif host.core is not None:
            host.inbox.append(item)
        else:
            self.network.refuse(source, host, self.now)

    def post(self, time: float, host: Host, item: object, source: Machine) -> None:
        """Let something arrive at a host."""
        heapq.heappush(self._heap, (time, self._order(), host, item, source))

    def _arm(self, host: Host, time: float) -> None:
        if time < host.armed_at:
            host.armed_at = time
            heapq.heappush(self._heap, (time, self._order(), host, None, None))

    # -- a turn -----------------------------------------------------------------------------------------------

    @contextmanager
    def _no_error_in(self, host: Host) -> Iterator[None]:
        """Make whatever a node raises a finding: it needs the seed as much as any other."""
        try:
            yield
        except Violation:
            raise
        except Exception as error:
            raise Violation("no error in a node", f"{host.name} at {self.now:.4f}: {error!r}") from error

    def _turn(self, host: Host, time: float) -> None:
        try:
            self._take_turn(host, time)
        except Violation:
            raise
        except Exception as error:
            raise Violation("no error in a node", f"{host.name} at {time:.4f}: {error!r}") from error

    def _take_turn(self, host: Host, time: float) -> None:
        core = host.core
        assert core is not None
        self.turns += 1
        if self.turns > TURNS_MAX:
            raise Violation("bounded work", f"{TURNS_MAX} turns by {time:.1f} s: something asks for ticks for ever")
        now = host.clock.instant(time, host.deadline_s if time >= host.deadline else 0.0)
        inbox = host.inbox
        if inbox:
            host.inbox = []
            for item in inbox:
                if type(item) is Refused:
                    core.on_refused(item.address, now)
                elif type(item) is FromClient:
                    core.receive(item.connection.peer, item.message, now)
                else:
                    core.receive_from_node(item, now)  # type: ignore[arg-type]
        core.tick(now)
        save = core.unsaved()
        has_saved = save is not None
        while save is not None:
            if host.disk is not None:
                if not self._survives_write(host, save):
                    return
                time += self.sync_s
                host.stopped_until = time
                now = host.clock.instant(time, now.seconds)
            elif self._dies_at(host, BEFORE_WRITE):
                return
            core.on_saved(now)
            save = core.unsaved()
        answers = core.drain()
        outgoing = core.drain_for_nodes()
        for level, text in core.complaints():
            self._complained(host, level, text)
        self.checks.on_turn(host, inbox, outgoing)
        if has_saved and outgoing and host.doomed_at == WHILE_SENDING and self.may_die(host):
            self._send(host, outgoing[: self.dice.randrange(len(outgoing))], time)
            self._dies_at(host, WHILE_SENDING)
            return
        if outgoing:
            self._send(host, outgoing, time)
        if answers:
            self.on_answers(host, answers, time)
        self._set_deadline(host, core.next_deadline(), time)

    def _send(self, host: Host, outgoing: list[tuple[str, Any]], time: float) -> None:
        on_leaving, send = self.checks.on_leaving, self.network.send
        for address, message in outgoing:
            on_leaving(host, message)
            send(host, address, message, time)

    def _set_deadline(self, host: Host, deadline_s: float | None, time: float) -> None:
        if deadline_s is None or deadline_s == NEVER:
            host.deadline = host.deadline_s = NEVER
            return
        host.deadline_s = deadline_s
        host.deadline = max(host.clock.time_of(deadline_s), time + TIMER_GRAIN_S)
        if host.deadline < host.armed_at:
            self._arm(host, host.deadline)

    def _survives_write(self, host: Host, save: Any) -> bool:
        assert host.disk is not None
        if host.doomed_at == BEFORE_WRITE and self._dies_at(host, BEFORE_WRITE):
            return False
        host.disk.write(save)
        if host.doomed_at == BEFORE_SYNC and self._dies_at(host, BEFORE_SYNC):
            return False
        host.disk.sync()
        return not (host.doomed_at == BEFORE_SEND and self._dies_at(host, BEFORE_SEND))

    def _dies_at(self, host: Host, point: str) -> bool:
        """Let a doomed process die at a point of its turn, if it is the point and the cluster can bear it."""
        if host.doomed_at != point:
            return False
        host.doomed_at = ""
        if not self.may_die(host):
            return False
        self.note(f"{host.name} is hit {point}")
        self.counts["crashes_" + point.replace(" ", "_")] += 1
        self.kill(host)
        return True

    def _complained(self, host: Host, level: str, text: str) -> None:
        self.counts["complaints"] += 1
        if self.trace is not None:
            self.note(f"{host.name} logs [{level}] {text}")
