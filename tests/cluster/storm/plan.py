"""The plan of a storm: which faults come one after another, on which nodes, for how long. One seed decides it.

A plan is an endless sequence of **episodes**. Each has one fault of a kind that is dealt from a shuffled deck, so that
every kind comes equally often; half of them have soft faults besides, which overlap. What it does not decide is when
exactly: before a crash everything has to be in sync again (`director`), and that takes as long as it takes.

The crash budget, as far as the plan can keep it: at most one crash in an episode, of one node, or of two at once before
anything else happens.
"""

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What can happen to nodes."""

    KILL = "kill -9"
    KILL_TWO = "kill -9 of two"
    RESTART = "SIGTERM and start"
    PAUSE = "SIGSTOP"
    ISOLATE = "isolation"
    ISOLATE_ALL = "isolation, from clients too"
    CUT = "two-way partition"
    CUT_ONE_WAY = "one-way partition"
    SLOW = "slow links"


CRASHES: Final = frozenset((Kind.KILL, Kind.KILL_TWO, Kind.RESTART))
ALL_KINDS: Final = tuple(Kind)
_REST_S: Final = (0.5, 2.5)
_PAUSE_S: Final = (0.2, 10.0)
_DELAY_S: Final = (0.02, 1.0)
_SOFT_S: Final = (0.3, 5.0)
_DOWN_S: Final = (0.2, 4.0)


class Fault(NamedTuple):
    """What happens `at_s` seconds after the beginning of its episode, and is over `lasts_s` later.

    `nodes`: for a partition, one side of it; for slow links, whose messages to whom are slow, in turn; for two kills,
    all nodes in the order in which they are tried.
    """

    kind: Kind
    nodes: tuple[str, ...]
    at_s: float
    lasts_s: float
    delay_s: float = 0.0

    def __str__(self) -> str:
        delay = f" by {self.delay_s:.2f} s" if self.delay_s else ""
        return f"{self.kind}{delay} of {' '.join(self.nodes)} at {self.at_s:.2f} s for {self.lasts_s:.2f} s"


class Episode(NamedTuple):
    """Faults that belong together, and how long nothing happens afterwards."""

    number: int
    faults: tuple[Fault, ...]
    rest_s: float

    def __str__(self) -> str:
        return f"episode {self.number}: " + "; ".join(map(str, self.faults))


def episodes(seed: int, names: tuple[str, ...], kinds: tuple[Kind, ...] = ALL_KINDS) -> Iterator[Episode]:
    """Return the plan of a seed for nodes of these names, with faults of these kinds."""
    dice = random.Random(seed)
    deck: list[Kind] = []
    number = 0
    while True:
        if not deck:
            deck = dice.sample(kinds, len(kinds))
        number += 1
        yield _episode(number, [deck.pop(), *_besides(kinds, dice)], names, dice)


def _besides(kinds: tuple[Kind, ...], dice: random.Random) -> list[Kind]:
    """Return what else happens in an episode."""
    if dice.random() >= 0.5:
        return []
    return dice.choices([kind for kind in kinds if kind not in CRASHES], k=dice.choice((1, 1, 2)))


def _episode(number: int, kinds: list[Kind], names: tuple[str, ...], dice: random.Random) -> Episode:
    faults = [_fault(kind, names, dice, is_first=position == 0) for position, kind in enumerate(kinds)]
    faults.sort(key=lambda fault: fault.at_s)
    return Episode(number, tuple(faults), round(dice.uniform(*_REST_S), 2))


def _fault(kind: Kind, names: tuple[str, ...], dice: random.Random, *, is_first: bool) -> Fault:
    if kind is Kind.KILL_TWO:
        at_s = 0.0
    elif kind in CRASHES:
        at_s = dice.choice((0.0, dice.uniform(0.2, 2.0)))
    else:
        at_s = 0.0 if is_first else dice.uniform(0.5, 2.5)
    shortest, longest = _PAUSE_S if kind is Kind.PAUSE else _DOWN_S if kind in CRASHES else _SOFT_S
    lasts_s = shortest * (longest / shortest) ** dice.random()  # short ones are as interesting as long ones
    delay_s = dice.uniform(*_DELAY_S) if kind is Kind.SLOW else 0.0
    return Fault(kind, _nodes(kind, names, dice), round(at_s, 2), round(lasts_s, 2), round(delay_s, 2))


def _nodes(kind: Kind, names: tuple[str, ...], dice: random.Random) -> tuple[str, ...]:
    match kind:
        case Kind.KILL_TWO:
            count = len(names)
        case Kind.CUT | Kind.CUT_ONE_WAY:
            count = dice.randint(1, len(names) // 2)
            count = dice.choice((count, len(names) - count)) if kind is Kind.CUT_ONE_WAY else count
        case Kind.SLOW:
            count = dice.randint(2, 3)
        case _:
            count = 1
    return tuple(dice.sample(names, count))
