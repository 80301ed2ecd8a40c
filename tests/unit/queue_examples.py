"""One well-formed command of queues of each kind."""

from gimmal.types import Command
from gimmal.wire import limits
from gimmal.wire import queue_commands as codes

Q, G, CLIENT = b"{tasks/0}", b"default", bytes(range(16))
WHO = (CLIENT, b"Ada")
DELIVERIES = ((5, 7), (6, 7))
MESSAGES = ((b"payload", b"", b""), (b"p", b"key", b"id"))
MAX = limits.INTEGER_MAX
EXAMPLES: tuple[Command, ...] = (
    (codes.QUEUE_STATS, Q, G),
    (codes.DEAD_LETTERS, Q, G, 100),
    (codes.QUEUE_GROUPS, Q),
    (codes.CONSUME, Q, G, WHO, 1, (1, 5_000, 0)),
    (codes.CANCEL, Q, G, CLIENT, 1),
    (codes.DECLARE, Q, (3, None, 500, None, 1, 0)),
    (codes.PRODUCE, Q, 0, MESSAGES),
    (codes.ACK, Q, G, DELIVERIES),
    (codes.NACK, Q, G, DELIVERIES, (True, None), b"no"),
    (codes.RELEASE, Q, G, DELIVERIES),
    (codes.EXTEND, Q, G, DELIVERIES, 30_000),
    (codes.REDRIVE, Q, G, MAX),
    (codes.PURGE, Q, G, 1),
    (codes.CREATE_GROUP, Q, G),
    (codes.DELETE_GROUP, Q, G),
    (codes.GRANT, Q, G, WHO, 1, (1, 0)),
    (codes.GIVE_BACK, Q, G, CLIENT, 1),
    (codes.LEASE_END, Q, G, DELIVERIES),
    (codes.VANISH, Q, CLIENT, True),
)
BY_CODE = {command[0]: command for command in EXAMPLES}
