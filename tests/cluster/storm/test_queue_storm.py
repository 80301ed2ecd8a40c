"""No message is lost, and none comes after its acknowledgement.

Five real nodes are killed and hang. 8 producers and 16 consumers are processes of their own, and the consumers are
killed, stopped and started again all the time. `make test` storms for half a minute, `make faults` for MINUTES (10). A
seed decides the plan of faults, and what befalls the consumers. At the end, and now and then in a long storm, the nodes
are left in peace for a while and the consumers are not: how soon others have what they held is measured then. When all
is drained, everybody's journal is judged.
"""

import time
from collections.abc import Callable

import pytest

import gimmal
from gimmal.errors import GimmalError
from gimmal.testing import ConsistencyViolation, LocalCluster
from tests.cluster.storm.director import Director, StormFailure
from tests.cluster.storm.plan import Kind
from tests.cluster.storm.queue_account import HUNG, KILLED, NODE_KINDS, Account
from tests.cluster.storm.queue_herd import Herd
from tests.cluster.storm.queue_worker import CONSUMERS, LEASE_S, PRODUCERS, QUEUE, SETTINGS
from tests.cluster.storm.test_storm import NODES, PARTITIONS, tail

RETURNS_WITHIN_S = 6.0
GOES_ON_WITHIN_S = 3.0
DRAINED_WITHIN_S = 90.0
SHORT_MINUTES = 0.25
PEACE_S = 18.0
PEACE_AFTER_EPISODES = 8
SHORT_PACE = 0.4
_BEGINS_WITHIN_S = 30.0
_TOLD_EVERY_S = 10.0
_WRONG_SHOWN_MAX = 10
_DIARY_LINES = 60


@pytest.fixture
def queue_minutes(request: pytest.FixtureRequest) -> float:
    """How long nodes fail: a quarter of a minute, unless more than the minute of `make test` was asked for."""
    asked = float(request.config.getoption("--minutes"))
    return asked if asked > 1 else asked * SHORT_MINUTES


def test_no_message_is_lost_and_none_comes_after_its_ack(
    queue_minutes: float, seed: int, tell: Callable[[str], None]
) -> None:
    again = f'make faults SEED={seed} MINUTES={max(1.0, queue_minutes):g} ARGS="-k no_message_is_lost"'
    tell(f"\nqueue storm of seed {seed}; its plan again: {again}")
    with LocalCluster(NODES, partitions=PARTITIONS, data_dir=seed % 2 == 0) as cluster:
        found, director = weather(cluster, seed, queue_minutes, tell)
        if found:
            shown = "\n\n".join(found)
            diary = "\n".join(director.diary[-_DIARY_LINES:])
            logs = "\n\n".join(f"the log of {name} ends with:\n{tail(cluster, name)}" for name in cluster.names)
            pytest.fail(f"{shown}\n\nthe plan so far:\n{diary}\n\n{logs}\n\nits plan again: {again}", pytrace=False)


def weather(
    cluster: LocalCluster, seed: int, minutes: float, tell: Callable[[str], None]
) -> tuple[list[str], Director]:
    """Storm, drain, and return what is wrong."""
    director = Director(cluster, seed, tell if minutes > 1 else lambda line: None, NODE_KINDS)
    herd = Herd(cluster.seeds, seed, 1.0 if minutes > 1 else SHORT_PACE)
    found: list[str] = []
    try:
        with cluster.connect(timeout=30.0) as db:
            queue = db.queue(QUEUE, **SETTINGS)
            herd.start()
            if not wait_for(lambda: queue.stats()["completed"] > 0, _BEGINS_WITHIN_S):
                return [f"no message was completed within {_BEGINS_WITHIN_S:g} s", *herd.wrong], director
            started_at = time.monotonic()
            try:
                storm(director, queue, started_at + minutes * 60, tell)
                leave_in_peace(director)
                herd.calm()
                herd.stop_producers()
                stormed_s = time.monotonic() - started_at
                drained_s = drain(queue)
            except StormFailure as failure:
                return [str(failure), *herd.wrong], director
            finally:
                herd.calm()
            herd.stop_consumers()
            found += herd.wrong[:_WRONG_SHOWN_MAX]
            found += judge(queue, herd, director, (started_at, stormed_s, minutes), tell)
            tell(f"drained {drained_s:.1f} s after the last message; {herd.text()}\n{director.text()}")
            report = cluster.compare_copies(30.0)
            if not report.is_good:
                found.append(f"copies differ: {report.differing}; never seen at the same entry: {report.unsettled}")
    finally:
        herd.close()
    return found, director


def storm(director: Director, queue: gimmal.Queue, until: float, tell: Callable[[str], None]) -> None:
    started_at = told_at = time.monotonic()
    episodes = 0

    def rest() -> None:
        nonlocal told_at, episodes
        episodes += 1
        if not episodes % PEACE_AFTER_EPISODES:
            leave_in_peace(director)
        if time.monotonic() > told_at + _TOLD_EVERY_S:
            told_at = time.monotonic()
            tell(f"{told_at - started_at:7.1f} s  {told(queue)}")

    director.storm(until, rest)


def leave_in_peace(director: Director) -> None:
    """Let nothing happen to nodes for a while."""
    director.wait_until_whole()
    time.sleep(PEACE_S)


def told(queue: gimmal.Queue) -> str:
    try:
        return ", ".join(f"{what} {count:,.0f}" for what, count in queue.stats().items())
    except GimmalError as error:
        return str(error)


def wait_for(condition: Callable[[], bool], within_s: float) -> bool:
    give_up_at = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.1)
    return True


def drain(queue: gimmal.Queue) -> float:
    """Wait until nothing is left, and return how long that took, in seconds.

    Raises:
        StormFailure: something is left after a long time.
    """
    began_at = time.monotonic()

    def is_empty() -> bool:
        stats = queue.stats()
        return not (stats["pending"] or stats["delayed"] or stats["in_progress"])

    if not wait_for(is_empty, DRAINED_WITHIN_S):
        raise StormFailure(f"not drained {DRAINED_WITHIN_S:g} s after the last message: {told(queue)}")
    return time.monotonic() - began_at


def judge(
    queue: gimmal.Queue,
    herd: Herd,
    director: Director,
    times: tuple[float, float, float],
    tell: Callable[[str], None],
) -> list[str]:
    """Compare what all processes wrote down with what is left, and tell what came of it."""
    started_at, stormed_s, minutes = times
    account = Account(herd.lives, director.spells, LEASE_S)
    stats = queue.stats()
    dead = [letter.payload[0] for letter in queue.dead_letters(400 * SETTINGS["shards"])]
    found = account.wrong[:_WRONG_SHOWN_MAX]
    result = account.ledger.check(dead=dead)
    try:
        result.raise_if_wrong()
    except ConsistencyViolation as error:
        found.append(str(error))
    if result.unexplained:
        found.append(f"{len(result.unexplained)} messages came again and nothing explains it")
    settled = stats["completed"] + stats["dead_letter"]
    if settled != len(account.elements):
        found.append(
            f"{len(account.elements):,} messages were produced or delivered, and the queue settled {settled:,}"
        )
    if len(dead) != stats["dead_letter"]:
        found.append(f"the queue counts {stats['dead_letter']} dead letters, and shows {len(dead)}")
    number, processes = len(account.elements), len(herd.lives) - len(PRODUCERS)
    tell(
        f"{number:,} messages in {stormed_s:.0f} s, {number / stormed_s:,.0f} a second, by {len(PRODUCERS)} producers "
        f"and {len(CONSUMERS)} consumers ({processes} processes)"
    )
    tell(
        f"lost {len(result.lost)}, delivered after an ack {len(result.after_ack)}, shared {len(result.shared)}, "
        f"out of order {len(result.out_of_order)}; acks that counted {account.acked:,}, too late {account.stale:,}; "
        f"dead letters {len(dead)}"
    )
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in account.reasons.most_common()) or "none"
    tell(f"delivered again {result.redelivered:,} times: {reasons}; unexplained {len(result.unexplained)}")
    errors = ", ".join(f"{kind} {number}" for kind, number in account.errors.most_common()) or "none"
    tell(f"errors: {errors}")
    found += measure(account, director, started_at, is_strict=minutes > 1, tell=tell)
    return found


def measure(
    account: Account, director: Director, started_at: float, *, is_strict: bool, tell: Callable[[str], None]
) -> list[str]:
    """Tell how long things took; return what took too long, if the machine was there for this storm alone."""
    found = []
    lines = [f"until a message of a consumer that is gone was with another one (at most {RETURNS_WITHIN_S:g} s)"]
    for what in (KILLED, HUNG):
        shown = []
        for is_alone in (True, False):
            longest = account.longest_return(what, is_alone=is_alone)
            shown.append(f"{longest.seconds:5.2f} s" if longest is not None else "   none")
            if is_alone and longest is not None and longest.seconds > RETURNS_WITHIN_S:
                at_s = longest.from_at - started_at
                found.append(
                    f"a message of {longest.life} was with another consumer only {longest.seconds:.2f} s after "
                    f"{at_s:.1f} s"
                )
        count = sum(found.what == what for found in account.returns)
        lines.append(f"  {what:<28} {shown[0]} with no fault of nodes near, {shown[1]} of all {count:,}")
    tell("\n".join(lines))
    tell(account.gaps.text(director.spells, started_at) + f"\n  kill -9 alone: at most {GOES_ON_WITHIN_S:g} s")
    longest_s = account.gaps.longest_s(Kind.KILL, director.spells, is_alone=True)
    if longest_s > GOES_ON_WITHIN_S:
        found.append(f"after a node was killed, a shard gave nothing for {longest_s:.2f} s")
    return found if is_strict else []
