"""How a node process starts: settings, the journal in its data directory, the core, the server, and its end."""

import asyncio
import gc
import logging
import resource
import secrets
from pathlib import Path
from random import SystemRandom
from typing import Final

from gimmal.cluster.raft import read_journal
from gimmal.errors import ConfigError
from gimmal.node.clocks import read_clocks
from gimmal.node.config import NodeConfig
from gimmal.node.core import NodeCore
from gimmal.node.fault_injection import FaultFile
from gimmal.node.journal_file import JournalFile
from gimmal.node.server import Server

logger = logging.getLogger("gimmal.node")

_DESCRIPTORS: Final = 65_536
"""Each client takes one and each link to another node about five; what systems give by default is 1,024."""


def run_node(config: NodeConfig, faults_file: Path | None = None) -> None:
    """Run a node until SIGTERM or SIGINT; with a `faults_file`, one for tests (`gimmal.node.fault_injection`).

    Raises:
        ConfigError: an address or the data directory is taken, or the directory holds what is of no use, or the
            faults cannot be read.
        JournalError: the data directory did not keep what it was given.
    """
    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _raise_descriptor_limit()
    faults = FaultFile(config.name, faults_file) if faults_file is not None else None
    journal = JournalFile(config.data_dir) if config.data_dir is not None else None
    content = _content_of(journal, config.name) if journal is not None else b""
    core = NodeCore(config.settings(secrets.token_bytes(16)), content, SystemRandom(), read_clocks())
    server = Server(core, config.client, config.peer, journal, faults)
    # Requests make no cycles, and a full collection over a million keys stalls for longer than a lease may.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    asyncio.run(server.run())


def _content_of(journal: JournalFile, name: str) -> bytes:
    """Return what a journal holds, without the torn end of it that a crash may have left."""
    content = journal.read()
    found = read_journal(content)
    owner = found.identity.voter.rpartition("/")[0] if found.identity is not None else name
    if owner != name:
        raise ConfigError(
            f"the data directory {journal.directory} is that of node {owner}, and this is {name}: give it the name "
            "with --name, or a directory of its own with --data-dir"
        )
    if found.length < len(content):
        logger.warning(
            "the journal in %s ends in %d bytes of an unfinished record, as a crash leaves them: they are cut off",
            journal.directory,
            len(content) - found.length,
        )
        journal.truncate(found.length)
    return content[: found.length]


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
