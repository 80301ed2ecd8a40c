"""What the checkers of this package raise. Both are `AssertionError`: in a test they mean that it failed."""


class ConsistencyViolation(AssertionError):
    """What was seen cannot come from a store that keeps its promises; the message shows the evidence."""


class Undecided(AssertionError):
    """The budget of a check was used up before there was an answer. That is neither right nor wrong, and no pass."""
