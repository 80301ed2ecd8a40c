"""Operations wait in their order, for as long as their clients do, and not too many of them."""

from gimmal.node import parked as room
from gimmal.node.parked import PARKED_MAX, Parked
from gimmal.types import Operation
from gimmal.wire import commands, limits


def operation(number: int) -> Operation:
    return (number, 0, 0, 0, 0, (commands.GET, b"k"))


def numbers(parked: Parked, partition: int) -> list[tuple[bytes, int]]:
    return [(peer, waiting[0]) for peer, waiting in parked.take(partition)]


def test_what_waits_for_a_partition_is_given_once_in_its_order() -> None:
    parked = Parked()
    for number, (partition, peer) in enumerate([(3, b"a"), (4, b"a"), (3, b"b"), (3, b"a")]):
        assert parked.add(partition, peer, operation(number))
    assert numbers(parked, 3) == [(b"a", 0), (b"b", 2), (b"a", 3)]
    assert numbers(parked, 3) == []
    assert numbers(parked, 4) == [(b"a", 1)]


def test_there_is_room_for_so_many_and_again_when_they_have_left() -> None:
    parked = Parked()
    assert all(parked.add(number % 2, b"a", operation(number)) for number in range(PARKED_MAX))
    assert not parked.add(7, b"a", operation(0))
    assert len(parked.take(0)) == PARKED_MAX // 2
    assert parked.add(7, b"a", operation(0))


def test_there_is_room_for_so_many_bytes() -> None:
    """Values are as long as their clients like."""
    parked = Parked()
    value = bytes(limits.VALUE_BYTES_MAX)
    commands_ = [(commands.SET, b"k", value, 0, 0, None), (commands.SET_MANY, (b"k", value), 0)]
    parked.expires_at_s = 5.0
    count = 0
    while parked.add(count % 2, b"a", (1, 0, 0, 0, 0, commands_[count % 2])):
        count += 1
        assert count <= limits.UNCOMMITTED_BYTES_MAX // limits.VALUE_BYTES_MAX
    assert not parked.add(7, b"a", operation(0))
    parked.take(0)
    assert parked.add(7, b"a", operation(0))
    parked.tick(6.0)
    assert all(parked.add(0, b"a", operation(number)) for number in range(PARKED_MAX)), "nothing else is left"


def test_what_nobody_waits_for_any_more_is_forgotten() -> None:
    parked = Parked()
    for expires_at_s in (5.0, 9.0):
        parked.expires_at_s = expires_at_s
        parked.add(3, b"a", operation(int(expires_at_s)))
        parked.add(4, b"a", operation(int(expires_at_s)))
    parked.tick(4.9)
    parked.tick(4.9 + room._LOOK_EVERY_S)
    assert numbers(parked, 3) == [(b"a", 9)]
    parked.tick(10.0)
    assert numbers(parked, 4) == []
    assert all(parked.add(0, b"a", operation(number)) for number in range(PARKED_MAX))
