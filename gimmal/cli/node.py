"""`gimmal node`: run a node. Its settings are checked where all their sources come together, in `gimmal.node.config`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gimmal.cli.app import Json, app, print_json

Setting = Annotated[str | None, typer.Option()]


def _setting(metavar: str, what: str) -> Any:
    return Annotated[str | None, typer.Option(metavar=metavar, help=what)]
