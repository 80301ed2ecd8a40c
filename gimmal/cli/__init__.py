"""The `gimmal` command.

`app` has the application, the options that commands share and what becomes of errors; `node`, `cluster`, `operator`,
`keys` and `demo` have the commands. Importing them is quick, so that `--help` is: a command imports the
client, the node or the tables of rich when it runs.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of this process) and return its exit status."""
    from gimmal.cli import app, cluster, demo, keys, node, operator  # noqa: F401, PLC0415 - each adds its commands to the app

    return app.run(arguments)
