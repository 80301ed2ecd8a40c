"""The arithmetic of majorities, drawn."""

import pytest

from gimmal.cluster.raft.quorum import is_up_to_date, quorum_size, reached_by_quorum, tally


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_more_than_half_is_a_quorum(count: int, size: int) -> None:
    assert quorum_size(count) == size


@pytest.mark.parametrize(
    ("drawing", "reached"),
    [
        ("xxxxx", 5),
        ("xxx xxxxx", 3),
        ("xxxxx xxxx x", 4),
        ("xxxxx - -", 0),
        ("xxxxx xxx xx x", 2),
        ("xxxxx xxxxx xxxxx x x", 5),
        ("xx xx xx xxxxxx xxxxxx", 2),
    ],
)
def test_a_quorum_has_reached_what_more_than_half_have(drawing: str, reached: int) -> None:
    assert reached_by_quorum([bar.count("x") for bar in drawing.split()]) == reached


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [
        ("yes", True),
        ("no", False),
        ("?", None),
        ("yes yes ?", True),
        ("yes no ?", None),
        ("yes no no", False),
        ("yes yes ? ?", None),
        ("yes yes no no", False),
        ("yes yes yes no no", True),
        ("yes no ? ? ?", None),
        ("? no no no ?", False),
    ],
)
def test_an_election_is_won_lost_or_open(votes: str, verdict: bool | None) -> None:
    words = dict(enumerate(votes.split()))
    given = {f"n{number}": word == "yes" for number, word in words.items() if word != "?"}
    assert tally(given, [f"n{number}" for number in words]) is verdict


def test_who_does_not_vote_does_not_count() -> None:
    assert tally({"n1": True, "stranger": True, "other": True}, ["n1", "n2", "n3"]) is None


def test_a_log_is_up_to_date_by_its_last_term_then_by_its_length() -> None:
    assert is_up_to_date(3, 1, 2, 9)
    assert not is_up_to_date(2, 9, 3, 1)
    assert is_up_to_date(3, 5, 3, 5)
    assert is_up_to_date(3, 6, 3, 5)
    assert not is_up_to_date(3, 4, 3, 5)
