"""`gimmal status` and `gimmal health`: how the cluster is, and how one node is."""

import time
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
from gimmal.errors import GimmalError, NoRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gimmal.client.overview import Cluster, NodeInfo, PartitionInfo

_NODES_AT_ONCE = 32
_STATUS_TIMEOUT_S = 2.0
_LOOKS_MAX = 3
_INTERVAL_S = 1.0
_INTERVAL_MIN_S = 0.1
_INTERVAL_MAX_S = 3600.0

Facts = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node's row of the table, if there is one, and what the node says of itself (nothing if it does not answer)."""

    address: str
    row: "NodeInfo | None"
    facts: Facts

    @property
    def name(self) -> str:
        """The node's name; of a node that nobody knows and that does not answer, its address."""
        return self.row.name if self.row is not None else str(self.facts.get("name", self.address))

    @property
    def state(self) -> str:
        """What the node says, unless the table knows better or nobody answers."""
        if self.row is not None and self.row.state not in ("alive", "unreachable"):
            return self.row.state
        return str(self.facts.get("state", "unreachable"))

    @property
    def why(self) -> str:
        """What a node that does not serve says it waits for."""
        return str(self.facts.get("why", ""))

    @property
    def role(self) -> str:
        """What the node is in the meta group: leader, voter, learner or none. The table only knows voters."""
        known = self.row.role if self.row is not None else ""
        return str(self.facts.get("meta_role", known or "none"))

    def as_fields(self) -> dict[str, Any]:
        """Return what `--json` shows; what only the node knows is null when it does not answer."""
        row, own = self.row, ("table_version", "entries", "memory_bytes", "operations", "uptime_s")
        return {
            "name": self.name,
            "state": self.state,
            "why": self.why,
            "addresses": {name: addresses._asdict() for name, addresses in row.addresses.items()} if row else {},
            "incarnation": row.incarnation if row else self.facts.get("incarnation"),
            "role": self.role,
            "partitions_led": row.partitions_led if row else 0,
            "partitions_held": row.partitions_held if row else 0,
            **{name: self.facts.get(name) for name in own},
        }


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """One look at a cluster; `cluster` is None while the nodes that answer belong to none."""

    cluster: "Cluster | None"
    nodes: tuple[NodeReport, ...]

    def as_fields(self) -> dict[str, Any]:
        """Return what `--json` shows."""
        cluster = self.cluster
        return {
            "cluster": cluster.id if cluster else None,
            "table_version": cluster.table_version if cluster else 0,
            "voters": cluster.voters if cluster else (),
            "partitions": len(cluster.partitions) if cluster else 0,
            "partitions_without_leader": self.numbers(lambda partition: partition.leader is None),
            "partitions_lost": self.numbers(lambda partition: partition.is_lost),
            "nodes": [node.as_fields() for node in self.nodes],
        }

    def numbers(self, choose: "Callable[[PartitionInfo], bool]") -> list[int]:
        """Return the numbers of some partitions."""
        partitions = self.cluster.partitions if self.cluster is not None else ()
        return [number for number, partition in enumerate(partitions) if choose(partition)]


@app.command()
def status(
    *,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _STATUS_TIMEOUT_S,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking until Ctrl-C.")] = False,
    interval: Annotated[
        float,
        typer.Option(
            min=_INTERVAL_MIN_S,
            max=_INTERVAL_MAX_S,
            metavar="SECONDS",
            help="With --watch: the pause between two looks.",
        ),
    ] = _INTERVAL_S,
    as_json: Json = False,
) -> int:
    """Show the nodes of a cluster and what they hold.

    A node that does not answer within the timeout is shown as unreachable. With --watch and --json, each look is one
    line. Exit status 1: there is no cluster yet.
    """
    from gimmal.client.pump import check_timeout, parse_seeds  # noqa: PLC0415 - see gimmal.cli

    addresses = parse_seeds(seeds)
    check_timeout(timeout)
    if watch:
        return _watch(addresses, timeout, interval, as_json=as_json)
    report = _look(addresses, timeout)
    if as_json:
        print_json(report.as_fields())
    else:
        from gimmal.cli.screen import console, rendered  # noqa: PLC0415 - see gimmal.cli

        console().print(rendered(report))
    return DONE if report.cluster is not None else FAILED


def _watch(seeds: tuple[str, ...], timeout: float, interval: float, *, as_json: bool) -> int:
    """Show one look after the other, what goes wrong included, until Ctrl-C."""
    try:
        if as_json:
            for report in _looks(seeds, timeout, interval):
                print_json(_problem(report) if isinstance(report, GimmalError) else report.as_fields())
        else:
            from gimmal.cli.screen import follow  # noqa: PLC0415 - see gimmal.cli

            follow(_looks(seeds, timeout, interval))
    except KeyboardInterrupt:
        pass
    return DONE


def _problem(error: GimmalError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def _looks(seeds: tuple[str, ...], timeout: float, interval: float) -> "Iterator[ClusterReport | GimmalError]":
    """Look at the cluster for ever; whoever was in it once is asked too, should all seeds be gone."""
    known = seeds
    while True:
        try:
            report = _look(known, timeout)
        except GimmalError as error:
            yield error
        else:
            known = tuple(dict.fromkeys([*seeds, *(node.address for node in report.nodes)]))
            yield report
        time.sleep(interval)


def _look(seeds: tuple[str, ...], timeout: float) -> ClusterReport:
    """Return the cluster by the newest table that its nodes know of, and what each node says.

    Raises:
        NoRoute: no node answers.
    """
    asked, facts_by_address = set(seeds), _ask(seeds, timeout)
    if not facts_by_address:
        raise NoRoute(
            f"no cluster table from {', '.join(seeds)} within {timeout:g} s: none answers. Check that the nodes run "
            "and that these are their client addresses"
        )
    if not _informed(facts_by_address):
        return ClusterReport(None, tuple(NodeReport(one, None, facts_by_address.get(one, {})) for one in seeds))
    for _ in range(_LOOKS_MAX):  # a node that is cut off may have an old table: others know better
        best = _informed(facts_by_address)
        cluster = _fetch(best, timeout)
        address_by_name = {row.name: _address_for(row, seeds, cluster) for row in cluster.nodes}
        others = [address for address in address_by_name.values() if address not in asked]
        asked.update(others)
        facts_by_address |= _ask(others, timeout)
        if _version(facts_by_address[_informed(facts_by_address)]) <= cluster.table_version:
            break
    reports = []
    for row in cluster.nodes:
        address = address_by_name[row.name]
        facts = facts_by_address.get(address, {})
        is_itself = facts.get("name") == row.name  # else somebody has its address who came later
        reports.append(NodeReport(address, row, facts if is_itself else {}))
    return ClusterReport(cluster, tuple(reports))


def _ask(addresses: "Sequence[str]", timeout: float) -> dict[str, Facts]:
    """Return what the nodes that answer say of themselves."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - see gimmal.cli

    from gimmal.client.inquiry import ask_status  # noqa: PLC0415

    def ask(address: str) -> Facts:
        try:
            return ask_status(address, timeout)
        except GimmalError:
            return {}

    with ThreadPoolExecutor(_NODES_AT_ONCE) as pool:
        answers = zip(addresses, pool.map(ask, addresses), strict=True)
        return {address: facts for address, facts in answers if facts}


def _fetch(address: str, timeout: float) -> "Cluster":
    from gimmal.client.sync import connect  # noqa: PLC0415 - see gimmal.cli

    with connect(address, timeout=timeout) as client:
        return client.cluster()


def _informed(facts_by_address: dict[str, Facts]) -> str:
    """Return the address of the node that has the newest table; empty if none has one."""
    having = [address for address, facts in facts_by_address.items() if _version(facts) > 0]
    return max(having, key=lambda address: _version(facts_by_address[address]), default="")


def _version(facts: Facts) -> int:
    version = facts.get("table_version", 0)
    return version if isinstance(version, int) else 0


def _address_for(row: "NodeInfo", seeds: tuple[str, ...], cluster: "Cluster") -> str:
    """Return a node's client address in the network in which a seed appears, as a client would choose it."""
    for other in cluster.nodes:
        for network, addresses in other.addresses.items():
            if addresses.client in seeds and network in row.addresses:
                return row.addresses[network].client
    return next(iter(row.addresses.values())).client


@app.command()
def health(
    *,
    node: Annotated[
        str, typer.Option(envvar="GIMMAL_CLIENT", metavar="HOST:PORT", help="The node's client address.")
    ] = DEFAULT_ADDRESS,
    in_sync: Annotated[
        bool,
        typer.Option("--in-sync", help="Demand that all copies on it have caught up: then another may be stopped."),
    ] = False,
    timeout: Timeout = _STATUS_TIMEOUT_S,
    as_json: Json = False,
) -> int:
    """Ask one node whether it serves: exit status 0 if it does, else 1.

    This is made for the health checks of containers: no other node is asked. Whoever restarts one node after the other
    waits for --in-sync before the next.
    """
    from gimmal.client.inquiry import ask_status  # noqa: PLC0415 - see gimmal.cli
    from gimmal.client.pump import check_timeout, parse_seeds  # noqa: PLC0415

    (address, *_) = parse_seeds(node)
    host, _, port = address.rpartition(":")
    if host in ("*", "0.0.0.0"):  # noqa: S104 - GIMMAL_CLIENT may say where the node listens: everywhere
        address = f"127.0.0.1:{port}"
    facts = ask_status(address, check_timeout(timeout))
    behind = int(facts["partitions_behind"]) if in_sync else 0
    is_healthy = facts["state"] == "serving" and not behind
    if as_json:
        print_json({"healthy": is_healthy, "address": address, **facts})
    else:
        why = f" ({facts['why']})" if facts.get("why") else ""
        catches_up = f", {behind} of {facts['partitions_held']} copies are not in sync yet" if behind else ""
        print_text(f"node {facts['name']} at {address}: {facts['state']}{why}{catches_up}")
    return DONE if is_healthy else FAILED
