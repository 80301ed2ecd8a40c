"""Lets the faults of a plan happen to a cluster, within the crash budget, and keeps an account of them.

The budget, beyond what the plan keeps: nobody is killed before every copy of everything is in sync again, after the
crash before (`budget`). From then on at least two copies of each partition have all that was acknowledged, whatever
else happens, so one crash loses nothing. Two at once are held (SIGSTOP) first, until the table of the meta group's
leader says that everything has a third copy in sync: nothing can be acknowledged without it from then on.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import gimmal
from gimmal.client.inquiry import ask_status
from gimmal.client.overview import Cluster
from gimmal.errors import GimmalError, NoRoute
from gimmal.testing import LocalCluster
from tests.cluster.storm.budget import pair_to_kill, spread_of_leaders, survives, why_not_whole
from tests.cluster.storm.plan import ALL_KINDS, CRASHES, Episode, Fault, Kind, episodes
from tests.cluster.storm.stalls import Spell

WHOLE_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.1
_HELD_S: Final = 0.15


class StormFailure(AssertionError):
    """The cluster did what it must not do, apart from what it answered."""


class Director:
    """One storm over `cluster`, with faults of these kinds. `tell` prints a line for people."""

    def __init__(
        self, cluster: LocalCluster, seed: int, tell: Callable[[str], None], kinds: tuple[Kind, ...] = ALL_KINDS
    ) -> None:
        self.happened: Counter[Kind] = Counter()
        self.left_out: Counter[str] = Counter()
        self.spells: list[Spell] = []
        self.whole_after_s: list[float] = []
        self.diary: list[str] = []
        self.replicas: list[tuple[str, ...]] = []
        self._cluster = cluster
        self._kinds = kinds
        self._plan = episodes(seed, cluster.names, kinds)
        self._tell = tell
        self._started_at = time.monotonic()
        self._active: dict[Fault, float] = {}
        self._down: dict[Fault, tuple[str, ...]] = {}

    def storm(self, until: float, each_rest: Callable[[], None]) -> None:
        """Play episodes until a time; then all is healed and everybody runs.

        Raises:
            StormFailure: a node ended by itself, or the cluster did not become whole again.
        """
        try:
            while time.monotonic() < until:
                self._play(next(self._plan))
                each_rest()
        finally:
            self._calm()

    # -- how it is ------------------------------------------------------------------------------------------

    def wait_until_whole(self) -> Cluster:
        """Return the cluster when every copy is in sync.

        Raises:
            StormFailure: it did not become so within 30 s.
        """
        began_at = time.monotonic()
        while True:
            seen, why = self._look()
            if seen is not None and not why:
                self.whole_after_s.append(time.monotonic() - began_at)
                return seen
            if time.monotonic() > began_at + WHOLE_WITHIN_S:
                raise StormFailure(f"not whole {WHOLE_WITHIN_S:g} s after the last fault: {why}")
            self.check_lives()
            time.sleep(_LOOK_EVERY_S)

    def wait_until_balanced(self) -> int:
        """Return by how many partitions leaders differ when that is at most one, or after 30 s."""
        give_up_at = time.monotonic() + WHOLE_WITHIN_S
        while True:
            seen, _ = self._look()
            spread = spread_of_leaders(seen) if seen is not None else -1
            if spread in (0, 1) or time.monotonic() > give_up_at:
                return spread
            time.sleep(_LOOK_EVERY_S)

    def _look(self) -> tuple[Cluster | None, str]:
        try:
            with self._cluster.connect(timeout=1.0) as client:
                seen = client.cluster()
            facts = {name: ask_status(address, 1.0) for name, address in self._cluster.addresses.items()}
        except GimmalError as error:
            return None, str(error)
        self.replicas = [row.replicas for row in seen.partitions]
        return seen, why_not_whole(seen, {name: int(fact["incarnation"]) for name, fact in facts.items()})

    def check_lives(self) -> None:
        """Raise StormFailure if a node has ended by itself."""
        down = {name for names in self._down.values() for name in names}
        ended = [name for name in self._cluster.names if name not in down and name not in self._cluster.pids]
        if ended:
            raise StormFailure(f"{' '.join(ended)} ended without having been asked to")

    # -- the plan -------------------------------------------------------------------------------------------

    def _play(self, episode: Episode) -> None:
        if any(fault.kind in CRASHES for fault in episode.faults):
            self.wait_until_whole()
        began_at = time.monotonic()
        self._write(str(episode))
        moments = [(fault.at_s, self._begin, fault) for fault in episode.faults]
        moments += [(fault.at_s + fault.lasts_s, self._end, fault) for fault in episode.faults]
        for at_s, act, fault in sorted(moments, key=lambda moment: moment[0]):
            time.sleep(max(0.0, began_at + at_s - time.monotonic()))
            self.check_lives()
            act(fault)
        time.sleep(episode.rest_s)

    def _begin(self, fault: Fault) -> None:
        now = time.monotonic()
        if fault.kind in CRASHES:
            victims = self._crash(fault)
            if not victims:
                return
            self._down[fault] = victims
        elif fault.kind is Kind.PAUSE:
            if fault.nodes[0] not in self._cluster.pids:
                self.left_out[f"{fault.kind} of a node that is down"] += 1
                return
            self._cluster.pause(fault.nodes[0])
        else:
            self._cut(fault)
        self._active[fault] = now
        self.happened[fault.kind] += 1

    def _end(self, fault: Fault) -> None:
        began_at = self._active.pop(fault, None)
        if began_at is None:
            return
        nodes = fault.nodes
        if fault.kind in CRASHES:
            nodes = self._down.pop(fault)
            for name in nodes:
                self._cluster.start(name)
        elif fault.kind is Kind.PAUSE:
            if fault.nodes[0] in self._cluster.pids:
                self._cluster.resume(fault.nodes[0])
        else:
            self._cluster.heal()
            for other in self._active:  # only all of them can be healed at once
                if other.kind not in CRASHES and other.kind is not Kind.PAUSE:
                    self._cut(other)
        self.spells.append(Spell(fault.kind, nodes, began_at, time.monotonic()))

    def _calm(self) -> None:
        for fault in list(self._active):
            self._end(fault)
        self._cluster.heal()

    def _cut(self, fault: Fault) -> None:
        nodes = fault.nodes
        others = [name for name in self._cluster.names if name not in nodes]
        match fault.kind:
            case Kind.ISOLATE | Kind.ISOLATE_ALL:
                self._cluster.isolate(nodes[0], clients=fault.kind is Kind.ISOLATE_ALL)
            case Kind.CUT | Kind.CUT_ONE_WAY:
                self._cluster.partition(nodes, others, one_way=fault.kind is Kind.CUT_ONE_WAY)
            case _:
                for sender, receiver in itertools.pairwise(nodes):
                    self._cluster.slow(sender, receiver, fault.delay_s)

    # -- crashes --------------------------------------------------------------------------------------------

    def _crash(self, fault: Fault) -> tuple[str, ...]:
        """End the nodes of a fault and return who that was; nobody if it could lose data."""
        name = fault.nodes[0]
        if fault.kind is Kind.KILL:
            self._cluster.kill(name)
            return (name,)
        if fault.kind is Kind.KILL_TWO:
            return self._kill_two(fault.nodes)
        try:
            self._cluster.stop(name)
        except NoRoute as error:
            self.left_out["SIGTERM that became SIGKILL after 10 s"] += 1
            self._write(str(error))
        return (name,)

    def _kill_two(self, preferred: tuple[str, ...]) -> tuple[str, ...]:
        seen = self.wait_until_whole()
        (leader,) = self._meta_leaders() or ("",)
        victims = pair_to_kill(seen, preferred, leader) if leader else None
        if victims is None:
            self.left_out["kill of two while nobody led the meta group"] += 1
            return ()
        for name in victims:
            self._cluster.pause(name)
        time.sleep(_HELD_S)  # what was on its way to the meta group has come
        try:
            with gimmal.connect(self._cluster.addresses[leader], timeout=1.0) as client:
                is_safe = survives(client.cluster(), victims) and self._meta_leaders(victims) == (leader,)
        except GimmalError:
            is_safe = False
        for name in victims:
            if is_safe:
                self._cluster.kill(name)
            else:
                self._cluster.resume(name)
        if not is_safe:
            self.left_out["kill of two without a third copy in sync"] += 1
        return victims if is_safe else ()

    def _meta_leaders(self, besides: tuple[str, ...] = ()) -> tuple[str, ...]:
        found = []
        for name in self._cluster.names:
            if name not in besides:
                try:
                    if ask_status(self._cluster.addresses[name], 1.0)["meta_role"] == "leader":
                        found.append(name)
                except GimmalError:
                    continue
        return tuple(found) if len(found) == 1 else ()

    # -- people ---------------------------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        line = f"{time.monotonic() - self._started_at:7.1f} s  {text}"
        self.diary.append(line)
        self._tell(line)

    def text(self) -> str:
        """Tell what happened, by kind, and how long it took to become whole again."""
        counts = ", ".join(f"{kind} {self.happened[kind]}" for kind in self._kinds)
        left_out = "".join(f"; left out: {what} {count}" for what, count in self.left_out.items())
        waits = sorted(self.whole_after_s)
        told = f"median {waits[len(waits) // 2]:.1f} s, longest {waits[-1]:.1f} s" if waits else "never looked"
        return f"faults: {counts}{left_out}\nwaiting for all copies to be in sync before a crash: {told}"
