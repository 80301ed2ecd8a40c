"""How a node process starts: settings to table, table to server, server to its end."""

import asyncio
import gc
import logging
import secrets

from gimmal.cluster.static import StaticNode, load_static_table, static_table
from gimmal.cluster.table import Table
from gimmal.errors import ConfigError
from gimmal.node.config import NodeConfig
from gimmal.node.server import Server

logger = logging.getLogger("gimmal.node")


def run_node(config: NodeConfig) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises:
        ConfigError: the settings do not make a node, or an address is taken.
    """
    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    table = load_static_table(config.static_cluster) if config.static_cluster else _table_of_one(config)
    row = table.node(config.name)
    if row is None:
        raise ConfigError(f"{config.static_cluster} lists no node named {config.name!r}")
    server = Server(config.name, row.networks[0][1].client, table, config.memory_limits)
    # Requests make no cycles, and a full collection over a million keys stalls for longer than a lease may.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    asyncio.run(server.run())


def _table_of_one(config: NodeConfig) -> Table:
    """Return the table of a cluster founded by one node for itself alone."""
    node = StaticNode(config.name, config.client, config.peer, config.pubsub, config.zone, config.weight)
    try:
        return static_table(secrets.token_bytes(16), [node], config.partitions)
    except ValueError as reason:
        raise ConfigError(f"these settings make no cluster: {reason}") from None
