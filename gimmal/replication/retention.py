"""How much of their logs the copies on a node keep, and for whom.

The logs of all copies together keep `bytes_max` of what is committed: who falls behind by less gets what it lacks from
there. When that is exceeded, one copy after the other forgets the older half of what it has applied.

A follower that gets a snapshot needs, when it has it, everything behind the entry after which that stands. It grows
while the snapshot comes; were it forgotten, the snapshot would be of no use, and the next one, of the same size, would
fare no better for as long as there is as much to write. So what is behind a snapshot is kept until its follower has
caught up, and may take as much again, in all logs together. Beyond that memory counts for more: the longest of these
logs is treated like any other, and that snapshot begins anew.
"""

from collections.abc import Collection, Iterator

from gimmal.replication.log import LogMemory
from gimmal.replication.progress import Progress
from gimmal.replication.replica import Replica


class Retention:
    """The logs of a node, whose entries are counted in `memory`. What has not committed is never forgotten."""

    def __init__(self, bytes_max: int) -> None:
        self.memory = LogMemory()
        self._bytes_max = bytes_max
        self._kept: dict[Progress, tuple[Replica, int]] = {}  # for whom entries behind a snapshot are kept
        self._forgetful: Iterator[Replica] = iter(())  # whose logs are to be shortened next

    def keep(self, replica: Replica, progress: Progress, seq: int) -> None:
        """Keep what is behind an entry until a follower, which gets a snapshot of the state there, has caught up."""
        self._let_go()
        self._kept[progress] = replica, seq

    def _let_go(self) -> None:
        """Keep nothing more for those who have caught up, or do not follow any more."""
        for progress, (replica, _) in list(self._kept.items()):
            leading = replica.leading
            if leading is None or progress not in leading.followers or progress.match >= replica.commit:
                del self._kept[progress]

    def is_exceeded(self, uncommitted_bytes: int) -> bool:
        """Say whether logs are so long that they may have to be shortened: then `shorten` looks closely."""
        return self.memory.size_bytes - uncommitted_bytes > self._bytes_max

    def shorten(self, replicas: Collection[Replica], uncommitted_bytes: int) -> None:
        """Shorten logs until there is room."""
        self._let_go()
        while not self._has_shortened(replicas, uncommitted_bytes) and self._kept:
            longest = max(self._kept, key=lambda progress: self._kept[progress][0].log.size_bytes)
            del self._kept[longest]

    def _has_shortened(self, replicas: Collection[Replica], uncommitted_bytes: int) -> bool:
        """Forget what nobody needs until there is room; say whether there is."""
        needed: dict[Replica, int] = {}  # the first place behind which everything is kept
        for progress, (replica, seq) in self._kept.items():
            place = max(seq, progress.match)
            needed[replica] = min(needed.get(replica, place), place)
        extra_bytes = min(sum(map(_committed_bytes, needed)), self._bytes_max)
        most_bytes = uncommitted_bytes + self._bytes_max + extra_bytes
        in_vain = 0
        while self.memory.size_bytes > most_bytes and in_vain <= len(replicas):
            chosen = next(self._forgetful, None)
            if chosen is None:
                self._forgetful = iter([*replicas])
                in_vain += 1
                continue
            half = (chosen.log.base + chosen.commit + 1) // 2
            upto = min(half, needed.get(chosen, half))
            in_vain = in_vain + 1 if upto <= chosen.log.base else 0
            chosen.log.forget(upto)
        return self.memory.size_bytes <= most_bytes


def _committed_bytes(replica: Replica) -> int:
    log = replica.log
    return log.size_bytes - sum(log.sizes[replica.commit - log.base :])
