"""`gimmal verify`: are all copies of all partitions equal?"""

from typing import TYPE_CHECKING, Final

from gimmal.cli.app import DEFAULT_ADDRESS, DONE, FAILED, Json, Seeds, Timeout, app, print_json, print_text

if TYPE_CHECKING:
    from gimmal.client.copies import CopiesReport

_TIMEOUT_S: Final = 5.0
_SHOWN_MAX: Final = 10


@app.command()
def verify(*, seeds: Seeds = DEFAULT_ADDRESS, timeout: Timeout = _TIMEOUT_S, as_json: Json = False) -> int:
    """Compare the copies of every partition: exit status 0 if all are equal, else 1.

    The nodes work out a digest of each copy, a few milliseconds at a time. Copies that clients write to meanwhile are
    compared as soon as they are seen at the same entry of their log.
    """
    from gimmal.client.copies import compare_copies  # noqa: PLC0415 - see gimmal.cli
    from gimmal.client.pump import check_timeout  # noqa: PLC0415
    from gimmal.client.sync import connect  # noqa: PLC0415

    with connect(seeds, timeout=check_timeout(timeout)) as client:
        cluster = client.cluster()
    address_by_name = {
        node.name: next(iter(node.addresses.values())).client for node in cluster.nodes if node.state == "alive"
    }
    report = compare_copies(address_by_name, timeout)
    if as_json:
        print_json({"equal": report.equal, "differing": report.differing, "unsettled": report.unsettled})
    else:
        print_text(_described(report))
    return DONE if report.is_good else FAILED


def _described(report: "CopiesReport") -> str:
    lines = [f"{report.equal:,} partitions: all copies are equal"]
    for partition, digests in list(report.differing.items())[:_SHOWN_MAX]:
        lines.append(f"partition {partition} DIFFERS: {', '.join(f'{name} {text}' for name, text in digests.items())}")
    for partition, commits in list(report.unsettled.items())[:_SHOWN_MAX]:
        where = ", ".join(f"{name} at entry {commit}" for name, commit in commits.items())
        lines.append(f"partition {partition} could not be compared, it changes too fast or a copy is behind: {where}")
    more = len(report.differing) + len(report.unsettled) - (len(lines) - 1)
    if more:
        lines.append(f"and {more} more")
    return "\n".join(lines)
