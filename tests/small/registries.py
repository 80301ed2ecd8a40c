"""All registries of rules that can be taken away: a world of its own adds one line here."""

from typing import Final

from tests.leases import runner as leases
from tests.leases.ablations import ABLATIONS as LEASES
from tests.small import runner
from tests.small.ablation import Registry
from tests.small.ablations import MISSING_ONCE, REPLICATION, SNAPSHOTS
from tests.small.session_ablations import SESSIONS

REGISTRIES: Final = (
    Registry("Replication", REPLICATION, runner.SCHEDULES.run_one),
    Registry("Leases", LEASES, leases.SCHEDULES.run_one),
    Registry("Sessions", SESSIONS, runner.SCHEDULES.run_one),
    Registry("Snapshots", SNAPSHOTS, runner.SCHEDULES.run_one),
    Registry("Missing once", MISSING_ONCE, runner.SCHEDULES.run_one),
)
REGISTRY_BY_TITLE: Final = {registry.title: registry for registry in REGISTRIES}
RULES: Final = {ablation.title: ablation for registry in REGISTRIES for ablation in registry.ablations}
assert len(RULES) == sum(len(registry.ablations) for registry in REGISTRIES), "two rules have one title"
