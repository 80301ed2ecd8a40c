"""What a node tells of itself: never so much that its log is flooded, whatever others bring about."""

from gimmal.node.chronicle import Chronicle


def test_a_turn_tells_a_bounded_number_of_lines_and_how_many_more_there_were() -> None:
    chronicle = Chronicle()
    for number in range(1_000):
        chronicle.tell("info", f"line {number}")
    lines = chronicle.take()
    assert lines[:100] == [("info", f"line {number}") for number in range(100)]
    assert lines[100:] == [("warning", "and 900 more lines, which are left out")]
    assert chronicle.take() == []
    chronicle.tell("info", "later")
    assert chronicle.take() == [("info", "later")]


def test_a_subject_is_told_of_once_a_minute() -> None:
    chronicle = Chronicle()
    for second in range(121):
        chronicle.tell_rarely("info", "subject", f"{second}", float(second))
    assert [text for _, text in chronicle.take()] == ["0", "60", "120"]


def test_subjects_that_others_invent_are_bounded_too() -> None:
    chronicle = Chronicle()
    told = 0
    for number in range(2_000):
        chronicle.tell_rarely("info", f"subject {number}", "text", number / 1_000)
        told += len(chronicle.take())
    assert told == 256
    assert chronicle.counters["untold"] == 2_000 - 256
    chronicle.tell_rarely("info", "another", "text", 70.0)
    assert chronicle.take() == [("info", "text")]
