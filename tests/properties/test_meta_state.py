"""The meta group's state under any sequence of commands: what only rises, who may lead, and who keeps what."""

import random

import pytest

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.table import ALIVE, PartitionRow, Table
from gimmal.types import Incarnation
from tests.unit.meta_states import Meta

NAMES = "abcdef"
WALKS = 150
STEPS = 60


def random_step(meta: Meta, dice: random.Random, number: int) -> None:
    """One command, mostly one that makes sense."""
    table = meta.table
    node = dice.choice(table.nodes)
    kind = dice.random()
    if kind < 0.25:
        meta.fence(node.name)
    elif kind < 0.45:
        meta.unfence(node.name)
    elif kind < 0.65:
        meta.register(dice.choice(NAMES), life=dice.randrange(1, 200))
    elif kind < 0.95:
        partition = dice.randrange(len(table.partitions))
        row = meta.row(partition)
        if row.leader is not None:
            members = {row.leader, *dice.sample(row.replicas, dice.randrange(len(row.replicas)))}
            if dice.random() < 0.7:
                meta.alter(partition, "".join(sorted(members)), number=number)
            else:
                meta.hand_over(partition, dice.choice(NAMES), number=number)
    elif kind < 0.97:
        meta.do(commands.RECOVER, table.version)
    elif kind < 0.98:
        meta.do(commands.UNSAFE_ELECT, dice.randrange(len(table.partitions)), node.name)
    else:
        meta.do(commands.FENCE, node.name, node.incarnation - 1)


def check_row(row: PartitionRow, table: Table) -> None:
    least = len(row.replicas) // 2 + 1
    lives = {Incarnation(node.name, node.incarnation) for node in table.nodes}
    alive = {Incarnation(node.name, node.incarnation) for node in table.nodes if node.status == ALIVE}
    assert len(set(row.in_sync)) == len(row.in_sync)
    assert row.reset_epoch <= row.epoch
    assert not set(row.in_sync) & set(row.eligible), "nobody is both in sync and merely eligible"
    assert {*row.in_sync, *row.eligible} <= lives, "whoever was restarted keeps no place"
    assert {member.name for member in (*row.in_sync, *row.eligible)} <= set(row.replicas)
    if len(row.in_sync) >= least:
        assert not row.eligible
    if row.leader is None:
        assert not set(row.in_sync) & alive, "somebody could lead"
        assert not set(row.eligible) & alive, "somebody could lead"
    else:
        (leader,) = (member for member in alive if member.name == row.leader)
        assert leader in row.in_sync


@pytest.mark.parametrize("seed", range(WALKS))
def test_whatever_is_asked_the_table_keeps_its_rules(seed: int) -> None:
    dice = random.Random(seed)
    copies = dice.choice([1, 2, 3])
    holders = tuple("".join(dice.sample("abcd", copies)) for _ in range(4))
    meta = Meta("abcd", holders, on_loss=dice.choice(["refuse", "empty"]))
    leaders: dict[tuple[int, int], str] = {}
    for number in range(1, STEPS):
        before = meta.table
        random_step(meta, dice, number)
        for partition, row in enumerate(meta.table.partitions):
            check_row(row, meta.table)
            if row.leader is not None:
                assert leaders.setdefault((partition, row.epoch), row.leader) == row.leader, "one leader per epoch"
        assert before.updated(meta.table.to_wire(before.version)) == meta.table
        assert MetaState.from_wire(meta.state.to_wire()).table == meta.table


@pytest.mark.parametrize("seed", range(WALKS))
def test_who_was_in_sync_is_not_forgotten_but_by_a_restart(seed: int) -> None:
    """As long as nobody is restarted, and no leader drops anybody, somebody who has everything could lead."""
    dice = random.Random(seed)
    meta = Meta("abc", ("abc",))
    for _ in range(STEPS):
        name = dice.choice("abc")
        meta.fence(name) if dice.random() < 0.5 else meta.unfence(name)
        row = meta.row(0)
        assert not row.is_lost
        if len(row.in_sync) < 2:
            assert row.in_sync or row.eligible
