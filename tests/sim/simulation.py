"""One schedule from its first event to its last: `run(seed)` returns what happened, or raises a `Violation`."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from tests.sim import plan as kinds
from tests.sim.budget import Budget
from tests.sim.client import Clients
from tests.sim.clocks import HostClock
from tests.sim.faults import Cut, Faults
from tests.sim.history import DONE
from tests.sim.host import HOME, Host, Settings
from tests.sim.liveness import complaints, members
from tests.sim.plan import Plan, draw_plan
from tests.sim.queue_workload import QueueWorkload
from tests.sim.violation import Violation
from tests.sim.visits import Visits
from tests.sim.workload import Workload, partition_of
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.subject import Start
    from tests.sim.trace import Trace

_LOOK_EVERY_S: Final = 0.5
_ACCEPTS_IN_S: Final = 10.0
_ENDS_IN_S: Final = 12.0
_AUDIT_EVERY_S: Final = 1.0
_DRAINED_IN_S: Final = 20.0
_HALF_HEALED_SETTLES_IN_S: Final = 8.0
_FLAP_EVERY_S: Final = 3.0
_FLAP_LASTS_S: Final = 2.0
_NEWCOMER: Final = "n0"


class Simulation:
    """A plan, carried out."""

    def __init__(self, plan: Plan, start: "Start", trace: "Trace | None" = None) -> None:
        self.plan = plan
        self.world = World(plan.seed, plan.weather, start, trace)
        self.world.sync_s = plan.sync_s
        self.clients = Clients(self.world, plan.seed)
        self.budget = Budget(self.world, may_lose=plan.may_lose)
        self.world.may_die, self.world.on_death = self.budget.may_die, self._died
        self.faults = Faults(self.world, plan, self.budget, self.clients.machines)
        self.visits = Visits(self.world, plan, self.budget)
        self.workload = Workload(self.world, plan, self.clients)
        self.queues = QueueWorkload(self.world, plan, self.clients)
        self.world.checks.copies.on_lost = self._forgive
        self._clock_dice = Random(f"clocks {plan.seed}")
        for machine in plan.machines:
            host = self._host(machine)
            self.world.attach(host)
            self.world.plan(machine.starts_at, lambda host=host: self.faults.restart(host))  # type: ignore[misc]

    def _host(self, machine: kinds.Machine) -> Host:
        settings = Settings(
            name=machine.name,
            address=kinds.address_of(machine.name),
            seeds=self.plan.seeds,
            expect=machine.expect,
            is_durable=machine.is_durable,
            zone=machine.zone,
            log_bytes=self.plan.log_bytes,
        )
        dice = self._clock_dice
        rate = 1 + dice.uniform(-self.plan.drift, self.plan.drift)
        return Host(settings, HostClock(dice.uniform(0.0, 1e6), dice.randint(-60_000, 60_000), rate))

    def _forgive(self, partition: int) -> None:
        self.workload.forgive(partition)
        self.queues.forgive(partition)

    def _died(self, host: Host) -> None:
        self.budget.died(host)
        self.clients.on_death(host)

    def run(self) -> Counter[str]:
        """Carry out the whole schedule.

        Raises:
            Violation: a check failed.
        """
        world, plan = self.world, self.plan
        self.run_storm()
        if plan.half_heal_s:
            self._half_heal()
        self.faults.mend()
        self._must_come_true("recovery", plan.settles_in_s, lambda: complaints(world))
        self._must_accept()
        world.run(max(plan.ends_at, world.now))
        if plan.batches:
            self._must_serve()
        self._must_come_true("recovery lasts", _ACCEPTS_IN_S, lambda: complaints(world))
        if plan.batches:
            self._must_be_equal()
        return self._account()

    def run_storm(self) -> None:
        """Carry out the part with faults, in which only safety is checked.

        Raises:
            Violation: a check failed.
        """
        self.faults.begin()
        self.visits.begin()
        self.workload.begin()
        self.queues.begin()
        self._audit()
        self.world.run(self.plan.heal_at)
        self.world.checks.raft.check_all_logs(self.world.hosts)

    # -- liveness ---------------------------------------------------------------------------------------------

    def _must_come_true(self, check: str, within_s: float, look: Callable[[], list[str]]) -> None:
        """Let time pass until nothing is complained of."""
        world = self.world
        deadline = world.now + within_s
        while True:
            self.visits.settle()
            found = look()
            if not found:
                return
            if world.now >= deadline:
                raise Violation(check, f"{within_s:.0f} s were not enough: {'; '.join(found)}")
            world.run(world.now + _LOOK_EVERY_S)

    def _must_accept(self) -> None:
        """See the cluster take in a newcomer."""
        world = self.world
        addresses = [host.address for host in members(world)]  # those of the plan may be gone for good
        seeds = tuple(dict.fromkeys((*self.plan.seeds, *addresses)))
        settings = Settings(_NEWCOMER, kinds.address_of(_NEWCOMER), seeds, expect=0, is_durable=False)
        newcomer = Host(settings, HostClock(0.0, 0, 1.0))
        world.attach(newcomer)
        world.start(newcomer)
        self._must_come_true("a newcomer is accepted", _ACCEPTS_IN_S, lambda: complaints(world))

    # -- the copies, the clients ------------------------------------------------------------------------------

    def _audit(self) -> None:
        """Look now and then whether everybody holds what they must."""
        checks = self.world.checks
        checks.copies.audit(self.world.hosts, checks.tables.newest(HOME))
        self.world.plan_in(_AUDIT_EVERY_S, self._audit)

    def _must_serve(self) -> None:
        """See the rest of the batches end, each partition take a write and a read, and each key be as it must."""
        workload = self.workload
        self.queues.drain()
        self._must_come_true("calls end", _ENDS_IN_S, lambda: [] if workload.is_done else ["calls are under way"])
        for _ in range(
            2
        ):  # by the clock of a new leader sessions may have ended: what was sent twice is not decided then
            served = workload.probe()
            self._must_come_true("calls end", _ENDS_IN_S, lambda: [] if workload.is_done else ["calls are under way"])
        found = workload.read_everything()
        self._must_come_true("calls end", _ENDS_IN_S, lambda: [] if workload.is_done else ["calls are under way"])
        table = self.world.checks.tables.newest(HOME)
        for operation in (*served, *found):
            is_lost = table is None or table.partitions[partition_of(operation.key)].is_lost
            if is_lost == (operation.outcome == DONE):
                lost = "is lost" if is_lost else "is well"
                raise Violation(
                    "partitions serve", f"{operation}, whose partition {partition_of(operation.key)} {lost}"
                )
        for operation in found:
            if operation.outcome == DONE:
                workload.history.key(operation.key).at_end(operation.result)
        if self.plan.has_queues:
            self._must_drain()

    def _must_drain(self) -> None:
        """See everything in the queues consumed, and judge what became of it."""
        self._must_come_true("queues are drained", _DRAINED_IN_S, self.queues.look)
        self.queues.read_dead_letters()
        is_drained = lambda: [] if self.queues.is_drained else ["calls are under way"]  # noqa: E731
        self._must_come_true("calls end", _ENDS_IN_S, is_drained)

    def _must_be_equal(self) -> None:
        """See all copies come to the same end, and hold everything."""
        checks = self.world.checks
        table = checks.tables.newest(HOME)
        assert table is not None
        look = lambda: checks.copies.differences(self.world.hosts, table)  # noqa: E731
        self._must_come_true("copies are equal", _ENDS_IN_S, look)
        checks.copies.audit(self.world.hosts, table)

    def _half_heal(self) -> None:
        """Mend everything but one machine that hears nobody, or that nobody hears: the others keep one leader."""
        world, plan = self.world, self.plan
        self.visits.settle()
        hosts = members(world)
        if len({host.name for host in hosts}) < len(hosts):
            return  # two claim one name, and neither can be spared: which one votes may yet change
        candidates = [host for host in hosts if self.budget.may_retire(host)]
        if not candidates or HOME not in world.checks.tables.cluster_by_group:
            return  # nobody can be spared: there is no majority without, or no cluster yet
        odd = world.dice.choice(candidates)
        others = [host for host in hosts if host is not odd]
        self.faults.mend()
        is_deaf = world.dice.random() < 0.5
        world.note(f"{odd.name} {'hears nobody' if is_deaf else 'is heard by nobody'}")
        one_way: Cut = ([*others], [odd]) if is_deaf else ([odd], [*others])
        ends_at = world.now + plan.half_heal_s
        if plan.half_heal_flaps:
            for number in range(int(plan.half_heal_s / _FLAP_EVERY_S)):
                world.plan_in(number * _FLAP_EVERY_S, lambda: self.faults.cut([one_way], _FLAP_LASTS_S))
        else:
            self.faults.cut([one_way], plan.half_heal_s)
        world.run(world.now + _HALF_HEALED_SETTLES_IN_S)
        names = [host.name for host in members(world)]
        if not self.budget.may_retire(odd) or len(dict.fromkeys(names)) < len(names):
            return  # a change of voters that was under way has made it one of two, or a visitor has come
        world.counts["half_heals"] += 1
        history = world.checks.raft.history(world.checks.tables.cluster_by_group[HOME])
        term_before = history.term_max
        world.run(ends_at)
        leaders = [host for host in others if host.raft is not None and host.raft.is_leader]
        if len(leaders) != 1 or history.term_max != term_before:
            raise Violation(
                "a majority keeps its leader",
                f"{odd.name} is cut off one way; leaders: {[host.name for host in leaders]}, "
                f"terms {term_before} to {history.term_max}",
            )

    # -- the account ------------------------------------------------------------------------------------------

    def _account(self) -> Counter[str]:
        world = self.world
        world.checks.raft.check_all_logs(world.hosts)
        for host in world.hosts:
            if host.is_up:
                world.checks.on_death(host)
        self.clients.settle()
        counts = world.counts
        counts["schedules"] += 1
        counts["messages"] = world.network.sent
        counts["turns"] = world.turns
        counts["virtual_seconds"] = int(world.now)
        return counts


def run(seed: int, start: "Start", trace: "Trace | None" = None) -> Counter[str]:
    """Run the schedule of a seed.

    Raises:
        Violation: a check failed.
    """
    return Simulation(draw_plan(seed), start, trace).run()
