"""The `gimmal` command against real nodes. Most commands run in this process: only the printing differs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gimmal.cli import main
from gimmal.client.inquiry import ask_status
from gimmal.errors import NoRoute
from gimmal.testing import LocalCluster
from tests.cluster.waiting import wait_until

NOBODY = "127.0.0.1:1"
"""An address where nobody listens."""


class Shell:
    """Runs commands and returns (exit status, standard output, standard error)."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        status = main(words)
        output, errors = self._capsys.readouterr()
        return status, output, errors

    def json(self, *words: str) -> tuple[int, Any]:
        """Run with --json: exactly one object on standard output, nothing on standard error."""
        status, output, errors = self(*words, "--json")
        assert errors == ""
        assert output.count("\n") == 1
        return status, json.loads(output)


@pytest.fixture
def gimmal(gimmal_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("GIMMAL_SEEDS", gimmal_cluster.seeds)
    return Shell(capsys)


@pytest.fixture
def key(gimmal_prefix: str) -> str:
    return f"{gimmal_prefix}key"


# --- keys


def test_set_and_get(gimmal: Shell, key: str) -> None:
    assert gimmal("get", key) == (1, "", f"there is no key {key!r}\n")
    assert gimmal("set", key, "hello") == (0, "OK\n", "")
    assert gimmal("get", key) == (0, "hello\n", "")


def test_set_and_get_as_json(gimmal: Shell, key: str) -> None:
    assert gimmal.json("get", key) == (1, {"key": key, "found": False})
    assert gimmal.json("set", key, "hello") == (0, {"key": key, "set": True})
    status, found = gimmal.json("get", key)
    version = found.pop("version")
    assert (status, found) == (0, {"key": key, "found": True, "value": "hello"})
    assert gimmal.json("set", key, "again", "--if-version", str(version)) == (0, {"key": key, "set": True})
    assert gimmal.json("set", key, "again", "--if-version", str(version)) == (1, {"key": key, "set": False})


@pytest.mark.parametrize(
    ("word", "value"), [("42", 42), ("-7", -7), ("0", 0), ("007", "007"), ("1.5", "1.5"), ("-1.5", "-1.5"), ("", "")]
)
def test_a_decimal_value_is_stored_as_an_integer(
    gimmal: Shell, gimmal_cluster: LocalCluster, key: str, word: str, value: object
) -> None:
    assert gimmal("set", key, word)[0] == 0
    with gimmal_cluster.connect() as db:
        assert db.get(key) == value
    assert gimmal("get", key) == (0, f"{word}\n", "")


@pytest.mark.parametrize(
    ("value", "printed", "as_json"),
    [
        (None, "null\n", None),
        (True, "true\n", True),
        (1.5, "1.5\n", 1.5),
        (["a", {"b": 2}], '["a", {"b": 2}]\n', ["a", {"b": 2}]),
        ([b"\xff"], '[{"base64": "/w=="}]\n', [{"base64": "/w=="}]),
    ],
)
def test_other_values_are_printed_as_json(
    gimmal: Shell, gimmal_cluster: LocalCluster, key: str, value: object, printed: str, as_json: object
) -> None:
    with gimmal_cluster.connect() as db:
        db.set(key, value)
    assert gimmal("get", key) == (0, printed, "")
    assert gimmal.json("get", key)[1]["value"] == as_json


def test_conditions(gimmal: Shell, key: str) -> None:
    not_met = (1, "", f"key {key!r} was not set: the condition was not met\n")
    assert gimmal("set", key, "1", "--xx") == not_met
    assert gimmal("set", key, "1", "--nx") == (0, "OK\n", "")
    assert gimmal("set", key, "2", "--nx") == not_met
    assert gimmal("set", key, "2", "--xx") == (0, "OK\n", "")
    assert gimmal("get", key) == (0, "2\n", "")


def test_time_to_live(gimmal: Shell, key: str) -> None:
    assert gimmal("ttl", key) == (0, "-2\n", "")
    assert gimmal("set", key, "1", "--ttl", "100") == (0, "OK\n", "")
    assert gimmal("set", key, "2", "--keep-ttl") == (0, "OK\n", "")
    status, left, _ = gimmal("ttl", key)
    assert status == 0
    assert 0 < float(left) <= 100
    assert 0 < gimmal.json("ttl", key)[1]["ttl"] <= 100
    assert gimmal("set", key, "3") == (0, "OK\n", "")
    assert gimmal("ttl", key) == (0, "-1\n", "")


def test_counters(gimmal: Shell, key: str) -> None:
    assert gimmal("incr", key) == (0, "1\n", "")
    assert gimmal("incr", key, "41") == (0, "42\n", "")
    assert gimmal("incr", key, "-50") == (0, "-8\n", "")
    assert gimmal.json("incr", key) == (0, {"key": key, "value": -7})
    assert gimmal("set", key, "text")[0] == 0
    status, output, error = gimmal("incr", key)
    assert (status, output) == (1, "")
    assert error.startswith(f"NotAnInteger: incr {key!r}")
    assert gimmal.json("incr", key)[1]["error"] == "NotAnInteger"


def test_delete(gimmal: Shell, gimmal_prefix: str) -> None:
    keys = [f"{gimmal_prefix}{number}" for number in range(3)]
    for key in keys[:2]:
        assert gimmal("set", key, "1")[0] == 0
    assert gimmal("del", *keys) == (0, "2\n", "")
    assert gimmal.json("del", *keys) == (0, {"deleted": 0})


def test_words_after_two_dashes_are_no_options(gimmal: Shell, key: str) -> None:
    assert gimmal("set", "--", key, "--json") == (0, "OK\n", "")
    assert gimmal("get", key) == (0, "--json\n", "")


def test_negative_numbers_are_arguments_among_options(gimmal: Shell, gimmal_cluster: LocalCluster) -> None:
    seeds = gimmal_cluster.seeds
    for words in (["-5", "-6"], ["--ttl", "60", "-5", "-6"], ["-5", f"--seeds={seeds}", "--", "-6"]):
        assert gimmal("set", *words) == (0, "OK\n", "")
        assert gimmal("get", "--", "-5") == (0, "-6\n", "")
        assert gimmal("incr", "-5", "--seeds", seeds, "-1") == (0, "-7\n", "")
        assert gimmal("del", "--", "-5") == (0, "1\n", "")


def test_arguments_that_are_no_text_are_bytes(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> None:
    """Only a process of its own gets its arguments and gives its output as bytes."""
    command = [sys.executable, "-m", "gimmal"]
    seeds = ["--seeds", gimmal_cluster.seeds]
    key = gimmal_prefix.encode() + b"\xff"
    subprocess.run([*command, "set", key, b"\xfe", *seeds], check=True, timeout=60)
    with gimmal_cluster.connect() as db:
        assert db.get(key) == b"\xfe"
    done = subprocess.run([*command, "get", key, *seeds], check=True, timeout=60, capture_output=True)
    assert done.stdout == b"\xfe\n"


# --- queues


def test_a_message_goes_through_a_queue(gimmal: Shell, key: str) -> None:
    status, first, _ = gimmal("queue", "produce", key, "hello")
    assert (status, first.startswith("0-")) == (0, True)
    assert gimmal("queue", "produce", key, "42", "-7", "two words")[1].count("\n") == 3
    assert gimmal("queue", "consume", key, "--keep")[1] == "hello\n"
    assert gimmal("queue", "consume", key, "-n", "3") == (0, "hello\n42\n-7\n", "")
    assert gimmal("queue", "consume", key) == (0, "two words\n", "")
    assert gimmal("queue", "consume", key, "--wait", "0.1") == (1, "", f"there is no message in queue {key!r}\n")
    assert gimmal("queue", "stats", key)[1].splitlines()[:3] == [
        "pending      0",
        "in_progress  0",
        "completed    4",
    ]
    assert gimmal("queue", "groups", key) == (0, "default\n", "")


def test_queues_as_json(gimmal: Shell, key: str) -> None:
    status, produced = gimmal.json("queue", "produce", key, "7", "--shards", "2", "--dedup-id", "once")
    assert (status, produced["queue"], len(produced["ids"])) == (0, key, 1)
    assert gimmal.json("queue", "produce", key, "8", "--dedup-id", "once") == (0, produced)
    status, found = gimmal.json("queue", "consume", key, "--consumer", "me")
    (message,) = found["messages"]
    assert (status, message["id"], message["payload"], message["attempts"]) == (0, produced["ids"][0], 7, 1)
    assert gimmal.json("queue", "consume", key) == (1, {"queue": key, "messages": []})
    status, stats = gimmal.json("queue", "stats", key)
    assert (status, stats["completed"], stats["group"], stats["oldest_age"]) == (0, 1, "default", 0)
    assert gimmal.json("queue", "groups", key) == (0, {"queue": key, "groups": ["default"]})


def test_dead_letters_are_shown_redriven_and_purged(gimmal: Shell, gimmal_cluster: LocalCluster, key: str) -> None:
    with gimmal_cluster.connect() as db:
        queue = db.queue(key)
        queue.produce_many(["a", "b"])
        for message in queue.consume_many(2):
            queue.nack(message, requeue=False, reason="no good")
    status, output, _ = gimmal("queue", "dead-letters", key)
    assert status == 0
    assert [line.split("  ", 1)[1] for line in output.splitlines()] == [
        "1  rejected  'no good'  \"a\"",
        "1  rejected  'no good'  \"b\"",
    ]
    (letter,) = gimmal.json("queue", "dead-letters", key, "--limit", "1")[1]["dead_letters"]
    assert (letter["payload"], letter["error"], len(letter["history"])) == ("a", "no good", 1)
    assert gimmal("queue", "redrive", key, "--limit", "1") == (0, "1\n", "")
    assert gimmal("queue", "purge", key) == (0, "1\n", "")
    assert gimmal.json("queue", "redrive", key) == (0, {"queue": key, "redriven": 0})
    assert gimmal.json("queue", "purge", key) == (0, {"queue": key, "purged": 0})
    status, error = gimmal.json("queue", "stats", key, "--group", "nobody")
    assert (status, error["error"]) == (2, "InvalidArgument")


# --- wrong arguments, and clusters that are not there


@pytest.mark.parametrize(
    "words", [["get", "k"], ["set", "k", "1"], ["del", "k"], ["incr", "k"], ["ttl", "k"], ["status"]]
)
def test_a_cluster_that_is_not_there_is_one_line_and_status_1(gimmal: Shell, words: list[str]) -> None:
    words += ["--seeds", NOBODY, "--timeout", "0.1"]
    status, output, error = gimmal(*words)
    assert (status, output, error.count("\n")) == (1, "", 1)
    assert error.startswith(f"NoRoute: no cluster table from {NOBODY} within 0.1 s")
    status, problem = gimmal.json(*words)
    assert (status, problem["error"]) == (1, "NoRoute")
    assert NOBODY in problem["message"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["set", "k", "1", "--ttl", "-5"], "InvalidArgument: ttl is a number of seconds above 0"),
        (["set", "k", "1", "--nx", "--xx"], "InvalidArgument: nx"),
        (["set", "k", "1", "--keep-ttl", "--ttl", "1"], "InvalidArgument: keep_ttl"),
        (["get", ""], "InvalidArgument: a key has 1 to 1024 bytes"),
        (["get", "k", "--timeout", "100"], "InvalidArgument: timeout"),
        (["get", "k", "--seeds", "here"], "InvalidArgument: a seed is host:port"),
        (["health", "--node", "here"], "InvalidArgument: a seed is host:port"),
        (["health", "--timeout", "-1"], "InvalidArgument: timeout"),
        (["incr", "k", "much"], "UsageError: Invalid value for 'AMOUNT'"),
        (["set", "k", "-x"], "UsageError: No such option: -x"),
        (["set", "--tll", "-5"], "UsageError: No such option: --tll"),
        (["set", "k", "-5", "--tll", "5"], "UsageError: No such option: --tll"),
        (["set", "k", "-5", "-x"], "UsageError: No such option: -x"),
        (["set", "k", "-5x"], "UsageError: No such option: -5"),
        (["set", "k", "-5", "--ttl"], "UsageError: Option '--ttl' requires an argument"),
        (["set", "k", "-5", "-7"], "UsageError: Got unexpected extra argument"),
        (["incr", "--xx", "-5"], "UsageError: No such option: --xx"),
        (["incr", "k", "-1.5"], "UsageError: Invalid value for 'AMOUNT'"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(gimmal: Shell, words: list[str], message: str) -> None:
    status, output, error = gimmal(*words)
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert error.startswith(message)
    status, problem = gimmal.json(*words)
    assert (status, problem["error"]) == (2, message.partition(":")[0])


# --- status and health


def test_status_shows_every_node(gimmal: Shell, gimmal_cluster: LocalCluster) -> None:
    status, output, _ = gimmal("status")
    assert status == 0
    heading, *rows, last = output.splitlines()
    assert heading.split()[:4] == ["node", "client", "address", "state"]
    assert [row.split()[:4] for row in rows] == [
        [name, address, "serving", "1"] for name, address in gimmal_cluster.addresses.items()
    ]
    assert sorted(row.split()[4] for row in rows) == ["leader", "voter", "voter"]
    assert last.endswith("table version 1, 1024 partitions")


def test_status_as_json_agrees_with_the_nodes(gimmal: Shell, gimmal_cluster: LocalCluster, key: str) -> None:
    gimmal("set", key, "1")
    status, shown = gimmal.json("status")
    assert status == 0
    assert (len(shown["cluster"]), shown["table_version"]) == (32, 1)
    assert sum(node["partitions_led"] for node in shown["nodes"]) == 1024
    for node in shown["nodes"]:
        address = gimmal_cluster.addresses[node["name"]]
        assert node["addresses"]["default"]["client"] == address
        facts = ask_status(address, timeout=5.0)
        for name in ("state", "incarnation", "partitions_led", "partitions_held", "operations"):
            assert node[name] == facts[name], name


def test_a_node_that_does_not_answer_is_unreachable(capsys: pytest.CaptureFixture[str]) -> None:
    gimmal = Shell(capsys)
    with LocalCluster(nodes=2) as cluster:
        paused, node = cluster.addresses["n2"], ["--timeout", "0.5"]
        cluster.pause("n2")
        status, shown = gimmal.json("status", "--seeds", cluster.addresses["n1"], *node)
        states = {row["name"]: (row["state"], row["entries"]) for row in shown["nodes"]}
        assert (status, states) == (0, {"n1": ("serving", 0), "n2": ("unreachable", None)})
        output = gimmal("status", "--seeds", cluster.addresses["n1"], *node)[1]
        assert f"n2    {paused}  unreachable" in output
        status, _, error = gimmal("health", "--node", paused, *node)
        assert (status, error.startswith(f"NoRoute: the node at {paused} did not answer")) == (1, True)


def test_health(gimmal: Shell, gimmal_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    address = gimmal_cluster.addresses["n2"]
    assert gimmal("health", "--node", address) == (0, f"node n2 at {address}: serving\n", "")
    status, shown = gimmal.json("health", "--node", address)
    assert (status, shown["healthy"], shown["name"]) == (0, True, "n2")
    monkeypatch.setenv("GIMMAL_CLIENT", f"0.0.0.0:{address.rpartition(':')[2]}")
    assert gimmal("health") == (0, f"node n2 at {address}: serving\n", "")
    assert gimmal.json("health", "--node", NOBODY, "--timeout", "0.1")[1]["error"] == "NoRoute"


# --- node


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIMMAL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def port() -> str:
    """The address of a node that has ended, so that nobody is there."""
    with LocalCluster(nodes=1) as cluster:
        return cluster.addresses["n1"]


def is_serving(address: str) -> bool:
    try:
        return ask_status(address, timeout=0.2)["state"] == "serving"
    except NoRoute:
        return False


@pytest.mark.usefixtures("clean_environment")
def test_a_node_takes_settings_from_flags_environment_and_file(port: str, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('name = "from-file"\npolicy = "refuse"\nmax_entries = 1\n', encoding="utf-8")
    command = [sys.executable, "-m", "gimmal", "node", "--json", "--config", str(file), "--client", port]
    # Whom clients ask is none of a node's settings, and does not disturb it.
    environment = {**os.environ, "GIMMAL_POLICY": "lru", "GIMMAL_NAME": "no", "GIMMAL_SEEDS": NOBODY}
    with subprocess.Popen(
        [*command, "--name", "from-flag"], env=environment, stdout=subprocess.PIPE, text=True
    ) as node:
        try:
            wait_until(lambda: is_serving(port), "the node serves")
            assert ask_status(port, timeout=5.0)["name"] == "from-flag"
            for key in ("a", "b"):
                assert main(["set", key, "1", "--seeds", port]) == 0
            facts = ask_status(port, timeout=5.0)
            assert (facts["entries"], facts["evicted"]) == (1, 1)
        finally:
            node.send_signal(signal.SIGTERM)
        output, _ = node.communicate(timeout=30)
    assert (node.returncode, json.loads(output)) == (0, {"node": "from-flag", "stopped": True})


@pytest.mark.usefixtures("clean_environment")
def test_a_port_in_use_is_one_line_and_status_2(gimmal_cluster: LocalCluster) -> None:
    address = gimmal_cluster.addresses["n1"]
    command = [sys.executable, "-m", "gimmal", "node", "--client", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"ConfigError: node node1 cannot listen on {address}: Address already in use")
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "ConfigError")


@pytest.mark.usefixtures("clean_environment")
def test_a_file_with_an_unknown_setting_is_named_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "node.toml"
    file.write_text("colour = 1\n", encoding="utf-8")
    status, output, error = Shell(capsys)("node", "--config", str(file))
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"ConfigError: unknown setting 'colour' in {file}; known are: name, client,")


# --- operators


def test_recover_and_unsafe_elect_reach_the_meta_group_by_way_of_any_node(
    gimmal: Shell, gimmal_cluster: LocalCluster
) -> None:
    assert gimmal("recover") == (0, "no partition is lost\n", "")
    assert gimmal.json("recover", "--accept-loss") == (0, {"lost": [], "started": 0, "message": "no partition is lost"})
    with gimmal_cluster.connect() as db:
        leader = db.cluster().partitions[0].leader
    for address in gimmal_cluster.addresses.values():
        said = f"partition 0 is led by {leader}"
        assert gimmal("unsafe-elect", "0", str(leader), "--seeds", address) == (0, f"{said}\n", "")
        assert gimmal("unsafe-elect", "0", "nobody", "--seeds", address) == (1, "", f"{said}\n")
    assert gimmal("unsafe-elect", "0", "n1", "--seeds", NOBODY, "--timeout", "0.2")[0] == 1
