"""A node among hostile ones: whatever well-formed content they send, it lives, stays small, and can read its journal.

Nobody proves who he is to other nodes, so a message may have any content. Some kinds speak with authority, and what
they say is believed if it fits (`BELIEVED`): of those it is only asked that nothing breaks. All others change neither
who a node is nor what it holds.
"""

import contextlib
import random
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

import pytest

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.group import genesis
from gimmal.cluster.raft import Configuration, read_journal
from gimmal.errors import RemoteProtocolError
from gimmal.hashing import SLOTS, key_slot
from gimmal.wire import checks, limits
from gimmal.wire import peer_messages as messages
from gimmal.wire.codec import decode, encode, frames
from gimmal.wire.commands import EXPIRE, GET, NOOP, SET
from gimmal.wire.kinds import FROM_NODES, KINDS
from gimmal.wire.messages import Message, Reply, Request
from gimmal.wire.peer_messages import PeerMessage
from tests.unit.meta_states import CLUSTER, Meta, registration
from tests.unit.test_control_plane import OTHER_CLUSTER, Node

MESSAGES: Final = 120
SENT_MAX: Final = 400
"""Messages for other nodes in one turn: a few for each of those that the node may have heard of."""

TURNS_MAX: Final = 2_000
LOG_MAX: Final = 600
BELIEVED: Final = (
    messages.AppendEntries,
    messages.InstallSnapshot,
    messages.MetaReply,
    messages.Belonging,
    messages.Genesis,
    messages.Rows,
)
PARTITIONS: Final = 8
KEY: Final = b"key"


# -- the nodes ----------------------------------------------------------------------------------------------


def without_a_cluster() -> Node:
    node = Node(expect=3, is_durable=True)
    node.wait(1)
    return node


def lone_leader() -> Node:
    node = Node(is_durable=True)
    node.wait(2)
    assert ask(node, (SET, KEY, b"\xa3Ada", 0, 0, None)).refusals == ()
    return node


def joined_member() -> Node:
    node = Node("d", seeds=("b:7701",), expect=0, is_durable=True)
    meta = Meta()
    meta.register("d")
    node.take(messages.Belonging(*messages.BLANK, "b:7701", ()), cluster=meta.table.cluster)
    node.learn(meta.table)
    assert node.facts()["state"] == "serving"
    return node


NODES: Final = {"newcomer": without_a_cluster, "leader": lone_leader, "member": joined_member}


def ask(node: Node, command: tuple[Any, ...]) -> Reply:
    partition = key_slot(KEY) // (SLOTS // PARTITIONS)
    row = node.core.control.table.partitions[partition]  # type: ignore[union-attr] # it has a table
    node.core.receive(
        b"client", Request(b"", 0, 0, 0, 0, 1_000, ((7, partition, row.epoch, 0, 0, command),)), node.instant
    )
    node.turn()
    ((_, reply),) = node.core.drain()
    assert isinstance(reply, Reply)
    return reply


# -- what they are sent -------------------------------------------------------------------------------------

HUGE: Final = limits.INTEGER_MAX
LONG: Final = "x" * limits.NAME_BYTES_MAX
REGISTRATION: Final = tuple(registration("z"))
FOUND: Final = (commands.FOUND, CLUSTER, 1, commands.REFUSE, (REGISTRATION,), ((0,),) * PARTITIONS)


def deep(levels: int) -> tuple[Any, ...]:
    tree: tuple[Any, ...] = ()
    for _ in range(levels - 1):
        tree = (tree,)
    return tree


class Enemy:
    """Makes messages whose fields all pass their checks. The names it knows are those that the node knows."""

    def __init__(self, node: Node, seed: str) -> None:
        self.dice = random.Random(seed)
        control = node.core.control
        me = control.enrolment.me
        self.names = (
            "",
            me.name,
            "a",
            "b",
            "c",
            "d",
            "z",
            "evil",
            "\u0000",
            LONG,
            me.voter,
            "b/1",
            "evil/1",
            "/",
            "z/1",
        )
        self.texts = ("", me.peer, "b:7701", "evil:1", ":", "\u00e9" * 100, "x" * limits.TEXT_BYTES_MAX)
        self.clusters = (control.cluster, control.cluster, control.cluster, b"", OTHER_CLUSTER)
        self.uuids = (control.cluster or CLUSTER, CLUSTER, me.uuid, bytes(16))
        self.voter, self.node = me.voter, node
        table = control.table.to_wire() if control.table is not None else Meta().table.to_wire()
        founded = genesis(Configuration(("z/1",), ()), FOUND).state
        self.table = table
        self.states = (founded, control.meta.group.state.to_wire(), (table, 1, "empty", ("b/1",), ()))
        self.trees: tuple[tuple[Any, ...], ...] = (
            *(
                (),
                (1,),
                (HUGE,),
                (b"", "", None, 1.5, True),
                deep(limits.TREE_DEPTH_MAX),
                (None,) * 7,
                ("x" * 100_000,),
            ),
            *(REGISTRATION, tuple(me), FOUND, (commands.FOUND,), (True, *FOUND[1:]), table, founded),
            (commands.REGISTER, REGISTRATION),
            (commands.REGISTER, tuple(me)),
            *((commands.FENCE, name, life) for name in (me.name, "z") for life in (1, 2, HUGE)),
            (commands.UNFENCE, "z", -1),
            (commands.ALTER_ISR, me.name, 1, HUGE, ((0, 1, 1, ((me.name, 1),)), (HUGE, HUGE, HUGE, ()))),
            *(control.meta.group.state.to_wire(), (None, None, None, None, None), (table, 1, "refuse", (), ())),
            ((*table[:1], HUGE, 0, *table[3:]), HUGE, deep(9), (1, ()), ((1, 2, 3),)),
            (*table[:1], HUGE, 0, *table[3:]),
        )

    def number(self, highest: int = HUGE) -> int:
        near = self.node.core.control.meta.group.raft.term + self.dice.randint(-1, 3)
        usual = (0, 1, 2, 3, 5, 31, near, near, 4_096, 2**20, 2**31, 2**53 - 1, 2**53, 2**63 - 1)
        return min(self.dice.choice(usual), highest)

    def tree(self) -> tuple[Any, ...]:
        tree = self.dice.choice(self.trees)
        return self.spoiled(tree) if self.dice.random() < 0.5 else tree

    def spoiled(self, tree: tuple[Any, ...]) -> tuple[Any, ...]:
        """A tree with something in it that does not belong there."""
        if not tree:
            return (self.number(),)
        place = self.dice.randrange(len(tree))
        inner = tree[place]
        odd = (self.number(), -1, "", "x", LONG, b"", None, True, 0.5, (), ((),), deep(3))
        goes_down = isinstance(inner, tuple) and self.dice.random() < 0.7
        return (*tree[:place], self.spoiled(inner) if goes_down else self.dice.choice(odd), *tree[place + 1 :])

    def rumor(self) -> tuple[Any, ...]:
        profile = self.dice.choice((None, self.tree(), ("evil:1", "", 1, (("default", ("c", "p")),))))
        return (self.name(), self.number(), self.number(), self.dice.randint(0, 3), self.name(), self.number(), profile)

    def entry(self) -> tuple[Any, ...]:
        payload = self.dice.choice((self.tree(), self.configuration(), ()))
        return (self.number(limits.TERM_MAX), self.dice.randint(0, 3), payload)

    def numbers(self, count: int) -> tuple[int, ...]:
        return tuple(self.number() for _ in range(count))

    def section(self) -> tuple[Any, ...]:
        """What an Append brings for one partition, which may be one that the node holds."""
        epoch = max(1, self.number())
        command = self.dice.choice(((NOOP,), (SET, KEY, b"\xa3Eve", 0, 0, None), (EXPIRE, KEY, self.number())))
        entries = tuple((epoch, self.number(), 0, 0, 0, command) for _ in range(self.dice.randint(0, 3)))
        return (self.dice.choice((0, 1, self.number())), epoch, self.dice.choice((0, 1)), 0, self.number(), entries)

    def configuration(self) -> tuple[Any, ...]:
        voters = tuple(self.name() for _ in range(self.dice.randint(0, 3)))
        return (voters, tuple(self.name() for _ in range(self.dice.randint(0, 1))))

    def name(self) -> str:
        return self.dice.choice((*self.names, f"ghost {self.dice.randrange(1_000)}"))

    def apt(self, message_class: type[Message]) -> dict[str, Any]:
        """Fields that let a message pass the first rules, so that its content is looked at."""
        control, dice = self.node.core.control, self.dice
        raft = control.meta.group.raft
        term = raft.term + dice.choice((0, 1, 1, limits.TERM_STEP_MAX))
        voted = {"voter": dice.choice(("evil/1", "b/1")), "target": self.voter, "term": term, "destination": 0}
        if message_class is messages.AppendEntries:
            kinds = ((0, ()), (1, self.tree()), (1, self.tree()), (2, self.configuration()))
            entries = tuple((term, *dice.choice(kinds)) for _ in range(dice.randint(0, 3)))
            ends = {"prev_index": raft.last_index, "prev_term": raft.log.last_term, "commit": 2**53}
            return voted | ends | {"entries": entries}
        if message_class is messages.InstallSnapshot:
            index = raft.last_index + dice.choice((1, 2, limits.INDEX_STEP_MAX))
            return voted | {"index": index, "index_term": max(1, term), "state": self.spoiled(dice.choice(self.states))}
        if issubclass(message_class, messages.RaftMessage):
            return voted
        if message_class is messages.Genesis:
            return {"founding": CLUSTER, "state": self.spoiled(dice.choice(self.states))}
        if message_class is messages.Rows and control.table is not None:
            later = control.table.version + dice.choice((1, 2**40))
            tree = (control.cluster, later, dice.choice((0, control.table.version)), *self.table[3:])
            return {"table": dice.choice((tree, (*tree[:4], (), ())))}
        return {}

    def some(self, make: Callable[[], Any]) -> tuple[Any, ...]:
        return tuple(make() for _ in range(self.dice.choice((0, 1, 1, 2, 5, 30))))

    def field(self, name: str, check: Any) -> Any:
        if name == "target" and self.dice.random() < 0.7:
            return self.voter
        if name == "destination":
            return self.dice.choice((0, 0, 0, self.node.core.control.incarnation, HUGE))
        makers: dict[Any, Callable[[], Any]] = {
            checks.is_natural: self.number,
            checks.is_term: lambda: self.number(limits.TERM_MAX),
            checks.is_index: lambda: self.number(limits.INDEX_MAX),
            checks.is_flag: lambda: self.dice.random() < 0.5,
            checks.is_cluster: lambda: self.dice.choice(self.clusters),
            checks.is_uuid: lambda: self.dice.choice(self.uuids),
            checks.is_digest: lambda: self.dice.randbytes(8),
            checks.is_text: lambda: self.dice.choice(self.texts),
            checks.is_name: self.name,
            checks.is_tree: self.tree,
            checks.is_tree_or_none: lambda: self.dice.choice((None, self.tree(), self.tree())),
            checks.are_rumors: lambda: self.some(self.rumor),
            checks.are_entries: lambda: self.some(self.entry),
            checks.are_handovers: lambda: self.some(
                lambda: (*self.numbers(3), self.dice.choice(("a", "b", "z", "\0")))
            ),
            checks.is_configuration: self.configuration,
            checks.are_addresses: lambda: self.some(lambda: self.dice.choice(self.texts)),
            checks.are_numbers: lambda: self.some(self.number),
            checks.are_epochs: lambda: self.some(lambda: self.numbers(2)),
            checks.are_alignments: lambda: self.some(lambda: self.numbers(4)),
            checks.are_histories: lambda: self.some(lambda: (*self.numbers(2), self.some(lambda: self.numbers(2)))),
            checks.are_sections: lambda: self.some(self.section),
        }
        return makers[check]()

    def message(self, kind: int) -> PeerMessage:
        """A message that arrives; what the codec refuses, no node ever sees."""
        message_class, known = KINDS[kind]
        while True:
            values = {field.name: self.field(field.name, known[field.name]) for field in fields(message_class)}
            made = message_class(**(values | (self.apt(message_class) if self.dice.random() < 0.7 else {})))
            with contextlib.suppress(RemoteProtocolError):
                received = decode(encode(made), FROM_NODES)
                assert isinstance(received, PeerMessage)
                return received


# -- what becomes of them -----------------------------------------------------------------------------------


def attack(node: Node, messages_of: Callable[[], PeerMessage], count: int = MESSAGES) -> None:
    """Send messages, several in a turn, with time between the turns; see that the node stays within its bounds."""
    for number in range(count):
        node.core.receive_from_node(messages_of(), node.instant)
        if number % 4 == 3:
            live(node, 0.1)
    live(node, 5)
    assert len(node.log) <= LOG_MAX
    assert len(node.core.control.membership.members if node.core.control.membership else ()) < 200
    read_journal(node.journal)


def live(node: Node, seconds: float) -> None:
    """Let time pass; a node that always has something to do would leave no time for anything else."""
    end = node.now + seconds
    check_turn(node.turn())
    for _ in range(TURNS_MAX):
        at = node.core.next_deadline()
        if at > end:
            node.now = end
            return
        node.now = max(node.now, at)
        check_turn(node.turn())
    raise AssertionError("it never rests")


def check_turn(sent: list[tuple[str, PeerMessage]]) -> None:
    assert len(sent) <= SENT_MAX
    for address, message in sent:
        assert address
        for _, frame in frames(message):
            decode(frame, FROM_NODES)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("who", NODES)
@pytest.mark.parametrize("kind", sorted(FROM_NODES), ids=lambda kind: KINDS[kind][0].__name__)
def test_a_node_survives_whatever_one_kind_of_message_says(kind: int, who: str, seed: int) -> None:
    node = NODES[who]()
    before = node.facts()
    enemy = Enemy(node, f"{kind} {who} {seed}")
    attack(node, lambda: enemy.message(kind))
    if KINDS[kind][0] not in BELIEVED:
        check_is_the_same(node, before)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("who", NODES)
def test_a_node_survives_all_kinds_together(who: str, seed: int) -> None:
    node = NODES[who]()
    enemy = Enemy(node, f"all {who} {seed}")
    attack(node, lambda: enemy.message(enemy.dice.choice(sorted(FROM_NODES))), 4 * MESSAGES)


def check_is_the_same(node: Node, before: dict[str, Any]) -> None:
    """It is who it was, in its life, and has its keys."""
    after = node.facts()
    for fact in ("state", "cluster", "incarnation"):
        assert after[fact] == before[fact], fact
    if before["meta_role"] == "leader":
        node.wait(2)  # it may have been told that somebody else gives leases
        assert ask(node, (GET, KEY)).results[0].endswith(b"\xa3Ada")
