"""What has to hold at the end of a storm: nothing acknowledged is lost, and nothing happened that cannot have."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from gimmal.client.sync import Client
from gimmal.errors import GimmalError
from gimmal.testing import ConsistencyViolation, LocalCluster, Operation, Undecided, check_linearizability
from tests.cluster.storm.record import Record, now

_AT_ONCE: Final = 500
_WRONG_SHOWN_MAX: Final = 10


def judge(cluster: LocalCluster, record: Record) -> list[str]:
    """Read everything once more, and return what is wrong. Nobody writes meanwhile, and all nodes are well."""
    found = list(record.wrong[:_WRONG_SHOWN_MAX])
    with cluster.connect(timeout=30.0) as client:
        _read_registers(client, record)
        found += _counters(client, record)
        found += _elements(client, record)
    try:
        check_linearizability(record.history).raise_if_wrong()
    except (ConsistencyViolation, Undecided) as error:
        found.append(str(error))
    report = cluster.compare_copies(30.0)
    if not report.is_good:
        found.append(f"copies differ: {report.differing}; never seen at the same entry: {report.unsettled}")
    return found


def _read_registers(client: Client, record: Record) -> None:
    """Make what is there at the end part of the history."""
    for keys in _in_parts(map(str, record.history.by_key())):
        tokens = [record.history.begin("the judge", Operation.get(key), now()) for key in keys]
        values = client.get_many(keys)
        for token, key in zip(tokens, keys, strict=True):
            record.end(token, values.get(key), now())


def _counters(client: Client, record: Record) -> Iterator[str]:
    for key, ledger in record.counters.items():
        try:
            ledger.check(client.get(key, 0)).raise_if_wrong()
        except ConsistencyViolation as error:
            yield f"counter {key}: {error}"


def _elements(client: Client, record: Record) -> Iterator[str]:
    try:
        there = set(client.scan("e"))
        record.elements.check(there).raise_if_wrong()
        for keys in _in_parts(sorted(there)):
            others = {key: value for key, value in client.get_many(keys).items() if key != value}
            if others:
                yield f"keys with values that nobody wrote: {others}"
    except (ConsistencyViolation, GimmalError) as error:
        yield f"keys that were set once: {error}"


def _in_parts(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while part := list(islice(rest, _AT_ONCE)):
        yield part
