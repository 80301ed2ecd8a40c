"""The ring against a walk done step by step, and the properties that make it consistent."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gimmal.hashing import VIRTUAL_NODES_PER_WEIGHT, WEIGHT_MAX, Member, Ring

examples = settings(max_examples=40, deadline=None, print_blob=True, database=None)

printable = st.characters(exclude_categories=("C", "Z"))


def lists_of_members(at_least: int) -> st.SearchStrategy[list[Member]]:
    members = st.builds(
        Member,
        name=st.text(printable, min_size=1, max_size=6),
        weight=st.integers(1, 4),
        zone=st.sampled_from(["", "a", "b", "c"]),
    )
    return st.lists(members, min_size=at_least, max_size=9, unique_by=lambda member: member.name)


members_lists = lists_of_members(1)
partition_numbers = st.integers(0, 16383)

POSITIONS_OF_A = (149205023037296810, 388223839499511331)
FIRST_PREFERENCES = [("d", "c", "b", "a"), ("a", "d", "b", "c"), ("d", "a", "b", "c"), ("d", "a", "b", "c")]


@examples
@given(members_lists, st.randoms(use_true_random=False), partition_numbers)
def test_order_of_members_does_not_matter(members: list[Member], dice: random.Random, partition: int) -> None:
    shuffled = members[:]
    dice.shuffle(shuffled)
    ring, other = Ring(members), Ring(shuffled)
    assert ring == other
    assert hash(ring) == hash(other)
    assert ring.preference(partition) == other.preference(partition)


@examples
@given(members_lists, partition_numbers)
def test_virtual_nodes_depend_on_nothing_but_the_member(members: list[Member], partition: int) -> None:
    ring = Ring(members)
    for member in members:
        positions = ring.positions(member.name)
        assert positions == Ring([member]).positions(member.name)
        assert len(positions) == VIRTUAL_NODES_PER_WEIGHT * member.weight
        assert list(positions) == sorted(positions)
        lighter = Ring([Member(member.name, 1, "elsewhere")]).positions(member.name)
        assert set(lighter) <= set(positions)


@examples
@given(members_lists, partition_numbers)
def test_walk_meets_members_clockwise(members: list[Member], partition: int) -> None:
    ring = Ring(members)
    circle = sorted((position, member.name) for member in members for position in ring.positions(member.name))
    # The partition's point is not public: the walk must be the one from some gap between nodes.
    names = [name for _, name in circle]
    walks = []
    for start in range(len(names)):
        met = dict.fromkeys(names[start:] + names[:start])
        walks.append(tuple(met))
    assert tuple(member.name for member in ring.walk(partition)) in walks


@examples
@given(members_lists, partition_numbers)
def test_preference_takes_one_of_each_zone_in_turn(members: list[Member], partition: int) -> None:
    ring = Ring(members)
    zone_of = {member.name: member.zone for member in members}
    preference = ring.preference(partition)
    assert sorted(preference) == sorted(zone_of)

    zones = len(set(zone_of.values()))
    assert len({zone_of[name] for name in preference[:zones]}) == zones
    for count in range(1, len(preference) + 1):
        assert spread_is_even([zone_of[name] for name in preference[:count]], list(zone_of.values()))
    walk = [member.name for member in ring.walk(partition)]
    for zone in zone_of.values():
        in_preference = [name for name in preference if zone_of[name] == zone]
        assert in_preference == [name for name in walk if zone_of[name] == zone]


def spread_is_even(taken: Sequence[str], available: Sequence[str]) -> bool:
    """Whether no zone has two more than a zone that still has some left."""
    most = max(taken.count(zone) for zone in available)
    return all(taken.count(zone) >= min(most - 1, available.count(zone)) for zone in available)


@examples
@given(lists_of_members(2))
def test_a_new_member_changes_preferences_only_from_its_place_on(members: list[Member]) -> None:
    *old, new = members
    before, after = Ring(old), Ring(members)
    for partition in range(64):
        was, now = before.preference(partition), after.preference(partition)
        place = now.index(new.name)
        assert was[:place] == now[:place]
        walk = [member.name for member in after.walk(partition) if member != new]
        assert walk == [member.name for member in before.walk(partition)]


def test_first_places_are_in_proportion_to_weight() -> None:
    members = [Member(f"node-{number}", weight=1 + 2 * (number % 2)) for number in range(20)]
    ring = Ring(members)
    first = [ring.preference(partition)[0] for partition in range(8192)]
    heavy = sum(first.count(member.name) for member in members if member.weight == 3)
    assert heavy / len(first) == pytest.approx(0.75, rel=0.03)
    for member in members:
        assert first.count(member.name) / len(first) == pytest.approx(member.weight / 40, rel=0.35)


def test_positions_stay_what_they_were() -> None:
    ring = Ring([Member("a", zone="x"), Member("b", zone="y"), Member("c", zone="x"), Member("d", 2)])
    assert ring.positions("a")[:2] == POSITIONS_OF_A
    assert [ring.preference(partition) for partition in range(4)] == FIRST_PREFERENCES


def test_bad_members_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Ring([])
    with pytest.raises(ValueError, match="share the name 'a'"):
        Ring([Member("a", zone="x"), Member("a", zone="y")])
    with pytest.raises(ValueError, match="needs a name"):
        Member("")
    for weight in (-1, 0, WEIGHT_MAX + 1):
        with pytest.raises(ValueError, match=f"1 to {WEIGHT_MAX}, not {weight}"):
            Member("a", weight)
    with pytest.raises(KeyError, match="b"):
        Ring([Member("a")]).positions("b")
