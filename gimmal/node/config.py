"""A node's settings: flags, then `GIMMAL_*` environment variables, then a TOML file, then defaults.

One frozen value, checked when it is made; every error names the setting, where it came from and what would do.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from gimmal.errors import ConfigError
from gimmal.hashing import WEIGHT_MAX, check_partitions
from gimmal.leader.memory import MemoryLimits

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
POLICIES: Final = ("refuse", "lru")
_NOT_SETTINGS: Final = ("config", "seeds")
"""What the environment may hold for the `gimmal` command: where this file is, and whom clients ask."""
_KUBERNETES: Final = re.compile(
    r"GIMMAL_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes puts into every container beside a Service named `gimmal`, such as `GIMMAL_SERVICE_HOST` and
`GIMMAL_PORT_7700_TCP_ADDR`. Nobody meant them as settings, and none is called so: a node ignores them."""
_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How one node is to run.

    `client` is the `host:port` to listen on. `max_entries` and `max_memory` (bytes, or text such as `512mb`)
    bound what the node holds, and `policy` says what happens there: `refuse` writes, or evict by `lru`.
    """

    name: str = "node1"
    client: str = "127.0.0.1:7700"
    peer: str = "127.0.0.1:7701"
    pubsub: str = "127.0.0.1:7702"
    zone: str = ""
    weight: int = 1
    partitions: int = 1024
    max_entries: int | None = None
    max_memory: int | None = None
    policy: str = "refuse"
    log_level: str = "info"
    static_cluster: Path | None = None

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


def _parse_file(value: Any) -> Path:
    if not str(value):
        raise ValueError("expected the name of a file")
    return Path(value)


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


_PARSERS: Final[dict[str, Any]] = {
    "name": _parse_name,
    "client": parse_address,
    "peer": parse_address,
    "pubsub": parse_address,
    "zone": _parse_zone,
    "weight": _parse_weight,
    "partitions": lambda value: check_partitions(_parse_count(value)),
    "max_entries": _parse_count,
    "max_memory": _parse_bytes,
    "policy": _one_of(*POLICIES),
    "log_level": _one_of(*LOG_LEVELS),
    "static_cluster": _parse_file,
}
