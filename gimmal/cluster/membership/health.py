"""Local health: how much a node should doubt itself before it doubts others.

A score from 0 (well) up to a highest one, after Lifeguard (Dadgar, Phillips and Currey 2017, "LHA-Probe"). It rises
when our probe fails without our helpers telling us that they are no better off (we may be the one who is cut off), when
we have to refute a suspicion (others hear us too late) and when our own loop was late. It falls with each probe that
succeeds. At score s, our probes are s + 1 times as slow and as patient.
"""


class LocalHealth:
    """The score of one node."""

    __slots__ = ("_highest", "score")

    def __init__(self, highest: int) -> None:
        self.score = 0
        self._highest = highest

    def worsen(self, by: int = 1) -> None:
        """Count signs that we are slow or cut off."""
        self.score = min(self._highest, self.score + by)

    def improve(self) -> None:
        """Count a sign that all is well."""
        if self.score:
            self.score -= 1

    def stretch(self, seconds: float) -> float:
        """Return how long to wait for what a healthy node awaits for `seconds`."""
        return seconds * (self.score + 1)
