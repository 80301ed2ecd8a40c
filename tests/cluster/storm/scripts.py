"""What each client of a storm does, one operation after another, whether it is a thread or a task.

A script is a generator: it yields a `Step`, a call of a client's method, and is sent the outcome, the result or the
error. It writes both into the record. `threads` and `tasks` run scripts; that is all in which they differ.
"""

import random
from collections.abc import Generator
from typing import Any, Final, NamedTuple

from gimmal.errors import GimmalError
from gimmal.testing import Operation
from tests.cluster.storm.record import KEYS_PER_GENERATION, Record, key_of_partition, now

PROBE_TIMEOUT_S: Final = 1.5


class Step(NamedTuple):
    """A call of a client's method, and how long to rest after it."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    rest_s: float


Script = Generator[Step, Any, None]
"""Is sent what the step returned, or the GimmalError that it raised."""


def registers(name: str, seed: int, record: Record, rest_s: float) -> Script:
    """Read and write registers of all clients, all with values that nobody else writes."""
    dice = random.Random(f"{seed} {name}")
    versions: dict[str, int] = {}
    number = 0
    while not record.is_over:
        number += 1
        key = record.register_key(dice.randrange(KEYS_PER_GENERATION))
        operation, step = _register_step(key, f"{name}.{number}", versions.pop(key, None), dice)
        token = record.history.begin(name, operation, now())
        outcome = yield step._replace(rest_s=rest_s)
        if isinstance(outcome, GimmalError):
            record.fail(token, outcome, now())
            continue
        record.end(token, outcome, now())
        if step.method == "get_versioned" and outcome is not None:
            versions[key] = outcome[1]


def _register_step(key: str, value: str, version: int | None, dice: random.Random) -> tuple[Operation, Step]:
    if version is None and dice.random() < 0.02:
        version = 0  # only if it is absent
    if version is not None:
        return Operation.set(key, value, if_version=version), Step("set", (key, value), {"if_version": version}, 0.0)
    chance = dice.random()
    if chance < 0.45:
        return Operation.set(key, value), Step("set", (key, value), {}, 0.0)
    if chance < 0.53:
        return Operation.set(key, value, nx=True), Step("set", (key, value), {"nx": True}, 0.0)
    if chance < 0.60:
        return Operation.delete(key), Step("delete", (key,), {}, 0.0)
    if chance < 0.70:
        return Operation.get_versioned(key), Step("get_versioned", (key,), {}, 0.0)
    return Operation.get(key), Step("get", (key,), {}, 0.0)


def counter(key: str, seed: int, record: Record, rest_s: float) -> Script:
    """Count on a key that nobody else uses."""
    dice = random.Random(f"{seed} {key}")
    ledger = record.counters[key]
    while not record.is_over:
        amount = dice.choice((1, 1, 1, 7))
        begun_at = now()
        outcome = yield Step("incr", (key, amount), {}, rest_s)
        if not isinstance(outcome, GimmalError):
            ledger.acknowledge(outcome, begun_at, now(), amount)
            record.acknowledge()
            continue
        record.note_error(f"incr {key}", outcome, now() - begun_at)
        if record.is_unknown(outcome):
            ledger.leave_open(amount)


def elements(prefix: str, record: Record, rest_s: float) -> Script:
    """Set keys once, each until it is certain that it is there. The value of a key is the key."""
    number = 0
    while not record.is_over:
        number += 1
        key = f"{prefix}{number}"
        maybe_there, is_settled = False, False
        while not (is_settled or record.is_over):
            begun_at = now()
            outcome = yield Step("set", (key, key), {"nx": True}, rest_s)
            if not isinstance(outcome, GimmalError):
                if outcome is False and not maybe_there:
                    record.complain(f"set {key} nx was answered False, and nobody else sets it")
                record.elements.acknowledge(key)
                record.acknowledge()
                break
            record.note_error(f"set {key} nx", outcome, now() - begun_at)
            is_unknown = record.is_unknown(outcome)
            maybe_there |= is_unknown
            (record.elements.leave_open if is_unknown else record.elements.refuse)(key)
            is_settled = not is_unknown and not maybe_there  # not tried again, so that it must not be there


def probe(partition: int, record: Record, rest_s: float) -> Script:
    """Write to a partition again and again, without much patience: this measures the gaps."""
    key = key_of_partition("p", partition, record.partitions)
    number = 0
    while not record.is_over:
        number += 1
        operation = Operation.set(key, number)
        token = record.history.begin(key, operation, now())
        outcome = yield Step("set", (key, number), {"timeout": PROBE_TIMEOUT_S}, rest_s)
        if isinstance(outcome, GimmalError):
            record.history.end_with_error(token, outcome, now())
            record.errors["probes that gave up"] += 1
        else:
            record.end(token, outcome, now())
            record.gaps.acknowledge(partition, now())
