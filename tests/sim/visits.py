"""Processes that are not part of the cluster as it was meant: an impostor, and a foreigner.

An impostor claims the name of a node that exists, from another machine. It is refused while the node is alive; once
the node is fenced the impostor may well get the name, and then it is the node that is refused. An operator who mends
things stops whichever of the two the cluster does not know under the name. Where the cluster looks for a node that was
restarted without knowing anybody is under its name: once another has had that, it is started with the seeds of all.

A foreigner has founded a cluster of its own, and is then started again with the seeds of ours. It must get nothing
from us, and we nothing from it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.sim import plan as kinds
from tests.sim.clocks import HostClock
from tests.sim.host import FOREIGN, HOME, Host, Settings

if TYPE_CHECKING:
    from tests.sim.budget import Budget
    from tests.sim.plan import Plan
    from tests.sim.world import World


_COMES_LATER_S = 1.0


class Visits:
    """The visitors of one schedule."""

    def __init__(self, world: "World", plan: "Plan", budget: "Budget") -> None:
        self._world = world
        self._plan = plan
        self._budget = budget

    def begin(self) -> None:
        """Plan the visits that the schedule has."""
        dice = self._world.dice
        if kinds.IMPOSTOR in self._plan.kinds:
            self._world.plan(dice.uniform(1.0, 20.0), self._impostor_comes)
        if kinds.FOREIGNER in self._plan.kinds:
            self._world.plan(0.0, self._foreigner_founds)

    def _impostor_comes(self) -> None:
        dice = self._world.dice
        if not self._budget.may_come():
            self._world.plan_in(_COMES_LATER_S, self._impostor_comes)
            return
        victim = dice.choice([host for host in self._world.hosts if host.group == HOME])
        settings = Settings(
            name=victim.name,
            address=kinds.address_of(f"{victim.name}-twin"),
            seeds=self._plan.seeds,
            expect=0,
            is_durable=dice.random() < 0.5,
        )
        everybody = tuple(machine.address for machine in self._world.hosts if machine.group == HOME)
        victim.settings = replace(victim.settings, seeds=tuple(dict.fromkeys((*self._plan.seeds, *everybody))))
        self._come("impostors", Host(settings, any_clock(self._world), is_impostor=True))

    def _foreigner_founds(self) -> None:
        settings = Settings("x1", kinds.address_of("x1"), seeds=(), expect=1, is_durable=True)
        foreigner = Host(settings, any_clock(self._world), group=FOREIGN)
        self._come("foreigners", foreigner)
        self._world.plan(self._world.dice.uniform(5.0, 15.0), lambda: self._foreigner_visits(foreigner))

    def _foreigner_visits(self, foreigner: Host) -> None:
        if foreigner.is_up:
            self._world.kill(foreigner)
        foreigner.settings = replace(foreigner.settings, seeds=self._plan.seeds, expect=0)
        self._world.start(foreigner)

    def _come(self, count: str, host: Host) -> None:
        self._world.counts[count] += 1
        self._world.attach(host)
        self._world.start(host)

    def settle(self) -> None:
        """Stop, of two processes with one name, the one that the cluster does not know, if it can do without it."""
        table = self._world.checks.tables.newest(HOME)
        for impostor in self._world.hosts:
            if not impostor.is_impostor or impostor.retired:
                continue
            for original in self._world.hosts:
                if original.name == impostor.name and not original.is_impostor and not original.retired:
                    row = table.node(impostor.name) if table is not None else None
                    is_taken = row is not None and row.uuid == impostor.uuid and impostor.is_up
                    self._retire(original if is_taken else impostor)

    def _retire(self, host: Host) -> None:
        if self._budget.may_retire(host):
            self._world.note(f"{host.name} at {host.address} is stopped for good")
            if host.is_up:
                self._world.kill(host)
            host.retired = True


def any_clock(world: "World") -> HostClock:
    """The clock of a machine that joins in later: as wrong as any."""
    return HostClock(world.dice.uniform(0.0, 1e6), world.dice.randint(-60_000, 60_000), 1.0)
