"""Processes, nodes above all, that never outlive the process that started them.

A `ProcessGroup` has a keeper: a shell that leads a process group of its own and waits for the end of its
input, which comes when the starting process closes it or dies, in whatever way. Then the keeper removes the
directory and kills the whole group: also nodes that SIGSTOP has stopped, also one that was just being started.
Being apart, the group hears nothing of Ctrl-C in a terminal: that is for the starting process. Even when it
interrupts `close`, the keeper finishes the work.

A process forked from the starting one (`os.fork`, `multiprocessing`) lets go of the keeper's input at once: it
may live on without keeping the nodes alive.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Final

import gimmal

# The kernel sends SIGHUP to a group that has stopped members when nobody is left who could resume them.
_KEEPER_SCRIPT: Final = 'trap "" HUP; read -r _; rm -rf -- "$1"; kill -KILL 0'


class ProcessGroup:
    """Processes that share a directory and an end. `directory` exists already and is removed with them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._keeper = subprocess.Popen(  # noqa: S603 - the script is ours, the directory an argument
                ["/bin/sh", "-c", _KEEPER_SCRIPT, "gimmal-keeper", str(directory)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
            _groups.add(self)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def start_node(self, arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start `gimmal node` with arguments; what it prints is appended to `log`."""
        return self.start_module(["gimmal", "node", *arguments], log)

    def start_module(self, arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a Python module with arguments; what it prints is appended to `log`.

        Settings in the environment (`GIMMAL_...`) are for the user's own nodes and do not reach it.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIMMAL_")}
        # It runs the same gimmal as we do, and no module that happens to lie in the current directory.
        package_root = str(Path(gimmal.__file__).parent.parent)
        search_path = [package_root, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(search_path)
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=self._keeper.pid,
            )
        self._processes.append(process)
        return process

    def kill_nodes(self) -> None:
        """Kill the nodes; the group can start others."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def close(self) -> None:
        """Kill everything and remove the directory; the nodes have nothing to save.

        From its first step on this comes to its end without us. When it was interrupted, another call goes on.
        """
        self.let_go()
        if self._keeper.returncode is None:
            # Until the keeper is waited for, its pid, which is the group's, cannot belong to anybody else. The
            # signal is for the nodes of a keeper that somebody has killed: it could not do it itself.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._keeper.pid, os.WEXITED | os.WNOWAIT)
                os.killpg(self._keeper.pid, signal.SIGKILL)
        for process in (*self._processes, self._keeper):
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def let_go(self) -> None:
        """Close our end of the keeper's input. It ends everything when no other process has that end."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()


_groups: Final[weakref.WeakSet[ProcessGroup]] = weakref.WeakSet()


def _let_go_of_all() -> None:
    for group in list(_groups):
        group.let_go()


os.register_at_fork(after_in_child=_let_go_of_all)
