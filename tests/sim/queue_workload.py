"""What clients do with queues while faults happen, and the ledger by which it is judged.

Two queues of one shard each: `jobs`, whose messages may be redriven, and `lanes`, whose messages have group keys and
keep their order. Clients produce, consume, and settle what they get in every way there is, in time and too late; now
and then one vanishes with all it holds. When all is mended, everything is consumed and acknowledged: then each message
that was produced must have been acknowledged once or be a dead letter.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from gimmal.client.calls import Call
from gimmal.errors import GimmalError, OperationTimeout
from gimmal.hashing import SLOTS, key_slot
from gimmal.testing import ConsistencyViolation
from gimmal.testing.queue_ledger import QueueLedger
from gimmal.types import Command
from gimmal.wire import queue_commands as q
from gimmal.wire.messages import KeepAlive
from tests.sim.node_subject import PARTITIONS
from tests.sim.violation import Violation

if TYPE_CHECKING:
    from tests.sim.client import ClientMachine, Clients
    from tests.sim.plan import Plan
    from tests.sim.world import World

GROUP: Final = b"default"
JOBS: Final = b"{jobs/0}"
LANES: Final = b"{lanes/0}"
_SETTINGS: Final = (3, 2_000, 100, 1_000, 1, 0)
_LANES: Final = (b"red", b"blue")
_STEP_S: Final = 0.35
_DRAINING_STEP_S: Final = 0.05
_KEEPALIVE_S: Final = 1.0
_WAITS_MS: Final = (0, 200, 700)
_TIMEOUT_S: Final = 2.0
_VANISHES: Final = 0.01
_REDRIVES: Final = 0.03

ACK, NACK, RELEASE, EXTEND, LATE, FORGET = "ack", "nack", "release", "extend", "late", "forget"
_WAYS: Final = (ACK, NACK, RELEASE, EXTEND, LATE, FORGET)
_WEIGHTS: Final = (10, 4, 1, 1, 2, 2)


class QueueWorkload:
    """What happens with queues in one schedule."""

    def __init__(self, world: "World", plan: "Plan", clients: "Clients") -> None:
        self._world = world
        self._plan = plan
        self._clients = clients
        self._counts = world.counts
        self._dice = Random(f"queues {plan.seed}")
        self._ledgers = {JOBS: QueueLedger(), LANES: QueueLedger()}
        self._forgiven: dict[bytes, None] = {}
        self._ids: dict[str, bytes] = {}
        self._declared: dict[tuple[str, bytes], None] = {}
        self._busy_lanes: dict[bytes, None] = {}
        self._under_way = 0
        self._producing = 0
        self._consuming: dict[str, int] = {}
        self._numbers = 0
        self._requests = 0
        self._is_draining = False
        self._left: dict[bytes, int] = {}

    def begin(self) -> None:
        """Plan the first step; each one plans the next."""
        if self._plan.has_queues:
            self._world.plan_in(2.0, self._step)
            self._world.plan_in(_KEEPALIVE_S, self._keep_alive)

    def forgive(self, partition: int) -> None:
        """Demand nothing any more of the queues of a partition that is lost."""
        for shard in (JOBS, LANES):
            if _partition_of(shard) == partition:
                self._forgiven[shard] = None

    # -- clients ----------------------------------------------------------------------------------------------------

    def _id(self, machine: "ClientMachine") -> bytes:
        return self._ids.setdefault(machine.name, f"{machine.name}/1".encode().ljust(16, b"."))

    def _keep_alive(self) -> None:
        for machine in self._clients.machines:
            table = machine.session.table
            if table is None:
                continue
            leaders = {table.partitions[_partition_of(shard)].leader: None for shard in (JOBS, LANES)}
            for row in map(table.node, filter(None, leaders)):
                address = row.networks[0][1].client if row is not None else ""
                if machine.connections.get(address) is not None:
                    message = KeepAlive(table.cluster, 0, 0, table.version, self._id(machine))
                    self._clients.send(machine, address, message)
        self._world.plan_in(_KEEPALIVE_S, self._keep_alive)

    def _vanish(self, machine: "ClientMachine") -> None:
        """Let a client forget everything it holds, and come back as another one."""
        self._counts["clients_vanished"] += 1
        life = int(self._id(machine).strip(b".").split(b"/")[1]) + 1
        self._ids[machine.name] = f"{machine.name}/{life}".encode().ljust(16, b".")

    def _step(self) -> None:
        dice = self._dice
        machine = dice.choice(self._clients.machines)
        if machine.session.table is not None:
            shard = dice.choice((JOBS, JOBS, LANES))
            if (machine.name, shard) not in self._declared:
                self._declare(machine, shard)
            elif self._is_draining:
                if self._consuming.get(machine.name, 0) < 2 and not self._is_empty:
                    self._consume(machine, shard, 16, 200)
            elif dice.random() < _VANISHES:
                self._vanish(machine)
            elif dice.random() < _REDRIVES:
                self._start(machine, (q.REDRIVE, JOBS, GROUP, dice.randint(1, 9)), self._on_redriven)
            elif dice.random() < 0.4:
                self._produce(machine, shard)
            elif self._consuming.get(machine.name, 0) < 2:
                self._consume(machine, shard, dice.choice((1, 1, 3)), dice.choice(_WAITS_MS))
        if not self.is_drained:
            self._world.plan_in(
                dice.uniform(0.5, 1.5) * (_DRAINING_STEP_S if self._is_draining else _STEP_S), self._step
            )

    def _start(
        self,
        machine: "ClientMachine",
        command: Command,
        then: Callable[[Any, GimmalError | None], None],
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """Start a call; `then` gets its result or its error."""
        call: Call[Any] = Call([(_partition_of(command[1]), command)], lambda results: results[0])
        self._under_way += 1

        def on_done(call: Call[Any], now: float) -> None:
            self._under_way -= 1
            try:
                result = call.outcome()
            except GimmalError as error:
                then(None, error)
            else:
                then(result, None)

        call.waiter = on_done
        self._clients.start(machine, [call], timeout_s)

    # -- produce ----------------------------------------------------------------------------------------------------

    def _declare(self, machine: "ClientMachine", shard: bytes) -> None:
        def on_declared(result: Any, error: GimmalError | None) -> None:
            if error is None:
                self._declared[machine.name, shard] = None

        self._start(machine, (q.DECLARE, shard, _SETTINGS), on_declared)

    def _produce(self, machine: "ClientMachine", shard: bytes) -> None:
        dice = self._dice
        lane = b""
        if shard == LANES:
            free = [lane for lane in _LANES if lane not in self._busy_lanes]
            if not free:
                return
            lane = dice.choice(free)
            self._busy_lanes[lane] = None
        elements = []
        for _ in range(dice.randint(1, 3)):
            self._numbers += 1
            elements.append(b"%s-%d" % (machine.name.encode(), self._numbers))
        delay_ms = dice.choice((0, 0, 0, 300)) if not lane else 0
        messages = tuple((element, lane, element if dice.random() < 0.3 else b"") for element in elements)
        ledger = self._ledgers[shard]

        self._producing += 1

        def on_produced(numbers: Any, error: GimmalError | None) -> None:
            self._producing -= 1
            self._busy_lanes.pop(lane, None)
            for place, element in enumerate(elements):
                if error is None:
                    self._counts["queue_produced"] += 1
                    ledger.produced(element, str(numbers[place]), lane or None)
                elif isinstance(error, OperationTimeout) and error.maybe_applied:
                    ledger.leave_open(element)
                else:
                    ledger.refuse(element)

        self._start(machine, (q.PRODUCE, shard, delay_ms, messages), on_produced)

    # -- consume ----------------------------------------------------------------------------------------------------

    def _consume(self, machine: "ClientMachine", shard: bytes, most: int, wait_ms: int) -> None:
        self._requests += 1
        self._consuming[machine.name] = self._consuming.get(machine.name, 0) + 1
        client, request = self._id(machine), self._requests
        who = client, machine.name.encode()

        def on_consumed(rows: Any, error: GimmalError | None) -> None:
            self._consuming[machine.name] -= 1
            if error is not None:
                self._start(machine, (q.CANCEL, shard, GROUP, client, request), lambda result, error: None)
                return
            for number, token, *_, payload in rows:
                self._counts["queue_delivered"] += 1
                self._ledgers[shard].delivered(payload, str(number), token, client.decode())
                if client == self._id(machine):
                    self._handle(machine, shard, (number, token), payload)

        self._start(machine, (q.CONSUME, shard, GROUP, who, request, (most, wait_ms, 0)), on_consumed)

    def _handle(self, machine: "ClientMachine", shard: bytes, delivery: tuple[int, int], element: bytes) -> None:
        """Decide what becomes of a message, and do it after a while."""
        dice = self._dice
        way = ACK if self._is_draining else dice.choices(_WAYS, _WEIGHTS)[0]
        after_s = dice.uniform(1.0, 4.0) if way == LATE else 0.0 if self._is_draining else dice.uniform(0.0, 0.3)
        if way != FORGET:
            client = self._id(machine)

            def settle() -> None:
                if client == self._id(machine):
                    self._settle(machine, shard, delivery, element, way)

            self._world.plan_in(after_s, settle)

    def _settle(
        self, machine: "ClientMachine", shard: bytes, delivery: tuple[int, int], element: bytes, way: str
    ) -> None:
        ledger, deliveries = self._ledgers[shard], (delivery,)

        def on_settled(outcomes: Any, error: GimmalError | None) -> None:
            if error is None:
                is_done = outcomes[0] == q.Outcome.DONE
                self._counts["queue_settled" if is_done else "queue_stale"] += 1
                if is_done and way in (ACK, LATE, EXTEND):
                    ledger.acknowledged(element, delivery[1])
            elif way in (ACK, LATE, EXTEND) and isinstance(error, OperationTimeout) and error.maybe_applied:
                ledger.leave_ack_open(element)

        if way == NACK:
            command: Command = (q.NACK, shard, GROUP, deliveries, (self._dice.random() < 0.8, None), b"it said no")
        elif way == RELEASE:
            command = (q.RELEASE, shard, GROUP, deliveries)
        elif way == EXTEND:
            self._start(machine, (q.EXTEND, shard, GROUP, deliveries, 4_000), lambda result, error: None)
            self._world.plan_in(2.5, lambda: self._settle(machine, shard, delivery, element, ACK))
            return
        else:
            command = (q.ACK, shard, GROUP, deliveries)
        self._start(machine, command, on_settled)

    def _on_redriven(self, result: Any, error: GimmalError | None) -> None:
        if error is None:
            self._counts["queue_redriven"] += result

    # -- the end ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """From now on only consume, and acknowledge at once."""
        self._is_draining = True

    @property
    def is_drained(self) -> bool:
        """Whether nothing is under way and the queues were seen empty."""
        return self._is_draining and not self._under_way and self._is_empty

    @property
    def _is_empty(self) -> bool:
        """Whether all queues that owe anything were seen empty since nothing was produced any more."""
        return all(self._left.get(shard, 1) == 0 for shard in self._ledgers if shard not in self._forgiven)

    def look(self) -> list[str]:
        """Ask how much is left, and say what was by the last answer."""
        machine = self._clients.machines[0]
        if self.is_drained:
            return []
        for shard in self._ledgers:
            if shard not in self._forgiven and (machine.name, shard) in self._declared:
                self._start(machine, (q.QUEUE_STATS, shard, GROUP), partial(self._on_counts, shard))
        return [
            f"{shard.decode()} has {self._left.get(shard)} left, {self._under_way} calls under way"
            for shard in self._ledgers
        ]

    def _on_counts(self, shard: bytes, counts: Any, error: GimmalError | None) -> None:
        if counts is not None and not self._producing:
            self._left[shard] = counts[0] + counts[1] + counts[4]

    def read_dead_letters(self) -> None:
        """Ask for the dead letters, and judge everything when they are there."""
        for shard in self._ledgers:
            if shard not in self._forgiven:
                command = q.DEAD_LETTERS, shard, GROUP, 10_000
                self._start(self._clients.machines[0], command, partial(self._judge, shard))

    def _judge(self, shard: bytes, letters: Any, error: GimmalError | None) -> None:
        if error is not None:
            raise Violation("queues answer", f"{shard.decode()}: {error}")
        self._counts["queue_dead"] += len(letters)
        try:
            self._ledgers[shard].check(dead=[letter[1] for letter in letters]).raise_if_wrong()
        except ConsistencyViolation as found:
            raise Violation("queues lose nothing and give nothing twice", f"{shard.decode()}: {found}") from None


def _partition_of(shard: bytes) -> int:
    return key_slot(shard) // (SLOTS // PARTITIONS)
