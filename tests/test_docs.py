"""The documentation is under test: every fenced block of every page is run, or checked, or fails.

The rules for the pages are in `doc_pages.py`. Its own tests come first and show each rule catching something.
"""

import contextlib
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import doc_pages
from tests.doc_pages import Block, Command, NotUnderstoodError

ROOT = doc_pages.ROOT


def page_of(text: str) -> str:
    """A sample page; `'` fences stand for backticks, so that they can be indented and quoted here."""
    return textwrap.dedent(text).replace("'''", "```").lstrip("\n")


# --- reading a page

STORY = page_of(
    """
    Text with `code` and ```inline fences```.

    '''python
    x = 1
    if x:
        x = 2
    '''

    - in a list:

      '''console
      $ gimmal get a
      1
      '''

    ''''''text
    '''python
    not a block of its own
    '''
    ''''''

    '''python
    print(x)
    assert x == 2
    '''
    """
)


def test_blocks_are_found_with_their_tags_lines_and_text() -> None:
    assert doc_pages.blocks_of(STORY) == [
        Block("python", 4, "x = 1\nif x:\n    x = 2\n"),
        Block("console", 12, "$ gimmal get a\n1\n"),
        Block("text", 17, "```python\nnot a block of its own\n```\n"),
        Block("python", 23, "print(x)\nassert x == 2\n"),
    ]


def test_the_script_of_a_page_keeps_its_line_numbers() -> None:
    lines = doc_pages.script_of(doc_pages.blocks_of(STORY)).splitlines()
    page = STORY.splitlines()
    assert {number for number, line in enumerate(lines) if line} == {3, 4, 5, 22, 23}
    assert all(line in ("", page[number]) for number, line in enumerate(lines))


def test_a_block_that_is_never_closed_is_an_error() -> None:
    with pytest.raises(NotUnderstoodError, match="line 3: the block is never closed"):
        doc_pages.blocks_of(page_of("One.\n\n'''python\nx = 1\n"))


def test_commands_of_a_console_block_carry_their_output() -> None:
    text = "$ gimmal set a \\\n> 1\nOK\n$ gimmal get a\n1\n\n2\n$ make test\n"
    assert doc_pages.commands_of(Block("console", 5, text)) == [
        Command(5, "gimmal set a 1", "OK\n"),
        Command(8, "gimmal get a", "1\n\n2\n"),
        Command(12, "make test", None),
    ]


def test_commands_of_a_bash_block_are_its_lines() -> None:
    text = "# first\nmake demo\n\ngimmal node \\\n    --bootstrap\nmake test\n"
    assert doc_pages.commands_of(Block("bash", 1, text)) == [
        Command(2, "make demo", None),
        Command(4, "gimmal node --bootstrap", None),
        Command(6, "make test", None),
    ]


def test_output_before_the_first_command_is_an_error() -> None:
    with pytest.raises(NotUnderstoodError, match="line 7"):
        doc_pages.commands_of(Block("console", 7, "1\n$ gimmal get a\n"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make test  # two minutes", [["make", "test"]]),
        ("cd gimmal && make test", [["cd", "gimmal"], ["make", "test"]]),
        ("A=1 B=2 gimmal get 'a b' x=y", [["gimmal", "get", "a b", "x=y"]]),
        ("gimmal node &", [["gimmal", "node"]]),
        ("gimmal status --json 2>&1 | head > out.txt", [["gimmal", "status", "--json"], ["head"]]),
    ],
)
def test_a_command_line_is_split_into_simple_commands(command: str, words: list[list[str]]) -> None:
    assert doc_pages.words_of(command) == words


@pytest.mark.parametrize("command", ["(cd a; make)", "echo $(date)", "gimmal get 'a"])
def test_a_shell_construct_is_an_error(command: str) -> None:
    with pytest.raises(NotUnderstoodError):
        doc_pages.words_of(command)


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("gimmal get a", True),
        ("gimmal queue stats tasks --seeds 127.0.0.1:7700", True),
        ("gimmal get --help", False),
        ("gimmal node --bootstrap", False),
        ("gimmal demo", False),
        ("make test", False),
    ],
)
def test_only_commands_that_ask_a_cluster_run(command: str, runs: bool) -> None:
    assert doc_pages.runs_for_real(Command(1, command, None)) is runs


# --- checking a page


@pytest.mark.parametrize(
    ("tag", "text", "complaint"),
    [
        ("", "x", "tagged '' is not understood"),
        ("ruby", "x", "tagged 'ruby' is not understood"),
        ("python", "x = 1\nx ===\n", "line 2: not Python"),
        ("python", ">>> x", "not Python"),
        ("toml", "x = ", "not toml"),
        ("json", "{1}", "not json"),
        ("yaml", "services: [none-of-ours]", "not an excerpt"),
        ("bash", "make test nonsense", "no target nonsense"),
        ("bash", "pip install 'gimmal[all]'", "no extra all"),
        ("bash", "python -m pip install '.[dev,more]'", "no extra more"),
        ("bash", "python -m benchmarks.nonsense", "no module benchmarks.nonsense"),
        ("bash", "pytest tests/test_nonsense.py::test_a", "no file tests/test_nonsense.py"),
        ("bash", "docker compose -f compose/nonsense.yml up", "no file compose/nonsense.yml"),
        ("bash", "frobnicate", "not a command this test knows"),
        ("bash", "for x in 1; do make; done", "not a command this test knows"),
        ("console", "$ make nonsense", "no target nonsense"),
        ("console", "$ gimmal get a | gimmal set b", "one gimmal command per line"),
    ],
)
def test_a_bad_block_is_caught(tag: str, text: str, complaint: str) -> None:
    found = doc_pages.complaints_about(f"```{tag}\n{text}\n```\n")
    assert len(found) == 1
    assert complaint.replace("line 2", "line 3") in found[0]


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("python", "x = 1"),
        ("toml", "x = 1"),
        ("json", "[1]"),
        ("text", "anything"),
        ("bash", "make test\nmake check PYTHON=python3.12"),
        ("bash", "git clone https://example.org/gimmal && cd gimmal"),
        ("bash", "python3 -m venv .venv\n. .venv/bin/activate\npip install -e '.[dev]'"),
        ("bash", ".venv/bin/pytest tests/test_docs.py::test_x --hypothesis-seed=1"),
    ],
)
def test_a_good_block_passes(tag: str, text: str) -> None:
    assert doc_pages.complaints_about(f"```{tag}\n{text}\n```\n") == []


def test_links_must_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "there.md").touch()
    page = "[a](there.md#part) [b](https://example.org/x) [c](#part) [d](gone.md) ![picture](gone.svg)"
    found = doc_pages.complaints_about(page, tmp_path)
    assert found == [f"a link to {name}, which is not there" for name in ("gone.md", "gone.svg")]


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("Some text.\n\nFIGURES\n\nMore.\n", "line 3: FIGURES: a placeholder"),
        ("'''text\nOK\n'''\n  OK\n'''text\nOK\n'''\n", "line 4: OK: a placeholder"),
        (
            "'''console\n$ make test\n...\n=========== TESTLINE ===========\n'''\n",
            "line 2: 'make test': a placeholder in its output: =========== TESTLINE ===========",
        ),
        (
            "'''console\n$ make test\n1\n$ gimmal status\n=FIGURES=\n'''\n",
            "line 4: 'gimmal status': a placeholder in its output: =FIGURES=",
        ),
        ("Here\nare `tests/unit` and\n`tests/nonsense`.\n", "line 3: tests/nonsense is not there"),
    ],
)
def test_a_placeholder_and_a_path_to_nothing_are_caught(page: str, complaint: str) -> None:
    assert doc_pages.complaints_about(page_of(page)) == [complaint]


def test_words_in_capitals_among_others_are_no_placeholders() -> None:
    page = "TTL is a word.\nOK.\nA\n\n'''console\n$ make test\nOK\n===== 3 passed =====\nLIMITS = X\nCOLUMNS=80\n'''\n"
    assert doc_pages.complaints_about(page_of(page)) == []


# --- running a page, with a stand-in for the `gimmal` command


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gimmal` that prints its arguments and GIMMAL_SEEDS, and fails on `gimmal del`."""
    program = tmp_path / "bin" / "gimmal"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\necho "seeds $GIMMAL_SEEDS"\ntest "$1" != del\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(doc_pages, "TOOLS", program.parent)
    return tmp_path


SEEDS = "127.0.0.1:9001,127.0.0.1:9002"


def test_the_examples_of_a_page_meet_the_cluster(stand_in: Path) -> None:
    page = page_of(
        f"""
        '''python
        seeds = "127.0.0.1:7700,127.0.0.1:7710"
        '''
        '''python
        assert seeds == "{SEEDS}"
        '''
        '''python
        def test_something():
            assert "127.0.0.1:7700" == "{SEEDS}"
        '''
        '''console
        $ gimmal get a --seeds 127.0.0.1:7700  # a comment
        get a --seeds 127.0.0.1:9001...
        seeds ...:9002
        $ gimmal status
        $ make test
        whatever
        '''
        """
    )
    assert doc_pages.needs_a_cluster(page)
    doc_pages.run_page(page, SEEDS, stand_in)


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("'''python\nx = 1\nassert x == 2\n'''\n", r"page.py\", line 5"),
        ("'''python\ndef test_a():\n    assert 1 == 2\n'''\n", "the tests at line 4 failed"),
        ("'''console\n$ gimmal get a\nget b\n'''\n", "line 4: 'gimmal get a' prints"),
        ("'''console\n$ gimmal del a\n'''\n", "'gimmal del a' ends with 1"),
    ],
)
def test_an_example_that_fails_is_caught(stand_in: Path, block: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        doc_pages.run_page(page_of("A page.\n\n" + block), SEEDS, stand_in)


def test_a_page_that_only_shows_commands_needs_no_cluster() -> None:
    assert not doc_pages.needs_a_cluster(page_of("'''bash\nmake demo\ngimmal get a\n'''\n"))


# --- the pages themselves

PAGES = [path for name in ("README.md", "CONTRIBUTING.md") if (path := ROOT / name).exists()]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
"""It shows shapes, which are Python, but no examples that run."""
EXAMPLES = [path for path in PAGES if re.search(r"^ *(```|~~~)\s*(python|console)", path.read_text(), re.MULTILINE)]


@contextlib.contextmanager
def seeds_for(page: str) -> Iterator[str]:
    """The seeds of a fresh cluster if the page needs one: what one page stores, the next does not find."""
    if not doc_pages.needs_a_cluster(page):
        yield "127.0.0.1:7700"
        return
    with importlib.import_module("gimmal.testing").LocalCluster(nodes=3) as cluster:
        yield cluster.seeds


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [*PAGES, ARCHITECTURE], ids=_name)
def test_a_page_is_understood(path: Path) -> None:
    assert doc_pages.complaints_about(path.read_text(encoding="utf-8"), path.parent) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_the_examples_of_a_page_run(path: Path, tmp_path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    with seeds_for(page) as seeds:
        doc_pages.run_page(page, seeds, tmp_path)


def test_the_reference_shows_the_local_cluster_that_there_is() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = text.partition("## Testing with a real cluster\n")[2].partition("\n## ")[0]
    local_cluster = importlib.import_module("gimmal.testing").LocalCluster
    parameters = inspect.signature(local_cluster).parameters.values()
    bare = inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])
    assert f"LocalCluster{bare}".replace("'", '"') in section
    methods = set(re.findall(r"`(\w+)\(", section))
    properties = set(re.findall(r"`([a-z]\w*)`", section)) - {"gimmal_cluster", "gimmal_prefix", "with"}
    public = {name for name in dir(local_cluster) if not name.startswith("_")}
    assert methods == {name for name in public if callable(getattr(local_cluster, name))}
    assert properties == (public - methods) | {"names"}


def test_the_reference_tells_the_limits_and_the_settings_that_there_are() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = text.partition("## Limits\n")[2]
    told = dict(re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE))
    limits = importlib.import_module("gimmal.wire.limits")
    numbers = {what: [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", told[what])] for what in told}
    assert numbers["nodes; networks of a node"] == [limits.NODES_MAX, limits.NETWORKS_MAX]
    assert numbers["key"] == [1, limits.KEY_BYTES_MAX]
    assert [numbers[what][0] * 2**20 for what in ("value", "message", "`set_many` to one partition")] == [
        *(limits.VALUE_BYTES_MAX, limits.MESSAGE_BYTES_MAX, limits.SET_MANY_BYTES_MAX)
    ]
    assert numbers["writes of one client on their way to one partition"] == [limits.SESSION_REPLIES_MAX]
    assert numbers["timeout"] == [limits.TIMEOUT_MAX_S]
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    names = importlib.import_module("gimmal.node.config").NAMES
    assert tomllib.loads(block).keys() == set(names)


def test_what_a_source_distribution_includes_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [pattern for pattern in included if not list(ROOT.glob(pattern))] == []
