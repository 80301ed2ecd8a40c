"""Nothing acknowledged is lost: five real nodes, clients of both kinds, and faults of every kind, for as long as asked.

`make test` storms for a minute, `make faults` for MINUTES (10). A seed decides the plan of faults. When something is
wrong, the command that plays the plan again is printed; as the processes are real, their timing is another each time.
"""

import time
from collections.abc import Callable

import pytest

from gimmal.testing import LocalCluster
from tests.cluster.storm.clients import Clients
from tests.cluster.storm.director import Director, StormFailure
from tests.cluster.storm.plan import Kind
from tests.cluster.storm.record import Record
from tests.cluster.storm.verdict import judge

NODES = 5
PARTITIONS = 32
ALL_KINDS_AFTER_MINUTES = 5.0
CALM_S = 2.0
SERVES_WITHIN_S = 10.0
_TOLD_EVERY_S = 10.0
_LOG_LINES = 40
_DIARY_LINES = 60


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--minutes"))


def test_nothing_acknowledged_is_lost(minutes: float, seed: int, tell: Callable[[str], None]) -> None:
    again = f'make faults SEED={seed} MINUTES={minutes:g} ARGS="-k nothing_acknowledged_is_lost"'
    tell(f"\nstorm of seed {seed}; its plan again: {again}")
    with LocalCluster(NODES, partitions=PARTITIONS, data_dir=seed % 2 == 0) as cluster:
        found, director = weather(cluster, seed, minutes, tell)
        if found:
            shown = "\n\n".join(found)
            diary = "\n".join(director.diary[-_DIARY_LINES:])
            logs = "\n\n".join(f"the log of {name} ends with:\n{tail(cluster, name)}" for name in cluster.names)
            pytest.fail(f"{shown}\n\nthe plan so far:\n{diary}\n\n{logs}\n\nits plan again: {again}", pytrace=False)
    if minutes >= ALL_KINDS_AFTER_MINUTES:
        assert all(director.happened[kind] for kind in Kind), director.text()


def weather(
    cluster: LocalCluster, seed: int, minutes: float, tell: Callable[[str], None]
) -> tuple[list[str], Director]:
    """Storm, calm down, and return what is wrong."""
    record = Record(PARTITIONS)
    started_at = told_at = time.monotonic()
    director = Director(cluster, seed, tell if minutes > 1 else lambda line: None)
    clients = Clients(cluster, seed, record)

    def tell_now_and_then() -> None:
        nonlocal told_at
        if time.monotonic() > told_at + _TOLD_EVERY_S:
            told_at = time.monotonic()
            tell(f"{told_at - started_at:7.1f} s  {record.text(told_at - started_at)}")

    found = []
    clients.start()
    try:
        director.storm(started_at + minutes * 60, tell_now_and_then)
        director.wait_until_whole()
        found += silence(record, time.monotonic())
    except StormFailure as failure:
        found.append(str(failure))
    finally:
        clients.stop()
    seconds = time.monotonic() - started_at
    if not found:
        spread = director.wait_until_balanced()
        if spread not in (0, 1):
            found.append(f"leaders are not spread evenly: by {spread} partitions")
        began_at = time.monotonic()
        found += judge(cluster, record)
        tell(f"judged {len(record.history):,} operations on registers in {time.monotonic() - began_at:.0f} s")
    tell(record.text(seconds))
    for kind, example in record.examples.items():
        tell(f"  the first {kind}: {example}")
    tell(director.text())
    tell(record.gaps.text(director.spells, started_at))
    tell(record.gaps.stalls(director.spells, director.replicas, started_at))
    return found, director


def silence(record: Record, since: float) -> list[str]:
    """Return what is wrong if not every partition is written to again soon: what serves nothing loses nothing, too."""
    time.sleep(CALM_S)
    while silent := record.gaps.silent_since(since, record.partitions):
        if time.monotonic() > since + SERVES_WITHIN_S:
            return [f"no write of partitions {silent} was acknowledged in {SERVES_WITHIN_S:g} s, and all are well"]
        time.sleep(0.1)
    return []


def tail(cluster: LocalCluster, name: str) -> str:
    return "\n".join(cluster.logs(name).splitlines()[-_LOG_LINES:])
