"""Clients that count on shared keys while messages are lost, late, refused and doubled, leaders move, sessions end.

Whatever happens: what was acknowledged was counted exactly once, what was surely not done was not, each call ends once,
in time, and afterwards all goes on as before.
"""

import random
from collections import Counter

import pytest

from gimmal.errors import GimmalError, OperationTimeout, Unavailable
from gimmal.wire.messages import Message, Refusal, Request
from tests.unit.fake_network import DROP, Outcome
from tests.unit.replicated_network import Trio

SEEDS = ["h1:1", "h2:1", "h3:1"]


class Storm:
    """Faults of all kinds, drawn from one seed, while clients count on keys that they share."""

    KEYS = tuple(f"key{i}" for i in range(12))

    def __init__(self, seed: int, *, doubles: bool) -> None:
        self.dice = dice = random.Random(seed)
        self.trio = Trio(seed)
        self.ends = [self.trio.connect(SEEDS) for _ in range(2)]
        self.is_over = False
        self.drop, self.slow = dice.choice((0.0, 0.05, 0.3)), dice.choice((0.0, 0.1, 0.5))
        self.double = dice.choice((0.05, 0.3)) if doubles else 0.0
        self.full = dice.choice((0.0, 0.1, 0.5))
        self.trio.fate = self.fate
        self.trio.refuse = self.refuse
        self.calls: list[tuple[str, Outcome]] = []

    def fate(self, address: str, message: Message) -> float | None:
        if self.is_over:
            return 0.001
        if self.dice.random() < self.drop:
            return DROP
        if isinstance(message, Request) and self.dice.random() < self.double:
            self.trio.post(self.dice.uniform(0, 2), lambda: self.repeat(address, message))
        return self.dice.uniform(0.0, 3.0) if self.dice.random() < self.slow else self.dice.uniform(0.0, 0.01)

    def repeat(self, address: str, message: Message) -> None:
        """Let a node get a message again that somebody has sent to it, whatever became of it the first time."""
        core = self.trio.cores[address]
        for end in self.ends:
            if (address, message) in end.requests:
                core.receive(end.identity, message, self.trio.instant())
                self.trio.settle(address, core)

    def refuse(self, number: int) -> Refusal | None:
        if self.is_over or self.dice.random() >= self.full:
            return None
        return self.dice.choice((Refusal.OVERLOADED, Refusal.MOVED, Refusal.NOT_ENOUGH_REPLICAS))

    def step(self) -> None:
        dice, trio = self.dice, self.trio
        for _ in range(dice.randint(0, 8)):
            key = dice.choice(self.KEYS)
            self.calls.append((key, dice.choice(self.ends).incr(key, dice.uniform(0.01, 5.0))))
        if dice.random() < 0.1:
            trio.unplugged ^= {dice.choice(SEEDS)}
        if dice.random() < 0.15:
            leaders = {trio.partition(key): dice.choice(("n1", "n2", "n3")) for key in dice.sample(self.KEYS, 5)}
            newer = trio.led_by(leaders)
            first = dice.choice(("n1", "n2", "n3"))
            trio.become(newer, (first,))
            trio.post(dice.uniform(0, 1.0), lambda: trio.become(newer))
        if dice.random() < 0.05:
            end = dice.choice(self.ends)
            for address, message in end.session.drain():  # a socket that is full for a moment
                end.session.on_blocked(address, message)
        if dice.random() < 0.02:
            trio.close_sessions(dice.choice(self.KEYS))
        trio.run(dice.uniform(0.0, 0.2))

    def end_well(self) -> None:
        self.is_over = True
        self.trio.unplugged = set()
        self.trio.become(self.trio.led_by({}))
        self.trio.run(12.0)


@pytest.mark.parametrize("doubles", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_what_was_acknowledged_was_counted_exactly_once(seed: int, *, doubles: bool) -> None:
    storm = Storm(seed, doubles=doubles)
    for _ in range(60):
        storm.step()
    storm.end_well()
    unknown: Counter[str] = Counter()
    answers: dict[str, list[int]] = {key: [] for key in Storm.KEYS}
    for key, outcome in storm.calls:
        assert len(outcome.ended_at) == 1
        assert outcome.ended_at[0] <= outcome.started_at + outcome.call.timeout + 1e-6
        try:
            answers[key].append(outcome.result())
        except OperationTimeout as error:
            unknown[key] += error.maybe_applied
        except Unavailable:
            unknown[key] += doubles  # a message that comes twice may be refused first: no transport of ours does that
    assert sum(map(len, answers.values())) > 0, f"seed {seed}"
    for key, values in answers.items():
        assert len(set(values)) == len(values), f"seed {seed}, {key}: an answer was given twice"
        count = storm.trio.value(key)
        assert len(values) <= count <= len(values) + unknown[key], f"seed {seed}, {key}"
        assert max(values, default=0) <= count
    for end in storm.ends:
        again = end.incr("after the storm")
        storm.trio.run(5.0)
        assert again.result() > 0
        assert not end.session.has_in_flight()


def test_the_storms_reach_every_outcome() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(12):
        storm = Storm(seed, doubles=False)
        for _ in range(40):
            storm.step()
        storm.end_well()
        for _, outcome in storm.calls:
            try:
                outcome.result()
                kinds["result"] += 1
            except GimmalError as error:
                kinds[f"{type(error).__name__} {getattr(error, 'maybe_applied', '')}"] += 1
        for end in storm.ends:
            kinds.update(name for name in ("resent_writes", "sessions_expired") if end.session.counters[name])
    unavailable = {"NoRoute ", "Overloaded ", "NotEnoughReplicas "}
    timeouts = {"OperationTimeout True", "OperationTimeout False"}
    assert set(kinds) == {"result", "resent_writes", "sessions_expired"} | unavailable | timeouts, kinds
