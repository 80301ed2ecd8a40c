"""What `gimmal status` shows on a screen: one look at a cluster as a table, once or live.

It is apart from `gimmal.cli.cluster` because it needs rich, which takes its time to load.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gimmal.errors import GimmalError

if TYPE_CHECKING:
    from gimmal.cli.cluster import ClusterReport

_WIDTH_UNSEEN: Final = 200


def console() -> Console:
    """Return a console for standard output; a table that is read by a program is not cut to 80 columns."""
    found = Console(highlight=False, soft_wrap=True)
    return found if found.is_terminal else Console(highlight=False, soft_wrap=True, width=_WIDTH_UNSEEN)


def follow(reports: "Iterable[ClusterReport | GimmalError]") -> None:
    """Show reports as they come, each in the place of the one before if the output is a terminal."""
    output = console()
    if not output.is_terminal:
        for report in reports:
            output.print(_rendered_or_problem(report))
        return
    with Live(console=output, auto_refresh=False) as live:
        for report in reports:
            live.update(_rendered_or_problem(report), refresh=True)


def _rendered_or_problem(report: "ClusterReport | GimmalError") -> RenderableType:
    if isinstance(report, GimmalError):
        return Text(f"{type(report).__name__}: {report}")
    return rendered(report)


def rendered(report: "ClusterReport") -> RenderableType:
    """Return a report as people read it: a line for each node, what nodes wait for, and the cluster."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "client address", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("incarnation", justify="right", no_wrap=True)
    table.add_column("role", no_wrap=True)
    for heading in ("table", "led", "held", "entries", "memory", "operations"):
        table.add_column(heading, justify="right", no_wrap=True)
    for node in report.nodes:
        fields = node.as_fields()
        memory = fields["memory_bytes"]
        addresses = [addresses.client for addresses in node.row.addresses.values()] if node.row else [node.address]
        numbers = ("table_version", "partitions_led", "partitions_held", "entries")
        table.add_row(
            node.name,
            ", ".join(addresses),
            node.state,
            _shown(fields["incarnation"]),
            node.role,
            *(_shown(fields[name]) for name in numbers),
            _shown(memory) if memory is None else _shown_bytes(memory),
            _shown(fields["operations"]),
        )
    reasons = [Text(f"{node.name}: {node.why}") for node in report.nodes if node.why and node.state != "serving"]
    return Group(table, *reasons, Text(_about(report)))


def _about(report: "ClusterReport") -> str:
    cluster = report.cluster
    if cluster is None:
        return "no cluster yet"
    partitions = cluster.partitions
    text = f"cluster {cluster.id}, table version {cluster.table_version}, {len(partitions)} partitions"
    leaderless = sum(partition.leader is None for partition in partitions)
    lost = sum(partition.is_lost for partition in partitions)
    text += f", {leaderless} of them without a leader" if leaderless else ""
    return text + (f", {lost} of those lost: see gimmal recover --help" if lost else "")


def _shown(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _shown_bytes(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
