"""Slots: the vectors of Redis Cluster, agreement with redis-py, and partitions as equal runs of slots."""

import random
from binascii import crc_hqx
from collections import Counter

import pytest
from redis.crc import key_slot as redis_key_slot

from gimmal.hashing import SLOTS, check_partitions, key_slot, partition_of

POWERS_OF_TWO = [1 << exponent for exponent in range(15)]


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"", 0),
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"somekey", 11058),
        (b"foo{hash_tag}", 2515),
        (b"bar{hash_tag}", 2515),
        (b"hash_tag", 2515),
    ],
)
def test_known_slots(key: bytes, slot: int) -> None:
    assert key_slot(key) == slot


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"tail{user1000}", b"user1000"),
        (b"{user1000}", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),  # nothing in the first pair: the whole key
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"}{", b"}{"),
        (b"}{a}", b"a"),
        (b"{a", b"{a"),
        (b"a}", b"a}"),
        (b"{}", b"{}"),
        (b"{ }", b" "),
    ],
)
def test_hash_tag(key: bytes, hashed: bytes) -> None:
    assert key_slot(key) == crc_hqx(hashed, 0) % SLOTS == redis_key_slot(key)


def test_agrees_with_redis_py_on_random_keys() -> None:
    seed = random.SystemRandom().getrandbits(32)
    dice = random.Random(seed)
    pieces = [b"{", b"}", b"{}", b"}{", b"{{x}}", b"{tag}", b"{a{b}c}", b"\x00", b"\xff", "é".encode()]
    for number in range(20_000):
        body = [dice.randbytes(dice.randrange(12)) for _ in range(dice.randrange(1, 4))]
        if number % 2:
            for _ in range(dice.randrange(1, 5)):
                body.insert(dice.randrange(len(body) + 1), dice.choice(pieces))
        key = b"".join(body)
        assert key_slot(key) == redis_key_slot(key), f"seed {seed}, key number {number}: {key!r}"


@pytest.mark.parametrize("partitions", POWERS_OF_TWO)
def test_partitions_are_equal_runs_of_slots(partitions: int) -> None:
    found = [partition_of(slot, partitions) for slot in range(SLOTS)]
    assert found == sorted(found)
    assert Counter(found) == dict.fromkeys(range(partitions), SLOTS // partitions)


@pytest.mark.parametrize("partitions", POWERS_OF_TWO)
def test_powers_of_two_are_accepted(partitions: int) -> None:
    assert check_partitions(partitions) == partitions


@pytest.mark.parametrize("partitions", [-1024, -1, 0, 3, 1000, 1023, 1025, 16383, 32768])
def test_other_numbers_of_partitions_are_refused(partitions: int) -> None:
    with pytest.raises(ValueError, match=f"power of two from 1 to 16384, not {partitions}"):
        check_partitions(partitions)
