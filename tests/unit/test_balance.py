"""Who should lead what: the fewest moves, only to who may lead, and the same for everybody who asks."""

import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from gimmal.cluster.meta.balance import Move, balance
from gimmal.cluster.table import ALIVE, FENCED, Addresses, NodeRow, PartitionRow, Table
from gimmal.types import Incarnation


def table(*in_sync: str, fenced: str = "", restarted: str = "") -> Table:
    """A table whose partitions have the given isrs, their leader first; an isr that begins with "-" has none."""
    names = sorted({*"".join(in_sync)} - {"-"})
    addresses = (("default", Addresses("c:1", "p:1")),)
    nodes = [
        NodeRow(
            *(name, 2 if name in restarted else 1, name.encode() * 16, f"{name}/1", "", 1),
            *(FENCED if name in fenced else ALIVE, f"{name}:1", addresses, 1),
        )
        for name in names
    ]
    rows = []
    for members in in_sync:
        isr = tuple(Incarnation(name, 1) for name in members if name != "-")
        rows.append(PartitionRow(None if members[0] == "-" else members[0], 1, 1, tuple(members), isr))
    return Table(bytes(16), 1, (), tuple(nodes), tuple(rows))


def after(state: Table, moves: tuple[Move, ...]) -> Counter[str]:
    leaders = [row.leader for row in state.partitions]
    for partition, target in moves:
        assert target != leaders[partition]
        assert target in [member.name for member in state.partitions[partition].in_sync]
        leaders[partition] = target
    counts = Counter(leader for leader in leaders if leader is not None)
    for row in state.nodes:
        counts.setdefault(row.name, 0)
    return counts


def spread(counts: Counter[str]) -> int:
    return max(counts.values()) - min(counts.values())


def test_what_is_balanced_is_left_alone() -> None:
    assert balance(table("abc", "bca", "cab", "abc")) == ()
    assert balance(table("a")) == ()


def test_who_came_back_gets_its_share() -> None:
    state = table("abc", "abc", "abc", "bca", "bca", "bca")
    moves = balance(state)
    assert len(moves) == 2
    assert after(state, moves) == {"a": 2, "b": 2, "c": 2}


def test_a_leadership_may_have_to_come_by_way_of_another_node() -> None:
    state = table("ab", "ab", "ab", "bc")
    moves = balance(state)
    assert after(state, moves) == {"a": 2, "b": 1, "c": 1}
    assert sorted(target for _, target in moves) == ["b", "c"]


def test_nothing_goes_to_who_is_not_in_sync_or_not_there() -> None:
    assert balance(table("a", "a", "a", "b")) == ()
    assert balance(table("ab", "ab", "ab", fenced="b")) == ()
    assert balance(table("ab", "ab", "ab", restarted="b")) == ()


def test_what_nobody_leads_is_not_counted() -> None:
    assert balance(table("ab", "ba", "-ab", "-ab")) == ()


def test_it_does_not_depend_on_who_asks() -> None:
    state = table(*("abc",) * 9)
    assert balance(state) == balance(state)
    assert after(state, balance(state)) == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize("seed", range(150))
def test_no_fewer_moves_would_do(seed: int) -> None:
    dice = random.Random(seed)
    nodes = "abcd"[: dice.randrange(2, 5)]
    isrs = []
    for _ in range(dice.randrange(1, 8)):
        members = dice.sample(nodes, dice.randrange(1, min(3, len(nodes)) + 1))
        isrs.append("".join(sorted(members) if dice.random() < 0.6 else members))
    state = table(*isrs)
    moves = balance(state)
    best = min(
        (
            sum(count * count for count in counts.values()),
            sum(new != old[0] for new, old in zip(leaders, isrs, strict=True)),
        )
        for leaders in product(*isrs)
        for counts in [Counter(leaders)]
    )
    assert (sum(count * count for count in after(state, moves).values()), len(moves)) == best


def test_the_largest_table_takes_moments_only() -> None:
    nodes = [chr(ord("A") + number) for number in range(50)]
    dice = random.Random(1)
    isrs = ["".join(dice.sample(nodes, 3)) for _ in range(4_096)]
    state = table(*(isr if isr[0] not in "ABC" else isr[1:] + isr[0] for isr in isrs))
    for _ in range(4):  # it looks for a moment each time
        moves = dict(balance(state))
        counts = after(state, tuple(moves.items()))
        rows = [row._replace(leader=moves.get(number, row.leader)) for number, row in enumerate(state.partitions)]
        state = replace(state, partitions=tuple(rows))
    assert spread(counts) <= 1
