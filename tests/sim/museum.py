"""The museum of ablations: each necessary check of the product, taken away, and the proof that the simulator notices.

An exhibit names the method that is the check, what is put in its place, and a theatre: a plan with a mix of faults in
which the check matters often. Only the mix is tuned; the checkers are those of every other schedule. The same seeds
must pass with the check in place, or the theatre itself would be what is caught.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import inf
from random import Random
from typing import Any, Final

from gimmal.cluster.founding import Founding
from gimmal.cluster.meta import rows
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.meta.steward import Steward
from gimmal.cluster.raft import Configuration, Raft, journal
from gimmal.cluster.raft.leading import Leadership
from gimmal.cluster.table import Table
from gimmal.node import meta_share
from gimmal.replication.leading import Leading
from gimmal.replication.replica import Replica
from tests.sim import plan as kinds
from tests.sim.node_subject import start_node
from tests.sim.plan import Plan, draw_plan
from tests.sim.simulation import Simulation
from tests.sim.violation import Violation

VOTERS_LEAST: Final = 3
PASSING_SEEDS: Final = 3
SEEDS_MAX: Final = 1_000
"""How far an ablation is looked for at most."""

SEEDS_IN_TEST: Final = 400
"""How far a test looks for a seed to name, when the one that is known notices no more."""

Change = tuple[Any, str, Callable[[Any], Any]]
"""(owner, name of a function of it, what makes its replacement from the original)"""


@dataclass(frozen=True)
class Exhibit:
    """A check that can be taken away: `removal`. `stage` are changes that hold with the check and without.

    `found_at` is the first seed, counted from 1, that noticed when this was last looked for (`python -m
    tests.sim.museum`). Without recovery only the storm is played: the stage allows no calm.
    """

    title: str
    removal: Change
    theatre: Callable[[Plan], Plan]
    catches: tuple[str, ...]
    stage: tuple[Change, ...] = ()
    has_recovery: bool = True
    found_at: int = 1

    def run(self, seed: int, *, is_removed: bool) -> Violation | None:
        """Run the theatre's schedule of a seed, with the check or without."""
        simulation = Simulation(self.theatre(draw_plan(seed)), start_node)
        with changed((*self.stage, self.removal) if is_removed else self.stage):
            try:
                if self.has_recovery:
                    simulation.run()
                else:
                    simulation.run_storm()
            except Violation as violation:
                return violation
        return None


@contextmanager
def changed(changes: tuple[Change, ...]) -> Iterator[None]:
    """Replace functions of the product for a while."""
    with ExitStack() as undo:
        for owner, name, instead in changes:
            original = getattr(owner, name)
            undo.callback(setattr, owner, name, original)
            setattr(owner, name, instead(original))
        yield


def _always(answer: object) -> Callable[[Any], Any]:
    return lambda original: lambda *_: answer


def _without_vote(original: Any) -> Any:
    return lambda hard_state: original(hard_state._replace(vote=None))


def _with_old_incarnation(original: Any) -> Any:
    def register(state: MetaState, index: int, command: tuple[Any, ...]) -> Any:
        known = state._nodes.get(command[1][0])
        result = original(state, index, command)
        row = state._nodes.get(command[1][0])
        if known is None or row is None or row.incarnation == known.incarnation:
            return result
        state._nodes[row.name] = row._replace(incarnation=known.incarnation)
        return result._replace(value=known.incarnation)

    return register


def _with_half(original: Any) -> Any:
    return lambda machine, nodes: original(machine, 2 * nodes)


def _one_entry_a_message(original: Any) -> Any:
    return lambda: original(entries_per_append_max=1)


def _restless(original: Any) -> Any:
    """A steward that changes the voters all the time, between three and five of them: Raft has to bear that."""

    def next_configuration(steward: Steward, raft: Raft, table: Table, now: float) -> Configuration:
        dice = Random(f"{raft.me} {raft.term} {raft.last_index}")
        voters = raft.configuration.voters
        others = [row.voter for row in table.nodes if row.voter not in voters]
        removable = [voter for voter in voters if voter != raft.me]
        if others and (len(voters) <= VOTERS_LEAST or (len(voters) == VOTERS_LEAST + 1 and dice.random() < 0.5)):
            return Configuration((*voters, dice.choice(others)), ())
        gone = dice.choice(removable)
        return Configuration(tuple(voter for voter in voters if voter != gone), ())

    return next_configuration


def _not_after_the_election(original: Any) -> Any:
    def start(steward: Steward, now: float) -> None:
        original(steward, now)
        steward._elected_at = -inf

    return start


# -- theatres -------------------------------------------------------------------------------------------------------


def _machines(plan: Plan, count: int, *, is_durable: bool) -> tuple[kinds.Machine, ...]:
    """So many machines, that start together; all may found."""
    return tuple(
        kinds.Machine(f"n{number}", starts_at=0.1 * number, expect=count, is_durable=is_durable, zone="")
        for number in range(1, count + 1)
    )


def _storm(plan: Plan, count: int, weights: dict[str, float], *, is_durable: bool = True) -> Plan:
    """A few machines and many short faults of a few kinds."""
    machines = _machines(plan, count, is_durable=is_durable)
    return replace(
        plan,
        kinds=tuple(weights),
        machines=machines,
        seeds=tuple(kinds.address_of(machine.name) for machine in machines),
        weather=replace(plan.weather, loss=0.02, delay_mean_s=0.02, is_reordering=True),
        weights=weights,
        calm_until=3.0,
        episode_every_s=0.4,
        episode_lasts_s=1.0,
        down_for_s=0.3,
        batches=0,
        may_lose=True,
        half_heal_s=0.0,
    )


def _votes_forgotten(plan: Plan) -> Plan:
    """Voters die right after they voted, and are back while that election is still open."""
    plan = _slow(_storm(plan, 3, {kinds.CRASH: 3.0, kinds.PARTITION: 1.0, kinds.DYING_WRITE: 3.0}))
    return replace(plan, down_for_s=0.05, episode_every_s=0.2, episode_lasts_s=0.5)


def _logs_apart(plan: Plan) -> Plan:
    return _storm(plan, 3, {kinds.PARTITION: 3.0, kinds.ONE_WAY: 2.0, kinds.CRASH: 1.0})


def _slow(plan: Plan) -> Plan:
    """A network on which a leader falls before its first entry has arrived, as often as not."""
    return replace(plan, weather=replace(plan.weather, delay_least_s=0.04, delay_mean_s=0.04, loss=0.05))


def _hunted(plan: Plan) -> Plan:
    """Candidates and new leaders are cut off on top of everything else, which then happens less often."""
    return replace(plan, kinds=(*plan.kinds, kinds.HUNT), episode_every_s=2.0, episode_lasts_s=1.5)


def _leaders_come_and_go(plan: Plan) -> Plan:
    return _hunted(_slow(_storm(plan, 3, {kinds.PARTITION: 2.0, kinds.CRASH: 1.0})))


def _deaf_neighbour(plan: Plan) -> Plan:
    return replace(
        _storm(plan, 3, {kinds.CLOG: 1.0, kinds.PAUSE: 1.0, kinds.ONE_WAY: 1.0}),
        weather=replace(plan.weather, loss=0.0, delay_mean_s=0.001, is_reordering=False),
        half_heal_s=20.0,
        half_heal_flaps=True,
    )


def _names_again(plan: Plan) -> Plan:
    return _storm(plan, 4, {kinds.CRASH: 2.0, kinds.PARTITION: 1.0, kinds.PAUSE: 1.0}, is_durable=False)


def _voters_come_and_go(plan: Plan) -> Plan:
    return _hunted(_slow(_storm(plan, 5, {kinds.PARTITION: 2.0, kinds.CRASH: 1.0})))


def _founding_in_pieces(plan: Plan) -> Plan:
    plan = _storm(plan, 4, {kinds.PARTITION: 3.0, kinds.CLOG: 1.0, kinds.ONE_WAY: 1.0})
    return replace(plan, calm_until=0.0, episode_lasts_s=4.0, episode_every_s=0.5)


def _leases_end(plan: Plan) -> Plan:
    """Leaders of partitions, and of the group, are cut off and hang for longer than a lease lasts."""
    weights = {kinds.PARTITION: 2.0, kinds.PAUSE: 2.0, kinds.ONE_WAY: 2.0, kinds.CRASH: 1.0}
    return replace(_storm(plan, 5, weights), episode_every_s=0.8, episode_lasts_s=2.5)


def _leaders_of_the_group_end(plan: Plan) -> Plan:
    """Processes end, and so voters elect another leader soon; others hang then, and have a lease of the one before."""
    weights = {kinds.CRASH: 2.0, kinds.PAUSE: 1.0}
    return replace(_storm(plan, 5, weights), episode_every_s=0.8, episode_lasts_s=1.0)


_LEASES: Final = ("a lease is waited for",)
_HASTY: Final = ((meta_share, "StewardParameters", lambda original: lambda: original(fence_after_s=0.4)),)
"""A steward that condemns long before a lease is over: only the wait for it is then in the way."""


def _without_proposal(original: Any) -> Any:
    """Count on the in-sync set of the row alone, not on who a proposal under way would add."""

    def count_on(leading: Leading) -> None:
        proposal, leading.proposal = leading.proposal, None
        original(leading)
        leading.proposal = proposal

    return count_on


def _without_least(original: Any) -> Any:
    def count_on(leading: Leading) -> None:
        original(leading)
        leading.can_commit = True

    return count_on


def _joins_early(original: Any) -> Any:
    return lambda leading, progress, commit: original(leading, progress, -1)


def _as_if_fenced(original: Any) -> Any:
    return lambda row, gone, *, is_restarted: original(row, gone, is_restarted=False)


def _of_any_epoch(original: Any) -> Any:
    return lambda copy, leader, epoch: copy.view is not None and copy.me in copy.view.holders


def _copies_under_fire(plan: Plan) -> Plan:
    """Leaders of partitions come and go, followers fall behind, and everybody restarts, while clients write."""
    dice = Random(f"copies {plan.seed}")
    return replace(
        plan,
        kinds=(*plan.kinds, kinds.HUNT),
        weather=replace(plan.weather, loss=min(plan.weather.loss, 0.02)),
        weights={kinds.PARTITION: 1.0, kinds.ONE_WAY: 1.0, kinds.CRASH: 2.0, kinds.PAUSE: 1.0, kinds.CLOG: 0.5},
        calm_until=4.0,
        episode_every_s=dice.choice((0.4, 1.0)),
        episode_lasts_s=dice.choice((0.8, 2.0)),
        down_for_s=0.5,
        may_lose=False,
        heal_at=24.0,
        half_heal_s=0.0,
        ends_at=32.0,
    )


_LOST_WRITES: Final = ("nothing committed is missing", "committed logs are equal", "no error in a node")
"""How the loss of what was acknowledged shows."""

_LOST: Final = ("leader completeness", "state machine safety", "commit is final", "log matching", "no error in a node")
"""How the loss of what was committed shows; the product asserts some of it itself."""

EXHIBITS: Final = (
    Exhibit(
        "vote not durable",
        (journal, "encode_hard_state", _without_vote),
        _votes_forgotten,
        ("no lost vote", "election safety"),
        found_at=49,
    ),
    Exhibit(
        "no log up-to-date check in votes",
        (Raft, "_is_up_to_date", _always(True)),
        _logs_apart,
        _LOST,
    ),
    Exhibit(
        "commit of an entry of an older term by counting",
        (Leadership, "_may_commit", _always(True)),
        _leaders_come_and_go,
        _LOST,
        stage=((meta_share, "RaftParameters", _one_entry_a_message),),
        has_recovery=False,
        found_at=31,
    ),
    Exhibit(
        "PreVote off under a one-way partition",
        (Raft, "_needs_trial", _always(False)),
        _deaf_neighbour,
        ("a majority keeps its leader",),
    ),
    Exhibit(
        "incarnation not raised on re-registration",
        (MetaState, "_register", _with_old_incarnation),
        _names_again,
        ("one incarnation per name",),
    ),
    Exhibit(
        "a voter change before a current-term commit",
        (Raft, "_is_current_term_committed", _always(True)),
        _voters_come_and_go,
        (*_LOST, "election safety"),
        stage=((Steward, "next_configuration", _restless),),
        has_recovery=False,
        found_at=360,
    ),
    Exhibit(
        "founding with fewer than the expected nodes",
        (Founding, "_has_enough", _with_half),
        _founding_in_pieces,
        ("one cluster from one founding",),
        found_at=69,
    ),
    Exhibit(
        "commits without who is being added to the in-sync set",
        (Leading, "_count_on", _without_proposal),
        _copies_under_fire,
        _LOST_WRITES,
    ),
    Exhibit(
        "commits with fewer copies in sync than it takes",
        (Leading, "_count_on", _without_least),
        _copies_under_fire,
        _LOST_WRITES,
        found_at=3,
    ),
    Exhibit(
        "in sync before everything committed is there",
        (Leading, "may_join", _joins_early),
        _copies_under_fire,
        _LOST_WRITES,
    ),
    Exhibit(
        "eligible for ever",
        (rows, "settled", lambda original: lambda row: row),
        _copies_under_fire,
        _LOST_WRITES,
        found_at=3,
    ),
    Exhibit(
        "a restarted copy keeps its place among the eligible",
        (rows, "without_member", _as_if_fenced),
        _copies_under_fire,
        (*_LOST_WRITES, "recovery"),
        found_at=3,
    ),
    Exhibit(
        "entries are taken from a leader of another epoch",
        (Replica, "follows", _of_any_epoch),
        _copies_under_fire,
        (*_LOST_WRITES, "partitions serve", "acknowledged writes last", "commit is final"),
    ),
    Exhibit("nobody waits for a lease", (Steward, "_may_be_fenced", _always(True)), _leases_end, _LEASES, stage=_HASTY),
    Exhibit(
        "no wait for leases that an earlier leader granted",
        (Steward, "start", _not_after_the_election),
        _leaders_of_the_group_end,
        _LEASES,
        stage=_HASTY,
        found_at=16,
    ),
)


def first_catch(exhibit: Exhibit, seeds: Iterable[int]) -> tuple[int, Violation] | None:
    """Take the check away, and return the first of the seeds whose schedule notices as it should, and how."""
    for seed in seeds:
        violation = exhibit.run(seed, is_removed=True)
        if violation is not None and violation.check in exhibit.catches:
            return seed, violation
    return None


def look_at(title: str) -> list[str]:
    """Visit an exhibit: take its check away where that was noticed last, and put it back. Return what is wrong."""
    (exhibit,) = [exhibit for exhibit in EXHIBITS if exhibit.title == title]
    if first_catch(exhibit, [exhibit.found_at]) is None:
        caught = first_catch(exhibit, range(1, SEEDS_IN_TEST + 1))
        instead = f"set found_at={caught[0]}" if caught else f"nor does any up to {SEEDS_IN_TEST}: change its theatre"
        return [f"seed {exhibit.found_at} does not notice any more that the check is missing; {instead}"]
    seeds = sorted({exhibit.found_at, *range(1, PASSING_SEEDS + 1)})
    return [f"seed {seed}: {found}" for seed in seeds if (found := exhibit.run(seed, is_removed=False))]


if __name__ == "__main__":
    for exhibit in EXHIBITS:
        caught = first_catch(exhibit, range(1, SEEDS_MAX + 1))
        print(f"{exhibit.title}: {caught or 'not caught'}", flush=True)
