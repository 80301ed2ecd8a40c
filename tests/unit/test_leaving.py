"""A node that ends asks to be fenced."""

from tests.unit.test_control_plane import lone


def test_to_be_fenced_is_asked_for_once_until_the_table_says_so() -> None:
    """The answer comes before the table: in between, every turn would ask again."""
    node = lone()
    control = node.core.control
    contact = control.enrolment.contact
    control.ask_to_be_fenced(node.now)
    assert len(contact._request_by_number) == 1
    contact.forget_requests()  # as if it had been answered
    control.ask_to_be_fenced(node.now + 0.1)
    assert len(contact._request_by_number) == 0
    control.ask_to_be_fenced(node.now + 1.5)
    assert len(contact._request_by_number) == 1, "an answer that led to nothing is not the last word"
