"""What must come true once everything is mended: one leader, and equal tables on every node, with all nodes in them.

Safety says that nothing bad happens; a cluster that does nothing is safe. So each schedule ends with fair weather, and
what is complained of here must be gone within a bound of virtual time.
"""

from typing import TYPE_CHECKING

from gimmal.cluster.table import ALIVE, Table
from tests.sim.host import HOME, Host

if TYPE_CHECKING:
    from tests.sim.world import World


def voters_wanted(nodes: int) -> int:
    """How many nodes should vote: 1 below three, 3 from three, 5 from ten."""
    return 1 if nodes < 3 else 3 if nodes < 10 else 5


def members(world: "World") -> list[Host]:
    """The machines that should be nodes of the cluster by now."""
    return [host for host in world.hosts if host.group == HOME and host.life and not host.retired]


def complaints(world: "World") -> list[str]:
    """Say what is not yet as it must be."""
    hosts = members(world)
    table = world.checks.tables.newest(HOME)
    if table is None:
        return ["no cluster was founded"]
    found = [f"{host.name} is down" for host in hosts if not host.is_up]
    leaders = [host.name for host in hosts if host.is_up and host.raft is not None and host.raft.is_leader]
    if len(leaders) != 1:
        found.append(f"leaders of the meta group: {leaders or 'none'}")
    for host in hosts:
        found += _complaints_of(host, table)
    names = sorted(host.name for host in hosts)
    if [row.name for row in table.nodes] != names:
        found.append(f"the table has nodes {[row.name for row in table.nodes]}, and there are {names}")
    found += world.checks.copies.complaints(table)
    voters = {row.voter for row in table.nodes if row.status == ALIVE}
    if len(table.voters) != voters_wanted(len(table.nodes)) or not voters.issuperset(table.voters):
        found.append(f"the voters are {table.voters}")
    return found


def _complaints_of(host: Host, table: Table) -> list[str]:
    if not host.is_up:
        return []
    row = table.node(host.name)
    if row is None or row.uuid != host.uuid:
        return [f"{host.name} at {host.address} is not registered"]
    if row.status != ALIVE:
        return [f"{host.name} is fenced"]
    if host.identity.incarnation != row.incarnation:
        return [f"{host.name} believes to be incarnation {host.identity.incarnation}, and is {row.incarnation}"]
    if host.table is None or host.table.version != table.version:
        version = host.table.version if host.table is not None else 0
        return [f"{host.name} has version {version} of the table, the newest is {table.version}"]
    return []
