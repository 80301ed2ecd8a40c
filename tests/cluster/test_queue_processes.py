"""Consumers that are processes of their own, and do not do what they should."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gimmal.testing import LocalCluster

ROOT = Path(__file__).resolve().parent.parent.parent
HELD_S = 10


@pytest.fixture
def stubborn(gimmal_cluster: LocalCluster, gimmal_prefix: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.cluster.stubborn_consumer"]
    arguments = [gimmal_cluster.seeds, f"{gimmal_prefix}tasks", str(HELD_S)]
    with subprocess.Popen(
        [*command, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_message_of_a_handler_that_keeps_the_global_lock_goes_to_another_consumer(
    gimmal_cluster: LocalCluster, gimmal_prefix: str, stubborn: "subprocess.Popen[str]"
) -> None:
    assert stubborn.stdin is not None
    assert stubborn.stdout is not None
    with gimmal_cluster.connect(timeout=30.0) as db:
        queue = db.queue(f"{gimmal_prefix}tasks")
        queue.produce("a")
        begun, token = stubborn.stdout.readline().split()
        message = queue.consume("patient", timeout=60.0)
        assert message is not None
        assert begun == "begun"
        assert message.token > int(token)
        assert (message.attempts, message.retry_count) == (2, 1)
        assert stubborn.stdout.readline().split() == ["stale", token]
        queue.nack(message, requeue=False, reason="seen enough")
        (letter,) = queue.dead_letters()
        first, last = letter.history
        assert (first.consumer, first.reason) == ("stubborn", "vanished")
        assert (last.consumer, last.reason) == ("patient", "rejected")
        stubborn.stdin.close()
        assert stubborn.wait(60.0) == 0
