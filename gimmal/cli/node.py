"""`gimmal node`: run a node.

All flags are text here: `gimmal.node.config` checks them, where they meet the environment and the file.
"""

from pathlib import Path
from typing import Annotated

import typer

from gimmal.cli.app import Json, app, print_json

_ADDRESS = "HOST:PORT"


@app.command()
def node(
    context: typer.Context,
    *,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file of settings.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its name in the cluster.  [default: node1]")] = None,
    client: Annotated[
        str | None,
        typer.Option(metavar=_ADDRESS, help="Where clients reach it.  [default: 127.0.0.1:7700]"),
    ] = None,
    peer: Annotated[
        str | None,
        typer.Option(metavar=_ADDRESS, help="Where other nodes reach it.  [default: 127.0.0.1:7701]"),
    ] = None,
    pubsub: Annotated[
        str | None,
        typer.Option(metavar=_ADDRESS, help="Where subscribers reach it.  [default: 127.0.0.1:7702]"),
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it shares a fate with, such as a rack.")
    ] = None,
    weight: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Its share of the partitions.  [default: 1]")
    ] = None,
    partitions: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Partitions of a new cluster: a power of two.  [default: 1024]"),
    ] = None,
    max_entries: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="How many keys it may hold.  [default: no limit]")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="How much it may hold, such as 512mb.  [default: no limit]"),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="refuse|lru", help="At a limit: refuse writes, or evict.  [default: refuse]"),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.  [default: info]")
    ] = None,
    static_cluster: Annotated[Path | None, typer.Option(hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    A setting comes from its flag, else from its environment variable (GIMMAL_MAX_ENTRIES for --max-entries),
    else from the file (--config or GIMMAL_CONFIG), else from its default.
    """
    from gimmal.node.config import NAMES, load_config  # noqa: PLC0415 - see gimmal.cli
    from gimmal.node.run import run_node  # noqa: PLC0415

    # Every setting is a parameter above; by name they all go the same way.
    settings = load_config({setting: context.params[setting] for setting in NAMES}, file=config)
    run_node(settings)
    if as_json:
        print_json({"node": settings.name, "stopped": True})
