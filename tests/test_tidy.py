"""The house rules that a reader would otherwise have to remember: sizes, names, docstrings, leftovers.

A rule is a function from a tree of files (path -> text) to complaints. `RULES` lists them, `VIOLATIONS` shows
each of them catching something: a rule that has never caught anything proves nothing.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parent.parent

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6
ARCHITECTURE_LINES_MAX = 149
VAGUE_NAMES = frozenset(("utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"))
KEYWORD_OPTIONS_FREE = frozenset(
    (
        "gimmal/client/aio.py",
        "gimmal/client/aio_queues.py",
        "gimmal/client/queues.py",
        "gimmal/client/sync.py",
        "gimmal/testing/local_cluster.py",
    )
)
"""Facades whose keyword-only options are their interface; their positional parameters still count."""

MAY_SLEEP = ("tests/cluster/", "tests/docker/")
NOT_OURS = frozenset((".git", ".venv", "build", "dist", "__pycache__"))

Tree: TypeAlias = dict[str, str]
"""Path relative to the root, with forward slashes -> text. Files that are not text are left out."""

Rule: TypeAlias = Callable[[Tree], list[str]]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = Function | ast.ClassDef


def read_tree(root: Path) -> Tree:
    """All files that git tracks or would track; without git, all files outside built directories."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = None
    if (root / ".git").exists():
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed is not None and listed.returncode == 0:
        names = sorted(set(filter(None, listed.stdout.split("\0"))))
    else:
        paths = sorted(path.relative_to(root) for path in root.rglob("*"))
        names = [path.as_posix() for path in paths if not _is_built(path)]
    tree = {}
    for name in names:
        try:
            tree[name] = (root / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
    return tree


def _is_built(path: Path) -> bool:
    return any(part in NOT_OURS or part.startswith(".venv") or part.endswith("_cache") for part in path.parts)


def _python(tree: Tree, under: str = "") -> Iterator[tuple[str, ast.Module]]:
    for path, text in tree.items():
        if path.endswith(".py") and path.startswith(under):
            yield path, ast.parse(text, path)


def _functions(module: ast.Module) -> Iterator[Function]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def file_size(tree: Tree) -> list[str]:
    """A Python file has at most 500 lines; ARCHITECTURE.md stays under 150."""
    sizes = {path: len(text.splitlines()) for path, text in tree.items()}
    caps = {path: FILE_LINES_MAX for path in tree if path.endswith(".py")}
    caps["ARCHITECTURE.md"] = ARCHITECTURE_LINES_MAX
    return [f"{path}: {sizes[path]} lines, at most {cap}" for path, cap in caps.items() if sizes.get(path, 0) > cap]


def function_size(tree: Tree) -> list[str]:
    """A function has at most 70 lines, its docstring included."""
    found = []
    for path, module in _python(tree):
        for function in _functions(module):
            size = (function.end_lineno or function.lineno) - function.lineno + 1
            if size > FUNCTION_LINES_MAX:
                found.append(f"{path}:{function.lineno}: {function.name} has {size} lines")
    return found


def parameter_count(tree: Tree) -> list[str]:
    """A function has at most 6 parameters besides `self` and `cls`; a typer command may have more."""
    found = []
    for path, module in _python(tree):
        for function in _functions(module):
            if path.startswith("gimmal/cli/") and _is_typer_command(function):
                continue
            arguments = function.args
            names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if path not in KEYWORD_OPTIONS_FREE:
                count += len(arguments.kwonlyargs)
            if count > PARAMETERS_MAX:
                found.append(f"{path}:{function.lineno}: {function.name} has {count} parameters")
    return found


def _is_typer_command(function: Function) -> bool:
    called = (node.func if isinstance(node, ast.Call) else node for node in function.decorator_list)
    return any(isinstance(node, ast.Attribute) and node.attr in ("command", "callback") for node in called)


def module_names(tree: Tree) -> list[str]:
    """No module or package is called by a name that says nothing."""
    return [
        f"{path}: a vague name"
        for path in tree
        if path.endswith(".py")
        and any(part.lower().strip("_") in VAGUE_NAMES for part in PurePosixPath(path).with_suffix("").parts)
    ]


def docstrings(tree: Tree) -> list[str]:
    """Every module of the package has a docstring, and so has every public class, function and method."""
    found = []
    for path, module in _python(tree, "gimmal/"):
        if not ast.get_docstring(module):
            found.append(f"{path}: the module has no docstring")
        found += [
            f"{path}:{node.lineno}: {node.name} has no docstring"
            for node in _public_definitions(module)
            if not ast.get_docstring(node)
        ]
    return found


def _public_definitions(parent: ast.Module | ast.ClassDef | ast.If) -> Iterator[Definition]:
    for node in parent.body:
        if isinstance(node, ast.If):
            yield from _public_definitions(node)
        elif isinstance(node, Definition) and not node.name.startswith("_") and not _speaks_elsewhere(node):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public_definitions(node)


def _speaks_elsewhere(node: Definition) -> bool:
    """Overloads, overrides and setters are described by what they belong to."""
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(names & {"overload", "override", "setter", "deleter"})


def leftovers(tree: Tree) -> list[str]:
    """No notes to self: what is to be done is done, or is an issue."""
    return _lines_matching(tree, re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b"), "a note to self")


def machine_paths(tree: Tree) -> list[str]:
    """No path of somebody's machine. An image has a home for its user, so a Dockerfile may name one."""
    anywhere = re.compile(r"(?<![\w.~-])/(work|root|home|Users)/")
    in_image = re.compile(r"(?<![\w.~-])/(work|root|Users)/")
    images = {path: text for path, text in tree.items() if PurePosixPath(path).name.startswith("Dockerfile")}
    others = {path: text for path, text in tree.items() if path not in images}
    return _lines_matching(others, anywhere, "a machine's path") + _lines_matching(images, in_image, "a machine's path")


def _lines_matching(tree: Tree, pattern: re.Pattern[str], what: str) -> list[str]:
    return [
        f"{path}:{number}: {what}: {line.strip()}"
        for path, text in tree.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def sleeps(tree: Tree) -> list[str]:
    """Tests use virtual time; only those with real processes may wait for them."""
    found = []
    for path, module in _python(tree, "tests/"):
        if path.startswith(MAY_SLEEP):
            continue
        for node in ast.walk(module):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == "time"
                and any(alias.name == "sleep" for alias in node.names)
            ):
                found.append(f"{path}:{node.lineno}: imports sleep")
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
                found.append(f"{path}:{node.lineno}: sleeps for real")
    return found


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        file_size,
        function_size,
        parameter_count,
        module_names,
        docstrings,
        leftovers,
        machine_paths,
        sleeps,
    )
}


@pytest.fixture(scope="module")
def tree() -> Tree:
    found = read_tree(ROOT)
    assert "tests/test_tidy.py" in found
    return found


@pytest.mark.parametrize("rule", RULES)
def test_the_house_is_tidy(rule: str, tree: Tree) -> None:
    assert RULES[rule](tree) == []


# --- each rule catches what it is for, and nothing else

DOC = '"""A docstring."""\n'
SEVEN = "a, b, c, d, e, f, g"
ROOM = "/" + "home/"

VIOLATIONS = [
    ("file_size", "tests/long.py", "x = 1\n" * 501, "tests/long.py: 501 lines"),
    ("file_size", "ARCHITECTURE.md", "line\n" * 150, "ARCHITECTURE.md: 150 lines"),
    ("function_size", "a.py", "def f():\n" + "    x = 1\n" * 70, "a.py:1: f has 71 lines"),
    (
        "function_size",
        "a.py",
        "class A:\n  async def g(self):\n" + "    x = 1\n" * 70,
        "a.py:2: g has 71 lines",
    ),
    ("parameter_count", "a.py", f"def f({SEVEN}): ...", "f has 7 parameters"),
    ("parameter_count", "a.py", f"def f(*, {SEVEN}): ...", "f has 7 parameters"),
    ("parameter_count", "a.py", f"class A:\n  def f(self, {SEVEN}): ...", "f has 7 parameters"),
    ("parameter_count", "gimmal/client/aio.py", f"def f({SEVEN}, *, h): ...", "f has 7 parameters"),
    ("parameter_count", "gimmal/cli/keys.py", f"def f({SEVEN}): ...", "f has 7 parameters"),
    ("module_names", "gimmal/wire/utils.py", "", "vague"),
    ("module_names", "gimmal/_common/codec.py", "", "vague"),
    ("module_names", "tests/helpers.py", "", "vague"),
    ("docstrings", "gimmal/a.py", "x = 1", "gimmal/a.py: the module"),
    ("docstrings", "gimmal/wire/__init__.py", "", "gimmal/wire/__init__.py: the module"),
    ("docstrings", "gimmal/a.py", DOC + "def f(): ...", "gimmal/a.py:2: f has"),
    ("docstrings", "gimmal/a.py", DOC + "class A: ...", "gimmal/a.py:2: A has"),
    ("docstrings", "gimmal/a.py", DOC + f"class A:\n  {DOC}\n  async def f(self): ...", "f has"),
    ("leftovers", "README.md", "One day.\n- TO" + "DO: write\n", "README.md:2"),
    ("leftovers", "gimmal/a.py", "# FIX" + "ME later\n", "gimmal/a.py:1"),
    ("machine_paths", "docs/a.md", f"Run it in {ROOM}me/gimmal", "docs/a.md:1"),
    ("machine_paths", "a.toml", f'path = "{"/" + "work/"}main"', "a.toml:1"),
    ("machine_paths", "a.py", "x = 'file:///" + "root/x'", "a.py:1"),
    ("machine_paths", "compose/Dockerfile", "COPY x /" + "root/x", "compose/Dockerfile:1"),
    ("sleeps", "tests/unit/test_a.py", "import time\ntime.sleep(1)", "tests/unit/test_a.py:2"),
    ("sleeps", "tests/test_a.py", "from time import monotonic, sleep", "tests/test_a.py:1"),
]


@pytest.mark.parametrize(("rule", "path", "text", "complaint"), VIOLATIONS)
def test_a_violation_is_caught(tmp_path: Path, rule: str, path: str, text: str, complaint: str) -> None:
    found = RULES[rule](_write(tmp_path, path, text))
    assert len(found) == 1
    assert complaint in found[0]


def test_every_rule_has_been_seen_to_catch_something() -> None:
    assert {case[0] for case in VIOLATIONS} == set(RULES)


ALLOWED = [
    ("tests/long.py", "x = 1\n" * 500),
    ("docs/long.md", "line\n" * 2000),
    ("ARCHITECTURE.md", "line\n" * 149),
    ("a.py", "def f():\n" + "    x = 1\n" * 69),
    ("a.py", "class A:\n  def f(self, a, b, c, d, e, f): ..."),
    ("gimmal/client/sync.py", DOC + f"def f(a, b, *, {SEVEN}):\n  {DOC}"),
    ("gimmal/cli/keys.py", DOC + f"@app.command('set')\ndef f({SEVEN}):\n  {DOC}"),
    ("gimmal/cli/keys.py", DOC + f"@app.callback\ndef f({SEVEN}):\n  {DOC}"),
    ("gimmal/wire/database.py", DOC),
    ("gimmal/a.py", DOC + "def _private(): ...\nclass _Hidden:\n  def f(self): ..."),
    (
        "gimmal/a.py",
        DOC + "@overload\ndef f(x: int) -> int: ...\n@typing.overload\ndef f(x: str) -> str: ...",
    ),
    ("gimmal/a.py", DOC + f"class A:\n  {DOC}\n  def __len__(self): ..."),
    ("gimmal/a.py", DOC + f"def f():\n  {DOC}\n  def inner(): ..."),
    ("tests/a.py", "def f(): ..."),
    ("docs/a.md", "mktemp /tmp/a." + "X" * 6 + "; see https://example.org/work/ and docs/root/page"),
    ("compose/Dockerfile", f"WORKDIR {ROOM}app"),
    ("tests/cluster/test_a.py", "import time\ntime.sleep(1)"),
    ("tests/unit/test_a.py", "import time\ntime.monotonic()"),
    ("benchmarks/a.py", "import time\ntime.sleep(1)"),
]


@pytest.mark.parametrize(("path", "text"), ALLOWED)
def test_what_is_allowed_passes(tmp_path: Path, path: str, text: str) -> None:
    tree = _write(tmp_path, path, text)
    assert {name: rule(tree) for name, rule in RULES.items()} == {name: [] for name in RULES}


def test_only_files_that_git_would_track_are_read(tmp_path: Path) -> None:
    _write(tmp_path, "gimmal/a.py", "x = 1")
    _write(tmp_path, "gimmal/__pycache__/a.py", "x = 1")
    _write(tmp_path, ".venv/lib/a.py", "x = 1")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    assert list(read_tree(tmp_path)) == ["gimmal/a.py"]
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(".venv/\n__pycache__/\n", encoding="utf-8")
    assert list(read_tree(tmp_path)) == [".gitignore", "gimmal/a.py"]


def _write(root: Path, path: str, text: str) -> Tree:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return read_tree(root)
