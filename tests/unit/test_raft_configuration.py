"""Who votes, and by which steps that may change."""

import pytest

from gimmal.cluster.raft import Configuration, is_single_change, read_configuration
from gimmal.wire import limits


def configuration(voters: str, learners: str = "") -> Configuration:
    return Configuration(tuple(voters), tuple(learners))


@pytest.mark.parametrize(
    ("before", "after", "is_safe"),
    [
        (configuration("abc"), configuration("abcd"), True),
        (configuration("abc"), configuration("ab"), True),
        (configuration("abc"), configuration("abd"), False),
        (configuration("abc"), configuration("abcde"), False),
        (configuration("abc"), configuration("a"), False),
        (configuration("abc"), configuration("abc"), False),
        (configuration("abc"), configuration("abc", "def"), True),
        (configuration("abc", "def"), configuration("abc", "g"), True),
        (configuration("abc", "d"), configuration("abcd"), True),
        (configuration("abc"), configuration("ab", "c"), True),
        (configuration("a"), configuration("", "a"), False),
    ],
)
def test_one_voter_at_a_time(before: Configuration, after: Configuration, is_safe: bool) -> None:
    assert is_single_change(before, after) is is_safe


def test_a_configuration_is_read_from_a_tree() -> None:
    assert read_configuration((("a", "b"), ("c",))) == Configuration(("a", "b"), ("c",))
    assert read_configuration(((), ())).members == ()


@pytest.mark.parametrize(
    "tree",
    [
        *((), (("a",),), (("a", "a"), ()), (("a",), ("a",)), ((1,), ()), (("",), ()), 7, None),
        (("a" * (limits.NAME_BYTES_MAX + 1),), ()),
        (("a",), tuple(f"v{number}" for number in range(limits.VOTERS_MAX))),
    ],
)
def test_what_is_no_configuration_is_refused(tree: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_configuration(tree)
