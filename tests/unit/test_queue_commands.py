"""The commands of queues as they travel: their shapes, what a hostile client may try, what they take in a log."""

from typing import Any

import pytest

from gimmal.types import Command
from gimmal.wire import commands, limits
from gimmal.wire import queue_commands as codes
from tests.unit.queue_examples import BY_CODE, CLIENT, EXAMPLES, MAX, WHO, G, Q

JUNK: tuple[Any, ...] = (
    *(None, True, -1, 1.5, "text", b"", (), ((),), (None,), {}, []),
    *(2**64, b"\x01\x01\x01"),
)
CHECKS = codes.IS_WELL_FORMED | codes.OWN_ARE_WELL_FORMED


def is_well_formed(command: Any) -> bool:
    """As the codec sees it: what is not even of the right shape may raise one of two errors."""
    try:
        return CHECKS[command[0]](command)
    except (ValueError, TypeError):
        return False


def with_changed(code: int, place: int, value: Any) -> Command:
    command = BY_CODE[code]
    return (*command[:place], value, *command[place + 1 :])


def test_codes_are_part_of_the_protocol() -> None:
    """They travel and lie in logs: a new one is appended, an old one never changes."""
    assert {name: code for code, name in codes.NAMES.items()} == {
        "queue stats": 6,
        "dead letters": 7,
        "queue groups": 8,
        "consume": 9,
        "end of consume": 10,
        "declare": 40,
        "produce": 41,
        "ack": 42,
        "nack": 43,
        "release": 44,
        "extend": 45,
        "redrive": 46,
        "purge": 47,
        "create group": 48,
        "delete group": 49,
        "grant (leader)": 68,
        "give back (leader)": 69,
        "lease end (timer)": 70,
        "vanish (timer)": 71,
    }
    assert [(outcome.name, int(outcome)) for outcome in codes.Outcome] == [("DONE", 0), ("STALE", 1)]


def test_every_command_is_here() -> None:
    assert list(BY_CODE) == list(codes.NAMES)
    assert set(BY_CODE) == codes.CODES == set(CHECKS)


def test_what_only_reads_or_waits_is_not_logged() -> None:
    for code in codes.CODES:
        is_logged = code not in codes.FOR_READING | codes.FOR_CONSUMERS
        assert is_logged is (code in commands.MAY_BE_LOGGED) is (code >= commands.FIRST_WRITE)
        assert (code in codes.OWN) is (code >= commands.FIRST_OWN) is (code not in commands.IS_WELL_FORMED)


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: codes.NAMES[command[0]])
def test_an_example_is_well_formed_and_nothing_else_like_it(command: Command) -> None:
    assert is_well_formed(command)
    assert not is_well_formed((*command, 0))
    assert not is_well_formed(command[:-1])
    assert not is_well_formed((command[0],))
    assert commands.keys_of(command) == (Q,)
    for place in range(1, len(command)):
        for junk in JUNK:
            if (command[0], place, junk) not in FINE:
                assert not is_well_formed((*command[:place], junk, *command[place + 1 :])), (place, junk)


FINE = [
    *[(code, 1, b"\x01\x01\x01") for code in codes.CODES],
    *[(code, 2, b"\x01\x01\x01") for code in codes.CODES - {codes.DECLARE, codes.PRODUCE, codes.VANISH}],
    (codes.NACK, 5, b""),
    (codes.NACK, 5, b"\x01\x01\x01"),
    (codes.VANISH, 3, True),
]


@pytest.mark.parametrize("code", CHECKS)
def test_the_bounds_of_names_hold(code: int) -> None:
    assert is_well_formed(with_changed(code, 1, b"q" * limits.SHARD_KEY_BYTES_MAX))
    assert not is_well_formed(with_changed(code, 1, b"q" * (limits.SHARD_KEY_BYTES_MAX + 1)))
    if G in BY_CODE[code]:
        assert is_well_formed(with_changed(code, 2, b"g" * limits.QUEUE_NAME_BYTES_MAX))
        assert not is_well_formed(with_changed(code, 2, b"g" * (limits.QUEUE_NAME_BYTES_MAX + 1)))


@pytest.mark.parametrize("code", [codes.ACK, codes.NACK, codes.RELEASE, codes.EXTEND, codes.LEASE_END])
def test_the_bounds_of_deliveries_hold(code: int) -> None:
    assert is_well_formed(with_changed(code, 3, ((MAX, MAX),) * limits.DELIVERIES_MAX))
    for deliveries in (
        ((5, 7),) * (limits.DELIVERIES_MAX + 1),
        ((5, 0),),
        ((0, 7),),
        ((5, MAX + 1),),
        ((True, 7),),
        ((5, None),),
        ((5,),),
        ((5, 7, 7),),
        (5, 7),
        (b"\x05\x07",),
        [(5, 7)],
    ):
        assert not is_well_formed(with_changed(code, 3, deliveries)), deliveries


@pytest.mark.parametrize(("code", "place"), [(codes.DEAD_LETTERS, 3), (codes.REDRIVE, 3), (codes.PURGE, 3)])
def test_a_limit_is_at_least_one(code: int, place: int) -> None:
    assert is_well_formed(with_changed(code, place, MAX))
    assert not is_well_formed(with_changed(code, place, 0))
    assert not is_well_formed(with_changed(code, place, MAX + 1))


@pytest.mark.parametrize("code", [codes.CONSUME, codes.GRANT])
def test_the_bounds_of_a_consume_hold(code: int) -> None:
    assert is_well_formed(with_changed(code, 3, (CLIENT, b"")))
    assert is_well_formed(with_changed(code, 3, (CLIENT, b"n" * limits.QUEUE_NAME_BYTES_MAX)))
    for who in (
        (b"short", b""),
        (CLIENT + b"x", b""),
        (CLIENT, "Ada"),
        (CLIENT, bytes(257)),
        (CLIENT,),
        CLIENT,
        [*WHO],
    ):
        assert not is_well_formed(with_changed(code, 3, who)), who
    for request in (0, MAX + 1, "1"):
        assert not is_well_formed(with_changed(code, 4, request))
    *_, wanted = BY_CODE[code]
    most = (limits.CONSUME_MAX, *((limits.WAIT_MS_MAX,) if code == codes.CONSUME else ()), limits.LEASE_MS_MAX)
    assert is_well_formed(with_changed(code, 5, most))
    for place, least in enumerate((1, *(0 for _ in most[1:]))):
        for bad in (least - 1, most[place] + 1, None, True, 1.0):
            assert not is_well_formed(with_changed(code, 5, (*wanted[:place], bad, *wanted[place + 1 :])))
    assert not is_well_formed(with_changed(code, 5, bytes(wanted[:1] + (0,) * (len(wanted) - 1)))), "numbers, not bytes"


def test_the_bounds_of_settings_hold() -> None:
    bounds = (
        (0, limits.RETRIES_MAX),
        (1, limits.LEASE_MS_MAX),
        (0, limits.BACKOFF_MS_MAX),
        (0, limits.BACKOFF_MS_MAX),
        (1, limits.SHARDS_MAX),
        (0, MAX),
    )
    assert is_well_formed((codes.DECLARE, Q, (None,) * 6))
    for place, (least, most) in enumerate(bounds):
        for value, is_good in ((least, True), (most, True), (least - 1, False), (most + 1, False), (True, False)):
            settings = (*(None,) * place, value, *(None,) * (5 - place))
            assert is_well_formed((codes.DECLARE, Q, settings)) is is_good, (place, value)
    assert not is_well_formed((codes.DECLARE, Q, (None,) * 5))
    assert not is_well_formed((codes.DECLARE, Q, [None] * 6))


def test_the_bounds_of_what_is_produced_hold() -> None:
    longest = b"k" * limits.KEY_BYTES_MAX
    assert is_well_formed(with_changed(codes.PRODUCE, 2, limits.TTL_MS_MAX))
    assert not is_well_formed(with_changed(codes.PRODUCE, 2, limits.TTL_MS_MAX + 1))
    assert is_well_formed(with_changed(codes.PRODUCE, 3, ((b"p", longest, longest),) * limits.PRODUCE_MAX))
    for messages in (
        ((b"p", b"", b""),) * (limits.PRODUCE_MAX + 1),
        ((b"", b"", b""),),
        ((bytes(limits.VALUE_BYTES_MAX + 1), b"", b""),),
        ((bytes(limits.VALUE_BYTES_MAX), b"", b""),) * 2,
        ((b"p", longest + b"k", b""),),
        ((b"p", b"", longest + b"k"),),
        (("p", b"", b""),),
        ((b"p", None, b""),),
        ((b"p", b"", 5),),
        ((b"p", b""),),
        (b"abc",),
        [(b"p", b"", b"")],
    ):
        assert not is_well_formed(with_changed(codes.PRODUCE, 3, messages))


def test_the_bounds_of_a_nack_hold() -> None:
    for how in ((True, 0), (False, None), (True, limits.TTL_MS_MAX)):
        assert is_well_formed(with_changed(codes.NACK, 4, how))
    over = limits.TTL_MS_MAX + 1
    bad: tuple[Any, ...] = ((1, None), (None, None), (True, -1), (True, over), (True, True), (True,), b"\x01\x00")
    for how in bad:
        assert not is_well_formed(with_changed(codes.NACK, 4, how)), how
    assert is_well_formed(with_changed(codes.NACK, 5, bytes(limits.REASON_BYTES_MAX)))
    assert not is_well_formed(with_changed(codes.NACK, 5, bytes(limits.REASON_BYTES_MAX + 1)))


def test_a_lease_is_extended_by_something() -> None:
    assert is_well_formed(with_changed(codes.EXTEND, 4, limits.LEASE_MS_MAX))
    assert not is_well_formed(with_changed(codes.EXTEND, 4, limits.LEASE_MS_MAX + 1))
    assert not is_well_formed(with_changed(codes.EXTEND, 4, 0))


def test_what_a_command_brings_counts_in_the_log() -> None:
    plain = commands.size_of(BY_CODE[codes.CREATE_GROUP])
    assert (
        commands.size_of((codes.PRODUCE, Q, 0, ((bytes(1_000), b"k", b"id"),))) == plain + 1_003 + codes.MESSAGE_BYTES
    )
    assert commands.size_of(BY_CODE[codes.PRODUCE]) - plain == 7 + 1 + 3 + 2 + 2 * codes.MESSAGE_BYTES
    for code in (codes.ACK, codes.RELEASE, codes.EXTEND, codes.LEASE_END):
        assert commands.size_of(BY_CODE[code]) == plain + codes.MESSAGE_BYTES
    assert commands.size_of(BY_CODE[codes.NACK]) == plain + codes.MESSAGE_BYTES + len(b"no")
