"""The queue rows: their books, loops and rounds, who is left out, and a table that hides nothing."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

import pytest

from benchmarks import queues, queues_loads, queues_rabbitmq, queues_rounds
from benchmarks.__main__ import parse_arguments
from benchmarks.queues_clients import NotStartedError, ProgramMissingError, QueueClient, answered
from benchmarks.queues_jetstream import server_options
from benchmarks.queues_loads import Book, consume_batches, drain, fill, percentiles_ms, run_latency, run_load
from benchmarks.queues_rabbitmq import NODES, Site
from benchmarks.queues_report import (
    COLUMNS,
    CPU_COLUMNS,
    NOTE,
    cells_of,
    markdown_report,
    summarize,
    terminal_tables,
)
from benchmarks.queues_rounds import QueueBench, QueueRound
from benchmarks.queues_rows import BATCH, QUEUE_ROW_BY_NAME, QUEUE_ROWS, SYSTEMS, Load, Unit
from benchmarks.report import MISSED
from benchmarks.rounds import Plan
from benchmarks.rows import ROW_BY_NAME
from benchmarks.workload import WrongAnswerError

# -- a queue to drive


class FakeQueues:
    """A system whose queues are deques in this process; it may lose or repeat what is consumed."""

    def __init__(self, name: str = "gimmal", *, loses: bool = False, repeats: bool = False) -> None:
        self.name = name
        self.note = ""
        self.node_pids: list[int] = []
        self.loses = loses
        self.repeats = repeats
        self.queues: dict[str, deque[bytes]] = {}
        self.acknowledged: list[bytes] = []
        self.tidied = 0

    def client(self, queue: str) -> QueueClient:
        there = self.queues.setdefault(queue, deque())

        def consume_many(most: int, _wait_s: float) -> list[bytes]:
            if self.repeats and self.acknowledged:
                return [self.acknowledged[0]]
            return [there.popleft() for _ in range(min(most, len(there)))]

        async def consume(wait_s: float) -> bytes | None:
            while not there and wait_s:
                await asyncio.sleep(0)
            return next(iter(consume_many(1, wait_s)), None)

        def tidy() -> None:
            self.tidied += 1

        return QueueClient(
            produce=answered(lambda payload: None if self.loses else there.append(payload)),
            produce_many=answered(there.extend),
            consume=consume,
            consume_many=answered(consume_many),
            payload_of=bytes,
            ack=answered(self.acknowledged.append),
            ack_many=answered(self.acknowledged.extend),
            close=answered(lambda: None),
            tidy=answered(tidy),
        )

    async def connect(self, queue: str, *, batch: int, is_serial: bool) -> QueueClient:
        assert batch in (1, BATCH)
        return self.client(f"{queue} {is_serial}")

    @asynccontextmanager
    async def idle(self, queue: str, count: int) -> AsyncIterator[int]:
        if self.loses:
            raise NotStartedError(f"{count} consumers do not wait at {queue}")
        yield os.getpid()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A clock that goes 1 ms further each time that it is read, for loops and rounds."""
    ticks = count()

    def read() -> float:
        return next(ticks) / 1000

    monkeypatch.setattr(queues_loads, "perf_counter", read)
    monkeypatch.setattr(queues_rounds, "perf_counter", read)
    return read


# -- loops and books


@pytest.mark.parametrize("load", [Load.PRODUCE, Load.PRODUCE_WINDOW, Load.PRODUCE_MANY])
def test_what_is_produced_is_there_until_it_is_drained(load: Load, clock: Callable[[], float]) -> None:
    system = FakeQueues()
    client, book = system.client("q"), Book("gimmal", "q")

    async def drive() -> None:
        produced = await run_load(client, book, load, clock() + 0.01)
        assert produced == len(book.there) == len(system.queues["q"]) > 0
        assert {len(payload) for payload in book.there} == {100}
        await drain(client, book)

    asyncio.run(drive())
    assert not book.there
    assert not system.queues["q"]
    assert system.tidied == 1


def test_a_round_ends_with_what_was_begun_before_its_deadline(clock: Callable[[], float]) -> None:
    client = FakeQueues().client("q")
    # Reads 1 to 4 are before the deadline: 4 batches. The window's 200 tasks begin as long as the clock lets them.
    assert asyncio.run(run_load(client, Book("gimmal", "q"), Load.PRODUCE_MANY, clock() + 0.0045)) == 4 * BATCH
    assert asyncio.run(run_load(client, Book("gimmal", "q"), Load.PRODUCE_WINDOW, clock() + 0.0045)) == 4


@pytest.mark.parametrize("load", [Load.CONSUME, Load.CONSUME_MANY])
def test_consuming_ends_when_the_queue_is_empty(load: Load) -> None:
    system = FakeQueues()
    client, book = system.client("q"), Book("gimmal", "q")

    async def drive() -> None:
        await fill(client, book, 250)
        await fill(client, book, 250)
        assert len(book.there) == 250
        assert await run_load(client, book, load, float("inf")) == 250

    asyncio.run(drive())
    assert len(set(system.acknowledged)) == 250


def test_a_message_that_is_lost_is_noticed() -> None:
    client, book = FakeQueues(loses=True).client("q"), Book("some system", "q")

    async def drive() -> None:
        await client.produce(book.make())
        await consume_batches(client, book, float("inf"))

    with pytest.raises(WrongAnswerError, match="some system answered"):
        asyncio.run(drive())


def test_a_message_that_comes_after_its_acknowledgement_is_noticed() -> None:
    client, book = FakeQueues(repeats=True).client("q"), Book("gimmal", "q")

    async def drive() -> None:
        await fill(client, book, 2 * BATCH)
        await consume_batches(client, book, float("inf"))

    with pytest.raises(WrongAnswerError, match="a message that is there"):
        asyncio.run(drive())


def test_latency_is_measured_for_every_message_at_the_rate() -> None:
    system = FakeQueues()
    client, book = system.client("q"), Book("gimmal", "q")
    started = perf_counter()
    latencies = asyncio.run(run_latency(client, client, book, 0.05))
    assert perf_counter() - started >= 0.049
    assert len(latencies) == len(system.acknowledged) == 50
    assert all(each > 0 for each in latencies)
    assert not book.there


def test_percentiles_are_in_milliseconds() -> None:
    assert percentiles_ms([each / 1000 for each in range(101)]) == pytest.approx((50.0, 99.0))


# -- rounds


@pytest.mark.usefixtures("clock")
def test_rounds_take_turns_and_only_rows_that_acknowledge_have_both_kinds_of_jetstream() -> None:
    told: list[str] = []
    systems = [FakeQueues(name) for name in ("gimmal", "jetstream", "jetstream-sent")]
    bench = QueueBench(systems, Plan(2, 0.02, 0.002), 0.0, lambda _, system: told.append(system), told.append)
    rounds = asyncio.run(bench.run_row(QUEUE_ROW_BY_NAME["produce-200"]))
    assert told == [each.system for each in rounds] == ["gimmal", "jetstream", "jetstream", "gimmal"]
    assert not any(queue for system in systems for queue in system.queues.values())
    told.clear()
    rounds = asyncio.run(bench.run_row(QUEUE_ROW_BY_NAME["consume-many"]))
    assert told == ["gimmal", "jetstream", "jetstream-sent", "jetstream", "jetstream-sent", "gimmal"]
    assert all(each.messages and each.figures[0] > 0 for each in rounds)


def test_a_round_of_latency_has_two_figures() -> None:
    bench = QueueBench([FakeQueues()], Plan(1, 0.01, 0.005), 0.0, lambda *_: None, print)
    (each,) = asyncio.run(bench.run_row(QUEUE_ROW_BY_NAME["queue-latency"]))
    p50_ms, p99_ms = each.figures
    assert 0 < p50_ms <= p99_ms
    assert each.messages == 20


def test_who_cannot_have_so_many_consumers_is_left_out_of_that_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues_rounds, "SETTLE_S", 0.0)
    told: list[str] = []
    systems = [FakeQueues(), FakeQueues("redis", loses=True)]
    bench = QueueBench(systems, Plan(1, 0.01, 0.005), 0.01, lambda *_: None, told.append)
    (each,) = asyncio.run(bench.run_row(QUEUE_ROW_BY_NAME["queue-idle"]))
    assert (each.system, each.messages) == ("gimmal", 0)
    assert each.figures[0] > 0
    assert told == ["redis: LEFT OUT of 'queue-idle'. 10000 consumers do not wait at queue-idle-redis."]


# -- the table


def rounds_of(row: str, figures: dict[str, list[float]]) -> list[QueueRound]:
    return [
        QueueRound(row, system, index, (figure,) * len(QUEUE_ROW_BY_NAME[row].parts), 1000, 1.0, 0.5, 0.25)
        for system, found in figures.items()
        for index, figure in enumerate(found)
    ]


def test_a_line_has_medians_ratios_and_a_verdict() -> None:
    speeds = {"gimmal": [40e3, 44e3, 42e3], "jetstream": [10e3] * 3, "rabbitmq": [7e3] * 3, "redis": [21e3] * 3}
    (line,) = summarize(rounds_of("produce-200", speeds))
    assert cells_of(line) == [
        "produce, 200 under way",
        "42,000",
        "10,000",
        "-",
        "7,000",
        "21,000",
        "4.20 (4.20)",
        ">= 4 x",
        "met",
        "-",
        "6.00 (6.00)",
        "2.00 (2.00)",
    ]


def test_a_serial_line_compares_times() -> None:
    (line,) = summarize(rounds_of("consume", {"gimmal": [900.0], "jetstream": [600.0], "jetstream-sent": [450.0]}))
    cells = cells_of(line)
    assert cells[1:4] == ["900.0 us", "600.0 us", "450.0 us"]
    assert cells[6:10] == ["1.50 (1.50)", "<= 1.3 x", "MISSED", "2.00 (2.00)"]
    assert f"**{MISSED}**" in markdown_report([line], [])


@pytest.mark.parametrize(("percent", "verdict"), [(5.0, "met"), (5.1, "MISSED")])
def test_consumers_that_wait_are_judged_by_a_limit(percent: float, verdict: str) -> None:
    (line,) = summarize([QueueRound("queue-idle", "gimmal", 0, (percent,), 0, 10.0, 0.0, 0.5)])
    assert cells_of(line)[7:9] == ["<= 5 % of a core", verdict]
    assert not line.cpu


def test_latency_has_two_lines_without_a_target() -> None:
    first, second = summarize([QueueRound("queue-latency", "gimmal", 0, (1.5, 4.0), 1000, 1.0, 0.5, 0.25)])
    assert [cells_of(line)[0].rpartition(", ")[2] for line in (first, second)] == ["p50", "p99"]
    assert [cells_of(line)[1] for line in (first, second)] == ["1.50 ms", "4.00 ms"]
    assert cells_of(first)[7:9] == ["-", "-"]
    assert first.cpu["gimmal"].client_us == pytest.approx(500.0)
    assert not second.cpu


def test_a_peer_that_did_not_run_leaves_gaps_and_a_note() -> None:
    lines = summarize(rounds_of("produce-many", {"gimmal": [1.0]}))
    assert cells_of(lines[0])[6:9] == ["-", ">= 4 x", "-"]
    assert "\n- rabbitmq: LEFT OUT." in markdown_report(lines, ["rabbitmq: LEFT OUT. It is not installed."])
    assert NOTE in markdown_report(lines, [])


def test_every_table_is_rectangular_and_in_the_order_of_the_rows() -> None:
    rounds = [
        each for row in reversed(QUEUE_ROWS) for each in rounds_of(row.name, {system: [1.0, 2.0] for system in SYSTEMS})
    ]
    lines = summarize(rounds)
    assert list(dict.fromkeys(line.row for line in lines)) == list(QUEUE_ROWS)
    tables = [part.splitlines() for part in markdown_report(lines, []).split("\n\n") if part.startswith("|")]
    for table, columns in zip(tables, (COLUMNS, CPU_COLUMNS), strict=True):
        assert {line.count("|") for line in table} == {len(columns) + 1}
    assert terminal_tables(lines, [])[0].row_count == len(QUEUE_ROWS) + 1


def test_rows_have_names_of_their_own_and_targets_where_there_is_a_peer() -> None:
    assert not set(QUEUE_ROW_BY_NAME) & set(ROW_BY_NAME)
    assert len(QUEUE_ROW_BY_NAME) == len(QUEUE_ROWS)
    for row in QUEUE_ROWS:
        has_target = row.to_jetstream is not None
        assert has_target == (row.load not in (Load.LATENCY, Load.IDLE))
        if has_target:
            assert row.is_serial == (row.load is not Load.PRODUCE_WINDOW)
            assert (row.unit is Unit.US_PER_MESSAGE) == (row.load in (Load.PRODUCE, Load.CONSUME))


# -- who takes part


def opening(outcome: object) -> AbstractContextManager[object]:
    @contextmanager
    def open_it() -> Iterator[object]:
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome

    return open_it()


def test_who_is_missing_is_left_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: dict[str, object] = {
        "gimmal": FakeQueues(),
        "jetstream": ProgramMissingError("nats-server is not installed"),
        "rabbitmq": FakeQueues("rabbitmq"),
        "redis": NotStartedError("after 30 s still waiting"),
    }
    monkeypatch.setattr(queues, "OPENERS", {name: lambda name=name: opening(outcomes[name]) for name in outcomes})
    warned: list[str] = []
    with queues.open_systems(list(outcomes), warned.append) as systems:
        assert [system.name for system in systems] == ["gimmal", "rabbitmq"]
    assert warned == [
        "jetstream: LEFT OUT. nats-server is not installed.",
        "redis: LEFT OUT. after 30 s still waiting.",
    ]


def test_without_its_scripts_rabbitmq_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(queues_rabbitmq, "SCRIPTS", (str(tmp_path),))
    with pytest.raises(ProgramMissingError, match="rabbitmq-server is not installed"):
        queues_rabbitmq.find_scripts()


def test_when_three_nodes_of_rabbitmq_do_not_meet_one_runs_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @contextmanager
    def open_nodes(_scripts: Path, count: int) -> Iterator[tuple[list[object], int]]:
        if count > 1:
            raise NotStartedError("they did not meet")
        yield [], 1

    monkeypatch.setattr(queues_rabbitmq, "find_scripts", lambda: tmp_path)
    monkeypatch.setattr(queues_rabbitmq, "open_nodes", open_nodes)
    with queues_rabbitmq.open_rabbitmq() as nodes:
        assert "ONE node" in nodes.note
        assert "they did not meet" in nodes.note


def test_nodes_of_rabbitmq_share_nothing_but_cookie_epmd_and_configuration(tmp_path: Path) -> None:
    site = Site(tmp_path / "bin", tmp_path, range(4000, 4000 + 1 + 2 * NODES), NODES)
    site.write()
    environments = [site.environment(index) for index in range(NODES)]
    for name in ("RABBITMQ_NODENAME", "RABBITMQ_NODE_PORT", "RABBITMQ_DIST_PORT", "RABBITMQ_MNESIA_BASE"):
        assert len({environment[name] for environment in environments}) == NODES
    ports = [environment[name] for environment in environments for name in ("RABBITMQ_NODE_PORT", "RABBITMQ_DIST_PORT")]
    assert sorted([*map(str, ports), "4000"]) == [str(port) for port in site.ports]
    assert all(environment["ERL_EPMD_PORT"] == 4000 for environment in environments)
    configuration = (tmp_path / "rabbitmq.conf").read_text()
    assert all(f"nodes.{index + 1} = {site.name(index)}\n" in configuration for index in range(NODES))
    assert (tmp_path / ".erlang.cookie").stat().st_mode & 0o777 == 0o400
    assert site.command(0, "rabbitmqctl", "status")[-2:] == [str(tmp_path / "bin" / "rabbitmqctl"), "status"]


def test_servers_of_jetstream_listen_on_loopback_and_know_all_routes(tmp_path: Path) -> None:
    options = server_options(tmp_path, 1, 4222, [7001, 7002, 7003])
    assert options[options.index("--addr") + 1] == "127.0.0.1"
    assert options[options.index("--cluster") + 1] == "nats://127.0.0.1:7002"
    assert options[options.index("--routes") + 1].count("nats://127.0.0.1:") == 3


# -- the command line


def test_rows_of_both_kinds_are_chosen_by_name() -> None:
    options = parse_arguments(["--only", "consume", "get", "--quick"])
    assert [row.name for row in options.rows] == ["get"]
    assert [row.name for row in options.queue_rows] == ["consume"]
    assert options.queues_json.name == "queues-part-quick.json"
    assert options.json.name == "keys-part-quick.json"


def test_all_rows_run_when_none_is_chosen() -> None:
    options = parse_arguments(["--json", "mine.json"])
    assert len(options.rows) == len(ROW_BY_NAME)
    assert len(options.queue_rows) == len(QUEUE_ROWS)
    assert options.queues_json.name == "mine-queues.json"
