"""The `gimmal` command.

`app` has the application, the options that commands share and what becomes of errors; `node`, `cluster`, `operator`,
`keys`, `queues` and `demo` have the commands. Importing them is quick, so that `--help` is: a command imports the
client, the node or the tables of rich when it runs.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of this process) and return its exit status."""
    from gimmal.cli import (  # noqa: PLC0415 - each adds its commands to the app
        app,
        cluster,  # noqa: F401
        demo,  # noqa: F401
        keys,  # noqa: F401
        node,  # noqa: F401
        operator,  # noqa: F401
        queues,  # noqa: F401
        verify,  # noqa: F401
    )

    return app.run(arguments)
