"""What a search over several worlds needs to know of this one."""

from tests.leases.ablations import ABLATIONS
from tests.leases.runner import run_one

__all__ = ["ABLATIONS", "TITLE", "run_one"]

TITLE = "Leases"
