"""What clients ask for while faults happen: batches of calls, on few keys, of which some are hot.

A batch is what one client starts in one turn. How often and what, each schedule draws for itself; the number of batches
is the same for all. Those that did not find a cluster in time follow when everything is mended.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from gimmal.client.calls import Call
from gimmal.client.commands import Commands, encode_key
from gimmal.client.values import Values
from gimmal.errors import GimmalError, OperationTimeout
from gimmal.hashing import SLOTS, key_slot
from tests.sim import history as histories
from tests.sim.client import ClientMachine, Clients
from tests.sim.history import DONE, READ, REFUSED, UNKNOWN, History, Operation
from tests.sim.node_subject import PARTITIONS

if TYPE_CHECKING:
    from tests.sim.plan import Plan
    from tests.sim.world import World

_KEYS: Final = 6
_TIMEOUTS_S: Final = (0.5, 2.0, 5.0)
_CATCH_UP_EVERY_S: Final = 0.03
_CLAIMED_BY: Final = 3  # calls per key, on average
_VERSIONED_SHARE: Final = 0.5

Result = Callable[[Any, Operation], Any]


def partition_of(key: str) -> int:
    """The partition of a key."""
    return key_slot(encode_key(key)) // (SLOTS // PARTITIONS)


class Workload:
    """The clients of one schedule, and the calls they have under way."""

    def __init__(self, world: "World", plan: "Plan", clients: Clients) -> None:
        self.history = History(world.counts)
        self.batches_left = plan.batches
        self._world = world
        self._plan = plan
        self._clients = clients
        self._dice = Random(f"workload {plan.seed}")
        self._commands = Commands(PARTITIONS, Values())
        self._under_way: dict[Call[Any], tuple[list[Operation], Result]] = {}
        self._claims = 0
        self._values = 0
        self._makers = self._draw_makers()
        self._pause_s = max(0.01, (plan.heal_at - _FOUNDED_BY_S) / max(1, plan.batches))

    def _draw_makers(self) -> list[Callable[[str], Call[Any]]]:
        makers: list[Callable[[str], Call[Any]]] = [
            *(self._add, self._claim, self._set, self._delete, self._set_fleeting),
            *(self._read, self._read, self._read, self._set_many, self._get_many),
        ]
        return [maker for maker in makers for _ in range(self._dice.choice((1, 1, 4)))]

    def begin(self) -> None:
        """Start the clients, and plan the first batch; each one plans the next."""
        if not self._plan.batches:
            return
        seeds = tuple(address.replace(":7701", ":7700") for address in self._plan.seeds)
        for _ in range(self._plan.clients):
            self._clients.add(seeds, self._on_done)
        self._world.plan_in(1.0, self._step)

    @property
    def is_done(self) -> bool:
        """Whether every batch was started and every call has ended."""
        return not self.batches_left and not self._under_way

    def _step(self) -> None:
        world = self._world
        machine = self._dice.choice(self._clients.machines)
        if self.batches_left and machine.session.table is not None:
            self.batches_left -= 1
            world.counts["batches"] += 1
            makers = self._dice.choices(self._makers, k=self._dice.choice((1, 1, 2, 3)))
            self._start(machine, [maker(machine.name) for maker in makers], self._dice.choice(_TIMEOUTS_S))
        if self.batches_left:
            world.plan_in(self._dice.expovariate(1 / self._next_pause_s()), self._step)

    def _next_pause_s(self) -> float:
        """Return a pause with which the rest of the batches is about done when faults end."""
        left_s = self._plan.heal_at - self._world.now
        return max(_CATCH_UP_EVERY_S, left_s / self.batches_left)

    def _start(self, machine: ClientMachine, calls: list[Call[Any]], timeout_s: float) -> None:
        self._clients.start(machine, calls, timeout_s)

    def forgive(self, partition: int) -> None:
        """Demand nothing any more of the keys of a partition that is lost."""
        self.history.forgive(lambda key: partition_of(key) == partition)

    # -- calls ------------------------------------------------------------------------------------------------

    def _key(self, use: str) -> str:
        return f"{use}:{min(self._dice.randrange(_KEYS), self._dice.randrange(_KEYS))}"

    def _value(self, client: str) -> str:
        self._values += 1
        return f"{client}-{self._values}"

    def _begin(self, client: str, kind: str, key: str, argument: Any) -> Operation:
        return self.history.begin(client, kind, key, argument, self._world.now)

    def _note(self, call: Call[Any], operations: list[Operation], result: Result) -> Call[Any]:
        self._under_way[call] = (operations, result)
        return call

    def _one(self, call: Call[Any], operation: Operation) -> Call[Any]:
        return self._note(call, [operation], lambda outcome, operation: outcome)

    def _add(self, client: str) -> Call[Any]:
        key, amount = self._key("counter"), self._dice.choice((1, 1, 1, 7))
        return self._one(self._commands.incr(key, amount), self._begin(client, histories.ADD, key, amount))

    def _claim(self, client: str) -> Call[Any]:
        self._claims += 1
        key, value = f"claim:{self._claims // _CLAIMED_BY}", self._value(client)
        call = self._commands.set(key, value, None, (True, False, False), None)
        return self._one(call, self._begin(client, histories.CLAIM, key, value))

    def _set(self, client: str) -> Call[Any]:
        key, value = self._key(self._dice.choice(("register", "deleted"))), self._value(client)
        call = self._commands.set(key, value, None, (False, False, False), None)
        return self._one(call, self._begin(client, histories.SET, key, value))

    def _set_fleeting(self, client: str) -> Call[Any]:
        key, value, ttl = self._key("fleeting"), self._value(client), self._dice.choice((0.05, 0.5, 5.0))
        call = self._commands.set(key, value, ttl, (False, False, False), None)
        return self._one(call, self._begin(client, histories.SET, key, value))

    def _delete(self, client: str) -> Call[Any]:
        if self._dice.random() < 0.7:
            key = self._key("deleted")
            return self._one(self._commands.delete(key), self._begin(client, histories.DELETE, key, None))
        keys = self._some_keys("deleted")
        operations = [self._begin(client, histories.DELETE, key, None) for key in keys]
        return self._note(self._commands.delete_many(keys), operations, lambda outcome, operation: outcome)

    def _read(self, client: str) -> Call[Any]:
        use = self._dice.choice(("counter", "register", "register", "deleted", "fleeting", "claim"))
        if use == "claim":
            return self.read(client, f"claim:{self._dice.randint(0, self._claims // _CLAIMED_BY)}")
        return self.read(client, self._key(use))

    def read(self, client: str, key: str) -> Call[Any]:
        """Return a call that reads a key, with its version or without."""
        operation = self._begin(client, READ, key, None)
        chance = self._dice.random()
        if chance < _VERSIONED_SHARE:
            return self._note(self._commands.get_versioned(key), [operation], _with_version)
        if chance < _VERSIONED_SHARE + 0.1:  # may be old: nothing is asked of it but that it ends
            self.history.operations.pop()
            return self._note(self._commands.get(key, None, "any"), [], lambda outcome, operation: None)
        return self._one(self._commands.get(key, None, "linearizable"), operation)

    def _some_keys(self, use: str) -> list[str]:
        return [f"{use}:{number}" for number in sorted(self._dice.sample(range(_KEYS), self._dice.randint(2, _KEYS)))]

    def _set_many(self, client: str) -> Call[Any]:
        keys = self._some_keys("register")
        values = [self._value(client) for _ in keys]
        operations = [self._begin(client, histories.SET, *pair) for pair in zip(keys, values, strict=True)]
        return self._note(
            self._commands.set_many(dict(zip(keys, values, strict=True)), None),
            operations,
            lambda outcome, operation: outcome,
        )

    def _get_many(self, client: str) -> Call[Any]:
        keys = self._some_keys(self._dice.choice(("register", "deleted", "counter")))
        operations = [self._begin(client, READ, key, None) for key in keys]
        call = self._commands.get_many(keys, "linearizable")
        return self._note(call, operations, lambda outcome, operation: outcome.get(operation.key))

    # -- answers ----------------------------------------------------------------------------------------------

    def _on_done(self, call: Call[Any], now: float) -> None:
        if call.waiter is not None:  # one of the queues'
            call.waiter(call, now)
            return
        operations, result = self._under_way.pop(call)
        failed: dict[str, GimmalError] = {}
        outcome: Any = None
        try:
            outcome = call.outcome()
        except GimmalError as error:
            outcome = error.done
            failed = dict(error.failed) or {operation.key: error for operation in operations}
        for operation in operations:
            error_of_key = failed.get(operation.key)
            if error_of_key is None:
                is_whole = not failed or operation.kind == READ
                self.history.end(operation, DONE, result(outcome, operation) if is_whole else None, now)
            elif isinstance(error_of_key, OperationTimeout) and error_of_key.maybe_applied:
                self.history.end(operation, UNKNOWN, None, now)
            else:
                self._world.counts[f"refused_{type(error_of_key).__name__}"] += 1
                self.history.end(operation, REFUSED, None, now)

    # -- the end ----------------------------------------------------------------------------------------------

    def probe(self) -> list[Operation]:
        """Let a client write and read in every partition; return the operations, which must all succeed."""
        machine = self._clients.machines[0]
        calls, first = [], len(self.history.operations)
        for partition in range(PARTITIONS):
            key = next(key for key in map("register:probe-{}".format, range(10_000)) if partition_of(key) == partition)
            value = self._value(machine.name)
            call = self._commands.set(key, value, None, (False, False, False), None)
            calls.append(self._one(call, self._begin(machine.name, histories.SET, key, value)))
            calls.append(
                self._one(self._commands.get(key, None, "linearizable"), self._begin(machine.name, READ, key, None))
            )
        self._start(machine, calls, max(_TIMEOUTS_S))
        return self.history.operations[first:]

    def read_everything(self) -> list[Operation]:
        """Let a client read every key there ever was; return the operations."""
        machine = self._clients.machines[0]
        calls, first = [], len(self.history.operations)
        for key in list(self.history.keys):
            operation = self._begin(machine.name, READ, key, None)
            calls.append(self._one(self._commands.get(key, None, "linearizable"), operation))
        self._start(machine, calls, max(_TIMEOUTS_S))
        return self.history.operations[first:]


_FOUNDED_BY_S: Final = 5.0


def _with_version(outcome: Any, operation: Operation) -> Any:
    if outcome is None:
        return None
    value, operation.version = outcome
    return value
