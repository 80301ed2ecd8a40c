"""Transcripts: scripts of what is done to a few machines, each command with what came of it.

    stage raft

    # A comment, and empty lines, are for the reader.
    cluster n1 n2 n3
      n1: follower, term 1

A line at the margin is a command; the indented lines below it are its output. The first command names the stage, which
is the module `<name>_stage.py` beside this one: its class `Stage` performs the other commands. To see what a change of
the code changes, and to write a new transcript, give the commands and let the output be written:

    pytest tests/transcripts --rewrite

Then read the diff. A transcript is a test only of what somebody has read.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Protocol

import pytest

HERE = Path(__file__).parent
INDENT = "  "


class Performer(Protocol):
    """What a stage's `Stage()` is."""

    def perform(self, command: str, arguments: list[str]) -> Iterable[str]:
        """Do what a command says and return its output, line by line; raise ValueError for one that is not known."""


def without_output(text: str) -> list[str]:
    """The lines of a transcript that somebody wrote: commands, comments, empty lines."""
    return [line for line in text.splitlines() if not line.startswith(INDENT)]


def performed(script: list[str]) -> str:
    """The text of a transcript whose commands have just been performed."""
    stage: Performer | None = None
    lines = []
    for number, line in enumerate(script, 1):
        lines.append(line)
        if not line.strip() or line.startswith("#"):
            continue
        command, *arguments = line.split()
        if stage is None:
            assert command == "stage", f"{line!r}: a transcript begins by naming its stage"
            stage = import_module(f"tests.transcripts.{arguments[0]}_stage").Stage()
            continue
        try:
            lines += [INDENT + output for output in stage.perform(command, arguments)]
        except Exception as reason:
            reason.add_note(f"in command {number} of the script: {line}")
            raise
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.read_text(encoding="utf-8")
    found = performed(without_output(expected))
    if request.config.getoption("--rewrite"):
        path.write_text(found, encoding="utf-8")
    else:
        assert found.splitlines() == expected.splitlines(), f"{path.name} differs: --rewrite, then read the diff"


def test_output_is_replaced_and_nothing_else() -> None:
    text = "# why\nstage raft\n\ncluster n1\n  something else\n\n# then\nlog n1\n"
    written = performed(without_output(text))
    assert "something else" not in written
    assert without_output(written) == without_output(text)
    assert performed(without_output(written)) == written


@pytest.mark.parametrize("text", ["cluster n1", "stage raft\ncluster n1\ndance n1", "stage nowhere"])
def test_what_no_stage_knows_is_an_error(text: str) -> None:
    with pytest.raises((AssertionError, ValueError, ImportError)):
        performed(without_output(text))
