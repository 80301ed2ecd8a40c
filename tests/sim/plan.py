"""What a seed decides before the first event: the machines, how they are started, the weather, and the faults to come.

Swarm testing: no schedule has every kind of fault. Each draws its own few, at its own rates, because a fault that
always happens hides what only happens without it. A schedule is one of calm and storm:

    0 .................... heal_at .............. settle_by .................... ends_at
    founding, joins, faults | everything mended: within a bound of time, | a last newcomer was taken in; each partition
    clients write and read  | one leader, equal tables, all copies in sync | serves, and has what was acknowledged

Some schedules have a half-healed phase first: everything is mended but one machine that cannot hear, or cannot be
heard, all the time or again and again. The others have a leader then, and keep it.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

from gimmal.replication.holdings import LOG_BYTES
from tests.sim.network import Weather

NODES_MIN, NODES_MAX = 3, 7
FAULTS_MIN: Final = 3

LOSS, DELAY, DUPLICATION, REORDER = "loss", "delay", "duplication", "reorder"
CLOG, PARTITION, ONE_WAY, PAUSE = "clog", "partition", "one_way", "pause"
CRASH, DYING_WRITE, CLOCKS = "crash", "dying_write", "clocks"
HUNT, IMPOSTOR, FOREIGNER, LATE_JOINER = "hunt", "impostor", "foreigner", "late_joiner"

WEATHER: Final = (LOSS, DELAY, DUPLICATION, REORDER)
"""What is there all the time; how much of it is drawn once."""

EPISODES: Final = (CLOG, PARTITION, ONE_WAY, PAUSE, CRASH, DYING_WRITE, CLOCKS)
"""What happens again and again, in an order and at times that the dice decide."""

REACTIONS: Final = (HUNT,)
"""What happens because of something the cluster did."""

VISITS: Final = (IMPOSTOR, FOREIGNER, LATE_JOINER)
"""What happens once."""

KINDS: Final = (*WEATHER, *EPISODES, *REACTIONS, *VISITS)


@dataclass(frozen=True)
class Machine:
    """One machine that the cluster is meant to consist of."""

    name: str
    starts_at: float
    expect: int
    is_durable: bool
    zone: str


@dataclass(frozen=True)
class Plan:
    """A whole schedule. `weights` has the episodes that happen and how often each is chosen.

    `clients` start `batches` batches of calls together, and use queues besides if it `has_queues`. `may_lose`: crashes
    may be so many that partitions are lost.
    """

    seed: int
    kinds: tuple[str, ...]
    machines: tuple[Machine, ...]
    seeds: tuple[str, ...]
    weather: Weather
    weights: dict[str, float] = field(default_factory=dict)
    calm_until: float = 0.0
    episode_every_s: float = 2.0
    episode_lasts_s: float = 4.0
    down_for_s: float = 4.0
    clients: int = 3
    batches: int = 300
    has_queues: bool = False
    log_bytes: int = LOG_BYTES
    may_lose: bool = False
    sync_s: float = 0.0005
    drift: float = 0.0
    heal_at: float = 40.0
    half_heal_s: float = 0.0
    half_heal_flaps: bool = False
    settles_in_s: float = 15.0
    ends_at: float = 60.0


def address_of(name: str) -> str:
    """The peer address of the machine of a node."""
    return f"{name}.sim:7701"


def draw_plan(seed: int) -> Plan:
    """Decide everything that is decided beforehand."""
    dice, data_dice = Random(f"plan {seed}"), Random(f"data {seed}")
    kinds = [kind for kind in KINDS if dice.random() < 0.45]
    while len(kinds) < FAULTS_MIN:
        kinds = sorted({*kinds, dice.choice(KINDS)}, key=KINDS.index)
    machines = _draw_machines(dice, is_late=LATE_JOINER in kinds)
    bootstrapping = [machine.name for machine in machines if machine.expect]
    founders = [machine.name for machine in machines if machine.starts_at <= 5.0]
    named = founders if dice.random() < 0.7 else bootstrapping
    heal_at = dice.uniform(26.0, 32.0)
    half_heal_s = 16.0 if dice.random() < 0.25 else 0.0
    return Plan(
        seed=seed,
        kinds=tuple(kinds),
        machines=machines,
        seeds=tuple(address_of(name) for name in named),
        weather=_draw_weather(dice, kinds),
        weights={kind: dice.choice((0.3, 1.0, 3.0)) for kind in kinds if kind in EPISODES},
        calm_until=dice.choice((0.0, 0.0, 6.0, 10.0)),
        episode_every_s=dice.choice((0.7, 1.5, 3.0)),
        episode_lasts_s=dice.choice((0.8, 3.0, 8.0)),
        down_for_s=dice.choice((0.3, 2.0, 6.0, 20.0)),
        clients=data_dice.randint(2, 4),
        log_bytes=data_dice.choice((LOG_BYTES, 20_000, 4_000)),
        may_lose=data_dice.random() < 0.15,
        sync_s=dice.choice((0.0002, 0.001, 0.005, 0.03)),
        drift=0.02 if CLOCKS in kinds else dice.choice((0.0, 0.002)),
        heal_at=heal_at,
        half_heal_s=half_heal_s,
        half_heal_flaps=dice.random() < 0.5,
        ends_at=max(60.0, heal_at + half_heal_s + 8.0),
    )


def _draw_machines(dice: Random, *, is_late: bool) -> tuple[Machine, ...]:
    """Draw who founds: `expect` is more than half of all machines, as it must be, or one founds alone."""
    count = dice.choices(range(NODES_MIN, NODES_MAX + 1), (5, 4, 5, 2, 1))[0]
    late = dice.randint(1, (count - 1) // 2) if is_late else 0
    expect = count - late
    founds_alone = dice.random() < 0.08
    durable_share = dice.choice((0.0, 0.5, 1.0))
    has_zones = dice.random() < 0.3
    numbers = list(range(1, count + 1))
    dice.shuffle(numbers)
    bootstrapping = set(dice.sample(range(expect), 1 if founds_alone else dice.randint(1, expect)))
    slow_start = dice.choice((0.1, 1.0, 5.0))
    machines = []
    for place, number in enumerate(numbers):
        is_founder = place < expect
        founds = is_founder and place in bootstrapping
        machines.append(
            Machine(
                name=f"n{number}",
                starts_at=dice.uniform(0.0, slow_start) if is_founder else dice.uniform(6.0, 20.0),
                expect=(1 if founds_alone else expect) if founds else 0,
                is_durable=dice.random() < durable_share,
                zone=f"z{number % 3}" if has_zones else "",
            )
        )
    return tuple(sorted(machines, key=lambda machine: machine.name))


def _draw_weather(dice: Random, kinds: list[str]) -> Weather:
    return Weather(
        delay_least_s=0.0002,
        delay_mean_s=dice.choice((0.005, 0.02, 0.05)) if DELAY in kinds else dice.choice((0.0003, 0.001)),
        loss=dice.choice((0.01, 0.05, 0.15)) if LOSS in kinds else 0.0,
        duplication=dice.choice((0.01, 0.1)) if DUPLICATION in kinds else 0.0,
        is_reordering=REORDER in kinds,
        refusal=dice.choice((0.0, 0.5, 1.0)),
        uses_codec=dice.random() < 0.125,
    )
