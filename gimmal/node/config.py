"""A node's settings: flags, then `GIMMAL_*` environment variables, then a TOML file, then defaults.

One frozen value, checked when it is made; every error names the setting, where it came from and what would do. What
the settings say together is checked too: a node that others cannot reach, or that can neither found nor join a
cluster, does not start.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from gimmal.cluster.meta.commands import REFUSE, START_EMPTY, read_registration
from gimmal.cluster.table import Addresses
from gimmal.errors import ConfigError
from gimmal.hashing import WEIGHT_MAX, check_partitions
from gimmal.leader.memory import MemoryLimits
from gimmal.node.settings import REPLICAS_DEFAULT, REPLICAS_MAX, NodeSettings
from gimmal.wire import limits

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
POLICIES: Final = ("refuse", "lru")
DEFAULT_NETWORK: Final = "default"
_WILDCARDS: Final = ("0.0.0.0", "*", "[::]")  # noqa: S104 - these are what is looked for
_NOT_SETTINGS: Final = ("config", "seeds")
"""What the environment may hold for the `gimmal` command: where this file is, and whom clients ask."""
_KUBERNETES: Final = re.compile(
    r"GIMMAL_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes puts into every container beside a Service named `gimmal`, such as `GIMMAL_SERVICE_HOST` and
`GIMMAL_PORT_7700_TCP_ADDR`. Nobody meant them as settings, and none is called so: a node ignores them."""
_FLAGS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How one node is to run.

    `client`, `peer` and `pubsub` are each the `host:port` to listen on, and `advertise_...` the one that others are
    told, where it is another. `networks` are further names and addresses of the same node, for clients elsewhere.

    A node founds a cluster with `bootstrap`, as soon as `expect` nodes (1 by default) have met, or joins the one that
    a node at a `join` address (a peer address) belongs to; with both, whatever comes first. It may found one if nothing
    is said of either: then it is a cluster by itself.

    `on_total_loss` says what becomes of a partition of which no copy has anything left: `refuse` until an operator has
    accepted that, or start `empty`; None means `empty` with one copy of each, else `refuse`.

    `max_entries` and `max_memory` (bytes, or text such as `512mb`) bound what the node holds, and `policy` says what
    happens there: `refuse` writes, or evict by `lru`. Without a `data_dir` a node forgets everything when it ends.
    """

    name: str = "node1"
    client: str = "127.0.0.1:7700"
    peer: str = "127.0.0.1:7701"
    pubsub: str = "127.0.0.1:7702"
    advertise_client: str | None = None
    advertise_peer: str | None = None
    advertise_pubsub: str | None = None
    networks: tuple[tuple[str, Addresses], ...] = ()
    bootstrap: bool | None = None
    expect: int | None = None
    join: tuple[str, ...] = ()
    data_dir: Path | None = None
    zone: str = ""
    weight: int = 1
    partitions: int = 1024
    replicas: int = REPLICAS_DEFAULT
    on_total_loss: str | None = None
    max_entries: int | None = None
    max_memory: int | None = None
    policy: str = "refuse"
    log_level: str = "info"

    def __post_init__(self) -> None:
        for setting in ("client", "peer", "pubsub"):
            host = getattr(self, setting).rpartition(":")[0]
            if host in _WILDCARDS and getattr(self, f"advertise_{setting}") is None:
                raise ConfigError(
                    f"setting {setting!r} is {getattr(self, setting)}: the node would listen everywhere, and nobody "
                    f"could be told where it is. Set 'advertise_{setting}' to the address at which others reach it"
                )
        listening = (self.client, self.peer, self.pubsub)
        if len(set(listening)) != len(listening):
            raise ConfigError(
                f"settings 'client', 'peer' and 'pubsub' are {', '.join(listening)}: each needs an address of its own"
            )
        if self.bootstrap is False and not self.join:
            raise ConfigError("setting 'bootstrap' is false and 'join' names no node: set one of them")
        if self.expect is not None and not self.bootstrap:
            raise ConfigError(
                f"setting 'expect' is {self.expect}, but only a node that is told to found a cluster waits for others "
                "to found it with: set 'bootstrap' too"
            )

    def settings(self, uuid: bytes) -> NodeSettings:
        """Return what the core of the node is told; `uuid` (16 bytes) names this start of it.

        Raises:
            ConfigError: its name and addresses together are more than a cluster takes.
        """
        addresses = Addresses(self.advertise_client or self.client, self.advertise_pubsub or self.pubsub)
        may_found = not self.join if self.bootstrap is None else self.bootstrap
        settings = NodeSettings(
            name=self.name,
            uuid=uuid,
            peer=self.advertise_peer or self.peer,
            networks=((DEFAULT_NETWORK, addresses), *self.networks),
            zone=self.zone,
            weight=self.weight,
            seeds=self.join,
            expect=(self.expect or 1) if may_found else 0,
            partitions=self.partitions,
            copies=self.replicas,
            on_total_loss=self.on_total_loss or "",
            memory_limits=self.memory_limits,
            is_durable=self.data_dir is not None,
        )
        voter = f"{settings.name}/{uuid.hex()}"
        try:
            read_registration((self.name, uuid, voter, self.zone, self.weight, settings.peer, settings.networks))
        except ValueError as reason:
            raise ConfigError(f"no cluster could take this node in: {reason}") from None
        return settings

    @property
    def memory_limits(self) -> MemoryLimits:
        """The limits as the leader's rooms take them."""
        return MemoryLimits(self.max_entries, self.max_memory, "lru" if self.policy == "lru" else "refuse")


NAMES: Final = tuple(setting.name for setting in fields(NodeConfig))


def load_config(
    flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ, file: Path | None = None
) -> NodeConfig:
    """Return the settings from all sources. A flag of None was not given.

    Raises:
        ConfigError: a source cannot be read, or has an unknown name or an impossible value.
    """
    given: dict[str, tuple[Any, str]] = {}
    file = file or (Path(environment["GIMMAL_CONFIG"]) if environment.get("GIMMAL_CONFIG") else None)
    if file is not None:
        for name, value in _read_toml(file).items():
            given[name] = (value, f"in {file}")
    for variable, value in environment.items():
        name = variable.removeprefix("GIMMAL_").lower()
        if variable.startswith("GIMMAL_") and name not in _NOT_SETTINGS and not _KUBERNETES.fullmatch(variable):
            given[name] = (value, f"in the environment as {variable}")
    for name, value in flags.items():
        if value is not None:
            given[name] = (value, f"as --{name.replace('_', '-')}")
    settings = {}
    for name, (value, where) in given.items():
        if name not in NAMES:
            raise ConfigError(f"unknown setting {name!r} {where}; known are: {', '.join(NAMES)}")
        try:
            settings[name] = _PARSERS[name](value)
        except (ValueError, TypeError) as reason:
            raise ConfigError(f"setting {name!r} {where} cannot be {value!r}: {reason}") from None
    return NodeConfig(**settings)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as reason:
        raise ConfigError(f"cannot read the configuration file {file}: {reason.strerror}") from None
    except ValueError as reason:
        raise ConfigError(f"the configuration file {file} is not TOML: {reason}") from None


def parse_address(value: Any) -> str:
    """Return `host:port` if it is one; raises ValueError."""
    host, _, port = str(value).rpartition(":")
    if not host or re.search(r"[\s/,]", host) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError("an address is host:port, such as 127.0.0.1:7700")
    return f"{host}:{int(port)}"


def _parse_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        raise ValueError("a name is 1 to 63 letters, digits, dots, dashes and underscores")
    return value


def _parse_zone(value: Any) -> str:
    return _parse_name(value) if value else ""


def _parse_count(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+", str(value)) or int(value) < 1:
        raise ValueError("expected a whole number above 0")
    return int(value)


def _parse_weight(value: Any) -> int:
    weight = _parse_count(value)
    if weight > WEIGHT_MAX:
        raise ValueError(f"the largest weight is {WEIGHT_MAX}")
    return weight


def _parse_addresses(value: Any) -> tuple[str, ...]:
    """None at all is an error: a node whose list of others came out empty would found a cluster by itself."""
    texts = value if isinstance(value, list) else str(value).split(",")
    if not texts:
        raise ValueError("expected one address or more")
    return tuple(dict.fromkeys(parse_address(text.strip() if isinstance(text, str) else text) for text in texts))


def _parse_flag(value: Any) -> bool:
    flag = value if isinstance(value, bool) else _FLAGS.get(str(value).lower())
    if flag is None:
        raise ValueError("expected true or false")
    return flag


def _parse_directory(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("expected the name of a directory")
    return Path(value)


def _parse_networks(value: Any) -> tuple[tuple[str, Addresses], ...]:
    """Read `lan=10.0.0.5:7700/10.0.0.5:7702,host=...`, or tables with `client` and `pubsub` as TOML has them."""
    if isinstance(value, dict):
        if not all(isinstance(ends, dict) and ends.keys() == {"client", "pubsub"} for ends in value.values()):
            raise ValueError("each network has the addresses 'client' and 'pubsub'")
        given = [(name, ends["client"], ends["pubsub"]) for name, ends in value.items()]
    else:
        given = []
        for part in str(value).split(","):
            name, is_named, ends = part.partition("=")
            client, is_pair, pubsub = ends.partition("/")
            if not (is_named and is_pair):
                raise ValueError("a network is NAME=CLIENT/PUBSUB, such as lan=10.0.0.5:7700/10.0.0.5:7702")
            given.append((name.strip(), client.strip(), pubsub.strip()))
    networks = tuple(
        (_parse_name(name), Addresses(parse_address(client), parse_address(pubsub))) for name, client, pubsub in given
    )
    names = [name for name, _ in networks]
    if len({*names, DEFAULT_NETWORK}) <= len(names):
        raise ValueError(f"each network has a name of its own, and {DEFAULT_NETWORK!r} is taken")
    if len(names) >= limits.NETWORKS_MAX:
        raise ValueError(f"a node has fewer than {limits.NETWORKS_MAX} networks")
    return networks


def _parse_bytes(value: Any) -> int:
    match = re.fullmatch(r"([0-9]+)\s*([kmg]?)i?b?", str(value).strip().lower())
    if isinstance(value, bool) or match is None or int(match[1]) < 1:
        raise ValueError("expected bytes, such as 1073741824, 512mb or 2gb")
    return int(match[1]) * _UNITS[match[2]]


def _one_of(*choices: str) -> Any:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return parse


def _parse_replicas(value: Any) -> int:
    count = _parse_count(value)
    if count > REPLICAS_MAX:
        raise ValueError(f"a number from 1 to {REPLICAS_MAX}")
    return count


_PARSERS: Final[dict[str, Any]] = {
    "name": _parse_name,
    "client": parse_address,
    "peer": parse_address,
    "pubsub": parse_address,
    "advertise_client": parse_address,
    "advertise_peer": parse_address,
    "advertise_pubsub": parse_address,
    "networks": _parse_networks,
    "bootstrap": _parse_flag,
    "expect": _parse_count,
    "join": _parse_addresses,
    "data_dir": _parse_directory,
    "zone": _parse_zone,
    "weight": _parse_weight,
    "partitions": lambda value: check_partitions(_parse_count(value)),
    "replicas": _parse_replicas,
    "on_total_loss": _one_of(REFUSE, START_EMPTY),
    "max_entries": _parse_count,
    "max_memory": _parse_bytes,
    "policy": _one_of(*POLICIES),
    "log_level": _one_of(*LOG_LEVELS),
}
