"""Leaderships that change hands, and partitions that start again: what the meta group grants, and what follows."""

from typing import Any

import pytest

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome, is_well_formed
from gimmal.cluster.meta.state import MetaState
from gimmal.node.chronicle import losses
from gimmal.wire import limits
from tests.unit.meta_states import Meta

# -- handing over --------------------------------------------------------------------------


def test_a_leader_hands_over_to_who_is_in_sync() -> None:
    meta = Meta()
    version = meta.row(0).version
    assert meta.hand_over(0, "c").value == 1
    assert meta.shown(0) == "c/2 isr abc elr -"
    assert meta.row(0).version == version + 1


def test_many_at_once_and_each_by_itself() -> None:
    meta = Meta("abc", ("abc", "abc", "bca", "abc"))
    rows = tuple((number, 1, 1, target) for number, target in ((0, "b"), (1, "z"), (2, "a"), (3, "c")))
    assert meta.hand_over(0, "", rows=rows).value == 2
    assert [row.leader for row in meta.table.partitions] == ["b", "a", "b", "c"]


@pytest.mark.parametrize("target", ["a", "d", "z", "c"])
def test_who_may_not_lead_gets_nothing_and_the_leader_may_go_on(target: str) -> None:
    """The leader itself, one without a copy, nobody, one that was dropped: a newer row says that it was for nothing."""
    meta = Meta("abcd", ("abc",))
    meta.alter(0, "ab", number=1)
    before = meta.row(0)
    assert meta.hand_over(0, target, number=2) == (Outcome.DONE, 0, "")
    after = meta.row(0)
    assert (after.leader, after.epoch, after.version) == ("a", before.epoch, before.version + 1)


def test_the_fenced_and_the_restarted_are_given_nothing() -> None:
    meta = Meta("abc", ("abc",))
    meta.fence("c")
    assert meta.hand_over(0, "c", number=1).value == 0
    meta.register("c", life=2)
    assert meta.hand_over(0, "c", number=2).value == 0
    assert meta.row(0).leader == "a"


@pytest.mark.parametrize(
    "what",
    [
        {"leader": "b"},
        {"incarnation": 9},
        {"rows": ((0, 2, 1, "b"),)},
        {"rows": ((0, 1, 2, "b"),)},
        {"rows": ((0, 1, 0, "b"),)},
        {"rows": ((99, 1, 1, "b"),)},
    ],
    ids=repr,
)
def test_what_is_named_wrongly_changes_nothing(what: dict[str, Any]) -> None:
    meta = Meta("abc", ("abc",))
    version = meta.table.version
    assert meta.hand_over(0, "b", **what).value == 0
    assert meta.table.version == version


def test_numbers_are_shared_with_changes_of_the_isr_and_an_answer_is_given_again() -> None:
    meta = Meta("abc", ("abc", "abc"))
    rows = ((0, 1, 1, "b"), (1, 1, 1, "z"))
    assert meta.hand_over(0, "", number=5, rows=rows).value == 1
    version = meta.table.version
    assert meta.hand_over(0, "", number=5, rows=rows, leader="a").value == 1, "its answer was lost"
    assert meta.alter(1, "ab", number=4).outcome == Outcome.REFUSED
    assert meta.table.version == version
    copy = MetaState.from_wire(meta.state.to_wire())
    assert copy.apply(50, (commands.HANDOVER, "a", 1, 5, rows)).value == 1


# -- starting again ------------------------------------------------------------------------


def lost(names: str = "abc", holders: tuple[str, ...] = ("ab",), on_loss: str = "refuse") -> Meta:
    """A state in which a and b came back without anything."""
    meta = Meta(names, holders, on_loss)
    for name in "ab":
        meta.fence(name)
    for name in "ab":
        meta.register(name, life=2)
    return meta


def test_a_row_that_never_started_again_says_so() -> None:
    assert Meta().row(0).reset_epoch == 0
    assert lost().row(0).reset_epoch == 0


def test_what_starts_empty_by_itself_says_since_when() -> None:
    row = lost(on_loss="empty").row(0)
    assert (row.leader, row.epoch, row.reset_epoch) == ("b", 4, 4)


def test_a_loss_that_is_accepted_starts_empty_under_a_node_that_is_there() -> None:
    meta = lost("abc", ("ab", "ba", "cab", "c"))
    meta.fence("a")
    done = meta.do(commands.RECOVER, meta.table.version)
    assert (done.outcome, done.value) == (Outcome.DONE, 2)
    assert [meta.shown(number) for number in (0, 1)] == ["b/4 isr b elr -", "b/3 isr b elr -"]
    assert [row.reset_epoch for row in meta.table.partitions] == [4, 3, 0, 0]
    assert meta.row(0).in_sync[0].number == meta.incarnation("b")
    assert meta.do(commands.RECOVER, meta.table.version).value == 0, "once"


def test_the_leaders_of_what_starts_again_are_spread() -> None:
    meta = lost("ab", ("ab",) * 4)
    assert meta.do(commands.RECOVER, meta.table.version).value == 4
    assert sorted(str(row.leader) for row in meta.table.partitions) == ["a", "a", "b", "b"]


def test_what_is_lost_and_has_no_holder_is_asked_for_again() -> None:
    meta = lost()
    meta.fence("a")
    meta.fence("b")
    done = meta.do(commands.RECOVER, meta.table.version)
    assert (done.value, "1 more" in done.text) == (0, True)
    meta.unfence("a")
    assert meta.row(0).is_lost, "nobody accepted that a's copy is empty"
    assert meta.do(commands.RECOVER, meta.table.version).value == 1


def test_a_loss_that_came_later_was_not_accepted() -> None:
    meta = lost()
    assert meta.do(commands.RECOVER, meta.row(0).changed_at - 1).value == 0
    assert meta.row(0).is_lost


def test_what_is_not_lost_is_not_touched_by_recovery() -> None:
    meta = Meta("ab", ("ab",))
    meta.fence("a")
    meta.fence("b")
    version = meta.table.version
    assert meta.do(commands.RECOVER, version).value == 0
    assert meta.table.version == version


def test_a_copy_may_be_made_leader_in_spite_of_what_it_lacks() -> None:
    meta = Meta("abc", ("abc",))
    meta.alter(0, "ab", number=1)
    meta.fence("a")
    meta.fence("b")
    assert meta.shown(0) == "nobody/3 isr - elr ab"
    assert meta.do(commands.UNSAFE_ELECT, 0, "c")[:2] == (Outcome.DONE, 4)
    assert meta.shown(0) == "c/4 isr c elr -"
    assert meta.row(0).reset_epoch == 4
    assert meta.do(commands.UNSAFE_ELECT, 0, "c")[:2] == (Outcome.DONE, 4), "asked for twice"
    meta.unfence("a")
    assert meta.shown(0) == "c/4 isr c elr -", "who had everything has a place no more"


def test_only_a_holder_that_is_there_and_only_where_nobody_leads() -> None:
    meta = Meta("abcd", ("abc",))
    refused = [meta.do(commands.UNSAFE_ELECT, *what) for what in ((0, "b"), (7, "b"))]
    meta.alter(0, "ab", number=1)
    meta.fence("a")
    meta.fence("b")
    refused += [meta.do(commands.UNSAFE_ELECT, 0, name) for name in ("a", "d", "z")]
    assert [result.outcome for result in refused] == [Outcome.REFUSED] * 5
    assert meta.row(0).leader is None


def test_losses_are_told() -> None:
    meta = Meta("abc", ("ab", "ab", "ca", "cb"))
    start = meta.table
    for name in "ab":
        meta.fence(name)
    for name in "ab":
        meta.register(name, life=2)
    (told,) = losses(start, meta.table)
    assert told.startswith("partitions 0, 1 lost: ")
    before = meta.table
    meta.do(commands.RECOVER, meta.table.version)
    assert [text.partition(":")[0] for text in losses(before, meta.table)] == [
        "partition 0 began again in a new epoch, led by a",
        "partition 1 began again in a new epoch, led by b",
    ]
    assert losses(meta.table, meta.table) == []


# -- form ----------------------------------------------------------------------------------


def handover(*changes: Any, name: Any = "a", incarnation: Any = 1, number: Any = 1) -> tuple[Any, ...]:
    return (commands.HANDOVER, name, incarnation, number, changes)


def test_what_may_be_asked_for_is_well_formed() -> None:
    assert is_well_formed(handover())
    assert is_well_formed(handover(*((number, 1, 1, "b") for number in range(limits.PARTITIONS_MAX))))
    assert is_well_formed((commands.RECOVER, 7))
    assert is_well_formed((commands.UNSAFE_ELECT, 0, "a"))


@pytest.mark.parametrize(
    "command",
    [
        *(handover(name=value) for value in (b"a", None, "x" * 257)),
        *(handover(incarnation=value) for value in (-1, True, None, 2**60)),
        *(handover(number=value) for value in (-1, True, None)),
        *(handover((0, 1, 1, value)) for value in (None, 5, b"a", "x" * 257, "\u00e9" * 129)),
        *(handover((value, 1, 1, "b")) for value in (-1, True, None, 2**64)),
        handover((0, 1, 1)),
        handover(*((0, 1, 1, "b"),) * (limits.PARTITIONS_MAX + 1)),
        (commands.HANDOVER, "a", 1, 1, [(0, 1, 1, "b")]),
        *((commands.RECOVER, value) for value in (-1, True, None, "1", 2**60)),
        (commands.RECOVER,),
        (commands.UNSAFE_ELECT, 0),
        *((commands.UNSAFE_ELECT, value, "a") for value in (-1, True, None, limits.PARTITIONS_MAX)),
        *((commands.UNSAFE_ELECT, 0, value) for value in (5, None, "x" * 257)),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_has_no_form_is_refused(command: Any) -> None:
    assert not is_well_formed(command)
    assert Meta().do(*command).outcome == Outcome.MALFORMED


def test_operators_may_ask_for_little() -> None:
    assert {commands.RECOVER, commands.UNSAFE_ELECT} == commands.FROM_OPERATORS
    assert commands.FENCE not in commands.FROM_NODES
