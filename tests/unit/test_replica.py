"""The log's numbers and times: they only rise, and each entry is applied once, in order."""

from gimmal.replication.replica import Replica
from gimmal.store.engine import Engine
from gimmal.store.footprint import Footprint
from gimmal.store.kv import Refused, version_of
from gimmal.wire import commands
from gimmal.wire.codec import pack_value

ONE = pack_value(1)


def new_replica() -> Replica:
    return Replica(3, 7, Engine(Footprint()))


def test_a_proposal_comes_back_committed_with_its_ticket_and_result() -> None:
    replica = new_replica()
    ticket = object()
    assert replica.propose(ticket, (commands.INCR, b"k", 5), 1_000) == ((ticket, (commands.INCR, b"k", 5), 5),)
    ((nobody, _, result),) = replica.propose(None, (commands.INCR, b"k", 2**63 - 1), 1_000)
    assert nobody is None
    assert isinstance(result, Refused)
    assert (replica.partition, replica.epoch) == (3, 7)


def test_every_entry_has_its_own_number_refused_ones_too() -> None:
    replica = new_replica()
    versions = []
    for value in (ONE, pack_value("text"), ONE):
        replica.propose(None, (commands.SET, b"k", value, 0, 0, None), 1_000)
        versions.append(version_of(replica.read((commands.GET, b"k"), 1_000)))
        replica.propose(None, (commands.INCR, b"k", 2**63 - 1), 1_000)
    assert versions == [1, 3, 5]
    assert replica.seq == 6


def test_the_time_of_the_log_never_goes_back() -> None:
    replica = new_replica()
    replica.propose(None, (commands.SET, b"k", ONE, 100, 0, None), 1_000)
    replica.propose(None, (commands.SET, b"other", ONE, 0, 0, None), 400)
    assert replica.now_ms == 1_000
    replica.propose(None, (commands.SET, b"late", ONE, 100, 0, None), 999)
    assert replica.engine.keys.expires_at_ms == {b"k": 1_100, b"late": 1_100}
    ((_, _, expired),) = replica.propose(None, (commands.EXPIRE, b"k", 1), 1_100)
    assert expired is True
    assert replica.now_ms == 1_100


def test_a_read_is_never_before_the_log() -> None:
    replica = new_replica()
    replica.propose(None, (commands.SET, b"k", ONE, 100, 0, None), 1_000)
    assert replica.read((commands.TTL, b"k"), 400) == 100
    assert replica.read((commands.TTL, b"k"), 1_040) == 60
    assert replica.now_ms == 1_000, "a read leaves no trace"
