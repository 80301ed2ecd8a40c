"""What passes between the control plane and what leads partitions: advice to hand over, requests, and their answers."""

from typing import Any

from gimmal.cluster.meta import commands
from gimmal.cluster.meta.commands import Outcome
from gimmal.cluster.meta.steward import StewardParameters
from gimmal.wire import peer_messages as messages
from tests.unit.meta_states import Meta
from tests.unit.test_control_plane import Node, joined
from tests.unit.test_grants import Leader


def requests(node: Node) -> list[messages.MetaRequest]:
    return [message for _, message in node.sent if isinstance(message, messages.MetaRequest)]


def leading() -> tuple[Node, Meta]:
    """The node d, which leads partition 0 of two."""
    node = joined()
    meta = Meta("abc", ("abc", "bca"))
    meta.register("d")
    row = meta.row(0)
    meta.state._partitions[0] = row._replace(leader="d", version=row.version + 1, changed_at=3, epoch=2)
    meta.state.on_configuration(3, ("a/1",))
    node.learn(meta.table)
    node.sent.clear()
    return node, meta


def advised_to(node: Node) -> list[Any]:
    """What the data plane of a node is advised to hand over from now on; it does not follow."""
    advised: list[Any] = []
    node.core.data.relieve = advised.extend  # type: ignore[method-assign, assignment]
    return advised


def test_advice_is_handed_up_once_and_only_what_still_holds() -> None:
    node, meta = leading()
    row, advised = meta.row(0), advised_to(node)
    advice = (0, row.epoch, row.version, "b")
    changes = (advice, (0, row.epoch, row.version - 1, "b"), (1, 1, 1, "b"), (99, 1, 1, "b"))
    node.take(messages.Relieve(*messages.BLANK, changes))
    node.wait(1.0)
    assert advised == [advice]


def test_advice_to_another_life_is_not_taken() -> None:
    node, meta = leading()
    row, advised = meta.row(0), advised_to(node)
    node.take(messages.Relieve(*messages.BLANK, ((0, row.epoch, row.version, "b"),)), destination=1)
    assert advised == []
    node.take(messages.Relieve(*messages.BLANK, ((0, row.epoch, row.version, "b"),)), destination=2)
    assert len(advised) == 1


def test_a_leader_asks_to_hand_over_and_learns_what_became_of_it() -> None:
    node, _ = leading()
    control = node.core.control
    answered: list[tuple[int, int]] = []
    node.core.data.on_request_answered = (  # type: ignore[method-assign]
        lambda number, version, now: answered.append((number, version))
    )
    for number, ask in ((1, control.hand_over), (2, control.alter_in_sync)):
        changes: Any = ((0, 2, 2, "b"),) if number == 1 else ((0, 2, 2, (("d", 2),)),)
        ask(number, changes, node.now)
    node.wait(0.05)
    codes = {request.command[0]: request for request in requests(node)}
    assert set(codes) == {commands.HANDOVER, commands.ALTER_ISR}
    assert codes[commands.HANDOVER].command == (commands.HANDOVER, "d", 2, 1, ((0, 2, 2, "b"),))
    for number, request in enumerate(codes.values()):
        reply = messages.MetaReply(*messages.BLANK, request.number, int(Outcome.DONE), number, "", "b:7701")
        node.take(reply)
    assert sorted(answered) == [(1, 0), (2, 0)], "the number of the request, and the table that it was decided by"


def test_the_groups_leader_advises_who_leads_too_much() -> None:
    leader = Leader().settle()  # of four nodes with one copy of everything, nobody else could lead anything
    told = leader.sent
    quiet_until = leader.now + 2 * StewardParameters().settles_after_s
    while leader.now < quiet_until:
        leader.next_round()
        leader.confirm()
    assert [message for _, message in told if isinstance(message, messages.Relieve)] == []


def test_advice_goes_to_the_leader_with_the_row_as_it_is() -> None:
    leader = Leader().settle()
    meta = leader.meta
    rows = meta.group.state._partitions
    rows[1] = rows[1]._replace(in_sync=(*rows[1].in_sync, rows[0].in_sync[0]))
    for number in (0, 2, 4, 6):
        rows[number] = rows[number]._replace(leader="d", in_sync=(*rows[number].in_sync, rows[1].in_sync[0]))
    meta.group.state._table = None
    leader.wait(0.1)
    sent: list[tuple[str, messages.Relieve]] = []
    quiet_until = leader.now + 2 * StewardParameters().settles_after_s
    while leader.now < quiet_until and not sent:
        leader.next_round()
        sent = [(to, message) for to, message in leader.sent if isinstance(message, messages.Relieve)]
        leader.confirm()
        leader.beat("d")
    ((address, message), *_) = sent
    assert (address, message.destination) == ("d:7701", 1)
    assert len(message.changes) == 4
    assert all(change[1:] == (1, 1, "a") for change in message.changes)
