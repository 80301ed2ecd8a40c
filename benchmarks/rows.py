"""The rows of the benchmark: what is measured, and the target of each.

Targets are ratios within one run. `to_redis` compares the figures as they are printed: operations per second
must be at least so many times Redis's, microseconds per call at most so many times. `to_floor` always
compares speed. A row without a target for Redis is printed all the same.

Rows with copies compare what each system does when it keeps so many: a SET of gimmal is answered when all copies have
it, one of the floor likewise, and one of Redis when its master has it, which replicates later. Redis gets as many
copies of each key as gimmal (3 masters with 1 or 2 replicas each), because whoever keeps a copy works on the same
cores. Only the serial SET asks Redis for more: SET and WAIT 1. Rows of one number of copies run on the same clusters.
"""

from dataclasses import dataclass
from enum import StrEnum

SYSTEMS = ("gimmal", "redis", "floor")
FLOOR_TARGET = 0.4


class Unit(StrEnum):
    """What a figure counts; more is better only for operations per second."""

    OPS_PER_S = "ops/s"
    US_PER_CALL = "us/call"
    BYTES_PER_KEY = "bytes/key"
    PERCENT_PER_NODE = "% of a core"


class Load(StrEnum):
    """How the client is driven."""

    ASYNC_GET = "asyncio get"
    ASYNC_SET = "asyncio set"
    GET = "get"
    SET = "set"
    SET_HELD = "set held"
    GET_MANY = "get_many"
    SET_MANY = "set_many"
    MEMORY = "memory"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `tasks` counts the asyncio tasks that call one after another.

    With `is_tagged` all keys belong together, so that one node leads all and leader and followers can be told apart.
    """

    name: str
    title: str
    load: Load
    unit: Unit = Unit.OPS_PER_S
    tasks: int = 0
    to_redis: float | None = None
    to_floor: float | None = FLOOR_TARGET
    figure_max: float | None = None
    copies: int = 1
    is_tagged: bool = False

    @property
    def more_is_better(self) -> bool:
        """Tell whether a larger figure is the better one."""
        return self.unit is Unit.OPS_PER_S


ONE_COPY_ROWS = (
    Row("get-200", "asyncio GET, 200 tasks", Load.ASYNC_GET, tasks=200, to_redis=5.0),
    Row("get-50", "asyncio GET, 50 tasks", Load.ASYNC_GET, tasks=50, to_redis=4.0),
    Row("set-200", "asyncio SET, 200 tasks", Load.ASYNC_SET, tasks=200, to_redis=5.0),
    Row("set-50", "asyncio SET, 50 tasks", Load.ASYNC_SET, tasks=50, to_redis=4.0),
    Row("get-many", "get_many of 100", Load.GET_MANY, to_redis=4.0),
    Row("set-many", "set_many of 100", Load.SET_MANY, to_redis=4.0),
    Row("get", "serial GET", Load.GET, Unit.US_PER_CALL, to_redis=1.3),
    Row("set", "serial SET", Load.SET, Unit.US_PER_CALL),
    Row("memory", "memory per key", Load.MEMORY, Unit.BYTES_PER_KEY, to_floor=None, figure_max=400.0),
    Row("rest", "CPU of a node at rest", Load.REST, Unit.PERCENT_PER_NODE, to_floor=None, figure_max=3.0),
)
TWO_COPIES_ROWS = (
    Row("set-200-x2", "asyncio SET, 200 tasks, 2 copies", Load.ASYNC_SET, tasks=200, to_redis=4.0, copies=2),
    Row("set-50-x2", "asyncio SET, 50 tasks, 2 copies", Load.ASYNC_SET, tasks=50, to_redis=2.0, copies=2),
    Row("get-many-x2", "get_many of 100, 2 copies", Load.GET_MANY, to_redis=4.0, copies=2),
    Row("set-many-x2", "set_many of 100, 2 copies", Load.SET_MANY, to_redis=2.0, copies=2),
    Row("get-x2", "serial GET, 2 copies", Load.GET, Unit.US_PER_CALL, to_redis=1.3, copies=2),
    Row("set-x2", "serial SET, 2 copies (Redis: and WAIT 1)", Load.SET_HELD, Unit.US_PER_CALL, to_redis=2.0, copies=2),
    Row(
        "set-200-x2-tag",
        "asyncio SET, 200 tasks, 2 copies, one tag",
        Load.ASYNC_SET,
        tasks=200,
        copies=2,
        is_tagged=True,
    ),
)
THREE_COPIES_ROWS = (
    Row("get-200-x3", "asyncio GET, 200 tasks, 3 copies", Load.ASYNC_GET, tasks=200, to_redis=5.0, copies=3),
    Row("get-50-x3", "asyncio GET, 50 tasks, 3 copies", Load.ASYNC_GET, tasks=50, to_redis=4.0, copies=3),
    Row("set-200-x3", "asyncio SET, 200 tasks, 3 copies", Load.ASYNC_SET, tasks=200, to_redis=4.0, copies=3),
    Row("set-50-x3", "asyncio SET, 50 tasks, 3 copies", Load.ASYNC_SET, tasks=50, to_redis=2.0, copies=3),
    Row("get-many-x3", "get_many of 100, 3 copies", Load.GET_MANY, to_redis=4.0, copies=3),
    Row("set-many-x3", "set_many of 100, 3 copies", Load.SET_MANY, to_redis=2.0, copies=3),
    Row(
        "set-200-x3-tag",
        "asyncio SET, 200 tasks, 3 copies, one tag",
        Load.ASYNC_SET,
        tasks=200,
        copies=3,
        is_tagged=True,
    ),
)
ROWS = (*ONE_COPY_ROWS, *TWO_COPIES_ROWS, *THREE_COPIES_ROWS)
ROW_BY_NAME = {row.name: row for row in ROWS}
