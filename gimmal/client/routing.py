"""Where a client sends what: one `Link` per node address, and for each partition the link and epoch to use.

The route of a partition is that of its leader. What any copy may answer takes turns among the copies (`any_link`).
"""

from collections.abc import Collection, Iterable
from typing import Final

from gimmal.cluster.table import ALIVE, PartitionRow, Table
from gimmal.errors import ConfigError
from gimmal.types import Operation


class Link:
    """The way to one node, since `opened_at`. Operations wait in `queue` until the socket takes them.

    It is watched while the node may take its time with an answer: if the connection breaks, that has to be seen.
    """

    __slots__ = ("address", "deadline", "incarnation", "is_ready", "is_watched", "opened_at", "queue", "receipt")

    def __init__(self, address: str, now: float) -> None:
        self.address = address
        self.opened_at = now
        self.incarnation = 0
        self.is_ready = False
        self.is_watched = False
        self.queue: list[Operation] = []
        self.receipt = 0
        self.deadline = 0.0  # of the operation in `queue` that may take longest


NOWHERE: Final = ""
"""The address of the link for partitions that nobody leads; its socket never becomes ready."""


class Routes:
    """All links, and the route of each partition. Seeds stay linked: they can always be asked for a table.

    `links` is replaced, never changed, so that a shell sees by identity that it has sockets to open or close.
    """

    def __init__(self, seeds: Iterable[str], network: str | None, now: float) -> None:
        self._seeds = tuple(seeds)
        self._network = network
        self._nowhere = Link(NOWHERE, now)
        self.links: dict[str, Link] = {address: Link(address, now) for address in self._seeds}
        self.by_partition: list[tuple[Link, int]] = []
        self._node_name_by_address: dict[str, str] = {}
        self._table: Table | None = None
        self._link_by_name: dict[str, Link] = {}  # of nodes that are alive
        self._links_by_partition: dict[int, tuple[Link, ...]] = {}  # to its copies, if anybody has asked for them

    def all_links(self) -> list[Link]:
        """Return every link with a queue, the one to nowhere included."""
        return [*self.links.values(), self._nowhere]

    def any_link(self, partition: int, turn: int) -> Link:
        """Return the way to a copy of a partition: another one each turn, of those that take messages if any does."""
        links = self._copies(partition)
        for offset in range(len(links)):
            link = links[(turn + offset) % len(links)]
            if link.is_ready:
                return link
        return self.by_partition[partition][0]

    def copies(self, partition: int) -> int:
        """Return how many copies of a partition there are to ask."""
        return len(self._copies(partition))

    def _copies(self, partition: int) -> tuple[Link, ...]:
        links = self._links_by_partition.get(partition)
        if links is None:
            assert self._table is not None, "partitions come with a table"
            names = self._table.partitions[partition].replicas
            links = tuple(self._link_by_name[name] for name in names if name in self._link_by_name)
            self._links_by_partition[partition] = links
        return links

    def addresses_of_copies(self, partitions: Iterable[int]) -> list[str]:
        """Return the addresses of all nodes that are alive and hold copies of partitions. Any thread may ask."""
        table = self._table
        if table is None or self._network is None:
            return []
        names = {name for partition in partitions for name in table.partitions[partition].replicas}
        rows = [row for row in table.nodes if row.name in names and row.status == ALIVE]
        return [addresses.client for row in rows if (addresses := row.addresses(self._network)) is not None]

    def who(self, address: str) -> str:
        """Return a node as people know it: its name, if known, and address."""
        name = self._node_name_by_address.get(address)
        return f"node {name} at {address}" if name else address

    def who_leads(self, partition: int) -> str:
        """Return who leads a partition, for people; if that is nobody this client can ask, why."""
        link, _ = self.by_partition[partition]
        return self.who(link.address) if link is not self._nowhere else f"led by nobody: {self._why_nobody(partition)}"

    def _why_nobody(self, partition: int) -> str:
        table = self._table
        assert table is not None, "partitions come with a table"
        row = table.partitions[partition]
        if row.leader is not None:
            return f"node {row.leader}, which leads it, has no address in network {self._network!r}"
        holders = [member.name for member in (*row.in_sync, *row.eligible)]
        if not holders:
            return f"what it held was lost with {', '.join(row.replicas)}"
        if len(holders) == 1:
            return f"its only copy is on node {holders[0]}, which was declared dead"
        return f"its copies are on nodes {', '.join(holders)}, which were declared dead"

    def adopt(self, table: Table, now: float) -> list[Operation]:
        """Route by a new table; return the operations that were queued, to be routed again.

        Raises:
            ConfigError: the network asked for does not exist in this cluster.
        """
        if self._network is None or not self.by_partition:
            self._network = self._choose_network(table)
        self._table = table
        links = {address: self.links.get(address) or Link(address, now) for address in self._seeds}
        link_by_name: dict[str | None, Link] = {}
        self._node_name_by_address, self._link_by_name, self._links_by_partition = {}, {}, {}
        for row in sorted(table.nodes, key=lambda row: row.status == ALIVE):  # the living have their addresses last
            addresses = row.addresses(self._network)
            if addresses is None or (row.status != ALIVE and addresses.client not in self.links):
                continue
            address = addresses.client
            link = links.get(address) or self.links.get(address) or Link(address, now)
            link.incarnation = row.incarnation
            links[address] = link_by_name[row.name] = link
            if row.status == ALIVE:
                self._link_by_name[row.name] = link
            self._node_name_by_address[address] = row.name
        queued: list[Operation] = []
        for link in self.all_links():
            queued += link.queue
            link.queue = []
        if links.keys() != self.links.keys():
            self.links = links
        self.by_partition = [
            (link_by_name.get(_whom_to_ask(row, link_by_name), self._nowhere), row.epoch) for row in table.partitions
        ]
        return queued

    def _choose_network(self, table: Table) -> str:
        known = list(dict.fromkeys(name for row in table.nodes for name, _ in row.networks))
        if self._network is not None:
            if self._network not in known:
                raise ConfigError(f"no node has an address in network {self._network!r}; known: {', '.join(known)}")
            return self._network
        for row in table.nodes:
            for name, addresses in row.networks:
                if addresses.client in self._seeds:
                    return name
        return known[0]


def _whom_to_ask(row: PartitionRow, known: Collection[str | None]) -> str | None:
    """Return the node to ask about a partition: its leader; if all is lost, anybody who holds it, to say so."""
    if row.leader is None and row.is_lost:
        return next((name for name in row.replicas if name in known), None)
    return row.leader
