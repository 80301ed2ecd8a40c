"""Where a node gets newer tables from."""

from gimmal.wire import peer_messages as messages
from tests.unit.meta_states import Meta
from tests.unit.test_control_plane import joined


def test_a_newer_table_is_not_asked_for_where_a_later_life_of_its_teller_used_to_be() -> None:
    node = joined()
    node.sent.clear()
    for _ in range(4):
        beats = [message for _, message in node.sent if isinstance(message, messages.Heartbeat)]
        number = beats[-1].number if beats else 1
        node.take(messages.HeartbeatReply(*messages.BLANK, number, "new:7701", False), source=9, table_version=9)
        node.wait(0.5)
    asked = [address for address, message in node.sent if isinstance(message, messages.FetchRows)]
    assert asked[-1] == "new:7701"
    meta = Meta()
    meta.register("d")
    meta.fence("a")
    node.take(messages.Rows(*messages.BLANK, meta.table.to_wire()), source=9, table_version=9)
    assert node.facts()["table_version"] == meta.table.version
