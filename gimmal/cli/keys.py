"""`gimmal get`, `set`, `del`, `incr` and `ttl`: the calls on keys, from a shell."""

import json
import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from gimmal.cli.app import (
    DEFAULT_ADDRESS,
    DONE,
    FAILED,
    Json,
    Seeds,
    Timeout,
    app,
    jsonable,
    print_json,
    print_problem,
    print_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimmal.client.sync import Client

_TIMEOUT_S: Final = 5.0
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?")

Key = Annotated[str, typer.Argument(metavar="KEY")]


class TakesNegativeNumbers(TyperCommand):
    """A command for which `-5` is an argument, and not the option `-5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse words in the order that leaves no doubt: the options, `--`, the arguments."""
        takes_value = {
            name
            for parameter in self.params
            if parameter.param_type_name == "option" and not getattr(parameter, "is_flag", False)
            for name in parameter.opts
        }
        options: list[str] = []
        arguments: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                arguments += words
            elif not word.startswith("-") or word == "-" or _NEGATIVE.fullmatch(word):
                arguments.append(word)
            else:
                options.append(word)
                if word in takes_value:
                    value = next(words, None)
                    if value is None:  # the parser says so
                        return super().parse_args(ctx, options)
                    options.append(value)
        return super().parse_args(ctx, [*options, "--", *arguments])


@contextmanager
def _connected(seeds: str, timeout: float) -> "Iterator[Client]":
    from gimmal.client.sync import connect  # noqa: PLC0415 - see gimmal.cli

    with connect(seeds, timeout=timeout) as client:
        yield client


def given(word: str) -> str | bytes:
    """Return an argument as text, or as the bytes it is when they are not UTF-8."""
    raw = os.fsencode(word)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def value_of(word: str) -> int | str | bytes:
    """Return what a VALUE stands for. Only an integer that prints as it was given is taken for one."""
    if _INTEGER.fullmatch(word) and -(2**63) <= int(word) < 2**63:
        return int(word)
    return given(word)


@app.command()
def get(key: Key, *, seeds: Seeds = DEFAULT_ADDRESS, timeout: Timeout = _TIMEOUT_S, as_json: Json = False) -> int:
    """Print the value of a key; exit status 1 if there is no such key.

    Text and bytes are printed as they are, numbers and other values as JSON.
    """
    with _connected(seeds, timeout) as client:
        found = client.get_versioned(given(key))
    if found is None:
        if as_json:
            print_json({"key": given(key), "found": False})
        else:
            print_problem(f"there is no key {key!r}")
        return FAILED
    value, version = found
    if as_json:
        print_json({"key": given(key), "found": True, "value": value, "version": version})
    elif isinstance(value, bytes):
        sys.stdout.buffer.write(value + b"\n")
        sys.stdout.buffer.flush()
    else:
        print_text(value if isinstance(value, str) else json.dumps(jsonable(value)))
    return DONE


@app.command("set", cls=TakesNegativeNumbers)
def set_(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE")],
    *,
    ttl: Annotated[float | None, typer.Option(metavar="SECONDS", help="Let it expire after that time.")] = None,
    nx: Annotated[bool, typer.Option("--nx", help="Only if there is no such key.")] = False,
    xx: Annotated[bool, typer.Option("--xx", help="Only if there is such a key.")] = False,
    keep_ttl: Annotated[bool, typer.Option("--keep-ttl", help="Keep the time it has left.")] = False,
    if_version: Annotated[
        int | None,
        typer.Option(metavar="VERSION", help="Only if it has this version; 0: there is no such key."),
    ] = None,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> int:
    """Set a key; exit status 1 if a condition was not met.

    A decimal VALUE such as 42 or -7 is stored as an integer (of up to 64 bits), anything else as text.
    """
    with _connected(seeds, timeout) as client:
        is_set = client.set(
            given(key), value_of(value), ttl=ttl, nx=nx, xx=xx, keep_ttl=keep_ttl, if_version=if_version
        )
    if as_json:
        print_json({"key": given(key), "set": is_set})
    elif is_set:
        print_text("OK")
    else:
        print_problem(f"key {key!r} was not set: the condition was not met")
    return DONE if is_set else FAILED


@app.command("del")
def delete(
    keys: Annotated[list[str], typer.Argument(metavar="KEY")],
    *,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Delete keys and print how many there were."""
    with _connected(seeds, timeout) as client:
        deleted = client.delete_many([given(key) for key in keys])
    if as_json:
        print_json({"deleted": deleted})
    else:
        print_text(str(deleted))


@app.command(cls=TakesNegativeNumbers)
def incr(
    key: Key,
    amount: Annotated[int, typer.Argument(metavar="AMOUNT")] = 1,
    *,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Add to a counter and print it.

    AMOUNT is 1 unless given, and may be negative. A missing key counts as 0; an expiry is kept.
    """
    with _connected(seeds, timeout) as client:
        counter = client.incr(given(key), amount)
    if as_json:
        print_json({"key": given(key), "value": counter})
    else:
        print_text(str(counter))


@app.command()
def ttl(key: Key, *, seeds: Seeds = DEFAULT_ADDRESS, timeout: Timeout = _TIMEOUT_S, as_json: Json = False) -> None:
    """Print the seconds a key has left.

    It is -1 if the key does not expire, and -2 if there is no such key.
    """
    with _connected(seeds, timeout) as client:
        left = client.ttl(given(key))
    if as_json:
        print_json({"key": given(key), "ttl": left})
    else:
        print_text(f"{left:g}" if left < 0 else f"{left:.3f}")
