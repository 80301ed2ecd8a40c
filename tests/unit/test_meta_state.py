"""The state machine of the meta group: who is registered, who leads, who is in sync, after which commands."""

from typing import Any

import pytest

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome
from gimmal.cluster.meta.state import MetaState
from gimmal.cluster.table import Addresses
from gimmal.wire import limits
from tests.unit.meta_states import CLUSTER, Meta, registration

# -- founding ------------------------------------------------------------------------------


def test_one_entry_plans_the_whole_table() -> None:
    meta = Meta()
    assert (meta.table.cluster, meta.table.version) == (CLUSTER, 1)
    assert [(row.name, row.incarnation, row.status) for row in meta.table.nodes] == [
        *(("a", 1, "alive"), ("b", 1, "alive"), ("c", 1, "alive"))
    ]
    assert (meta.shown(0), meta.shown(1)) == ("a/1 isr abc elr -", "b/1 isr bca elr -")


def test_a_cluster_is_founded_once() -> None:
    meta = Meta()
    before = meta.table
    again = (commands.FOUND, bytes(16), 1, "refuse", (tuple(registration("z")),), ((0,),))
    assert meta.state.apply(2, again).outcome == Outcome.MALFORMED
    assert meta.table == before


def test_before_the_founding_nothing_else_counts() -> None:
    state = MetaState()
    for command in ((commands.FENCE, "a", 1), (commands.REGISTER, tuple(registration("a"))), ()):
        assert state.apply(1, command).outcome == Outcome.MALFORMED
    assert state.table is None


# -- registration --------------------------------------------------------------------------


def test_a_new_node_is_a_member_without_partitions() -> None:
    meta = Meta()
    assert meta.register("d") == (Outcome.DONE, 2, "")
    assert meta.incarnation("d") == 2
    assert meta.shown(0) == "a/1 isr abc elr -"


def test_the_same_process_again_gets_the_same_answer_and_changes_nothing() -> None:
    meta = Meta()
    version = meta.table.version
    assert meta.register("a") == (Outcome.DONE, 1, "")
    assert meta.table.version == version


def test_another_process_is_refused_until_the_first_is_fenced() -> None:
    meta = Meta()
    refused = meta.register("a", life=2)
    assert refused.outcome == Outcome.REFUSED
    assert "a:7701" in refused.text
    meta.fence("a")
    assert meta.register("a", life=2) == (Outcome.DONE, 4, "")
    assert meta.incarnation("a") == 4


def test_what_would_change_nothing_can_be_told_without_an_entry() -> None:
    meta = Meta()
    for life, outcome in ((1, Outcome.DONE), (2, Outcome.REFUSED)):
        register = (commands.REGISTER, tuple(registration("a", life)))
        answer = meta.state.answer_without_entry(register)
        assert answer is not None
        assert answer.outcome == outcome
        assert answer == meta.do(*register)
    assert meta.state.answer_without_entry((commands.REGISTER, tuple(registration("d")))) is None
    assert meta.state.answer_without_entry((commands.ALTER_ISR, "a", 1, 1, ())) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peer": "b:7701"}, "peer address b:7701"),
        ({"networks": (("default", Addresses("b:7700", "d:7702")),)}, "client (default) address b:7700"),
        ({"networks": (("default", Addresses("d:7700", "b:7702")),)}, "pub/sub (default) address b:7702"),
    ],
)
def test_an_address_belongs_to_one_node(changes: dict[str, Any], said: str) -> None:
    meta = Meta()
    refused = meta.register("d", **changes)
    assert refused.outcome == Outcome.REFUSED
    assert said in refused.text
    assert "'b'" in refused.text
    meta.fence("b")
    assert meta.register("d", **changes).outcome == Outcome.DONE, "the dead keep no address"


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NODES_MAX", 4)
    meta = Meta()
    assert meta.register("d").outcome == Outcome.DONE
    assert "takes no more" in meta.register("e").text
    meta.fence("d")
    assert meta.register("d", life=2).outcome == Outcome.DONE


def test_the_same_address_in_another_network_is_another_address() -> None:
    meta = Meta()
    networks = (("inside", Addresses("b:7700", "b:7702")),)
    assert meta.register("d", networks=networks).outcome == Outcome.DONE


def test_a_new_life_has_forgotten_everything() -> None:
    meta = Meta()
    meta.fence("a")
    assert (meta.shown(0), meta.shown(1)) == ("c/2 isr bc elr -", "b/1 isr bc elr -")
    meta.register("a", life=2)
    assert (meta.shown(0), meta.shown(1)) == ("c/2 isr bc elr -", "b/1 isr bc elr -")
    meta.fence("b")
    assert meta.shown(0) == "c/2 isr c elr b"
    meta.register("b", life=2)
    assert meta.shown(0) == "c/2 isr c elr -"


# -- fencing -------------------------------------------------------------------------------


def test_leaders_are_spread() -> None:
    meta = Meta("abcd", ("abcd", "abcd", "abcd", "abcd", "abcd", "bacd", "bacd", "bacd"))
    meta.fence("a")
    assert [row.leader for row in meta.table.partitions] == ["c", "d", "c", "d", "c", "b", "b", "b"]


def test_the_last_copies_stay_eligible() -> None:
    meta = Meta()
    assert (meta.fence("a"), meta.shown(0)) == ((Outcome.DONE, 0, ""), "c/2 isr bc elr -")
    assert (meta.fence("b"), meta.shown(0)) == ((Outcome.DONE, 0, ""), "c/2 isr c elr b")
    assert (meta.fence("c"), meta.shown(0)) == ((Outcome.DONE, 0, ""), "nobody/3 isr - elr bc")
    assert (meta.unfence("a"), meta.shown(0)) == ((Outcome.DONE, 0, ""), "nobody/3 isr - elr bc")
    assert (meta.unfence("b"), meta.shown(0)) == ((Outcome.DONE, 0, ""), "b/4 isr b elr c")


def test_a_life_is_fenced_once_and_only_that_life() -> None:
    meta = Meta()
    meta.fence("a")
    version = meta.table.version
    assert meta.fence("a").outcome == Outcome.REFUSED
    assert meta.do(commands.FENCE, "b", 7).outcome == Outcome.REFUSED
    assert meta.do(commands.FENCE, "z", 1).outcome == Outcome.REFUSED
    assert meta.table.version == version


def test_unfencing_gives_nothing_back_that_others_lead() -> None:
    meta = Meta()
    meta.fence("a")
    before = meta.shown(0)
    meta.unfence("a")
    assert meta.shown(0) == before
    assert meta.unfence("a").outcome == Outcome.REFUSED


def test_nobody_comes_back_to_an_address_that_is_taken_by_now() -> None:
    meta = Meta()
    meta.fence("b")
    assert meta.register("d", peer="b:7701").outcome == Outcome.DONE
    refused = meta.unfence("b")
    assert refused.outcome == Outcome.REFUSED
    assert "node 'd' already has the peer address b:7701" in refused.text
    meta.fence("d")
    assert meta.unfence("b").outcome == Outcome.DONE


# -- in-sync sets --------------------------------------------------------------------------


def test_a_leader_may_drop_and_take_back() -> None:
    meta = Meta()
    assert meta.alter(0, "ab", number=1).value == 1
    assert meta.shown(0) == "a/1 isr ab elr -"
    assert meta.alter(0, "a", number=2).value == 1
    assert meta.shown(0) == "a/1 isr a elr b"
    assert meta.alter(0, "ac", number=3).value == 1
    assert meta.shown(0) == "a/1 isr ac elr -", "two of three are enough: b is not needed any more"


@pytest.mark.parametrize(
    "what",
    [
        {"members": "bc"},
        {"members": "abcc"},
        {"members": "abz"},
        {"members": "abd"},
        {"leader": "b"},
        {"incarnation": 9},
        {"rows": ((0, 2, 1, (("a", 1),)),)},
        {"rows": ((0, 1, 2, (("a", 1),)),)},
        {"rows": ((0, 1, 0, (("a", 1),)),)},
        {"rows": ((99, 1, 1, (("a", 1),)),)},
        {"rows": ((-1, 1, 1, (("a", 1),)),)},
    ],
    ids=repr,
)
def test_what_is_asked_wrongly_changes_nothing(what: dict[str, Any]) -> None:
    meta = Meta("abcdz", ("abc",))
    meta.fence("z")
    version = meta.table.version
    assert meta.alter(0, what.pop("members", "ab"), **what).value == 0
    assert meta.table.version == version


def test_who_joins_must_be_the_present_life_and_not_fenced() -> None:
    meta = Meta()
    meta.fence("c")
    assert meta.alter(0, "abc", number=1).value == 0, "fenced"
    meta.register("c", life=2)
    stale = ((0, meta.row(0).epoch, meta.row(0).version, (("a", 1), ("b", 1), ("c", 1))),)
    assert meta.alter(0, "", number=2, rows=stale).value == 0, "the life before"
    assert meta.alter(0, "abc", number=3).value == 1


def test_request_numbers_rise() -> None:
    meta = Meta()
    assert meta.alter(0, "ab", number=5).value == 1
    version = meta.table.version
    assert meta.alter(0, "abc", number=5) == (Outcome.DONE, 1, ""), "the last one again: its answer was lost"
    assert meta.alter(0, "abc", number=4).outcome == Outcome.REFUSED
    assert meta.table.version == version
    assert meta.alter(0, "abc", number=6).value == 1


def test_a_fenced_leader_is_not_obeyed() -> None:
    meta = Meta()
    row = meta.row(0)
    meta.fence("a")
    change = (0, row.epoch, row.version, (("a", 1),))
    assert meta.do(commands.ALTER_ISR, "a", 1, 1, (change,)).outcome == Outcome.REFUSED


# -- total loss ----------------------------------------------------------------------------


def lose_both(meta: Meta) -> None:
    for name in "ab":
        meta.fence(name)
    for name in "ab":
        meta.register(name, life=2)


def test_what_nobody_has_any_more_is_lost() -> None:
    meta = Meta("ab", ("ab",))
    lose_both(meta)
    assert meta.shown(0) == "nobody/3 isr - elr -"
    assert meta.row(0).is_lost


def test_or_starts_empty_if_the_founding_said_so() -> None:
    meta = Meta("ab", ("ab",), on_loss="empty")
    lose_both(meta)
    assert meta.shown(0) == "b/4 isr b elr -"


def test_one_copy_comes_back_with_its_node_or_empty_with_another_life_of_it() -> None:
    meta = Meta("ab", ("a", "b"), on_loss="empty")
    meta.fence("a")
    assert meta.shown(0) == "nobody/2 isr - elr a"
    meta.unfence("a")
    assert meta.shown(0) == "a/3 isr a elr -"
    meta.fence("a")
    meta.register("a", life=2)
    assert (meta.shown(0), meta.row(0).in_sync[0].number) == ("a/5 isr a elr -", meta.incarnation("a"))


# -- form ----------------------------------------------------------------------------------


def register_with(**changes: Any) -> tuple[Any, ...]:
    return (commands.REGISTER, tuple(registration("d")._replace(**changes)))


def alter_with(changes: Any, number: Any = 1) -> tuple[Any, ...]:
    return (commands.ALTER_ISR, "a", 1, number, changes)


@pytest.mark.parametrize(
    "command",
    [
        (), (99,), (None,), ([],), ("register",), (commands.REGISTER,), (commands.REGISTER, ()), (commands.REGISTER, 5),
        (commands.REGISTER, tuple(registration("d"))[:-1]), register_with(name=""), register_with(name=b"d"),
        register_with(voter="e/1"), register_with(peer=""), register_with(uuid=b"short"), register_with(uuid="d" * 16),
        register_with(weight=0), register_with(weight=True), register_with(networks=()), register_with(zone=5),
        register_with(networks=(("default", ("d:1",)),)), register_with(networks=(("default", ("d:1", 5)),)),
        register_with(name="d" * 300, voter="d" * 300 + "/1"),
        (commands.FENCE, "a"), (commands.FENCE, b"a", 1), (commands.FENCE, "a", 1.0), (commands.UNFENCE, "a", None),
        (commands.ALTER_ISR, "a", 1, 1), alter_with(5), alter_with(((0, 1, 1),)), alter_with(((0, 1, 1, ("a",)),)),
        alter_with(((0, 1, 1, (("a", "1"),)),)), alter_with((), number=True), alter_with((), number="1"),
    ],
    ids=lambda command: repr(command)[:50],
)  # fmt: skip
def test_what_is_no_command_does_nothing(command: Any) -> None:
    meta = Meta()
    before = meta.table
    assert not commands.is_well_formed(command)
    assert meta.do(*command).outcome == Outcome.MALFORMED
    assert meta.table == before


def test_a_snapshot_is_the_whole_state() -> None:
    meta = Meta()
    meta.alter(0, "ab", number=7)
    meta.fence("c")
    meta.state.on_configuration(meta.index, ("a/1", "b/1"))
    copy = MetaState.from_wire(meta.state.to_wire())
    assert (copy.table, copy.to_wire()) == (meta.state.table, meta.state.to_wire())
    for command in (
        (commands.ALTER_ISR, "a", 1, 7, ()),
        (commands.FENCE, "b", 1),
        (commands.REGISTER, tuple(registration("c", 2))),
    ):
        assert copy.apply(50, command) == meta.state.apply(50, command)
        assert copy.to_wire() == meta.state.to_wire()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, "3"),
        (2, "later"),
        (2, 5),
        (3, ("a/1", 5)),
        (3, None),
        (4, (("a", 1, 1),)),
        (4, (("a", "1", 1, 1),)),
        (4, ((5, 1, 1, 1),)),
        (4, ((),)),
    ],
)
def test_a_damaged_snapshot_is_none(place: int, value: Any) -> None:
    tree = list(Meta().state.to_wire())
    tree[place] = value
    with pytest.raises((ValueError, TypeError)):
        MetaState.from_wire(tuple(tree))


def test_who_votes_is_part_of_the_table() -> None:
    meta = Meta()
    meta.state.on_configuration(5, ("a/1",))
    assert (meta.table.voters, meta.table.version) == (("a/1",), 5)
    meta.state.on_configuration(6, ("a/1",))
    assert meta.table.version == 5
