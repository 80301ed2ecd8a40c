import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from gimmal.cli import demo, main
from gimmal.cli.app import jsonable
from gimmal.cli.keys import value_of
from gimmal.cli.narrator import CheckFailed, Narrator
from gimmal.node.config import NAMES, NodeConfig, load_config

COMMANDS = ["node", "demo", "status", "health", "recover", "unsafe-elect", "verify", "get", "set", "del", "incr", "ttl"]


QUEUE_COMMANDS = ["produce", "consume", "stats", "dead-letters", "redrive", "purge", "groups"]


@pytest.mark.parametrize("command", [*COMMANDS, *(f"queue {command}" for command in QUEUE_COMMANDS)])
def test_every_command_has_help_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    text, errors = capsys.readouterr()
    assert text.startswith(f"Usage: gimmal {command} [OPTIONS]")
    assert "--json" in text
    assert errors == ""


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_help_of_gimmal_lists_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2]
    assert sorted(line.split()[0] for line in listed.splitlines()) == sorted([*COMMANDS, "queue"])


def test_the_help_of_queue_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue", "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines()] == QUEUE_COMMANDS


def test_help_loads_nothing_heavy() -> None:
    """That is what makes it quick: see the note on top of `gimmal.cli`."""
    program = f"""
import sys
import gimmal.cli
for command in {[*COMMANDS, "queue produce"]!r}:
    assert gimmal.cli.main([*command.split(), "--help"]) == 0
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "gimmal.cli.keys" in loaded
    heavy = {"zmq", "msgpack", "rich", "asyncio", "pydantic", "gimmal.client", "gimmal.node", "gimmal.testing"}
    assert heavy & loaded == set()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bark"], "No such command 'bark'"),
        (["bark", "--help"], "No such command 'bark'"),
        (["get"], "Missing argument 'KEY'"),
        (["get", "a", "b"], "unexpected extra argument"),
        (["status", "--loud"], "No such option: --loud"),
        (["queue"], "Missing command"),
        (["queue", "bark"], "No such command 'bark'"),
        (["queue", "bark", "--help"], "No such command 'bark'"),
        (["queue", "produce", "q"], "Missing argument 'PAYLOAD'"),
        (["queue", "produce", "q", "a", "b", "--dedup-id", "x"], "--dedup-id is for one PAYLOAD"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    output, error = capsys.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    assert error.startswith("UsageError: ")
    assert message in error


def test_wrong_usage_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "--json"]) == 2
    output, error = capsys.readouterr()
    assert (json.loads(output)["error"], error) == ("UsageError", "")


# --- node


def test_every_setting_of_a_node_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    main(["node", "--help"])
    text = capsys.readouterr().out
    assert [name for name in NAMES if f"--{name.replace('_', '-')} " not in text] == []


def test_the_defaults_that_the_help_tells_are_those_of_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    main(["node", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    defaults = NodeConfig()
    for name in ("name", "client", "peer", "pubsub", "weight", "partitions", "policy", "log_level"):
        after = text.partition(f"--{name.replace('_', '-')} ")[2]
        assert after.partition("[default: ")[2].startswith(f"{getattr(defaults, name)}]"), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weight", "abc"], "setting 'weight' as --weight cannot be 'abc'"),
        (["--policy", "mru"], "setting 'policy' as --policy cannot be 'mru': expected one of refuse, lru"),
        (["--max-memory", "0"], "setting 'max_memory' as --max-memory cannot be '0'"),
        (["--client", "7700"], "setting 'client' as --client cannot be '7700': an address is host:port"),
        (["--config", "no/such/file"], "cannot read the configuration file no/such/file"),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["node", *words]) == 2
    output, error = capsys.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    assert error.startswith(f"ConfigError: {message}")


def test_whom_clients_ask_is_no_setting_of_a_node() -> None:
    assert load_config({}, {"GIMMAL_SEEDS": "127.0.0.1:7700"}) == NodeConfig()


# --- values


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0", 0),
        ("42", 42),
        ("-7", -7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", -(2**63)),
        ("-0", "-0"),
        ("+1", "+1"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("", ""),
        ("\udcff", b"\xff"),
    ],
)
def test_only_an_integer_that_prints_as_given_is_stored_as_one(word: str, value: object) -> None:
    assert value_of(word) == value
    assert type(value_of(word)) is type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\xff\x00", {"base64": "/wA="}),
        ([b"a", (1, None)], [{"base64": "YQ=="}, [1, None]]),
        ({1: True, b"k": "v"}, {"1": True, "base64:aw==": "v"}),
        ([float("inf"), float("nan"), 1.5], [{"float": "inf"}, {"float": "nan"}, 1.5]),
    ],
)
def test_values_that_json_lacks_are_marked(value: object, expected: object) -> None:
    assert jsonable(value) == expected
    json.dumps(jsonable(value), allow_nan=False)


# --- the demo


def narrator_and_output() -> tuple[Narrator, io.StringIO]:
    output = io.StringIO()
    return Narrator(Console(file=output, highlight=False)), output


def test_a_claim_is_printed_when_it_holds() -> None:
    narrator, output = narrator_and_output()
    with narrator.chapter("One [and] one"):
        narrator.check("makes [two]", 2, 1 + 1)
        looks = iter([1, 2, 3])
        narrator.check_becomes("comes to three", 3, lambda: next(looks), timeout=60.0)
    assert output.getvalue() == "\n1. One [and] one\n ✓ makes [two]\n ✓ comes to three\n"
    assert [(title, checks) for title, checks, _ in narrator.chapters] == [("One [and] one", 2)]


def test_a_claim_that_does_not_hold_is_never_printed() -> None:
    narrator, output = narrator_and_output()
    with pytest.raises(CheckFailed, match="makes three: expected 3, got 2"):
        narrator.check("makes three", 3, 1 + 1)
    with pytest.raises(CheckFailed, match="comes to three: expected 3, got 2"):
        narrator.check_becomes("comes to three", 3, lambda: 2, timeout=0.0)
    assert output.getvalue() == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failed_check_ends_the_demo_with_what_came(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(narrator: Narrator) -> None:
        narrator.check("the counter is exact", 2000, 1999)

    monkeypatch.setattr(demo, "_show_everything", show)
    assert main(["demo", *(["--json"] if as_json else [])]) == 1
    output = capsys.readouterr().out
    if as_json:
        message = "the counter is exact: expected 2000, got 1999"
        assert json.loads(output) == {"error": "CheckFailed", "message": message}
    else:
        assert output == " ✗ the counter is exact\n     expected: 2000\n     got:      1999\n"


def test_bars_are_in_proportion() -> None:
    narrator, output = narrator_and_output()
    narrator.bars({"n1": 20, "n2": 10, "n3": 0})
    assert [line.count("█") for line in output.getvalue().splitlines()] == [40, 20, 0]
    narrator.bars({})
