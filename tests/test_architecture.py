"""The house keeps its shape: here is what import-linter cannot say, and a test of import-linter itself.

The core is machines without I/O: no sockets, clocks, threads or dice, neither directly nor through a module
that is not core. Under `if TYPE_CHECKING:` everything may be named. The checkers are functions of a source
root, so that each has a test that shows it catching a violation.
"""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

CORE = (
    "gimmal.errors",
    "gimmal.types",
    "gimmal.wire",
    "gimmal.hashing",
    "gimmal.store",
    "gimmal.replication",
    "gimmal.leader",
    "gimmal.pubsub",
    "gimmal.cluster",
    "gimmal.node.core",
    "gimmal.client.session",
    "gimmal.client.commands",
)
"""Modules, or packages with all that is in them."""

OUTSIDE = frozenset(
    [
        *("zmq", "asyncio", "socket", "threading", "time", "random", "selectors"),
        *("select", "subprocess", "multiprocessing", "concurrent", "signal", "uuid", "secrets", "importlib"),
    ]
)
"""What the core does not import: the world, and whatever answers differently the next time."""

UNSTABLE_CALLS = frozenset(("hash", "id", "__import__"))
"""Builtins whose answer differs between two runs of one seed (or that import past this checker)."""


class Import(NamedTuple):
    """One import statement's target, absolute: a module of ours if it is one, else the name as written."""

    target: str
    line: int


class Module(NamedTuple):
    """A parsed module: its dotted name, its path, its tree and what it imports when it runs."""

    name: str
    path: Path
    tree: ast.Module
    imports: list[Import]


def read_modules(root: Path) -> dict[str, Module]:
    """Every module of `root`/gimmal by dotted name."""
    paths = {_dotted(path.relative_to(root)): path for path in sorted((root / "gimmal").rglob("*.py"))}
    found = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imports = [
            Import(_known(target, set(paths)), line)
            for node in _running_nodes(tree)
            for target, line in _targets(node, package)
        ]
        found[name] = Module(name, path, tree, imports)
    return found


def _dotted(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _known(target: str, names: set[str]) -> str:
    """`from package import name` names a module or a thing inside one: take the longest prefix we know."""
    prefix = target
    while prefix:
        if prefix in names:
            return prefix
        prefix = prefix.rpartition(".")[0]
    return target


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from _running_nodes(other)
        else:
            yield node
            yield from _running_nodes(node)


def _targets(node: ast.AST, package: str) -> list[tuple[str, int]]:
    if isinstance(node, ast.Import):
        return [(alias.name, node.lineno) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if node.level:
            parents = package.split(".")
            module = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [module])])
        return [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
    return []


def is_core(name: str) -> bool:
    """Whether a module of ours belongs to the core."""
    return any(name == core or name.startswith(core + ".") for core in CORE)


def impure_imports(root: Path) -> list[str]:
    """Imports by which the outside world reaches a core module, each with the way it takes."""
    modules = read_modules(root)
    found = []
    for module in modules.values():
        if is_core(module.name):
            for way, import_ in _reach(module, modules):
                if import_.target.partition(".")[0] in OUTSIDE:
                    found.append(f"{' -> '.join(way)} (line {import_.line}) imports {import_.target}")
    return found


def _reach(start: Module, modules: dict[str, Module]) -> Iterator[tuple[list[str], Import]]:
    """All imports of `start` and of the modules outside the core behind it, with the way to each."""
    seen = {start.name}
    waiting = [(start, [start.name])]
    while waiting:
        module, way = waiting.pop()
        for import_ in module.imports:
            yield way, import_
            target = modules.get(import_.target)
            # The package itself gathers the public names; other core modules are reported in their own name.
            if target is None or target.name in seen or target.name == "gimmal" or is_core(target.name):
                continue
            seen.add(target.name)
            waiting.append((target, [*way, target.name]))


def unstable_calls(root: Path) -> list[str]:
    """Places in the core where one seed could give two traces: `hash()`, `id()`, walking over a set."""
    found = []
    for module in read_modules(root).values():
        if not is_core(module.name):
            continue
        allowed = {
            id(inner)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef) and node.name == "__hash__"
            for inner in ast.walk(node)
        }
        for node in ast.walk(module.tree):
            if id(node) in allowed:
                continue
            if isinstance(node, ast.Call) and _name(node.func) in UNSTABLE_CALLS:
                found.append(f"{module.name}:{node.lineno}: calls {_name(node.func)}()")
            if isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
                found.append(f"{module.name}:{node.iter.lineno}: walks over a set; sort it first")
    return found


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _is_set(node: ast.expr) -> bool:
    return isinstance(node, ast.Set | ast.SetComp) or (
        isinstance(node, ast.Call) and _name(node.func) in ("set", "frozenset")
    )


def client_beyond_the_table(root: Path) -> list[str]:
    """Imports of the client from the cluster other than its table, and of the table from the cluster."""
    found = []
    for module in read_modules(root).values():
        if module.name.startswith("gimmal.client") or module.name == "gimmal.cluster.table":
            for target, line in module.imports:
                if target.startswith("gimmal.cluster") and target != "gimmal.cluster.table":
                    found.append(f"{module.name}:{line}: imports {target}")
    return found


CHECKERS = {
    "impure_imports": impure_imports,
    "unstable_calls": unstable_calls,
    "client_beyond_the_table": client_beyond_the_table,
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_house_keeps_its_shape(checker: str) -> None:
    assert CHECKERS[checker](ROOT) == []


def test_the_core_is_the_lower_layers_and_the_machines_above_them() -> None:
    """A typo in CORE would switch its check off: the list is compared with the layers and with the disk."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in contracts["contracts"] if contract["id"] == "layers")
    lower = {f"gimmal.{name.strip(' ()')}" for layer in layers[3:] for name in layer.split("|")}
    machines = {"gimmal.node.core", "gimmal.client.session", "gimmal.client.commands"}
    assert set(CORE) == lower | machines
    modules = read_modules(ROOT)
    if {"gimmal.node.server", "gimmal.client.aio"} <= set(modules):
        assert machines <= set(modules)


def test_importing_gimmal_loads_the_client_only() -> None:
    """`import gimmal` in a user's program pays for no server, command line or test double."""
    program = "import sys, gimmal; print(*sorted(name for name in sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = ("gimmal.node", "gimmal.cli", "gimmal.testing", "typer", "rich", "pytest")
    assert [name for name in done.stdout.split() if name.startswith(heavy)] == []


# --- the checkers catch what they are for


def house(root: Path, **changes: str) -> Path:
    """A small lawful house under `root`, with modules (`client__session="..."`) changed or added."""
    modules = {
        "errors": "",
        "types": "",
        "wire__codec": "import msgpack",
        "store__kv": "import binascii\nfrom gimmal import errors",
        "cluster__table": "from gimmal.hashing import slots",
        "cluster__static": "from gimmal.cluster import table",
        "hashing__slots": "",
        "node__core": "from gimmal.cluster import static, table\nfrom gimmal.store import kv",
        "node__transport": "import zmq, time",
        "client__session": "from gimmal.cluster import table",
        "client__sync": "import zmq\nfrom gimmal.client import session",
        "testing__cluster": "import gimmal.client.sync, gimmal.node.transport",
    } | changes
    for name, text in modules.items():
        path = root.joinpath("gimmal", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text + "\n", encoding="utf-8")
    (root / "gimmal" / "__init__.py").write_text("from gimmal.client import sync\n", encoding="utf-8")
    return root


UNLAWFUL = [
    ("impure_imports", {"wire__codec": "import time"}, "gimmal.wire.codec (line 1) imports time"),
    ("impure_imports", {"types": "def f():\n    import random"}, "gimmal.types (line 2) imports random"),
    (
        "impure_imports",
        {"pubsub__owner": "import zmq.asyncio"},
        "gimmal.pubsub.owner (line 1) imports zmq.asyncio",
    ),
    (
        "impure_imports",
        {"store__kv": "from time import sleep"},
        "gimmal.store.kv (line 1) imports time.sleep",
    ),
    ("impure_imports", {"client__commands": "try:\n    import socket\nfinally:\n    pass"}, "imports socket"),
    (
        "impure_imports",
        {"node__core": "from . import transport"},
        "gimmal.node.core -> gimmal.node.transport (line 1) imports zmq",
    ),
    (
        "impure_imports",
        {"node__core": "import typing\nif typing.TYPE_CHECKING:\n    import zmq\nelse:\n    import time"},
        "gimmal.node.core (line 5) imports time",
    ),
    ("unstable_calls", {"hashing__slots": "x = hash('a')"}, "gimmal.hashing.slots:1: calls hash()"),
    ("unstable_calls", {"store__kv": "x = [y for y in {1, 2}]"}, "gimmal.store.kv:1: walks over a set"),
    ("unstable_calls", {"store__kv": "for y in set('ab'):\n    pass"}, "gimmal.store.kv:1: walks over a set"),
    (
        "client_beyond_the_table",
        {"client__session": "import gimmal.cluster.static"},
        "imports gimmal.cluster.static",
    ),
    (
        "client_beyond_the_table",
        {"client__session": "from gimmal.cluster import Row"},
        "imports gimmal.cluster",
    ),
    (
        "client_beyond_the_table",
        {"cluster__table": "from . import static"},
        "gimmal.cluster.table:1: imports",
    ),
]


@pytest.mark.parametrize(("checker", "changes", "message"), UNLAWFUL)
def test_a_violation_is_caught(tmp_path: Path, checker: str, changes: dict[str, str], message: str) -> None:
    found = CHECKERS[checker](house(tmp_path, **changes))
    assert any(message in line for line in found), found


LAWFUL = [
    {},
    {"store__kv": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import random, asyncio"},
    {"store__kv": "import typing\nif typing.TYPE_CHECKING:\n    from random import Random"},
    {"types": "class Key:\n    def __hash__(self) -> int:\n        return hash(self.x)"},
    {"types": "x = sorted({1, 2})\ny = [z for z in sorted(set(x))]"},
    {"node__server": "import asyncio, threading, time, random\nx = hash('a')"},
    {"node__core": "from gimmal.node.timers import x", "node__timers": "import math\nx = math.inf"},
]


@pytest.mark.parametrize("changes", LAWFUL)
def test_what_is_allowed_passes(tmp_path: Path, changes: dict[str, str]) -> None:
    root = house(tmp_path, **changes)
    assert {name: checker(root) for name, checker in CHECKERS.items()} == {name: [] for name in CHECKERS}


def lint_imports(root: Path) -> tuple[int, str]:
    """The project's import-linter contracts over the house at `root`: exit status and output."""
    linter = str(Path(sys.executable).with_name("lint-imports"))
    command = [linter, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_import_linter_accepts_a_lawful_house(tmp_path: Path) -> None:
    status, output = lint_imports(house(tmp_path))
    assert (status, "3 kept, 0 broken" in output) == (0, True), output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"store__kv": "import gimmal.cluster.table"},
            "gimmal.store is not allowed to import gimmal.cluster",
        ),
        ({"client__sync": "import gimmal.node.core"}, "gimmal.client is not allowed to import gimmal.node"),
        (
            {"store__kv": "from gimmal.hashing import slots"},
            "gimmal.store is not allowed to import gimmal.hashing",
        ),
        ({"errors": "from gimmal import types"}, "gimmal.errors is not allowed to import gimmal.types"),
        ({"lounge__sofa": ""}, "gimmal.lounge"),
        ({"client__session": "import gimmal.cluster.static"}, "not allowed to import gimmal.cluster.static"),
        ({"client__sync": "import msgpack"}, "gimmal.client.sync -> msgpack"),
    ],
)
def test_import_linter_catches_a_violation(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    status, output = lint_imports(house(tmp_path, **changes))
    assert (status, message in output) == (1, True), output
