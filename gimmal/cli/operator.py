"""`gimmal recover` and `gimmal unsafe-elect`: for when nobody is left who has everything.

Both give something up for good, so neither does it by the way: `recover` only shows what is lost until it is told to
accept that, and accepts what it has shown and nothing that is lost later; `unsafe-elect` is told which copy to trust.
"""

from typing import TYPE_CHECKING, Annotated, Any, Final

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
    print_problem,
    print_text,
)
from gimmal.errors import NoRoute

if TYPE_CHECKING:
    from gimmal.client.overview import Cluster
    from gimmal.wire.messages import Operated

_TIMEOUT_S: Final = 5.0


@app.command()
def recover(
    *,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Let lost partitions begin again, empty. What they held is gone.")
    ] = False,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> int:
    """Show which partitions are lost, or let them begin again.

    A partition is lost when every node that had all of it has come back without it. Operations on it fail until a copy
    with data turns up, or its loss is accepted here. Exit status 0 if nothing is lost any more, else 1.
    """
    from gimmal.client.pump import check_timeout, parse_seeds  # noqa: PLC0415 - see gimmal.cli
    from gimmal.cluster.meta.commands import RECOVER, Outcome  # noqa: PLC0415

    addresses = parse_seeds(seeds)
    cluster = _fetch(seeds, check_timeout(timeout))
    lost = [number for number, partition in enumerate(cluster.partitions) if partition.is_lost]
    started, text, is_done = 0, _described(lost), not lost
    if lost and accept_loss:
        answer = _operate(addresses, (RECOVER, cluster.table_version), timeout)
        is_done = answer.outcome == Outcome.DONE
        started, text = answer.value if is_done else 0, answer.text
    status = DONE if is_done and started == (len(lost) if accept_loss else 0) else FAILED
    if as_json:
        print_json({"lost": lost, "started": started, "message": text})
    else:
        (print_text if status == DONE or not accept_loss else print_problem)(text)
    return status


@app.command("unsafe-elect")
def unsafe_elect(
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0, help="A partition that nobody leads.")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="The name of a node that holds a copy of it.")],
    *,
    seeds: Seeds = DEFAULT_ADDRESS,
    timeout: Timeout = _TIMEOUT_S,
    as_json: Json = False,
) -> int:
    """Let a node lead a partition whatever its copy lacks.

    This is for a partition that nobody leads because the nodes that have all of it are gone for good. Whatever was
    acknowledged and is not in that copy is lost, also if one of those nodes comes back. Exit status 1: refused.
    """
    from gimmal.client.pump import check_timeout, parse_seeds  # noqa: PLC0415 - see gimmal.cli
    from gimmal.cluster.meta.commands import UNSAFE_ELECT, Outcome  # noqa: PLC0415

    answer = _operate(parse_seeds(seeds), (UNSAFE_ELECT, partition, node), check_timeout(timeout))
    is_done = answer.outcome == Outcome.DONE
    if as_json:
        print_json({"partition": partition, "node": node, "elected": is_done, "message": answer.text})
    else:
        (print_text if is_done else print_problem)(answer.text)
    return DONE if is_done else FAILED


def _described(lost: list[int]) -> str:
    if not lost:
        return "no partition is lost"
    return (
        f"lost: {', '.join(map(str, lost))}. To let {'it' if len(lost) == 1 else 'them'} begin again, empty: "
        "gimmal recover --accept-loss"
    )


def _fetch(seeds: str, timeout: float) -> "Cluster":
    from gimmal.client.sync import connect  # noqa: PLC0415 - see gimmal.cli

    with connect(seeds, timeout=timeout) as client:
        return client.cluster()


def _operate(addresses: tuple[str, ...], command: tuple[Any, ...], timeout: float) -> "Operated":
    """Ask the first node that answers and belongs to the cluster.

    Raises:
        NoRoute: none does.
    """
    from gimmal.client.inquiry import ask_to_operate  # noqa: PLC0415 - see gimmal.cli
    from gimmal.cluster.meta.commands import Outcome  # noqa: PLC0415

    problems = []
    for address in addresses:
        try:
            answer = ask_to_operate(address, command, timeout)
        except NoRoute as error:
            problems.append(str(error))
        else:
            if answer.outcome != Outcome.NOT_LEADER:
                return answer
            problems.append(f"{address}: {answer.text}")
    raise NoRoute("; ".join(problems))
