"""Keys and values of the benchmark, and the book of what each system must answer.

Keys have 16 bytes, values 100. A value names its key and the generation that wrote it, so an answer that
belongs to another key or to an older write is noticed: a benchmark that reads wrong values fails.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

KEYS = 12_000
VALUE_BYTES = 100
BATCH = 100
SEED = 20260


class WrongAnswerError(AssertionError):
    """A system under test answered something else than what was written."""

    def __init__(self, system: str, key: str, got: object, expected: object) -> None:
        super().__init__(f"{system} answered {got!r} for {key!r}; expected {expected!r}")


def key_name(number: int, *, is_tagged: bool = False) -> str:
    """Return the key with this number, 16 bytes long; all that are tagged belong to one slot."""
    return f"{{key}}{number:011d}" if is_tagged else f"key:{number:012d}"


def value_of(key: str, generation: int) -> bytes:
    """Return the 100-byte value that generation `generation` writes to the key."""
    return f"{key}:{generation:010d}:".encode().ljust(VALUE_BYTES, b".")


class Ledger:
    """What one system must hold: `expected[i]` is the last value written to `keys[i]`.

    The keys come in one shuffled order, the same for all systems.
    """

    def __init__(self, system: str, count: int = KEYS, *, is_tagged: bool = False) -> None:
        self.system = system
        self.keys = [key_name(number, is_tagged=is_tagged) for number in range(count)]
        random.Random(SEED).shuffle(self.keys)
        self.generation = 0
        self.expected = self.next_values()

    def next_values(self) -> list[bytes]:
        """Return a new generation of values, in the order of the keys; whoever writes one books it."""
        self.generation += 1
        return [value_of(key, self.generation) for key in self.keys]

    def batches(self) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield all keys in batches, each with the index of its first key."""
        for start in range(0, len(self.keys), BATCH):
            yield start, self.keys[start : start + BATCH]

    def check(self, index: int, got: object) -> None:
        """Compare an answer to the book.

        Raises:
            WrongAnswerError: they differ.
        """
        if got != self.expected[index]:
            raise WrongAnswerError(self.system, self.keys[index], got, self.expected[index])

    def check_batch(self, start: int, got: Sequence[bytes | None]) -> None:
        """Compare the answers for one batch to the book.

        Raises:
            WrongAnswerError: one of them differs, or they are not as many as were asked for.
        """
        if list(got) == self.expected[start : start + BATCH]:
            return
        for offset, value in enumerate(got):
            self.check(start + offset, value)
        raise WrongAnswerError(self.system, self.keys[start], f"{len(got)} values", f"{BATCH} values")

    def book_batch(self, start: int, items: Mapping[str, bytes], stored: object) -> None:
        """Book a batch that was written.

        Raises:
            WrongAnswerError: the system did not say that it stored all of it.
        """
        if stored != len(items):
            raise WrongAnswerError(self.system, self.keys[start], f"{stored} stored", f"{len(items)} stored")
        self.expected[start : start + BATCH] = items.values()
