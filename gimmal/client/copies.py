"""Are the copies of a cluster equal? Every node is asked for digests of what it holds, and they are compared.

A digest is over the whole state of a copy as of an entry of the log, so two copies can be compared when they are at the
same entry. While clients write they mostly are not; those are asked for again, a few times.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gimmal.client.inquiry import ask_digests

_LOOKS_MAX: Final = 10
_LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class CopiesReport:
    """What a comparison has found, by partition.

    `equal` counts the partitions of which all copies agree, `differing` has for each of the others the digest (hex) at
    each node, and `unsettled` are those whose copies were never seen at the same entry, with that entry at each node.
    """

    equal: int
    differing: dict[int, dict[str, str]]
    unsettled: dict[int, dict[str, int]]

    @property
    def is_good(self) -> bool:
        """Whether all copies are equal."""
        return not self.differing and not self.unsettled


def compare_copies(address_by_name: Mapping[str, str], timeout: float) -> CopiesReport:
    """Ask nodes, by their client addresses, for digests of their copies until all can be compared.

    Raises:
        NoRoute: a node did not answer within `timeout` seconds.
        RemoteProtocolError: what answered is no gimmal node of this version.
    """
    for look in range(1, _LOOKS_MAX + 1):
        report = _judge({name: ask_digests(address, timeout) for name, address in address_by_name.items()})
        if report.is_good or look == _LOOKS_MAX:
            break
        time.sleep(_LOOK_EVERY_S)
    return report


def _judge(found: Mapping[str, Mapping[int, tuple[int, bytes]]]) -> CopiesReport:
    differing: dict[int, dict[str, str]] = {}
    unsettled: dict[int, dict[str, int]] = {}
    partitions = sorted({partition for copies in found.values() for partition in copies})
    for partition in partitions:
        copies = {name: held[partition] for name, held in found.items() if partition in held}
        digests_by_commit: dict[int, set[bytes]] = {}
        for commit, digest in copies.values():
            digests_by_commit.setdefault(commit, set()).add(digest)
        if any(len(digests) > 1 for digests in digests_by_commit.values()):
            differing[partition] = {name: digest.hex() for name, (_, digest) in copies.items()}
        elif len(digests_by_commit) > 1:
            unsettled[partition] = {name: commit for name, (commit, _) in copies.items()}
    return CopiesReport(len(partitions) - len(differing) - len(unsettled), differing, unsettled)
