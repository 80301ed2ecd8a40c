"""What a leader makes of a follower's answers, however late, doubled and disordered they come."""

from gimmal.cluster.raft.progress import Pace, Progress


def replicating(match: int, sent: int) -> Progress:
    progress = Progress(match + 1, 0.0)
    progress.on_accepted(match, 1)
    for _ in range(match, sent):
        progress.on_sent(1)
    return progress


def test_a_probe_that_is_accepted_opens_the_flow() -> None:
    progress = Progress(8, 0.0)
    assert progress.pace is Pace.PROBING
    progress.on_accepted(7, 1)
    assert (progress.pace, progress.match, progress.next) == (Pace.REPLICATING, 7, 8)


def test_entries_are_sent_ahead_and_answered_in_any_order() -> None:
    progress = replicating(match=7, sent=10)
    assert (progress.next, progress.in_flight) == (11, 3)
    progress.on_accepted(9, 1)
    assert (progress.match, progress.next, progress.in_flight) == (9, 11, 1)
    progress.on_accepted(8, 1)
    assert (progress.match, progress.next, progress.in_flight) == (9, 11, 1)
    progress.on_accepted(10, 1)
    assert (progress.match, progress.next, progress.in_flight) == (10, 11, 0)


def test_a_refusal_sends_it_back_to_probing_where_the_logs_may_agree() -> None:
    progress = replicating(match=7, sent=10)
    progress.on_refused(8)
    assert (progress.pace, progress.match, progress.next, progress.in_flight) == (Pace.PROBING, 7, 9, 0)
    progress.is_waiting = True
    progress.on_refused(7)
    assert (progress.next, progress.is_waiting) == (8, False)


def test_old_refusals_change_nothing() -> None:
    progress = replicating(match=7, sent=10)
    progress.on_refused(6)  # before what it has acknowledged
    progress.on_refused(10)  # not before what was sent
    assert (progress.pace, progress.next) == (Pace.REPLICATING, 11)


def test_an_old_acceptance_does_not_end_a_probe() -> None:
    progress = replicating(match=7, sent=10)
    progress.on_refused(8)
    progress.on_accepted(5, 1)
    assert (progress.pace, progress.next) == (Pace.PROBING, 9)


def test_a_snapshot_is_under_way_until_it_is_answered() -> None:
    progress = Progress(3, 0.0)
    progress.on_snapshot_sent(20, 5)
    progress.on_refused(1)
    progress.on_accepted(0, 5)  # the answer to what was sent before it
    assert progress.pace is Pace.INSTALLING
    progress.on_accepted(20, 5)
    assert (progress.pace, progress.match, progress.next) == (Pace.PROBING, 20, 21)


def test_a_snapshot_is_lost_when_a_later_round_is_answered_without_it() -> None:
    progress = Progress(3, 0.0)
    progress.on_snapshot_sent(20, 5)
    progress.on_accepted(0, 6)
    assert (progress.pace, progress.next) == (Pace.PROBING, 1)


def test_it_is_remembered_when_and_for_what_it_answered() -> None:
    progress = Progress(1, 3.0)
    assert (progress.heard_at, progress.answered_round) == (3.0, 0)
    progress.on_heard(4, 5.0)
    progress.on_heard(2, 6.0)
    assert (progress.heard_at, progress.answered_round) == (6.0, 4)
