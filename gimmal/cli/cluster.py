"""`gimmal status` and `gimmal health`: how the cluster is, and how one node is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gimmal.cli.app import (
    DEFAULT_ADDRESS,
    DONE,
    FAILED,
    Json,
    Seeds,
    Timeout,
    app,
    print_json,
    print_text,
)
from gimmal.errors import GimmalError

if TYPE_CHECKING:
    from gimmal.client.overview import Cluster, NodeInfo

_NODES_AT_ONCE = 32
_STATUS_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node's row of the table, and what the node says of itself (nothing if it does not answer)."""

    row: "NodeInfo"
    facts: dict[str, int | str]

    @property
    def state(self) -> str:
        """What the node says, unless the table knows better or nobody answers."""
        if self.row.state not in ("alive", "unreachable"):
            return self.row.state
        return str(self.facts.get("state", "unreachable"))

    def as_fields(self) -> dict[str, Any]:
        """Return what `--json` shows; what only the node knows is null when it does not answer."""
        own = ("entries", "memory_bytes", "operations", "uptime_s")
        return {
            "name": self.row.name,
            "state": self.state,
            "addresses": {name: addresses._asdict() for name, addresses in self.row.addresses.items()},
            "incarnation": self.row.incarnation,
            "partitions_led": self.row.partitions_led,
            "partitions_held": self.row.partitions_held,
            **{name: self.facts.get(name) for name in own},
        }


@app.command()
def status(*, seeds: Seeds = DEFAULT_ADDRESS, timeout: Timeout = _STATUS_TIMEOUT_S, as_json: Json = False) -> None:
    """Show the nodes of a cluster and what they hold.

    A node that does not answer within the timeout is shown as unreachable.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - see gimmal.cli

    from gimmal.client.inquiry import ask_status  # noqa: PLC0415
    from gimmal.client.pump import parse_seeds  # noqa: PLC0415
    from gimmal.client.sync import connect  # noqa: PLC0415

    with connect(seeds, timeout=timeout) as client:
        cluster = client.cluster()

    def report(row: "NodeInfo") -> NodeReport:
        try:
            return NodeReport(row, ask_status(_address_for(row, parse_seeds(seeds), cluster), timeout))
        except GimmalError:
            return NodeReport(row, {})

    with ThreadPoolExecutor(_NODES_AT_ONCE) as pool:
        reports = list(pool.map(report, cluster.nodes))
    if as_json:
        nodes = [node.as_fields() for node in reports]
        print_json({"cluster": cluster.id, "table_version": cluster.table_version, "nodes": nodes})
    else:
        _print_table(cluster, reports)


def _address_for(row: "NodeInfo", seeds: tuple[str, ...], cluster: "Cluster") -> str:
    """Return a node's client address in the network in which a seed appears, as a client would choose it."""
    for other in cluster.nodes:
        for network, addresses in other.addresses.items():
            if addresses.client in seeds and network in row.addresses:
                return row.addresses[network].client
    return next(iter(row.addresses.values())).client


def _print_table(cluster: "Cluster", reports: list[NodeReport]) -> None:
    from rich.console import Console  # noqa: PLC0415 - see gimmal.cli
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "client address", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("incarnation", "led", "held", "entries", "memory", "operations"):
        table.add_column(heading, justify="right", no_wrap=True)
    for node in reports:
        fields = node.as_fields()
        memory = fields["memory_bytes"]
        table.add_row(
            node.row.name,
            ", ".join(addresses.client for addresses in node.row.addresses.values()),
            node.state,
            *(_shown(fields[name]) for name in ("incarnation", "partitions_led", "partitions_held", "entries")),
            _shown(memory) if memory is None else _shown_bytes(memory),
            _shown(fields["operations"]),
        )
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:  # a table that is read by a program is not cut to 80 columns
        console = Console(highlight=False, soft_wrap=True, width=200)
    console.print(table)
    print_text(f"cluster {cluster.id}, table version {cluster.table_version}, {len(cluster.partitions)} partitions")


def _shown(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _shown_bytes(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


@app.command()
def health(
    *,
    node: Annotated[
        str, typer.Option(envvar="GIMMAL_CLIENT", metavar="HOST:PORT", help="The node's client address.")
    ] = DEFAULT_ADDRESS,
    timeout: Timeout = _STATUS_TIMEOUT_S,
    as_json: Json = False,
) -> int:
    """Ask one node whether it serves: exit status 0 if it does, else 1.

    This is made for the health checks of containers: no other node is asked.
    """
    from gimmal.client.inquiry import ask_status  # noqa: PLC0415 - see gimmal.cli
    from gimmal.client.pump import check_timeout, parse_seeds  # noqa: PLC0415

    (address, *_) = parse_seeds(node)
    host, _, port = address.rpartition(":")
    if host in ("*", "0.0.0.0"):  # noqa: S104 - GIMMAL_CLIENT may say where the node listens: everywhere
        address = f"127.0.0.1:{port}"
    facts = ask_status(address, check_timeout(timeout))
    is_serving = facts["state"] == "serving"
    if as_json:
        print_json({"healthy": is_serving, "address": address, **facts})
    else:
        print_text(f"node {facts['name']} at {address}: {facts['state']}")
    return DONE if is_serving else FAILED
