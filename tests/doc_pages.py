"""What the pages of the documentation may hold, and how a page is checked and run. `test_docs.py` does both.

By the tag of a fenced block:

- `python`: all blocks of a page run in order as one script. `127.0.0.1:7700` in a block (with more addresses
  after commas) stands for the seeds of a fresh LocalCluster. A block that defines `test_...` functions runs
  under pytest, on its own.
- `console`: lines with `$ ` are commands, the others what they print. A gimmal command that asks a running
  cluster something runs for real, after the page's Python and against the same cluster, and must print that
  (`...` stands for anything). It finds the cluster by the address in the command, else by GIMMAL_SEEDS. `make
  demo` runs too, without its set-up. Every
  other command is checked as in `bash`, and its output is not compared.
- `bash`: commands that are not run, but must exist: the target, the subcommand and its options, the file, the
  extra.
- `toml`, `json`: must parse. `yaml`, `dockerfile`: must be an excerpt of a file below compose/.
- `text`, `mermaid`: free.

Anything else is an error, a block without a tag as well. Links to files must lead somewhere, and a path such as
`tests/unit` in the text must exist. What only keeps a place for something to come is an error too: a line of
the text that is one word in capitals, and such a word between `=` in what a command prints.
"""

import ast
import doctest
import functools
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent
TIMEOUT_S = 100.0

SEEDS = re.compile(r"127\.0\.0\.1:7700(?:,\s*127\.0\.0\.1:\d+)*")
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})\s*(?P<tag>[\w+-]*)(?P<rest>[^`]*)$")
LINK = re.compile(r"\[[^\]\n]*\]\((?!\w+:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
PATH = re.compile(r"`((?:gimmal|tests|docs|benchmarks|compose)/[\w./-]*)`")
PLACEHOLDER = re.compile(r"\s*[A-Z]{2,}\s*")
PLACEHOLDER_IN_OUTPUT = re.compile(r"=\s*[A-Z]{6,}\s*=")
OPERATORS = frozenset(("|", "||", "&&", ";", "&"))
ASKS_A_CLUSTER = frozenset(("get", "set", "del", "incr", "ttl", "queue", "publish", "status", "health"))
STANDS_FOR = {"make demo": "gimmal demo"}
GROUPS = frozenset(("queue",))
"""Subcommands of gimmal that have subcommands."""


class NotUnderstoodError(Exception):
    """A block that this test can neither run nor check."""


class Block(NamedTuple):
    """A fenced block: its tag, the line its text starts at (1 is the first of the page), and its text."""

    tag: str
    line: int
    text: str


class Command(NamedTuple):
    """A command of a `bash` or `console` block and what it is to print (None: nobody says)."""

    line: int
    text: str
    output: str | None


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a Markdown page, each without the indent of its fence."""
    found = []
    opened: re.Match[str] | None = None
    start, lines = 0, list[str]()
    for number, line in enumerate(page.splitlines(), 1):
        match = FENCE.match(line)
        if opened is None:
            if match:
                opened, start, lines = match, number, []
        elif match and not match["tag"] and match["fence"].startswith(opened["fence"]):
            text = "".join(f"{line}\n" for line in lines)
            found.append(Block(opened["tag"], start + 1, text))
            opened = None
        else:
            indent = len(line) - len(line.lstrip(" "))
            lines.append(line[min(indent, len(opened["indent"])) :])
    if opened is not None:
        raise NotUnderstoodError(f"line {start}: the block is never closed")
    return found


def script_of(blocks: list[Block]) -> str:
    """The Python blocks as one script; lines keep their numbers, so that a traceback names the page's."""
    lines: list[str] = []
    for block in blocks:
        if block.tag == "python" and not is_pytest(block):
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


def is_pytest(block: Block) -> bool:
    """Whether a Python block shows tests."""
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in parsed(block).body
    )


def parsed(block: Block) -> ast.Module:
    """The syntax tree of a Python block."""
    try:
        return ast.parse(block.text)
    except SyntaxError as error:
        raise NotUnderstoodError(f"line {block.line + (error.lineno or 1) - 1}: not Python: {error.msg}") from error


def commands_of(block: Block) -> list[Command]:
    """The commands of a `bash` or `console` block; a backslash at the end of a line continues it."""
    found: list[Command] = []
    continues = False
    for number, line in enumerate(block.text.splitlines(), block.line):
        if continues:
            found[-1] = found[-1]._replace(text=found[-1].text + line.removeprefix("> ").strip())
        elif block.tag == "bash":
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found.append(Command(number, line.strip(), None))
        elif line.startswith("$ "):
            found.append(Command(number, line[2:].strip(), None))
        elif found:
            found[-1] = found[-1]._replace(output=f"{found[-1].output or ''}{line}\n")
            continue
        else:
            raise NotUnderstoodError(f"line {number}: output before the first `$ `")
        continues = found[-1].text.endswith("\\")
        if continues:
            found[-1] = found[-1]._replace(text=found[-1].text.removesuffix("\\"))
    return found


def words_of(command: str) -> list[list[str]]:
    """The simple commands of a command line, each as its words; no comments, redirections, assignments."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    simple: list[list[str]] = [[]]
    skip = False
    try:
        for token in lexer:
            if skip:
                skip = False
            elif token in OPERATORS:
                simple.append([])
            elif set(token) <= set("<>&"):
                skip = True
                if simple[-1] and simple[-1][-1] in ("1", "2"):  # the stream that is redirected
                    del simple[-1][-1]
            elif set(token) <= set("()|;"):
                raise NotUnderstoodError(f"{command!r}: a shell construct")
            elif simple[-1] or not re.match(r"[A-Za-z_]\w*=", token):
                simple[-1].append(token)
    except ValueError as error:
        raise NotUnderstoodError(f"{command!r}: {error}") from error
    return [words for words in simple if words]


def runs_for_real(command: Command) -> bool:
    """Whether a command of a `console` block asks a running cluster something, and so is run."""
    simple = words_of(command.text)
    if command.text in STANDS_FOR:
        return True
    asking = [words for words in simple if words[0] == "gimmal" and set(words[1:2]) & ASKS_A_CLUSTER]
    if asking and len(simple) > 1:
        raise NotUnderstoodError(f"line {command.line}: {command.text!r}: one gimmal command per line, please")
    return bool(asking) and "--help" not in asking[0]


# --- commands that are not run must exist: each checker answers with a complaint, or None


def _no_complaint(words: list[str]) -> str | None:
    return None


def _make(words: list[str]) -> str | None:
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", rules, re.MULTILINE))
    missing = [word for word in words[1:] if not word.startswith("-") and "=" not in word and word not in targets]
    return f"no target {', '.join(missing)} in the Makefile" if missing else None


def _pip(words: list[str]) -> str | None:
    if words[1:2] != ["install"]:
        return "only `pip install` is known"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"(?:^|\s)(?:gimmal|\.)\[([\w,]+)\]", " ".join(words))
    extras = {extra for names in named for extra in names.split(",")}
    missing = sorted(extras - set(project["optional-dependencies"]))
    return f"no extra {', '.join(missing)} in pyproject.toml" if missing else None


def _python(words: list[str]) -> str | None:
    if words[1:2] == ["-m"] and len(words) > 2:
        module, rest = words[2], words[2:]
        if module in COMMANDS:
            return COMMANDS[module](rest)
        path = ROOT.joinpath(*module.split("."))
        known = module == "venv" or path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        return None if known else f"no module {module} to run"
    return _files(words)


def _files(words: list[str]) -> str | None:
    paths = [word.partition("::")[0] for word in words[1:] if not word.startswith("-") and "/" in word]
    paths += [word for word in words[1:2] if word.endswith(".py")]
    missing = [path for path in paths if not (ROOT / path).exists()]
    return f"no file {', '.join(missing)}" if missing else None


def _docker(words: list[str]) -> str | None:
    files = [after for word, after in itertools.pairwise(words) if word in ("-f", "--file")]
    missing = [path for path in files if not (ROOT / path).exists()]
    return f"no file {', '.join(missing)}" if missing else None


def _git(words: list[str]) -> str | None:
    return None if words[1:2] == ["clone"] else "only `git clone` is known"


def _gimmal(words: list[str]) -> str | None:
    path = [word for word in words[1:2] if not word.startswith("-")]
    if set(path) & GROUPS:
        path += [word for word in words[2:3] if not word.startswith("-")]
    status, text = help_of(tuple(path))
    if status != 0:
        return f"`gimmal {' '.join([*path, '--help'])}` ends with {status}: {text.strip()[-300:]}"
    options = {word.partition("=")[0] for word in words[1:] if re.match(r"--[a-z]", word)}
    missing = sorted(option for option in options if not re.search(rf"{option}(?![\w-])", text))
    return f"no option {', '.join(missing)} in `gimmal {' '.join(path)}`" if missing else None


@functools.cache
def help_of(path: tuple[str, ...]) -> tuple[int, str]:
    """Exit status and output of `gimmal <path> --help`."""
    done = run_tool(["gimmal", *path, "--help"], COLUMNS="200")
    return done.returncode, done.stdout


COMMANDS: dict[str, Callable[[list[str]], str | None]] = {
    "make": _make,
    "pip": _pip,
    "python": _python,
    "python3": _python,
    "pytest": _files,
    "docker": _docker,
    "git": _git,
    "gimmal": _gimmal,
    **dict.fromkeys(("apt-get", "cd", "export", "kill", "lint-imports", "mypy", "ruff", "source", "."), _no_complaint),
}


def complaint_about(command: Command) -> str | None:
    """What is wrong with a command that is not run, or None."""
    for words in words_of(command.text):
        words[0] = words[0].removeprefix(".venv/bin/")
        if words[0] == "sudo":
            del words[0]
        if not words or words[0] not in COMMANDS:
            raise NotUnderstoodError(f"line {command.line}: {command.text!r}: not a command this test knows")
        complaint = COMMANDS[words[0]](words)
        if complaint is not None:
            return f"line {command.line}: {command.text!r}: {complaint}"
    return None


# --- what a page says that can be checked without running it


def complaints_about(page: str, directory: Path = ROOT) -> list[str]:
    """Everything wrong with a page that shows without running it. `directory` is where its links start."""
    found = [f"a link to {link}, which is not there" for link in LINK.findall(page) if not (directory / link).exists()]
    try:
        blocks = blocks_of(page)
    except NotUnderstoodError as error:
        return [*found, str(error)]
    for number, line in prose_of(page, blocks):
        if PLACEHOLDER.fullmatch(line):
            found.append(f"line {number}: {line.strip()}: a placeholder")
        missing = [path for path in PATH.findall(line) if not (ROOT / path).exists()]
        found += [f"line {number}: {path} is not there" for path in missing]
    for block in blocks:
        try:
            found += complaints_about_block(block)
        except NotUnderstoodError as error:
            found.append(str(error))
    return found


def prose_of(page: str, blocks: list[Block]) -> list[tuple[int, str]]:
    """The lines of a page outside its fenced blocks, with their numbers."""
    fenced = {number for block in blocks for number in range(block.line - 1, block.line + block.text.count("\n") + 1)}
    return [(number, line) for number, line in enumerate(page.splitlines(), 1) if number not in fenced]


def complaints_about_block(block: Block) -> list[str]:
    """Everything wrong with one block that shows without running it."""
    if block.tag in ("bash", "console"):
        commands = commands_of(block)
        found = [
            f"line {command.line}: {command.text!r}: a placeholder in its output: {line}"
            for command in commands
            for line in (command.output or "").splitlines()
            if PLACEHOLDER_IN_OUTPUT.search(line)
        ]
        if block.tag == "console":
            commands = [command for command in commands if not runs_for_real(command)]
        return found + [complaint for complaint in map(complaint_about, commands) if complaint is not None]
    if block.tag == "python":
        parsed(block)
    elif block.tag in ("toml", "json"):
        parse: Callable[[str], Any] = tomllib.loads if block.tag == "toml" else json.loads
        try:
            parse(block.text)
        except ValueError as error:
            return [f"line {block.line}: not {block.tag}: {error}"]
    elif block.tag in ("yaml", "dockerfile"):
        if not any(_is_excerpt(block.text, path) for path in (ROOT / "compose").rglob("*")):
            return [f"line {block.line}: not an excerpt of a file below compose/"]
    elif block.tag not in ("text", "mermaid"):
        raise NotUnderstoodError(f"line {block.line}: a block tagged {block.tag!r} is not understood")
    return []


def _is_excerpt(text: str, path: Path) -> bool:
    if not path.is_file():
        return False
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    wanted = [line.strip() for line in text.splitlines()]
    return any(lines[start : start + len(wanted)] == wanted for start in range(len(lines)))


# --- what a page does


def run_page(page: str, seeds: str, directory: Path) -> None:
    """Run the Python of a page, then its console commands, in `directory` against the cluster at `seeds`."""
    blocks = blocks_of(page)
    script = directory / "page.py"
    script.write_text(SEEDS.sub(seeds, script_of(blocks)), encoding="utf-8")
    done = run_tool([sys.executable, str(script)], directory)
    assert done.returncode == 0, f"the page's Python failed; line numbers are those of the page\n{done.stdout}"
    for block in blocks:
        if block.tag == "python" and is_pytest(block):
            tests = directory / f"test_line_{block.line}.py"
            tests.write_text(SEEDS.sub(seeds, block.text), encoding="utf-8")
            done = run_tool([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tests)], directory)
            assert done.returncode == 0, f"the tests at line {block.line} failed\n{done.stdout}"
        elif block.tag == "console":
            for command in filter(runs_for_real, commands_of(block)):
                run_command(command, seeds, directory)


def run_command(command: Command, seeds: str, directory: Path) -> None:
    """Run one gimmal command and compare what it prints, `...` standing for anything."""
    text = STANDS_FOR.get(command.text, command.text)
    words = shlex.split(SEEDS.sub(seeds, text), comments=True)
    while "=" in words[0]:
        del words[0]
    done = run_tool(words, directory, GIMMAL_SEEDS=seeds)
    if command.output is None:
        assert done.returncode == 0, f"line {command.line}: {command.text!r} ends with {done.returncode}\n{done.stdout}"
        return
    shown, printed = command.output.strip() + "\n", done.stdout.strip() + "\n"
    same = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
    assert same, f"line {command.line}: {command.text!r} prints\n{printed}and the page shows\n{shown}"


def run_tool(words: list[str], directory: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment; what it prints to either stream is in `stdout`."""
    quiet = {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, **quiet, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def needs_a_cluster(page: str) -> bool:
    """Whether something on the page talks to a cluster that it did not start itself."""
    for block in blocks_of(page):
        if block.tag == "python" and SEEDS.search(block.text):
            return True
        if block.tag == "console" and any(map(runs_for_real, commands_of(block))):
            return True
    return False
