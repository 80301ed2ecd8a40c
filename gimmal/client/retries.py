"""What a client knows of operations that did not simply succeed: how often they were sent, and what is known of that.

Most operations are sent once and answered, and leave no trace here. A `Record` begins when one is refused or resent.

- **At most ten attempts**, whatever the reason of each.
- A refusal says that an attempt was not carried out. It is *uncertain* whether an operation was carried out as soon as
  it is sent again without such a word, or its leader was replaced before it was decided; that remains so whatever is
  said later, because nobody can tell which of its attempts a refusal is about.
- **Pauses** after refusals are random, up to 10 ms at first and up to 1 s in the end, so that many clients do not come
  back at once. Half of the attempts are made in that way. If what refuses may take longer to change (nobody leads
  a partition, or too few copies are in sync), the other half is spread over the time that is left.
"""

from collections.abc import Container
from typing import TYPE_CHECKING, Final

from gimmal.errors import GimmalError

if TYPE_CHECKING:
    from random import Random

ATTEMPTS_MAX: Final = 10
_QUICK_ATTEMPTS: Final = 5
_PAUSE_FIRST_S: Final = 0.01
_PAUSE_MAX_S: Final = 1.0


class Record:
    """One operation: how often it was sent, why it was refused the last time, and whether more is known than that."""

    __slots__ = ("attempts", "is_uncertain", "why")

    def __init__(self) -> None:
        self.attempts = 1
        self.is_uncertain = False
        self.why: GimmalError | None = None


class Retries:
    """The records of one client, by number."""

    def __init__(self, dice: "Random") -> None:
        self.record_by_number: dict[int, Record] = {}
        self._dice = dice

    def record(self, number: int) -> Record:
        """Return the record of an operation, a new one if it had none."""
        record = self.record_by_number.get(number)
        if record is None:
            record = self.record_by_number[number] = Record()
        return record

    def is_uncertain(self, number: int) -> bool:
        """Say whether an operation, if it is not in flight, may have been carried out."""
        record = self.record_by_number.get(number)
        return record is not None and record.is_uncertain

    def attempts(self, number: int) -> int:
        """Return how often an operation was sent, or is about to have been."""
        record = self.record_by_number.get(number)
        return record.attempts if record is not None else 1

    def pause_s(self, record: Record, seconds_left: float | None) -> float:
        """Return how long to wait before the next attempt; `seconds_left`, if given, are to be made use of."""
        attempts = record.attempts
        pause_s = self._dice.uniform(0, min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0**attempts))
        if seconds_left is None or not _QUICK_ATTEMPTS <= attempts < ATTEMPTS_MAX:
            return pause_s
        return max(pause_s, self._dice.uniform(0.5, 1.0) * seconds_left / (ATTEMPTS_MAX - attempts))

    def forget_finished(self, under_way: Container[int]) -> None:
        """Drop the records of what is not under way any more."""
        records = self.record_by_number.items()
        self.record_by_number = {number: record for number, record in records if number in under_way}
