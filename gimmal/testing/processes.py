"""Node processes that never outlive the process that started them.

A `ProcessGroup` has a keeper: a shell that leads a process group of its own and waits for the end of its
input, which comes when the starting process dies, in whatever way. Then the keeper removes the directory and
kills the whole group: also nodes that SIGSTOP has stopped, also one that was just being started. Being apart,
the group hears nothing of Ctrl-C in a terminal: that is for the starting process, which then cleans up.
"""

import os
import shutil
import signal
import subprocess
import sys
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
        self._keeper = subprocess.Popen(  # noqa: S603 - the script is ours, the directory an argument
            ["/bin/sh", "-c", _KEEPER_SCRIPT, "gimmal-keeper", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def start_node(self, arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start `gimmal node` with arguments; what it prints is appended to `log`.

        Settings in the environment (`GIMMAL_...`) are for the user's own nodes and do not reach it.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIMMAL_")}
        # The node runs the same gimmal as we do, and no module that happens to lie in the current directory.
        package_root = str(Path(gimmal.__file__).parent.parent)
        search_path = [package_root, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(search_path)
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "gimmal", "node", *arguments],
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
        """Kill everything and remove the directory; the nodes have nothing to save."""
        # The keeper was never waited for, so its pid, which is the group's, cannot belong to anybody else.
        os.killpg(self._keeper.pid, signal.SIGKILL)
        for process in (*self._processes, self._keeper):
            process.wait()
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        shutil.rmtree(self.directory, ignore_errors=True)
