"""`gimmal demo`: three real nodes, and a tour of what they do in which every claim is checked."""

import time
from typing import TYPE_CHECKING

from gimmal.cli.app import DONE, FAILED, Json, app, print_json

if TYPE_CHECKING:
    from gimmal.cli.narrator import Narrator


@app.command()
def demo(*, as_json: Json = False) -> int:
    """Start three nodes on this machine and show what they do.

    Everything it claims is checked; exit status 1 if a check fails. It takes some seconds and leaves nothing.
    """
    from rich.console import Console  # noqa: PLC0415 - see gimmal.cli

    from gimmal.cli.narrator import CheckFailed, Narrator  # noqa: PLC0415

    console = Console(quiet=as_json, highlight=False)
    narrator = Narrator(console)
    started_at_s = time.monotonic()
    try:
        _show_everything(narrator)
    except CheckFailed as failure:
        narrator.failed(failure)
        if as_json:
            print_json({"error": "CheckFailed", "message": str(failure)})
        return FAILED
    seconds = time.monotonic() - started_at_s
    console.print(f"\n[bold green]All {narrator.checks_count} checks passed[/] in {seconds:.1f} s.")
    if as_json:
        chapters = [
            {"title": title, "checks": checks, "seconds": round(chapter_s, 3)}
            for title, checks, chapter_s in narrator.chapters
        ]
        print_json({"checks": narrator.checks_count, "seconds": round(seconds, 3), "chapters": chapters})
    return DONE


def _show_everything(narrator: "Narrator") -> None:
    from gimmal.cli.queue_tour import QueueTour  # noqa: PLC0415 - see gimmal.cli
    from gimmal.cli.tour import Tour, eviction, nothing_left  # noqa: PLC0415
    from gimmal.testing import LocalCluster  # noqa: PLC0415

    narrator.say("Starting three nodes, each a process of its own ...")
    with LocalCluster(nodes=3) as cluster:
        pids = list(cluster.pids.values())
        with cluster.connect() as client:
            tour = Tour(narrator, cluster, client)
            with narrator.chapter("Three nodes, one cluster"):
                tour.nodes()
            with narrator.chapter("Keys, and the nodes that own them"):
                tour.keys_and_owners()
            with narrator.chapter("Keys that expire"):
                tour.time_to_live()
            with narrator.chapter("Memory that is full: the least recently used keys go"):
                narrator.say("Starting a cluster of one node ...")
                with LocalCluster(nodes=1, max_entries=100, policy="lru") as small_cluster:
                    pids += small_cluster.pids.values()
                    eviction(narrator, small_cluster)
            with narrator.chapter("One counter, twenty clients"):
                tour.counter()
            with narrator.chapter("Ten thousand keys in one call"):
                tour.batch()
            with narrator.chapter("The owner killed while clients write"):
                tour.owner_killed()
            queue_tour = QueueTour(narrator, cluster, client)
            with narrator.chapter("Work that two consumers share, and a task that fails"):
                queue_tour.sharing()
            with narrator.chapter("The owner of a queue killed with messages in flight"):
                queue_tour.owner_killed()
    with narrator.chapter("The end"):
        nothing_left(narrator, pids)
