"""`gimmal node`: run a node.

All flags are text here: `gimmal.node.config` checks them, where they meet the environment and the file.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from gimmal.cli.app import Json, app, print_json


def _flag(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text)


_ADDRESS = "HOST:PORT"
_Address = Annotated[str | None, _flag(_ADDRESS, "What others are told, if it listens on another address.")]
_Config = Annotated[Path | None, _flag("FILE", "A TOML file of settings.")]
_Name = Annotated[str | None, _flag("NAME", "Its name in the cluster.  [default: node1]")]
_Client = Annotated[str | None, _flag(_ADDRESS, "Where it listens for clients.  [default: 127.0.0.1:7700]")]
_Peer = Annotated[str | None, _flag(_ADDRESS, "Where it listens for other nodes.  [default: 127.0.0.1:7701]")]
_Pubsub = Annotated[str | None, _flag(_ADDRESS, "Where it listens for subscribers.  [default: 127.0.0.1:7702]")]
_Networks = Annotated[
    str | None, _flag("NAME=CLIENT/PUBSUB,...", "Its addresses in other networks, for clients there.")
]
_Bootstrap = Annotated[
    bool | None,
    typer.Option("--bootstrap", help="Found a cluster if there is none to join.  [default: if --join is not given]"),
]
_Expect = Annotated[str | None, _flag("NUMBER", "How many nodes found the cluster together.  [default: 1]")]
_Join = Annotated[str | None, _flag(f"{_ADDRESS},...", "Peer addresses of nodes to found a cluster with or to join.")]
_DataDir = Annotated[Path | None, _flag("DIRECTORY", "Where it keeps what it must not forget.  [default: nowhere]")]
_Zone = Annotated[str | None, _flag("NAME", "What it shares a fate with, such as a rack.")]
_Weight = Annotated[str | None, _flag("NUMBER", "Its share of the partitions.  [default: 1]")]
_Partitions = Annotated[str | None, _flag("NUMBER", "Partitions of a new cluster: a power of two.  [default: 1024]")]
_Replicas = Annotated[
    str | None, _flag("NUMBER", "Copies of each partition of a new cluster, as far as it has nodes.  [default: 3]")
]
_OnTotalLoss = Annotated[
    str | None,
    _flag(
        "refuse|empty",
        "What becomes of partitions that all copies have lost.  [default: empty with one copy, else refuse]",
    ),
]
_MaxEntries = Annotated[str | None, _flag("NUMBER", "How many keys it may hold.  [default: no limit]")]
_MaxMemory = Annotated[str | None, _flag("BYTES", "How much it may hold, such as 512mb.  [default: no limit]")]
_Policy = Annotated[str | None, _flag("refuse|lru", "At a limit: refuse writes, or evict.  [default: refuse]")]
_LogLevel = Annotated[str | None, _flag("LEVEL", "debug, info, warning or error.  [default: info]")]
_TestingFaults = Annotated[Path | None, typer.Option(hidden=True)]
"""What `gimmal.testing` starts its nodes with. It is no setting, so that nothing but this flag can give it."""


@app.command()
def node(
    context: typer.Context,
    *,
    config: _Config = None,
    name: _Name = None,
    client: _Client = None,
    peer: _Peer = None,
    pubsub: _Pubsub = None,
    advertise_client: _Address = None,
    advertise_peer: _Address = None,
    advertise_pubsub: _Address = None,
    networks: _Networks = None,
    bootstrap: _Bootstrap = None,
    expect: _Expect = None,
    join: _Join = None,
    data_dir: _DataDir = None,
    zone: _Zone = None,
    weight: _Weight = None,
    partitions: _Partitions = None,
    replicas: _Replicas = None,
    on_total_loss: _OnTotalLoss = None,
    max_entries: _MaxEntries = None,
    max_memory: _MaxMemory = None,
    policy: _Policy = None,
    log_level: _LogLevel = None,
    testing_faults: _TestingFaults = None,
    as_json: Json = False,
) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Alone it is a cluster of one. Three that found a cluster together each get --bootstrap --expect 3 and --join with
    the peer addresses of all; one that comes later needs only --join.

    A setting comes from its flag, else from its environment variable (GIMMAL_MAX_ENTRIES for --max-entries),
    else from the file (--config or GIMMAL_CONFIG), else from its default.
    """
    from gimmal.node.config import NAMES, load_config  # noqa: PLC0415 - see gimmal.cli
    from gimmal.node.run import run_node  # noqa: PLC0415

    # Every setting is a parameter above; by name they all go the same way.
    settings = load_config({setting: context.params[setting] for setting in NAMES}, file=config)
    run_node(settings, testing_faults)
    if as_json:
        print_json({"node": settings.name, "stopped": True})
