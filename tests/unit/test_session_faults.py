"""What a client makes of networks, of hostile nodes, and of a thousand random faults at once."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from gimmal.client.commands import Commands
from gimmal.client.session import ATTEMPTS_MAX
from gimmal.cluster.table import Addresses, Table
from gimmal.errors import (
    ConfigError,
    InvalidArgument,
    NoRoute,
    NotAnInteger,
    NotEnoughReplicas,
    OperationTimeout,
    Overloaded,
    Unavailable,
)
from gimmal.wire.codec import encode
from gimmal.wire.messages import (
    FetchStatus,
    FetchTable,
    Message,
    Problem,
    Refusal,
    Reply,
    Request,
    Status,
    TableRows,
)
from tests.unit.fake_network import CLUSTER, DROP, End, Outcome, World, only_towards, three_nodes
from tests.unit.tables import with_leaders

SEEDS = ["h1:1", "h2:1", "h3:1"]


@pytest.fixture
def world() -> World:
    return World()


# -- networks -----------------------------------------------------------------------------------------------


def two_networks() -> Table:
    table = three_nodes()
    inside = [("inside", row.networks[0][1]) for row in table.nodes]
    outside = [("outside", Addresses(f"o{i}:1", f"o{i}:2")) for i in (1, 2, 3)]
    rows = zip(table.nodes, inside, outside, strict=True)
    return replace(table, nodes=tuple(row._replace(networks=(one, two)) for row, one, two in rows))


@pytest.mark.parametrize(
    ("seeds", "network", "used"),
    [
        (["h2:1"], None, "h"),
        (["o2:1"], None, "o"),
        (["elsewhere:5", "o3:1"], None, "o"),
        (["elsewhere:5"], None, "h"),
        (["h2:1"], "outside", "o"),
        (["o2:1"], "inside", "h"),
        (["elsewhere:5"], "outside", "o"),
    ],
)
def test_the_network_is_the_one_named_or_the_one_of_the_seed(seeds: list[str], network: str | None, used: str) -> None:
    world = World(table=two_networks())
    end = world.join(seeds, network)
    end.session.receive(seeds[0], TableRows(CLUSTER, 1, 0, 1, world.table.to_wire()), world.now)
    assert [address for address in end.session.links if address not in seeds] == [
        address for address in (f"{used}1:1", f"{used}2:1", f"{used}3:1") if address not in seeds
    ]
    for i in range(100):
        end.incr(f"key{i}")
    end.flush()
    assert {address for address, message in end.requests if isinstance(message, Request)} == {
        f"{used}1:1",
        f"{used}2:1",
        f"{used}3:1",
    }


def test_a_network_that_does_not_exist_is_a_configuration_error() -> None:
    world = World(table=two_networks())
    end = world.join(["h1:1"], "moon")
    with pytest.raises(ConfigError, match=r"'moon'.*inside, outside"):
        world.run(1.0)
    assert end.session.table is None


def test_a_node_without_an_address_in_the_network_leads_to_no_route(world: World) -> None:
    table = two_networks()
    first, *others = table.nodes
    world.become(replace(table, nodes=(first._replace(networks=first.networks[:1]), *others)), ("n2", "n3"))
    end = world.join(["o2:1"], None)
    world.cores["o2:1"] = world.cores.pop("h2:1")
    world.run(1.0)
    outcome = end.incr(next(key for key in map(str, range(999)) if world.owner(key) == "h1:1"), timeout=1.0)
    world.run(2.0)
    assert type(outcome.error()) is NoRoute
    assert "node n1, which leads it, has no address in network 'outside'" in str(outcome.error())


# -- refusals -----------------------------------------------------------------------------------------------


def test_an_overloaded_node_is_asked_again_after_growing_pauses(world: World) -> None:
    pauses = []
    for seed in range(30):
        world = World(seed)
        end = world.connect()
        world.refuse = lambda number: Refusal.OVERLOADED
        sent_at: list[float] = []

        def fate(address: str, message: Message, sent_at: list[float] = sent_at, world: World = world) -> float:
            if isinstance(message, Request):
                sent_at.append(world.now)
            return 0.0

        world.fate = fate
        outcome = end.incr("key", timeout=60.0)
        world.run(59.0)
        error = outcome.error()
        assert isinstance(error, Overloaded)
        assert "incr 'key'" in str(error)
        assert f"node {world.table.partitions[world.partition('key')].leader} at " in str(error)
        assert len(sent_at) == ATTEMPTS_MAX == 10
        pauses.append([later - earlier for earlier, later in pairwise(sent_at)])
    means = [sum(column) / len(pauses) for column in zip(*pauses, strict=True)]
    assert means[0] < 0.03
    assert means[4] > 3 * means[0]
    assert 0.2 < means[-1] < 0.8
    assert max(map(max, pauses)) <= 1.0


def test_every_operation_of_a_call_has_ten_attempts_of_its_own(world: World) -> None:
    end = world.connect()
    refused: Counter[int] = Counter()

    def refuse(number: int) -> Refusal | None:
        refused[number] += 1
        return Refusal.OVERLOADED if refused[number] < ATTEMPTS_MAX else None

    world.refuse = refuse
    outcome = end.call(Commands.set_many, {f"key{i}": i for i in range(1_000)}, None, timeout=60.0)
    world.run(60.0)
    assert outcome.result() == 1_000
    assert set(refused.values()) == {ATTEMPTS_MAX}


def test_a_refusal_that_comes_twice_sends_nothing_twice(world: World) -> None:
    end = world.connect()
    world.fate = only_towards(Reply, DROP)
    outcome = end.incr("key", timeout=60.0)
    world.run(0.01)
    (operation,) = end.sent(Request)[0].operations
    for code in (Refusal.OVERLOADED, Refusal.MOVED, Refusal.OVERLOADED):
        refusals = ((operation[0], int(code), "no"),)
        end.session.receive(world.owner("key"), Reply(CLUSTER, 1, 0, 1, 0, (), (), refusals), world.now)
    world.unplugged = {world.owner("key")}
    end.session.on_blocked(world.owner("key"), FetchTable(CLUSTER, 0, 0, 1))
    world.run(5.0)  # by now it waits for the connection
    end.session.receive(world.owner("key"), Reply(CLUSTER, 1, 0, 1, 0, (), (), refusals), world.now)
    world.run(5.0)
    world.unplugged = set()
    world.fate = lambda address, message: 0.001
    world.run(5.0)
    assert [len(request.operations) for request in end.sent(Request)] == [1, 1]
    assert outcome.result() == 2  # the first one was carried out too: only its refusals were made up


def test_a_write_that_was_left_undecided_is_not_sent_again(world: World) -> None:
    end = world.connect()
    world.refuse = lambda number: Refusal.UNDECIDED
    outcome = end.incr("key", timeout=60.0)
    world.run(1.0)
    error = outcome.error()
    assert isinstance(error, OperationTimeout)
    assert error.maybe_applied
    assert "it may have been applied" in str(error)
    assert len(end.sent(Request)) == 1


def test_a_write_for_which_there_are_too_few_copies_is_tried_again(world: World) -> None:
    end = world.connect()
    world.refuse = lambda number: Refusal.NOT_ENOUGH_REPLICAS
    refused, tried_again = end.incr("key", timeout=60.0), end.incr("key", timeout=60.0)
    world.run(0.01)
    world.refuse = lambda number: Refusal.NOT_ENOUGH_REPLICAS if number == refused.call.first else None
    world.run(59.0)
    assert type(refused.error()) is NotEnoughReplicas
    assert tried_again.result() == 1


def test_errors_of_the_cluster_are_raised_by_their_names(world: World) -> None:
    end = world.connect()
    first = end.call(Commands.set, "text", "abc", None, (False, False, False), None)
    second = end.incr("text")
    third = end.call(Commands.incr, "other", 1)
    world.run(1.0)
    assert first.result() is True
    assert isinstance(second.error(), NotAnInteger)
    assert "incr 'text'" in str(second.error())
    assert third.result() == 1
    for outcome, refusal, kind in (
        (end.incr("a", timeout=60.0), Refusal.INVALID, InvalidArgument),
        (end.incr("b", timeout=60.0), 99, Overloaded),  # a refusal of the future: not carried out, so worth another try
    ):
        world.fate = only_towards(Request, DROP)
        world.run(0.0)
        number = outcome.call.first
        for _ in range(ATTEMPTS_MAX):
            reply = Reply(CLUSTER, 1, 0, 1, 0, (), (), ((number, int(refusal), "why"),))
            end.finished(end.session.receive("h1:1", reply, world.now))
            world.run(1.0)
        assert type(outcome.error()) is kind


# -- hostile nodes ------------------------------------------------------------------------------------------


def hostile_messages(dice: random.Random, world: World) -> Message:
    """Something a node should not send, with a header that may be a lie."""
    number = dice.choice((0, 1, dice.randint(1, 40), 2**40, 2**63 - 1))
    cluster = dice.choice((CLUSTER, CLUSTER, b"", bytes(16)))
    header = (cluster, dice.choice((0, 1, 2**62)), dice.choice((0, 7)), dice.choice((0, 1, 2, 2**63 - 1)))
    numbers = tuple(dice.choice((number, number + 1, dice.randint(1, 40))) for _ in range(dice.randint(0, 4)))
    results = tuple(dice.choice((None, 0, b"", "x", (), True, 2.5)) for _ in range(dice.randint(0, 4)))
    refusals = tuple((other, dice.randint(2, 12), "because") for other in numbers[: dice.randint(0, 3)])
    other_cluster = three_nodes(cluster=bytes(16))
    tables: list[Any] = [
        None,
        (),
        (1, 2, 3, 4),
        replace(other_cluster, version=9).to_wire(),
        replace(world.table, version=1).to_wire(),
        (CLUSTER, 5, 0, (), world.table.nodes, ()),
        (CLUSTER, 5, 0, (), (), tuple((number, *row) for number, row in enumerate(world.table.partitions))),
        (CLUSTER, 5, 0, (), world.table.nodes, tuple((i, None, 1, 1, (), (), (), (), (), 1) for i in range(3))),
        (CLUSTER, 5, 4, (), (), ()),
        (CLUSTER, 5, 1, (), (), ((0, "n9", 2, 2, (), (), (), (), (), 5),)),
        (CLUSTER, 5, 1, (), (), ((64, None, 2, 2, (), (), (), (), (), 5),)),
        (CLUSTER, 5, 1, (), (), ((0, None, 1, 1, (), (), (), (), (), 5),)),
    ]
    return dice.choice(
        [
            Reply(*header, number, numbers, results, refusals),
            TableRows(*header, dice.choice(tables)),
            Problem(*header, dice.randint(0, 9), "you are wrong"),
            Status(*header, (("name", "n1"),)),
            FetchTable(*header),
            FetchStatus(*header),
            Request(*header, 0, 0, ()),
        ]
    )


@pytest.mark.parametrize("seed", range(100))
def test_hostile_messages_never_break_a_client(seed: int) -> None:
    dice = random.Random(seed)
    world = World(seed)
    end = world.connect()
    for _ in range(30):
        end.call(Commands.set, f"key{dice.random()}", 1, None, (False, False, False), None, timeout=1.0)
        message = hostile_messages(dice, world)
        end.receive(dice.choice([*SEEDS, "stranger:1"]), encode(message))
        world.run(dice.uniform(0, 0.02))
    assert end.session.table == world.table, f"seed {seed}"
    world.run(5.0)
    assert all(len(outcome.ended_at) == 1 for outcome in end.outcomes.values()), f"seed {seed}"
    after = [end.incr(f"after{i}", timeout=2.0) for i in range(20)]
    world.run(2.0)
    assert [outcome.result() for outcome in after] == [1] * 20, f"seed {seed}"


def test_a_table_of_another_cluster_is_not_adopted(world: World) -> None:
    end = world.connect()
    other = replace(three_nodes(cluster=bytes(16)), version=5)
    end.session.receive("h1:1", TableRows(bytes(16), 1, 0, 5, other.to_wire()), world.now)
    assert end.session.table == world.table
    world.run(10.0)
    assert end.sent(FetchTable) == []


def test_a_start_that_is_interrupted_does_not_mix_up_answers(world: World) -> None:
    class Interrupt(Exception):
        pass

    class Struck(tuple[Any, ...]):
        """Parts whose use a signal handler interrupts after the first."""

        def __iter__(self) -> Any:
            yield self[0]
            raise Interrupt

    end = world.connect()
    call = world.commands.get_many(["key1", "key2"], "any")
    call.parts = Struck(call.parts)
    with pytest.raises(Interrupt):
        end.session.start(call, 5.0, world.now)
    end.outcomes[call] = Outcome(call, world.now)
    outcomes = [end.incr(f"key{i}") for i in range(10)]
    world.run(4.0)
    assert [outcome.result() for outcome in outcomes] == [1] * 10


def test_problems_are_counted_and_end_nothing(world: World) -> None:
    end = world.connect()
    outcome = end.incr("key")
    end.session.receive("h1:1", Problem(CLUSTER, 1, 0, 1, 1, "malformed"), world.now)
    world.run(1.0)
    assert end.session.counters["problems"] == 1
    assert outcome.result() == 1


# -- everything at once -------------------------------------------------------------------------------------


class Storm:
    """Faults of all kinds, drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.world = World(seed)
        self.ends = [self.world.connect(SEEDS) for _ in range(2)]
        self.is_over = False
        self.drop, self.slow = dice.choice((0.0, 0.05, 0.3)), dice.choice((0.0, 0.1, 0.5))
        self.full = dice.choice((0.0, 0.1, 0.5, 0.9))
        self.world.fate = self.fate
        self.world.refuse = self.refuse
        self.calls: list[tuple[End, str, float, Outcome]] = []

    def fate(self, address: str, message: Message) -> float | None:
        if self.is_over:
            return 0.001
        if self.dice.random() < self.drop:
            return DROP
        return self.dice.uniform(0.0, 4.0) if self.dice.random() < self.slow else self.dice.uniform(0.0, 0.01)

    def refuse(self, number: int) -> Refusal | None:
        return Refusal.OVERLOADED if not self.is_over and self.dice.random() < self.full else None

    def step(self) -> None:
        dice, world = self.dice, self.world
        for _ in range(dice.randint(0, 8)):
            end = dice.choice(self.ends)
            key, timeout = f"key{len(self.calls)}", dice.uniform(0.01, 5.0)
            outcome = end.get(key, timeout) if dice.random() < 0.3 else end.incr(key, timeout)
            self.calls.append((end, key, timeout, outcome))
        if dice.random() < 0.1:
            world.unplugged ^= {dice.choice(SEEDS)}
        if dice.random() < 0.05:
            leaders = {p: dice.choice(("n1", "n2", "n3", None)) for p in dice.sample(range(64), 20)}
            world.become(with_leaders(world.table, leaders), tuple(dice.sample(("n1", "n2", "n3"), 2)))
        if dice.random() < 0.05:
            end = dice.choice(self.ends)
            for address, message in end.session.drain():  # a socket that is full for a moment
                end.session.on_blocked(address, message)
        world.run(dice.uniform(0.0, 0.2))

    def end_well(self) -> None:
        self.is_over = True
        self.world.unplugged = set()
        leaders = {partition: row.leader for partition, row in enumerate(three_nodes().partitions)}
        self.world.become(with_leaders(self.world.table, leaders, version=1_000))
        self.world.run(10.0)


@pytest.mark.parametrize("seed", range(60))
def test_each_write_is_carried_out_at_most_once_and_each_call_ends_once_in_time(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(60):
        storm.step()
    storm.end_well()
    kinds: Counter[str] = Counter()
    for end, key, timeout, outcome in storm.calls:
        where = f"seed {seed}, {key}"
        assert len(outcome.ended_at) == 1, where
        assert outcome.ended_at[0] <= outcome.started_at + timeout + 1e-6, where
        if not outcome.call.is_write:
            continue
        times = storm.world.executed[end.identity, outcome.call.first]
        assert times <= 1, where
        error: Unavailable | OperationTimeout | None = None
        try:
            outcome.result()
        except (Unavailable, OperationTimeout) as raised:
            error = raised
        kinds[type(error).__name__] += 1
        if error is None:
            assert times == 1, where
        elif isinstance(error, Unavailable):
            assert times == 0, f"{where}: {error}"
        else:
            assert error.maybe_applied, where
    assert kinds["NoneType"], f"seed {seed}: {kinds}"
    for end in storm.ends:
        again = end.incr("after the storm")
        storm.world.run(5.0)
        assert again.result() > 0
        assert not end.session.has_in_flight()


def test_the_storms_reach_every_outcome() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(12):
        storm = Storm(seed)
        for _ in range(40):
            storm.step()
        storm.end_well()
        for _, _, _, outcome in storm.calls:
            try:
                outcome.result()
                kinds["result"] += 1
            except (NoRoute, Overloaded, OperationTimeout) as error:
                kinds[type(error).__name__] += 1
    assert set(kinds) == {"result", "NoRoute", "Overloaded", "OperationTimeout"}, kinds
