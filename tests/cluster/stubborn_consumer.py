"""A consumer whose handler keeps Python's global lock for as long as it is told: a process of its own.

    python -m tests.cluster.stubborn_consumer SEEDS QUEUE SECONDS

It prints "begun" when it has a message and "stale" or "acknowledged" when the handler has settled it.
"""

import ctypes
import sys

import gimmal
from gimmal.errors import StaleLease


def main() -> None:
    """Handle one message."""
    seeds, name, seconds = sys.argv[1:]
    interpreter = ctypes.PyDLL(None)  # what is called by way of it keeps the lock

    with gimmal.connect(seeds, timeout=30.0) as db:
        queue = db.queue(name)

        def handle(message: gimmal.Message) -> None:
            print("begun", message.token, flush=True)
            interpreter.sleep(int(seconds))
            try:
                queue.ack(message)
            except StaleLease:
                print("stale", message.token, flush=True)
            else:
                print("acknowledged", message.token, flush=True)

        consumer = queue.start_consumer("stubborn", handle, pass_message=True)
        sys.stdin.read()
        consumer.stop(30.0)


if __name__ == "__main__":
    main()
