"""A client called from within one of its own calls says so at once, and goes on working."""

import signal
import time

import pytest

from gimmal.errors import LocalProtocolError
from gimmal.testing import LocalCluster


def test_a_signal_handler_that_uses_the_client_it_interrupted_gets_a_clear_error(gimmal_cluster: LocalCluster) -> None:
    with gimmal_cluster.connect() as db:
        name = gimmal_cluster.owner_of("key")

        def on_alarm(number: int, frame: object) -> None:
            db.get("key")

        previous = signal.signal(signal.SIGALRM, on_alarm)
        gimmal_cluster.pause(name)
        started_at_s = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(LocalProtocolError, match="within one of its own calls"):
                db.get("key", timeout=20.0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            gimmal_cluster.resume(name)
        assert time.monotonic() - started_at_s < 15.0  # well before the deadline: it did not wait for itself
        assert db.set("key", 1)
