"""The application that the commands join: shared options, and how results and errors are printed.

A command raises what goes wrong; `run` prints it. Exit status 0: done. 1: refused, not found, or not reached.
2: wrong arguments or settings. With `--json`, every result and every error is one JSON object on standard
output.
"""

import base64
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from gimmal.errors import ConfigError, GimmalError, InvalidArgument

app = typer.Typer(
    name="gimmal",
    help="A clustered in-memory store: run a node, look at a cluster, work with its keys and queues.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DONE: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
_INTERRUPTED: Final = 130  # what shells report for a command that SIGINT ended

DEFAULT_ADDRESS: Final = "127.0.0.1:7700"
# The root of all complaints about the command line: click's, or in newer versions of typer its own.
_UsageError: Final[Any] = typer.BadParameter.__base__

Seeds = Annotated[
    str,
    typer.Option(
        envvar="GIMMAL_SEEDS",
        metavar="HOST:PORT,...",
        help="Client addresses of one or more nodes of the cluster.",
    ),
]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for an answer; at most 60.")]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object, for results and errors. Bytes in it are "
        '{"base64": "..."}; a float that JSON lacks is {"float": "nan"}.',
    ),
]


@app.callback()
def _application() -> None:
    """A clustered in-memory store: run a node, look at a cluster, work with its keys and queues."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; errors are printed, not raised."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a value is no reason to fail
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    options = words[: words.index("--")] if "--" in words else words
    as_json = "--json" in options
    if "--help" in options and (text := _help_for(options)) is not None:
        print_text(text)
        return DONE
    try:
        status = app(words, prog_name="gimmal", standalone_mode=False)
    except GimmalError as error:
        _print_error(type(error).__name__, str(error), as_json=as_json)
        return MISUSED if isinstance(error, ConfigError | InvalidArgument) else FAILED
    except _UsageError as error:
        _print_error("UsageError", error.format_message(), as_json=as_json)
        return MISUSED
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    return status if isinstance(status, int) else DONE


def _help_for(words: Sequence[str]) -> str | None:
    """Return the help of the command that words begin with; None if there is no such command.

    typer could do that, but parses first, and with that it loads what converts arguments: twice the time.
    """
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="gimmal")
    for word in words:
        commands = getattr(command, "commands", None)
        if word.startswith("-") or commands is None:
            break
        if word not in commands:
            return None
        command = commands[word]
        context = typer.Context(command, info_name=word, parent=context)
    return str(command.get_help(context))


def _print_error(name: str, message: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"error": name, "message": message})
    else:
        print_problem(f"{name}: {message}")


def print_text(text: str) -> None:
    """Print a line of result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_problem(text: str) -> None:
    """Print a line about what went wrong."""
    sys.stderr.write(f"{text}\n")


def print_json(fields: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    print_text(json.dumps(jsonable(fields)))


def jsonable(value: Any) -> Any:
    """Return a stored value as JSON can carry it: see the help of `--json`."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Mapping):
        return {_jsonable_key(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    return value


def _jsonable_key(key: Any) -> str:
    return f"base64:{base64.b64encode(key).decode('ascii')}" if isinstance(key, bytes) else str(key)
