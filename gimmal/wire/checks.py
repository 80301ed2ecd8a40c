"""The checks of fields that came over the wire: each says whether a value is what its field may hold.

They may raise ValueError or TypeError for values that are not even of the right shape; the codec takes that as a no.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from gimmal.wire import limits
from gimmal.wire.commands import IS_WELL_FORMED, MAY_BE_LOGGED

Check: TypeAlias = Callable[[Any], bool]


def is_natural(value: object) -> bool:
    """Check an integer from 0 up."""
    return type(value) is int and 0 <= value <= limits.INTEGER_MAX


def is_term(value: object) -> bool:
    """Check a term of the meta group, or 0."""
    return type(value) is int and 0 <= value <= limits.TERM_MAX


def is_index(value: object) -> bool:
    """Check an index of the meta group's log, or 0."""
    return type(value) is int and 0 <= value <= limits.INDEX_MAX


def is_flag(value: object) -> bool:
    """Check True or False."""
    return type(value) is bool


def is_cluster(value: object) -> bool:
    """Check the id of a cluster, or none."""
    return type(value) is bytes and len(value) in (0, 16)


def is_uuid(value: object) -> bool:
    """Check 16 bytes."""
    return type(value) is bytes and len(value) == 16


def is_digest(value: object) -> bool:
    """Check 8 bytes."""
    return type(value) is bytes and len(value) == 8


def is_text(value: object) -> bool:
    """Check a text for people, or an address."""
    return type(value) is str and len(value) <= limits.TEXT_BYTES_MAX


def is_name(value: object) -> bool:
    """Check the name of a node, or of a voter, or none."""
    return type(value) is str and len(value) <= limits.NAME_BYTES_MAX


def is_tuple(value: object) -> bool:
    """Check a list whose reader looks into it."""
    return type(value) is tuple


def is_tuple_or_none(value: object) -> bool:
    """Check a tree for clients that may be absent."""
    return value is None or type(value) is tuple


def is_tree(value: object) -> bool:
    """Check a tree between nodes, which its reader looks into: it is not too deep to be written down again."""
    level: list[Any] = [value]
    for _ in range(limits.TREE_DEPTH_MAX):
        level = [item for branch in level for item in branch if type(item) is tuple]
        if not level:
            return type(value) is tuple
    return False


def is_tree_or_none(value: object) -> bool:
    """Check a tree between nodes that may be absent."""
    return value is None or is_tree(value)


def are_operations(operations: Any) -> bool:
    """Check the operations of a request: the hottest check of all."""
    if type(operations) is not tuple or len(operations) > limits.OPERATIONS_MAX:
        return False
    highest = limits.INTEGER_MAX
    for number, partition, epoch, session, floor, command in operations:
        if not (
            type(number) is type(partition) is type(epoch) is type(session) is type(floor) is type(command[0]) is int
            and 0 < number <= highest
            and 0 <= partition < highest
            and 0 <= epoch <= highest
            and 0 <= session <= highest
            and 0 <= floor <= highest
            and IS_WELL_FORMED[command[0]](command)
        ):
            return False
    return True


_INTEGERS: Final = {int}


def are_numbers(numbers: Any) -> bool:
    """Check a long list of natural numbers at the speed of C."""
    return (
        type(numbers) is tuple
        and {*map(type, numbers)} <= _INTEGERS
        and min(numbers, default=0) >= 0
        and max(numbers, default=0) <= limits.INTEGER_MAX
    )


def are_sections(sections: Any) -> bool:
    """Check what an Append brings: the hottest check between nodes."""
    if type(sections) is not tuple or len(sections) > limits.SECTIONS_MAX:
        return False
    highest = limits.INTEGER_MAX
    for partition, epoch, prev, prev_epoch, commit, entries in sections:
        if not (
            type(partition) is type(epoch) is type(prev) is type(prev_epoch) is type(commit) is int
            and type(entries) is tuple
            and 0 <= partition <= highest
            and 0 <= prev_epoch <= epoch <= highest
            and 0 <= prev < highest
            and 0 <= commit <= highest
        ):
            return False
        lowest = prev_epoch
        for entry_epoch, now_ms, session, number, floor, command in entries:
            if not (
                type(entry_epoch) is type(now_ms) is type(session) is type(number) is type(floor) is int
                and lowest <= entry_epoch <= epoch
                and 0 <= now_ms <= highest
                and 0 <= session <= highest
                and 0 <= number <= highest
                and 0 <= floor <= highest
                and type(command[0]) is int
                and MAY_BE_LOGGED[command[0]](command)
            ):
                return False
            lowest = entry_epoch
    return True


def are_alignments(alignments: Any) -> bool:
    """Check (partition, epoch, sequence number, its epoch)."""
    return _are_rows_of_numbers(alignments, 4)


def are_epochs(epochs: Any) -> bool:
    """Check (partition, epoch)."""
    return _are_rows_of_numbers(epochs, 2)


def are_histories(histories: Any) -> bool:
    """Check (partition, epoch, history)."""
    return (
        type(histories) is tuple
        and len(histories) <= limits.SECTIONS_MAX
        and all(
            is_natural(partition) and is_natural(epoch) and _are_rows_of_numbers(history, 2)
            for partition, epoch, history in histories
        )
    )


def _are_rows_of_numbers(rows: Any, width: int) -> bool:
    return (
        type(rows) is tuple
        and len(rows) <= limits.SECTIONS_MAX
        and all(type(row) is tuple and len(row) == width and are_numbers(row) for row in rows)
    )


def are_refusals(refusals: Any) -> bool:
    """Check (number, code, text) triples."""
    return type(refusals) is tuple and all(
        is_natural(number) and is_natural(code) and is_text(text) for number, code, text in refusals
    )


def is_position(value: object) -> bool:
    """Check an integer from 0 up, or -1 for the end."""
    return type(value) is int and -1 <= value <= limits.INTEGER_MAX


def are_digests(digests: Any) -> bool:
    """Check (partition, epoch, sequence number, digest)."""
    return type(digests) is tuple and all(
        are_numbers((partition, epoch, commit)) and is_digest(digest) for partition, epoch, commit, digest in digests
    )


def are_facts(facts: Any) -> bool:
    """Check (name, text or integer) pairs."""
    return type(facts) is tuple and all(
        is_text(name) and (is_text(value) or type(value) is int) for name, value in facts
    )


def are_rumors(rumors: Any) -> bool:
    """Check what nodes tell of each other; a profile is looked into by its reader."""
    return (
        type(rumors) is tuple
        and len(rumors) <= limits.NODES_MAX + limits.HEARSAY_MAX
        and all(
            is_name(name)
            and is_natural(incarnation)
            and is_natural(refutation)
            and is_natural(state)
            and is_name(accuser)
            and is_natural(health)
            and is_tree_or_none(profile)
            for name, incarnation, refutation, state, accuser, health, profile in rumors
        )
    )


def are_entries(entries: Any) -> bool:
    """Check (term, kind, payload) entries of the meta group's log; a payload is looked into by its reader."""
    return (
        type(entries) is tuple
        and len(entries) <= limits.OPERATIONS_MAX
        and all(is_term(term) and is_natural(kind) and is_tree(payload) for term, kind, payload in entries)
    )


def are_handovers(changes: Any) -> bool:
    """Check (partition, epoch, version, name of a node) of leaderships that change hands."""
    return (
        type(changes) is tuple
        and len(changes) <= limits.PARTITIONS_MAX
        and all(
            are_numbers((partition, epoch, version))
            and is_name(target)
            and len(target.encode()) <= limits.NAME_BYTES_MAX
            for partition, epoch, version, target in changes
        )
    )


def is_configuration(configuration: Any) -> bool:
    """Check (voters, learners)."""
    voters, learners = configuration
    return (
        type(configuration) is type(voters) is type(learners) is tuple
        and len(voters) + len(learners) <= limits.VOTERS_MAX
        and all(map(is_name, voters))
        and all(map(is_name, learners))
    )


def are_addresses(addresses: Any) -> bool:
    """Check a list of addresses."""
    return type(addresses) is tuple and len(addresses) <= limits.NODES_MAX and all(map(is_text, addresses))
