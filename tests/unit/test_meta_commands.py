"""The shapes of what the meta group is asked to decide: what has none is refused; what passes can travel."""

from typing import Any

import pytest

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import is_founding, is_well_formed, read_registration
from gimmal.cluster.planner import founding_command
from gimmal.cluster.table import Addresses
from gimmal.wire import limits
from gimmal.wire.codec import decode, encode, pack_tree
from gimmal.wire.peer_messages import RAFT_BLANK, AppendEntries
from tests.unit.meta_states import CLUSTER, registration

A, B = tuple(registration("a")), tuple(registration("b"))
FOUND = (commands.FOUND, CLUSTER, 2, commands.REFUSE, (A, B), ((0, 1), (1, 0)))


def altered(*changes: Any, name: Any = "a", incarnation: Any = 1, number: Any = 1) -> tuple[Any, ...]:
    return (commands.ALTER_ISR, name, incarnation, number, changes)


def found(**changes: Any) -> tuple[Any, ...]:
    places = {"code": 0, "cluster": 1, "copies": 2, "on_total_loss": 3, "registrations": 4, "holders": 5}
    command = list(FOUND)
    for field, value in changes.items():
        command[places[field]] = value
    return tuple(command)


WORDS = ("", commands.REFUSE, commands.START_EMPTY)


def test_what_founders_make_is_a_founding() -> None:
    assert is_founding(FOUND)
    members = [registration(name) for name in "abc"]
    assert all(is_founding(founding_command(CLUSTER, members, 8, copies)) for copies in (1, 2, 3, 9))
    said = {
        (copies, word): founding_command(CLUSTER, members, 8, copies, word)[3] for copies in (1, 2) for word in WORDS
    }
    assert said == {(1, ""): "empty", (2, ""): "refuse"} | {(c, w): w for c in (1, 2) for w in ("refuse", "empty")}
    assert not is_well_formed(FOUND), "and nothing that may follow one"


@pytest.mark.parametrize(
    "command",
    [
        *((), None, 7, (commands.FOUND,), FOUND[:-1], (*FOUND, 1), found(code=True), found(code=commands.REGISTER)),
        *(found(cluster=value) for value in (b"", CLUSTER[:15], "x" * 16, None)),
        *(found(copies=value) for value in (0, -1, 17, True, "2", None, 2**63)),
        *(found(on_total_loss=value) for value in ("", "panic", None, ())),
        *(found(registrations=value) for value in ((), (A, A), (A,), None, "ab", (A, ()), (A, None), [A, B])),
        *(found(holders=value) for value in ((), None, ((0,),) * 3, ((),) * 2, (0, 1), [(0,), (1,)])),
        *(found(holders=(indexes, (0,))) for indexes in ((2,), (-1,), (0, 0), (True,), (0.0,), ("a",), [0], ((),))),
        found(holders=((0,),) * 32_768),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_founds_no_cluster_is_no_founding(command: Any) -> None:
    assert not is_founding(command)


def test_what_leaders_of_partitions_ask_for_is_well_formed() -> None:
    assert is_well_formed(altered())
    assert is_well_formed(altered((0, 1, 1, (("a", 1), ("b", 2))), (1, 7, 9, ())))
    assert is_well_formed(altered(*((number, 1, 1, (("a", 1),) * 8) for number in range(16_384))))


@pytest.mark.parametrize(
    "command",
    [
        *(altered(name=value) for value in (b"a", None, "x" * 257, "\u00e9" * 129)),
        *(altered(incarnation=value) for value in (-1, True, None, 2**53 + 1, 2**64 - 1)),
        *(altered(number=value) for value in (-1, True, None, 2**63)),
        *(altered((value, 1, 1, ())) for value in (-1, True, None, 2**64 - 1)),
        *(
            altered((0, 1, 1, value))
            for value in (None, (("a",),), ("ab",), ((1, "a"),), (("a", -1),), (("a", 2**60),))
        ),
        altered((0, 1, 1, (("a", 1),) * 17)),
        altered((0, 1, 1, (("x" * 257, 1),))),
        altered(*((0, 1, 1, ()),) * 16_385),
        altered(*((0, 1, 1, (("a", 1),) * 9),) * 16_384),
        altered(*((0, 1, 1, (("x" * 256, 1),) * 4),) * 16_384),
        (commands.ALTER_ISR, "x" * (16 * 1024 * 1024 - 60), 1, 1, ()),
        *((commands.FENCE, name, life) for name, life in (("x" * 257, 1), ("a", -1), ("a", 2**60), (1, 1))),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_out_of_bounds_is_malformed(command: Any) -> None:
    assert not is_well_formed(command)


def test_the_largest_change_can_be_sent_on() -> None:
    members = tuple((f"node-{number:04}.zone-{number % 3}", 2**40) for number in range(8))
    command = altered(*((number, 2**40, 2**40, members) for number in range(16_384)))
    assert is_well_formed(command)
    frame = encode(AppendEntries(*RAFT_BLANK, "a", "b", 5, 1, 1, 1, 1, ((5, 1, command),)))
    assert decode(frame).entries[0][2] == command  # type: ignore[attr-defined]


def test_a_node_has_no_more_addresses_than_a_full_table_has_room_for() -> None:
    networks = tuple(
        (f"network-{number}", Addresses("c" * 100 + ":7700", "p" * 100 + ":7702"))
        for number in range(limits.NETWORKS_MAX)
    )
    assert len(pack_tree(registration("a", networks=networks))) < limits.REGISTRATION_BYTES_MAX
    read_registration(tuple(registration("a", networks=networks)))
    longer = tuple((name, Addresses("c" * 250, "p" * 250)) for name, _ in networks)
    for node in (
        registration("a", networks=longer),
        registration("a", peer="\u00e9" * 129),
        registration("a", networks=(("default", Addresses("\u00e9" * 129, "p")),)),
        registration("a", zone="z" * 257),
    ):
        with pytest.raises(ValueError, match="bytes"):
            read_registration(tuple(node))
    assert limits.NODES_MAX * limits.REGISTRATION_BYTES_MAX <= limits.MESSAGE_BYTES_MAX // 2
