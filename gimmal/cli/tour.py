"""The tour of the store that `gimmal demo` gives: one function per chapter, each on a running cluster.

What a chapter says of the nodes it checks with the nodes: where a key is, for instance, is asked of the
counters of all of them, and not only computed.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any, Final

from gimmal.cli.narrator import Narrator
from gimmal.client.inquiry import ask_status
from gimmal.client.sync import Client
from gimmal.errors import GimmalError
from gimmal.testing import LocalCluster

_ASK_TIMEOUT_S: Final = 5.0
_MEET_TIMEOUT_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.02
_TTL_S: Final = 2.0
_CLIENTS: Final = 20
_WRITERS: Final = 4
_INCREMENTS_EACH: Final = 100
_BATCH_KEYS: Final = 10_000
_LRU_ENTRIES: Final = 100
_LRU_MORE: Final = 10


class Increments:
    """Clients that increment a counter, each in a thread of its own, while the `with` block runs."""

    def __init__(self, cluster: LocalCluster, key: str) -> None:
        self._cluster = cluster
        self._key = key
        self._is_over = False
        self._threads = [threading.Thread(target=self._run) for _ in range(_WRITERS)]
        self._answered_at_s: list[float] = []
        self.errors: list[str] = []

    def __enter__(self) -> "Increments":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with self._cluster.connect() as client:
            while not self._is_over:
                try:
                    client.incr(self._key)
                except GimmalError as error:
                    self.errors.append(str(error))
                else:
                    self._answered_at_s.append(time.monotonic())

    @property
    def count(self) -> int:
        """How many increments were answered."""
        return len(self._answered_at_s)

    @property
    def longest_pause_s(self) -> float:
        """The longest time between two answers, in seconds."""
        at_s = sorted(self._answered_at_s)
        return max((later - earlier for earlier, later in pairwise(at_s)), default=0.0)

    def wait_for(self, more: int) -> None:
        """Wait until so many more have been answered."""
        enough, give_up_at_s = self.count + more, time.monotonic() + _MEET_TIMEOUT_S
        while self.count < enough and time.monotonic() < give_up_at_s:
            time.sleep(_LOOK_EVERY_S)


class Tour:
    """A cluster of three nodes, a client of it, and what is told about them."""

    def __init__(self, narrator: Narrator, cluster: LocalCluster, client: Client) -> None:
        self._narrator = narrator
        self._cluster = cluster
        self._client = client

    def nodes(self) -> None:
        """Ask every node who it is."""
        cluster = self._cluster
        for name, address in cluster.addresses.items():
            self._narrator.say(f"{name} serves clients on {address} (process {cluster.pids[name]})")
        facts = {name: _ask(cluster, name) for name in cluster.names}
        partitions = [f"{name} leads {fact['partitions_led']}" for name, fact in facts.items()]
        self._narrator.say(
            "they were started at once, each with the addresses of all, and founded the cluster together"
        )
        self._narrator.check(
            "each node answers under its name, and the three are one cluster",
            (list(cluster.names), list(cluster.names), len(self._client.cluster().partitions)),
            (
                [fact["name"] for fact in facts.values()],
                [node.name for node in self._client.cluster().nodes],
                sum(fact["partitions_led"] for fact in facts.values()),
            ),
        )
        self._narrator.say(f"of its 1,024 partitions, {', '.join(partitions)}")
        roles = {name: fact["meta_role"] for name, fact in facts.items()}
        leader = next((name for name, role in roles.items() if role == "leader"), "nobody")
        self._narrator.check(
            f"the three vote on who is there and who leads what; {leader} leads them",
            ["leader", "voter", "voter"],
            sorted(roles.values()),
        )

    def keys_and_owners(self) -> None:
        """Set keys, read them, and look which node owns them and who else has them."""
        say, check, check_becomes = self._narrator.say, self._narrator.check, self._narrator.check_becomes
        values: dict[str, Any] = {
            "greeting": "hello",
            "answer": 42,
            "city": {"name": "Paris", "rivers": ["Seine"]},
            "{ada}:name": "Ada",
            "{ada}:cart": [b"\x00\x01", None, 1.5],
        }
        for key, value in values.items():
            before = self._facts("entries")
            self._client.set(key, value)
            say(f"set {key!r} = {value!r}")
            check(f"get returns it, from {self._cluster.owner_of(key)}, which owns it", value, self._client.get(key))
            check_becomes(
                "each of the three nodes has one entry more: all of them hold a copy",
                dict.fromkeys(self._cluster.names, 1),
                partial(self._grown, before),
                timeout=_ASK_TIMEOUT_S,
            )
        owners = {key: self._cluster.owner_of(key) for key in values}
        check("keys with the same {tag} live on the same node", owners["{ada}:name"], owners["{ada}:cart"])
        absent = (self._client.get("nothing"), self._client.exists("nothing"))
        check("a key that was never set does not exist", (None, False), absent)

    def time_to_live(self) -> None:
        """Let keys expire: one that is watched, and others that nobody reads."""
        say, check_becomes, client = self._narrator.say, self._narrator.check_becomes, self._client
        entries_before, expired_before = self._facts("entries"), self._facts("expired")
        keys = [f"session:{number}" for number in range(9)]
        watched, *unread = keys
        for key in keys:
            client.set(key, "a session", ttl=_TTL_S)
        left = client.ttl(watched)
        say(f"set 9 sessions with a ttl of {_TTL_S:g} s; {watched!r} is on {self._cluster.owner_of(watched)}")
        self._narrator.check(f"its time left is above 0 and at most {_TTL_S:g} s", True, 0 < left <= _TTL_S)
        say_below_s = left
        while left > 0:
            if left <= say_below_s:
                say(f"{watched!r} has {left:.2f} s left")
                say_below_s = left - _TTL_S / 4
            time.sleep(_LOOK_EVERY_S)
            left = client.ttl(watched)
        self._narrator.check(f"{watched!r} is gone", (-2.0, None), (left, client.get(watched)))
        # Nobody ever reads the others, so it is the nodes that see their time pass.
        check_becomes(
            f"the nodes removed the {len(unread)} others by themselves (their counter `expired`)",
            dict(sorted(Counter(map(self._cluster.owner_of, keys)).items())),
            lambda: _growth(expired_before, self._facts("expired")),
            timeout=_TTL_S + 10,
        )
        check_becomes(
            "no node has an entry more than before",
            entries_before,
            lambda: self._facts("entries"),
            timeout=_ASK_TIMEOUT_S,
        )

    def counter(self) -> None:
        """Increment one counter from many clients at once."""
        totals: list[int] = []
        owner = self._cluster.owner_of("visits")
        self._narrator.say(f"{_CLIENTS} clients, each with its own connection, add 1 to 'visits' (on {owner}) ...")
        started_at_s = time.monotonic()

        def increment_often() -> None:
            with self._cluster.connect() as client:
                everybody_is_here.wait(_MEET_TIMEOUT_S)
                totals.extend([client.incr("visits") for _ in range(_INCREMENTS_EACH)])

        everybody_is_here = threading.Barrier(_CLIENTS)
        _run_at_once([increment_often] * _CLIENTS)
        total = _CLIENTS * _INCREMENTS_EACH
        self._narrator.say(f"{total:,} increments took {time.monotonic() - started_at_s:.2f} s, connecting included")
        self._narrator.check(f"the counter is exactly {total:,}", total, self._client.get("visits"))
        self._narrator.check(
            f"every number from 1 to {total:,} was handed out once", list(range(1, total + 1)), sorted(totals)
        )

    def batch(self) -> None:
        """Write and read many keys at once, and show how they spread."""
        say, check, client = self._narrator.say, self._narrator.check, self._client
        batch = {f"item:{number}": f"value {number}" for number in range(_BATCH_KEYS)}
        before = self._facts("entries")
        started_at_s = time.perf_counter()
        count = client.set_many(batch)
        written_at_s = time.perf_counter()
        found = client.get_many(batch)
        read_at_s = time.perf_counter()
        say(f"set_many: {_BATCH_KEYS / (written_at_s - started_at_s):>9,.0f} keys a second")
        say(f"get_many: {_BATCH_KEYS / (read_at_s - written_at_s):>9,.0f} keys a second")
        check(
            f"all {_BATCH_KEYS:,} values came back as they were set",
            True,
            count == _BATCH_KEYS and found == batch,
        )
        spread = dict(sorted(Counter(map(self._cluster.owner_of, batch)).items()))
        say("the nodes that own them:")
        self._narrator.bars(spread)
        self._narrator.check_becomes(
            "and each node holds a copy of all of them",
            dict.fromkeys(self._cluster.names, _BATCH_KEYS),
            partial(self._grown, before),
            timeout=_ASK_TIMEOUT_S,
        )

    def owner_killed(self) -> None:
        """Kill the node that owns a counter while clients increment it: nothing is lost, nothing is counted twice."""
        say, check, client, cluster = self._narrator.say, self._narrator.check, self._client, self._cluster
        killed = cluster.owner_of("visits")
        before, incarnation = client.get("visits"), _ask(cluster, killed)["incarnation"]
        keys = [f"item:{number}" for number in range(_BATCH_KEYS)]
        led = [key for key in keys if cluster.owner_of(key) == killed]
        say(f"{killed} leads the partition of 'visits' and those of {len(led):,} of the items; others have copies")
        say(f"{_WRITERS} clients increment 'visits' without a break; kill -9 {killed} ...")
        with Increments(cluster, "visits") as increments:
            increments.wait_for(_INCREMENTS_EACH)
            cluster.kill(killed)
            increments.wait_for(_INCREMENTS_EACH)
        say(f"the longest time without an increment: {1000 * increments.longest_pause_s:,.0f} ms")
        check("every increment was answered, none with an error", [], increments.errors)
        check(
            f"{increments.count:,} increments, and the counter says just that: nothing lost, nothing counted twice",
            before + increments.count,
            client.get("visits"),
        )
        owner = next(p.leader for p in client.cluster().partitions if killed in p.replicas and p.leader != killed)
        say(f"others lead what {killed} led: {owner}, for one")
        check(
            f"all {_BATCH_KEYS:,} items have the values they had",
            True,
            client.get_many(keys) == {key: f"value {key.partition(':')[2]}" for key in keys},
        )
        self._narrator.check_becomes(
            f"the meta group has declared {killed} dead",
            "fenced",
            lambda: {node.name: node.state for node in client.cluster().nodes}[killed],
            timeout=_MEET_TIMEOUT_S,
        )
        self._come_back(killed, incarnation)

    def _come_back(self, killed: str, incarnation: int) -> None:
        """Start a node again: it is another incarnation, catches up, and is in sync."""
        cluster, client = self._cluster, self._client
        self._narrator.say(f"starting {killed} again, with nothing in its memory ...")
        cluster.start(killed)
        cluster.wait_healthy()
        after = _ask(cluster, killed)["incarnation"]
        self._narrator.check(
            f"{killed} is back, in another life: incarnation {after} after {incarnation}", True, after > incarnation
        )
        self._narrator.check_becomes(
            "it has caught up: every partition has three copies in sync again",
            {3},
            lambda: {len(partition.in_sync) for partition in client.cluster().partitions},
            timeout=_MEET_TIMEOUT_S,
        )

    def _leader(self) -> str:
        """Return the name of the node that leads the meta group, as soon as one says so."""
        give_up_at_s = time.monotonic() + _MEET_TIMEOUT_S
        while time.monotonic() < give_up_at_s:
            for name in self._cluster.pids:
                if _ask(self._cluster, name)["meta_role"] == "leader":
                    return name
            time.sleep(_LOOK_EVERY_S)
        return "nobody"

    def _grown(self, entries_before: dict[str, int]) -> dict[str, int]:
        """Return which nodes hold more entries than before, and how many."""
        return _growth(entries_before, self._facts("entries"))

    def _facts(self, name: str) -> dict[str, int]:
        """Return a counter of every running node."""
        return {node: _ask(self._cluster, node)[name] for node in self._cluster.pids}


def eviction(narrator: Narrator, cluster: LocalCluster) -> None:
    """Fill a node of 100 entries at most and see which keys go. `cluster` has one node with policy lru."""
    (node,) = cluster.names
    with cluster.connect() as client:
        for number in range(_LRU_ENTRIES):
            client.set(f"page:{number}", number)
        newest = f"page:{_LRU_ENTRIES - 1}"
        narrator.say(f"a node with max_entries={_LRU_ENTRIES} and policy=lru is full: 'page:0' to {newest!r}")
        client.get("page:0")
        narrator.say(f"read 'page:0', the oldest; then set {_LRU_MORE} more")
        for number in range(_LRU_ENTRIES, _LRU_ENTRIES + _LRU_MORE):
            client.set(f"page:{number}", number)
        facts = _ask(cluster, node)
        narrator.check(
            f"the node holds exactly {_LRU_ENTRIES} entries and evicted {_LRU_MORE}",
            (_LRU_ENTRIES, _LRU_MORE),
            (facts["entries"], facts["evicted"]),
        )
        narrator.check("the recently read 'page:0' is still there", 0, client.get("page:0"))
        gone = [f"page:{number}" for number in range(1, _LRU_MORE + 1)]
        narrator.check(f"the least recently used, {gone[0]!r} to {gone[-1]!r}, are gone", {}, client.get_many(gone))
        kept = {f"page:{number}" for number in (0, *range(_LRU_MORE + 1, _LRU_ENTRIES + _LRU_MORE))}
        narrator.check("all others are there", kept, set(client.scan()))


def nothing_left(narrator: Narrator, pids: Iterable[int]) -> None:
    """Check that the processes of closed clusters are gone."""
    pids = list(pids)
    narrator.check(f"none of the {len(pids)} node processes is left", [], [pid for pid in pids if _exists(pid)])


def _ask(cluster: LocalCluster, node: str) -> dict[str, Any]:
    return ask_status(cluster.addresses[node], _ASK_TIMEOUT_S)


def _growth(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return by how much which counters grew, sorted by name; those that did not are left out."""
    return {name: after[name] - before[name] for name in sorted(after) if after[name] != before[name]}


def _run_at_once(functions: Iterable[Callable[[], None]]) -> None:
    """Run functions in a thread each; raise the first error one of them ended with."""
    errors: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=run, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody has it, and it is not one of ours
    return True
