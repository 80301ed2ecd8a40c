"""Settings: which source wins, and that every mistake is named with its source and what would do."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimmal.cluster.table import Addresses
from gimmal.errors import ConfigError
from gimmal.leader.memory import MemoryLimits
from gimmal.node.config import NAMES, NodeConfig, load_config, parse_address
from gimmal.node.settings import NodeSettings

UUID = bytes(range(16))


def toml(folder: Path, text: str) -> Path:
    file = folder / "gimmal.toml"
    file.write_text(text)
    return file


def complaint(flags: dict[str, Any] | None = None, env: dict[str, str] | None = None, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(flags or {}, env or {}, file)
    return str(caught.value)


def test_defaults() -> None:
    config = load_config({}, {})
    assert config == NodeConfig()
    assert (config.client, config.peer, config.pubsub) == ("127.0.0.1:7700", "127.0.0.1:7701", "127.0.0.1:7702")
    assert config.memory_limits == MemoryLimits(None, None, "refuse")


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = toml(tmp_path, 'name = "file"\nzone = "file"\nclient = "file:1"\n')
    env = {"GIMMAL_NAME": "env", "GIMMAL_ZONE": "env", "HOME": "elsewhere", "gimmal_name": "no"}
    config = load_config({"name": "flag", "zone": None}, env, file)
    assert (config.name, config.zone, config.client, config.weight) == ("flag", "env", "file:1", 1)


def test_the_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    file = toml(tmp_path, 'name = "file"\n')
    other = tmp_path / "other.toml"
    other.write_text('name = "other"\n')
    assert load_config({}, {"GIMMAL_CONFIG": str(file)}).name == "file"
    assert load_config({}, {"GIMMAL_CONFIG": str(file)}, other).name == "other", "the flag wins"
    assert load_config({}, {"GIMMAL_CONFIG": ""}).name == "node1"


GIVEN: dict[str, tuple[Any, str, Any]] = {  # setting -> in a file, in the environment, as it is then
    "name": ("n-1.a_b", "n-1.a_b", "n-1.a_b"),
    "client": ("[::1]:7700", "[::1]:7700", "[::1]:7700"),
    "peer": ("host.example:07701", "host.example:07701", "host.example:7701"),
    "pubsub": ("10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:1"),
    "advertise_client": ("n1.example:7700", "n1.example:7700", "n1.example:7700"),
    "advertise_peer": ("n1.example:7701", "n1.example:7701", "n1.example:7701"),
    "advertise_pubsub": ("n1.example:7702", "n1.example:7702", "n1.example:7702"),
    "networks": ("lan=h:1/h:2, wan=[::1]:3/[::1]:4",) * 2
    + ((("lan", Addresses("h:1", "h:2")), ("wan", Addresses("[::1]:3", "[::1]:4"))),),
    "bootstrap": (True, "yes", True),
    "expect": (3, "3", 3),
    "join": (["n1:7701", "n2:7701"], "n1:7701, n2:7701", ("n1:7701", "n2:7701")),
    "data_dir": ("data/n1", "data/n1", Path("data/n1")),
    "zone": ("eu-1", "eu-1", "eu-1"),
    "weight": (3, "3", 3),
    "partitions": (16, "16", 16),
    "replicas": (2, "2", 2),
    "on_total_loss": ("empty", "empty", "empty"),
    "max_entries": (10, "10", 10),
    "max_memory": ("2gb", "2gb", 2 * 1024**3),
    "policy": ("lru", "lru", "lru"),
    "log_level": ("debug", "debug", "debug"),
}


def test_every_setting_comes_from_every_source(tmp_path: Path) -> None:
    assert set(GIVEN) == set(NAMES)
    for name, (in_file, in_environment, expected) in GIVEN.items():
        file = toml(tmp_path, f"{name} = {str(in_file).lower() if in_file is True else repr(in_file)}\n")
        needed = {"bootstrap": "true"} if name == "expect" else {}
        for config in (
            load_config(needed, {}, file),
            load_config(needed, {f"GIMMAL_{name.upper()}": in_environment}),
            load_config({**needed, name: in_file}, {}),
        ):
            assert getattr(config, name) == expected
            assert type(getattr(config, name)) is type(expected)


def test_an_unknown_name_is_named_with_its_source_and_the_known_ones(tmp_path: Path) -> None:
    for said, told in (
        (complaint({"colour": 1}), "as --colour"),
        (complaint(env={"GIMMAL_COLOUR": "red"}), "GIMMAL_COLOUR"),
        (complaint(file=toml(tmp_path, "colour = 1\n")), "gimmal.toml"),
        (complaint(file=toml(tmp_path, '[colour]\nname = "n1"\n')), "gimmal.toml"),
    ):
        assert "unknown setting 'colour'" in said
        assert told in said
        assert all(name in said for name in NAMES)


KUBERNETES = {
    "GIMMAL_SERVICE_HOST": "10.0.0.1",
    "GIMMAL_SERVICE_PORT": "7700",
    "GIMMAL_SERVICE_PORT_CLIENT": "7700",
    "GIMMAL_SERVICE_PORT_PEER_2": "7701",
    "GIMMAL_PORT": "tcp://10.0.0.1:7700",
    "GIMMAL_PORT_7700_TCP": "tcp://10.0.0.1:7700",
    "GIMMAL_PORT_7700_TCP_PROTO": "tcp",
    "GIMMAL_PORT_7700_TCP_PORT": "7700",
    "GIMMAL_PORT_7700_TCP_ADDR": "10.0.0.1",
    "GIMMAL_PORT_53_UDP_ADDR": "10.0.0.1",
}
"""What a container finds in its environment beside a Service named gimmal."""


def test_what_kubernetes_says_of_a_service_named_gimmal_is_no_setting(tmp_path: Path) -> None:
    assert load_config({}, {**KUBERNETES, "GIMMAL_NAME": "n1"}) == NodeConfig(name="n1")
    assert "unknown setting 'port'" in complaint({"port": 7700})
    assert "unknown setting 'service_host'" in complaint(file=toml(tmp_path, 'service_host = "10.0.0.1"\n'))


@pytest.mark.parametrize(
    "name",
    [
        *("GIMMAL_PORTS", "GIMMAL_PORT_7700", "GIMMAL_PORT_CLIENT", "GIMMAL_PORT_7700_TCP_HOST", "GIMMAL_HOST"),
        *("GIMMAL_SERVICE", "GIMMAL_SERVICE_HOST_2", "GIMMAL_SERVICE_PORT_", "GIMMAL_A_SERVICE_HOST", "GIMMAL_port"),
    ],
)
def test_other_names_in_the_environment_are_errors(name: str) -> None:
    assert f"unknown setting {name.removeprefix('GIMMAL_').lower()!r}" in complaint(env={name: "7700"})


BAD: dict[str, list[Any]] = {
    "name": ["", "a b", "-a", "a" * 64, "ä", "a\n", "a/b", 5, True],
    "client": ["", "localhost", ":7700", "h:", "h:0", "h:65536", "h:-1", "h:+1", "h:1.5", "h:x", "h:\uff17", "h: 1"],
    "peer": ["tcp://127.0.0.1:7701", "a b:1", " :1", "h\n:1", 7701, None.__class__, ["h:1"], "h:" + "9" * 5_000],
    "pubsub": ["h:1,h:2", "h:1/"],
    "zone": ["a b", "-", 5],
    "weight": [0, -1, "0", "-1", "", "x", 1.5, "1.5", True, False, [1], 1_001, "9" * 30, "9" * 5_000],
    "partitions": [0, 3, 1_000, "1000", 2**15, True, "", "x", 16.0],
    "replicas": [0, 6, "6", True, "", "x", 3.0],
    "on_total_loss": ["", "EMPTY", "panic", True, ["empty"]],
    "max_entries": [0, -5, "", "x", "1k", 1.0, True],
    "max_memory": [0, -1, "", "0", "0mb", "-1", "1.5gb", "1tb", "mb", "one", True, 1.5, "1 2"],
    "policy": ["", "LRU", "evict", 1, None.__class__, ["lru"]],
    "log_level": ["", "INFO", "loud", "trace", 10],
    "advertise_client": ["", "h", 5],
    "advertise_peer": ["", "h:0", "h:1,h:2"],
    "advertise_pubsub": ["", "h:1/h:2", None.__class__],
    "networks": [
        *("", 5, True, "lan", "lan=", "lan=h:1", "lan=h:1/", "lan=h:1/h:x", "=h:1/h:2", "a b=h:1/h:2"),
        *("default=h:1/h:2", "lan=h:1/h:2,", "lan=h:1/h:2,lan=h:3/h:4"),
        ",".join(f"n{number}=h:1/h:2" for number in range(16)),
        *({"lan": "h:1"}, {"lan": {"client": "h:1"}}, {"lan": {"client": "h:1", "pubsub": "h:2", "peer": "h:3"}}),
        *({"lan": {"client": "h:1", "pubsub": 5}}, {"default": {"client": "h:1", "pubsub": "h:2"}}),
    ],
    "bootstrap": ["", "maybe", 2, 1.0, [True], None.__class__],
    "expect": [0, -1, "", "x", True, 2.0],
    "join": ["", " ", ",", "h:1,", "h", [], ["h:1", ""], [5], 5, True, {"h:1": 1}],
    "data_dir": ["", 5, True, "a\0b", ["data"]],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_named_with_its_source(name: str) -> None:
    assert set(BAD) == set(NAMES)
    for value in BAD[name]:
        said = complaint({name: value})
        assert f"setting {name!r} as --{name.replace('_', '-')} cannot be {value!r}: " in said
        assert not said.endswith(": ")
        if isinstance(value, str):
            variable = f"GIMMAL_{name.upper()}"
            if name != "zone" or value:
                assert f"in the environment as {variable} cannot be" in complaint(env={variable: value})


def test_a_bad_value_in_a_file_names_the_file(tmp_path: Path) -> None:
    said = complaint(file=toml(tmp_path, "weight = 0\n"))
    assert "setting 'weight' in " in said
    assert "gimmal.toml cannot be 0: expected a whole number above 0" in said


def test_only_the_source_that_counts_is_checked(tmp_path: Path) -> None:
    file = toml(tmp_path, "weight = 0\n")
    assert load_config({"weight": 2}, {"GIMMAL_WEIGHT": "x"}, file).weight == 2


def test_no_zone_is_a_zone() -> None:
    assert load_config({"zone": ""}, {"GIMMAL_ZONE": "a"}).zone == ""


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        *(("1", 1), (1_024, 1_024), ("1b", 1), ("512mb", 512 * 1024**2), ("512MB", 512 * 1024**2)),
        *(("2g", 2 * 1024**3), ("1 KiB", 1_024), (" 10k ", 10_240), ("3MiB", 3 * 1024**2)),
    ],
)
def test_sizes(text: Any, size_bytes: int) -> None:
    assert load_config({"max_memory": text}, {}).memory_limits.max_memory_bytes == size_bytes


def test_limits_and_policy_reach_the_leader() -> None:
    config = load_config({"max_entries": 5, "policy": "lru"}, {})
    assert config.memory_limits == MemoryLimits(5, None, "lru")


def test_a_file_that_cannot_be_read_or_is_not_toml(tmp_path: Path) -> None:
    assert "cannot read the configuration file" in complaint(file=tmp_path / "missing.toml")
    assert "missing.toml" in complaint(env={"GIMMAL_CONFIG": str(tmp_path / "missing.toml")})
    assert "cannot read" in complaint(file=tmp_path)
    assert "is not TOML" in complaint(file=toml(tmp_path, "name = \n"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "is not TOML" in complaint(file=tmp_path / "binary.toml")


# --- what settings mean together


def test_a_node_by_itself_founds_its_own_cluster() -> None:
    assert load_config({}, {}).settings(UUID) == NodeSettings(
        name="node1",
        uuid=UUID,
        peer="127.0.0.1:7701",
        networks=(("default", Addresses("127.0.0.1:7700", "127.0.0.1:7702")),),
        seeds=(),
        expect=1,
    )


@pytest.mark.parametrize(
    ("flags", "expect"),
    [
        ({"join": "h:1"}, 0),
        ({"join": "h:1", "bootstrap": False}, 0),
        ({"join": "h:1", "bootstrap": True}, 1),
        ({"join": "h:1", "bootstrap": True, "expect": 3}, 3),
        ({"bootstrap": True}, 1),
        ({"bootstrap": True, "expect": 3}, 3),
    ],
)
def test_only_a_node_that_may_found_expects_others(flags: dict[str, Any], expect: int) -> None:
    assert load_config(flags, {}).settings(UUID).expect == expect


def test_a_node_that_can_neither_found_nor_join_is_refused() -> None:
    assert "'bootstrap' is false and 'join' names no node" in complaint({"bootstrap": False})


@pytest.mark.parametrize("flags", [{}, {"join": "h:1"}, {"join": "h:1", "bootstrap": False}])
def test_only_a_founder_waits_for_others(flags: dict[str, Any]) -> None:
    assert "set 'bootstrap' too" in complaint({**flags, "expect": 3})


def test_the_same_seed_twice_is_one() -> None:
    assert load_config({"join": "h:1,g:2,h:01"}, {}).settings(UUID).seeds == ("h:1", "g:2")


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "[::]"])
@pytest.mark.parametrize("setting", ["client", "peer", "pubsub"])
def test_a_node_that_listens_everywhere_has_to_say_where_it_is(setting: str, host: str) -> None:
    said = complaint({setting: f"{host}:7"})
    assert f"setting {setting!r} is {host}:7" in said
    assert f"Set 'advertise_{setting}' to the address at which others reach it" in said
    settings = load_config({setting: f"{host}:7", f"advertise_{setting}": "n1.example:8"}, {}).settings(UUID)
    (_, default), *_ = settings.networks
    assert "n1.example:8" in (default.client, settings.peer, default.pubsub)


def test_each_socket_has_an_address_of_its_own() -> None:
    assert "each needs an address of its own" in complaint({"client": "h:1", "peer": "h:1"})
    assert "each needs an address of its own" in complaint({"pubsub": "127.0.0.1:7701"})


def test_a_node_whose_names_and_addresses_are_too_long_together_is_told_so() -> None:
    networks = tuple((str(number) * 250, Addresses("c" * 250, "p" * 250)) for number in range(3))
    config = NodeConfig(name="n" * 200, networks=networks)
    with pytest.raises(ConfigError, match=r"no cluster could take this node in: .* at most 2048 bytes"):
        config.settings(UUID)


def test_networks_as_tables_of_a_file_come_after_the_default_one(tmp_path: Path) -> None:
    file = toml(tmp_path, '[networks.host]\nclient = "127.0.0.1:17700"\npubsub = "127.0.0.1:17702"\n')
    assert load_config({}, {}, file).settings(UUID).networks == (
        ("default", Addresses("127.0.0.1:7700", "127.0.0.1:7702")),
        ("host", Addresses("127.0.0.1:17700", "127.0.0.1:17702")),
    )


def test_the_core_is_told_what_the_settings_say(tmp_path: Path) -> None:
    flags = {"name": "n1", "zone": "a", "weight": 2, "partitions": 16, "max_entries": 5, "data_dir": tmp_path}
    assert load_config(flags, {}).settings(UUID) == NodeSettings(
        name="n1",
        uuid=UUID,
        peer="127.0.0.1:7701",
        networks=(("default", Addresses("127.0.0.1:7700", "127.0.0.1:7702")),),
        zone="a",
        weight=2,
        partitions=16,
        memory_limits=MemoryLimits(5, None, "refuse"),
        is_durable=True,
    )


# --- anything at all


def check_usable(config: NodeConfig) -> None:
    for address in (config.client, config.peer, config.pubsub):
        assert parse_address(address) == address
    assert config.weight in range(1, 1_001)
    assert config.partitions in [1 << exponent for exponent in range(15)]
    assert config.policy in ("refuse", "lru")
    settings = config.settings(UUID)
    for address in (*settings.seeds, settings.peer, *(end for _, ends in settings.networks for end in ends)):
        assert parse_address(address) == address
    assert settings.expect or settings.seeds


VALUES: st.SearchStrategy[Any] = st.one_of(
    *(st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.lists(st.integers(), max_size=2)),
    st.from_regex(r"[a-z\[\]:]{0,6}:[0-9]{1,6}", fullmatch=True),
)


@given(st.sampled_from(NAMES), VALUES)
def test_any_value_is_taken_or_complained_about(name: str, value: Any) -> None:
    try:
        config = load_config({name: value}, {})
    except ConfigError as error:
        said = str(error)
    else:
        said = repr(name)
        check_usable(config)
    assert repr(name) in said
