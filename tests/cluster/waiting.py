"""Waiting for what real processes do: for a condition, never for a while."""

import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as the condition holds; fail when it has not within 30 s."""
    give_up_at_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at_s, f"waited {PATIENCE_S:g} s in vain until {what}"
        time.sleep(0.02)


def state_of(pid: int) -> str:
    """The state of a process as the kernel names it ("S", "T", ...); "" when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state = stat.rpartition(")")[2].split()[0]
    return "" if state in "ZX" else state  # a zombie has ended, and whoever adopted it has not noticed yet
