"""A partition that starts again with a copy that lacks something: no number of it is used a second time."""

from gimmal.cluster.meta import rows
from gimmal.store.kv import version_of
from gimmal.types import Incarnation
from gimmal.wire import commands
from gimmal.wire.codec import pack_value
from gimmal.wire.messages import Refusal
from gimmal.wire.peer_messages import SnapshotAck
from tests.unit.holdings_group import Copies

OPEN = (commands.OPEN_SESSION,)
INCR = (commands.INCR, b"hits", 1)


def in_session(copies: Copies, name: str, ticket: str, session: int, number: int = 1) -> None:
    replica = copies.replica(name)
    copies._note(list(copies[name].propose(replica, ticket, (session, number, number), INCR, 1)))


def with_n3_behind() -> Copies:
    """n1 and n2 have written what n3 does not have, and are gone."""
    copies = Copies("n1", "n2", "n3")
    copies.write("n1", "old")
    copies.settle()
    copies.cuts.add("n3")
    copies.write("n1", "gone", "lost")
    copies.settle()
    copies.alter("n1", "n2")
    copies.tell()
    return copies


def elect_by_force(copies: Copies) -> None:
    """n3 is told to lead with what it has, and n2 comes back."""
    for name in ("n1", "n2"):
        copies.fence(name, is_restarted=False)
    copies.version += 1
    copies.change(0, rows.led_by_force(copies.rows[0], copies.lives["n3"]))
    copies.cuts.clear()
    copies.unfence("n2")
    copies.tell("n2", "n3")


def lead_by_force(copies: Copies) -> None:
    """The same, and n2 is in sync with it."""
    elect_by_force(copies)
    copies.settle()
    copies.alter("n2", "n3")
    copies.tell("n2", "n3")
    copies.settle()


def test_a_session_that_was_lost_is_nobody_elses() -> None:
    """A's increment would be taken for B's, and be answered without having been carried out."""
    copies = with_n3_behind()
    copies.propose("n1", "session of A", OPEN)
    copies.settle()
    lead_by_force(copies)
    copies.write("n3", "new")
    copies.propose("n3", "session of B", OPEN)
    copies.settle()
    in_session(copies, "n3", "B", copies.answers["session of B"])
    in_session(copies, "n3", "A", copies.answers["session of A"])
    copies.settle()
    assert copies.answers["B"] == 1
    assert copies.answers["A"].refusal == Refusal.SESSION_EXPIRED


def test_a_version_that_was_lost_is_not_given_again() -> None:
    copies = with_n3_behind()
    lost = version_of(copies.replica("n1").engine.keys.records[b"lost"])
    lead_by_force(copies)
    copies.write("n3", "lost")
    copies.propose("n3", "by version", (commands.SET, b"lost", pack_value(2), 0, 0, lost))
    copies.settle()
    assert copies.answers["by version"] is False


def test_the_survivor_keeps_all_it_has_and_the_others_take_it() -> None:
    copies = with_n3_behind()
    assert copies.log("n3") == "|11", "it has more than it knows to be committed"
    lead_by_force(copies)
    assert copies.keys("n3") == copies.keys("n2") == ["old"]
    assert copies.replica("n3").log.base == copies.replica("n2").log.base == copies.rows[0].epoch * 2**40
    assert copies.replica("n3").engine.digest() == copies.replica("n2").engine.digest()
    copies.write("n3", "new")
    copies.settle()
    copies.elect("n2")
    copies.tell("n2", "n3")
    copies.write("n2", "newer")
    copies.run(0.2)
    assert copies.keys("n3") == copies.keys("n2") == ["old", "new", "newer"]


def test_what_a_copy_took_from_the_survivor_counts_before_anything_is_written() -> None:
    """It would drop that again when it hears of the next row, and its leader would never know."""
    copies = with_n3_behind()
    elect_by_force(copies)
    copies.deliver_until(SnapshotAck)
    copies.drop()
    copies.tell("n2")
    assert copies.keys("n2") == ["old"]
    copies.run(2.0)
    assert copies.replica("n2").log.last == copies.replica("n3").log.last


def test_a_lost_partition_that_is_led_by_force_does_not_count_from_the_beginning() -> None:
    copies = Copies("n1", partitions=1)
    copies.propose("n1", "before", OPEN)
    copies.fence("n1", is_restarted=True)
    copies.lives["n1"] = Incarnation("n1", 2)
    copies.holdings["n1"] = copies._new("n1")
    copies.fenced.clear()
    copies.version += 1
    copies.change(0, rows.led_by_force(copies.rows[0], copies.lives["n1"]))
    copies.tell()
    copies.propose("n1", "after", OPEN)
    assert copies.answers["after"] > copies.answers["before"]
