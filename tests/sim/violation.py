"""What a checker raises."""


class Violation(Exception):
    """A property of the cluster does not hold. `check` names it; the text says what was seen."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(f"{check}: {text}")
        self.check = check
        self.text = text


def require(holds: bool, check: str, text: str) -> None:
    """Raise unless a property holds. Not for hot paths: `text` is built in any case."""
    if not holds:
        raise Violation(check, text)
