"""The command line of the small world: `python -m tests.small --seeds 10000`, `--seed 7`, `--ablations`."""

import argparse
import sys

from tests.small.ablation import Registry
from tests.small.page import PAGE, page
from tests.small.registries import REGISTRIES, REGISTRY_BY_TITLE, RULES
from tests.small.runner import SCHEDULES
from tests.small.search import Search, look_for, look_for_all

_SEARCH_S = 120.0


def main() -> int:
    """Run what the arguments ask for; 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.small", description="Replicas in a small world.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this one, and print the end of its trace")
    parser.add_argument("--trace", action="store_true", help="with --seed: print the whole trace")
    parser.add_argument("--without", choices=RULES, metavar="RULE", help=f"one of: {', '.join(RULES)}")
    parser.add_argument("--ablations", action="store_true", help="look for a schedule for every rule")
    parser.add_argument("--registry", choices=REGISTRY_BY_TITLE, help="with --ablations: for these rules only")
    parser.add_argument("--within", type=float, default=_SEARCH_S, help="how many CPU seconds to look for each")
    parser.add_argument("--write", action="store_true", help=f"with --ablations: write {PAGE.parent.name}/{PAGE.name}")
    arguments = parser.parse_args()
    if arguments.ablations:
        if arguments.write and arguments.registry:
            parser.error("the page is about all rules, not about those of one registry")
        return _look_for_all(arguments)
    if arguments.without and arguments.seed is None:
        registry = _registry_of(arguments.without).title
        print(look_for(Search(registry, arguments.without, arguments.first, arguments.within)).line())
        return 0
    if arguments.without and _registry_of(arguments.without).run_one != SCHEDULES.run_one:
        parser.error(f"the schedules for {arguments.without!r} are those of another world")
    changes = RULES[arguments.without].changes if arguments.without else ()
    if arguments.seed is not None:
        return SCHEDULES.tell_one(arguments.seed, changes, arguments.without or "", with_trace=arguments.trace)
    return SCHEDULES.tell_many(arguments.first, arguments.seeds)


def _registry_of(rule: str) -> Registry:
    return next(registry for registry in REGISTRIES if rule in [ablation.title for ablation in registry.ablations])


def _look_for_all(arguments: argparse.Namespace) -> int:
    titles = [arguments.registry] if arguments.registry else list(REGISTRY_BY_TITLE)
    found = []
    for row in look_for_all(titles, arguments.first, arguments.within):
        print(row.line(), flush=True)
        found.append(row)
    if arguments.write:
        PAGE.write_text(page(found, arguments.first, arguments.within), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
