"""The codes of commands: what is a read, which keys a command names, what a client may not send.

Those of queues have tests of their own (`test_queue_commands.py`).
"""

import pytest

from gimmal.types import Command
from gimmal.wire import commands, limits, queue_commands

K, L = b"k", b"l"
KEYS_OF: tuple[tuple[Command, tuple[bytes, ...]], ...] = (
    ((commands.GET, K), (K,)),
    ((commands.GET_MANY, (K, L)), (K, L)),
    ((commands.EXISTS, K), (K,)),
    ((commands.TTL, K), (K,)),
    ((commands.SCAN, b"prefix", 0, 0), ()),
    ((commands.SET, K, L, 0, 0, None), (K,)),
    ((commands.SET_MANY, (K, b"v", L, b"w"), 0), (K, L)),
    ((commands.DELETE, K), (K,)),
    ((commands.DELETE_MANY, (L, K)), (L, K)),
    ((commands.SET_TTL, K, 5), (K,)),
    ((commands.PERSIST, K), (K,)),
    ((commands.INCR, K, 5), (K,)),
    ((commands.OPEN_SESSION,), ()),
    ((commands.EXPIRE, K, 5), (K,)),
    ((commands.EVICT, K, 5), (K,)),
    ((commands.NOOP,), ()),
    ((commands.CLOSE_SESSION, 7, 5), ()),
)


def test_codes_are_part_of_the_protocol() -> None:
    """They travel and lie in logs: a new one is appended, an old one never changes."""
    assert {name: code for code, name in commands.NAMES.items() if code not in queue_commands.CODES} == {
        "get": 1,
        "get_many": 2,
        "exists": 3,
        "ttl": 4,
        "scan": 5,
        "set": 16,
        "set_many": 17,
        "delete": 18,
        "delete_many": 19,
        "expire": 20,
        "persist": 21,
        "incr": 22,
        "open session": 32,
        "expire (timer)": 64,
        "evict (timer)": 65,
        "no-op": 66,
        "close session (timer)": 67,
    }
    assert (commands.NX, commands.XX, commands.KEEP_TTL) == (1, 2, 4)


@pytest.mark.parametrize(("command", "keys"), KEYS_OF)
def test_keys_of(command: Command, keys: tuple[bytes, ...]) -> None:
    assert commands.keys_of(command) == keys


def test_every_command_is_here() -> None:
    assert [command[0] for command, _ in KEYS_OF] == [
        code for code in commands.NAMES if code not in queue_commands.CODES
    ]


def test_no_code_is_used_twice() -> None:
    assert len(set(commands.NAMES.values())) == len(commands.NAMES)
    assert commands.NAMES.keys() == (commands.IS_WELL_FORMED | commands.MAY_BE_LOGGED).keys()


def test_one_key_says_who_has_one_key() -> None:
    """A node looks only at the second element of these, and it has to be the key."""
    for command, keys in KEYS_OF:
        if command[0] in commands.ONE_KEY:
            assert (command[1],) == keys
        else:
            assert command[0] not in commands.IS_WELL_FORMED or keys == () or type(command[1]) is tuple


def test_what_is_the_leaders_own_no_client_may_send() -> None:
    own = {commands.EXPIRE, commands.EVICT, commands.NOOP, commands.CLOSE_SESSION} | queue_commands.OWN
    assert set(commands.MAY_BE_LOGGED) - set(commands.IS_WELL_FORMED) == own
    reads = {code for code in commands.IS_WELL_FORMED if code < commands.FIRST_WRITE}
    assert set(commands.IS_WELL_FORMED) - set(commands.MAY_BE_LOGGED) == reads


def test_every_example_is_well_formed_and_its_bounds_hold() -> None:
    for command, _ in KEYS_OF:
        code = command[0]
        is_well_formed = (commands.MAY_BE_LOGGED | commands.IS_WELL_FORMED)[code]
        assert is_well_formed(command)
        if code in commands.ONE_KEY:
            assert is_well_formed((code, b"k" * limits.KEY_BYTES_MAX, *command[2:]))
            for key in (b"", b"k" * (limits.KEY_BYTES_MAX + 1), "k", None, 5, (K,), bytearray(K)):
                assert not is_well_formed((code, key, *command[2:])), key
        if len(command) == 1:
            assert not is_well_formed((*command, 0))
            continue
        with pytest.raises(ValueError, match="unpack"):
            is_well_formed((*command, 0))
        with pytest.raises(ValueError, match="unpack"):
            is_well_formed(command[:-1])


@pytest.mark.parametrize("session", [0, -1, True, None, b"7", 2**63])
def test_the_close_of_no_possible_session_is_malformed(session: object) -> None:
    assert not commands.MAY_BE_LOGGED[commands.CLOSE_SESSION]((commands.CLOSE_SESSION, session, 5))
    assert commands.MAY_BE_LOGGED[commands.CLOSE_SESSION]((commands.CLOSE_SESSION, 7, 0))
