"""The faults that happen in a schedule: each kind is a method that lets one happen now, and plans its end.

`mend` ends all of them and lets no new one begin. A kind that finds nothing to do does nothing; what really happened
is counted, and a run in which some kind never happened is a run whose schedules are wrong.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.sim import plan as kinds
from tests.sim.clocks import DRIFT_MAX
from tests.sim.host import HOME, Host
from tests.sim.network import Machine, Weather
from tests.sim.world import DYING_POINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sim.budget import Budget
    from tests.sim.client import ClientMachine
    from tests.sim.plan import Plan
    from tests.sim.world import World

_WALL_JUMP_MS: Final = 3_600_000
_LASTS_MAX_S: Final = 20.0
_WITH_CLIENTS: Final = 0.5
_HUNT_EVERY_S: Final = 0.02
_HUNT_WITHIN_S: Final = 0.4
_HUNTS_HEIRS: Final = 0.3

Cut = tuple[list[Machine], list[Machine]]


class Faults:
    """The storm of one schedule."""

    def __init__(self, world: "World", plan: "Plan", budget: "Budget", clients: "Sequence[ClientMachine]" = ()) -> None:
        self._world = world
        self._plan = plan
        self._budget = budget
        self._clients = clients
        self._dice = world.dice
        self._cuts: list[Cut] = []
        self._is_over = False
        self._heir: tuple[Host | None, int, int] = (None, 0, 0)
        self._prey: tuple[Host | None, int, bool] = (None, 0, False)
        self._methods: dict[str, Callable[[], None]] = {
            kinds.CLOG: self.clog,
            kinds.PARTITION: self.partition,
            kinds.ONE_WAY: self.one_way,
            kinds.PAUSE: self.pause,
            kinds.CRASH: self.crash,
            kinds.DYING_WRITE: self.dying_write,
            kinds.CLOCKS: self.clocks,
        }
        assert set(self._methods) == set(kinds.EPISODES)

    def begin(self) -> None:
        """Plan the first episode; each one plans the next."""
        if self._plan.weights:
            self._world.plan(self._plan.calm_until + self._pause_s(), self._episode)
        if kinds.HUNT in self._plan.kinds:
            self._world.plan(self._plan.calm_until, self._look_for_prey)

    def _episode(self) -> None:
        if self._is_over:
            return
        names, weights = list(self._plan.weights), list(self._plan.weights.values())
        if len(self._home()) > 1:
            self._methods[self._dice.choices(names, weights)[0]]()
        self._world.plan_in(self._pause_s(), self._episode)

    def _pause_s(self) -> float:
        return self._dice.expovariate(1 / self._plan.episode_every_s)

    def _lasts_s(self) -> float:
        return min(_LASTS_MAX_S, self._dice.expovariate(1 / self._plan.episode_lasts_s))

    def _home(self) -> list[Host]:
        return [host for host in self._world.hosts if host.group == HOME and host.life and not host.retired]

    def _one_up(self) -> Host | None:
        up = [host for host in self._home() if host.is_up]
        return self._dice.choice(up) if up else None

    # -- links ------------------------------------------------------------------------------------------------

    def clog(self) -> None:
        """Hold back everything on one link, or on all links to one host, and then let it arrive together."""
        hosts = self._home()
        target = self._dice.choice(hosts)
        others: list[Machine] = [host for host in hosts if host is not target]
        if self._dice.random() < _WITH_CLIENTS:
            others += self._clients
        sources = others if self._dice.random() < 0.5 else [self._dice.choice(others)]
        until = min(self._world.now + self._lasts_s(), self._plan.heal_at)
        for source in sources:
            self._world.network.link(source, target.address).clogged_until = until
        self._happened("clogs", f"links to {target.name} from {_names(sources)} are clogged until {until:.3f}")

    def partition(self) -> None:
        """Cut the hosts into two sides, that hear nothing of each other."""
        one, other = self._sides()
        if one and other:
            self.cut([(one, other), (other, one)], self._lasts_s())
            self._happened("partitions", f"{_names(one)} and {_names(other)} are cut apart")

    def one_way(self) -> None:
        """Let some hosts hear nothing of others, which still hear them."""
        one, other = self._sides()
        if one and other:
            self.cut([(one, other)], self._lasts_s())
            self._happened("one_way_partitions", f"nothing from {_names(one)} reaches {_names(other)}")

    def _sides(self) -> Cut:
        one, other = self._sides_of_hosts()
        if one and other and self._dice.random() < _WITH_CLIENTS:
            for client in self._clients:
                (one if self._dice.random() < 0.5 else other).append(client)
        return one, other

    def _sides_of_hosts(self) -> Cut:
        hosts: list[Machine] = [*self._home()]
        self._dice.shuffle(hosts)
        shape = self._dice.random()
        if shape < 0.3:
            return hosts[:1], hosts[1:]
        if shape < 0.6:
            return hosts[1:], hosts[:1]
        if shape < 0.75:
            return hosts[:1], hosts[1:2]
        size = self._dice.randint(1, max(1, len(hosts) - 1))
        return hosts[:size], hosts[size:]

    def cut(self, cuts: list[Cut], lasts_s: float) -> None:
        """Cut links one way each, and plan their mending."""
        for cut in cuts:
            self._world.network.cut(*cut, 1)
            self._cuts.append(cut)
        self._world.plan_in(lasts_s, lambda: self._mend_cuts(cuts))

    def _mend_cuts(self, cuts: list[Cut]) -> None:
        for cut in cuts:
            if any(cut is standing for standing in self._cuts):
                self._cuts = [standing for standing in self._cuts if standing is not cut]
                self._world.network.cut(*cut, -1)

    def _look_for_prey(self) -> None:
        """Look for a candidate, or for a leader that was elected or took partitions over just now."""
        if self._is_over:
            return
        heir = self._world.checks.copies.ambitious
        if heir != self._heir:
            self._heir = heir
            host = heir[0]
            if host is not None and host.group == HOME and self._dice.random() < _HUNTS_HEIRS:
                self._world.plan_in(self._dice.uniform(0.0, _HUNT_WITHIN_S), lambda heir=host: self.hunt_heir(heir))  # type: ignore[misc]
        ambitious = self._world.checks.raft.ambitious
        if ambitious != self._prey:
            self._prey = ambitious
            host, _, has_won = ambitious
            if host is not None and host.group == HOME and self._dice.random() < 0.5:
                delay_s = self._dice.uniform(0.0, _HUNT_WITHIN_S) if has_won else 0.0
                self._world.plan_in(delay_s, lambda: self.hunt(host))
        self._world.plan_in(_HUNT_EVERY_S, self._look_for_prey)

    def hunt(self, prey: Host) -> None:
        """Let a candidate win and reach nobody, or a leader fall before what it sent is everywhere."""
        others: list[Machine] = [host for host in self._home() if host is not prey]
        if self._is_over or not others:
            return
        deaf = others if self._dice.random() < 0.5 else self._dice.sample(others, self._dice.randint(1, len(others)))
        self.cut([([prey], deaf)], self._lasts_s())
        self._happened("hunts", f"nothing from {prey.name}, which stands or leads, reaches {_names(deaf)}")

    def hunt_heir(self, prey: Host) -> None:
        """Let a new leader of partitions stop, die, or lose the others, before all of them follow it."""
        if self._is_over or not prey.is_up:
            return
        self._happened("heirs_hunted", f"{prey.name} has taken partitions over")
        chance = self._dice.random()
        if chance < 0.3:
            self._world.pause(prey, self._lasts_s())
        elif chance < 0.5 and self._budget.may_die(prey):
            self._world.kill(prey)
            self.restart_later(prey)
        else:
            self.hunt(prey)

    # -- processes --------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop a process for a while, as SIGSTOP or a stalled machine does."""
        host = self._one_up()
        if host is not None:
            seconds = self._dice.choice((0.1, 1.0, 1.0)) * self._lasts_s()
            self._world.pause(host, seconds)
            self._happened("pauses", f"{host.name} is stopped for {seconds:.3f} s")

    def crash(self) -> None:
        """Kill a process, or with disks even several, and restart them later."""
        victims = [self._one_up()]
        if self._dice.random() < 0.25:
            victims += [host for host in self._home() if host.is_up and self._dice.random() < 0.7]
        for host in victims:
            if host is not None and self._budget.may_die(host):
                self._world.kill(host)
                self.restart_later(host)

    def dying_write(self) -> None:
        """Doom a process to die at some point of its next write."""
        host = self._one_up()
        if host is not None:
            host.doomed_at = self._dice.choice(DYING_POINTS)
            life = host.life
            self._world.plan_in(self._lasts_s() + 1.0, lambda: self._after_doom(host, life))

    def _after_doom(self, host: Host, life: int) -> None:
        if host.life == life:
            host.doomed_at = ""
            if not host.is_up and not self._is_over:
                self.restart_later(host)

    def restart_later(self, host: Host) -> None:
        """Plan the restart of a process that is down."""
        delay_s = 0.05 + self._dice.expovariate(1 / self._plan.down_for_s)
        self._world.plan_in(delay_s, lambda: self.restart(host))

    def restart(self, host: Host) -> None:
        """Start a machine's process again, if it is down."""
        if not host.is_up and not host.retired:
            self._world.start(host)

    # -- clocks -----------------------------------------------------------------------------------------------

    def clocks(self) -> None:
        """Give a host's clocks another rate, and its wall clock another time."""
        host = self._dice.choice(self._home())
        host.clock.set_rate(self._world.now, 1 + self._dice.uniform(-DRIFT_MAX, DRIFT_MAX))
        host.clock.shift_wall(self._dice.randint(-_WALL_JUMP_MS, _WALL_JUMP_MS))
        self._world.rearm(host)
        self._happened("clock_changes", f"the clocks of {host.name} change")

    # -- the end ----------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """End everything that lasts, let nothing new happen, and restart who is down."""
        self._is_over = True
        self._cuts.clear()
        self._world.network.heal(self._fair_weather())
        for host in self._world.hosts:
            host.doomed_at = ""
            host.stopped_until = min(host.stopped_until, self._world.now)
            if host.is_up:
                self._world.poke(host)
            elif host.life and not host.retired:
                self._world.plan_in(self._dice.uniform(0.0, 1.0), lambda host=host: self.restart(host))  # type: ignore[misc]
        self._happened("heals", "everything is mended")

    def _fair_weather(self) -> Weather:
        return Weather(uses_codec=self._plan.weather.uses_codec)

    def _happened(self, count: str, text: str) -> None:
        self._world.counts[count] += 1
        self._world.note(text)


def _names(hosts: list[Machine]) -> str:
    return ",".join(host.name for host in hosts)
