"""A journal under any crash and any damage: what is read back is a beginning of what was written, or is refused."""

from itertools import accumulate
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gimmal.cluster.raft import (
    COMMAND,
    CONFIGURATION,
    NOOP,
    Configuration,
    Entry,
    HardState,
    Identity,
    JournalCorrupt,
    Snapshot,
    Stored,
    Unsaved,
    read_journal,
    rewritten,
    save_of,
)

ME = Identity(bytes(range(16)), "n1/00ff")
NAMES = st.sampled_from(["n1/00ff", "n2/01", "n3/02"])
CONFIGURATIONS = st.lists(NAMES, unique=True).map(lambda names: Configuration(tuple(names), ()))
SCALARS = st.none() | st.integers(-5, 2**40) | st.text(max_size=9) | st.binary(max_size=40)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
COMMANDS = st.lists(TREES, max_size=4).map(tuple)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[bytes], list[Stored]]:
    """Draw appends as a voter makes them, and what is stored after each."""
    stored = Stored(1, None, Snapshot(draw(st.integers(0, 9)), 1, draw(CONFIGURATIONS), draw(COMMANDS)))
    parts, states = [rewritten(ME, stored).data], [stored]
    for _ in range(draw(st.integers(1, 6))):
        term = stored.term + draw(st.integers(0, 2))
        has_voted = term > stored.term or draw(st.booleans())
        hard_state = HardState(term, draw(st.none() | NAMES)) if has_voted else None
        if hard_state is not None:
            stored = stored._replace(term=term, vote=hard_state.vote)
        kept = draw(st.integers(0, len(stored.entries)))
        entries = draw(st.lists(st.builds(entry_of, st.just(term), COMMANDS, st.none() | CONFIGURATIONS), max_size=3))
        if entries:
            stored = stored._replace(entries=(*stored.entries[:kept], *entries))
        first_index = stored.snapshot.index + kept + 1
        parts.append(save_of(ME, Unsaved(hard_state, None, first_index, tuple(entries))).data)
        states.append(stored)
    return parts, states


def entry_of(term: int, command: tuple[Any, ...], configuration: Configuration | None) -> Entry:
    if configuration is not None:
        return Entry(term, CONFIGURATION, configuration)
    return Entry(term, COMMAND, command) if command else Entry(term, NOOP, ())


@given(histories(), st.data())
def test_a_crash_leaves_what_was_saved_before_it(
    history: tuple[list[bytes], list[Stored]], data: st.DataObject
) -> None:
    parts, states = history
    whole = b"".join(parts)
    ends = list(accumulate(map(len, parts)))
    length = data.draw(st.integers(ends[0], len(whole)))
    journal = read_journal(whole[:length])
    saved = max(number for number, end in enumerate(ends) if end <= length)
    assert ends[saved] <= journal.length <= length
    assert read_journal(whole[: journal.length]) == journal, "what is cut is not missed"
    if journal.length == ends[saved]:
        assert journal.stored == states[saved]
    assert journal.identity == ME


@given(histories(), st.data())
def test_no_changed_byte_goes_unseen(history: tuple[list[bytes], list[Stored]], data: st.DataObject) -> None:
    parts, _ = history
    whole = b"".join(parts)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        journal = read_journal(bytes(changed))
    except JournalCorrupt:
        return
    assert journal.length <= place, "only the last record can be taken for what a crash left"
    assert read_journal(whole[: journal.length]) == journal
    assert is_one_record(whole[journal.length :])


def is_one_record(data: bytes) -> bool:
    return int.from_bytes(data[:4], "big") == len(data) - 8


@given(st.binary(max_size=200))
def test_garbage_is_no_journal(data: bytes) -> None:
    assert read_journal(data).length == 0
