"""A node that belongs to another cluster now refuses each operation: it was not executed, and its client hears so."""

import random

import pytest

from gimmal.client.commands import Commands
from gimmal.client.session import Session
from gimmal.client.values import Values
from gimmal.errors import RemoteProtocolError
from gimmal.wire.messages import Refusal, Reply, Request, TableRows
from tests.unit.fake_network import CLUSTER, PARTITIONS, three_nodes


def test_a_write_to_another_cluster_ends_at_once_and_is_not_maybe_applied() -> None:
    table = three_nodes()
    seed = table.nodes[0].networks[0][1].client
    session = Session([seed], None, random.Random(1), 0.0)
    session.on_ready(seed)
    session.receive(seed, TableRows(CLUSTER, 1, 0, 1, table.to_wire()), 0.0)
    for address in session.links:
        session.on_ready(address)
    call = Commands(PARTITIONS, Values()).set("key", 1, None, (False, False, False), None)
    session.start(call, 5.0, 0.0)
    ((address, request),) = [(to, sent) for to, sent in session.drain() if isinstance(sent, Request)]
    refusal = (request.operations[0][0], int(Refusal.WRONG_CLUSTER), "n1 belongs to cluster x: connect a new client")
    finished = session.receive(address, Reply(bytes(16), 9, 0, 99, 0, (), (), (refusal,)), 0.1)
    assert finished == [call]
    with pytest.raises(RemoteProtocolError, match="connect a new client"):
        call.outcome()
