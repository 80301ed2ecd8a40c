"""Child processes of the benchmarks, and what /proc says about a process.

Every child is started in a session of its own, so that Ctrl-C reaches only the benchmark, which then stops
them by pid. Where `setpriv` is there (Debian's util-linux), the kernel stops them if the benchmark is killed.

CPU time has the resolution of the kernel's clock tick (10 ms), which is 1 % of a round of one second.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

STOP_TIMEOUT_S = 5.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LOOPBACK = "127.0.0.1"


def start_child(command: Sequence[str], *, stdout: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a child that ends with this process at the latest; the pid is that of `command` itself."""
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    return subprocess.Popen(
        [*guard, *command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        start_new_session=True,
    )


def stop_children(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask all children to end, then insist; returns when none of them is left."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()


def free_ports(count: int) -> list[int]:
    """Return different TCP ports that are free on loopback now (another process may still take one)."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def parse_cpu_ticks(stat: str) -> int:
    """Return utime + stime, in clock ticks, from the text of /proc/PID/stat.

    The command name, in parentheses, may contain anything, so fields are counted from its last parenthesis.
    """
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time that the processes, with all their threads, have used so far, in seconds."""
    return sum(parse_cpu_ticks(Path(f"/proc/{pid}/stat").read_text()) for pid in pids) / TICKS_PER_S


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the sum of the resident set sizes, in bytes."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * PAGE_BYTES
