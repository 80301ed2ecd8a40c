"""What every test shares: how Hypothesis draws, how failures are replayed, how transcripts are rewritten, what is told.

Two profiles, chosen with `--hypothesis-profile`: `default` for every day, `thorough` for a long look. Neither
has a deadline per example (a shared machine stalls now and then), and both print what reproduces a failure.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    max_examples=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5_000)
settings.load_profile("default")

_TOLD = "told"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this project's tests."""
    parser.addoption("--tries", type=int, default=2, help="how often what chance decides is repeated")
    parser.addoption("--minutes", type=float, default=1.0, help="how long the storm of faults lasts")
    parser.addoption("--away", type=float, default=3.0, help="for how many seconds a node that is to catch up is away")
    parser.addoption("--storm-seed", type=int, help="which storm; else any")
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write what the commands of the transcripts give into tests/transcripts; then read the diff",
    )


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Say something about a test that passes, too: at once, or when tests run side by side, when all have ended."""
    if hasattr(request.config, "workerinput"):
        return lambda text: request.node.user_properties.append((_TOLD, text))

    def tell_now(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    return tell_now


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests that ran side by side have told."""
    for reports in list(terminalreporter.stats.values()):
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, text in report.user_properties:
                    if name == _TOLD:
                        terminalreporter.write_line(str(text))
